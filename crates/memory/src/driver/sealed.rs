//! A driver that can be sealed: from then on it refuses every call, so that "no driver call in steady state" is enforced.

use super::{Address, Capabilities, DeviceMemory, Driver, DriverError, EventId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A driver behind a seal.
pub struct Sealed<D> {
    inner: D,
    seal: Seal,
}

/// Opens and closes a [`Sealed`] driver; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Seal(Arc<AtomicBool>);

impl Seal {
    /// From now on every call is refused.
    pub fn close(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Calls pass again.
    pub fn open(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// Whether calls are refused.
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl<D: Driver> Sealed<D> {
    /// An open seal before `inner`.
    pub fn new(inner: D) -> Sealed<D> {
        Sealed {
            inner,
            seal: Seal::default(),
        }
    }

    /// The handle that closes and opens the seal.
    pub fn seal(&self) -> Seal {
        self.seal.clone()
    }

    fn pass(&self, call: &'static str) -> Result<(), DriverError> {
        if self.seal.is_closed() {
            Err(DriverError::Sealed { call })
        } else {
            Ok(())
        }
    }
}

// SAFETY: every call is the inner driver's or refused.
unsafe impl<D: Driver> Driver for Sealed<D> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn memory(&self) -> DeviceMemory {
        self.inner.memory()
    }

    fn allocate(&self, bytes: u64) -> Result<Address, DriverError> {
        self.pass("allocate")?;
        self.inner.allocate(bytes)
    }

    fn free(&self, address: Address) -> Result<(), DriverError> {
        self.pass("free")?;
        self.inner.free(address)
    }

    fn reserve(&self, bytes: u64, unit: u64) -> Result<Address, DriverError> {
        self.pass("reserve")?;
        self.inner.reserve(bytes, unit)
    }

    fn release(&self, address: Address) -> Result<(), DriverError> {
        self.pass("release")?;
        self.inner.release(address)
    }

    fn map(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        self.pass("map")?;
        self.inner.map(address, bytes)
    }

    fn unmap(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        self.pass("unmap")?;
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
