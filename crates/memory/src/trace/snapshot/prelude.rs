//! Brings a fresh pool into the state that an allocator had at the start of the ring.
//!
//! The cache of a pool decides what it requests from the driver, so a replay that starts from the
//! live blocks alone ends with other segments than the recording. Here every segment is allocated
//! in the order of addresses and filled from its start, live blocks and gaps alike, while no other
//! free block could serve a request. The gaps are freed afterwards.

use super::ranges::Range;
use super::survey::{EarlyBlock, Survey};
use crate::driver::Address;
use crate::pool::PoolConfiguration;
use crate::pool::sizes::{BLOCK_UNIT, SMALL_REQUEST_MAX, round_request};
use crate::trace::event::{Event, TagId};

/// The start of a snapshot's replay.
#[derive(Clone, Debug, Default)]
pub struct Beginning {
    /// The events that bring a fresh pool into the state at the start of the recording.
    pub events: Vec<Event>,
    /// Addresses and sizes of the recorded segments, in the order in which a replay allocates them:
    /// among blocks of equal size the pool takes the one at the lowest address. For
    /// [`SimulatedDriver::with_places`](crate::driver::SimulatedDriver::with_places).
    pub places: Vec<(Address, u64)>,
}

/// The beginning. `tags` are those of the live blocks, and block `i` has the id `i`.
pub(super) fn beginning(
    survey: &Survey,
    tags: &[TagId],
    configuration: &PoolConfiguration,
) -> Beginning {
    let whole = survey.start_ranges.iter().filter(|range| !range.expandable);
    Beginning {
        events: prelude(&survey.start_ranges, &survey.early, tags, configuration),
        places: whole
            .chain(&survey.taken)
            .map(|range| (Address(range.address), range.bytes))
            .collect(),
    }
}

fn prelude(
    ranges: &[Range],
    blocks: &[EarlyBlock],
    tags: &[TagId],
    configuration: &PoolConfiguration,
) -> Vec<Event> {
    let mut prelude = Prelude {
        blocks,
        tags,
        configuration,
        events: Vec::new(),
        gaps: Vec::new(),
        holes: Vec::new(),
        next_gap: u64::MAX,
    };
    let (expandable, whole): (Vec<Range>, Vec<Range>) =
        ranges.iter().partition(|range| range.expandable);
    for range in whole {
        prelude.segment(range);
    }
    let mut grouped = expandable;
    grouped.sort_by_key(|range| (range.stream, range.small, range.address));
    for group in
        grouped.chunk_by(|one, other| (one.stream, one.small) == (other.stream, other.small))
    {
        prelude.expandable(group);
    }
    prelude.finish()
}

struct Prelude<'a> {
    blocks: &'a [EarlyBlock],
    tags: &'a [TagId],
    configuration: &'a PoolConfiguration,
    events: Vec<Event>,
    /// Ids of allocations that stand for free blocks.
    gaps: Vec<u64>,
    /// Ids of allocations that stand for unmapped parts of expandable segments.
    holes: Vec<u64>,
    next_gap: u64,
}

impl Prelude<'_> {
    fn finish(mut self) -> Vec<Event> {
        let holes = std::mem::take(&mut self.holes);
        if !holes.is_empty() {
            self.events
                .extend(holes.into_iter().map(|id| Event::Free { id }));
            self.events.push(Event::Marker("clear".into()));
        }
        let gaps = std::mem::take(&mut self.gaps);
        self.events
            .extend(gaps.into_iter().map(|id| Event::Free { id }));
        self.events
    }

    /// Allocates a segment as a whole, then fills it.
    fn segment(&mut self, range: Range) {
        let opener = if range.small { BLOCK_UNIT } else { range.bytes };
        let id = self.allocate_gap(opener, range.stream);
        self.events.push(Event::Free { id });
        self.fill(range);
    }

    /// Allocates the parts of an expandable segment, and the holes between them.
    fn expandable(&mut self, parts: &[Range]) {
        let mut end = None;
        for &part in parts {
            if let Some(end) = end
                && end < part.address
            {
                for bytes in pieces(part.address - end, part.small) {
                    let id = self.allocate_gap(bytes, part.stream);
                    self.holes.push(id);
                }
            }
            self.fill(part);
            end = Some(part.end());
        }
    }

    /// Fills a range from its start with its blocks and gaps.
    fn fill(&mut self, range: Range) {
        let first = self
            .blocks
            .partition_point(|block| block.address < range.address);
        let mut address = range.address;
        for index in first..self.blocks.len() {
            let block = &self.blocks[index];
            if block.address >= range.end() {
                break;
            }
            if block.address < address {
                // The block overlaps the previous one: the recording is inconsistent here.
                continue;
            }
            self.gap(block.address - address, range);
            let known = [
                self.blocks.get(index + 1).map(|next| next.address),
                block.next_address,
            ];
            let next = known.into_iter().flatten().fold(range.end(), u64::min);
            let rounded = round_request(block.requested_bytes, self.configuration);
            let mut bytes = block.block_bytes.unwrap_or(rounded);
            let rest = next.saturating_sub(block.address.saturating_add(bytes));
            let splits = match block.block_bytes {
                Some(_) => is_block(rest, range),
                None => is_block(rest, range) && bytes < self.configuration.max_split_size,
            };
            if rest > 0 && !splits {
                // The remainder was too small to be split off, or too small for a block of this
                // pool.
                bytes += rest;
            }
            // The block size without rounding to divisions, which is off during the beginning.
            let plain = block.requested_bytes.max(1).next_multiple_of(BLOCK_UNIT);
            let asked = if bytes == plain {
                block.requested_bytes
            } else {
                bytes
            };
            self.events.push(Event::Allocate {
                id: index as u64,
                bytes: asked,
                tag: self.tags[index],
                stream: range.stream,
            });
            address = block.address.saturating_add(bytes);
        }
        self.gap(range.end().saturating_sub(address), range);
    }

    fn gap(&mut self, bytes: u64, range: Range) {
        for bytes in pieces(bytes, range.small) {
            let id = self.allocate_gap(bytes, range.stream);
            self.gaps.push(id);
        }
    }

    fn allocate_gap(&mut self, bytes: u64, stream: u64) -> u64 {
        let id = self.next_gap;
        self.next_gap -= 1;
        self.events.push(Event::Allocate {
            id,
            bytes,
            tag: TagId::default(),
            stream,
        });
        id
    }
}

/// Whether so many bytes can be a free block of their own.
fn is_block(bytes: u64, range: Range) -> bool {
    if range.small {
        bytes >= BLOCK_UNIT
    } else {
        bytes > SMALL_REQUEST_MAX
    }
}

/// Requests that fill `bytes` bytes of a segment of the small or the large pool.
fn pieces(bytes: u64, small: bool) -> impl Iterator<Item = u64> {
    let piece_max = if small { SMALL_REQUEST_MAX } else { u64::MAX };
    let mut left = if small || bytes > SMALL_REQUEST_MAX {
        bytes
    } else {
        0
    };
    std::iter::from_fn(move || {
        let piece = left.min(piece_max);
        left -= piece;
        (piece > 0).then_some(piece)
    })
}
