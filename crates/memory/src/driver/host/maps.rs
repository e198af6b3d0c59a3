//! Pages by `mmap`: a reserved range is a mapping without access rights, and mapping a part makes
//! it readable and writable in place. A part of a file is a private, read-only mapping.

#![allow(clippy::disallowed_methods, reason = "a driver maps memory")]

use crate::driver::Resident;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsRawFd;
#[cfg(target_os = "linux")]
use std::os::unix::fs::FileExt;

/// Alignment of large pieces, which lets the kernel back them with huge pages.
const HUGE_PAGE_BYTES: u64 = 2 << 20;

pub(super) const RANGES: Result<(), &str> = Ok(());
pub(super) const SHRINKS: Result<(), &str> = Ok(());
/// Only measured on Linux.
pub(super) const FILES: Result<(), &str> = match cfg!(target_os = "linux") {
    true => Ok(()),
    false => Err("whether files are read as fast as memory is known of Linux alone"),
};

pub(super) fn page_bytes() -> u64 {
    // SAFETY: `sysconf` does not access memory of this program.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096).max(512)
}

pub(super) fn allocate(bytes: u64) -> io::Result<u64> {
    if bytes < HUGE_PAGE_BYTES {
        return fresh(bytes, libc::PROT_READ | libc::PROT_WRITE, 0);
    }
    let wide = bytes
        .checked_add(HUGE_PAGE_BYTES)
        .ok_or(io::ErrorKind::OutOfMemory)?;
    let found = fresh(wide, libc::PROT_READ | libc::PROT_WRITE, 0)?;
    let start = found.next_multiple_of(HUGE_PAGE_BYTES);
    // SAFETY: head and tail are parts of the fresh mapping outside the piece; nothing refers to
    // them.
    unsafe {
        give_back(found, start - found)?;
        give_back(start + bytes, found + wide - (start + bytes))?;
    }
    ask_for_huge_pages(start, bytes);
    Ok(start)
}

