//! Scripted faults over any driver: calls that fail, a device that shrinks, bytes that another
//! process takes meanwhile. Every call is counted.

use super::{Call, DeviceMemory, Driver, DriverError, Layer, Layered};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A driver that follows a [`Script`].
pub type Scripted<D> = Layered<Script, D>;

/// The control of a [`Scripted`] or simulated driver: what a test does to the device while a pool
/// uses it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Script(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    calls: BTreeMap<Call, u64>,
    /// Numbers of the calls, counted from the first, that fail.
    failing: BTreeSet<u64>,
    /// Numbers among the calls that ask for memory, likewise.
    failing_acquiring: BTreeSet<u64>,
    /// From this number on every call that asks for memory fails.
    failing_from: Option<u64>,
    capacity: Option<u64>,
    taken: u64,
}

impl Script {
    /// Lets a coming call of any kind fail: 0 is the next one.
    pub fn fail_call(&self, calls_ahead: u64) {
        let mut state = self.state();
        let number = state.call_count() + calls_ahead;
        state.failing.insert(number);
    }

    /// Lets the `number`-th call that asks for memory fail, counted from 0 at the start.
    pub fn fail_acquiring_call(&self, number: u64) {
        self.state().failing_acquiring.insert(number);
    }

    /// Fails every call that asks for memory from the `number`-th on, counted from 0 at the start;
    /// `None` ends that.
    pub fn fail_acquiring_calls_from(&self, number: Option<u64>) {
        self.state().failing_from = number;
    }

    /// Limits the device's total bytes, below what it has; what is used stays used.
    pub fn set_capacity(&self, capacity: u64) {
        self.state().capacity = Some(capacity);
    }

    /// Takes `bytes` for another process, in place of what it had taken before.
    pub fn take(&self, bytes: u64) {
        self.state().taken = bytes;
    }

    /// Calls so far, of one kind.
    pub fn calls(&self, call: Call) -> u64 {
        self.state().calls.get(&call).copied().unwrap_or_default()
    }

    /// Calls so far, of all kinds.
    pub fn call_count(&self) -> u64 {
        self.state().call_count()
    }

    /// Calls so far that ask for memory.
    pub fn acquiring_calls(&self) -> u64 {
        self.state().acquiring_calls()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn call_count(&self) -> u64 {
        self.calls.values().sum()
    }

    fn acquiring_calls(&self) -> u64 {
        let acquiring = self.calls.iter().filter(|(call, _)| call.acquires());
        acquiring.map(|(_, count)| count).sum()
    }

    fn memory(&self, DeviceMemory { free, total }: DeviceMemory) -> DeviceMemory {
        let used = total - free;
        let total = self.capacity.map_or(total, |capacity| capacity.min(total));
        DeviceMemory {
            free: total.saturating_sub(used).saturating_sub(self.taken),
            total,
        }
    }
}

impl Layer for Script {
    fn before(
        &self,
        call: Call,
        bytes: u64,
        memory: &dyn Fn() -> DeviceMemory,
    ) -> Result<(), DriverError> {
        let mut state = self.state();
        let (number, acquiring) = (state.call_count(), state.acquiring_calls());
        *state.calls.entry(call).or_default() += 1;
        let fails = state.failing.remove(&number)
            || (call.acquires() && state.failing_acquiring.remove(&acquiring))
            || (call.acquires() && state.failing_from.is_some_and(|from| acquiring >= from));
        let DeviceMemory { free, total } = state.memory(memory());
        match call {
            Call::Allocate | Call::Map if fails || bytes > free => Err(DriverError::OutOfMemory {
                requested: bytes,
                free: if fails { 0 } else { free },
                total,
            }),
            other if fails => Err(DriverError::Failed {
                call: other.name(),
                message: format!("call {number} fails by script"),
            }),
            _ => Ok(()),
        }
    }

    fn memory(&self, below: DeviceMemory) -> DeviceMemory {
        self.state().memory(below)
    }
}

impl<D: Driver> Scripted<D> {
    /// The handle that writes the script.
    pub fn script(&self) -> Script {
        self.layer.clone()
    }
}
