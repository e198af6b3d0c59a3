//! NVIDIA's management library (NVML), which reports free device memory before this program has a
//! context on the device.
//!
//! NVML is installed with every driver. If it is missing, or does not find the device (a MIG slice
//! has another address), the context's size stays unknown.

use libloading::Library;
use std::ffi::{CStr, c_char, c_uint, c_ulonglong, c_void};

/// File name of the library.
const NAME: &str = if cfg!(windows) {
    "nvml.dll"
} else {
    "libnvidia-ml.so.1"
};

type Status = c_uint;

/// `nvmlMemory_t`.
#[repr(C)]
#[derive(Default)]
struct MemoryInfo {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// NVML, initialised.
pub(super) struct Management {
    library: Library,
    device: *mut c_void,
}

impl Management {
    /// Initialises NVML and looks up the device with this PCI address.
    pub(super) fn find(address: &CStr) -> Option<Management> {
        // SAFETY: loading runs the library's initialisers, as linking to it would.
        let library = unsafe { Library::new(NAME) }.ok()?;
        // SAFETY: the types are those of the library's published header.
        let start = unsafe { library.get::<unsafe extern "C" fn() -> Status>(b"nvmlInit_v2") };
        // SAFETY: the function takes no arguments.
        let started = unsafe { start.ok()?() };
        if started != 0 {
            return None;
        }
        let mut management = Management {
            library,
            device: std::ptr::null_mut(),
        };
        type Find = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> Status;
        // SAFETY: the types are those of the library's published header.
        let find = unsafe { (management.library).get::<Find>(b"nvmlDeviceGetHandleByPciBusId_v2") };
        let find = *find.ok()?;
        // SAFETY: the text ends with a zero, and the pointer is valid for the call.
        let status = unsafe { find(address.as_ptr(), &mut management.device) };
        (status == 0).then_some(management)
    }

    /// Free bytes of the device.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        type Memory = unsafe extern "C" fn(*mut c_void, *mut MemoryInfo) -> Status;
        // SAFETY: the types are those of the library's published header.
        let memory = unsafe { (self.library).get::<Memory>(b"nvmlDeviceGetMemoryInfo") }.ok()?;
        let mut info = MemoryInfo::default();
        // SAFETY: the handle came from the library, which is initialised; the pointer is valid for
        // the call.
        let status = unsafe { memory(self.device, &mut info) };
        (status == 0).then_some(info.free)
    }
}

impl Drop for Management {
    fn drop(&mut self) {
        // SAFETY: the types are those of the library's published header.
        let stop =
            unsafe { (self.library).get::<unsafe extern "C" fn() -> Status>(b"nvmlShutdown") };
        if let Ok(stop) = stop {
            // SAFETY: this value called the matching initialisation; NVML counts its users.
            unsafe { stop() };
        }
    }
}
