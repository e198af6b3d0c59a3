//! The part of a pool that serves some queues by itself: search, split, merge. It makes no driver
//! call.

use super::PoolConfiguration;
use super::block_table::{BlockRecord, BlockTable, NONE};
use super::counters::{Counters, Figure};
use super::free_blocks::{FreeBlock, FreeBlocks};
use super::sizes::{self, PoolHalf};
use std::collections::BTreeSet;

/// Cached free blocks and unmapped parts of one queue.
pub struct ShardQueue {
    /// The device's queue.
    pub id: u64,
    /// Free blocks of both halves.
    pub free: [FreeBlocks; 2],
    /// Unmapped parts of expandable ranges, by address.
    pub unmapped: [BTreeSet<(u64, u32)>; 2],
}

/// Queues, their blocks and their share of the statistics.
pub struct Shard {
    /// All blocks.
    pub blocks: BlockTable,
    /// Queues in order of first use.
    pub queues: Vec<ShardQueue>,
    /// Statistics.
    pub counters: Counters,
    /// Searches in each half; the clock of garbage collection.
    pub searches: [u64; 2],
    /// Whether the limits of the counters apply: only if there are other shards.
    pub limited: bool,
}

/// A request in progress.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Bytes requested.
    pub bytes: u64,
    /// The rounded block size.
    pub rounded: u64,
    /// The half of the pool.
    pub half: PoolHalf,
    /// Index of the queue in its shard.
    pub queue: u16,
}

/// An allocated block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// Index in the shard's block table.
    pub index: u32,
    /// First address.
    pub address: u64,
    /// Size of the block, at least the size requested.
    pub size: u64,
}

/// The limits do not allow the operation; nothing was changed.
#[derive(Clone, Copy, Debug)]
pub struct NeedsAllShards;

impl Shard {
    /// A shard without queues.
    pub fn new(limited: bool) -> Shard {
        Shard {
            blocks: BlockTable::default(),
            queues: Vec::new(),
            counters: Counters::new(),
            searches: [0; 2],
            limited,
        }
    }

    /// Index of a queue, which is created at its first use.
    #[inline]
    pub fn queue(&mut self, id: u64) -> u16 {
        if let Some(place) = self.queues.iter().position(|queue| queue.id == id) {
            return place as u16;
        }
        self.add_queue(id)
    }

    #[cold]
    fn add_queue(&mut self, id: u64) -> u16 {
        let place = u16::try_from(self.queues.len()).expect("a shard has fewer than 65,536 queues");
        self.queues.push(ShardQueue {
            id,
            free: [FreeBlocks::new(), FreeBlocks::new()],
            unmapped: [BTreeSet::new(), BTreeSet::new()],
        });
        place
    }

    /// The best-fitting free block by PyTorch's rules, or `None`.
    #[inline]
    pub fn search(&self, request: Request, configuration: &PoolConfiguration) -> Option<FreeBlock> {
        let free = &self.queues[request.queue as usize].free[request.half as usize];
        let mut found = free.first_at_least(request.rounded)?;
        if configuration.expandable_segments && self.blocks[found.index].is_expandable() {
            // A block in front of unmapped addresses counts with the size that it could grow to:
            // the least growth wins.
            while let Some(next) = free.next_after(found) {
                if self.growable_size(next) >= self.growable_size(found) {
                    break;
                }
                found = next;
                if !self.blocks[found.index].is_expandable() {
                    break;
                }
            }
        }
        let split_max = configuration.max_split_size;
        let oversize_block = found.size >= split_max;
        let refused = if request.rounded < split_max {
            oversize_block
        } else {
            found.size
                >= request
                    .rounded
                    .saturating_add(configuration.max_non_split_rounding_size)
        };
        (!refused).then_some(found)
    }

    fn growable_size(&self, block: FreeBlock) -> u64 {
        let next = self.blocks[block.index].next;
        let growth = if next != NONE && !self.blocks[next].mapped {
            self.blocks[next].size
        } else {
            0
        };
        block.size + growth
    }

    /// Whether the remainder of a free block stays free when `request` takes its front.
    fn splits(
        &self,
        block: FreeBlock,
        request: Request,
        configuration: &PoolConfiguration,
    ) -> bool {
        let rest = block.size - request.rounded;
        if request.half == PoolHalf::Small || configuration.expandable_segments {
            rest >= sizes::BLOCK_UNIT
        } else {
            request.rounded < configuration.max_split_size && rest > sizes::SMALL_REQUEST_MAX
        }
    }

