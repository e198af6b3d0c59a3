//! The pool's statistics under PyTorch's names.

use super::counters::{BOTH, Figure};
use super::exclusive::Exclusive;
use crate::stats::{Gauge, GaugeByPool};
use serde::{Serialize, Serializer};

/// The statistics of a pool, with PyTorch's names and meanings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolStatistics {
    /// Allocated blocks.
    pub allocation: GaugeByPool,
    /// Segments; expandable ranges are not counted.
    pub segment: GaugeByPool,
    /// Blocks allocated, or waiting for events of other queues.
    pub active: GaugeByPool,
    /// Free blocks that are parts of segments.
    pub inactive_split: GaugeByPool,
    /// Bytes of allocated blocks, rounded.
    pub allocated_bytes: GaugeByPool,
    /// Bytes reserved from the driver.
    pub reserved_bytes: GaugeByPool,
    /// Bytes of blocks allocated or waiting.
    pub active_bytes: GaugeByPool,
    /// Bytes of free blocks that are parts of segments.
    pub inactive_split_bytes: GaugeByPool,
    /// Bytes of blocks allocated or waiting, before rounding.
    pub requested_bytes: GaugeByPool,
    /// Allocated blocks above the split limit.
    pub oversize_allocations: Gauge,
    /// Segments above the split limit.
    pub oversize_segments: Gauge,
    /// Allocations that emptied the cache first.
    pub num_alloc_retries: u64,
    /// Allocations that failed.
    pub num_ooms: u64,
    /// Synchronisations with all queues.
    pub num_sync_all_streams: u64,
    /// Segments allocated and parts of ranges mapped.
    pub num_device_alloc: u64,
    /// Segments freed and parts of ranges unmapped.
    pub num_device_free: u64,
    /// The largest size that may be split; `u64::MAX` without a limit, which PyTorch writes as −1.
    #[serde(serialize_with = "limit_or_minus_one")]
    pub max_split_size: u64,
}

fn limit_or_minus_one<S: Serializer>(limit: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    match *limit {
        u64::MAX => serializer.serialize_i64(-1),
        limit => serializer.serialize_u64(limit),
    }
}

/// Sums over the shards, whose peaks must be settled.
pub(super) fn collect(exclusive: &Exclusive<'_>) -> PoolStatistics {
    let gauge = |figure: Figure, column: usize| {
        let sum = |value: &dyn Fn(&super::counters::Counters) -> u64| {
            exclusive
                .shards
                .iter()
                .map(|shard| value(&shard.counters))
                .sum()
        };
        let current: u64 = sum(&|counters| counters.current(figure, column));
        let allocated: u64 = sum(&|counters| counters.added(figure, column));
        let peak = exclusive.global.peak[figure as usize][column];
        Gauge {
            current,
            peak,
            allocated,
            freed: allocated - current,
        }
    };
    let by_pool = |figure| GaugeByPool {
        all: gauge(figure, BOTH),
        small_pool: gauge(figure, 0),
        large_pool: gauge(figure, 1),
    };
    // Active is allocated plus waiting. While no block waits, both have the same peak.
    let active = |allocated: GaugeByPool, kind: usize| {
        let waiting = exclusive.global.awaiting[kind];
        let peak = exclusive.global.active_peak[kind];
        let with = |gauge: Gauge, waiting: u64, peak: u64| Gauge {
            current: gauge.current + waiting,
            peak: gauge.peak.max(peak),
            allocated: gauge.allocated,
            freed: gauge.freed - waiting,
        };
        GaugeByPool {
            all: with(allocated.all, waiting[0] + waiting[1], peak[BOTH]),
            small_pool: with(allocated.small_pool, waiting[0], peak[0]),
            large_pool: with(allocated.large_pool, waiting[1], peak[1]),
        }
    };
    let allocation = by_pool(Figure::Allocation);
    let allocated_bytes = by_pool(Figure::AllocatedBytes);
    let global = &*exclusive.global;
    PoolStatistics {
        allocation,
        segment: by_pool(Figure::Segment),
        active: active(allocation, 0),
        inactive_split: by_pool(Figure::InactiveSplit),
        allocated_bytes,
        reserved_bytes: by_pool(Figure::ReservedBytes),
        active_bytes: active(allocated_bytes, 1),
        inactive_split_bytes: by_pool(Figure::InactiveSplitBytes),
        requested_bytes: by_pool(Figure::RequestedBytes),
        oversize_allocations: gauge(Figure::OversizeAllocation, BOTH),
        oversize_segments: gauge(Figure::OversizeSegment, BOTH),
        num_alloc_retries: global.alloc_retries,
        num_ooms: global.ooms,
        num_sync_all_streams: global.syncs,
        num_device_alloc: global.device_allocs,
        num_device_free: global.device_frees,
        max_split_size: exclusive.configuration.max_split_size,
    }
}
