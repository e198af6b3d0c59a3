//! The C interface: the functions of NVIDIA's driver library that `sottovoce-memory` calls.

mod basic;
mod graph;
mod management;
mod memory;
mod module;
mod queue;

use crate::status::{INVALID_VALUE, Outcome};

/// Writes a result through the caller's pointer.
///
/// # Safety
/// The pointer must be valid for a write, or null.
unsafe fn put<T>(place: *mut T, value: T) -> Outcome {
    if place.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: the caller's place is valid.
    unsafe { place.write(value) };
    Ok(())
}