/// Asks for huge pages where the system gives them only on request. Weights are read from end to
/// end at every step; with small pages the translation of addresses takes a part of that time.
fn ask_for_huge_pages(address: u64, bytes: u64) {
    #[cfg(target_os = "linux")]
    if let Ok(bytes) = length(bytes) {
        // SAFETY: advice about a fresh mapping of this driver changes no contents. A system that
        // has no huge pages refuses it, and only speed differs.
        unsafe { libc::madvise(pointer(address), bytes, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (address, bytes);
}

/// Asks for small pages in place of huge ones.
pub(super) fn prefer_small_pages(address: u64, bytes: u64) {
    #[cfg(target_os = "linux")]
    if let Ok(bytes) = length(bytes) {
        // SAFETY: advice about pages changes no contents, whatever is mapped there. A system that
        // has no huge pages refuses it, and nothing differs.
        unsafe { libc::madvise(pointer(address), bytes, libc::MADV_NOHUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (address, bytes);
}

/// Gives back the memory behind a piece; its bytes are zero from then on.
///
/// # Safety
/// The piece came from [`allocate`] and has `bytes` bytes, and nobody accesses it meanwhile.
pub(super) unsafe fn discard(address: u64, bytes: u64) {
    #[cfg(target_os = "linux")]
    if let Ok(bytes) = length(bytes) {
        // SAFETY: the caller's contract. The pages stay mapped, and a refusal changes nothing.
        unsafe { libc::madvise(pointer(address), bytes, libc::MADV_DONTNEED) };
    }
    // Elsewhere the same advice may free nothing.
    #[cfg(not(target_os = "linux"))]
    let _ = (address, bytes);
}

/// Maps `bytes` bytes of a file from `offset` on, both in whole pages, for reading. Large parts
/// that the system has in small pages only are refused: weights are read faster from memory then.
pub(super) fn map_file(file: &File, offset: u64, bytes: u64) -> io::Result<u64> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: a new mapping at an address of the kernel's choice overlaps no memory in use.
    let found = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length(bytes)?,
            libc::PROT_READ,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            offset,
        )
    };
    let address = mapped(found)?;
    ask_for_huge_pages(address, bytes);
    // All pages will be read, so all are entered at once instead of a few at each fault.
    #[cfg(target_os = "linux")]
    // SAFETY: the advice concerns a fresh mapping of this driver and changes no contents. A system
    // that does not know it refuses it, and only speed differs.
    unsafe {
        libc::madvise(found, length(bytes)?, libc::MADV_POPULATE_READ)
    };
    if bytes >= HUGE_PAGE_BYTES && huge_page_bytes(address)? < bytes / 4 * 3 {
        // SAFETY: the mapping is fresh, and nothing refers to it.
        unsafe { give_back(address, bytes)? };
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(address)
}

/// Bytes of huge pages in the mapping of a file at `address`, by the system's list of mappings.
fn huge_page_bytes(address: u64) -> io::Result<u64> {
    const FIELD: &str = "FilePmdMapped:";
    let head = format!("{address:x}-");
    let mut within = false;
    for line in BufReader::new(File::open("/proc/self/smaps")?).lines() {
        let line = line?;
        if line.starts_with(&head) {
            within = true;
        } else if let Some(size) = line.strip_prefix(FIELD).filter(|_| within) {
            let kibibytes = size.trim().trim_end_matches(" kB").parse::<u64>();
            return Ok(kibibytes.map_or(0, |size| size << 10));
        }
    }
    Ok(0)
}

/// What of some mappings of whole pages is in memory, by the system's table of pages.
#[cfg(target_os = "linux")]
pub(super) fn resident(spans: &[(u64, u64)]) -> io::Result<Resident> {
    const ENTRY_BYTES: u64 = 8;
    const PRESENT: u64 = 1 << 63;
    const OF_A_FILE: u64 = 1 << 61;
    let table = File::open("/proc/self/pagemap")?;
    let page_bytes = page_bytes();
    let mut resident = Resident::default();
    let mut entries = vec![0; 64 << 10];
    for &(address, bytes) in spans {
        let mut at = address / page_bytes * ENTRY_BYTES;
        let end = at + bytes / page_bytes * ENTRY_BYTES;
        while at < end {
            let count = (end - at).min(entries.len() as u64);
            let part = &mut entries[..count as usize];
            table.read_exact_at(part, at)?;
            for entry in part.as_chunks().0 {
                let entry = u64::from_ne_bytes(*entry);
                let page = page_bytes * u64::from(entry & PRESENT != 0);
                resident.bytes += page;
                resident.file_bytes += page * u64::from(entry & OF_A_FILE != 0);
            }
            at += count;
        }
    }
    Ok(resident)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn resident(_spans: &[(u64, u64)]) -> io::Result<Resident> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn reserve(bytes: u64) -> io::Result<u64> {
    fresh(bytes, libc::PROT_NONE, libc::MAP_NORESERVE)
}

/// # Safety
/// The piece came from [`allocate`] with this size, and nothing uses it any longer.
pub(super) unsafe fn free(address: u64, bytes: u64) -> io::Result<()> {
    // SAFETY: the caller's contract.
    unsafe { give_back(address, bytes) }
}

/// # Safety
/// The piece came from [`allocate`] and has `before` bytes, and nothing uses those from `after` on
/// any longer.
pub(super) unsafe fn shrink(address: u64, before: u64, after: u64) -> io::Result<()> {
    // SAFETY: the caller's contract; a tail of whole pages can be unmapped by itself.
    unsafe { give_back(address + after, before - after) }
}

/// # Safety
/// The range came from [`reserve`] with this size, and nothing uses it any longer.
pub(super) unsafe fn release(address: u64, bytes: u64) -> io::Result<()> {
    // SAFETY: the caller's contract.
    unsafe { give_back(address, bytes) }
}

/// # Safety
/// The whole pages lie in a range from [`reserve`], and nothing uses them.
pub(super) unsafe fn map(address: u64, bytes: u64) -> io::Result<()> {
    // SAFETY: the caller's contract; nothing uses the pages whose access rights change.
    match unsafe {
        libc::mprotect(
            pointer(address),
            length(bytes)?,
            libc::PROT_READ | libc::PROT_WRITE,
        )
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// # Safety
/// The whole pages were mapped by [`map`], and nothing uses them any longer.
pub(super) unsafe fn unmap(address: u64, bytes: u64) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // A fresh mapping over the old one frees the pages in all accounting of the system; `madvise`
    // alone would not. SAFETY: the pages belong to this driver and are unused, so they may be
    // replaced.
    let replaced = unsafe {
        libc::mmap(
            pointer(address),
            length(bytes)?,
            libc::PROT_NONE,
            flags,
            -1,
            0,
        )
    };
    if replaced == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn fresh(bytes: u64, protection: i32, extra_flags: i32) -> io::Result<u64> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | extra_flags;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice overlaps no memory in
    // use.
    let found = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length(bytes)?,
            protection,
            flags,
            -1,
            0,
        )
    };
    mapped(found)
}

/// The address of a mapping, or the system's error.
fn mapped(found: *mut libc::c_void) -> io::Result<u64> {
    if found == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(found.expose_provenance() as u64)
    }
}

/// # Safety
/// The pages belong to this driver, and nothing uses them.
unsafe fn give_back(address: u64, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    // SAFETY: the caller's contract.
    match unsafe { libc::munmap(pointer(address), length(bytes)?) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn pointer(address: u64) -> *mut libc::c_void {
    std::ptr::with_exposed_provenance_mut(address as usize)
}

fn length(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory.into())
}
