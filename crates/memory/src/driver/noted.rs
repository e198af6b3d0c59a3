//! A driver that notes which pieces of memory were got and given back.

use super::{Address, Driver, Layer, Layered};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A driver with notes on its allocations. Parts of ranges are not noted.
pub type Noted<D> = Layered<Notes, D>;

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

    fn lock(&self) -> MutexGuard<'_, Vec<Note>> {
        // A list that is only pushed to and taken is whole even if a thread has panicked with it.
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
    /// The handle to the notes.
    pub fn notes(&self) -> Notes {
        self.layer.clone()
    }
}
