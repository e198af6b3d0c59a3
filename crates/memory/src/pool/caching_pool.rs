//! The pool as its users see it: shards by queue, each with its own lock, and one lock for what concerns all.

use super::counters::{BOTH, FIGURES, Figure};
use super::exclusive::{Exclusive, Global, Refusal};
use super::shard::{Request, Shard};
use super::sizes::{self, PoolHalf};
use super::{PoolConfiguration, PoolStatistics, Violation, invariants, statistics};
use crate::driver::{Address, Driver};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A caching pool over a driver, with PyTorch's rules.
///
/// Requests of different queues go to different shards where the pool has several, so that threads with a queue each do not
/// wait for each other. Order of locks: shards in their order, then the global state.
pub struct Pool {
    driver: Box<dyn Driver>,
    configuration: PoolConfiguration,
    allowed_bytes: Option<u64>,
    /// Every allocation needs the whole pool: ages of garbage collection are counted in searches of all queues.
    collects: bool,
    /// Some block waits for an event.
    events_pending: AtomicBool,
    shards: Box<[Padded]>,
    global: Mutex<Global>,
}

/// A shard on cache lines of its own.
#[repr(align(128))]
struct Padded(Mutex<Shard>);

/// A block handed out by a [`Pool`], to be given back to it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the pool counts the block as handed out until it is given back"]
pub struct PoolBlock {
    shard: u16,
    index: u32,
    /// First address, a multiple of 512 on all devices.
    pub address: Address,
    /// Size of the block, at least the bytes asked for.
    pub size: u64,
}

/// An allocation that failed after all that could be done.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolRefusal {
    /// Bytes that the driver would have had to give: the size of the segment.
    pub segment_bytes: u64,
    /// Why it was not to be had.
    pub refusal: Refusal,
}

impl Pool {
    /// A pool with one shard: the right one for a single thread.
    pub fn new(driver: Box<dyn Driver>, configuration: PoolConfiguration) -> Pool {
        Pool::with_shards(driver, configuration, 1)
    }

    /// A pool whose queues are spread over `shard_count` shards (at least 1, at most 256). Expandable segments are off where
    /// the driver has no ranges.
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

    /// The most bytes that the pool may hold, if that was limited.
    pub fn allowed_bytes(&self) -> Option<u64> {
        self.allowed_bytes
    }

    /// A block of at least `bytes` bytes for use on `queue`.
    ///
    /// # Errors
    /// If neither the cache nor the driver has enough, also after everything cached was given back.
    pub fn allocate(&self, bytes: u64, queue: u64) -> Result<PoolBlock, PoolRefusal> {
        if bytes > sizes::REQUEST_MAX {
            self.exclusively(0, |exclusive| exclusive.global.ooms += 1);
            return Err(PoolRefusal {
                segment_bytes: bytes,
                refusal: Refusal::OverAllowed,
            });
        }
        let rounded = sizes::round_request(bytes, &self.configuration);
        let half = PoolHalf::of(rounded);
        let home = self.home(queue);
        if !self.collects && !self.events_pending.load(Ordering::Acquire) {
            let mut shard = self.lock(home);
            let request = Request {
                bytes,
                rounded,
                half,
                queue: shard.queue(queue),
            };
            if let Ok(Some(block)) = shard.allocate_cached(request, &self.configuration) {
                invariants::after_operation(&shard);
                return Ok(PoolBlock {
                    shard: home as u16,
                    index: block.index,
                    address: Address(block.address),
                    size: block.size,
                });
            }
        }
        self.exclusively(home, |exclusive| {
            let request = Request {
                bytes,
                rounded,
                half,
                queue: exclusive.shards[home].queue(queue),
            };
            match exclusive.allocate(home, request) {
                Ok(block) => Ok(PoolBlock {
                    shard: home as u16,
                    index: block.index,
                    address: Address(block.address),
                    size: block.size,
                }),
                Err(refusal) => Err(PoolRefusal {
                    segment_bytes: sizes::segment_size(rounded),
                    refusal,
                }),
            }
        })
    }

    /// Takes a block back.
    pub fn free(&self, block: PoolBlock) {
        let home = block.shard as usize;
        let mut shard = self.lock(home);
        if !shard.blocks[block.index].used_elsewhere
            && shard.give_back(block.index, &self.configuration).is_ok()
        {
            invariants::after_operation(&shard);
            return;
        }
        drop(shard);
        self.exclusively(home, |exclusive| exclusive.give_back(home, block.index));
    }

    /// Notes that work on `queue` uses the block: once given back, it is free only when that work is done.
    pub fn record_use(&self, block: &PoolBlock, queue: u64) {
        let home = block.shard as usize;
        self.exclusively(home, |exclusive| {
            exclusive.record_use(home, block.index, queue)
        });
    }

    /// Gives everything cached back to the driver; the bytes given back.
    pub fn empty_cache(&self) -> u64 {
        self.exclusively(0, |exclusive| {
            let before = exclusive.global.reserved_bytes;
            exclusive.release_cached();
            before - exclusive.global.reserved_bytes
        })
    }

    /// All figures.
    pub fn statistics(&self) -> PoolStatistics {
        self.exclusively(0, |exclusive| {
            exclusive.settle();
            statistics::collect(exclusive)
        })
    }

    /// Bytes handed out and bytes held from the driver, now.
    pub fn allocated_and_reserved(&self) -> (u64, u64) {
        (0..self.shards.len()).map(|place| self.lock(place)).fold(
            (0, 0),
            |(allocated, reserved), shard| {
                let current = &shard.counters.current;
                (
                    allocated + current[Figure::AllocatedBytes as usize][BOTH],
                    reserved + current[Figure::ReservedBytes as usize][BOTH],
                )
            },
        )
    }

    /// Most bytes held from the driver at once, and bytes handed out when that was reached.
    pub fn reserved_peak(&self) -> (u64, u64) {
        self.exclusively(0, |exclusive| exclusive.global.reserved_peak)
    }

    /// Peaks count from now on.
    pub fn reset_peaks(&self) {
        self.exclusively(0, |exclusive| {
            exclusive.settle();
            exclusive.global.active_peak = Default::default();
            exclusive.global.reserved_peak = (0, 0);
            for figure in 0..FIGURES {
                for column in 0..=BOTH {
                    let total: u64 = exclusive
                        .shards
                        .iter()
                        .map(|shard| shard.counters.current[figure][column])
                        .sum();
                    exclusive.global.peak[figure][column] = total;
                    for shard in &mut exclusive.shards {
                        shard.counters.limit[figure][column] =
                            shard.counters.current[figure][column];
                    }
                }
            }
        });
    }

    /// Walks all segments and verifies that blocks tile them, no two free neighbours exist, and totals equal sums.
    ///
    /// # Errors
    /// With the statement that does not hold.
    pub fn check(&self) -> Result<(), Violation> {
        self.exclusively(0, |exclusive| invariants::check(exclusive))
    }

    fn home(&self, queue: u64) -> usize {
        match self.shards.len() {
            1 => 0,
            // Device queues are addresses or small numbers: the multiplication spreads both.
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
            exclusive.share_limits(home);
        }
        for shard in &exclusive.shards {
            invariants::after_operation(shard);
        }
        self.events_pending
            .store(exclusive.global.has_events(), Ordering::Release);
        result
    }
}
