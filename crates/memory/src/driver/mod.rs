//! Where bytes come from: one small trait, and one driver for each kind of device.
//!
//! A driver gives whole pieces (`allocate`, `free`) and, where it can, address ranges whose parts are mapped and unmapped
//! one by one (`reserve`, `map`, `unmap`, `release`). It knows nothing of blocks, streams or policy.

mod books;
pub mod cuda;
mod host;
mod layer;
mod noted;
mod scripted;
mod sealed;
mod simulated;

pub use host::HostDriver;
pub use layer::{Layer, Layered};
pub use noted::{Note, Noted, Notes};
pub use scripted::{Script, Scripted};
pub use sealed::{Seal, Sealed};
pub use simulated::{SimulatedControl, SimulatedDriver};

use std::fmt;

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

/// A device's memory, as its driver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Bytes that an allocation could still get.
    pub free: u64,
    /// All bytes of the device, or the capacity that was set.
    pub total: u64,
}

/// What a driver can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Unit of `map` and `unmap`, in bytes; a power of two.
    pub granularity: u64,
    /// Whether address ranges can be reserved and mapped piece by piece. If not, the reason why.
    pub ranges: Result<(), &'static str>,
    /// Whether an address can be read and written by this process.
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

    /// Whether it asks for memory, or for addresses.
    pub fn acquires(self) -> bool {
        matches!(self, Call::Allocate | Call::Reserve | Call::Map)
    }
}

/// Why a driver refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The device has too little memory left.
    #[error("{requested} bytes were asked for and {free} of {total} bytes are free")]
    OutOfMemory {
        /// Bytes asked for.
        requested: u64,
        /// Bytes free on the device.
        free: u64,
        /// Bytes of the device.
        total: u64,
    },
    /// The driver is sealed: steady state must not call it.
    #[error("the driver is sealed and {call} was called: this state must work without the driver")]
    Sealed {
        /// The refused call.
        call: &'static str,
    },
    /// The device or the platform cannot do this.
    #[error("{call} is not supported here: {reason}")]
    Unsupported {
        /// The refused call.
        call: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// The call does not fit what was allocated, reserved or mapped before.
    #[error("{call} of {address} ({bytes} bytes) does not fit what is held: {reason}")]
    Misuse {
        /// The refused call.
        call: &'static str,
        /// Where.
        address: Address,
        /// How many bytes.
        bytes: u64,
        /// What was wrong.
        reason: &'static str,
    },
    /// The device's own library reported an error.
    #[error("{call} failed: {message}")]
    Failed {
        /// The call that failed.
        call: &'static str,
        /// What the library said.
        message: String,
    },
}

// SAFETY: every call is the boxed driver's own.
unsafe impl Driver for Box<dyn Driver> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn capabilities(&self) -> Capabilities {
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
        // SAFETY: the caller's promise is the boxed driver's.
        unsafe { (**self).read(from, into) }
    }

    unsafe fn write(&self, bytes: &[u8], to: Address) -> Result<(), DriverError> {
        // SAFETY: as above.
        unsafe { (**self).write(bytes, to) }
    }

    unsafe fn stage(&self, bytes: &[u8], to: Address) -> Result<(), DriverError> {
        // SAFETY: as above.
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
/// Where [`Capabilities::host_accessible`] is true, every byte of an allocated piece or a mapped part must be initialised
/// and valid for reads and writes until it is freed or unmapped through this driver, and pieces must not overlap.
pub unsafe trait Driver: Send + Sync {
    /// The driver's name: `host`, `simulated`, `cuda`.
    fn name(&self) -> &str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Free and total bytes.
    fn memory(&self) -> DeviceMemory;

    /// A piece of at least `bytes` bytes, aligned to 512 or more.
    fn allocate(&self, bytes: u64) -> Result<Address, DriverError>;

    /// Gives back a piece got from [`Driver::allocate`].
    fn free(&self, address: Address) -> Result<(), DriverError>;

    /// Gives back the end of a piece got from [`Driver::allocate`], of which at least the first `bytes` bytes stay: a whole number of units
    /// of the granularity, at least one. Counted as [`Call::Free`]. Drivers that cannot give back a part need not override it.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] where pieces are given back whole only; the piece stays as it was.
    fn shrink(&self, _address: Address, _bytes: u64) -> Result<(), DriverError> {
        Err(DriverError::Unsupported {
            call: "shrink",
            reason: "this driver takes pieces back whole only",
        })
    }

    /// A range of addresses with nothing behind it yet, to be mapped and unmapped in whole units of `unit` bytes from its
    /// start. `bytes` is a multiple of `unit`, and `unit` of the granularity.
    fn reserve(&self, bytes: u64, unit: u64) -> Result<Address, DriverError>;

    /// Gives back a range in which nothing is mapped.
    fn release(&self, address: Address) -> Result<(), DriverError>;

    /// Puts memory behind a part of a reserved range. It consists of whole units, none of them mapped.
    fn map(&self, address: Address, bytes: u64) -> Result<(), DriverError>;

    /// Takes the memory behind a part of a reserved range away. It consists of whole units, all of them mapped.
    fn unmap(&self, address: Address, bytes: u64) -> Result<(), DriverError>;

    /// Bytes of the device that the driver holds for itself, beside what it gives out: its context, modules, graphs.
    fn own_bytes(&self) -> u64 {
        0
    }

    /// Marks the present end of the work on a queue. Devices that work in order with the caller need not override it.
    fn record_event(&self, _queue: u64) -> EventId {
        EventId(0)
    }

    /// Whether all work before the event is done.
    fn event_done(&self, _event: EventId) -> bool {
        true
    }

    /// Waits until all work before the event is done.
    fn wait_event(&self, _event: EventId) {}

    /// Copies bytes of the device to the host; returns when they are there.
    ///
    /// # Errors
    /// If the device refuses, or the driver cannot copy.
    ///
    /// # Safety
    /// The bytes must lie in one piece or mapped part of this driver, and nobody may write to them meanwhile.
    unsafe fn read(&self, _from: Address, _into: &mut [u8]) -> Result<(), DriverError> {
        Err(DriverError::Unsupported {
            call: "read",
            reason: "this driver copies no bytes",
        })
    }

    /// Copies bytes of the host to the device; returns when they may be used there.
    ///
    /// # Errors
    /// As [`Driver::read`].
    ///
    /// # Safety
    /// The bytes must go to one piece or mapped part of this driver, and nobody may use those meanwhile.
    unsafe fn write(&self, _bytes: &[u8], _to: Address) -> Result<(), DriverError> {
        Err(DriverError::Unsupported {
            call: "write",
            reason: "this driver copies no bytes",
        })
    }

    /// Copies bytes of the host to the device, for loading many in a row: `bytes` may change as soon as this returns, and work that the
    /// device is given later finds them, but they may still be on their way. [`Driver::finish_staging`] ends it.
    ///
    /// # Errors
    /// As [`Driver::write`].
    ///
    /// # Safety
    /// As [`Driver::write`].
    unsafe fn stage(&self, bytes: &[u8], to: Address) -> Result<(), DriverError> {
        // SAFETY: the caller's promise is the same.
        unsafe { self.write(bytes, to) }
    }

    /// Waits until all that was staged is on the device, and gives back what staging took of the host.
    ///
    /// # Errors
    /// If the device failed meanwhile.
    fn finish_staging(&self) -> Result<(), DriverError> {
        Ok(())
    }
}