    /// Allocates a free block of this shard if one fits.
    #[inline]
    pub fn allocate_cached(
        &mut self,
        request: Request,
        configuration: &PoolConfiguration,
    ) -> Result<Option<Allocated>, NeedsAllShards> {
        let Some(found) = self.search(request, configuration) else {
            return Ok(None);
        };
        let splits = self.splits(found, request, configuration);
        if self.limited && !self.limits_allow(found, request, splits, configuration) {
            return Err(NeedsAllShards);
        }
        self.queues[request.queue as usize].free[request.half as usize].remove(found);
        Ok(Some(self.hand_out(
            found.index,
            request,
            splits,
            configuration,
        )))
    }

    fn limits_allow(
        &self,
        found: FreeBlock,
        request: Request,
        splits: bool,
        configuration: &PoolConfiguration,
    ) -> bool {
        let size = if splits { request.rounded } else { found.size };
        let record = &self.blocks[found.index];
        let new_split = splits && !record.is_split() && !record.is_expandable();
        let allows = |figure, amount| self.counters.allows(figure, request.half, amount);
        allows(Figure::Allocation, 1)
            && allows(Figure::AllocatedBytes, size)
            && allows(Figure::RequestedBytes, request.bytes)
            && (size < configuration.max_split_size || allows(Figure::OversizeAllocation, 1))
            && (!new_split
                || (allows(Figure::InactiveSplit, 1)
                    && allows(Figure::InactiveSplitBytes, found.size - size)))
    }

    /// Allocates a block that was removed from the free blocks; splits it if it is too large.
    pub fn hand_out_found(
        &mut self,
        index: u32,
        request: Request,
        configuration: &PoolConfiguration,
    ) -> Allocated {
        let record = &self.blocks[index];
        let found = FreeBlock {
            size: record.size,
            address: record.address,
            index,
        };
        let splits = self.splits(found, request, configuration);
        self.hand_out(index, request, splits, configuration)
    }

    #[inline]
    fn hand_out(
        &mut self,
        found: u32,
        request: Request,
        splits: bool,
        configuration: &PoolConfiguration,
    ) -> Allocated {
        let half = request.half;
        let was_split = self.blocks[found].is_split();
        let counted = !self.blocks[found].is_expandable();
        let index = if splits {
            let (front, rest_bytes) = self.split_front(found, request);
            if counted && was_split {
                self.counters
                    .decrease(Figure::InactiveSplitBytes, half, request.rounded);
            } else if counted {
                self.counters
                    .increase(Figure::InactiveSplitBytes, half, rest_bytes);
                self.counters.increase(Figure::InactiveSplit, half, 1);
            }
            front
        } else {
            if counted && was_split {
                self.counters
                    .decrease(Figure::InactiveSplitBytes, half, self.blocks[found].size);
                self.counters.decrease(Figure::InactiveSplit, half, 1);
            }
            found
        };
        let record = &mut self.blocks[index];
        record.allocated = true;
        record.requested = request.bytes;
        let allocated = Allocated {
            index,
            address: record.address,
            size: record.size,
        };
        self.counters.increase(Figure::Allocation, half, 1);
        self.counters
            .increase(Figure::AllocatedBytes, half, allocated.size);
        self.counters
            .increase(Figure::RequestedBytes, half, request.bytes);
        if allocated.size >= configuration.max_split_size {
            self.counters.increase(Figure::OversizeAllocation, half, 1);
        }
        allocated
    }

    /// Splits the front off a block that is not in a free list; the remainder is added to the free
    /// blocks.
    #[inline]
    fn split_front(&mut self, found: u32, request: Request) -> (u32, u64) {
        let rest = &mut self.blocks[found];
        let front = BlockRecord {
            size: request.rounded,
            next: found,
            ..rest.clone()
        };
        rest.address += request.rounded;
        rest.size -= request.rounded;
        let rest_bytes = rest.size;
        let previous = front.previous;
        let front = self.blocks.insert(front);
        self.blocks[found].previous = front;
        if previous != NONE {
            self.blocks[previous].next = front;
        }
        self.put_free(found);
        (front, rest_bytes)
    }

    /// Frees a block that no other queue used and coalesces it with its free neighbours.
    #[inline]
    pub fn give_back(
        &mut self,
        index: u32,
        configuration: &PoolConfiguration,
    ) -> Result<(), NeedsAllShards> {
        if self.limited && !self.limits_allow_free(index) {
            return Err(NeedsAllShards);
        }
        self.end_allocation(index, configuration);
        self.become_free(index);
        Ok(())
    }

