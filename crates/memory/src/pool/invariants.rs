//! Invariants that hold after every operation, checked in debug builds and on request.

use super::block_table::{BlockRecord, NONE};
use super::counters::{BOTH, Figure};
use super::exclusive::Exclusive;
use super::shard::Shard;
use super::sizes::{BLOCK_UNIT, PoolHalf};

/// An invariant that does not hold: a defect of the pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pool is inconsistent: {0}")]
pub struct PoolViolation(pub(super) String);

macro_rules! hold {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(PoolViolation(format!($($message)+)));
        }
    };
}

/// In debug builds, checks the shard's totals after each operation; with feature `audit`, every
/// block as well.
#[inline]
pub fn after_operation(shard: &Shard) {
    if cfg!(debug_assertions) || cfg!(feature = "audit") {
        let result = check_totals(shard);
        let result = if cfg!(feature = "audit") {
            result.and_then(|()| check_blocks(shard))
        } else {
            result
        };
        if let Err(violation) = result {
            panic!("{violation}");
        }
    }
}

/// Checks all blocks of all shards, and the shards' reserved bytes against the pool's own sum.
pub fn check(exclusive: &Exclusive<'_>) -> Result<(), PoolViolation> {
    let mut reserved = 0;
    for shard in &exclusive.shards {
        check_totals(shard)?;
        check_blocks(shard)?;
        reserved += shard.counters.current(Figure::ReservedBytes, BOTH);
    }
    hold!(
        reserved == exclusive.global.reserved_bytes,
        "shards reserve {reserved} bytes and the pool counts {}",
        exclusive.global.reserved_bytes
    );
    Ok(())
}

fn check_totals(shard: &Shard) -> Result<(), PoolViolation> {
    let [allocated, requested, reserved] = [
        Figure::AllocatedBytes,
        Figure::RequestedBytes,
        Figure::ReservedBytes,
    ]
    .map(|figure| shard.counters.current(figure, BOTH));
    hold!(
        allocated <= reserved,
        "{allocated} bytes are allocated out of {reserved} bytes reserved"
    );
    hold!(
        requested <= reserved,
        "{requested} bytes were requested out of {reserved} bytes reserved"
    );
    Ok(())
}

fn check_blocks(shard: &Shard) -> Result<(), PoolViolation> {
    let mut sums = [[0_u64; 2]; 6];
    let mut listed = 0;
    for (index, block) in shard.blocks.iter() {
        check_block(shard, index, block)?;
        let half = block.large as usize;
        if block.mapped {
            sums[0][half] += block.size;
        }
        if block.allocated {
            sums[1][half] += block.size;
            sums[2][half] += 1;
        }
        if block.allocated || block.event_count > 0 {
            sums[3][half] += block.requested;
        } else if block.mapped && block.is_split() && !block.is_expandable() {
            sums[4][half] += block.size;
            sums[5][half] += 1;
        }
        listed += u64::from(block.is_free());
    }
    let figures = [
        Figure::ReservedBytes,
        Figure::AllocatedBytes,
        Figure::Allocation,
        Figure::RequestedBytes,
        Figure::InactiveSplitBytes,
        Figure::InactiveSplit,
    ];
    for (figure, sum) in figures.into_iter().zip(sums) {
        let counted = [0, 1].map(|half| shard.counters.current(figure, half));
        hold!(
            counted == sum,
            "{figure:?}: counted {counted:?}, the blocks sum up to {sum:?}"
        );
    }
    let in_lists: usize = (shard.queues.iter())
        .flat_map(|queue| {
            [0, 1].map(|half| queue.free[half].iter().count() + queue.unmapped[half].len())
        })
        .sum();
    hold!(
        listed == in_lists as u64,
        "{listed} blocks are free and {in_lists} are in free lists"
    );
    Ok(())
}

fn check_block(shard: &Shard, index: u32, block: &BlockRecord) -> Result<(), PoolViolation> {
    let place = block.address;
    hold!(
        block.size > 0 && block.size.is_multiple_of(BLOCK_UNIT),
        "block {place:#x} has {} bytes",
        block.size
    );
    hold!(
        !block.allocated || block.requested <= block.size,
        "block {place:#x} is smaller than the request"
    );
    hold!(
        block.mapped || block.is_expandable(),
        "block {place:#x} is unmapped but not in a range"
    );
    hold!(
        block.mapped || block.is_free(),
        "block {place:#x} is in use without memory"
    );
    if block.next != NONE {
        let next = &shard.blocks[block.next];
        hold!(
            !next.vacant && next.previous == index,
            "block {place:#x} and its neighbour above do not agree"
        );
        hold!(
            block.address + block.size == next.address,
            "block {place:#x} does not end where its neighbour begins"
        );
        hold!(
            block.range == next.range && block.large == next.large,
            "block {place:#x} has a neighbour of another piece"
        );
        hold!(
            !(block.is_free() && next.is_free() && block.mapped == next.mapped),
            "block {place:#x} and its neighbour above are free and were not merged"
        );
    }
    if block.is_free() {
        let queue = &shard.queues[block.queue as usize];
        let half = if block.large {
            PoolHalf::Large
        } else {
            PoolHalf::Small
        } as usize;
        let listed = if block.mapped {
            let key = super::free_blocks::FreeBlock {
                size: block.size,
                address: block.address,
                index,
            };
            queue.free[half].contains(key)
        } else {
            queue.unmapped[half].contains(&(block.address, index))
        };
        hold!(listed, "free block {place:#x} is not in a free list");
    }
    Ok(())
}
