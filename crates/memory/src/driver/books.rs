//! Bookkeeping shared by all drivers: capacity, pieces, reserved ranges and their mapped parts. A
//! call that contradicts the books is refused.

use super::{Address, DeviceMemory, DriverError};
use std::collections::BTreeMap;

/// The books of one driver.
#[derive(Debug)]
pub(super) struct Books {
    capacity: u64,
    used_bytes: u64,
    /// Bytes outside pieces and ranges: those that the driver holds for itself, and charged ones.
    driver_bytes: u64,
    /// Allocated pieces: address → bytes.
    pieces: BTreeMap<u64, u64>,
    /// Reserved ranges by address.
    ranges: BTreeMap<u64, Range>,
}

#[derive(Debug)]
struct Range {
    bytes: u64,
    unit: u64,
    /// Mapped parts: address → bytes; neighbours are merged.
    mapped: BTreeMap<u64, u64>,
}

impl Books {
    pub(super) fn new(capacity: u64) -> Books {
        Books {
            capacity,
            used_bytes: 0,
            driver_bytes: 0,
            pieces: BTreeMap::new(),
            ranges: BTreeMap::new(),
        }
    }

    pub(super) fn memory(&self) -> DeviceMemory {
        DeviceMemory {
            free: (self.capacity).saturating_sub(self.used_bytes + self.driver_bytes),
            total: self.capacity,
        }
    }

    /// Pieces and mapped parts: address and bytes.
    pub(super) fn spans(&self) -> Vec<(u64, u64)> {
        let mapped = (self.ranges.values()).flat_map(|range| &range.mapped);
        let spans = self.pieces.iter().chain(mapped);
        spans.map(|(&address, &bytes)| (address, bytes)).collect()
    }

    /// Refuses a request of `bytes` bytes beyond the free capacity.
    pub(super) fn room_for(&self, bytes: u64) -> Result<(), DriverError> {
        let DeviceMemory { free, total } = self.memory();
        if bytes > free {
            Err(DriverError::OutOfMemory {
                requested: bytes,
                free,
                total,
            })
        } else {
            Ok(())
        }
    }

    /// Counts bytes that the driver took for itself, even beyond the capacity, or charged ones.
    pub(super) fn add_driver_bytes(&mut self, bytes: u64) {
        self.driver_bytes += bytes;
    }

    /// Counts driver bytes as freed.
    pub(super) fn remove_driver_bytes(&mut self, bytes: u64) {
        self.driver_bytes -= bytes;
    }

    /// Whether the whole span lies in one piece, or in one mapped part of a range.
    pub(super) fn holds(&self, address: Address, bytes: u64) -> bool {
        let Some(end) = address.0.checked_add(bytes) else {
            return false;
        };
        let piece = (self.pieces.range(..=address.0).next_back())
            .is_some_and(|(start, length)| end <= start + length);
        let mapped = || {
            let (_, range) = self.ranges.range(..=address.0).next_back()?;
            (range.around(address.0)).filter(|&(_, mapped_end)| end <= mapped_end)
        };
        piece || mapped().is_some()
    }

    pub(super) fn add_piece(&mut self, address: u64, bytes: u64) {
        self.used_bytes += bytes;
        self.pieces.insert(address, bytes);
    }

    /// Shrinks a piece to `bytes` and returns its previous size.
    pub(super) fn shrink_piece(
        &mut self,
        address: Address,
        bytes: u64,
    ) -> Result<u64, DriverError> {
        let misuse = |reason| DriverError::Misuse {
            call: "shrink",
            address,
            bytes,
            reason,
        };
        let piece = (self.pieces.get_mut(&address.0))
            .ok_or_else(|| misuse("no piece was allocated at this address"))?;
        if bytes == 0 || bytes > *piece {
            return Err(misuse("the new size must be smaller than the piece"));
        }
        let before = std::mem::replace(piece, bytes);
        self.used_bytes -= before - bytes;
        Ok(before)
    }

    /// Removes a piece and returns its size.
    pub(super) fn remove_piece(&mut self, address: Address) -> Result<u64, DriverError> {
        let bytes = self.pieces.remove(&address.0).ok_or(DriverError::Misuse {
            call: "free",
            address,
            bytes: 0,
            reason: "nothing was allocated at this address",
        })?;
        self.used_bytes -= bytes;
        Ok(bytes)
    }