    /// Counts a block as no longer allocated.
    #[inline]
    pub fn end_allocation(&mut self, index: u32, configuration: &PoolConfiguration) {
        let record = &mut self.blocks[index];
        debug_assert!(
            record.allocated && !record.vacant,
            "only an allocated block can be freed"
        );
        record.allocated = false;
        let (half, size) = (half_of(record), record.size);
        self.counters.decrease(Figure::Allocation, half, 1);
        self.counters.decrease(Figure::AllocatedBytes, half, size);
        if size >= configuration.max_split_size {
            self.counters.decrease(Figure::OversizeAllocation, half, 1);
        }
    }

    /// Whether counting the block and its merged neighbours as split free blocks stays within the
    /// limits.
    fn limits_allow_free(&self, index: u32) -> bool {
        let record = &self.blocks[index];
        if record.is_expandable() {
            return true;
        }
        // A merged block replaces neighbours that were counted already, so at most its own size is
        // new.
        !record.is_split()
            || (self
                .counters
                .allows(Figure::InactiveSplit, half_of(record), 1)
                && self
                    .counters
                    .allows(Figure::InactiveSplitBytes, half_of(record), record.size))
    }

    /// Coalesces a block with its free neighbours and adds it to the free blocks.
    #[inline]
    pub fn become_free(&mut self, index: u32) {
        let record = &self.blocks[index];
        let (half, expandable, requested) =
            (half_of(record), record.is_expandable(), record.requested);
        let (previous, next) = (record.previous, record.next);
        let (mut split_blocks, mut split_bytes) = (0_i64, 0_i64);
        for neighbour in [previous, next] {
            if let Some(bytes) = self.merge(index, neighbour) {
                split_blocks -= 1;
                split_bytes -= bytes as i64;
            }
        }
        self.put_free(index);
        if self.blocks[index].is_split() {
            split_blocks += 1;
            split_bytes += self.blocks[index].size as i64;
        }
        if !expandable {
            self.change(Figure::InactiveSplit, half, split_blocks);
            self.change(Figure::InactiveSplitBytes, half, split_bytes);
        }
        self.counters
            .decrease(Figure::RequestedBytes, half, requested);
    }

    #[inline]
    fn change(&mut self, figure: Figure, half: PoolHalf, amount: i64) {
        if amount > 0 {
            self.counters.increase(figure, half, amount as u64);
        } else if amount < 0 {
            self.counters.decrease(figure, half, amount.unsigned_abs());
        }
    }

    /// Merges `other` into its neighbour `index` if it is free and both are mapped or both
    /// unmapped. Returns the bytes gained.
    #[inline]
    pub fn merge(&mut self, index: u32, other: u32) -> Option<u64> {
        if other == NONE
            || !self.blocks[other].is_free()
            || self.blocks[other].mapped != self.blocks[index].mapped
        {
            return None;
        }
        self.take_free(other);
        let gone = &self.blocks[other];
        let (address, size, previous, next) = (gone.address, gone.size, gone.previous, gone.next);
        let record = &mut self.blocks[index];
        record.size += size;
        if record.previous == other {
            record.address = address;
            record.previous = previous;
            if previous != NONE {
                self.blocks[previous].next = index;
            }
        } else {
            record.next = next;
            if next != NONE {
                self.blocks[next].previous = index;
            }
        }
        self.blocks.remove(other);
        Some(size)
    }

    /// Adds a block to the free blocks, or the unmapped parts, of its queue.
    #[inline]
    pub fn put_free(&mut self, index: u32) {
        let record = &mut self.blocks[index];
        let queue = &mut self.queues[record.queue as usize];
        let half = record.large as usize;
        if record.mapped {
            record.searches_before = self.searches[half];
            queue.free[half].insert(FreeBlock {
                size: record.size,
                address: record.address,
                index,
            });
        } else {
            queue.unmapped[half].insert((record.address, index));
        }
    }

    /// Removes a block from the free blocks, or the unmapped parts, of its queue.
    #[inline]
    pub fn take_free(&mut self, index: u32) {
        let record = &self.blocks[index];
        let queue = &mut self.queues[record.queue as usize];
        let half = record.large as usize;
        let found = if record.mapped {
            queue.free[half].remove(FreeBlock {
                size: record.size,
                address: record.address,
                index,
            })
        } else {
            queue.unmapped[half].remove(&(record.address, index))
        };
        debug_assert!(found, "a free block is in its queue's free list");
    }
}

/// The half that a block belongs to.
#[inline]
pub fn half_of(record: &BlockRecord) -> PoolHalf {
    if record.large {
        PoolHalf::Large
    } else {
        PoolHalf::Small
    }
}
