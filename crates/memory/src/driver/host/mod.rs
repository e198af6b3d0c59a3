//! The host's memory: anonymous maps, really given back when freed, within a capacity.

#[cfg(all(unix, not(miri)))]
#[path = "maps.rs"]
mod pages;
#[cfg(not(all(unix, not(miri))))]
#[path = "portable.rs"]
mod pages;

use super::{Address, Capabilities, DeviceMemory, Driver, DriverError};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Anonymous memory of this process, no more than a capacity.
pub struct HostDriver {
    capacity: u64,
    page_bytes: u64,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    used_bytes: u64,
    /// Allocated pieces: address → bytes.
    pieces: BTreeMap<u64, u64>,
    /// Reserved ranges: address → bytes and mapped parts (address → bytes, neighbours merged).
    ranges: BTreeMap<u64, Range>,
}

struct Range {
    bytes: u64,
    unit: u64,
    mapped: BTreeMap<u64, u64>,
}

impl HostDriver {
    /// A driver that hands out at most `capacity` bytes at a time.
    pub fn new(capacity: u64) -> HostDriver {
        HostDriver {
            capacity,
            page_bytes: pages::page_bytes(),
            books: Mutex::default(),
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
                message: format!("{bytes} bytes are more than an address can count"),
            }),
        }
    }

    fn take(&self, books: &mut Books, bytes: u64) -> Result<(), DriverError> {
        let free = self.capacity - books.used_bytes;
        if bytes > free {
            return Err(DriverError::OutOfMemory {
                requested: bytes,
                free,
                total: self.capacity,
            });
        }
        books.used_bytes += bytes;
        Ok(())
    }

    /// The range that holds the part, with the part checked against the range's unit and bounds.
    fn part<'a>(
        &self,
        books: &'a mut Books,
        call: &'static str,
        address: Address,
        bytes: u64,
    ) -> Result<&'a mut Range, DriverError> {
        let misuse = |reason| DriverError::Misuse {
            call,
            address,
            bytes,
            reason,
        };
        if bytes == 0
            || !bytes.is_multiple_of(self.page_bytes)
            || !address.0.is_multiple_of(self.page_bytes)
        {
            return Err(misuse(
                "address and size must be multiples of the page size",
            ));
        }
        let (start, range) = books
            .ranges
            .range_mut(..=address.0)
            .next_back()
            .ok_or_else(|| misuse("no range was reserved there"))?;
        if bytes == 0
            || !bytes.is_multiple_of(range.unit)
            || !(address.0 - start).is_multiple_of(range.unit)
        {
            return Err(misuse("the part does not consist of whole units"));
        }
        match address.0.checked_add(bytes) {
            Some(end) if end <= start + range.bytes => Ok(range),
            _ => Err(misuse("it reaches past the reserved range")),
        }
    }
}

fn from_system<T>(call: &'static str, result: std::io::Result<T>) -> Result<T, DriverError> {
    result.map_err(|error| DriverError::Failed {
        call,
        message: error.to_string(),
    })
}

impl Range {
    fn mapped_around(&self, address: u64) -> Option<(u64, u64)> {
        self.mapped
            .range(..=address)
            .next_back()
            .map(|(&start, &bytes)| (start, start + bytes))
    }

    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.mapped
            .range(..end)
            .next_back()
            .is_some_and(|(&other, &bytes)| other + bytes > start)
    }

    fn insert(&mut self, mut start: u64, mut end: u64) {
        if let Some((before, before_end)) = self.mapped_around(start)
            && before_end == start
        {
            start = before;
        }
        if let Some(after_bytes) = self.mapped.remove(&end) {
            end += after_bytes;
        }
        self.mapped.insert(start, end - start);
    }

    /// Takes `start..end` out of the mapped parts, or says false if not all of it is mapped.
    fn remove(&mut self, start: u64, end: u64) -> bool {
        match self.mapped_around(start) {
            Some((before, before_end)) if before_end >= end => {
                self.mapped.remove(&before);
                if before < start {
                    self.mapped.insert(before, start - before);
                }
                if end < before_end {
                    self.mapped.insert(end, before_end - end);
                }
                true
            }
            _ => false,
        }
    }
}

