//! Placement of many lifetimes in the order of birth, around those already placed.

use super::Lifetime;

/// Places `items` (ascending by birth), each at the lowest offset above the floor that is clear of
/// the others and of `fixed`, which is already placed. Returns the highest end.
pub(super) fn place(
    lifetimes: &[Lifetime],
    floor: &[u64],
    mut fixed: Vec<u32>,
    items: &[u32],
    offsets: &mut [u64],
) -> u64 {
    fixed.sort_unstable_by_key(|&item| lifetimes[item as usize].first);
    let range = |offsets: &[u64], item: u32| {
        let offset = offsets[item as usize];
        (
            offset,
            offset.saturating_add(lifetimes[item as usize].bytes),
        )
    };
    let mut upcoming = 0;
    // Live ranges, ascending by offset and disjoint, each with its last moment.
    let mut live: Vec<((u64, u64), u32)> = Vec::new();
    // Fixed ranges that begin while the item lives.
    let mut later: Vec<(u64, u64)> = Vec::new();
    let mut now = None;
    let mut peak = 0;
    for &item in items {
        let lifetime = &lifetimes[item as usize];
        if now != Some(lifetime.first) {
            now = Some(lifetime.first);
            live.retain(|&(_, last)| last > lifetime.first);
            while let Some(&other) = fixed.get(upcoming)
                && lifetimes[other as usize].first <= lifetime.first
            {
                upcoming += 1;
                let last = lifetimes[other as usize].last;
                if last > lifetime.first {
                    insert(&mut live, range(offsets, other), last);
                }
            }
        }
        later.clear();
        later.extend(
            fixed[upcoming..]
                .iter()
                .take_while(|&&other| lifetimes[other as usize].first < lifetime.last)
                .map(|&other| range(offsets, other)),
        );
        later.sort_unstable();
        let taken = Merged {
            one: live.iter().map(|&(range, _)| range).peekable(),
            other: later.iter().copied().peekable(),
        };
        let offset = lowest_gap(floor[lifetime.last as usize - 1], lifetime.bytes, taken);
        let end = offset.saturating_add(lifetime.bytes);
        offsets[item as usize] = offset;
        insert(&mut live, (offset, end), lifetime.last);
        peak = peak.max(end);
    }
    peak
}

fn insert(live: &mut Vec<((u64, u64), u32)>, range: (u64, u64), last: u32) {
    let at = live.partition_point(|&(other, _)| other < range);
    live.insert(at, (range, last));
}

/// The lowest offset from `floor` on at which `bytes` bytes are clear of `taken`, ranges in
/// ascending order.
pub(super) fn lowest_gap(
    floor: u64,
    bytes: u64,
    taken: impl IntoIterator<Item = (u64, u64)>,
) -> u64 {
    let mut offset = floor;
    for (start, end) in taken {
        if start >= offset.saturating_add(bytes) {
            break;
        }
        offset = offset.max(end);
    }
    offset
}

/// Merge of two ascending sequences.
struct Merged<A: Iterator, B: Iterator> {
    one: std::iter::Peekable<A>,
    other: std::iter::Peekable<B>,
}

impl<T: Ord, A: Iterator<Item = T>, B: Iterator<Item = T>> Iterator for Merged<A, B> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match (self.one.peek(), self.other.peek()) {
            (Some(one), Some(other)) if other < one => self.other.next(),
            (Some(_), _) => self.one.next(),
            (None, _) => self.other.next(),
        }
    }
}
