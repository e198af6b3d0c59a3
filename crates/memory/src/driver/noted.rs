//! A driver that records allocations and frees.

use super::{Address, Driver, Layer, Layered};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A driver with a record of its allocations. Mapped parts of ranges are not recorded.
pub type Noted<D> = Layered<Notes, D>;

/// The record of a [`Noted`] driver. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Vec<Note>>>);

/// A completed driver call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A piece was allocated.
    Taken {
        /// Its address.
        address: Address,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A piece was freed.
    GivenBack {
        /// Its address.
        address: Address,
    },
}

impl Notes {
    /// Takes the notes since the previous call.
    pub fn take(&self) -> Vec<Note> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Note>> {
        // The list is consistent even if a thread panicked while it held the lock: it is only
        // pushed to and taken.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layer for Notes {
    fn allocated(&self, address: Address, bytes: u64) {
        self.lock().push(Note::Taken { address, bytes });
    }

    fn freed(&self, address: Address) {
        self.lock().push(Note::GivenBack { address });
    }
}

impl<D: Driver> Noted<D> {
    /// A handle to the notes.
    pub fn notes(&self) -> Notes {
        self.layer.clone()
    }
}
