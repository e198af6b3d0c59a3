//! Pages from the standard allocator, for systems without `mmap` and for interpreters. Address
//! ranges are not supported.

use crate::driver::Resident;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::File;
use std::io;

const PAGE_BYTES: u64 = 4096;

pub(super) const RANGES: Result<(), &str> =
    Err("this system cannot reserve addresses without memory");

pub(super) const SHRINKS: Result<(), &str> = Err("the standard allocator frees whole pieces only");

pub(super) const FILES: Result<(), &str> = Err("this system's memory cannot be a file's");

pub(super) fn page_bytes() -> u64 {
    PAGE_BYTES
}

pub(super) fn allocate(bytes: u64) -> io::Result<u64> {
    // SAFETY: the layout has a size of at least one page.
    let found = unsafe { alloc_zeroed(layout(bytes)?) };
    if found.is_null() {
        Err(io::ErrorKind::OutOfMemory.into())
    } else {
        Ok(found.expose_provenance() as u64)
    }
}

pub(super) fn prefer_small_pages(_address: u64, _bytes: u64) {}

/// # Safety
/// None is needed: nothing happens here.
pub(super) unsafe fn discard(_address: u64, _bytes: u64) {}

/// # Safety
/// The piece came from [`allocate`] with this size, and nothing uses it any longer.
pub(super) unsafe fn free(address: u64, bytes: u64) -> io::Result<()> {
    let layout = layout(bytes)?;
    // SAFETY: the caller's contract; the layout is that of the allocation.
    unsafe {
        dealloc(
            std::ptr::with_exposed_provenance_mut(address as usize),
            layout,
        )
    };
    Ok(())
}

/// # Safety
/// None: the call always fails.
pub(super) unsafe fn shrink(_address: u64, _before: u64, _after: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn map_file(_file: &File, _offset: u64, _bytes: u64) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn resident(_spans: &[(u64, u64)]) -> io::Result<Resident> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn reserve(_bytes: u64) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// # Safety
/// None: the call always fails.
pub(super) unsafe fn release(_address: u64, _bytes: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// # Safety
/// None: the call always fails.
pub(super) unsafe fn map(_address: u64, _bytes: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// # Safety
/// None: the call always fails.
pub(super) unsafe fn unmap(_address: u64, _bytes: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn layout(bytes: u64) -> io::Result<Layout> {
    let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
    Layout::from_size_align(bytes, PAGE_BYTES as usize)
        .map_err(|_| io::ErrorKind::OutOfMemory.into())
}
