//! The memory of one device: a driver, a caching pool over it, and the owners of all bytes.

use crate::block::{Block, SharedBlock};
use crate::driver::{
    ADDRESS_SPACE_BYTES, Address, Driver, DriverError, HostDriver, Resident, Seal, Sealed,
};
use crate::out_of_memory::OutOfMemory;
use crate::owner::Owner;
use crate::pool::{Pool, PoolBlock, PoolConfiguration, PoolRefusal, PoolViolation, Refusal};
use crate::stats::{Gauge, Ledger, MemoryStatistics};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

/// Number of shards of the pool and of the ledgers; queues are spread over them.
const SHARDS: usize = 16;
/// Address of empty blocks: aligned, never dereferenced.
const DANGLING: Address = Address(512);

/// The memory of one device. Cheap to clone; all clones are the same memory.
#[derive(Clone)]
pub struct Memory(Arc<Inner>);

struct Inner {
    pool: Pool,
    seal: Seal,
    host_accessible: bool,
    ledgers: [Mutex<Ledger>; SHARDS],
    exact: Mutex<Exact>,
}

/// Pieces allocated from the driver directly, without the pool, and charges.
#[derive(Default)]
struct Exact {
    bytes: Gauge,
    blocks: Gauge,
    /// Freed pieces that the driver did not take back because it was sealed or refused, with their
    /// sizes.
    waiting: Vec<(Address, u64)>,
}

/// How a block is freed.
#[derive(Debug)]
pub(crate) enum Handle {
    /// Nothing to free.
    Empty,
    /// A block of the pool.
    Pooled(PoolBlock),
    /// A piece directly from the driver, and its size.
    Exact(Address, u64),
    /// A part of a larger block, which is freed with its last part.
    Part(Arc<SplitParent>),
}

/// A block that was split.
#[derive(Debug)]
pub(crate) struct SplitParent {
    memory: Memory,
    handle: Handle,
}

impl SplitParent {
    pub(crate) fn new(memory: Memory, handle: Handle) -> SplitParent {
        SplitParent { memory, handle }
    }
}

impl Drop for SplitParent {
    fn drop(&mut self) {
        let handle = std::mem::replace(&mut self.handle, Handle::Empty);
        self.memory.free(handle);
    }
}

impl Memory {
    /// Memory of this process without a limit, for dry runs: nothing is written to it, so that the
    /// system backs it with no pages.
    pub fn untouched() -> Memory {
        Memory::host(ADDRESS_SPACE_BYTES)
    }

    /// Memory of this process, up to `capacity` bytes, with default options.
    pub fn host(capacity: u64) -> Memory {
        Memory::with_driver(
            Box::new(HostDriver::new(capacity)),
            PoolConfiguration::default(),
        )
    }

    /// Memory of any driver, with any options.
    pub fn with_driver(driver: Box<dyn Driver>, configuration: PoolConfiguration) -> Memory {
        let host_accessible = driver.capabilities().host_accessible;
        let driver = Sealed::new(driver);
        let seal = driver.seal();
        let pool = Pool::with_shards(Box::new(driver), configuration, SHARDS);
        Memory(Arc::new(Inner {
            pool,
            seal,
            host_accessible,
            ledgers: Default::default(),
            exact: Mutex::default(),
        }))
    }

    /// Allocates `bytes` bytes from the caching pool, aligned to 512.
    ///
    /// # Errors
    /// If neither the cache nor the driver has enough, even after the cache was emptied.
    pub fn allocate(&self, bytes: usize, owner: Owner) -> Result<Block, OutOfMemory> {
        self.allocate_on(bytes, owner, 0)
    }

    /// Allocates for use on one queue of the device. Freed blocks are reused on their own queue
    /// only, and threads with a queue each do not contend.
    ///
    /// # Errors
    /// As [`Memory::allocate`].
    pub fn allocate_on(
        &self,
        bytes: usize,
        owner: Owner,
        queue: u64,
    ) -> Result<Block, OutOfMemory> {
        if bytes == 0 {
            return Ok(self.empty_block(owner, queue));
        }
        let block = (self.0.pool.allocate(bytes as u64, queue))
            .map_err(|refusal| self.refused(bytes as u64, &refusal))?;
        self.ledger(queue).add(owner, bytes as u64);
        let address = block.address;
        Ok(Block::new(
            self.clone(),
            Handle::Pooled(block),
            address,
            bytes,
            owner,
            queue,
        ))
    }

