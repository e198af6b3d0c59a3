//! A shard's share of the statistics.
//!
//! Each shard counts for itself. Peaks belong to the whole pool, so a shard also has a *limit* for
//! each figure: how far it may grow before the pool's total could exceed its peak. Within its
//! limits a shard is independent of the others. A step beyond a limit locks all shards, where the
//! totals are known (see `exclusive`). With a single shard the limit is the peak.

use super::sizes::PoolHalf;

/// A statistic that is kept for each half of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Allocated blocks.
    Allocation,
    /// Bytes of allocated blocks.
    AllocatedBytes,
    /// Bytes of allocated blocks before rounding.
    RequestedBytes,
    /// Free blocks that are parts of segments.
    InactiveSplit,
    /// Bytes of free blocks that are parts of segments.
    InactiveSplitBytes,
    /// Segments (not expandable ranges).
    Segment,
    /// Bytes reserved from the driver.
    ReservedBytes,
    /// Allocated blocks above the split limit; counted in the large half.
    OversizeAllocation,
    /// Segments above the split limit; counted in the large half.
    OversizeSegment,
}

/// Number of figures.
pub const FIGURES: usize = 9;
/// A figure's columns: small half, large half, both.
pub const COLUMNS: usize = 3;
/// The column of the sum of both halves.
pub const BOTH: usize = 2;

/// One value for each figure and column.
pub type CounterTable = [[u64; COLUMNS]; FIGURES];

/// Current values, limits and sums of increases.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Current values, by half.
    current: [[u64; 2]; FIGURES],
    /// Sums of all increases, by half.
    added: [[u64; 2]; FIGURES],
    /// Largest values that need no lock on the other shards.
    pub limit: CounterTable,
    /// Values of the other shards, while all are locked.
    pub others: CounterTable,
}

impl Counters {
    /// All zero.
    pub fn new() -> Counters {
        Counters {
            current: [[0; 2]; FIGURES],
            added: [[0; 2]; FIGURES],
            limit: [[0; COLUMNS]; FIGURES],
            others: [[0; COLUMNS]; FIGURES],
        }
    }

    /// The current value.
    #[inline]
    pub fn current(&self, figure: Figure, column: usize) -> u64 {
        self.value(figure as usize, column)
    }

    /// The current value, by the figure's number.
    #[inline]
    pub fn value(&self, figure: usize, column: usize) -> u64 {
        match column {
            BOTH => self.current[figure][0] + self.current[figure][1],
            half => self.current[figure][half],
        }
    }

    /// The sum of all increases.
    pub fn added(&self, figure: Figure, column: usize) -> u64 {
        let added = self.added[figure as usize];
        if column == BOTH {
            added[0] + added[1]
        } else {
            added[column]
        }
    }

    /// Whether an increase stays within the limits.
    #[inline]
    pub fn allows(&self, figure: Figure, half: PoolHalf, amount: u64) -> bool {
        let limit = &self.limit[figure as usize];
        self.current(figure, half as usize) + amount <= limit[half as usize]
            && self.current(figure, BOTH) + amount <= limit[BOTH]
    }

    /// Adds to a value. A value that passes its limit raises the limit.
    #[inline]
    pub fn increase(&mut self, figure: Figure, half: PoolHalf, amount: u64) {
        let (figure, half) = (figure as usize, half as usize);
        self.current[figure][half] += amount;
        self.added[figure][half] += amount;
        let (value, both) = (self.current[figure][half], self.value(figure, BOTH));
        let limit = &mut self.limit[figure];
        limit[half] = limit[half].max(value);
        limit[BOTH] = limit[BOTH].max(both);
    }

    /// Subtracts from a value.
    #[inline]
    pub fn decrease(&mut self, figure: Figure, half: PoolHalf, amount: u64) {
        let current = &mut self.current[figure as usize][half as usize];
        debug_assert!(*current >= amount, "{figure:?} must not be negative");
        *current -= amount;
    }
}
