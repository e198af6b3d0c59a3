//! Operations on the whole pool: driver calls, release of cached memory, garbage collection, waits
//! for events.
//!
//! All shards are locked during these operations, so totals and peaks are exact.

use super::PoolConfiguration;
use super::block_table::{BlockRecord, NONE};
use super::counters::{BOTH, CounterTable, FIGURES, Figure};
use super::shard::{Allocated, Request, Shard, half_of};
use super::sizes::{self, PoolHalf};
use crate::driver::{Address, Driver, DriverError, EventId};
use std::collections::{BTreeMap, VecDeque};

/// Limits on the number of ranges and on their address bytes. Beyond them, a request too large for
/// any range reserves no further range.
const RANGES_MAX: u64 = 4096;
const RANGES_BYTES_MAX: u64 = 1 << 46;

/// The state that no shard owns.
pub struct Global {
    /// Bytes reserved from the driver.
    pub reserved_bytes: u64,
    /// Allocations that emptied the cache first.
    pub alloc_retries: u64,
    /// Allocations that failed.
    pub ooms: u64,
    /// Synchronisations with all queues.
    pub syncs: u64,
    /// Segments allocated and parts of ranges mapped.
    pub device_allocs: u64,
    /// Segments freed and parts of ranges unmapped.
    pub device_frees: u64,
    /// Peaks of all totals.
    pub peak: CounterTable,
    /// Blocks that wait for events: count and bytes, by half.
    pub awaiting: [[u64; 2]; 2],
    /// Peaks of active counts and bytes while a block waited: small, large, both.
    pub active_peak: [[u64; 3]; 2],
    /// Peak of the reserved bytes, and the allocated bytes when it was reached.
    pub reserved_peak: (u64, u64),
    ranges: Vec<Option<ExpandableRange>>,
    /// For each queue, the events recorded on it and the blocks (shard, index) that wait for them.
    events: BTreeMap<u64, VecDeque<(EventId, usize, u32)>>,
    /// For each block (shard, index), the other queues that used it.
    uses: BTreeMap<(usize, u32), Vec<u64>>,
}

/// An address range whose parts are mapped as needed.
struct ExpandableRange {
    address: u64,
    bytes: u64,
    unit: u64,
}

/// Why an allocation failed after every recovery attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The driver had too little memory, or failed otherwise.
    Driver(DriverError),
    /// The request exceeds the pool's memory fraction.
    OverAllowed,
}

impl Global {
    /// The state of an empty pool.
    pub fn new() -> Global {
        Global {
            reserved_bytes: 0,
            alloc_retries: 0,
            ooms: 0,
            syncs: 0,
            device_allocs: 0,
            device_frees: 0,
            peak: [[0; 3]; FIGURES],
            awaiting: [[0; 2]; 2],
            active_peak: [[0; 3]; 2],
            reserved_peak: (0, 0),
            ranges: Vec::new(),
            events: BTreeMap::new(),
            uses: BTreeMap::new(),
        }
    }

    /// Whether a block waits for an event.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }
}

/// All shards, locked.
pub struct Exclusive<'a> {
    /// Every shard of the pool.
    pub shards: Vec<&'a mut Shard>,
    /// State outside the shards.
    pub global: &'a mut Global,
    /// The driver.
    pub driver: &'a dyn Driver,
    /// Options.
    pub configuration: &'a PoolConfiguration,
    /// Limit of the pool's reserved bytes, if one is set.
    pub allowed_bytes: Option<u64>,
}

