//! A stand-in for NVIDIA's driver library: devices without bytes that account for memory and refuse what the real one would.
//!
//! Compiled by the tests into a shared library of the driver's name. Sizes, granularity, double maps, use after unmap and capacity are enforced; each
//! refusal of an impossible call counts as a misuse. `--cfg without_ranges` leaves the functions for address ranges out, as drivers before 10.2 do.
//! Addresses are given out as the simulated driver gives them out, so that both lead a pool to the same blocks.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

type Status = c_uint;

const SUCCESS: Status = 0;
const INVALID_VALUE: Status = 1;
const OUT_OF_MEMORY: Status = 2;
const INVALID_DEVICE: Status = 101;
const INVALID_CONTEXT: Status = 201;
const UNKNOWN: Status = 999;

const GRANULARITY: u64 = 2 << 20;
const TOP: u64 = 0x7f00_0000_0000;
/// Addresses of each device.
const DEVICE_SPAN: u64 = 1 << 42;
const DEVICE_COUNT: usize = 16;

struct Device {
    capacity: u64,
    used: u64,
    ranges_supported: bool,
    retained: u64,
    calls: u64,
    failing: Option<u64>,
    misuses: u64,
    /// Start → end of everything that has addresses.
    occupied: BTreeMap<u64, u64>,
    pieces: BTreeMap<u64, u64>,
    ranges: BTreeMap<u64, u64>,
    /// Address → bytes and handle.
    maps: BTreeMap<u64, (u64, u64)>,
    /// Handle → bytes, whether it is released, maps.
    physical: BTreeMap<u64, (u64, bool, u64)>,
    next_handle: u64,
}

impl Device {
    const fn new(capacity: u64) -> Device {
        Device {
            capacity,
            used: 0,
            ranges_supported: true,
            retained: 0,
            calls: 0,
            failing: None,
            misuses: 0,
            occupied: BTreeMap::new(),
            pieces: BTreeMap::new(),
            ranges: BTreeMap::new(),
            maps: BTreeMap::new(),
            physical: BTreeMap::new(),
            next_handle: 1,
        }
    }

    fn misuse(&mut self) -> Status {
        self.misuses += 1;
        INVALID_VALUE
    }

    fn take(&mut self, bytes: u64) -> bool {
        let fits = bytes <= self.capacity.saturating_sub(self.used);
        if fits {
            self.used += bytes;
        }
        fits
    }

    fn place(&mut self, ordinal: usize, bytes: u64, headroom: u64) -> Option<u64> {
        let top = TOP - ordinal as u64 * DEVICE_SPAN;
        let placed = bytes.checked_add(headroom)?;
        let wanted = placed.checked_add(GRANULARITY)?;
        let mut gap_end = top;
        for (&start, &end) in self.occupied.iter().rev() {
            if gap_end - end >= wanted {
                break;
            }
            gap_end = start;
        }
        let low = gap_end.checked_sub(wanted)?;
        if low <= top - DEVICE_SPAN {
            return None;
        }
        let address = gap_end - placed;
        self.occupied.insert(address, address + bytes);
        Some(address)
    }

    fn forget_if_unused(&mut self, handle: u64) {
        if let Some(&(bytes, true, 0)) = self.physical.get(&handle) {
            self.physical.remove(&handle);
            self.used -= bytes;
        }
    }
}

static DEVICES: Mutex<Vec<Device>> = Mutex::new(Vec::new());

thread_local! {
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
}

fn devices() -> MutexGuard<'static, Vec<Device>> {
    let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    if devices.is_empty() {
        let capacity = std::env::var("CUDA_STAND_IN_MEMORY")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(24564 << 20);
        devices.extend((0..DEVICE_COUNT).map(|_| Device::new(capacity)));
    }
    devices
}

/// Counts a call to device `ordinal` and does it, unless it is the one to fail.
fn call(ordinal: c_int, failed: Status, act: impl FnOnce(usize, &mut Device) -> Status) -> Status {
    let ordinal = ordinal as usize;
    let mut devices = devices();
    let Some(device) = devices.get_mut(ordinal) else {
        return INVALID_DEVICE;
    };
    let number = device.calls;
    device.calls += 1;
    if device.failing == Some(number) {
        device.failing = None;
        return failed;
    }
    act(ordinal, device)
}

/// The same for the device of this thread's context.
fn call_current(failed: Status, act: impl FnOnce(usize, &mut Device) -> Status) -> Status {
    match CURRENT.get() {
        Some(ordinal) => call(ordinal as c_int, failed, act),
        None => INVALID_CONTEXT,
    }
}

// What tests do to the device.

/// Makes a device fresh.
#[unsafe(no_mangle)]
pub extern "C" fn stand_in_configure(ordinal: c_int, capacity: u64, ranges_supported: c_int) {
    let mut device = Device::new(capacity);
    device.ranges_supported = ranges_supported != 0;
    devices()[ordinal as usize] = device;
}

