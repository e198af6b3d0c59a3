//! What the engine holds from the driver, and when the driver may be called: while something is loaded, let in or given back, and at no
//! other time. So "no driver call in steady state" is not a hope.

use crate::metrics::MemoryNow;
use sottovoce_memory::pages::PagePool;
use sottovoce_memory::{Memory, MemoryStatistics};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The engine's memory and pages, with the driver sealed while nobody has an [`Opening`].
pub(crate) struct Holdings {
    memory: Memory,
    pages: PagePool,
    openings: Mutex<usize>,
}

/// While it lives the driver may be called.
pub(crate) struct Opening<'a>(&'a Holdings);

impl Holdings {
    /// Seals the driver: what is there from loading is there.
    pub fn new(memory: Memory, pages: PagePool) -> Holdings {
        memory.seal();
        Holdings {
            memory,
            pages,
            openings: Mutex::new(0),
        }
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Lets the driver be called; pieces that were dropped in the meantime go back to it now.
    pub fn open(&self) -> Opening<'_> {
        let mut openings = self.openings();
        if *openings == 0 {
            self.memory.unseal();
        }
        *openings += 1;
        Opening(self)
    }

    /// The figures now.
    pub fn look(&self) -> (MemoryStatistics, MemoryNow) {
        let statistics = self.memory.statistics();
        let now = MemoryNow::of(&statistics, self.pages.spare_bytes());
        (statistics, now)
    }

    /// Gives back what is kept and not used; the bytes given back.
    pub fn trim(&self) -> u64 {
        let before = self.memory.statistics().held_bytes();
        let opening = self.open();
        self.pages.trim();
        self.memory.trim();
        drop(opening);
        before.saturating_sub(self.memory.statistics().held_bytes())
    }

    fn openings(&self) -> MutexGuard<'_, usize> {
        // A count is whole even if a thread has panicked with it.
        self.openings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Holdings {
    fn drop(&mut self) {
        self.memory.unseal();
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut openings = self.0.openings();
        *openings -= 1;
        if *openings == 0 {
            self.0.memory.seal();
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
        let holdings = Holdings::new(memory.clone(), PagePool::new(&memory, 4096, 4));
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
