//! Sources of bytes: one small trait, and one driver for each kind of device.
//!
//! A driver allocates and frees whole pieces ([`Driver::allocate`], [`Driver::free`]). Where the
//! device supports it, a driver also has address ranges whose parts are mapped and unmapped one by
//! one ([`Driver::reserve`], [`Driver::map`], [`Driver::unmap`], [`Driver::release`]). It knows
//! nothing of blocks, streams or policy.

mod books;
pub mod cuda;
mod host;
mod layer;
mod noted;
mod scripted;
mod sealed;
mod simulated;

pub use host::{ADDRESS_SPACE_BYTES, HostDriver, system_page_bytes};
pub use layer::{Layer, Layered};
pub use noted::{Note, Noted, Notes};
pub use scripted::{FaultScript, Scripted};
pub use sealed::{Seal, Sealed};
pub use simulated::{SimulatedControl, SimulatedDriver};

use std::fmt;
use std::fs::File;
use std::ops::Range;

/// An address on a device. Never null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub u64);

impl Address {
    /// The address `bytes` further on.
    pub fn offset(self, bytes: u64) -> Address {
        Address(self.0 + bytes)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x}", self.0)
    }
}

/// An event recorded on a queue of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId(pub u64);

/// Free and total memory of a device, as its driver reports them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Bytes that can still be allocated.
    pub free: u64,
    /// Bytes of the device, or its configured capacity.
    pub total: u64,
}

/// Pages of a driver that are in the process's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Their bytes.
    pub bytes: u64,
    /// Of these, pages of files.
    pub file_bytes: u64,
}

/// Features of a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverCapabilities {
    /// Unit of `map` and `unmap`, in bytes; a power of two.
    pub granularity: u64,
    /// Whether address ranges can be reserved and mapped in parts. If not, the reason.
    pub ranges: Result<(), &'static str>,
    /// Whether this process can read and write the device's addresses.
    pub host_accessible: bool,
}

/// A kind of driver call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// [`Driver::allocate`]
    Allocate,
    /// [`Driver::free`]
    Free,
    /// [`Driver::reserve`]
    Reserve,
    /// [`Driver::release`]
    Release,
    /// [`Driver::map`]
    Map,
    /// [`Driver::unmap`]
    Unmap,
}

impl Call {
    /// The method's name.
    pub fn name(self) -> &'static str {
        match self {
            Call::Allocate => "allocate",
            Call::Free => "free",
            Call::Reserve => "reserve",
            Call::Release => "release",
            Call::Map => "map",
            Call::Unmap => "unmap",
        }
    }

    /// Whether the call requests memory or addresses.
    pub fn acquires(self) -> bool {
        matches!(self, Call::Allocate | Call::Reserve | Call::Map)
    }
}

/// A failed driver call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The device has too little free memory.
    #[error("{requested} bytes were requested and {free} of {total} bytes are free")]
    OutOfMemory {
        /// Bytes requested.
        requested: u64,
        /// Bytes free on the device.
        free: u64,
        /// Bytes of the device.
        total: u64,
    },
    /// The driver is sealed: steady state must not call it.
    #[error("{call} was called while the driver is sealed: steady state must not call the driver")]
    Sealed {
        /// The refused call.
        call: &'static str,
    },
    /// The device or the platform does not support the call.
    #[error("{call} is not supported here: {reason}")]
    Unsupported {
        /// The refused call.
        call: &'static str,
        /// The reason.
        reason: &'static str,
    },
    /// The call contradicts earlier allocations, reservations or mappings.
    #[error("invalid {call} at {address} ({bytes} bytes): {reason}")]
    Misuse {
        /// The refused call.
        call: &'static str,
        /// The address passed.
        address: Address,
        /// The size passed, in bytes.
        bytes: u64,
        /// The violated rule.
        reason: &'static str,
    },
    /// The device's own library reported an error.
    #[error("{call} failed: {message}")]
    Failed {
        /// The call that failed.
        call: &'static str,
        /// The library's message.
        message: String,
    },
}

