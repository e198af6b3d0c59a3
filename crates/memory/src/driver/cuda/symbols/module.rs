//! Modules, functions, launches.

use super::queue::Stream;
use super::{CallFailure, INVALID_VALUE, Library, need};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

/// `CU_JIT_ERROR_LOG_BUFFER` and its size.
const ERROR_LOG: c_uint = 5;
const ERROR_LOG_BYTES: c_uint = 6;
/// Bytes of the driver compiler's error log.
const LOG_BYTES: usize = 4096;
/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
const DYNAMIC_SHARED_MAX: c_uint = 8;
/// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`.
const PROGRAMMATIC_SERIALIZATION: c_uint = 6;

/// `CUlaunchConfig`.
#[repr(C)]
struct LaunchConfiguration {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared_bytes: c_uint,
    stream: *mut c_void,
    attributes: *const LaunchAttribute,
    attribute_count: c_uint,
}

/// `CUlaunchAttribute`: the value is a union of 64 bytes.
#[repr(C)]
struct LaunchAttribute {
    id: c_uint,
    padding: c_uint,
    value: [u64; 8],
}

impl LaunchAttribute {
    /// Lets a kernel begin while the one before it is at work.
    const EARLY: LaunchAttribute = {
        let mut value = [0; 8];
        // The first member that counts is a 32-bit number; all platforms of CUDA are little-endian.
        value[0] = 1;
        LaunchAttribute {
            id: PROGRAMMATIC_SERIALIZATION,
            padding: 0,
            value,
        }
    };
}

handles! {
    /// Loaded code.
    Module;
    /// A kernel of a module.
    Function;
}

functions! {
    /// Modules and launches.
    struct Modules {
        load = "cuModuleLoadDataEx": fn(*mut *mut c_void, *const c_void, c_uint, *const c_uint, *const *mut c_void);
        unload = "cuModuleUnload": fn(*mut c_void);
        function = "cuModuleGetFunction": fn(*mut *mut c_void, *mut c_void, *const c_char);
        set_attribute = "cuFuncSetAttribute": fn(*mut c_void, c_uint, c_int);
        launch = "cuLaunchKernel": fn(*mut c_void, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, *mut c_void, *const *const c_void, *const *mut c_void);
    }
}

functions! {
    /// Launches with attributes.
    struct AttributedLaunches {
        launch = "cuLaunchKernelEx": fn(*const LaunchConfiguration, *mut c_void, *const *const c_void, *const *mut c_void);
    }
}

functions! {
    /// Queries of a kernel's parameters.
    struct Parameters {
        parameter = "cuFuncGetParamInfo": fn(*mut c_void, usize, *mut usize, *mut usize);
    }
}

/// Grid, block and dynamic shared memory.
#[derive(Clone, Copy, Debug)]
pub(in crate::driver::cuda) struct Extent {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
}