    /// Allocates a piece of whole pages directly from the driver: for arenas, slabs and planned
    /// workspaces. If the driver has too little, the pool's cache is emptied first.
    ///
    /// # Errors
    /// If the driver has too little even then.
    pub fn reserve_exact(&self, bytes: usize, owner: Owner) -> Result<Block, OutOfMemory> {
        if bytes == 0 {
            return Ok(self.empty_block(owner, 0));
        }
        let driver = self.0.pool.driver();
        let whole = (bytes as u64)
            .checked_next_multiple_of(driver.capabilities().granularity)
            .unwrap_or(u64::MAX);
        let address = self.ask_driver(bytes as u64, whole, || driver.allocate(whole))?;
        Ok(self.exact_block(address, whole, bytes, owner))
    }

    fn empty_block(&self, owner: Owner, queue: u64) -> Block {
        Block::new(self.clone(), Handle::Empty, DANGLING, 0, owner, queue)
    }

    /// Makes a part of a file shared, read-only bytes, without a copy. The part begins at a
    /// multiple of [`Memory::unit_bytes`]. It counts for its owner and against the capacity as
    /// memory does, although the system may drop its pages and read them from the file again.
    /// Nobody may shorten or write the file until the bytes are freed.
    ///
    /// # Errors
    /// If the driver has too little, or cannot map this part of the file, or any file.
    pub fn map_file(
        &self,
        file: &File,
        part: Range<u64>,
        owner: Owner,
    ) -> Result<SharedBlock, OutOfMemory> {
        let driver = self.0.pool.driver();
        let bytes = part.end.saturating_sub(part.start);
        let whole = bytes
            .checked_next_multiple_of(driver.capabilities().granularity)
            .unwrap_or(u64::MAX);
        let address = self.ask_driver(bytes, whole, || driver.map_file(file, part.clone()))?;
        let block = self.exact_block(address, whole, bytes as usize, owner);
        Ok(block.into_shared())
    }

    /// Counts a piece of `whole` bytes, of which `bytes` were requested.
    fn exact_block(&self, address: Address, whole: u64, bytes: usize, owner: Owner) -> Block {
        let mut exact = self.exact();
        exact.bytes.increase(whole);
        exact.blocks.increase(1);
        drop(exact);
        self.ledger(0).add(owner, bytes as u64);
        Block::new(
            self.clone(),
            Handle::Exact(address, whole),
            address,
            bytes,
            owner,
            0,
        )
    }

    /// Asks the driver for `whole` bytes, of which `bytes` were requested; again with an empty
    /// cache if it has too little.
    fn ask_driver<T>(
        &self,
        bytes: u64,
        whole: u64,
        ask: impl Fn() -> Result<T, DriverError>,
    ) -> Result<T, OutOfMemory> {
        let mut result = ask();
        if matches!(result, Err(DriverError::OutOfMemory { .. })) {
            self.0.pool.empty_cache();
            result = ask();
        }
        result.map_err(|error| {
            let refusal = PoolRefusal {
                segment_bytes: whole,
                refusal: Refusal::Driver(error),
            };
            self.refused(bytes, &refusal)
        })
    }

    pub(crate) fn add_charge(&self, bytes: u64, owner: Owner) -> Result<(), OutOfMemory> {
        self.ask_driver(bytes, bytes, || self.driver().charge(bytes))?;
        let mut exact = self.exact();
        exact.bytes.increase(bytes);
        exact.blocks.increase(1);
        drop(exact);
        self.ledger(0).add(owner, bytes);
        Ok(())
    }

    /// Ends the count of `beyond` bytes of a charge, of which `left` remain.
    pub(crate) fn shrink_charge(&self, beyond: u64, left: u64, owner: Owner) {
        self.driver().uncharge(beyond);
        self.exact().bytes.decrease(beyond);
        let mut ledger = self.ledger(0);
        ledger.remove(owner, beyond + left);
        ledger.add(owner, left);
    }

    pub(crate) fn remove_charge(&self, bytes: u64, owner: Owner) {
        self.driver().uncharge(bytes);
        let mut exact = self.exact();
        exact.bytes.decrease(bytes);
        exact.blocks.decrease(1);
        drop(exact);
        self.ledger(0).remove(owner, bytes);
    }

    /// The current statistics.
    pub fn statistics(&self) -> MemoryStatistics {
        let mut statistics = MemoryStatistics {
            pool: self.0.pool.statistics(),
            ..Default::default()
        };
        let exact = self.exact();
        statistics.exact_bytes = exact.bytes;
        statistics.exact_blocks = exact.blocks;
        drop(exact);
        for queue in 0..SHARDS as u64 {
            self.ledger(queue).add_to(&mut statistics);
        }
        statistics.add_driver_bytes(self.0.pool.driver().own_bytes());
        statistics
    }

    /// What of the ledger's pages is in the process's memory, if the driver tells.
    pub fn resident(&self) -> Option<Resident> {
        self.0.pool.driver().resident()
    }

    /// Returns cached memory to the driver, and says how many bytes.
    pub fn trim(&self) -> u64 {
        self.0.pool.empty_cache() + self.free_waiting()
    }