// SAFETY: every call is forwarded to the boxed driver.
unsafe impl Driver for Box<dyn Driver> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn capabilities(&self) -> DriverCapabilities {
        (**self).capabilities()
    }

    fn memory(&self) -> DeviceMemory {
        (**self).memory()
    }

    fn allocate(&self, bytes: u64) -> Result<Address, DriverError> {
        (**self).allocate(bytes)
    }

    fn free(&self, address: Address) -> Result<(), DriverError> {
        (**self).free(address)
    }

    fn shrink(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        (**self).shrink(address, bytes)
    }

    fn prefer_small_pages(&self, address: Address, bytes: u64) {
        (**self).prefer_small_pages(address, bytes);
    }

    unsafe fn discard(&self, address: Address, bytes: u64) {
        // SAFETY: the caller's contract is that of the boxed driver.
        unsafe { (**self).discard(address, bytes) }
    }

    fn map_file(&self, file: &File, part: Range<u64>) -> Result<Address, DriverError> {
        (**self).map_file(file, part)
    }

    fn reserve(&self, bytes: u64, unit: u64) -> Result<Address, DriverError> {
        (**self).reserve(bytes, unit)
    }

    fn release(&self, address: Address) -> Result<(), DriverError> {
        (**self).release(address)
    }

    fn map(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        (**self).map(address, bytes)
    }

    fn unmap(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        (**self).unmap(address, bytes)
    }

    fn own_bytes(&self) -> u64 {
        (**self).own_bytes()
    }

    fn resident(&self) -> Option<Resident> {
        (**self).resident()
    }

    fn charge(&self, bytes: u64) -> Result<(), DriverError> {
        (**self).charge(bytes)
    }

    fn uncharge(&self, bytes: u64) {
        (**self).uncharge(bytes);
    }

    fn record_event(&self, queue: u64) -> EventId {
        (**self).record_event(queue)
    }

    fn event_done(&self, event: EventId) -> bool {
        (**self).event_done(event)
    }

    fn wait_event(&self, event: EventId) {
        (**self).wait_event(event);
    }

    unsafe fn read(&self, from: Address, into: &mut [u8]) -> Result<(), DriverError> {
        // SAFETY: the caller's contract is that of the boxed driver.
        unsafe { (**self).read(from, into) }
    }

    unsafe fn write(&self, bytes: &[u8], to: Address) -> Result<(), DriverError> {
        // SAFETY: the caller's contract is that of the boxed driver.
        unsafe { (**self).write(bytes, to) }
    }

    unsafe fn stage(&self, bytes: &[u8], to: Address) -> Result<(), DriverError> {
        // SAFETY: the caller's contract is that of the boxed driver.
        unsafe { (**self).stage(bytes, to) }
    }

    fn finish_staging(&self) -> Result<(), DriverError> {
        (**self).finish_staging()
    }
}

/// A source of device memory.
///
/// # Safety
///
/// If [`DriverCapabilities::host_accessible`] is true, every byte of an allocated piece or a mapped
/// part must be initialised and valid for reads and writes until it is freed or unmapped through
/// this driver. A piece of a file ([`Driver::map_file`]) is valid for reads only. Pieces must not
/// overlap.
pub unsafe trait Driver: Send + Sync {
    /// The driver's name: `host`, `simulated`, `cuda`.
    fn name(&self) -> &str;

    /// The driver's features.
    fn capabilities(&self) -> DriverCapabilities;

    /// Free and total bytes.
    fn memory(&self) -> DeviceMemory;

    /// Allocates a piece of at least `bytes` bytes, aligned to 512 or more.
    ///
    /// # Errors
    /// [`DriverError::OutOfMemory`] if too little is free, or the device's own error.
    fn allocate(&self, bytes: u64) -> Result<Address, DriverError>;

    /// Frees a piece from [`Driver::allocate`].
    ///
    /// # Errors
    /// [`DriverError::Misuse`] if no piece begins at `address`.
    fn free(&self, address: Address) -> Result<(), DriverError>;

    /// Shrinks a piece from [`Driver::allocate`] to its first `bytes` bytes, a positive multiple of
    /// the granularity. Counted as [`Call::Free`]. Drivers that cannot free a part of a piece need
    /// not override it.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] where pieces are freed whole only; the piece is unchanged then.
    fn shrink(&self, _address: Address, _bytes: u64) -> Result<(), DriverError> {
        Err(DriverError::Unsupported {
            call: "shrink",
            reason: "this driver frees whole pieces only",
        })
    }

    /// Advice that a piece from [`Driver::allocate`] is used in parts, so that what is never
    /// written should take no memory: the system fills huge pages whole. Contents are unchanged.
    fn prefer_small_pages(&self, _address: Address, _bytes: u64) {}

    /// Advice that the contents of a piece from [`Driver::allocate`] are of no use any more: it
    /// takes no memory until it is written again, where the system can do that. The piece stays
    /// allocated, and each of its bytes is unchanged or zero.
    ///
    /// # Safety
    /// The piece has `bytes` bytes, and nobody accesses it meanwhile.
    unsafe fn discard(&self, _address: Address, _bytes: u64) {}

