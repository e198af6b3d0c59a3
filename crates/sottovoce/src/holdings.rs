//! The engine's memory and page pool, and the seal on their drivers. Drivers may be called only
//! while something is loaded, admitted or released. The seal enforces "no driver call in steady
//! state".

use sottovoce_memory::pages::PagePool;
use sottovoce_memory::policy::{Observation, Reclaim};
use sottovoce_memory::{Memory, MemoryStatistics};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Memory and pages; the drivers are sealed unless an [`Opening`] exists.
pub(crate) struct Holdings {
    memory: Memory,
    /// Host memory, if the device has memory of its own.
    host: Option<Memory>,
    pages: PagePool,
    openings: Mutex<usize>,
}

/// Keeps the drivers open while it lives.
pub(crate) struct Opening<'a>(&'a Holdings);

impl Holdings {
    /// Seals the drivers after loading. `host` is host memory, if `memory` is a device's own.
    pub fn new(memory: Memory, host: Option<Memory>, pages: PagePool) -> Holdings {
        memory.seal();
        host.iter().for_each(Memory::seal);
        Holdings {
            memory,
            host,
            pages,
            openings: Mutex::new(0),
        }
    }

    /// Device memory: weights, workspace, KV cache.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Host memory: voices, and the networks that prepare them.
    pub fn host(&self) -> &Memory {
        self.host.as_ref().unwrap_or(&self.memory)
    }

    /// Statistics of host memory, if the device has memory of its own.
    pub fn look_at_host(&self) -> Option<MemoryStatistics> {
        self.host.as_ref().map(Memory::statistics)
    }

    /// Opens the drivers. Pieces dropped while they were sealed are returned to them now. Others
    /// who open the drivers meanwhile wait for that, because they count on these bytes.
    pub fn open(&self) -> Opening<'_> {
        let mut openings = self.openings();
        if *openings == 0 {
            self.each(Memory::unseal);
        }
        *openings += 1;
        Opening(self)
    }

    /// Statistics at this moment.
    pub fn look(&self) -> (MemoryStatistics, Observation) {
        let statistics = self.memory.statistics();
        let now = Observation::of(&statistics, self.pages.spare_bytes());
        (statistics, now)
    }

    /// Returns cached memory to the driver; returns the number of bytes.
    pub fn trim(&self) -> u64 {
        let held = || {
            let host = self.look_at_host();
            self.memory.statistics().held_bytes() + host.map_or(0, |host| host.held_bytes())
        };
        let before = held();
        let opening = self.open();
        self.pages.trim();
        self.memory.trim();
        self.host.iter().for_each(|host| {
            host.trim();
        });
        drop(opening);
        before.saturating_sub(held())
    }

    fn each(&self, act: impl Fn(&Memory)) {
        act(&self.memory);
        self.host.iter().for_each(act);
    }

    fn openings(&self) -> MutexGuard<'_, usize> {
        // The count stays valid even if a thread panicked while it held the lock.
        self.openings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reclaim for &Holdings {
    fn trim_pool(&mut self) -> u64 {
        self.trim()
    }
}

impl Drop for Holdings {
    fn drop(&mut self) {
        self.each(Memory::unseal);
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut openings = self.0.openings();
        *openings -= 1;
        if *openings == 0 {
            self.0.each(Memory::seal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sottovoce_memory::{Owner, Region};

    #[test]
    fn the_driver_is_sealed_while_nobody_has_opened_it() {
        let memory = Memory::host(1 << 20);
        let owner = Owner::new(Region::Staging, "test");
        let early = memory.reserve_exact(4096, owner).unwrap();
        let holdings = Holdings::new(memory.clone(), None, PagePool::new(&memory, 4096, 4));
        assert!(memory.reserve_exact(4096, owner).is_err());
        {
            let (_first, second) = (holdings.open(), holdings.open());
            drop(second);
            memory.reserve_exact(4096, owner).unwrap();
        }
        drop(early);
        assert_eq!(holdings.look().1.reserved_bytes, 4096, "it waits");
        assert_eq!(holdings.trim(), 4096);
        drop(holdings);
        memory.reserve_exact(4096, owner).unwrap();
    }
}
