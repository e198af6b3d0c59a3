//! The pool's public interface: shards by queue, each behind its own lock, and one lock for global
//! state.

use super::counters::{BOTH, FIGURES, Figure};
use super::exclusive::{Exclusive, Global, Refusal};
use super::shard::{Allocated, Request, Shard};
use super::sizes::{self, PoolHalf};
use super::{
    PoolConfiguration, PoolStatistics, PoolViolation, ROUNDUP_INTERVALS, invariants, statistics,
};
use crate::driver::{Address, Driver};
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, PoisonError};

/// A caching pool over a driver, with PyTorch's rules.
///
/// Where the pool has several shards, requests of different queues go to different shards, so that
/// threads with a queue each do not contend. Lock order: shards in ascending order, then the global
/// state.
pub struct Pool {
    driver: Box<dyn Driver>,
    configuration: PoolConfiguration,
    allowed_bytes: Option<u64>,
    /// Garbage collection counts ages in searches of all queues, so every allocation locks the
    /// whole pool.
    collects: bool,
    /// Whether a block waits for an event.
    events_pending: AtomicBool,
    shards: Box<[Padded]>,
    global: Mutex<Global>,
}

/// A shard with its own cache lines.
#[repr(align(128))]
struct Padded(Mutex<Shard>);

/// A block allocated from a [`Pool`], to be freed into the same pool.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the pool counts the block as allocated until it is freed"]
pub struct PoolBlock {
    shard: u16,
    index: u32,
    /// First address; a multiple of 512 on all devices.
    pub address: Address,
    /// Size of the block in bytes, at least the size requested.
    pub size: u64,
}

/// An allocation that failed after every recovery attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolRefusal {
    /// Size of the segment that the driver would have had to allocate.
    pub segment_bytes: u64,
    /// The reason.
    pub refusal: Refusal,
}

impl PoolBlock {
    #[inline]
    fn new(home: usize, block: Allocated) -> PoolBlock {
        PoolBlock {
            shard: home as u16,
            index: block.index,
            address: Address(block.address),
            size: block.size,
        }
    }
}

/// A request, and the size it is rounded to.
struct Ask {
    bytes: u64,
    rounded: u64,
    queue: u64,
}

impl Ask {
    #[inline]
    fn new(bytes: u64, queue: u64, configuration: &PoolConfiguration) -> Ask {
        let rounded = sizes::round_request(bytes.min(sizes::REQUEST_MAX), configuration);
        Ask {
            bytes,
            rounded,
            queue,
        }
    }

    #[inline]
    fn request(&self, shard: &mut Shard) -> Request {
        Request {
            bytes: self.bytes,
            rounded: self.rounded,
            half: PoolHalf::of(self.rounded),
            queue: shard.queue(self.queue),
        }
    }

    /// A free block of the shard, if one fits and the limits allow it.
    #[inline]
    fn serve_from_cache(
        &self,
        shard: &mut Shard,
        home: usize,
        configuration: &PoolConfiguration,
    ) -> Option<PoolBlock> {
        let request = self.request(shard);
        let block = shard.allocate_cached(request, configuration).ok()??;
        invariants::after_operation(shard);
        Some(PoolBlock::new(home, block))
    }
}

/// Frees a block into its shard. Returns `false`, with nothing changed, if that takes a lock on the
/// whole pool.
#[inline]
fn give_back(shard: &mut Shard, index: u32, configuration: &PoolConfiguration) -> bool {
    let done = !shard.blocks[index].used_elsewhere && shard.give_back(index, configuration).is_ok();
    if done {
        invariants::after_operation(shard);
    }
    done
}

impl Pool {
    /// A pool with one shard, for use by a single thread.
    pub fn new(driver: Box<dyn Driver>, configuration: PoolConfiguration) -> Pool {
        Pool::with_shards(driver, configuration, 1)
    }

