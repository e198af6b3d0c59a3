//! Memory ranges of the driver, reconstructed backwards from events.

use std::collections::BTreeMap;

/// A memory range allocated from the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) address: u64,
    pub(super) bytes: u64,
    pub(super) stream: u64,
    pub(super) small: bool,
    pub(super) expandable: bool,
}

impl Range {
    pub(super) fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes)
    }
}

/// A set of disjoint ranges.
#[derive(Debug, Default)]
pub(super) struct RangeSet {
    by_address: BTreeMap<u64, Range>,
}

impl RangeSet {
    /// Adds a range, which replaces anything it overlaps.
    pub(super) fn add(&mut self, range: Range) {
        self.remove(range);
        if range.bytes > 0 {
            self.by_address.insert(range.address, range);
        }
    }

    /// Removes a range, whole or out of larger ones.
    pub(super) fn remove(&mut self, range: Range) {
        let end = range.end();
        while let Some((&address, &found)) = self.by_address.range(..end).next_back() {
            if found.end() <= range.address {
                return;
            }
            self.by_address.remove(&address);
            if found.end() > end {
                self.by_address.insert(
                    end,
                    Range {
                        address: end,
                        bytes: found.end() - end,
                        ..found
                    },
                );
            }
            if address < range.address {
                self.by_address.insert(
                    address,
                    Range {
                        bytes: range.address - address,
                        ..found
                    },
                );
                return;
            }
        }
    }

    /// The ranges, ascending by address.
    pub(super) fn into_vec(self) -> Vec<Range> {
        self.by_address.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Range, RangeSet};

    fn range(address: u64, bytes: u64) -> Range {
        Range {
            address,
            bytes,
            stream: 0,
            small: false,
            expandable: true,
        }
    }

    #[test]
    fn a_range_is_cut_out_of_the_middle_and_across_borders() {
        let mut set = RangeSet::default();
        set.add(range(0, 100));
        set.add(range(100, 100));
        set.remove(range(40, 20));
        set.remove(range(90, 30));
        assert_eq!(
            set.into_vec(),
            [range(0, 40), range(60, 30), range(120, 80)]
        );
    }

    #[test]
    fn removing_an_absent_range_is_harmless() {
        let mut set = RangeSet::default();
        set.add(range(50, 10));
        set.remove(range(0, 50));
        set.remove(range(60, u64::MAX));
        assert_eq!(set.into_vec(), [range(50, 10)]);
    }
}
