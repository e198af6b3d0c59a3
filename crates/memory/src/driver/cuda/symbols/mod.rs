//! The driver library's functions, looked up by name at run time. Only this module calls them.
//!
//! The library validates device addresses, sizes and ordinals itself and returns errors. The
//! methods are therefore safe as long as contexts and handles come from the library; only this
//! module creates them.

use super::error::CudaError;
use cudarc::driver::sys::{CUdeviceptr, is_culib_present};
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Return value of every function: 0 or an error number. It stays a number because a newer library
/// may return values that no list here has.
pub(super) type Status = c_uint;

/// An argument that the function does not take.
const INVALID_VALUE: Status = 1;
/// Too little device memory.
pub(super) const OUT_OF_MEMORY: Status = 2;
/// No symbol of this name.
pub(super) const NOT_FOUND: Status = 500;
/// No device, or none that the program may see.
const NO_DEVICE: Status = 100;
/// The library and the kernel module are of different drivers.
const DRIVER_MISMATCH: Status = 803;
/// Something was called that a capture forbids.
pub(super) const CAPTURE_INVALIDATED: Status = 901;
/// Work is still under way.
const NOT_READY: Status = 600;
/// Sticky errors: every later call in the context returns the same one.
const FAULTS: [Status; 14] = [
    214, // an error in memory that could not be corrected
    220, // the same on a link between devices
    226, // the same, contained
    700, // an illegal address
    702, // a kernel that ran for too long
    709, // a context that is gone
    710, // an assertion of a kernel
    714, // the hardware's stack
    715, // an illegal instruction
    716, // a misaligned address
    717, // an address of the wrong space
    718, // an illegal program counter
    719, // a kernel that failed
    721, // a kernel that another device's failure ended
];
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`.
pub(super) const ATTRIBUTE_MAJOR: c_int = 75;
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR`.
pub(super) const ATTRIBUTE_MINOR: c_int = 76;
/// `CU_DEVICE_ATTRIBUTE_INTEGRATED`: the device shares the CPU's memory.
pub(super) const ATTRIBUTE_INTEGRATED: c_int = 18;
/// `CU_DEVICE_ATTRIBUTE_VIRTUAL_ADDRESS_MANAGEMENT_SUPPORTED`.
pub(super) const ATTRIBUTE_ADDRESS_MANAGEMENT: c_int = 102;

/// Whether a status is a sticky error.
pub(super) fn is_fault(status: Status) -> bool {
    FAULTS.contains(&status)
}

/// What to do where a status means that something else keeps the program from the device.
pub(super) fn remedy(status: Status) -> Option<&'static str> {
    match status {
        // The device is unavailable.
        46 => Some(
            "another program has the card for itself, or its mode allows none: see nvidia-smi -q -d COMPUTE",
        ),
        // The system is not ready.
        802 => Some(
            "the machine's GPUs are not set up yet: wait, or start NVIDIA's fabric manager where they need it",
        ),
        // Forward compatibility is not supported.
        804 => Some(
            "a CUDA compatibility library hides the driver's own and does not suit this card: take it off the library path",
        ),
        // The MPS service.
        805..=809 => Some("NVIDIA's MPS service refused: see its log, or start it again"),
        _ => None,
    }
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallFailure {
    pub call: &'static str,
    pub status: Status,
    pub message: String,
}

/// A device's primary context, retained.
#[derive(Debug)]
pub(super) struct Context {
    pointer: *mut c_void,
    ordinal: c_int,
}

// SAFETY: the library allows a context to be made current in any thread, and counts its users under
// its own lock.
unsafe impl Send for Context {}
// SAFETY: threads that share a context only pass it to the library, which locks what it changes.
unsafe impl Sync for Context {}

/// The library while a context is current in this thread. Dropping it makes the one current again
/// that was before: other libraries in this process, PyTorch among them, take a thread's device
/// from there.
pub(super) struct Entered<'a> {
    library: &'a Library,
    /// The thread's context before, null for none; `None` if nothing was changed.
    before: Option<*mut c_void>,
}

impl Deref for Entered<'_> {
    type Target = Library;

    fn deref(&self) -> &Library {
        self.library
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            let history = &self.library.history;
            history.calls.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the library returned this context for this thread, or it is null for none. A
            // context that is gone by now is refused, which leaves nothing to do.
            let _ = unsafe { (self.library.basic.set_context)(before) };
        }
    }
}