    pub(super) fn add_range(&mut self, address: u64, bytes: u64, unit: u64) {
        self.ranges.insert(
            address,
            Range {
                bytes,
                unit,
                mapped: BTreeMap::new(),
            },
        );
    }

    /// Removes a range without mapped parts and returns its size.
    pub(super) fn remove_range(&mut self, address: Address) -> Result<u64, DriverError> {
        let misuse = |reason| DriverError::Misuse {
            call: "release",
            address,
            bytes: 0,
            reason,
        };
        let range = self
            .ranges
            .get(&address.0)
            .ok_or_else(|| misuse("no range was reserved at this address"))?;
        if !range.mapped.is_empty() {
            return Err(misuse("parts of the range are still mapped"));
        }
        let bytes = range.bytes;
        self.ranges.remove(&address.0);
        Ok(bytes)
    }

    /// Checks that a part may be mapped: whole units of one range, none of them mapped, within the
    /// capacity.
    pub(super) fn may_map(&mut self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let range = self.range_of("map", address, bytes)?;
        if range.overlaps(address.0, address.0 + bytes) {
            return Err(DriverError::Misuse {
                call: "map",
                address,
                bytes,
                reason: "part of it is mapped already",
            });
        }
        self.room_for(bytes)
    }

    /// Records a part that [`Books::may_map`] admitted.
    pub(super) fn add_mapped(&mut self, address: Address, bytes: u64) -> Result<(), DriverError> {
        self.range_of("map", address, bytes)?
            .insert(address.0, address.0 + bytes);
        self.used_bytes += bytes;
        Ok(())
    }

    /// Removes a part, all of which must be mapped.
    pub(super) fn remove_mapped(
        &mut self,
        address: Address,
        bytes: u64,
    ) -> Result<(), DriverError> {
        if !self
            .range_of("unmap", address, bytes)?
            .remove(address.0, address.0 + bytes)
        {
            return Err(DriverError::Misuse {
                call: "unmap",
                address,
                bytes,
                reason: "not all of it is mapped",
            });
        }
        self.used_bytes -= bytes;
        Ok(())
    }

    /// The mapping unit of the range that contains an address.
    pub(super) fn unit(&self, address: Address) -> Option<u64> {
        let (_, range) = self.ranges.range(..=address.0).next_back()?;
        Some(range.unit)
    }

    /// Address and size of every mapped unit.
    pub(super) fn mapped_units(&self) -> Vec<(u64, u64)> {
        let parts = self.ranges.values().flat_map(|range| {
            let unit = range.unit;
            (range.mapped.iter()).flat_map(move |(&start, &bytes)| {
                (start..start + bytes)
                    .step_by(unit as usize)
                    .map(move |address| (address, unit))
            })
        });
        parts.collect()
    }

    /// Takes out all pieces and all ranges, with their sizes.
    pub(super) fn drain(&mut self) -> (BTreeMap<u64, u64>, Vec<(u64, u64)>) {
        let ranges = std::mem::take(&mut self.ranges)
            .into_iter()
            .map(|(address, range)| (address, range.bytes))
            .collect();
        (std::mem::take(&mut self.pieces), ranges)
    }

    fn range_of(
        &mut self,
        call: &'static str,
        address: Address,
        bytes: u64,
    ) -> Result<&mut Range, DriverError> {
        let misuse = |reason| DriverError::Misuse {
            call,
            address,
            bytes,
            reason,
        };
        let (start, range) = self
            .ranges
            .range_mut(..=address.0)
            .next_back()
            .ok_or_else(|| misuse("no range was reserved at this address"))?;
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

impl Range {
    fn around(&self, address: u64) -> Option<(u64, u64)> {
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
        if let Some((before, before_end)) = self.around(start)
            && before_end == start
        {
            start = before;
        }
        if let Some(after_bytes) = self.mapped.remove(&end) {
            end += after_bytes;
        }
        self.mapped.insert(start, end - start);
    }

    /// Removes `start..end` from the mapped parts. Returns `false` if not all of it is mapped.
    fn remove(&mut self, start: u64, end: u64) -> bool {
        match self.around(start) {
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

/// The error for a range with an invalid unit.
pub(super) fn bad_unit(bytes: u64) -> DriverError {
    let reason =
        "the unit is not a multiple of the granularity, or the size not a multiple of the unit";
    DriverError::Misuse {
        call: "reserve",
        address: Address(0),
        bytes,
        reason,
    }
}
