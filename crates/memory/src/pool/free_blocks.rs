//! The free blocks of one queue and pool half, ordered by (size, address).
//!
//! Sizes are multiples of 512. Each size up to 32 KiB has its own bin; each larger power of two has
//! sixteen bins. A bitmap marks the non-empty bins. A bin usually holds few blocks, in a sorted
//! vector. A bin that grows becomes a tree, so that no trace makes an operation slower than
//! logarithmic.

use super::sizes::BLOCK_UNIT;
use std::collections::BTreeSet;

/// Bins with a single size: 1 to 63 units.
const EXACT_BINS: usize = 64;
/// Bins for each power of two above those.
const BINS_PER_DOUBLING: usize = 16;
/// Exponents 6 to 54 of the size in units.
const BINS: usize = EXACT_BINS + 49 * BINS_PER_DOUBLING;
const WORDS: usize = BINS.div_ceil(64);
/// Size at which a vector becomes a tree; a tree that shrinks to half of it becomes a vector.
const SORTED_MAX: usize = 64;

/// A free block: ordered by size, then address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FreeBlock {
    /// Size in bytes.
    pub size: u64,
    /// First address.
    pub address: u64,
    /// Index in the block table.
    pub index: u32,
}

enum Bin {
    Sorted(Vec<FreeBlock>),
    Tree(BTreeSet<FreeBlock>),
}

/// Free blocks in order.
pub struct FreeBlocks {
    bins: Box<[Bin]>,
    /// One bit per bin, set if the bin is not empty.
    occupied: [u64; WORDS],
    /// One bit per word of `occupied`, set if the word is not zero.
    occupied_words: u32,
}

const _: () = assert!(WORDS <= 32, "one summary bit for each word");

impl FreeBlocks {
    /// An empty set.
    pub fn new() -> FreeBlocks {
        let bins = (0..BINS).map(|_| Bin::Sorted(Vec::new())).collect();
        FreeBlocks {
            bins,
            occupied: [0; WORDS],
            occupied_words: 0,
        }
    }

    /// Adds a block.
    #[inline]
    pub fn insert(&mut self, block: FreeBlock) {
        let bin = bin_of(block.size);
        self.bins[bin].insert(block);
        self.occupied[bin / 64] |= 1 << (bin % 64);
        self.occupied_words |= 1 << (bin / 64);
    }

    /// Removes a block; `false` if it is not in the set.
    #[inline]
    pub fn remove(&mut self, block: FreeBlock) -> bool {
        let bin = bin_of(block.size);
        let found = self.bins[bin].remove(block);
        if self.bins[bin].is_empty() {
            self.occupied[bin / 64] &= !(1 << (bin % 64));
            if self.occupied[bin / 64] == 0 {
                self.occupied_words &= !(1 << (bin / 64));
            }
        }
        found
    }

    /// Whether a block is in the set.
    pub fn contains(&self, block: FreeBlock) -> bool {
        self.bins[bin_of(block.size)].first_from(block) == Some(block)
    }

    /// Best fit: the smallest block of at least `size` bytes, at the lowest address.
    #[inline]
    pub fn first_at_least(&self, size: u64) -> Option<FreeBlock> {
        let bin = bin_of(size);
        self.bins[bin]
            .first_from(FreeBlock {
                size,
                address: 0,
                index: 0,
            })
            .or_else(|| {
                self.next_occupied(bin + 1)
                    .and_then(|bin| self.bins[bin].first())
            })
    }

    /// The next block in order.
    pub fn next_after(&self, block: FreeBlock) -> Option<FreeBlock> {
        let bin = bin_of(block.size);
        self.bins[bin]
            .first_from(FreeBlock {
                index: block.index + 1,
                ..block
            })
            .or_else(|| {
                self.next_occupied(bin + 1)
                    .and_then(|bin| self.bins[bin].first())
            })
    }

    /// All blocks in order.
    pub fn iter(&self) -> impl Iterator<Item = FreeBlock> + '_ {
        let first = self.next_occupied(0).and_then(|bin| self.bins[bin].first());
        std::iter::successors(first, |&block| self.next_after(block))
    }

    #[inline]
    fn next_occupied(&self, from: usize) -> Option<usize> {
        let word = from / 64;
        if word >= WORDS {
            return None;
        }
        let rest = self.occupied[word] & (u64::MAX << (from % 64));
        if rest != 0 {
            return Some(word * 64 + rest.trailing_zeros() as usize);
        }
        let words = self.occupied_words & (u32::MAX << word) & !(1 << word);
        if words == 0 {
            return None;
        }
        let word = words.trailing_zeros() as usize;
        Some(word * 64 + self.occupied[word].trailing_zeros() as usize)
    }
}

