//! Placing lifetimes one by one, each as low as it fits.

use super::Lifetime;
use super::overlaps::Overlaps;

/// The ways to order lifetimes before placing them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The largest first.
    Bytes,
    /// The largest product of bytes and steps first.
    Area,
    /// The longest first.
    Steps,
}

impl Order {
    pub(super) const ALL: [Order; 3] = [Order::Bytes, Order::Area, Order::Steps];

    fn sort(self, lifetimes: &[Lifetime], items: &mut [u32]) {
        items.sort_by_key(|&item| {
            let lifetime = &lifetimes[item as usize];
            let steps = u128::from(lifetime.last - lifetime.first);
            let bytes = u128::from(lifetime.bytes);
            std::cmp::Reverse(match self {
                Order::Bytes => (bytes, steps),
                Order::Area => (bytes * steps, bytes),
                Order::Steps => (steps, bytes),
            })
        });
    }
}

/// Offsets for all lifetimes, and the peak. Empty lifetimes lie at 0.
///
/// What lives to the end is stacked from the bottom in the order of birth: at every step exactly its live bytes are taken, so
/// nothing is lost, and the search need not look at it again.
pub(super) fn place(lifetimes: &[Lifetime], order: Order) -> (Vec<u64>, u64) {
    let horizon = lifetimes.iter().map(|item| item.last).max().unwrap_or(0);
    let mut offsets = vec![0; lifetimes.len()];
    let (mut lasting, mut passing): (Vec<u32>, Vec<u32>) = (0..lifetimes.len() as u32)
        .filter(|&item| !lifetimes[item as usize].is_empty())
        .partition(|&item| lifetimes[item as usize].last == horizon);
    lasting.sort_by_key(|&item| lifetimes[item as usize].first);
    // (step, height from this step on), both ascending.
    let mut floor: Vec<(u32, u64)> = vec![(0, 0)];
    let mut height = 0_u64;
    for &item in &lasting {
        let lifetime = &lifetimes[item as usize];
        offsets[item as usize] = height;
        height = height.saturating_add(lifetime.bytes);
        floor.push((lifetime.first, height));
    }
    order.sort(lifetimes, &mut passing);
    let mut peak = height;
    let mut placed = Overlaps::new(horizon as usize, lifetimes.len());
    let mut found = Vec::new();
    let mut taken = Vec::new();
    for &item in &passing {
        let lifetime = &lifetimes[item as usize];
        let bottom = floor[floor.partition_point(|&(step, _)| step < lifetime.last) - 1].1;
        placed.query(lifetime.first as usize, lifetime.last as usize, &mut found);
        taken.clear();
        taken.extend(found.iter().map(|&other| {
            let offset = offsets[other as usize];
            (
                offset,
                offset.saturating_add(lifetimes[other as usize].bytes),
            )
        }));
        let offset = lowest_gap(&mut taken, bottom, lifetime.bytes);
        offsets[item as usize] = offset;
        peak = peak.max(offset.saturating_add(lifetime.bytes));
        placed.insert(item, lifetime.first as usize, lifetime.last as usize);
    }
    (offsets, peak)
}

/// The lowest offset from `bottom` on at which `bytes` lie clear of the ranges taken.
fn lowest_gap(taken: &mut [(u64, u64)], bottom: u64, bytes: u64) -> u64 {
    taken.sort_unstable();
    let mut offset = bottom;
    for &mut (start, end) in taken {
        if start >= offset.saturating_add(bytes) {
            break;
        }
        offset = offset.max(end);
    }
    offset
}
