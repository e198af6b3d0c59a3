//! Functions on queues (streams), events and copies.

use super::put;
use crate::device::current;
use crate::status::{OUT_OF_MEMORY, Status, UNKNOWN};
use std::ffi::{c_uint, c_void};

/// `CU_STREAM_NON_BLOCKING`.
const NON_BLOCKING: c_uint = 1;

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreate(place: *mut *mut c_void, flags: c_uint) -> Status {
    current("cuStreamCreate", OUT_OF_MEMORY, |_, device| {
        let handle = device.create_queue(flags & NON_BLOCKING == 0);
        // SAFETY: the caller's place is valid.
        unsafe { put(place, handle as *mut c_void) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(queue: *mut c_void) -> Status {
    current("cuStreamDestroy", UNKNOWN, |_, device| {
        device.destroy_queue(queue as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(queue: *mut c_void) -> Status {
    current("cuStreamSynchronize", UNKNOWN, |_, device| {
        device.synchronize_queue(queue as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamQuery(queue: *mut c_void) -> Status {
    current("cuStreamQuery", UNKNOWN, |_, device| {
        device.query_queue(queue as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(queue: *mut c_void, event: *mut c_void, _: c_uint) -> Status {
    current("cuStreamWaitEvent", UNKNOWN, |_, device| {
        device.wait_for_event(queue as u64, event as u64)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventCreate(place: *mut *mut c_void, _flags: c_uint) -> Status {
    current("cuEventCreate", OUT_OF_MEMORY, |_, device| {
        let handle = device.create_event();
        // SAFETY: the caller's place is valid.
        unsafe { put(place, handle as *mut c_void) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: *mut c_void) -> Status {
    current("cuEventDestroy", UNKNOWN, |_, device| {
        device.destroy_event(event as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: *mut c_void, queue: *mut c_void) -> Status {
    current("cuEventRecord", UNKNOWN, |_, device| {
        device.record_event(event as u64, queue as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(event: *mut c_void) -> Status {
    current("cuEventQuery", UNKNOWN, |_, device| {
        device.query_event(event as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: *mut c_void) -> Status {
    current("cuEventSynchronize", UNKNOWN, |_, device| {
        device.synchronize_event(event as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) -> Status {
    current("cuMemcpyHtoD", UNKNOWN, |_, device| {
        device.write(to, from as u64, bytes as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) -> Status {
    current("cuMemcpyDtoH", UNKNOWN, |_, device| {
        device.read(to as u64, from, bytes as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoDAsync_v2(
    to: u64,
    from: *const c_void,
    bytes: usize,
    queue: *mut c_void,
) -> Status {
    current("cuMemcpyHtoDAsync", UNKNOWN, |_, device| {
        device.write_on(queue as u64, to, from as u64, bytes as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: u64,
    bytes: usize,
    queue: *mut c_void,
) -> Status {
    current("cuMemcpyDtoHAsync", UNKNOWN, |_, device| {
        device.read_on(queue as u64, to as u64, from, bytes as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, queue: *mut c_void) -> Status {
    current("cuMemcpyDtoDAsync", UNKNOWN, |_, device| {
        device.copy_on(queue as u64, to, from, bytes as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(to: u64, byte: u8, bytes: usize, queue: *mut c_void) -> Status {
    current("cuMemsetD8Async", UNKNOWN, |_, device| {
        device.fill_on(queue as u64, to, byte, bytes as u64)
    })
}
