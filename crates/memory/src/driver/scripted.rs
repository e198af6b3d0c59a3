//! Any driver with faults by script: calls that fail, and bytes that another process takes while it runs.

use super::{Address, Capabilities, DeviceMemory, Driver, DriverError, EventId};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A driver that follows a [`Script`].
pub struct Scripted<D> {
    inner: D,
    script: Script,
}

/// The other end of a [`Scripted`] driver; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Script(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    taken: u64,
    acquiring_calls: u64,
    failing: BTreeSet<u64>,
}

impl Script {
    /// Takes `bytes` for another process, in place of what it had taken before.
    pub fn take(&self, bytes: u64) {
        self.state().taken = bytes;
    }

    /// Calls so far that ask for memory: `allocate`, `reserve`, `map`.
    pub fn acquiring_calls(&self) -> u64 {
        self.state().acquiring_calls
    }

    /// Lets the `number`-th call that asks for memory fail, counted from 0 at the start.
    pub fn fail_acquiring_call(&self, number: u64) {
        self.state().failing.insert(number);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Driver> Scripted<D> {
    /// `inner`, with an empty script.
    pub fn new(inner: D) -> Scripted<D> {
        Scripted {
            inner,
            script: Script::default(),
        }
    }

    /// The handle that writes the script.
    pub fn script(&self) -> Script {
        self.script.clone()
    }

    /// Counts a call that asks for `bytes` bytes, and refuses it if the script says so.
    fn acquire(&self, bytes: u64) -> Result<(), DriverError> {
        let mut state = self.script.state();
        let number = state.acquiring_calls;
        state.acquiring_calls += 1;
        let DeviceMemory { free, total } = self.inner.memory();
        let free = free.saturating_sub(state.taken);
        if state.failing.remove(&number) {
            return Err(DriverError::OutOfMemory {
                requested: bytes,
                free: 0,
                total,
            });
        }
        if bytes > free {
            return Err(DriverError::OutOfMemory {
                requested: bytes,
                free,
                total,
            });
        }
        Ok(())
    }
}

// SAFETY: every call is the inner driver's or refused.
unsafe impl<D: Driver> Driver for Scripted<D> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn memory(&self) -> DeviceMemory {
        let DeviceMemory { free, total } = self.inner.memory();
        let taken = self.script.state().taken;
        DeviceMemory {
            free: free.saturating_sub(taken),
            total,
        }
    }

    fn allocate(&self, bytes: u64) -> Result<Address, DriverError> {
        self.acquire(bytes)?;
        self.inner.allocate(bytes)
    }

    fn free(&self, address: Address) -> Result<(), DriverError> {
        self.inner.free(address)
    }

    fn reserve(&self, bytes: u64, unit: u64) -> Result<Address, DriverError> {
        // A range has nothing behind it: it takes addresses, not bytes.
        self.acquire(0)?;
        self.inner.reserve(bytes, unit)
    }

    fn release(&self, address: Address) -> Result<(), DriverError> {
        self.inner.release(address)
    }

    fn map(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        self.acquire(bytes)?;
        self.inner.map(address, bytes)
    }

    fn unmap(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        self.inner.unmap(address, bytes)
    }

    fn record_event(&self, queue: u64) -> EventId {
        self.inner.record_event(queue)
    }

    fn event_done(&self, event: EventId) -> bool {
        self.inner.event_done(event)
    }

    fn wait_event(&self, event: EventId) {
        self.inner.wait_event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::HostDriver;

    #[test]
    fn the_call_named_in_the_script_fails_once() {
        let driver = Scripted::new(HostDriver::new(1 << 20));
        driver.script().fail_acquiring_call(1);
        let first = driver.allocate(4096).expect("the first call is good");
        assert!(
            driver.allocate(4096).is_err(),
            "the second fails by the script"
        );
        let third = driver.allocate(4096).expect("the third is good again");
        driver.free(first).expect("held");
        driver.free(third).expect("held");
        assert_eq!(driver.script().acquiring_calls(), 3);
    }

    #[test]
    fn what_another_process_takes_cannot_be_allocated() {
        let driver = Scripted::new(HostDriver::new(1 << 20));
        driver.script().take((1 << 20) - 4096);
        assert_eq!(driver.memory().free, 4096);
        assert!(driver.allocate(8192).is_err());
        driver.script().take(0);
        let address = driver.allocate(8192).expect("given back");
        driver.free(address).expect("held");
    }
}
