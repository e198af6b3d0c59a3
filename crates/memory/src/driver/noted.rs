//! A driver that notes which pieces of memory were got and given back.

use super::{Address, Capabilities, DeviceMemory, Driver, DriverError, EventId};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A driver with notes on its allocations. Parts of ranges are not noted.
pub struct Noted<D> {
    inner: D,
    notes: Notes,
}

/// The notes of a [`Noted`] driver; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Vec<Note>>>);

/// Something that a driver was asked for and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A piece of memory was got.
    Taken {
        /// Where.
        address: Address,
        /// Its size.
        bytes: u64,
    },
    /// A piece of memory was given back.
    GivenBack {
        /// Where.
        address: Address,
    },
}

impl Notes {
    /// The notes since the last time.
    pub fn take(&self) -> Vec<Note> {
        std::mem::take(&mut self.lock())
    }

    fn push(&self, note: Note) {
        self.lock().push(note);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Note>> {
        // A list that is only pushed to and taken is whole even if a thread has panicked with it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Driver> Noted<D> {
    /// Notes what `inner` is asked for.
    pub fn new(inner: D) -> Noted<D> {
        Noted {
            inner,
            notes: Notes::default(),
        }
    }

    /// The handle to the notes.
    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }
}

// SAFETY: every call is the inner driver's own.
unsafe impl<D: Driver> Driver for Noted<D> {
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
        let address = self.inner.allocate(bytes)?;
        self.notes.push(Note::Taken { address, bytes });
        Ok(address)
    }

    fn free(&self, address: Address) -> Result<(), DriverError> {
        self.inner.free(address)?;
        self.notes.push(Note::GivenBack { address });
        Ok(())
    }

    fn reserve(&self, bytes: u64, unit: u64) -> Result<Address, DriverError> {
        self.inner.reserve(bytes, unit)
    }

    fn release(&self, address: Address) -> Result<(), DriverError> {
        self.inner.release(address)
    }

    fn map(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
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
