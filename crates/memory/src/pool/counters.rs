//! A shard's share of the statistics.
//!
//! Each shard counts for itself. Peaks belong to the whole pool, so a shard also knows how far each of its figures may grow
//! before the pool's total could pass its peak: its *limit*. Within its limits it needs to ask nobody; what would pass one is
//! done under the locks of all shards, where totals are known (see `exclusive`). With a single shard the limit is the peak.

use super::sizes::PoolHalf;

/// A figure that is kept for each half of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Blocks handed out.
    Allocation,
    /// Their bytes.
    AllocatedBytes,
    /// Their bytes before rounding.
    RequestedBytes,
    /// Free blocks that are parts of segments.
    InactiveSplit,
    /// Their bytes.
    InactiveSplitBytes,
    /// Segments (not expandable ranges).
    Segment,
    /// Bytes held from the driver.
    ReservedBytes,
    /// Blocks handed out that are larger than may be split; counted in the large half.
    OversizeAllocation,
    /// Segments that are larger than may be split; counted in the large half.
    OversizeSegment,
}

/// Number of figures.
pub const FIGURES: usize = 9;
/// A figure's columns: small half, large half, both.
pub const COLUMNS: usize = 3;
/// The column of both halves together.
pub const BOTH: usize = 2;

/// One value for each figure and column.
pub type Table = [[u64; COLUMNS]; FIGURES];

/// Current values, limits and sums of increases.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Values now.
    pub current: Table,
    /// Largest values that need no word from the other shards.
    pub limit: Table,
    /// All increases so far; only the columns of the halves.
    pub added: Table,
    /// What the other shards hold, while all are locked.
    pub others: Table,
}

impl Counters {
    /// All zero.
    pub fn new() -> Counters {
        Counters {
            current: [[0; 3]; 9],
            limit: [[0; 3]; 9],
            added: [[0; 3]; 9],
            others: [[0; 3]; 9],
        }
    }

    /// Whether an increase stays within the limits.
    #[inline]
    pub fn allows(&self, figure: Figure, half: PoolHalf, amount: u64) -> bool {
        let (current, limit) = (&self.current[figure as usize], &self.limit[figure as usize]);
        current[half as usize] + amount <= limit[half as usize]
            && current[BOTH] + amount <= limit[BOTH]
    }

    /// Adds; a value past its limit moves the limit along.
    #[inline]
    pub fn increase(&mut self, figure: Figure, half: PoolHalf, amount: u64) {
        let (current, limit) = (
            &mut self.current[figure as usize],
            &mut self.limit[figure as usize],
        );
        let half = half as usize;
        current[half] += amount;
        current[BOTH] += amount;
        limit[half] = limit[half].max(current[half]);
        limit[BOTH] = limit[BOTH].max(current[BOTH]);
        self.added[figure as usize][half] += amount;
    }

    /// Takes away.
    #[inline]
    pub fn decrease(&mut self, figure: Figure, half: PoolHalf, amount: u64) {
        let current = &mut self.current[figure as usize];
        debug_assert!(
            current[half as usize] >= amount,
            "{figure:?} never goes below zero"
        );
        current[half as usize] -= amount;
        current[BOTH] -= amount;
    }
}