    /// A pool whose queues are spread over `shard_count` shards (1 to 256). Expandable segments are
    /// off if the driver has no address ranges.
    pub fn with_shards(
        driver: Box<dyn Driver>,
        configuration: PoolConfiguration,
        shard_count: usize,
    ) -> Pool {
        let mut configuration = configuration;
        if driver.capabilities().ranges.is_err() {
            configuration.expandable_segments = false;
        }
        let total = driver.memory().total;
        let allowed_bytes = configuration
            .per_process_memory_fraction
            .map(|fraction| (fraction * total as f64) as u64);
        let collects = allowed_bytes.is_some() && configuration.garbage_collection_threshold > 0.0;
        let shard_count = if collects {
            1
        } else {
            shard_count.clamp(1, 256)
        };
        let shards = (0..shard_count)
            .map(|_| Padded(Mutex::new(Shard::new(shard_count > 1))))
            .collect();
        Pool {
            driver,
            configuration,
            allowed_bytes,
            collects,
            events_pending: AtomicBool::new(false),
            shards,
            global: Mutex::new(Global::new()),
        }
    }

    /// The options.
    pub fn configuration(&self) -> &PoolConfiguration {
        &self.configuration
    }

    /// The driver below.
    pub fn driver(&self) -> &dyn Driver {
        &*self.driver
    }

    /// Limit of the pool's reserved bytes, if one is set.
    pub fn allowed_bytes(&self) -> Option<u64> {
        self.allowed_bytes
    }

    /// Allocates a block of at least `bytes` bytes for use on `queue`.
    ///
    /// # Errors
    /// If neither the cache nor the driver has enough, even after the cache was emptied.
    pub fn allocate(&self, bytes: u64, queue: u64) -> Result<PoolBlock, Box<PoolRefusal>> {
        let home = self.home(queue);
        let ask = Ask::new(bytes, queue, &self.configuration);
        if self.one_shard_suffices(&ask)
            && let Some(block) =
                ask.serve_from_cache(&mut self.lock(home), home, &self.configuration)
        {
            return Ok(block);
        }
        self.allocate_exclusively(home, &ask)
    }

