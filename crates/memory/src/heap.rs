//! The C library's heap. It holds everything that does not come from a driver: tables, encoder
//! state, request data.

/// Smallest piece that is a mapping of its own once [`map_large_pieces`] was called, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_PIECE_BYTES: i32 = 128 << 10;

/// Returns the heap's free memory to the system, and says whether any was returned. Supported for
/// glibc only, which otherwise keeps the pages of a burst of requests forever, one set for each of
/// its arenas.
pub fn release_unused() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `malloc_trim` may be called by any thread at any time. It takes the heap's own
        // locks and touches free memory only.
        unsafe { libc::malloc_trim(0) != 0 }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}

/// Makes each large piece from now on a mapping of its own, which the system has back as soon as it
/// is freed. glibc begins so, but raises the size with each such piece that is freed, and keeps the
/// end of each arena up to twice that size, where [`release_unused`] does not reach. Has no effect
/// elsewhere.
pub fn map_large_pieces() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` may be called by any thread at any time; it takes the heap's own locks.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_PIECE_BYTES);
    }
}