macro_rules! handles {
    ($($(#[$note:meta])* $name:ident;)*) => {
        $(
            $(#[$note])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub(in crate::driver::cuda) struct $name(*mut c_void);

            // SAFETY: the library allows its handles to be used in any thread.
            unsafe impl Send for $name {}
            // SAFETY: a shared handle is only passed to the library, which locks what it changes.
            unsafe impl Sync for $name {}
        )*
    };
}

macro_rules! functions {
    ($(#[$note:meta])* struct $name:ident { $($field:ident = $symbol:literal: fn($($argument:ty),*);)* }) => {
        $(#[$note])*
        #[derive(Clone, Copy)]
        pub(super) struct $name { $($field: unsafe extern "C" fn($($argument),*) -> std::ffi::c_uint,)* }

        impl $name {
            /// Looks up all functions; otherwise returns the first one that the library lacks.
            pub(super) fn load() -> Result<$name, &'static str> {
                Ok($name {
                    $($field: {
                        // SAFETY: the types match the library's published header, which never
                        // changes a symbol's signature; a loaded library is never unloaded.
                        unsafe { cudarc::driver::sys::culib().get($symbol.as_bytes()) }
                            .map(|function| *function)
                            .map_err(|_| $symbol)?
                    },)*
                })
            }
        }
    };
}

functions! {
    /// Functions that every driver library has.
    struct Basic {
        initialize = "cuInit": fn(c_uint);
        driver_version = "cuDriverGetVersion": fn(*mut c_int);
        error_name = "cuGetErrorName": fn(Status, *mut *const c_char);
        device_count = "cuDeviceGetCount": fn(*mut c_int);
        device = "cuDeviceGet": fn(*mut c_int, c_int);
        device_name = "cuDeviceGetName": fn(*mut c_char, c_int, c_int);
        pci_address = "cuDeviceGetPCIBusId": fn(*mut c_char, c_int, c_int);
        device_attribute = "cuDeviceGetAttribute": fn(*mut c_int, c_int, c_int);
        device_total_memory = "cuDeviceTotalMem_v2": fn(*mut usize, c_int);
        retain_context = "cuDevicePrimaryCtxRetain": fn(*mut *mut c_void, c_int);
        release_context = "cuDevicePrimaryCtxRelease_v2": fn(c_int);
        context_state = "cuDevicePrimaryCtxGetState": fn(c_int, *mut c_uint, *mut c_int);
        current_context = "cuCtxGetCurrent": fn(*mut *mut c_void);
        set_context = "cuCtxSetCurrent": fn(*mut c_void);
        set_limit = "cuCtxSetLimit": fn(c_uint, usize);
        limit = "cuCtxGetLimit": fn(*mut usize, c_uint);
        memory = "cuMemGetInfo_v2": fn(*mut usize, *mut usize);
        allocate = "cuMemAlloc_v2": fn(*mut CUdeviceptr, usize);
        free = "cuMemFree_v2": fn(CUdeviceptr);
        write = "cuMemcpyHtoD_v2": fn(CUdeviceptr, *const c_void, usize);
        read = "cuMemcpyDtoH_v2": fn(*mut c_void, CUdeviceptr, usize);
    }
}

mod graph;
mod module;
mod queue;
mod ranges;

pub(super) use graph::{CapturedGraph, ExecutableGraph};
pub(super) use module::{Extent, Function, Module};
pub(super) use queue::{Event, Stream};

/// A group of functions, or the first one that the library lacks.
type Group<T> = Result<T, &'static str>;

/// The loaded library and the call history of one user.
#[derive(Clone)]
pub(super) struct Library {
    basic: Basic,
    ranges: Group<ranges::Ranges>,
    queues: Group<queue::Queues>,
    modules: Group<module::Modules>,
    /// Absent before CUDA 11.8.
    attributed: Group<module::AttributedLaunches>,
    /// Absent before CUDA 12.4.
    parameters: Group<module::Parameters>,
    graphs: Group<graph::Graphs>,
    history: Arc<History>,
}

/// Call history.
#[derive(Debug, Default)]
struct History {
    calls: AtomicU64,
    /// The first sticky error.
    fault: OnceLock<CallFailure>,
}

impl Library {
    /// Loads and starts the driver library.
    pub(super) fn load() -> Result<Library, CudaError> {
        // SAFETY: loading runs the library's initialisers, as linking to it would.
        if !unsafe { is_culib_present() } {
            return Err(CudaError::NoLibrary);
        }
        let basic = Basic::load().map_err(|symbol| CudaError::MissingSymbol { symbol })?;
        let library = Library {
            basic,
            ranges: ranges::Ranges::load(),
            queues: queue::Queues::load(),
            modules: module::Modules::load(),
            attributed: module::AttributedLaunches::load(),
            parameters: module::Parameters::load(),
            graphs: graph::Graphs::load(),
            history: Arc::default(),
        };
        // SAFETY: the function takes no pointer; the flags must be 0.
        let started = library.check("cuInit", unsafe { (basic.initialize)(0) });
        match started.map_err(|failure| (failure.status, failure)) {
            Ok(()) => Ok(library),
            Err((NO_DEVICE, _)) => Err(CudaError::NoneVisible),
            Err((DRIVER_MISMATCH, _)) => Err(CudaError::Mismatch),
            Err((_, failure)) => Err(failure.into()),
        }
    }

    /// Number of calls so far.
    pub(super) fn calls(&self) -> u64 {
        self.history.calls.load(Ordering::Relaxed)
    }

    /// The sticky error, if there was one.
    pub(super) fn fault(&self) -> Option<&CallFailure> {
        self.history.fault.get()
    }

    /// The newest CUDA version that the driver supports: 1000 × major + 10 × minor.
    pub(super) fn driver_version(&self) -> Result<c_int, CallFailure> {
        let mut version = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.driver_version)(&mut version) };
        self.check("cuDriverGetVersion", status).map(|()| version)
    }

    pub(super) fn device_count(&self) -> Result<c_int, CallFailure> {
        let mut count = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.device_count)(&mut count) };
        self.check("cuDeviceGetCount", status).map(|()| count)
    }

    pub(super) fn device(&self, ordinal: c_int) -> Result<c_int, CallFailure> {
        let mut device = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.device)(&mut device, ordinal) };
        self.check("cuDeviceGet", status).map(|()| device)
    }

    pub(super) fn device_name(&self, device: c_int) -> Result<String, CallFailure> {
        let mut name = [0; 256];
        // SAFETY: the library writes no more bytes than the array's length that it is given,
        // including a terminating zero.
        let status =
            unsafe { (self.basic.device_name)(name.as_mut_ptr(), name.len() as c_int - 1, device) };
        self.check("cuDeviceGetName", status)?;
        // SAFETY: the array's last byte was never written and is zero.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) };
        Ok(name.to_string_lossy().into_owned())
    }

    pub(super) fn device_attribute(
        &self,
        attribute: c_int,
        device: c_int,
    ) -> Result<c_int, CallFailure> {
        let mut value = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.device_attribute)(&mut value, attribute, device) };
        self.check("cuDeviceGetAttribute", status).map(|()| value)
    }

    pub(super) fn device_total_memory(&self, device: c_int) -> Result<u64, CallFailure> {
        let mut bytes = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.device_total_memory)(&mut bytes, device) };
        self.check("cuDeviceTotalMem", status)
            .map(|()| bytes as u64)
    }

    /// Retains a device's primary context; [`Library::release_context`] undoes it.
    pub(super) fn retain_context(&self, device: c_int) -> Result<Context, CallFailure> {
        let mut pointer = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.retain_context)(&mut pointer, device) };
        self.check("cuDevicePrimaryCtxRetain", status)
            .map(|()| Context {
                pointer,
                ordinal: device,
            })
    }

    pub(super) fn release_context(&self, context: &Context) -> Result<(), CallFailure> {
        // SAFETY: the function takes no pointer.
        let status = unsafe { (self.basic.release_context)(context.ordinal) };
        self.check("cuDevicePrimaryCtxRelease", status)
    }

    /// A device's PCI address, by which NVIDIA's other libraries identify it; `None` if the driver
    /// does not report one.
    pub(super) fn pci_address(&self, device: c_int) -> Option<CString> {
        let mut text = [0; 32];
        // SAFETY: the library writes no more bytes than the array's length that it is given,
        // including a terminating zero.
        let status =
            unsafe { (self.basic.pci_address)(text.as_mut_ptr(), text.len() as c_int - 1, device) };
        self.check("cuDeviceGetPCIBusId", status).ok()?;
        // SAFETY: the array's last byte was never written and is zero.
        Some(unsafe { CStr::from_ptr(text.as_ptr()) }.to_owned())
    }

    /// Whether any user holds the device's primary context.
    pub(super) fn is_active(&self, device: c_int) -> Result<bool, CallFailure> {
        let (mut flags, mut active) = (0, 0);
        // SAFETY: the pointers are valid for the call.
        let status = unsafe { (self.basic.context_state)(device, &mut flags, &mut active) };
        self.check("cuDevicePrimaryCtxGetState", status)
            .map(|()| active != 0)
    }

    /// Sets a limit of this thread's context. The library rounds it up to the device's minimum.
    pub(super) fn set_limit(&self, limit: c_uint, value: u64) -> Result<(), CallFailure> {
        // SAFETY: the function takes no pointer.
        let status = unsafe { (self.basic.set_limit)(limit, value as usize) };
        self.check("cuCtxSetLimit", status)
    }

    /// A limit of this thread's context.
    pub(super) fn limit(&self, limit: c_uint) -> Result<u64, CallFailure> {
        let mut value = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.limit)(&mut value, limit) };
        self.check("cuCtxGetLimit", status).map(|()| value as u64)
    }

    /// Copies to the device and waits for the copy.
    pub(super) fn write(&self, to: u64, bytes: &[u8]) -> Result<(), CallFailure> {
        // SAFETY: the bytes outlive the call, which returns after the copy; the caller's books hold
        // the addresses.
        let status = unsafe { (self.basic.write)(to, bytes.as_ptr().cast(), bytes.len()) };
        self.check("cuMemcpyHtoD", status)?;
        // The function returns once it has read the bytes, which may still be on their way, and
        // other queues do not wait for the default one.
        match self.has_queues() {
            Ok(()) => self.synchronize_stream(Stream::DEFAULT),
            Err(_) => Ok(()),
        }
    }

    /// Copies from the device and waits for the copy.
    pub(super) fn read(&self, from: u64, bytes: &mut [u8]) -> Result<(), CallFailure> {
        // SAFETY: the bytes are borrowed exclusively until the call returns, which is after the
        // copy; the caller's books hold the addresses.
        let status = unsafe { (self.basic.read)(bytes.as_mut_ptr().cast(), from, bytes.len()) };
        self.check("cuMemcpyDtoH", status)
    }

    /// Makes the context current in this thread, as most functions require, until the result is
    /// dropped.
    pub(super) fn enter(&self, context: &Context) -> Result<Entered<'_>, CallFailure> {
        let mut before = std::ptr::null_mut();
        self.history.calls.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the pointer is valid for the call. If it fails, this thread's context is gone,
        // and there is none to return to.
        let _ = unsafe { (self.basic.current_context)(&mut before) };
        let is_current = before == context.pointer;
        if !is_current {
            self.keep_current(context)?;
        }
        Ok(Entered {
            library: self,
            before: (!is_current).then_some(before),
        })
    }

    /// Makes the context current in this thread from now on.
    pub(super) fn keep_current(&self, context: &Context) -> Result<(), CallFailure> {
        // SAFETY: the context was retained and lives until its owner releases it.
        let status = unsafe { (self.basic.set_context)(context.pointer) };
        self.check("cuCtxSetCurrent", status)
    }

    /// Free and total bytes of the device of this thread's context.
    pub(super) fn memory(&self) -> Result<(u64, u64), CallFailure> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: the pointers are valid for the call.
        let status = unsafe { (self.basic.memory)(&mut free, &mut total) };
        self.check("cuMemGetInfo", status)
            .map(|()| (free as u64, total as u64))
    }

    pub(super) fn allocate(&self, bytes: u64) -> Result<u64, CallFailure> {
        let mut address = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.basic.allocate)(&mut address, bytes as usize) };
        self.check("cuMemAlloc", status).map(|()| address)
    }

    pub(super) fn free(&self, address: u64) -> Result<(), CallFailure> {
        // SAFETY: the library refuses addresses that it did not allocate; by the caller's books, no
        // kernel uses the memory.
        let status = unsafe { (self.basic.free)(address) };
        self.check("cuMemFree", status)
    }

    fn check(&self, call: &'static str, status: Status) -> Result<(), CallFailure> {
        self.history.calls.fetch_add(1, Ordering::Relaxed);
        if status == 0 {
            return Ok(());
        }
        let failure = CallFailure {
            call,
            status,
            message: self.error_text(status),
        };
        if is_fault(status) {
            let _ = self.history.fault.set(failure.clone());
        }
        Err(failure)
    }

    /// Converts a query's status: complete, or still under way.
    fn check_done(&self, call: &'static str, status: Status) -> Result<bool, CallFailure> {
        match status {
            NOT_READY => {
                self.history.calls.fetch_add(1, Ordering::Relaxed);
                Ok(false)
            }
            status => self.check(call, status).map(|()| true),
        }
    }

    fn error_text(&self, status: Status) -> String {
        let mut name = std::ptr::null();
        // SAFETY: the pointer is valid for the call.
        let known = unsafe { (self.basic.error_name)(status, &mut name) };
        if known == 0 && !name.is_null() {
            // SAFETY: the library returns a static, zero-terminated string.
            let name = unsafe { CStr::from_ptr(name) };
            format!("{} ({status})", name.to_string_lossy())
        } else {
            format!("error {status}")
        }
    }
}

/// A group of functions that the caller needs.
fn need<T: Copy>(group: Group<T>) -> Result<T, CallFailure> {
    group.map_err(|symbol| CallFailure {
        call: symbol,
        status: 0,
        message: "the driver's library lacks it; install a newer driver".to_owned(),
    })
}
