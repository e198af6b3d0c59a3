//! The kernels that are compiled into the library, through the C interface of their engine.

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

// SAFETY: what a kernel points to is constant.
unsafe impl Send for Kernel {}
// SAFETY: as above.
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
        // SAFETY: the engine gives that many kernels, which stay for ever.
        let kernels: &'static [HostKernel] =
            unsafe { std::slice::from_raw_parts(first, count as usize) };
        let named = |kernel: &&HostKernel| {
            // SAFETY: the engine's names end with a zero.
            unsafe { CStr::from_ptr(kernel.name) }.to_bytes() == name.as_bytes()
        };
        kernels.iter().find(named).map(Kernel)
    }

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        // SAFETY: the engine's names end with a zero, and stay for ever.
        unsafe { CStr::from_ptr(self.0.name) }
            .to_str()
            .unwrap_or("a kernel")
    }

    /// The bytes of each parameter.
    pub fn parameter_bytes(self) -> &'static [u32] {
        if self.0.parameter_count == 0 {
            return &[];
        }
        // SAFETY: the engine gives that many sizes, which stay for ever.
        unsafe {
            std::slice::from_raw_parts(self.0.parameter_bytes, self.0.parameter_count as usize)
        }
    }

    /// Bytes of shared memory that every block has.
    pub fn static_shared_bytes(self) -> u64 {
        self.0.static_shared_bytes
    }

    /// Runs the kernel in this thread.
    ///
    /// # Errors
    /// With the engine's message, if threads wait for each other in vain.
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
        // SAFETY: there are as many parameters as the kernel has, each as large as it says: the
        // device copied them so. What they point to is the test's affair: a kernel that leaves the
        // device's memory is what the library is there to catch.
        let message = unsafe { host_kernel_launch(self.0, &launch, pointers.as_ptr()) };
        if message.is_null() {
            return Ok(());
        }
        // SAFETY: the engine's messages end with a zero.
        let message = unsafe { CStr::from_ptr(message) };
        Err(message.to_string_lossy().into_owned())
    }
}

/// Bytes of device memory that kernels have read, by their own count.
pub fn bytes_read() -> u64 {
    // SAFETY: takes nothing.
    unsafe { host_kernel_bytes_read() }
}

/// Bytes of device memory that kernels have written, by their own count.
pub fn bytes_written() -> u64 {
    // SAFETY: takes nothing.
    unsafe { host_kernel_bytes_written() }
}

/// Starts the kernels' own counts again.
pub fn reset_counters() {
    // SAFETY: takes nothing.
    unsafe { host_kernel_counters_reset() };
}
