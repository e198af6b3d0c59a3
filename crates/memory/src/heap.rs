//! The C library's heap. It holds everything that does not come from a driver: tables, encoder
//! state, request data.

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
