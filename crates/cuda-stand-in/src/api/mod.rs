//! The functions of NVIDIA's driver library, as far as `sottovoce-memory` calls them.

mod basic;
mod graph;
mod management;
mod memory;
mod module;
mod queue;

use crate::status::{INVALID_VALUE, Outcome};

/// Puts a value where the caller wants it.
///
/// # Safety
/// The place must be valid for a write, or null.
unsafe fn put<T>(place: *mut T, value: T) -> Outcome {
    if place.is_null() {
        return Err(INVALID_VALUE);
    }
    // SAFETY: the caller's place is valid.
    unsafe { place.write(value) };
    Ok(())
}