    /// Seals the driver: calls that need it fail, and frees are deferred.
    pub fn seal(&self) {
        self.0.seal.close();
    }

    /// Unseals the driver and carries out deferred frees.
    pub fn unseal(&self) {
        self.0.seal.open();
        self.free_waiting();
    }

    /// Verifies the pool's invariants.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check(&self) -> Result<(), PoolViolation> {
        self.0.pool.check()
    }

    /// The caching pool.
    pub fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// The driver's name.
    pub fn driver_name(&self) -> &str {
        self.0.pool.driver().name()
    }

    /// Waits until all staged bytes are on the device, and frees the host memory used for staging.
    ///
    /// # Errors
    /// If the device failed meanwhile.
    pub fn finish_staging(&self) -> Result<(), DriverError> {
        self.driver().finish_staging()
    }

    /// Granularity of the driver's allocations, in bytes.
    pub fn unit_bytes(&self) -> u64 {
        self.driver().capabilities().granularity
    }

    /// Whether this process can read and write the blocks.
    pub fn host_accessible(&self) -> bool {
        self.0.host_accessible
    }

    pub(crate) fn driver(&self) -> &dyn Driver {
        self.0.pool.driver()
    }

    pub(crate) fn give_back(&self, handle: Handle, len: usize, owner: Owner, queue: u64) {
        if matches!(handle, Handle::Empty) {
            return;
        }
        self.free(handle);
        self.ledger(queue).remove(owner, len as u64);
    }

    /// Counts a block of `len` bytes as blocks of `part` bytes each; the last one may be shorter.
    pub(crate) fn count_parts(&self, len: usize, part: usize, owner: Owner, queue: u64) {
        let mut ledger = self.ledger(queue);
        ledger.remove(owner, len as u64);
        for start in (0..len).step_by(part) {
            ledger.add(owner, part.min(len - start) as u64);
        }
    }

    fn free(&self, handle: Handle) {
        match handle {
            Handle::Empty => {}
            Handle::Pooled(block) => self.0.pool.free(block),
            Handle::Exact(address, bytes) => self.free_exact(address, bytes),
            Handle::Part(whole) => drop(whole),
        }
    }

    pub(crate) fn change_owner(&self, len: usize, from: Owner, to: Owner, queue: u64) {
        let mut ledger = self.ledger(queue);
        ledger.remove(from, len as u64);
        ledger.add(to, len as u64);
    }

    /// Shrinks a piece that came directly from the driver to `bytes`, and updates its handle.
    pub(crate) fn shrink(
        &self,
        handle: &mut Handle,
        bytes: usize,
        len: usize,
        owner: Owner,
    ) -> Result<(), DriverError> {
        let Handle::Exact(address, before) = handle else {
            return Err(DriverError::Unsupported {
                call: "shrink",
                reason: "only pieces directly from the driver can shrink",
            });
        };
        let driver = self.0.pool.driver();
        let granularity = driver.capabilities().granularity;
        let after = (bytes as u64).max(1).next_multiple_of(granularity);
        if after < *before {
            driver.shrink(*address, after)?;
            self.exact().bytes.decrease(*before - after);
            *before = after;
        }
        let mut ledger = self.ledger(0);
        ledger.remove(owner, len as u64);
        ledger.add(owner, bytes as u64);
        Ok(())
    }

    fn free_exact(&self, address: Address, bytes: u64) {
        let freed = self.0.pool.driver().free(address);
        let mut exact = self.exact();
        match freed {
            Ok(()) => {
                exact.bytes.decrease(bytes);
                exact.blocks.decrease(1);
            }
            // The piece counts as reserved until the driver takes it back.
            Err(_) => exact.waiting.push((address, bytes)),
        }
    }

    /// Retries deferred frees, and returns the bytes freed.
    fn free_waiting(&self) -> u64 {
        let waiting = std::mem::take(&mut self.exact().waiting);
        let before: u64 = waiting.iter().map(|(_, bytes)| bytes).sum();
        for (address, bytes) in waiting {
            self.free_exact(address, bytes);
        }
        let left: u64 = self.exact().waiting.iter().map(|(_, bytes)| bytes).sum();
        before.saturating_sub(left)
    }

    fn refused(&self, requested: u64, refusal: &PoolRefusal) -> OutOfMemory {
        OutOfMemory::from_refusal(requested, refusal, &self.0.pool)
            .with_owners(self.statistics().owners)
    }

    fn ledger(&self, queue: u64) -> MutexGuard<'_, Ledger> {
        self.0.ledgers[queue as usize % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn exact(&self) -> MutexGuard<'_, Exact> {
        self.0.exact.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Memory({})", self.driver_name())
    }
}
