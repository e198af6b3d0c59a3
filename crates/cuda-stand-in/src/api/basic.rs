//! Functions on devices, contexts and limits.

use super::put;
use crate::control::write_report_at_exit;
use crate::device::{
    call, context_of, current, current_context, set_current, visible, visible_count,
};
use crate::status::{
    INVALID_CONTEXT, INVALID_DEVICE, INVALID_VALUE, NO_DEVICE, OUT_OF_MEMORY, SUCCESS, Status,
    UNKNOWN, name,
};
use std::ffi::{c_char, c_int, c_uint, c_void};

/// `CU_DEVICE_ATTRIBUTE_…`
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;
const MULTIPROCESSOR_COUNT: c_int = 16;
const VIRTUAL_MEMORY_MANAGEMENT: c_int = 102;

#[unsafe(no_mangle)]
extern "C" fn cuInit(_flags: c_uint) -> Status {
    write_report_at_exit();
    match visible(0) {
        Some(_) => SUCCESS,
        None => NO_DEVICE,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> Status {
    call(0, "cuDriverGetVersion", UNKNOWN, |_, device| {
        // SAFETY: the caller's place is valid.
        unsafe { put(version, device.settings.driver) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(status: Status, text: *mut *const c_char) -> Status {
    let Some(name) = name(status) else {
        return INVALID_VALUE;
    };
    // SAFETY: the caller's place is valid.
    unsafe { put(text, name.as_ptr()) }
        .err()
        .unwrap_or_default()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetCount(place: *mut c_int) -> Status {
    // SAFETY: the caller's place is valid.
    unsafe { put(place, visible_count() as c_int) }
        .err()
        .unwrap_or_default()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(place: *mut c_int, ordinal: c_int) -> Status {
    let Some(device) = usize::try_from(ordinal).ok().and_then(visible) else {
        return INVALID_DEVICE;
    };
    call(device as c_int, "cuDeviceGet", UNKNOWN, |_, _| {
        // SAFETY: the caller's place is valid.
        unsafe { put(place, device as c_int) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(place: *mut c_char, len: c_int, device: c_int) -> Status {
    call(device, "cuDeviceGetName", UNKNOWN, |_, _| {
        let text = c"Stand-in GPU".to_bytes_with_nul();
        let count = text.len().min(usize::try_from(len).unwrap_or(0));
        if place.is_null() || count == 0 {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the caller has that many bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), place.cast(), count);
            place.add(count - 1).write(0);
        }
        Ok(())
    })
}

/// `0000:XX:00.0`, where XX is the device's ordinal.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetPCIBusId(place: *mut c_char, len: c_int, device: c_int) -> Status {
    call(device, "cuDeviceGetPCIBusId", UNKNOWN, |ordinal, _| {
        let text = format!("0000:{ordinal:02X}:00.0\0");
        if place.is_null() || usize::try_from(len).unwrap_or(0) < text.len() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the caller has that many bytes.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), place.cast(), text.len()) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(
    place: *mut c_int,
    attribute: c_int,
    device: c_int,
) -> Status {
    call(device, "cuDeviceGetAttribute", UNKNOWN, |_, device| {
        let generation = device.settings.generation as c_int;
        let value = match attribute {
            COMPUTE_CAPABILITY_MAJOR => generation / 10,
            COMPUTE_CAPABILITY_MINOR => generation % 10,
            MULTIPROCESSOR_COUNT => 1,
            VIRTUAL_MEMORY_MANAGEMENT => device.settings.ranges.into(),
            _ => 0,
        };
        // SAFETY: the caller's place is valid.
        unsafe { put(place, value) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceTotalMem_v2(place: *mut usize, device: c_int) -> Status {
    call(device, "cuDeviceTotalMem", UNKNOWN, |_, device| {
        // SAFETY: the caller's place is valid.
        unsafe { put(place, device.settings.memory as usize) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(place: *mut *mut c_void, device: c_int) -> Status {
    call(
        device,
        "cuDevicePrimaryCtxRetain",
        OUT_OF_MEMORY,
        |ordinal, device| {
            let context = device.retain(ordinal)?;
            // SAFETY: the caller's place is valid.
            unsafe { put(place, context as *mut c_void) }
        },
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> Status {
    call(device, "cuDevicePrimaryCtxRelease", UNKNOWN, |_, device| {
        device.release()
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxGetState(
    device: c_int,
    flags: *mut c_uint,
    active: *mut c_int,
) -> Status {
    call(
        device,
        "cuDevicePrimaryCtxGetState",
        UNKNOWN,
        |_, device| {
            // SAFETY: the caller's places are valid.
            unsafe {
                put(flags, 0)?;
                put(active, device.is_active().into())
            }
        },
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: *mut c_void) -> Status {
    let Some((ordinal, epoch)) = context_of(context as u64) else {
        set_current(None);
        return SUCCESS;
    };
    let (ordinal_number, failed) = (ordinal as c_int, INVALID_CONTEXT);
    call(ordinal_number, "cuCtxSetCurrent", failed, |_, device| {
        if !device.is_current(epoch) {
            return Err(device.misuse());
        }
        set_current(Some((ordinal, epoch)));
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxGetCurrent(place: *mut *mut c_void) -> Status {
    let (ordinal, context) = match current_context() {
        Some((ordinal, context)) => (ordinal as c_int, context),
        None => (0, 0),
    };
    call(ordinal, "cuCtxGetCurrent", UNKNOWN, |_, _| {
        // SAFETY: the caller's place is valid.
        unsafe { put(place, context as *mut c_void) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> Status {
    current("cuCtxSynchronize", UNKNOWN, |_, device| {
        device.synchronize()
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetLimit(limit: c_uint, value: usize) -> Status {
    current("cuCtxSetLimit", UNKNOWN, |_, device| {
        device.set_limit(limit as usize, value as u64)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxGetLimit(place: *mut usize, limit: c_uint) -> Status {
    current("cuCtxGetLimit", UNKNOWN, |_, device| {
        let value = device.limit(limit as usize).ok_or(INVALID_VALUE)?;
        // SAFETY: the caller's place is valid.
        unsafe { put(place, value as usize) }
    })
}
