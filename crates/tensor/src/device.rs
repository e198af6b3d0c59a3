//! A device: what computes, and the only ways between its memory and the host.

use crate::operations::Operations;
use crate::view::{View, ViewMut};
use sottovoce_memory::OutOfMemory;
use sottovoce_memory::driver::DriverError;
use std::sync::atomic::{AtomicU64, Ordering};

/// What computes. [`crate::Context`] reads and writes through it and counts how often.
///
/// Operations may run behind the caller's back, in the order of the calls. What goes wrong there is told by [`Device::check`] as soon as it
/// is known, at the latest when something is read; from then on operations do nothing.
pub trait Device: Operations {
    /// Copies a view's elements to the host, row after row, once all operations before are done.
    ///
    /// # Errors
    /// If the device failed, now or before.
    fn read(&self, from: View<'_>, into: &mut [f32]) -> Result<(), DeviceError>;

    /// Copies elements of the host to a view, row after row, before the operations that follow. `values` may change as soon as this returns.
    fn write(&self, values: &[f32], to: ViewMut<'_>);

    /// What went between the device and the host.
    fn traffic(&self) -> &Traffic;

    /// Whether it works, as far as is known without waiting.
    ///
    /// # Errors
    /// What went wrong first, from then on for ever.
    fn check(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Runs `forward`, which for equal keys is the same operations on the same places: a device may record them once and then repeat them
    /// all at once. `forward` runs in any case, because workspaces follow it and what it takes from the host (ids, positions, places of a
    /// cache) is taken anew.
    fn replay(&self, _key: u64, forward: &mut dyn FnMut()) {
        forward();
    }

    /// Whether a forward of this key was recorded: repeating it takes nothing from the driver, while the first one may take memory for what
    /// is kept of it.
    fn has_recorded(&self, _key: u64) -> bool {
        true
    }

    /// Drops what was recorded of all forwards, and gives its memory back: their places are to be others.
    fn forget_recorded(&self) {}

    /// Whether its memory is the host's: views then lie in memory of this process.
    fn host_accessible(&self) -> bool {
        false
    }

    /// Bytes of its memory that it holds for itself, beside what it computes on: what the driver
    /// takes for its context and for kernels.
    fn own_bytes(&self) -> u64 {
        0
    }

    /// Bytes of the host that it holds for what goes between the two.
    fn pinned_bytes(&self) -> u64 {
        0
    }

    /// Bytes of the units in which its memory is handed out.
    fn unit_bytes(&self) -> u64 {
        4096
    }

    /// Threads of the host that share its work.
    fn threads(&self) -> usize {
        1
    }

    /// Runs `work` once, where many operations in a row start fastest, and returns when it is done.
    fn run(&self, work: &mut (dyn FnMut() + Send)) {
        work();
    }
}

impl dyn Device + '_ {
    /// What `forward` returns, run by [`Device::replay`].
    ///
    /// # Panics
    /// If the device does not run it.
    pub fn replayed<R>(&self, key: u64, forward: impl FnOnce() -> R) -> R {
        let (mut forward, mut result) = (Some(forward), None);
        self.replay(key, &mut || {
            result = forward.take().map(|forward| forward())
        });
        match result {
            Some(result) => result,
            None => panic!("{} did not run a forward", self.name()),
        }
    }

    /// What `work` returns, run by [`Device::run`].
    ///
    /// # Panics
    /// If the device does not run it.
    pub fn within<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let (mut work, mut result) = (Some(work), None);
        self.run(&mut || result = work.take().map(|work| work()));
        match result {
            Some(result) => result,
            None => panic!("{} did not run its work", self.name()),
        }
    }
}

/// A device that works no longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device} failed and all that was on it is lost, load the model again: {source}")]
pub struct DeviceError {
    /// The device's name.
    pub device: String,
    /// What went wrong.
    pub source: DriverError,
}

/// Why a forward has no result.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Memory ran out.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// How often and how much went between a device and the host.
#[derive(Debug, Default)]
pub struct Traffic {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
}

/// [`Traffic`] at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficCount {
    /// Times that the host read results; on most devices it waits for them.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Times that the host wrote inputs.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

impl Traffic {
    /// Since the device was opened.
    pub fn count(&self) -> TrafficCount {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TrafficCount {
            reads: of(&self.reads),
            read_bytes: of(&self.read_bytes),
            writes: of(&self.writes),
            written_bytes: of(&self.written_bytes),
        }
    }

    pub(crate) fn add_read(&self, elements: usize) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_bytes
            .fetch_add(bytes(elements), Ordering::Relaxed);
    }

    pub(crate) fn add_write(&self, elements: usize) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.written_bytes
            .fetch_add(bytes(elements), Ordering::Relaxed);
    }
}

fn bytes(elements: usize) -> u64 {
    (elements * size_of::<f32>()) as u64
}
