//! Control of devices from outside: exported functions for tests, and the environment.

use crate::device::{DEVICES_MAX, device, set_count};
use crate::executor::report;
use crate::kernels;
use crate::settings::{Settings, variable_text};
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::sync::Once;

/// Path of the report, if one is written.
const REPORT: &str = "CUDA_STAND_IN_REPORT";

/// Reads a C string of the caller.
///
/// # Safety
/// It must end with a zero.
unsafe fn text<'a>(text: *const c_char) -> std::borrow::Cow<'a, str> {
    // SAFETY: the caller's text ends with a zero.
    unsafe { CStr::from_ptr(text) }.to_string_lossy()
}

fn outcome(result: Result<(), String>) -> c_int {
    match result {
        Ok(()) => 1,
        Err(problem) => {
            report(&problem);
            0
        }
    }
}

/// Sets the number of devices.
#[unsafe(no_mangle)]
extern "C" fn stand_in_devices(count: c_uint) {
    set_count(count);
}

/// Resets a device to `settings`; returns 0 if they are invalid.
#[unsafe(no_mangle)]
unsafe extern "C" fn stand_in_configure(ordinal: c_uint, settings: *const c_char) -> c_int {
    // SAFETY: the caller's text ends with a zero.
    let text = unsafe { text(settings) };
    let Some(mut device) = device(ordinal as usize) else {
        return 0;
    };
    let mut settings = Settings::default();
    outcome(settings.apply(&text).map(|()| device.configure(settings)))
}

/// Changes some of a device's settings; returns 0 if they are invalid.
#[unsafe(no_mangle)]
unsafe extern "C" fn stand_in_set(ordinal: c_uint, settings: *const c_char) -> c_int {
    // SAFETY: the caller's text ends with a zero.
    let text = unsafe { text(settings) };
    match device(ordinal as usize) {
        Some(mut device) => outcome(device.settings.apply(&text)),
        None => 0,
    }
}

/// A device's counter, by name.
#[unsafe(no_mangle)]
unsafe extern "C" fn stand_in_count(ordinal: c_uint, name: *const c_char) -> u64 {
    // SAFETY: the caller's text ends with a zero.
    let name = unsafe { text(name) };
    match &*name {
        "kernel_bytes_read" => kernels::bytes_read(),
        "kernel_bytes_written" => kernels::bytes_written(),
        name => device(ordinal as usize).map_or(0, |device| device.count(name)),
    }
}

/// Count and name of the function at `index` among those called; 0 past the end.
#[unsafe(no_mangle)]
unsafe extern "C" fn stand_in_calls(
    ordinal: c_uint,
    index: usize,
    name: *mut *const c_char,
    length: *mut usize,
) -> u64 {
    let Some(device) = device(ordinal as usize) else {
        return 0;
    };
    let Some((function, calls)) = device.calls().nth(index) else {
        return 0;
    };
    // SAFETY: the caller's places are valid.
    unsafe {
        *name = function.as_ptr().cast();
        *length = function.len();
    }
    calls
}

/// Resets the counts of bytes that kernels read and write.
#[unsafe(no_mangle)]
extern "C" fn stand_in_reset_kernel_counts() {
    kernels::reset_counters();
}

extern "C" fn write_report() {
    let Some(path) = variable_text(REPORT) else {
        return;
    };
    let devices = (0..DEVICES_MAX).filter_map(|ordinal| {
        let device = device(ordinal)?;
        (device.was_used()).then(|| format!("  \"{ordinal}\": {}", device.report()))
    });
    let devices: Vec<String> = devices.collect();
    let text = format!(
        "{{\"kernel_bytes_read\": {}, \"kernel_bytes_written\": {}, \"devices\": {{\n{}\n}}}}\n",
        kernels::bytes_read(),
        kernels::bytes_written(),
        devices.join(",\n")
    );
    if let Err(error) = std::fs::write(&path, text) {
        report(&format!("{path}: {error}"));
    }
}

/// Writes all counters at the program's exit, if the environment names a file.
pub(crate) fn write_report_at_exit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the function takes nothing, and the library is never unloaded.
        unsafe { libc::atexit(write_report) };
    });
}
