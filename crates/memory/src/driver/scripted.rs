//! Scripted faults over any driver: calls that fail, a device that shrinks, bytes that another
//! process takes. Every call is counted.

use super::{Call, DeviceMemory, Driver, DriverError, Layer, Layered};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A driver that follows a [`FaultScript`].
pub type Scripted<D> = Layered<FaultScript, D>;

/// The control of a [`Scripted`] or simulated driver: a test changes the device through it while a
/// pool is using the device. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct FaultScript(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    calls: BTreeMap<Call, u64>,
    /// Numbers of the failing calls, counted from 0.
    failing: BTreeSet<u64>,
    /// Numbers of the failing calls among those that request memory, counted from 0.
    failing_acquiring: BTreeSet<u64>,
    /// Number from which on every call that requests memory fails.
    failing_from: Option<u64>,
    capacity: Option<u64>,
    taken: u64,
}

impl FaultScript {
    /// Fails an upcoming call of any kind; 0 is the next one.
    pub fn fail_call(&self, calls_ahead: u64) {
        let mut state = self.state();
        let number = state.call_count() + calls_ahead;
        state.failing.insert(number);
    }

    /// Fails the `number`-th call that requests memory, counted from 0 at the start.
    pub fn fail_acquiring_call(&self, number: u64) {
        self.state().failing_acquiring.insert(number);
    }

    /// Fails every call that requests memory from the `number`-th on, counted from 0 at the start;
    /// `None` ends that.
    pub fn fail_acquiring_calls_from(&self, number: Option<u64>) {
        self.state().failing_from = number;
    }

    /// Lowers the device's total bytes. Memory in use stays in use.
    pub fn set_capacity(&self, capacity: u64) {
        self.state().capacity = Some(capacity);
    }

    /// Takes `bytes` for another process, in place of what that process had taken before.
    pub fn take(&self, bytes: u64) {
        self.state().taken = bytes;
    }

    /// Number of calls of one kind.
    pub fn calls(&self, call: Call) -> u64 {
        self.state().calls.get(&call).copied().unwrap_or_default()
    }

    /// Number of calls of all kinds.
    pub fn call_count(&self) -> u64 {
        self.state().call_count()
    }

    /// Number of calls that requested memory.
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

impl Layer for FaultScript {
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
                message: format!("call {number} fails as scripted"),
            }),
            _ => Ok(()),
        }
    }

    fn memory(&self, below: DeviceMemory) -> DeviceMemory {
        self.state().memory(below)
    }
}

impl<D: Driver> Scripted<D> {
    /// A handle to the script.
    pub fn script(&self) -> FaultScript {
        self.layer.clone()
    }
}
