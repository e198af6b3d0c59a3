//! Devices: the operations, and the only transfers between a device's memory and the host.

use crate::operations::Operations;
use crate::view::{View, ViewMut};
use sottovoce_memory::OutOfMemory;
use sottovoce_memory::driver::DriverError;
use std::sync::atomic::{AtomicU64, Ordering};

/// A device. [`crate::Context`] reads and writes through it, and transfers are counted.
///
/// Operations may run asynchronously, in the order of the calls. [`Device::check`] reports a
/// failure as soon as it is known, at the latest at the next read. From then on operations do
/// nothing.
pub trait Device: Operations {
    /// Copies a view's elements to the host in row-major order, after all previous operations.
    ///
    /// # Errors
    /// If the device failed, now or before.
    fn read(&self, from: View<'_>, into: &mut [f32]) -> Result<(), DeviceError>;

    /// As [`Device::read`] of two views. A device that waits for a read waits once for both if they
    /// are small.
    ///
    /// # Errors
    /// As [`Device::read`].
    fn read_both(&self, from: [View<'_>; 2], into: [&mut [f32]; 2]) -> Result<(), DeviceError> {
        let ([one, other], [into_one, into_other]) = (from, into);
        self.read(one, into_one)?;
        self.read(other, into_other)
    }

    /// Copies host elements to a view in row-major order, before the operations that follow.
    /// `values` may change as soon as the call returns.
    fn write(&self, values: &[f32], to: ViewMut<'_>);

    /// Counts of the transfers between the device and the host.
    fn traffic(&self) -> &Traffic;

    /// Checks for a known failure, without waiting.
    ///
    /// # Errors
    /// The first failure, from then on permanently.
    fn check(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Runs `forward`, which for equal keys must consist of the same operations on the same
    /// addresses: a device may record them once as a graph, and launch it afterwards. `forward`
    /// runs in any case, because workspaces follow it, and its host inputs (ids, positions, block
    /// tables) are uploaded again.
    fn replay(&self, _key: u64, forward: &mut dyn FnMut()) {
        forward();
    }

    /// Records `forward` for later calls of [`Device::replay`] under this key, without executing
    /// it: the first replay then takes no memory from the driver either. `forward` must neither
    /// read nor write elements. Its cache places need no pages. A device that records nothing does
    /// not run it.
    fn record(&self, _key: u64, _forward: &mut dyn FnMut()) {}

    /// Device memory that the driver takes to record `forward_count` forwards of `launch_count`
    /// operations each, as measured when the device was opened, in bytes.
    fn recorded_bytes(&self, _forward_count: usize, _launch_count: usize) -> u64 {
        0
    }

    /// Whether a forward with this key was recorded: replaying it takes no memory from the driver,
    /// while recording may allocate a graph.
    fn has_recorded(&self, _key: u64) -> bool {
        true
    }

    /// Drops all recorded forwards and frees their memory: their addresses are about to change.
    fn forget_recorded(&self) {}

    /// Whether its memory is host memory: views then point into this process.
    fn host_accessible(&self) -> bool {
        false
    }

    /// Bytes of its memory that the driver uses for itself: its context and kernels.
    fn own_bytes(&self) -> u64 {
        0
    }

    /// Pinned host memory for transfers, in bytes.
    fn pinned_bytes(&self) -> u64 {
        0
    }

    /// Granularity of its memory, in bytes.
    fn unit_bytes(&self) -> u64 {
        4096
    }

    /// Most sequences of one forward over cached positions.
    fn sequences_max(&self) -> usize {
        usize::MAX
    }

    /// Most pages that the sequences of one forward over cached positions have together.
    fn pages_max(&self) -> usize {
        usize::MAX
    }

    /// Number of host threads that share its work.
    fn threads(&self) -> usize {
        1
    }

    /// Tells the device that the calling thread works for it alone from now on: it may prepare the
    /// thread once instead of at every call.
    fn attend(&self) {}

    /// Runs `work` once, where many small operations start fastest, and returns when it is
    /// complete.
    fn run(&self, work: &mut (dyn FnMut() + Send)) {
        work();
    }
}

impl dyn Device + '_ {
    /// Returns the result of `forward`, run by [`Device::replay`].
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

    /// Returns the result of `work`, run by [`Device::run`].
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

/// A device that has failed permanently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device} failed and its contents are lost; load the model again: {source}")]
pub struct DeviceError {
    /// The device's name.
    pub device: String,
    /// The driver's error.
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

/// Counts of the transfers between a device and the host.
#[derive(Debug, Default)]
pub struct Traffic {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
}

/// A snapshot of [`Traffic`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficCount {
    /// Number of reads of results by the host; on most devices each one waits.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Number of writes of inputs by the host.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

impl Traffic {
    /// The counts since the device was opened.
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