    /// [`Pool::allocate`] with exclusive access, without a lock.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn allocate_mut(&mut self, bytes: u64, queue: u64) -> Result<PoolBlock, Box<PoolRefusal>> {
        let home = self.home(queue);
        let ask = Ask::new(bytes, queue, &self.configuration);
        if self.one_shard_suffices(&ask) {
            let shard = self.shards[home]
                .0
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(block) = ask.serve_from_cache(shard, home, &self.configuration) {
                return Ok(block);
            }
        }
        self.allocate_exclusively(home, &ask)
    }

    #[inline]
    fn one_shard_suffices(&self, ask: &Ask) -> bool {
        !self.collects
            && !self.events_pending.load(Ordering::Acquire)
            && ask.bytes <= sizes::REQUEST_MAX
    }

    #[cold]
    fn allocate_exclusively(&self, home: usize, ask: &Ask) -> Result<PoolBlock, Box<PoolRefusal>> {
        self.exclusively(home, |exclusive| {
            if ask.bytes > sizes::REQUEST_MAX {
                exclusive.global.ooms += 1;
                return Err(Box::new(PoolRefusal {
                    segment_bytes: ask.bytes,
                    refusal: Refusal::OverAllowed,
                }));
            }
            let request = ask.request(exclusive.shards[home]);
            match exclusive.allocate(home, request) {
                Ok(block) => Ok(PoolBlock::new(home, block)),
                Err(refusal) => Err(Box::new(PoolRefusal {
                    segment_bytes: sizes::segment_size(ask.rounded, exclusive.configuration),
                    refusal,
                })),
            }
        })
    }

    /// Frees a block.
    pub fn free(&self, block: PoolBlock) {
        let home = block.shard as usize;
        if !give_back(&mut self.lock(home), block.index, &self.configuration) {
            self.exclusively(home, |exclusive| exclusive.give_back(home, block.index));
        }
    }

    /// [`Pool::free`] with exclusive access, without a lock.
    pub fn free_mut(&mut self, block: PoolBlock) {
        let home = block.shard as usize;
        let shard = self.shards[home]
            .0
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if !give_back(shard, block.index, &self.configuration) {
            self.exclusively(home, |exclusive| exclusive.give_back(home, block.index));
        }
    }

    /// Records that work on `queue` uses the block: after it is freed, the block is reused only
    /// once that work is complete.
    pub fn record_use(&self, block: &PoolBlock, queue: u64) {
        let home = block.shard as usize;
        self.exclusively(home, |exclusive| {
            exclusive.record_use(home, block.index, queue)
        });
    }

    /// Returns all cached memory to the driver, and says how many bytes.
    pub fn empty_cache(&self) -> u64 {
        self.exclusively(0, |exclusive| {
            let before = exclusive.global.reserved_bytes;
            exclusive.release_cached();
            before - exclusive.global.reserved_bytes
        })
    }

    /// All statistics.
    pub fn statistics(&self) -> PoolStatistics {
        self.exclusively(0, |exclusive| {
            exclusive.settle();
            statistics::collect(exclusive)
        })
    }

    /// Current allocated and reserved bytes.
    pub fn allocated_and_reserved(&self) -> (u64, u64) {
        (0..self.shards.len()).map(|place| self.lock(place)).fold(
            (0, 0),
            |(allocated, reserved), shard| {
                (
                    allocated + shard.counters.current(Figure::AllocatedBytes, BOTH),
                    reserved + shard.counters.current(Figure::ReservedBytes, BOTH),
                )
            },
        )
    }

    /// Peak of the reserved bytes, and the allocated bytes when it was reached.
    pub fn reserved_peak(&self) -> (u64, u64) {
        self.exclusively(0, |exclusive| exclusive.global.reserved_peak)
    }

    /// Changes the divisions that requests are rounded by; returns the previous ones. PyTorch also
    /// allows this at run time.
    pub fn set_roundup(&mut self, divisions: [u64; ROUNDUP_INTERVALS]) -> [u64; ROUNDUP_INTERVALS] {
        std::mem::replace(&mut self.configuration.roundup_power2_divisions, divisions)
    }

    /// Resets all peaks to the current values.
    pub fn reset_peaks(&self) {
        self.exclusively(0, |exclusive| {
            exclusive.settle();
            exclusive.global.active_peak = Default::default();
            let allocated = exclusive.total(Figure::AllocatedBytes, BOTH);
            exclusive.global.reserved_peak = (exclusive.global.reserved_bytes, allocated);
            for figure in 0..FIGURES {
                for column in 0..=BOTH {
                    let total = exclusive.settled_total(figure, column);
                    exclusive.global.peak[figure][column] = total;
                    for shard in &mut exclusive.shards {
                        shard.counters.limit[figure][column] = shard.counters.value(figure, column);
                    }
                }
            }
        });
    }

    /// Walks all segments and verifies that blocks tile them, that no two neighbours are both free,
    /// and that totals equal sums.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check(&self) -> Result<(), PoolViolation> {
        self.exclusively(0, |exclusive| invariants::check(exclusive))
    }

    fn home(&self, queue: u64) -> usize {
        match self.shards.len() {
            1 => 0,
            // Device queues are addresses or small numbers; the multiplication spreads both.
            count => (queue.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % count,
        }
    }

    fn lock(&self, place: usize) -> MutexGuard<'_, Shard> {
        self.shards[place]
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusively<T>(&self, home: usize, work: impl FnOnce(&mut Exclusive<'_>) -> T) -> T {
        let mut guards: Vec<_> = (0..self.shards.len())
            .map(|place| self.lock(place))
            .collect();
        let mut global = self.global.lock().unwrap_or_else(PoisonError::into_inner);
        let mut exclusive = Exclusive {
            shards: guards.iter_mut().map(|guard| &mut **guard).collect(),
            global: &mut global,
            driver: &*self.driver,
            configuration: &self.configuration,
            allowed_bytes: self.allowed_bytes,
        };
        if exclusive.shards.len() > 1 {
            exclusive.settle();
        }
        let result = work(&mut exclusive);
        if exclusive.shards.len() > 1 {
            exclusive.distribute_limits(home);
        }
        for shard in &exclusive.shards {
            invariants::after_operation(shard);
        }
        self.events_pending
            .store(exclusive.global.has_events(), Ordering::Release);
        result
    }
}