impl Exclusive<'_> {
    /// Allocates by PyTorch's sequence of attempts.
    pub fn allocate(&mut self, home: usize, request: Request) -> Result<Allocated, Refusal> {
        self.process_events();
        let collects =
            self.allowed_bytes.is_some() && self.configuration.garbage_collection_threshold > 0.0;
        if collects {
            self.shards[home].searches[request.half as usize] += 1;
        }
        if let Some(found) = self.shards[home].search(request, self.configuration) {
            self.shards[home].take_free(found.index);
            return Ok(self.hand_out(home, found.index, request));
        }
        if collects {
            self.collect_garbage();
        }
        let mut result = self.new_block(home, request);
        if retryable(&result) && self.release_oversize(home, request) {
            result = self.new_block(home, request);
        }
        if retryable(&result) {
            self.release_cached();
            self.global.alloc_retries += 1;
            result = self.new_block(home, request);
        }
        match result {
            Ok(index) => Ok(self.hand_out(home, index, request)),
            Err(refusal) => {
                self.global.ooms += 1;
                Err(refusal)
            }
        }
    }

    fn hand_out(&mut self, home: usize, index: u32, request: Request) -> Allocated {
        let allocated = self.shards[home].hand_out_found(index, request, self.configuration);
        self.note_active();
        if self.global.reserved_bytes > self.global.reserved_peak.0 {
            self.global.reserved_peak = (
                self.global.reserved_bytes,
                self.total(Figure::AllocatedBytes, BOTH),
            );
        }
        allocated
    }

    /// A figure of all shards, once they are settled.
    pub fn settled_total(&self, figure: usize, column: usize) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.counters.value(figure, column))
            .sum()
    }

    /// The sum of a figure over all shards.
    pub fn total(&self, figure: Figure, column: usize) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.counters.current(figure, column))
            .sum()
    }

    /// A block on new memory of the driver, not in any free list.
    fn new_block(&mut self, home: usize, request: Request) -> Result<u32, Refusal> {
        let bytes = sizes::segment_size(request.rounded, self.configuration);
        if self
            .allowed_bytes
            .is_some_and(|allowed| self.global.reserved_bytes.saturating_add(bytes) > allowed)
        {
            return Err(Refusal::OverAllowed);
        }
        if self.configuration.expandable_segments {
            return self.extend_range(home, request);
        }
        let address = self.driver.allocate(bytes).map_err(Refusal::Driver)?.0;
        self.global.reserved_bytes += bytes;
        self.global.device_allocs += 1;
        let shard = &mut *self.shards[home];
        shard.counters.increase(Figure::Segment, request.half, 1);
        shard
            .counters
            .increase(Figure::ReservedBytes, request.half, bytes);
        if bytes >= self.configuration.max_split_size {
            shard
                .counters
                .increase(Figure::OversizeSegment, request.half, 1);
        }
        Ok(shard
            .blocks
            .insert(fresh_block(address, bytes, NONE, true, request)))
    }

    /// The lowest free or unmapped part of an expandable range with room for the request, mapped as
    /// far as needed.
    fn extend_range(&mut self, home: usize, request: Request) -> Result<u32, Refusal> {
        let mut candidate = match self.find_stretch(home, request) {
            Some(candidate) => candidate,
            None => self.reserve_range(home, request).map_err(Refusal::Driver)?,
        };
        if !self.shards[home].blocks[candidate].mapped {
            candidate = self
                .map_block(home, candidate, request.rounded)
                .map_err(Refusal::Driver)?;
        }
        loop {
            let record = &self.shards[home].blocks[candidate];
            if record.size >= request.rounded {
                break;
            }
            let (missing, next) = (request.rounded - record.size, record.next);
            candidate = self
                .map_block(home, next, missing)
                .map_err(Refusal::Driver)?;
        }
        self.shards[home].take_free(candidate);
        Ok(candidate)
    }

    fn find_stretch(&self, home: usize, request: Request) -> Option<u32> {
        let shard = &self.shards[home];
        let blocks = &shard.blocks;
        let free_block = |index: u32| index != NONE && blocks[index].is_free();
        shard.queues[request.queue as usize].unmapped[request.half as usize]
            .iter()
            .map(|&(_, index)| index)
            .find_map(|unmapped| {
                let before = blocks[unmapped].previous;
                let start = if free_block(before) { before } else { unmapped };
                let (mut room, mut block) = (0, start);
                while room < request.rounded && free_block(block) {
                    room += blocks[block].size;
                    block = blocks[block].next;
                }
                (room >= request.rounded).then_some(start)
            })
    }

    fn reserve_range(&mut self, home: usize, request: Request) -> Result<u32, DriverError> {
        let unit = request.half.range_unit(self.configuration);
        let total = self.driver.memory().total;
        // An eighth more than the device's memory, so that parts unmapped low in the range can be
        // mapped again at its end.
        let bytes = total
            .saturating_add(total / 8)
            .div_ceil(unit)
            .saturating_mul(unit);
        // Each request larger than any range leaves an empty range behind, which later requests use
        // first. PyTorch does the same until addresses run out; here the number is limited.
        let count = self.global.ranges.len() as u64;
        let full = count >= RANGES_MAX || count.saturating_mul(bytes) >= RANGES_BYTES_MAX;
        if request.rounded > bytes && full {
            let free = self.driver.memory().free;
            return Err(DriverError::OutOfMemory {
                requested: request.rounded,
                free,
                total,
            });
        }
        let address = self.driver.reserve(bytes, unit)?.0;
        let place = match self.global.ranges.iter().position(Option::is_none) {
            Some(place) => place,
            None => {
                self.global.ranges.push(None);
                self.global.ranges.len() - 1
            }
        };
        self.global.ranges[place] = Some(ExpandableRange {
            address,
            bytes,
            unit,
        });
        let shard = &mut *self.shards[home];
        let index = shard
            .blocks
            .insert(fresh_block(address, bytes, place as u32, false, request));
        shard.put_free(index);
        Ok(index)
    }

    /// Maps at least `bytes` bytes (or all) of an unmapped block, merges it with its neighbours and
    /// adds it to the free blocks.
    fn map_block(&mut self, home: usize, index: u32, bytes: u64) -> Result<u32, DriverError> {
        let shard = &mut *self.shards[home];
        let record = &shard.blocks[index];
        let (address, size, half) = (record.address, record.size, half_of(record));
        let mapped_bytes = bytes
            .next_multiple_of(half.range_unit(self.configuration))
            .min(size);
        self.driver.map(Address(address), mapped_bytes)?;
        shard.take_free(index);
        let record = &mut shard.blocks[index];
        record.mapped = true;
        if mapped_bytes < size {
            let rest = BlockRecord {
                address: address + mapped_bytes,
                size: size - mapped_bytes,
                mapped: false,
                previous: index,
                ..record.clone()
            };
            record.size = mapped_bytes;
            let after = rest.next;
            let rest = shard.blocks.insert(rest);
            shard.blocks[index].next = rest;
            if after != NONE {
                shard.blocks[after].previous = rest;
            }
            shard.put_free(rest);
        }
        self.merge_both_sides(home, index);
        let shard = &mut *self.shards[home];
        shard.put_free(index);
        shard
            .counters
            .increase(Figure::ReservedBytes, half, mapped_bytes);
        self.global.reserved_bytes += mapped_bytes;
        self.global.device_allocs += 1;
        Ok(index)
    }

    fn merge_both_sides(&mut self, home: usize, index: u32) {
        let shard = &mut *self.shards[home];
        let previous = shard.blocks[index].previous;
        shard.merge(index, previous);
        let next = shard.blocks[index].next;
        shard.merge(index, next);
    }

    /// Releases whole free segments of the large half, least recently used first, until the pool is
    /// below its threshold.
    fn collect_garbage(&mut self) {
        let Some(allowed) = self.allowed_bytes else {
            return;
        };
        let threshold = (self.configuration.garbage_collection_threshold * allowed as f64) as u64;
        if self.global.reserved_bytes <= threshold {
            return;
        }
        let target = self.global.reserved_bytes - threshold;
        // With collection the pool has one shard: ages are counted in searches of the whole pool.
        let (large, mut reclaimed) = (PoolHalf::Large as usize, 0);
        let age =
            |shard: &Shard, index: u32| shard.searches[large] - shard.blocks[index].searches_before;
        let mut candidates = self.free_blocks_by_queue(PoolHalf::Large);
        candidates.retain(|&(shard, index)| !self.shards[shard].blocks[index].is_split());
        let mut total_age: u64 = candidates
            .iter()
            .map(|&(shard, index)| age(self.shards[shard], index))
            .sum();
        let mut freed = true;
        while reclaimed < target && freed && !candidates.is_empty() {
            let mean_age = total_age as f64 / candidates.len() as f64;
            freed = false;
            let mut kept = Vec::new();
            for (shard, index) in std::mem::take(&mut candidates) {
                let block_age = age(self.shards[shard], index);
                let bytes = self.shards[shard].blocks[index].size;
                if block_age as f64 >= mean_age && self.release_segment(shard, index) {
                    freed = true;
                    reclaimed += bytes;
                    total_age -= block_age;
                } else {
                    kept.push((shard, index));
                }
            }
            candidates = kept;
        }
    }

    /// Free blocks of a half in PyTorch's order: by queue, size, address.
    fn free_blocks_by_queue(&self, half: PoolHalf) -> Vec<(usize, u32)> {
        let mut queues: Vec<_> = (self.shards.iter().enumerate())
            .flat_map(|(shard, locked)| {
                locked
                    .queues
                    .iter()
                    .map(move |queue| (queue.id, shard, queue))
            })
            .collect();
        queues.sort_unstable_by_key(|&(id, ..)| id);
        (queues.iter())
            .flat_map(|&(_, shard, queue)| {
                queue.free[half as usize]
                    .iter()
                    .map(move |free| (shard, free.index))
            })
            .collect()
    }

    /// Releases cached blocks above the split limit, as many as the request needs. Returns whether
    /// they suffice.
    fn release_oversize(&mut self, home: usize, request: Request) -> bool {
        let split_max = self.configuration.max_split_size;
        if split_max == u64::MAX {
            return false;
        }
        let needed = request.rounded.max(split_max);
        let place = (request.queue as usize, request.half as usize);
        let free = |exclusive: &Self| {
            exclusive.shards[home].queues[place.0].free[place.1].first_at_least(needed)
        };
        if let Some(found) = free(self)
            && !self.shards[home].blocks[found.index].is_expandable()
        {
            return self.release_segment(home, found.index);
        }
        // No single block is large enough: the largest first, down to the split limit.
        let blocks: Vec<_> = self.shards[home].queues[place.0].free[place.1]
            .iter()
            .collect();
        let mut released = 0;
        for block in blocks.into_iter().rev().filter(|block| block.size < needed) {
            if released >= needed || block.size < split_max {
                break;
            }
            if !self.shards[home].blocks[block.index].is_expandable()
                && self.release_segment(home, block.index)
            {
                released += block.size;
            }
        }
        released >= needed
    }

    /// Waits for pending events, then releases all cached memory: whole segments, and whole units
    /// of ranges.
    pub fn release_cached(&mut self) {
        self.synchronize_events();
        for half in [PoolHalf::Large, PoolHalf::Small] {
            let mut expandable = Vec::new();
            for (shard, index) in self.free_blocks_by_queue(half) {
                let record = &self.shards[shard].blocks[index];
                if record.is_expandable() {
                    expandable.push((shard, index));
                } else if !record.is_split() {
                    self.release_segment(shard, index);
                }
            }
            for (shard, index) in expandable {
                self.unmap_block(shard, index);
                let record = &self.shards[shard].blocks[index];
                if !record.mapped && !record.is_split() {
                    self.release_range(shard, index);
                }
            }
        }
        self.settle();
    }

    /// Frees a whole free segment. Returns `false`, with nothing changed, if the driver refuses.
    fn release_segment(&mut self, home: usize, index: u32) -> bool {
        let shard = &mut *self.shards[home];
        let record = &shard.blocks[index];
        let (address, size, half) = (record.address, record.size, half_of(record));
        if self.driver.free(Address(address)).is_err() {
            return false;
        }
        self.global.device_frees += 1;
        self.global.reserved_bytes -= size;
        shard.counters.decrease(Figure::Segment, half, 1);
        shard.counters.decrease(Figure::ReservedBytes, half, size);
        if size >= self.configuration.max_split_size {
            shard.counters.decrease(Figure::OversizeSegment, half, 1);
        }
        shard.take_free(index);
        shard.blocks.remove(index);
        true
    }

    /// Unmaps the whole units inside a free block of a range. `index` is the unmapped part
    /// afterwards, if there was a whole unit.
    fn unmap_block(&mut self, home: usize, index: u32) {
        let shard = &mut *self.shards[home];
        let record = &shard.blocks[index];
        let (start, end, half) = (
            record.address,
            record.address + record.size,
            half_of(record),
        );
        let Some(range) = &self.global.ranges[record.range as usize] else {
            return;
        };
        let first = range.address + (start - range.address).next_multiple_of(range.unit);
        let last = range.address + (end - range.address) / range.unit * range.unit;
        if first >= last || self.driver.unmap(Address(first), last - first).is_err() {
            return;
        }
        shard.take_free(index);
        let whole = shard.blocks[index].clone();
        if start < first {
            let before = BlockRecord {
                size: first - start,
                next: index,
                ..whole.clone()
            };
            let before = shard.blocks.insert(before);
            shard.blocks[index].previous = before;
            if whole.previous != NONE {
                shard.blocks[whole.previous].next = before;
            }
            shard.put_free(before);
        }
        if last < end {
            let after = BlockRecord {
                address: last,
                size: end - last,
                previous: index,
                ..whole.clone()
            };
            let after = shard.blocks.insert(after);
            shard.blocks[index].next = after;
            if whole.next != NONE {
                shard.blocks[whole.next].previous = after;
            }
            shard.put_free(after);
        }
        let record = &mut shard.blocks[index];
        record.address = first;
        record.size = last - first;
        record.mapped = false;
        self.merge_both_sides(home, index);
        let shard = &mut *self.shards[home];
        shard.put_free(index);
        shard
            .counters
            .decrease(Figure::ReservedBytes, half, last - first);
        self.global.reserved_bytes -= last - first;
        self.global.device_frees += 1;
    }

    /// Releases a range without mapped parts.
    fn release_range(&mut self, home: usize, index: u32) {
        let shard = &mut *self.shards[home];
        let place = shard.blocks[index].range as usize;
        let Some(range) = &self.global.ranges[place] else {
            return;
        };
        debug_assert_eq!(
            range.bytes, shard.blocks[index].size,
            "an unsplit block is its whole range"
        );
        if self.driver.release(Address(range.address)).is_err() {
            return;
        }
        self.global.ranges[place] = None;
        shard.take_free(index);
        shard.blocks.remove(index);
    }

    /// Records that another queue used a block: freeing the block waits for that queue.
    pub fn record_use(&mut self, home: usize, index: u32, queue: u64) {
        let shard = &mut *self.shards[home];
        let record = &mut shard.blocks[index];
        if shard.queues[record.queue as usize].id == queue {
            return;
        }
        record.used_elsewhere = true;
        let uses = self.global.uses.entry((home, index)).or_default();
        if !uses.contains(&queue) {
            uses.push(queue);
        }
    }

    /// Frees a block; if other queues used it, after their work is complete.
    pub fn give_back(&mut self, home: usize, index: u32) {
        self.shards[home].end_allocation(index, self.configuration);
        if !self.shards[home].blocks[index].used_elsewhere {
            self.shards[home].become_free(index);
            return;
        }
        let record = &mut self.shards[home].blocks[index];
        let (half, size) = (record.large as usize, record.size);
        record.used_elsewhere = false;
        for queue in self.global.uses.remove(&(home, index)).unwrap_or_default() {
            self.shards[home].blocks[index].event_count += 1;
            let event = self.driver.record_event(queue);
            self.global
                .events
                .entry(queue)
                .or_default()
                .push_back((event, home, index));
        }
        self.global.awaiting[0][half] += 1;
        self.global.awaiting[1][half] += size;
    }

    /// Frees the blocks whose events are complete, in each queue's order.
    fn process_events(&mut self) {
        let queues: Vec<u64> = self.global.events.keys().copied().collect();
        for queue in queues {
            while let Some(&(event, home, index)) =
                self.global.events.get(&queue).and_then(VecDeque::front)
            {
                if !self.driver.event_done(event) {
                    break;
                }
                self.finish_event(queue, home, index);
            }
        }
    }

    fn synchronize_events(&mut self) {
        self.global.syncs += 1;
        let queues: Vec<u64> = self.global.events.keys().copied().collect();
        for queue in queues {
            while let Some(&(event, home, index)) =
                self.global.events.get(&queue).and_then(VecDeque::front)
            {
                self.driver.wait_event(event);
                self.finish_event(queue, home, index);
            }
        }
    }

    fn finish_event(&mut self, queue: u64, home: usize, index: u32) {
        if let Some(pending) = self.global.events.get_mut(&queue) {
            pending.pop_front();
            if pending.is_empty() {
                self.global.events.remove(&queue);
            }
        }
        let record = &mut self.shards[home].blocks[index];
        record.event_count -= 1;
        if record.event_count == 0 {
            let (half, size) = (record.large as usize, record.size);
            self.global.awaiting[0][half] -= 1;
            self.global.awaiting[1][half] -= size;
            self.shards[home].become_free(index);
            self.settle();
        }
    }

    /// Updates the peaks of active counts and bytes while a block waits for events; otherwise they
    /// equal the allocated ones.
    fn note_active(&mut self) {
        if !self.global.has_events() {
            return;
        }
        for (kind, figure) in [Figure::Allocation, Figure::AllocatedBytes]
            .into_iter()
            .enumerate()
        {
            for column in 0..=BOTH {
                let allocated = self.total(figure, column);
                let awaiting = self.global.awaiting[kind];
                let waiting = if column == BOTH {
                    awaiting[0] + awaiting[1]
                } else {
                    awaiting[column]
                };
                let peak = &mut self.global.active_peak[kind][column];
                *peak = (*peak).max(allocated + waiting);
            }
        }
    }

    /// Updates peaks, and gives each shard the values of the others: at the start, and before
    /// another shard counts.
    pub fn settle(&mut self) {
        for figure in 0..FIGURES {
            for column in 0..=BOTH {
                let peak = &mut self.global.peak[figure][column];
                let mut total = 0;
                for shard in &self.shards {
                    let counters = &shard.counters;
                    *peak = (*peak)
                        .max(counters.limit[figure][column] + counters.others[figure][column]);
                    total += counters.value(figure, column);
                }
                for shard in &mut self.shards {
                    let others = total - shard.counters.value(figure, column);
                    shard.counters.others[figure][column] = others;
                    shard.counters.limit[figure][column] = *peak - others;
                }
            }
        }
    }

    /// Ends the exclusive section: the distance from each total to its peak is divided among the
    /// shards, half of it to `home`.
    pub fn distribute_limits(&mut self, home: usize) {
        self.settle();
        let users = self
            .shards
            .iter()
            .filter(|shard| !shard.queues.is_empty())
            .count()
            .max(2) as u64;
        for figure in 0..FIGURES {
            for column in 0..=BOTH {
                let total = self.settled_total(figure, column);
                let slack = self.global.peak[figure][column] - total;
                for (place, shard) in self.shards.iter_mut().enumerate() {
                    let share = match (place == home, shard.queues.is_empty()) {
                        (true, _) => slack - slack / 2,
                        (false, true) => 0,
                        (false, false) => slack / 2 / (users - 1),
                    };
                    shard.counters.limit[figure][column] =
                        shard.counters.value(figure, column) + share;
                    // An unlocked shard stays within its limit, so it cannot raise a peak.
                    shard.counters.others[figure][column] = 0;
                }
            }
        }
    }
}

fn retryable(result: &Result<u32, Refusal>) -> bool {
    match result {
        Ok(_) => false,
        Err(Refusal::OverAllowed) => true,
        Err(Refusal::Driver(error)) => matches!(error, DriverError::OutOfMemory { .. }),
    }
}

fn fresh_block(address: u64, size: u64, range: u32, mapped: bool, request: Request) -> BlockRecord {
    BlockRecord {
        address,
        size,
        requested: 0,
        previous: NONE,
        next: NONE,
        range,
        event_count: 0,
        searches_before: 0,
        queue: request.queue,
        large: request.half == PoolHalf::Large,
        allocated: false,
        mapped,
        used_elsewhere: false,
        vacant: false,
    }
}
