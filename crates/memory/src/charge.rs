//! Bytes that something else allocated, such as a library on the heap, with an owner in the ledger.

use crate::memory::Memory;
use crate::out_of_memory::OutOfMemory;
use crate::owner::Owner;

/// Bytes counted against a [`Memory`] that did not allocate them. Dropping it ends the count.
#[derive(Debug)]
pub struct Charge {
    memory: Memory,
    owner: Owner,
    bytes: u64,
}

impl Charge {
    /// Bytes counted.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the count of all but `bytes` bytes.
    pub fn shrink_to(&mut self, bytes: u64) {
        let beyond = self.bytes.saturating_sub(bytes);
        self.bytes -= beyond;
        self.memory.shrink_charge(beyond, self.bytes, self.owner);
    }
}

impl Memory {
    /// Counts `bytes` bytes of this process as `owner`'s, against the capacity, without allocating
    /// them: the upper bound of what a library will allocate. If the driver has too little, the
    /// pool's cache is emptied first.
    ///
    /// # Errors
    /// If the driver has too little even then, or is a device's.
    pub fn charge(&self, bytes: u64, owner: Owner) -> Result<Charge, OutOfMemory> {
        self.add_charge(bytes, owner)?;
        Ok(Charge {
            memory: self.clone(),
            owner,
            bytes,
        })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.remove_charge(self.bytes, self.owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Region;

    const OWNER: Owner = Owner::new(Region::Staging, "library");

    #[test]
    fn a_charge_counts_against_the_capacity_and_for_its_owner_until_it_is_dropped() {
        let memory = Memory::host(1 << 20);
        let mut charge = memory.charge(600_000, OWNER).unwrap();
        let statistics = memory.statistics();
        assert_eq!(statistics.held_bytes(), charge.bytes());
        let owners: Vec<_> = (statistics.owners.iter())
            .map(|usage| (usage.owner, usage.live_bytes))
            .collect();
        assert_eq!(owners, [(OWNER, 600_000)]);
        assert!(memory.charge(600_000, OWNER).is_err());
        assert!(memory.reserve_exact(600_000, OWNER).is_err());
        charge.shrink_to(400_000);
        charge.shrink_to(500_000);
        assert_eq!(memory.statistics().held_bytes(), 400_000);
        assert_eq!(memory.statistics().owners[0].live_blocks, 1);
        drop(memory.reserve_exact(600_000, OWNER).unwrap());
        drop(charge);
        assert_eq!(memory.statistics().held_bytes(), 0);
        memory.reserve_exact(1 << 20, OWNER).unwrap();
    }

    #[test]
    fn a_charge_is_possible_while_the_driver_is_sealed_and_empties_the_cache_if_it_must() {
        const CAPACITY: u64 = 64 << 20;
        let memory = Memory::host(CAPACITY);
        drop(memory.allocate(3 << 20, OWNER).unwrap());
        let cached = memory.statistics().held_bytes();
        assert!(cached > 0);
        memory.seal();
        assert!(memory.charge(CAPACITY, OWNER).is_err(), "the cache stays");
        drop(memory.charge(CAPACITY - cached, OWNER).unwrap());
        memory.unseal();
        memory.charge(CAPACITY, OWNER).unwrap();
    }
}
