//! NVIDIA's management library, in the same file: free device memory without a context.

use super::put;
use crate::device::{call, count};
use crate::status::{INVALID_VALUE, SUCCESS, Status, UNKNOWN};
use std::ffi::{CStr, c_char, c_int, c_ulonglong, c_void};

#[repr(C)]
struct MemoryInfo {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(
    address: *const c_char,
    place: *mut *mut c_void,
) -> Status {
    if address.is_null() {
        return INVALID_VALUE;
    }
    // SAFETY: the caller's text ends with a zero.
    let address = unsafe { CStr::from_ptr(address) }.to_string_lossy();
    let ordinal = (address.split(':').nth(1))
        .and_then(|bus| u32::from_str_radix(bus, 16).ok())
        .filter(|&ordinal| ordinal < count());
    match ordinal {
        // SAFETY: the caller's place is valid.
        Some(ordinal) => unsafe { put(place, (ordinal as usize + 1) as *mut c_void) }
            .err()
            .unwrap_or_default(),
        None => INVALID_VALUE,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryInfo(
    device: *mut c_void,
    place: *mut MemoryInfo,
) -> Status {
    let ordinal = (device as usize).wrapping_sub(1) as c_int;
    call(ordinal, "nvmlDeviceGetMemoryInfo", UNKNOWN, |_, device| {
        let (free, total) = device.memory();
        let used = total - free;
        // SAFETY: the caller's place is valid.
        unsafe { put(place, MemoryInfo { total, free, used }) }
    })
}