    /// Makes a part of a file a read-only piece, without a copy: its bytes are those of the
    /// system's file cache. The part begins at a multiple of the granularity and ends within the
    /// file. Counted as [`Call::Allocate`], and freed by [`Driver::free`]. Nobody may shorten or
    /// write the file while the piece exists.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] where memory cannot be a file's, or the part would be slower to
    /// read, [`DriverError::OutOfMemory`] if too little is free, [`DriverError::Misuse`] for any
    /// other part.
    fn map_file(&self, _file: &File, _part: Range<u64>) -> Result<Address, DriverError> {
        Err(DriverError::Unsupported {
            call: "map_file",
            reason: "this driver's memory cannot be a file's",
        })
    }

    /// Reserves a range of addresses without memory behind it. Its parts are mapped and unmapped in
    /// whole units of `unit` bytes from its start. `bytes` is a multiple of `unit`, and `unit` is a
    /// multiple of the granularity.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] on a device without address ranges, [`DriverError::Misuse`] for
    /// an invalid unit.
    fn reserve(&self, bytes: u64, unit: u64) -> Result<Address, DriverError>;

    /// Releases a range without mapped parts.
    ///
    /// # Errors
    /// [`DriverError::Misuse`] if no such range exists, or parts of it are mapped.
    fn release(&self, address: Address) -> Result<(), DriverError>;

    /// Maps memory behind a part of a reserved range. The part consists of whole units, none of
    /// them mapped.
    ///
    /// # Errors
    /// [`DriverError::OutOfMemory`] if too little is free, [`DriverError::Misuse`] for any other
    /// part.
    fn map(&self, address: Address, bytes: u64) -> Result<(), DriverError>;

    /// Unmaps a part of a reserved range and frees its memory. The part consists of whole units,
    /// all of them mapped.
    ///
    /// # Errors
    /// [`DriverError::Misuse`] for any other part.
    fn unmap(&self, address: Address, bytes: u64) -> Result<(), DriverError>;

    /// Counts bytes of the same memory that something else allocated, such as a library on the
    /// heap, against the capacity. No memory is requested, so a sealed driver admits it.
    ///
    /// # Errors
    /// [`DriverError::OutOfMemory`] if too little is free, [`DriverError::Unsupported`] if nothing
    /// but the driver allocates there.
    fn charge(&self, _bytes: u64) -> Result<(), DriverError> {
        Err(DriverError::Unsupported {
            call: "charge",
            reason: "only this driver allocates its memory",
        })
    }

    /// Reverses a [`Driver::charge`].
    fn uncharge(&self, _bytes: u64) {}

    /// Bytes of the device that the driver holds for itself, beside the allocated ones: its
    /// context, modules, graphs.
    fn own_bytes(&self) -> u64 {
        0
    }

    /// What of the pieces and mapped parts is in the process's memory, if the system tells: pages
    /// that were never written are not.
    fn resident(&self) -> Option<Resident> {
        None
    }

    /// Records an event at the current end of a queue. Devices that execute in order with the
    /// caller need not override it.
    fn record_event(&self, _queue: u64) -> EventId {
        EventId(0)
    }

    /// Whether all work before the event is complete.
    fn event_done(&self, _event: EventId) -> bool {
        true
    }

    /// Waits until all work before the event is complete.
    fn wait_event(&self, _event: EventId) {}

    /// Copies device bytes to the host and returns when the copy is complete.
    ///
    /// # Errors
    /// If the device refuses, or the driver cannot copy.
    ///
    /// # Safety
    /// The bytes must lie in one piece or mapped part of this driver, and nobody may write to them
    /// during the call.
    unsafe fn read(&self, _from: Address, _into: &mut [u8]) -> Result<(), DriverError> {
        Err(DriverError::Unsupported {
            call: "read",
            reason: "this driver cannot copy bytes",
        })
    }

    /// Copies host bytes to the device and returns when the device may use them.
    ///
    /// # Errors
    /// As [`Driver::read`].
    ///
    /// # Safety
    /// The destination must lie in one piece or mapped part of this driver, and nobody may use it
    /// during the call.
    unsafe fn write(&self, _bytes: &[u8], _to: Address) -> Result<(), DriverError> {
        Err(DriverError::Unsupported {
            call: "write",
            reason: "this driver cannot copy bytes",
        })
    }

    /// Copies host bytes to the device, for loading many in a row. `bytes` may change as soon as
    /// the call returns, and later work on the device sees the copies, but they may still be in
    /// progress. [`Driver::finish_staging`] waits for them.
    ///
    /// # Errors
    /// As [`Driver::write`].
    ///
    /// # Safety
    /// As [`Driver::write`].
    unsafe fn stage(&self, bytes: &[u8], to: Address) -> Result<(), DriverError> {
        // SAFETY: the caller's contract is the same.
        unsafe { self.write(bytes, to) }
    }

    /// Waits until all staged bytes are on the device, and frees the host memory used for staging.
    ///
    /// # Errors
    /// If the device failed meanwhile.
    fn finish_staging(&self) -> Result<(), DriverError> {
        Ok(())
    }
}
