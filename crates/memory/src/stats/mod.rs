//! Counters: current and peak reserved, allocated and requested bytes, by owner.

mod ledger;
mod metrics;
mod size;
mod timeline;

pub(crate) use ledger::Ledger;
pub use metrics::{MemoryMetrics, MetricsRecorder};
pub use size::parse_bytes;
pub use timeline::{Sample, Timeline};

use crate::owner::{Owner, OwnerUsage, Region, StreamId};
use crate::pool::PoolStatistics;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

/// A number of bytes, displayed in MiB and the like as PyTorch displays it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bytes(bytes) = *self;
        let text = match bytes {
            0..=1024 => format!("{bytes} bytes"),
            1025..=1_048_576 => format!("{:.2} KiB", bytes as f64 / 1024.0),
            1_048_577..=1_073_741_824 => format!("{:.2} MiB", bytes as f64 / 1_048_576.0),
            _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
        };
        formatter.pad(&text)
    }
}

/// A gauge with its peak and its running totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gauge {
    /// Current value.
    pub current: u64,
    /// Largest value.
    pub peak: u64,
    /// Sum of all increases.
    pub allocated: u64,
    /// Sum of all decreases.
    pub freed: u64,
}

impl Gauge {
    /// Adds `amount`.
    pub fn increase(&mut self, amount: u64) {
        self.current += amount;
        self.peak = self.peak.max(self.current);
        self.allocated += amount;
    }

    /// Subtracts `amount`.
    pub fn decrease(&mut self, amount: u64) {
        self.current -= amount;
        self.freed += amount;
    }
}

/// A gauge for the whole pool and for each half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GaugeByPool {
    /// Both halves together.
    pub all: Gauge,
    /// Requests up to 1 MiB.
    pub small_pool: Gauge,
    /// Larger requests.
    pub large_pool: Gauge,
}

/// Current and peak usage of a group of owners, before rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Bytes held now.
    pub live_bytes: u64,
    /// The most bytes held at once.
    pub peak_bytes: u64,
    /// Blocks held now.
    pub live_blocks: u64,
}

impl Usage {
    /// Counts an allocated block of `bytes` bytes.
    pub fn add(&mut self, bytes: u64) {
        self.live_bytes += bytes;
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
        self.live_blocks += 1;
    }

    /// Counts a freed block of `bytes` bytes.
    pub fn remove(&mut self, bytes: u64) {
        self.live_bytes -= bytes;
        self.live_blocks -= 1;
    }
}

/// The statistics of one memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryStatistics {
    /// The pool's statistics, with PyTorch's names.
    #[serde(flatten)]
    pub pool: PoolStatistics,
    /// Bytes allocated from the driver directly, outside the pool.
    pub exact_bytes: Gauge,
    /// Pieces allocated from the driver directly.
    pub exact_blocks: Gauge,
    /// Bytes of the device that its driver holds for itself; 0 on the host.
    pub driver_bytes: u64,
    /// By region.
    pub regions: BTreeMap<Region, Usage>,
    /// By tag.
    pub tags: BTreeMap<&'static str, Usage>,
    /// By stream; streams that hold nothing are left out.
    pub streams: BTreeMap<StreamId, Usage>,
    /// Every current or past owner, largest first.
    pub owners: Vec<OwnerUsage>,
}

impl Deref for MemoryStatistics {
    type Target = PoolStatistics;

    fn deref(&self) -> &PoolStatistics {
        &self.pool
    }
}

impl MemoryStatistics {
    /// (reserved − allocated) ÷ reserved, of the pool; 0 if nothing is reserved.
    pub fn fragmentation(&self) -> f64 {
        match self.reserved_bytes.all.current {
            0 => 0.0,
            reserved => (reserved - self.allocated_bytes.all.current) as f64 / reserved as f64,
        }
    }

    /// Adds the driver's own bytes, under an owner of their own.
    pub(crate) fn add_driver_bytes(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let owner = Owner::new(Region::Driver, "driver");
        let usage = Usage {
            live_bytes: bytes,
            peak_bytes: bytes,
            live_blocks: 1,
        };
        self.driver_bytes = bytes;
        self.regions.insert(owner.region, usage);
        self.tags.insert(owner.tag, usage);
        self.owners.push(OwnerUsage {
            owner,
            live_bytes: bytes,
            peak_bytes: bytes,
            live_blocks: 1,
        });
        self.owners
            .sort_by_key(|known| (Reverse(known.live_bytes), known.owner));
    }

    /// Bytes reserved from the driver, by the pool and directly.
    pub fn held_bytes(&self) -> u64 {
        self.reserved_bytes.all.current + self.exact_bytes.current
    }

    /// The pool's and the directly reserved bytes' peaks, together: at least the most bytes ever
    /// held.
    pub fn held_peak_bytes(&self) -> u64 {
        self.reserved_bytes.all.peak + self.exact_bytes.peak
    }

    /// Calls of the driver that allocated or freed.
    pub fn driver_calls(&self) -> u64 {
        self.num_device_alloc
            + self.num_device_free
            + self.exact_blocks.allocated
            + self.exact_blocks.freed
    }
}
