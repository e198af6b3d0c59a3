//! Device memory: pieces, ranges and mappings; and pinned host memory.

use super::{Device, Map, Physical, new_handle};
use crate::status::{NOT_SUPPORTED, OUT_OF_MEMORY, Outcome, Status};
use crate::store::{GRANULARITY, Store};
use std::ptr::null_mut;

/// Returns pinned memory to the system.
pub(super) fn unmap_pinned(address: u64, bytes: u64) {
    // SAFETY: `Device::allocate_pinned` mapped it with this size, and nobody holds it any longer.
    unsafe { libc::munmap(address as *mut _, bytes as usize) };
}

impl Device {
    fn store(&mut self) -> Result<&mut Store, Status> {
        if self.store.is_none() {
            self.store = Some(Store::new(self.settings.addresses).map_err(|_| OUT_OF_MEMORY)?);
        }
        self.store.as_mut().ok_or(OUT_OF_MEMORY)
    }

    /// Allocates a plain piece.
    pub fn allocate(&mut self, bytes: u64) -> Result<u64, Status> {
        self.refuse_in_capture()?;
        if bytes == 0 {
            return Err(self.misuse());
        }
        let bytes = (bytes.checked_next_multiple_of(GRANULARITY)).ok_or(OUT_OF_MEMORY)?;
        self.take(bytes)?;
        let fill = self.settings.fill;
        let placed = self.store().ok().and_then(|store| {
            let address = store.place(bytes, GRANULARITY)?;
            let Some(extent) = store.take_extent(bytes) else {
                store.vacate(address);
                return None;
            };
            if !(store.map(address, bytes, extent) && store.open(address, bytes)) {
                store.drop_extent(extent);
                store.vacate(address);
                return None;
            }
            if fill {
                store.fill(address, bytes);
            }
            Some((address, extent))
        });
        let Some((address, extent)) = placed else {
            self.give(bytes);
            return Err(OUT_OF_MEMORY);
        };
        self.pieces.insert(address, (bytes, extent));
        Ok(address)
    }

    /// Frees a plain piece after all work is complete.
    pub fn free(&mut self, address: u64) -> Outcome {
        self.refuse_in_capture()?;
        if !self.pieces.contains_key(&address) {
            return Err(self.misuse());
        }
        self.finish_all()?;
        if let Some((bytes, extent)) = self.pieces.remove(&address) {
            let store = self.store()?;
            store.unmap(address, bytes);
            store.drop_extent(extent);
            store.vacate(address);
            self.give(bytes);
        }
        Ok(())
    }

    fn needs_ranges(&self) -> Outcome {
        match self.settings.ranges {
            true => Ok(()),
            false => Err(NOT_SUPPORTED),
        }
    }

    /// Reserves a range of addresses.
    pub fn reserve(&mut self, bytes: u64, alignment: u64) -> Result<u64, Status> {
        self.needs_ranges()?;
        let aligned = alignment == 0 || alignment.is_power_of_two();
        if bytes == 0 || !bytes.is_multiple_of(GRANULARITY) || !aligned {
            return Err(self.misuse());
        }
        // Alignment slack lies above the range.
        let address = (self.store()?)
            .place(bytes, alignment.min(GRANULARITY))
            .ok_or(OUT_OF_MEMORY)?;
        self.ranges.insert(address, bytes);
        Ok(address)
    }

    /// Releases a range without mappings.
    pub fn release_range(&mut self, address: u64, bytes: u64) -> Outcome {
        self.needs_ranges()?;
        let end = address.saturating_add(bytes);
        let mapped = self.maps.range(address..end).next().is_some();
        if self.ranges.get(&address) != Some(&bytes) || mapped {
            return Err(self.misuse());
        }
        self.ranges.remove(&address);
        self.store()?.vacate(address);
        Ok(())
    }

    /// Creates a physical allocation.
    pub fn create(&mut self, bytes: u64) -> Result<u64, Status> {
        self.needs_ranges()?;
        if bytes == 0 || !bytes.is_multiple_of(GRANULARITY) {
            return Err(self.misuse());
        }
        self.take(bytes)?;
        let Some(extent) = (self.store().ok()).and_then(|store| store.take_extent(bytes)) else {
            self.give(bytes);
            return Err(OUT_OF_MEMORY);
        };
        let handle = new_handle();
        self.physical.insert(
            handle,
            Physical {
                bytes,
                extent,
                released: false,
                maps: 0,
            },
        );
        Ok(handle)
    }

    /// Releases a physical allocation's handle; the memory lives on while it is mapped.
    pub fn release_physical(&mut self, handle: u64) -> Outcome {
        self.needs_ranges()?;
        match self.physical.get_mut(&handle) {
            Some(physical) if !physical.released => physical.released = true,
            _ => return Err(self.unknown_handle()),
        }
        self.forget_if_unused(handle)
    }