#[inline]
fn bin_of(size: u64) -> usize {
    let units = size / BLOCK_UNIT;
    if units < EXACT_BINS as u64 {
        return units as usize;
    }
    let exponent = units.ilog2();
    let step = (units >> (exponent - 4)) as usize & (BINS_PER_DOUBLING - 1);
    EXACT_BINS + (exponent as usize - 6) * BINS_PER_DOUBLING + step
}

impl Bin {
    #[inline]
    fn insert(&mut self, block: FreeBlock) {
        match self {
            Bin::Sorted(blocks) if blocks.len() < SORTED_MAX => {
                let place = blocks.partition_point(|&other| other < block);
                blocks.insert(place, block);
            }
            Bin::Sorted(blocks) => {
                let mut tree: BTreeSet<_> = blocks.drain(..).collect();
                tree.insert(block);
                *self = Bin::Tree(tree);
            }
            Bin::Tree(blocks) => {
                blocks.insert(block);
            }
        }
    }

    #[inline]
    fn remove(&mut self, block: FreeBlock) -> bool {
        match self {
            Bin::Sorted(blocks) => match blocks.iter().position(|&other| other == block) {
                // Most bins hold one block, which is removed without moving any other.
                Some(place) if place + 1 == blocks.len() => blocks.pop().is_some(),
                Some(place) => {
                    blocks.remove(place);
                    true
                }
                None => false,
            },
            Bin::Tree(blocks) => {
                let found = blocks.remove(&block);
                if blocks.len() <= SORTED_MAX / 2 {
                    *self = Bin::Sorted(std::mem::take(blocks).into_iter().collect());
                }
                found
            }
        }
    }

    #[inline]
    fn first_from(&self, from: FreeBlock) -> Option<FreeBlock> {
        match self {
            Bin::Sorted(blocks) => blocks.iter().copied().find(|&block| block >= from),
            Bin::Tree(blocks) => blocks.range(from..).next().copied(),
        }
    }

    #[inline]
    fn first(&self) -> Option<FreeBlock> {
        match self {
            Bin::Sorted(blocks) => blocks.first().copied(),
            Bin::Tree(blocks) => blocks.first().copied(),
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        match self {
            Bin::Sorted(blocks) => blocks.is_empty(),
            Bin::Tree(blocks) => blocks.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_grow_with_size_and_end_within_the_table() {
        let mut sizes: Vec<u64> = (1..200).map(|units| units * BLOCK_UNIT).collect();
        sizes.extend((17..62).flat_map(|exponent| {
            [
                (1 << exponent) - BLOCK_UNIT,
                1 << exponent,
                (1 << exponent) + BLOCK_UNIT,
            ]
        }));
        sizes.sort_unstable();
        let bins: Vec<_> = sizes.iter().map(|&size| bin_of(size)).collect();
        assert!(bins.is_sorted(), "a larger block is never in a lower bin");
        assert!(bin_of(u64::MAX) < BINS);
    }

    #[test]
    fn order_and_search_equal_a_sorted_set() {
        let mut free = FreeBlocks::new();
        let mut model = BTreeSet::new();
        let mut state = 12345_u64;
        let mut random = |bound: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % bound
        };
        for step in 0..20_000 {
            // Few sizes, so that bins become trees and vectors again.
            let crowded = (step / 5000) % 2 == 0;
            let bound = if crowded { 3 } else { 1 << (1 + random(20)) };
            let units = 1 + random(bound);
            if random(5) < if crowded { 3 } else { 2 } {
                let block = FreeBlock {
                    size: units * BLOCK_UNIT,
                    address: random(1 << 30) * BLOCK_UNIT,
                    index: step,
                };
                free.insert(block);
                model.insert(block);
            } else if let Some(&block) =
                model.iter().nth(random(model.len().max(1) as u64) as usize)
            {
                assert!(free.remove(block));
                assert!(!free.remove(block), "a block is removed once");
                model.remove(&block);
            }
            let from = FreeBlock {
                size: units * BLOCK_UNIT,
                address: 0,
                index: 0,
            };
            assert_eq!(
                free.first_at_least(from.size),
                model.range(from..).next().copied()
            );
            if step % 500 == 0 {
                assert!(
                    free.iter().eq(model.iter().copied()),
                    "iteration is in order and complete"
                );
            }
        }
    }
}