// SAFETY: pieces and mapped parts come from the operating system as zeroed, private, readable and writable pages; the books
// keep pieces apart and let nothing be freed or unmapped that this driver did not give.
unsafe impl Driver for HostDriver {
    fn name(&self) -> &str {
        "host"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            granularity: self.page_bytes,
            ranges: pages::RANGES,
            host_accessible: true,
        }
    }

    fn memory(&self) -> DeviceMemory {
        DeviceMemory {
            free: self.capacity - self.books().used_bytes,
            total: self.capacity,
        }
    }

    fn allocate(&self, bytes: u64) -> Result<Address, DriverError> {
        let bytes = self.whole_pages("allocate", bytes)?;
        let mut books = self.books();
        self.take(&mut books, bytes)?;
        match pages::allocate(bytes) {
            Ok(address) => {
                books.pieces.insert(address, bytes);
                Ok(Address(address))
            }
            Err(error) => {
                books.used_bytes -= bytes;
                from_system("allocate", Err(error))
            }
        }
    }

    fn free(&self, address: Address) -> Result<(), DriverError> {
        let mut books = self.books();
        let Some(bytes) = books.pieces.remove(&address.0) else {
            return Err(DriverError::Misuse {
                call: "free",
                address,
                bytes: 0,
                reason: "nothing was allocated there",
            });
        };
        books.used_bytes -= bytes;
        // SAFETY: the books held this piece, so it came from `pages::allocate` with this size, and it is in them no longer.
        from_system("free", unsafe { pages::free(address.0, bytes) })
    }

    fn reserve(&self, bytes: u64, unit: u64) -> Result<Address, DriverError> {
        if unit == 0 || !unit.is_multiple_of(self.page_bytes) || !bytes.is_multiple_of(unit) {
            let reason = "the unit is not a multiple of the page size, or the size not a multiple of the unit";
            return Err(DriverError::Misuse {
                call: "reserve",
                address: Address(0),
                bytes,
                reason,
            });
        }
        let bytes = self.whole_pages("reserve", bytes)?;
        let address = from_system("reserve", pages::reserve(bytes))?;
        self.books().ranges.insert(
            address,
            Range {
                bytes,
                unit,
                mapped: BTreeMap::new(),
            },
        );
        Ok(Address(address))
    }

    fn release(&self, address: Address) -> Result<(), DriverError> {
        let mut books = self.books();
        let misuse = |reason| DriverError::Misuse {
            call: "release",
            address,
            bytes: 0,
            reason,
        };
        let range = books
            .ranges
            .get(&address.0)
            .ok_or_else(|| misuse("no range was reserved there"))?;
        if !range.mapped.is_empty() {
            return Err(misuse("parts of the range are still mapped"));
        }
        let bytes = range.bytes;
        books.ranges.remove(&address.0);
        // SAFETY: the books held this range, so it came from `pages::reserve` with this size, and nothing is mapped in it.
        from_system("release", unsafe { pages::release(address.0, bytes) })
    }

    fn map(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let mut books = self.books();
        let range = self.part(&mut books, "map", address, bytes)?;
        if range.overlaps(address.0, address.0 + bytes) {
            return Err(DriverError::Misuse {
                call: "map",
                address,
                bytes,
                reason: "part of it is mapped already",
            });
        }
        self.take(&mut books, bytes)?;
        // SAFETY: `part` has shown that these whole pages lie in a range of ours, and none of them is mapped.
        if let Err(error) = unsafe { pages::map(address.0, bytes) } {
            books.used_bytes -= bytes;
            return from_system("map", Err(error));
        }
        self.part(&mut books, "map", address, bytes)?
            .insert(address.0, address.0 + bytes);
        Ok(())
    }

    fn unmap(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let mut books = self.books();
        if !self
            .part(&mut books, "unmap", address, bytes)?
            .remove(address.0, address.0 + bytes)
        {
            return Err(DriverError::Misuse {
                call: "unmap",
                address,
                bytes,
                reason: "not all of it is mapped",
            });
        }
        books.used_bytes -= bytes;
        // SAFETY: these whole pages lie in a range of ours and were all mapped; the books hold them no longer.
        from_system("unmap", unsafe { pages::unmap(address.0, bytes) })
    }
}

impl Drop for HostDriver {
    fn drop(&mut self) {
        let books = std::mem::take(&mut *self.books());
        for (address, bytes) in books.pieces {
            // SAFETY: the piece came from `pages::allocate` with this size and was never freed.
            let _ = unsafe { pages::free(address, bytes) };
        }
        for (address, range) in books.ranges {
            // SAFETY: the range came from `pages::reserve` with this size; nothing can use it once the driver is gone.
            let _ = unsafe { pages::release(address, range.bytes) };
        }
    }
}
