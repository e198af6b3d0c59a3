//! A device's address space and the bytes behind it.
//!
//! Addresses are a reserved part of this process's, given out from the top down as the simulated
//! driver of `sottovoce-memory` gives them out, so that both lead a pool to the same blocks. Bytes
//! are parts of one file in memory. What has no bytes behind it cannot be touched, and between
//! pieces there is always such a gap.

use std::collections::BTreeMap;
use std::io;
use std::ptr::null_mut;

/// Granularity of addresses and extents.
pub const GRANULARITY: u64 = 2 << 20;
/// Maximum length of the file; only written parts take memory.
const FILE_BYTES: u64 = 1 << 42;

/// Address space and bytes of one device.
#[derive(Debug)]
pub struct Store {
    start: u64,
    bytes: u64,
    /// The system's reservation; the store uses the aligned part from `start` on.
    reserved: (u64, u64),
    file: i32,
    /// Start → end of all occupied address ranges.
    occupied: BTreeMap<u64, u64>,
    /// Start → end of all extents of the file in use.
    extents: BTreeMap<u64, u64>,
}

impl Store {
    /// Reserves `bytes` of address space, rounded up to the granularity.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn new(bytes: u64) -> io::Result<Store> {
        let bytes = bytes
            .checked_next_multiple_of(GRANULARITY)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let reserved_bytes = bytes
            .checked_add(GRANULARITY)
            .ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: the name is zero-terminated.
        let file = unsafe { libc::memfd_create(c"cuda-stand-in".as_ptr(), libc::MFD_CLOEXEC) };
        if file < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut store = Store {
            start: 0,
            bytes,
            reserved: (0, 0),
            file,
            occupied: BTreeMap::new(),
            extents: BTreeMap::new(),
        };
        // SAFETY: the file is the store's own.
        if unsafe { libc::ftruncate(file, FILE_BYTES as libc::off_t) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the system chooses an unused address.
        let place = unsafe {
            libc::mmap(
                null_mut(),
                reserved_bytes as usize,
                libc::PROT_NONE,
                flags,
                -1,
                0,
            )
        };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        store.reserved = (place as u64, reserved_bytes);
        store.start = (place as u64).next_multiple_of(GRANULARITY);
        Ok(store)
    }

    /// Occupies `bytes` of addresses below `headroom` more, in the highest gap that has room for
    /// one more unit.
    pub fn place(&mut self, bytes: u64, headroom: u64) -> Option<u64> {
        let placed = bytes.checked_add(headroom)?;
        let wanted = placed.checked_add(GRANULARITY)?;
        let mut gap_end = self.start + self.bytes;
        for (&start, &end) in self.occupied.iter().rev() {
            if gap_end - end >= wanted {
                break;
            }
            gap_end = start;
        }
        let low = gap_end.checked_sub(wanted)?;
        if low < self.start {
            return None;
        }
        let address = gap_end - placed;
        self.occupied.insert(address, address + bytes);
        Some(address)
    }

    /// Releases addresses that [`Store::place`] returned.
    pub fn vacate(&mut self, address: u64) {
        self.occupied.remove(&address);
    }

    /// Takes an extent of `bytes` zero bytes from the file; returns its offset.
    pub fn take_extent(&mut self, bytes: u64) -> Option<u64> {
        let mut place = 0;
        for (&start, &end) in &self.extents {
            if start - place >= bytes {
                break;
            }
            place = end;
        }
        if place.checked_add(bytes)? > FILE_BYTES {
            return None;
        }
        self.extents.insert(place, place + bytes);
        Some(place)
    }

    /// Releases an extent, and returns its bytes to the system.
    pub fn drop_extent(&mut self, extent: u64) {
        if let Some(end) = self.extents.remove(&extent) {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            // SAFETY: the file is the store's own, and this extent is no longer mapped.
            unsafe { libc::fallocate(self.file, mode, extent as i64, (end - extent) as i64) };
        }
    }

    /// Maps an extent at an address; it is not accessible yet.
    pub fn map(&self, address: u64, bytes: u64, extent: u64) -> bool {
        self.remap(address, bytes, libc::MAP_SHARED, self.file, extent)
    }

    /// Makes mapped addresses readable and writable.
    pub fn open(&self, address: u64, bytes: u64) -> bool {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        self.holds(address, bytes) &&
            // SAFETY: the addresses are the store's own.
            unsafe { libc::mprotect(address as *mut _, bytes as usize, access) } == 0
    }

    /// Unmaps addresses.
    pub fn unmap(&self, address: u64, bytes: u64) -> bool {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        self.remap(address, bytes, flags, -1, 0)
    }

    /// Fills mapped addresses with bytes that are NaN in every floating-point format.
    pub fn fill(&self, address: u64, bytes: u64) {
        if self.holds(address, bytes) {
            // SAFETY: the addresses are the store's own, mapped and open.
            unsafe { std::ptr::write_bytes(address as *mut u8, 0xff, bytes as usize) };
        }
    }

    /// Whether an address range belongs to the store.
    pub fn holds(&self, address: u64, bytes: u64) -> bool {
        address >= self.start
            && (address.checked_add(bytes)).is_some_and(|end| end <= self.start + self.bytes)
    }

    fn remap(&self, address: u64, bytes: u64, flags: i32, file: i32, offset: u64) -> bool {
        if !self.holds(address, bytes) {
            return false;
        }
        // SAFETY: the addresses are the store's own, so nothing else of the process is replaced.
        let place = unsafe {
            libc::mmap(
                address as *mut _,
                bytes as usize,
                libc::PROT_NONE,
                flags | libc::MAP_FIXED,
                file,
                offset as libc::off_t,
            )
        };
        place != libc::MAP_FAILED
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let (start, bytes) = self.reserved;
        if bytes > 0 {
            // SAFETY: the addresses are the store's own, and it ends here.
            unsafe { libc::munmap(start as *mut _, bytes as usize) };
        }
        // SAFETY: the file is the store's own.
        unsafe { libc::close(self.file) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_with_their_part_of_the_file_and_end_with_it() {
        let mut store = Store::new(64 * GRANULARITY).unwrap();
        let first = store.place(2 * GRANULARITY, 0).unwrap();
        let second = store.place(2 * GRANULARITY, 0).unwrap();
        let extent = store.take_extent(GRANULARITY).unwrap();
        assert!(store.map(first, GRANULARITY, extent) && store.open(first, GRANULARITY));
        // SAFETY: the byte is mapped and open.
        unsafe { *(first as *mut u8) = 7 };
        assert!(store.unmap(first, GRANULARITY));
        assert!(store.map(second, GRANULARITY, extent) && store.open(second, GRANULARITY));
        // SAFETY: the extent was mapped at the second place and opened there.
        assert_eq!(unsafe { *(second as *const u8) }, 7);
        assert!(store.unmap(second, GRANULARITY));
        store.drop_extent(extent);
        let extent = store.take_extent(GRANULARITY).unwrap();
        assert!(store.map(second, GRANULARITY, extent) && store.open(second, GRANULARITY));
        // SAFETY: the fresh extent was mapped at the second place and opened there.
        assert_eq!(unsafe { *(second as *const u8) }, 0);
        assert!(
            !store.map(1 << 20, GRANULARITY, extent),
            "not its addresses"
        );
    }
}
