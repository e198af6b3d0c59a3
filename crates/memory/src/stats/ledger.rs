//! Usage by owner, region, tag and stream.

use super::{MemoryStatistics, Usage};
use crate::owner::{Owner, OwnerUsage, Region, StreamId};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;

/// Usage by owner and by each part of an owner.
///
/// A process serves any number of streams, so the entries of a stream are removed when it holds
/// nothing.
#[derive(Default)]
pub(crate) struct Ledger {
    owners: FxHashMap<Owner, Usage>,
    regions: [Usage; Region::ALL.len()],
    tags: FxHashMap<&'static str, Usage>,
    streams: FxHashMap<StreamId, Usage>,
}

impl Ledger {
    /// Counts a block of `bytes` bytes for its owner.
    pub(crate) fn add(&mut self, owner: Owner, bytes: u64) {
        self.owners.entry(owner).or_default().add(bytes);
        self.regions[owner.region as usize].add(bytes);
        self.tags.entry(owner.tag).or_default().add(bytes);
        if let Some(stream) = owner.stream {
            self.streams.entry(stream).or_default().add(bytes);
        }
    }

    /// Subtracts a block of `bytes` bytes from its owner.
    pub(crate) fn remove(&mut self, owner: Owner, bytes: u64) {
        self.regions[owner.region as usize].remove(bytes);
        if let Some(usage) = self.tags.get_mut(owner.tag) {
            usage.remove(bytes);
        }
        if let Some(usage) = self.owners.get_mut(&owner) {
            usage.remove(bytes);
            if owner.stream.is_some() && usage.live_blocks == 0 {
                self.owners.remove(&owner);
            }
        }
        if let Some(stream) = owner.stream
            && let Some(usage) = self.streams.get_mut(&stream)
        {
            usage.remove(bytes);
            if usage.live_blocks == 0 {
                self.streams.remove(&stream);
            }
        }
    }

    /// Adds this ledger's figures to `statistics`. Peaks are summed, which is an upper bound.
    pub(crate) fn add_to(&self, statistics: &mut MemoryStatistics) {
        let merge = |into: &mut Usage, usage: &Usage| {
            into.live_bytes += usage.live_bytes;
            into.peak_bytes += usage.peak_bytes;
            into.live_blocks += usage.live_blocks;
        };
        for (region, usage) in Region::ALL.into_iter().zip(&self.regions) {
            merge(statistics.regions.entry(region).or_default(), usage);
        }
        for (tag, usage) in &self.tags {
            merge(statistics.tags.entry(tag).or_default(), usage);
        }
        for (stream, usage) in &self.streams {
            merge(statistics.streams.entry(*stream).or_default(), usage);
        }
        for (&owner, &usage) in &self.owners {
            let Usage {
                live_bytes,
                peak_bytes,
                live_blocks,
            } = usage;
            match statistics
                .owners
                .iter_mut()
                .find(|known| known.owner == owner)
            {
                Some(known) => {
                    known.live_bytes += live_bytes;
                    known.peak_bytes += peak_bytes;
                    known.live_blocks += live_blocks;
                }
                None => statistics.owners.push(OwnerUsage {
                    owner,
                    live_bytes,
                    peak_bytes,
                    live_blocks,
                }),
            }
        }
        statistics
            .owners
            .sort_by_key(|known| (Reverse(known.live_bytes), known.owner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_blocks_is_removed_and_a_tag_keeps_its_peak() {
        let mut ledger = Ledger::default();
        let owner = Owner::new(Region::KeyValue, "test");
        for stream in 0..100 {
            ledger.add(owner.for_stream(StreamId(stream)), 10);
            ledger.remove(owner.for_stream(StreamId(stream)), 10);
        }
        let mut statistics = MemoryStatistics::default();
        ledger.add_to(&mut statistics);
        assert!(
            statistics.streams.is_empty() && statistics.owners.is_empty(),
            "ended streams take no room"
        );
        assert_eq!(
            statistics.tags["test"],
            Usage {
                live_bytes: 0,
                peak_bytes: 10,
                live_blocks: 0
            }
        );
    }
}
