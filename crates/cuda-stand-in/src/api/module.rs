//! Functions on modules, kernels and launches.

use super::put;
use crate::device::current;
use crate::executor::report;
use crate::image::Image;
use crate::kernels::Shape;
use crate::status::{
    INVALID_IMAGE, INVALID_PTX, INVALID_VALUE, NOT_SUPPORTED, OUT_OF_MEMORY, Status, UNKNOWN,
};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

/// `CU_JIT_ERROR_LOG_BUFFER` and its size.
const ERROR_LOG: c_uint = 5;
const ERROR_LOG_BYTES: c_uint = 6;
/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
const DYNAMIC_SHARED_MAX: c_uint = 8;
/// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`, and the first generation that has it.
const PROGRAMMATIC_SERIALIZATION: c_uint = 6;
const FIRST_WITH_EARLY_KERNELS: u32 = 90;

/// `CUlaunchConfig`.
#[repr(C)]
struct LaunchConfiguration {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared_bytes: c_uint,
    queue: *mut c_void,
    attributes: *const LaunchAttribute,
    attribute_count: c_uint,
}

/// `CUlaunchAttribute`.
#[repr(C)]
struct LaunchAttribute {
    id: c_uint,
    _padding: c_uint,
    _value: [u64; 8],
}

/// Reads an image of unknown length.
///
/// # Safety
/// The image must be complete: zero-terminated text, or a file with true headers.
unsafe fn read(image: *const c_void) -> Result<Image, (Status, String)> {
    let bytes: *const u8 = image.cast();
    // SAFETY: a text has its zero in the first four bytes or goes on; a file is longer.
    let is_elf = b"\x7fELF"
        .iter()
        .enumerate()
        .all(|(index, &byte)| unsafe { *bytes.add(index) } == byte);
    if is_elf {
        // SAFETY: a file begins with a whole header.
        let header = unsafe { &*bytes.cast::<[u8; 64]>() };
        // SAFETY: the headers are true.
        let file = unsafe { std::slice::from_raw_parts(bytes, Image::elf_bytes(header) as usize) };
        return Image::from_elf(file).map_err(|problem| (INVALID_IMAGE, problem));
    }
    // SAFETY: a text ends with a zero.
    let text = unsafe { CStr::from_ptr(image.cast()) };
    Image::from_ptx(&text.to_string_lossy()).map_err(|problem| (INVALID_PTX, problem))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadDataEx(
    place: *mut *mut c_void,
    image: *const c_void,
    option_count: c_uint,
    options: *const c_uint,
    values: *const *mut c_void,
) -> Status {
    current("cuModuleLoadDataEx", OUT_OF_MEMORY, |_, device| {
        if image.is_null() {
            return Err(device.misuse());
        }
        // SAFETY: the caller's image is whole.
        let loaded = unsafe { read(image) }.and_then(|image| device.load_module(&image));
        match loaded {
            // SAFETY: the caller's place is valid.
            Ok(module) => unsafe { put(place, module as *mut c_void) },
            Err((status, problem)) => {
                report(&problem);
                // The driver's compiler writes several lines.
                let lines = format!("ptxas : {problem}\nptxas fatal : nothing was loaded\n");
                // SAFETY: the caller gives as many options and values as it says.
                unsafe { log(&lines, option_count as usize, options, values) };
                Err(status)
            }
        }
    })
}

/// Writes an error message to the caller's log, if there is one.
///
/// # Safety
/// `options` and `values` must have `count` elements, and the log the length that they state.
unsafe fn log(problem: &str, count: usize, options: *const c_uint, values: *const *mut c_void) {
    let value = |wanted: c_uint| {
        // SAFETY: there are as many options and values.
        (0..count)
            .find(|&index| unsafe { *options.add(index) } == wanted)
            .map(|index| unsafe { *values.add(index) })
    };
    if let (Some(buffer), Some(bytes)) = (value(ERROR_LOG), value(ERROR_LOG_BYTES))
        && !buffer.is_null()
        && (bytes as usize) > 0
    {
        let length = problem.len().min(bytes as usize - 1);
        // SAFETY: the caller's buffer has that many bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(problem.as_ptr(), buffer.cast(), length);
            buffer.cast::<u8>().add(length).write(0);
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(module: *mut c_void) -> Status {
    current("cuModuleUnload", UNKNOWN, |_, device| {
        device.unload_module(module as u64)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleGetFunction(
    place: *mut *mut c_void,
    module: *mut c_void,
    name: *const c_char,
) -> Status {
    current("cuModuleGetFunction", UNKNOWN, |_, device| {
        if name.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: a name ends with a zero.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        let function = device.function(module as u64, &name)?;
        // SAFETY: the caller's place is valid.
        unsafe { put(place, function as *mut c_void) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuFuncGetParamInfo(
    function: *mut c_void,
    index: usize,
    offset: *mut usize,
    bytes: *mut usize,
) -> Status {
    current("cuFuncGetParamInfo", UNKNOWN, |_, device| {
        let (start, size) = device.parameter(function as u64, index)?;
        // SAFETY: the caller's places are valid.
        unsafe {
            put(offset, start as usize)?;
            put(bytes, size as usize)
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(function: *mut c_void, attribute: c_uint, value: c_int) -> Status {
    current("cuFuncSetAttribute", UNKNOWN, |_, device| {
        match (attribute, u64::try_from(value)) {
            (DYNAMIC_SHARED_MAX, Ok(bytes)) => device.allow_shared(function as u64, bytes),
            _ => Err(device.misuse()),
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuLaunchKernel(
    function: *mut c_void,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared_bytes: c_uint,
    queue: *mut c_void,
    parameters: *const *const c_void,
    _extra: *const *mut c_void,
) -> Status {
    current("cuLaunchKernel", UNKNOWN, |_, device| {
        let shape = Shape {
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared_bytes: shared_bytes.into(),
        };
        // SAFETY: the caller gives the function's parameters.
        unsafe { device.launch(function as u64, shape, queue as u64, parameters) }
    })
}

/// Kernels that may begin early run in the queue's order all the same: that each of them waits for
/// those before it is checked where kernels run.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuLaunchKernelEx(
    configuration: *const LaunchConfiguration,
    function: *mut c_void,
    parameters: *const *const c_void,
    _extra: *const *mut c_void,
) -> Status {
    current("cuLaunchKernelEx", UNKNOWN, |_, device| {
        // SAFETY: the caller's configuration is valid, or null.
        let Some(configuration) = (unsafe { configuration.as_ref() }) else {
            return Err(device.misuse());
        };
        for index in 0..configuration.attribute_count as usize {
            // SAFETY: the caller gives as many attributes as it says.
            let id = unsafe { (*configuration.attributes.add(index)).id };
            if id != PROGRAMMATIC_SERIALIZATION {
                return Err(device.misuse());
            }
            if device.settings.generation < FIRST_WITH_EARLY_KERNELS {
                return Err(NOT_SUPPORTED);
            }
        }
        let shape = Shape {
            grid: configuration.grid,
            block: configuration.block,
            shared_bytes: configuration.shared_bytes.into(),
        };
        let queue = configuration.queue as u64;
        // SAFETY: the caller gives the function's parameters.
        unsafe { device.launch(function as u64, shape, queue, parameters) }
    })
}
