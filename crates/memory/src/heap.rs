//! The C library's heap, from which everything comes that no driver gives: tables, encoders, what requests bring.

/// Gives back to the system what the heap keeps of freed memory; whether there was any. Only glibc's heap is asked: it keeps
/// pages for good that a burst of requests once needed, one set for each of its arenas.
pub fn release_unused() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `malloc_trim` may be called by any thread at any time; it takes the heap's own locks and touches free memory only.
        unsafe { libc::malloc_trim(0) != 0 }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}