    /// Maps a physical allocation; it is not accessible yet.
    pub fn map(&mut self, address: u64, bytes: u64, offset: u64, handle: u64) -> Outcome {
        self.needs_ranges()?;
        let Some(end) = address.checked_add(bytes) else {
            return Err(self.misuse());
        };
        let reserved = (self.ranges.range(..=address).next_back())
            .is_some_and(|(start, length)| end <= start + length);
        let before = self.maps.range(..end).next_back();
        let overlaps = before.is_some_and(|(start, map)| start + map.bytes > address);
        let extent = (self.physical.get(&handle))
            .filter(|physical| physical.bytes == bytes && !physical.released)
            .map(|physical| physical.extent);
        let aligned = address.is_multiple_of(GRANULARITY) && offset == 0;
        let Some(extent) = extent.filter(|_| reserved && !overlaps && aligned) else {
            return Err(self.misuse());
        };
        if !self.store()?.map(address, bytes, extent) {
            return Err(OUT_OF_MEMORY);
        }
        let open = false;
        self.maps.insert(
            address,
            Map {
                bytes,
                handle,
                open,
            },
        );
        if let Some(physical) = self.physical.get_mut(&handle) {
            physical.maps += 1;
        }
        Ok(())
    }

    /// Unmaps one whole mapping at once, without waiting for work.
    pub fn unmap(&mut self, address: u64, bytes: u64) -> Outcome {
        self.needs_ranges()?;
        let handle = match self.maps.get(&address) {
            Some(map) if map.bytes == bytes => map.handle,
            _ => return Err(self.misuse()),
        };
        self.maps.remove(&address);
        self.store()?.unmap(address, bytes);
        if let Some(physical) = self.physical.get_mut(&handle) {
            physical.maps -= 1;
        }
        self.forget_if_unused(handle)
    }

    /// Makes mapped addresses accessible.
    pub fn open(&mut self, address: u64, bytes: u64) -> Outcome {
        self.needs_ranges()?;
        let end = address.saturating_add(bytes);
        let maps = self.maps.range(address..end);
        let mapped: u64 = maps.map(|(_, map)| map.bytes).sum();
        if bytes == 0 || mapped != bytes {
            return Err(self.misuse());
        }
        if !self.store()?.open(address, bytes) {
            return Err(OUT_OF_MEMORY);
        }
        for (_, map) in self.maps.range_mut(address..end) {
            map.open = true;
        }
        if self.settings.fill {
            self.store()?.fill(address, bytes);
        }
        Ok(())
    }

    fn forget_if_unused(&mut self, handle: u64) -> Outcome {
        if let Some(&Physical {
            bytes,
            extent,
            released: true,
            maps: 0,
        }) = self.physical.get(&handle)
        {
            self.physical.remove(&handle);
            self.store()?.drop_extent(extent);
            self.give(bytes);
        }
        Ok(())
    }

    /// Whether a whole address range is accessible.
    pub(super) fn is_accessible(&self, address: u64, bytes: u64) -> bool {
        let Some(end) = address.checked_add(bytes) else {
            return false;
        };
        let mut at = address;
        while at < end {
            let piece = (self.pieces.range(..=at).next_back())
                .map(|(start, (length, _))| start + length)
                .filter(|&piece_end| piece_end > at);
            let map = (self.maps.range(..=at).next_back())
                .filter(|(start, map)| map.open && **start + map.bytes > at)
                .map(|(start, map)| start + map.bytes);
            match piece.or(map) {
                Some(next) => at = next,
                None => return false,
            }
        }
        true
    }

    /// Whether a whole address range is pinned host memory.
    pub(super) fn is_pinned(&self, address: u64, bytes: u64) -> bool {
        let Some(end) = address.checked_add(bytes) else {
            return false;
        };
        (self.pinned.range(..=address).next_back())
            .is_some_and(|(start, length)| end <= start + length)
    }

    /// Allocates pinned host memory.
    pub fn allocate_pinned(&mut self, bytes: u64) -> Result<u64, Status> {
        self.refuse_in_capture()?;
        if bytes == 0 {
            return Err(self.misuse());
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the system chooses a place that nothing else has.
        let place = unsafe { libc::mmap(null_mut(), bytes as usize, access, flags, -1, 0) };
        if place == libc::MAP_FAILED {
            return Err(OUT_OF_MEMORY);
        }
        self.pinned.insert(place as u64, bytes);
        let pinned = self.pinned.values().sum();
        self.counts.pinned_peak = self.counts.pinned_peak.max(pinned);
        Ok(place as u64)
    }

    /// Frees pinned memory after all work is complete.
    pub fn free_pinned(&mut self, address: u64) -> Outcome {
        if !self.pinned.contains_key(&address) {
            return Err(self.misuse());
        }
        self.finish_all()?;
        if let Some(bytes) = self.pinned.remove(&address) {
            unmap_pinned(address, bytes);
        }
        Ok(())
    }
}
