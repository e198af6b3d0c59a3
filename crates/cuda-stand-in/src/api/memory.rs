//! Functions on pieces, ranges and pinned memory.

use super::put;
use crate::device::{Device, current};
use crate::status::{OUT_OF_MEMORY, Status, UNKNOWN};
use crate::store::GRANULARITY;
use std::ffi::{c_int, c_uint, c_void};

#[repr(C)]
struct Location {
    kind: c_uint,
    id: c_int,
}

#[repr(C)]
struct Properties {
    kind: c_uint,
    handle_types: c_uint,
    location: Location,
}

#[repr(C)]
struct Access {
    location: Location,
    flags: c_uint,
}

const PINNED: c_uint = 1;
const ON_DEVICE: c_uint = 1;
const READ_WRITE: c_uint = 3;

/// Whether the properties describe plain device memory.
///
/// # Safety
/// The pointer must be valid for a read, or null.
unsafe fn check(
    properties: *const Properties,
    ordinal: usize,
    device: &mut Device,
) -> Result<(), Status> {
    // SAFETY: the caller's pointer is valid.
    let good = unsafe { properties.as_ref() }.is_some_and(|properties| {
        properties.kind == PINNED
            && properties.handle_types == 0
            && properties.location.kind == ON_DEVICE
            && properties.location.id == ordinal as c_int
    });
    if good { Ok(()) } else { Err(device.misuse()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Status {
    current("cuMemGetInfo", UNKNOWN, |_, device| {
        let (free_bytes, total_bytes) = device.memory();
        // SAFETY: the caller's places are valid.
        unsafe {
            put(free, free_bytes as usize)?;
            put(total, total_bytes as usize)
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAlloc_v2(place: *mut u64, bytes: usize) -> Status {
    current("cuMemAlloc", OUT_OF_MEMORY, |_, device| {
        let address = device.allocate(bytes as u64)?;
        // SAFETY: the caller's place is valid.
        unsafe { put(place, address) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: u64) -> Status {
    current("cuMemFree", UNKNOWN, |_, device| device.free(address))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemHostAlloc(place: *mut *mut c_void, bytes: usize, _: c_uint) -> Status {
    current("cuMemHostAlloc", OUT_OF_MEMORY, |_, device| {
        let address = device.allocate_pinned(bytes as u64)?;
        // SAFETY: the caller's place is valid.
        unsafe { put(place, address as *mut c_void) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeHost(address: *mut c_void) -> Status {
    current("cuMemFreeHost", UNKNOWN, |_, device| {
        device.free_pinned(address as u64)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetAllocationGranularity(
    bytes: *mut usize,
    properties: *const Properties,
    _option: c_uint,
) -> Status {
    current(
        "cuMemGetAllocationGranularity",
        UNKNOWN,
        |ordinal, device| {
            // SAFETY: the caller's pointers are valid.
            unsafe {
                check(properties, ordinal, device)?;
                put(bytes, GRANULARITY as usize)
            }
        },
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAddressReserve(
    place: *mut u64,
    bytes: usize,
    alignment: usize,
    _wish: u64,
    _flags: u64,
) -> Status {
    current("cuMemAddressReserve", OUT_OF_MEMORY, |_, device| {
        let address = device.reserve(bytes as u64, alignment as u64)?;
        // SAFETY: the caller's place is valid.
        unsafe { put(place, address) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAddressFree(address: u64, bytes: usize) -> Status {
    current("cuMemAddressFree", UNKNOWN, |_, device| {
        device.release_range(address, bytes as u64)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemCreate(
    place: *mut u64,
    bytes: usize,
    properties: *const Properties,
    _flags: u64,
) -> Status {
    current("cuMemCreate", OUT_OF_MEMORY, |ordinal, device| {
        // SAFETY: the caller's pointer is valid.
        unsafe { check(properties, ordinal, device) }?;
        let handle = device.create(bytes as u64)?;
        // SAFETY: the caller's place is valid.
        unsafe { put(place, handle) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemRelease(handle: u64) -> Status {
    current("cuMemRelease", UNKNOWN, |_, device| {
        device.release_physical(handle)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemMap(address: u64, bytes: usize, offset: usize, handle: u64, _: u64) -> Status {
    current("cuMemMap", UNKNOWN, |_, device| {
        device.map(address, bytes as u64, offset as u64, handle)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemUnmap(address: u64, bytes: usize) -> Status {
    current("cuMemUnmap", UNKNOWN, |_, device| {
        device.unmap(address, bytes as u64)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemSetAccess(
    address: u64,
    bytes: usize,
    access: *const Access,
    count: usize,
) -> Status {
    current("cuMemSetAccess", UNKNOWN, |ordinal, device| {
        // SAFETY: the caller's pointer is valid for as many as it says, one at least.
        let good = unsafe { access.as_ref() }.is_some_and(|access| {
            count == 1
                && access.flags == READ_WRITE
                && access.location.kind == ON_DEVICE
                && access.location.id == ordinal as c_int
        });
        if !good {
            return Err(device.misuse());
        }
        device.open(address, bytes as u64)
    })
}