impl Library {
    /// Whether the module functions are present; otherwise the missing one.
    pub(in crate::driver::cuda) fn has_modules(&self) -> Result<(), &'static str> {
        self.modules.map(|_| ())
    }

    /// Loads an image; PTX must end with a zero byte. On failure the message includes the driver
    /// compiler's log.
    ///
    /// # Safety
    /// The image must be complete: the library is not told its length.
    pub(in crate::driver::cuda) unsafe fn load_module(
        &self,
        image: &[u8],
    ) -> Result<Module, CallFailure> {
        let mut module = std::ptr::null_mut();
        let mut log = [0_u8; LOG_BYTES];
        let options = [ERROR_LOG, ERROR_LOG_BYTES];
        // The size option is passed by value in a pointer's place.
        let values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), (LOG_BYTES - 1) as *mut c_void];
        let modules = need(self.modules)?;
        // SAFETY: all pointers are valid for the call, and the counts match the arrays. The caller
        // vouches for the image.
        let status = unsafe {
            (modules.load)(
                &mut module,
                image.as_ptr().cast(),
                options.len() as c_uint,
                options.as_ptr(),
                values.as_ptr(),
            )
        };
        self.check("cuModuleLoadDataEx", status)
            .map(|()| Module(module))
            .map_err(|mut failure| {
                let said = CStr::from_bytes_until_nul(&log).unwrap_or_default();
                let said = said.to_string_lossy();
                // The compiler writes lines, and aligns them.
                let words: Vec<&str> = said.split_whitespace().collect();
                if !words.is_empty() {
                    failure.message = format!("{}: {}", failure.message, words.join(" "));
                }
                failure
            })
    }

    pub(in crate::driver::cuda) fn unload_module(&self, module: Module) -> Result<(), CallFailure> {
        // SAFETY: the handle came from the library, and its owner releases it.
        let status = unsafe { (need(self.modules)?.unload)(module.0) };
        self.check("cuModuleUnload", status)
    }

    pub(in crate::driver::cuda) fn function(
        &self,
        module: Module,
        name: &CStr,
    ) -> Result<Function, CallFailure> {
        let mut function = std::ptr::null_mut();
        let modules = need(self.modules)?;
        // SAFETY: the handle came from the library, and the pointers are valid for the call.
        let status = unsafe { (modules.function)(&mut function, module.0, name.as_ptr()) };
        self.check("cuModuleGetFunction", status)
            .map(|()| Function(function))
    }

    /// Sizes of a kernel's parameters, in bytes, of which `most` + 1 are asked for; `None` if the
    /// driver cannot report them.
    pub(in crate::driver::cuda) fn all_parameter_bytes(
        &self,
        function: Function,
        most: usize,
    ) -> Result<Option<Vec<usize>>, CallFailure> {
        let Ok(parameters) = self.parameters else {
            return Ok(None);
        };
        let mut sizes = Vec::new();
        for index in 0..=most {
            let (mut offset, mut bytes) = (0, 0);
            // SAFETY: the handle came from the library, and the pointers are valid for the call.
            let status =
                unsafe { (parameters.parameter)(function.0, index, &mut offset, &mut bytes) };
            match self.check("cuFuncGetParamInfo", status) {
                Ok(()) => sizes.push(bytes),
                // Past the last one.
                Err(failure) if failure.status == INVALID_VALUE => break,
                Err(failure) => return Err(failure),
            }
        }
        Ok(Some(sizes))
    }

    /// Sets a kernel's limit of dynamic shared memory.
    pub(in crate::driver::cuda) fn allow_shared(
        &self,
        function: Function,
        bytes: u32,
    ) -> Result<(), CallFailure> {
        let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
        // SAFETY: the handle came from the library.
        let status =
            unsafe { (need(self.modules)?.set_attribute)(function.0, DYNAMIC_SHARED_MAX, bytes) };
        self.check("cuFuncSetAttribute", status)
    }

    /// Whether kernels can begin early, in graphs as well: as the documentation has it since CUDA
    /// 12.3, taken here from 12.4 on, which is when parameters can be queried.
    pub(in crate::driver::cuda) fn has_early_launches(&self) -> bool {
        self.attributed.is_ok() && self.parameters.is_ok()
    }

    /// Launches a kernel on a queue; the parameters are copied. An `early` one may begin while the
    /// kernel before it on the queue is at work ([`Library::has_early_launches`]).
    ///
    /// # Safety
    /// The number and sizes of the parameters must match the kernel's. Memory that they point to
    /// must stay accessible to the kernel until the queue is past the launch. An early kernel must
    /// wait for the one before it itself before it accesses memory that the other writes or reads.
    pub(in crate::driver::cuda) unsafe fn launch(
        &self,
        stream: Stream,
        function: Function,
        extent: &Extent,
        parameters: &[*const c_void],
        early: bool,
    ) -> Result<(), CallFailure> {
        if early {
            let configuration = LaunchConfiguration {
                grid: extent.grid,
                block: extent.block,
                shared_bytes: extent.shared_bytes,
                stream: stream.pointer(),
                attributes: &LaunchAttribute::EARLY,
                attribute_count: 1,
            };
            let launch = need(self.attributed)?.launch;
            // SAFETY: the handles came from the library, and the configuration is valid for the
            // call; the caller vouches for the parameters and the kernel.
            let status = unsafe {
                launch(
                    &configuration,
                    function.0,
                    parameters.as_ptr(),
                    std::ptr::null(),
                )
            };
            return self.check("cuLaunchKernelEx", status);
        }
        let ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]) = (extent.grid, extent.block);
        let modules = need(self.modules)?;
        // SAFETY: the handles came from the library; the caller vouches for the parameters.
        let status = unsafe {
            (modules.launch)(
                function.0,
                grid_x,
                grid_y,
                grid_z,
                block_x,
                block_y,
                block_z,
                extent.shared_bytes,
                stream.pointer(),
                parameters.as_ptr(),
                std::ptr::null(),
            )
        };
        self.check("cuLaunchKernel", status)
    }
}
