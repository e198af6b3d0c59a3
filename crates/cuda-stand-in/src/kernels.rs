//! Kernels compiled into the library, through the C interface of their engine.

use crate::settings::Order;
use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};

/// `HostKernel` of the engine's header.
#[repr(C)]
#[derive(Debug)]
struct HostKernel {
    name: *const c_char,
    parameter_count: c_uint,
    parameter_bytes: *const c_uint,
    static_shared_bytes: c_ulonglong,
}

/// `HostLaunch` of the engine's header.
#[repr(C)]
struct HostLaunch {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared_bytes: c_ulonglong,
    order: c_int,
    seed: c_ulonglong,
}

unsafe extern "C" {
    fn host_kernels(count: *mut c_uint) -> *const HostKernel;
    fn host_kernel_launch(
        kernel: *const HostKernel,
        launch: *const HostLaunch,
        parameters: *const *mut c_void,
    ) -> *const c_char;
    fn host_kernel_bytes_read() -> c_ulonglong;
    fn host_kernel_bytes_written() -> c_ulonglong;
    fn host_kernel_counters_reset();
}

/// A kernel that is compiled into the library.
#[derive(Clone, Copy, Debug)]
pub struct Kernel(&'static HostKernel);

// SAFETY: everything that a kernel points to is immutable.
unsafe impl Send for Kernel {}
// SAFETY: threads that share a kernel only read what it points to.
unsafe impl Sync for Kernel {}

/// The shape of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y and z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u64,
}

impl Kernel {
    /// The kernel of this name.
    pub fn find(name: &str) -> Option<Kernel> {
        let mut count = 0;
        // SAFETY: the pointer is valid for the call.
        let first = unsafe { host_kernels(&mut count) };
        if first.is_null() {
            return None;
        }
        // SAFETY: the engine returns that many kernels; they are never freed.
        let kernels: &'static [HostKernel] =
            unsafe { std::slice::from_raw_parts(first, count as usize) };
        let named = |kernel: &&HostKernel| {
            // SAFETY: the engine's names are zero-terminated.
            unsafe { CStr::from_ptr(kernel.name) }.to_bytes() == name.as_bytes()
        };
        kernels.iter().find(named).map(Kernel)
    }

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        // SAFETY: the engine's names are zero-terminated and never freed.
        unsafe { CStr::from_ptr(self.0.name) }
            .to_str()
            .unwrap_or("a kernel")
    }

    /// Size of each parameter, in bytes.
    pub fn parameter_bytes(self) -> &'static [u32] {
        if self.0.parameter_count == 0 {
            return &[];
        }
        // SAFETY: the engine returns that many sizes; they are never freed.
        unsafe {
            std::slice::from_raw_parts(self.0.parameter_bytes, self.0.parameter_count as usize)
        }
    }

    /// Static shared memory of each block, in bytes.
    pub fn static_shared_bytes(self) -> u64 {
        self.0.static_shared_bytes
    }

    /// Runs the kernel on this thread.
    ///
    /// # Errors
    /// The engine's message, if threads are deadlocked.
    pub fn run(self, shape: &Shape, order: Order, parameters: &[Box<[u64]>]) -> Result<(), String> {
        let (order, seed) = match order {
            Order::Natural => (0, 0),
            Order::Reverse => (1, 0),
            Order::Shuffled(seed) => (2, seed),
        };
        let launch = HostLaunch {
            grid: shape.grid,
            block: shape.block,
            shared_bytes: shape.shared_bytes,
            order,
            seed,
        };
        let pointers: Vec<*mut c_void> = (parameters.iter())
            .map(|words| words.as_ptr().cast_mut().cast())
            .collect();
        // SAFETY: the device copied the parameters so that their number and sizes match the
        // kernel's. Memory that they point to is the test's responsibility: the library exists to
        // catch kernels that leave the device's memory.
        let message = unsafe { host_kernel_launch(self.0, &launch, pointers.as_ptr()) };
        if message.is_null() {
            return Ok(());
        }
        // SAFETY: the engine's messages are zero-terminated.
        let message = unsafe { CStr::from_ptr(message) };
        Err(message.to_string_lossy().into_owned())
    }
}

/// Bytes of device memory read by kernels, as the kernels count them.
pub fn bytes_read() -> u64 {
    // SAFETY: the function takes no arguments.
    unsafe { host_kernel_bytes_read() }
}

/// Bytes of device memory written by kernels, as the kernels count them.
pub fn bytes_written() -> u64 {
    // SAFETY: the function takes no arguments.
    unsafe { host_kernel_bytes_written() }
}

/// Resets the kernels' counters.
pub fn reset_counters() {
    // SAFETY: the function takes no arguments.
    unsafe { host_kernel_counters_reset() };
}