/// Lets a coming call fail: 0 is the next one.
#[unsafe(no_mangle)]
pub extern "C" fn stand_in_fail_call(ordinal: c_int, calls_ahead: u64) {
    let device = &mut devices()[ordinal as usize];
    device.failing = Some(device.calls + calls_ahead);
}

/// Lets no call fail; whether one was still to come.
#[unsafe(no_mangle)]
pub extern "C" fn stand_in_fail_none(ordinal: c_int) -> c_int {
    devices()[ordinal as usize].failing.take().is_some() as c_int
}

/// Calls that no library could have obeyed.
#[unsafe(no_mangle)]
pub extern "C" fn stand_in_misuses(ordinal: c_int) -> u64 {
    devices()[ordinal as usize].misuses
}

/// Everything that is still held: bytes, pieces, ranges, maps, handles, contexts.
#[unsafe(no_mangle)]
pub extern "C" fn stand_in_held(ordinal: c_int) -> u64 {
    let device = &devices()[ordinal as usize];
    let counts = [
        device.pieces.len(),
        device.ranges.len(),
        device.maps.len(),
        device.physical.len(),
    ];
    device.used + device.retained + counts.iter().sum::<usize>() as u64
}

// The driver's own functions.

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_flags: c_uint) -> Status {
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> Status {
    unsafe { *version = 12040 };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(status: Status, name: *mut *const c_char) -> Status {
    let text = match status {
        INVALID_VALUE => c"CUDA_ERROR_INVALID_VALUE",
        OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        INVALID_DEVICE => c"CUDA_ERROR_INVALID_DEVICE",
        INVALID_CONTEXT => c"CUDA_ERROR_INVALID_CONTEXT",
        UNKNOWN => c"CUDA_ERROR_UNKNOWN",
        _ => return INVALID_VALUE,
    };
    unsafe { *name = text.as_ptr() };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> Status {
    unsafe { *count = devices().len() as c_int };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> Status {
    call(ordinal, UNKNOWN, |_, _| {
        unsafe { *device = ordinal };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, len: c_int, device: c_int) -> Status {
    call(device, UNKNOWN, |_, _| {
        let text = b"Stand-in GPU\0";
        let count = text.len().min(len as usize);
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), name, count) };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(
    value: *mut c_int,
    attribute: c_int,
    device: c_int,
) -> Status {
    call(device, UNKNOWN, |_, device| {
        let answer = attribute == 102 && device.ranges_supported;
        unsafe { *value = answer as c_int };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) -> Status {
    call(device, UNKNOWN, |_, device| {
        unsafe { *bytes = device.capacity as usize };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(
    context: *mut *mut c_void,
    device: c_int,
) -> Status {
    call(device, OUT_OF_MEMORY, |ordinal, device| {
        device.retained += 1;
        unsafe { *context = (ordinal + 1) as *mut c_void };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> Status {
    call(device, UNKNOWN, |_, device| {
        if device.retained == 0 {
            return device.misuse();
        }
        device.retained -= 1;
        SUCCESS
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: *mut c_void) -> Status {
    match (context as usize).checked_sub(1) {
        Some(ordinal) => call(ordinal as c_int, INVALID_CONTEXT, |ordinal, device| {
            if device.retained == 0 {
                return device.misuse();
            }
            CURRENT.set(Some(ordinal));
            SUCCESS
        }),
        None => {
            CURRENT.set(None);
            SUCCESS
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> Status {
    call_current(UNKNOWN, |_, _| SUCCESS)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Status {
    call_current(UNKNOWN, |_, device| {
        unsafe {
            *free = (device.capacity - device.used) as usize;
            *total = device.capacity as usize;
        }
        SUCCESS
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> Status {
    call_current(OUT_OF_MEMORY, |ordinal, device| {
        if bytes == 0 {
            return device.misuse();
        }
        let Some(whole) = (bytes as u64).checked_next_multiple_of(GRANULARITY) else {
            return OUT_OF_MEMORY;
        };
        if !device.take(whole) {
            return OUT_OF_MEMORY;
        }
        let Some(place) = device.place(ordinal, whole, GRANULARITY) else {
            device.used -= whole;
            return OUT_OF_MEMORY;
        };
        device.pieces.insert(place, whole);
        unsafe { *address = place };
        SUCCESS
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> Status {
    call_current(UNKNOWN, |_, device| {
        let Some(bytes) = device.pieces.remove(&address) else {
            return device.misuse();
        };
        device.used -= bytes;
        device.occupied.remove(&address);
        SUCCESS
    })
}

#[cfg(not(without_ranges))]
mod ranges {
    use super::*;

    #[repr(C)]
    pub struct Location {
        kind: c_uint,
        id: c_int,
    }

    #[repr(C)]
    pub struct Properties {
        kind: c_uint,
        handle_types: c_uint,
        location: Location,
    }

    #[repr(C)]
    pub struct Access {
        location: Location,
        flags: c_uint,
    }

    const PINNED: c_uint = 1;
    const ON_DEVICE: c_uint = 1;
    const READ_WRITE: c_uint = 3;

    fn good(properties: &Properties, ordinal: usize) -> bool {
        properties.kind == PINNED
            && properties.handle_types == 0
            && properties.location.kind == ON_DEVICE
            && properties.location.id == ordinal as c_int
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn cuMemGetAllocationGranularity(
        bytes: *mut usize,
        properties: *const Properties,
        _option: c_uint,
    ) -> Status {
        call_current(UNKNOWN, |ordinal, device| {
            if !good(unsafe { &*properties }, ordinal) {
                return device.misuse();
            }
            unsafe { *bytes = GRANULARITY as usize };
            SUCCESS
        })
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn cuMemAddressReserve(
        address: *mut u64,
        bytes: usize,
        _alignment: usize,
        _wish: u64,
        _flags: u64,
    ) -> Status {
        call_current(OUT_OF_MEMORY, |ordinal, device| {
            let bytes = bytes as u64;
            if bytes == 0 || !bytes.is_multiple_of(GRANULARITY) {
                return device.misuse();
            }
            let Some(place) = device.place(ordinal, bytes, 0) else {
                return OUT_OF_MEMORY;
            };
            device.ranges.insert(place, bytes);
            unsafe { *address = place };
            SUCCESS
        })
    }

    #[unsafe(no_mangle)]
    pub extern "C" fn cuMemAddressFree(address: u64, bytes: usize) -> Status {
        call_current(UNKNOWN, |_, device| {
            let end = address + bytes as u64;
            let mapped = device.maps.range(address..end).next().is_some();
            if device.ranges.get(&address) != Some(&(bytes as u64)) || mapped {
                return device.misuse();
            }
            device.ranges.remove(&address);
            device.occupied.remove(&address);
            SUCCESS
        })
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn cuMemCreate(
        handle: *mut u64,
        bytes: usize,
        properties: *const Properties,
        _flags: u64,
    ) -> Status {
        call_current(OUT_OF_MEMORY, |ordinal, device| {
            let bytes = bytes as u64;
            let good = good(unsafe { &*properties }, ordinal);
            if !good || bytes == 0 || !bytes.is_multiple_of(GRANULARITY) {
                return device.misuse();
            }
            if !device.take(bytes) {
                return OUT_OF_MEMORY;
            }
            let number = device.next_handle;
            device.next_handle += 1;
            device.physical.insert(number, (bytes, false, 0));
            unsafe { *handle = number };
            SUCCESS
        })
    }

    #[unsafe(no_mangle)]
    pub extern "C" fn cuMemRelease(handle: u64) -> Status {
        call_current(UNKNOWN, |_, device| {
            match device.physical.get_mut(&handle) {
                Some((_, released, _)) if !*released => *released = true,
                _ => return device.misuse(),
            }
            device.forget_if_unused(handle);
            SUCCESS
        })
    }

    #[unsafe(no_mangle)]
    pub extern "C" fn cuMemMap(
        address: u64,
        bytes: usize,
        offset: usize,
        handle: u64,
        _flags: u64,
    ) -> Status {
        call_current(UNKNOWN, |_, device| {
            let (bytes, end) = (bytes as u64, address + bytes as u64);
            let reserved = (device.ranges.range(..=address).next_back())
                .is_some_and(|(start, length)| end <= start + length);
            let before = device.maps.range(..end).next_back();
            let overlaps = before.is_some_and(|(start, (length, _))| start + length > address);
            let owned = device
                .physical
                .get(&handle)
                .is_some_and(|&(length, released, _)| length == bytes && !released);
            let aligned = address.is_multiple_of(GRANULARITY) && offset == 0;
            if !reserved || overlaps || !owned || !aligned {
                return device.misuse();
            }
            device.maps.insert(address, (bytes, handle));
            if let Some((_, _, maps)) = device.physical.get_mut(&handle) {
                *maps += 1;
            }
            SUCCESS
        })
    }

    #[unsafe(no_mangle)]
    pub extern "C" fn cuMemUnmap(address: u64, bytes: usize) -> Status {
        call_current(UNKNOWN, |_, device| {
            let Some(&(length, handle)) = device.maps.get(&address) else {
                return device.misuse();
            };
            if length != bytes as u64 {
                return device.misuse();
            }
            device.maps.remove(&address);
            if let Some((_, _, maps)) = device.physical.get_mut(&handle) {
                *maps -= 1;
            }
            device.forget_if_unused(handle);
            SUCCESS
        })
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn cuMemSetAccess(
        address: u64,
        bytes: usize,
        access: *const Access,
        count: usize,
    ) -> Status {
        call_current(UNKNOWN, |ordinal, device| {
            let access = unsafe { &*access };
            let end = address + bytes as u64;
            let maps = device.maps.range(address..end);
            let mapped: u64 = maps.map(|(_, (length, _))| length).sum();
            let good = count == 1
                && access.flags == READ_WRITE
                && access.location.kind == ON_DEVICE
                && access.location.id == ordinal as c_int;
            if !good || mapped != bytes as u64 {
                return device.misuse();
            }
            SUCCESS
        })
    }
}
