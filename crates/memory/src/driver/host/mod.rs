//! Host memory: anonymous mappings and parts of files within a capacity, unmapped when freed.

#[cfg(all(unix, not(miri)))]
#[path = "maps.rs"]
mod pages;
#[cfg(not(all(unix, not(miri))))]
#[path = "portable.rs"]
mod pages;

use super::books::{Books, bad_unit};
use super::{Address, DeviceMemory, Driver, DriverCapabilities, DriverError, Resident};
use std::fs::File;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An address space as most systems have it: a capacity that only the system limits.
pub const ADDRESS_SPACE_BYTES: u64 = 1 << 46;

/// Bytes of a page of this system.
pub fn system_page_bytes() -> u64 {
    pages::page_bytes()
}

/// A driver of anonymous memory of this process, up to a capacity.
#[derive(Debug)]
pub struct HostDriver {
    page_bytes: u64,
    books: Mutex<Books>,
}

impl HostDriver {
    /// A driver that has at most `capacity` bytes allocated at a time.
    pub fn new(capacity: u64) -> HostDriver {
        HostDriver {
            page_bytes: pages::page_bytes(),
            books: Mutex::new(Books::new(capacity)),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn whole_pages(&self, call: &'static str, bytes: u64) -> Result<u64, DriverError> {
        match bytes.max(1).checked_next_multiple_of(self.page_bytes) {
            Some(bytes) if bytes <= isize::MAX as u64 => Ok(bytes),
            _ => Err(DriverError::Failed {
                call,
                message: format!("{bytes} bytes exceed the address space"),
            }),
        }
    }
}

/// A system call that failed within the capacity: out of memory if the system reports it.
fn system_error(
    call: &'static str,
    bytes: u64,
    memory: DeviceMemory,
    error: &std::io::Error,
) -> DriverError {
    match error.kind() {
        std::io::ErrorKind::OutOfMemory => DriverError::OutOfMemory {
            requested: bytes,
            free: memory.free,
            total: memory.total,
        },
        _ => DriverError::Failed {
            call,
            message: error.to_string(),
        },
    }
}

// SAFETY: pieces and mapped parts come from the operating system as zeroed, private, readable and
// writable pages, or as readable pages of a file that is long enough. The books keep pieces
// disjoint, and let nothing be freed or unmapped that did not come from this driver.
unsafe impl Driver for HostDriver {
    fn name(&self) -> &str {
        "host"
    }

    fn capabilities(&self) -> DriverCapabilities {
        DriverCapabilities {
            granularity: self.page_bytes,
            ranges: pages::RANGES,
            host_accessible: true,
        }
    }

    fn memory(&self) -> DeviceMemory {
        self.books().memory()
    }

    fn allocate(&self, bytes: u64) -> Result<Address, DriverError> {
        let bytes = self.whole_pages("allocate", bytes)?;
        let mut books = self.books();
        books.room_for(bytes)?;
        let address = pages::allocate(bytes)
            .map_err(|error| system_error("allocate", bytes, books.memory(), &error))?;
        books.add_piece(address, bytes);
        Ok(Address(address))
    }

    fn free(&self, address: Address) -> Result<(), DriverError> {
        let mut books = self.books();
        let bytes = books.remove_piece(address)?;
        // SAFETY: the books held this piece, so it came from `pages::allocate` with this size, and
        // they no longer do.
        unsafe { pages::free(address.0, bytes) }
            .map_err(|error| system_error("free", bytes, books.memory(), &error))
    }

    fn shrink(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        pages::SHRINKS.map_err(|reason| DriverError::Unsupported {
            call: "shrink",
            reason,
        })?;
        let bytes = (bytes.checked_next_multiple_of(self.page_bytes)).unwrap_or(u64::MAX);
        let mut books = self.books();
        let before = books.shrink_piece(address, bytes)?;
        // SAFETY: the books held this piece with the larger size, and now hold only its first part.
        unsafe { pages::shrink(address.0, before, bytes) }
            .map_err(|error| system_error("shrink", bytes, books.memory(), &error))
    }

    fn prefer_small_pages(&self, address: Address, bytes: u64) {
        pages::prefer_small_pages(address.0, bytes);
    }

    unsafe fn discard(&self, address: Address, bytes: u64) {
        // SAFETY: the caller names a piece of `pages::allocate` that nobody accesses.
        unsafe { pages::discard(address.0, bytes) }
    }

    fn map_file(&self, file: &File, part: Range<u64>) -> Result<Address, DriverError> {
        const CALL: &str = "map_file";
        pages::FILES.map_err(|reason| DriverError::Unsupported { call: CALL, reason })?;
        let length = part.end.saturating_sub(part.start);
        let misuse = |reason| DriverError::Misuse {
            call: CALL,
            address: Address(part.start),
            bytes: length,
            reason,
        };
        if length == 0 || !part.start.is_multiple_of(self.page_bytes) {
            return Err(misuse("the part must begin at a whole page and have bytes"));
        }
        let bytes = self.whole_pages(CALL, length)?;
        let mut books = self.books();
        let failed = |memory, error| system_error(CALL, bytes, memory, &error);
        let file_bytes = file.metadata().map(|metadata| metadata.len());
        if part.end > file_bytes.map_err(|error| failed(books.memory(), error))? {
            return Err(misuse("the file ends before the part does"));
        }
        books.room_for(bytes)?;
        let address =
            pages::map_file(file, part.start, bytes).map_err(|error| match error.kind() {
                std::io::ErrorKind::Unsupported => DriverError::Unsupported {
                    call: CALL,
                    reason: "the system has this part of the file in small pages",
                },
                _ => failed(books.memory(), error),
            })?;
        books.add_piece(address, bytes);
        Ok(Address(address))
    }

    fn reserve(&self, bytes: u64, unit: u64) -> Result<Address, DriverError> {
        if let Err(reason) = pages::RANGES {
            return Err(DriverError::Unsupported {
                call: "reserve",
                reason,
            });
        }
        if unit == 0 || !unit.is_multiple_of(self.page_bytes) || !bytes.is_multiple_of(unit) {
            return Err(bad_unit(bytes));
        }
        let bytes = self.whole_pages("reserve", bytes)?;
        let mut books = self.books();
        let address = pages::reserve(bytes)
            .map_err(|error| system_error("reserve", bytes, books.memory(), &error))?;
        books.add_range(address, bytes, unit);
        Ok(Address(address))
    }

    fn release(&self, address: Address) -> Result<(), DriverError> {
        let mut books = self.books();
        let bytes = books.remove_range(address)?;
        // SAFETY: the books held this range, so it came from `pages::reserve` with this size, and
        // nothing is mapped in it.
        unsafe { pages::release(address.0, bytes) }
            .map_err(|error| system_error("release", bytes, books.memory(), &error))
    }

    fn map(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let mut books = self.books();
        books.may_map(address, bytes)?;
        // SAFETY: the books have checked that these whole pages lie in a range of this driver, and
        // that none of them is mapped.
        unsafe { pages::map(address.0, bytes) }
            .map_err(|error| system_error("map", bytes, books.memory(), &error))?;
        books.add_mapped(address, bytes)
    }

    fn unmap(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let mut books = self.books();
        books.remove_mapped(address, bytes)?;
        // SAFETY: these whole pages lie in a range of this driver and were all mapped; the books no
        // longer hold them.
        unsafe { pages::unmap(address.0, bytes) }
            .map_err(|error| system_error("unmap", bytes, books.memory(), &error))
    }

    fn charge(&self, bytes: u64) -> Result<(), DriverError> {
        let mut books = self.books();
        books.room_for(bytes)?;
        books.add_driver_bytes(bytes);
        Ok(())
    }

    fn uncharge(&self, bytes: u64) {
        self.books().remove_driver_bytes(bytes);
    }

    fn resident(&self) -> Option<Resident> {
        let spans = self.books().spans();
        pages::resident(&spans).ok()
    }

    unsafe fn read(&self, from: Address, into: &mut [u8]) -> Result<(), DriverError> {
        // SAFETY: the caller guarantees bytes of this driver without a concurrent writer.
        into.copy_from_slice(unsafe { std::slice::from_raw_parts(pointer(from), into.len()) });
        Ok(())
    }

    unsafe fn write(&self, bytes: &[u8], to: Address) -> Result<(), DriverError> {
        // SAFETY: the caller guarantees bytes of this driver without a concurrent user.
        unsafe { std::slice::from_raw_parts_mut(pointer(to), bytes.len()) }.copy_from_slice(bytes);
        Ok(())
    }
}

fn pointer(address: Address) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(address.0 as usize)
}

impl Drop for HostDriver {
    fn drop(&mut self) {
        let (pieces, ranges) = self.books().drain();
        for (address, bytes) in pieces {
            // SAFETY: the piece came from `pages::allocate` with this size and was never freed.
            let _ = unsafe { pages::free(address, bytes) };
        }
        for (address, bytes) in ranges {
            // SAFETY: the range came from `pages::reserve` with this size; nothing can use it after
            // the driver.
            let _ = unsafe { pages::release(address, bytes) };
        }
    }
}
