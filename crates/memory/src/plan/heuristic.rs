//! Heuristic placement: lifetimes one by one, each at its lowest free offset, then again with those
//! first that ended above the target.

use super::Lifetime;
use super::overlaps::Overlaps;
use super::sweep::{self, lowest_gap};

/// Largest set that is placed in several orders as a whole.
const CAREFUL_COUNT_MAX: usize = 12_000;
/// Rounds of moving misplaced lifetimes to the front, for each initial order.
const ROUNDS_MAX: u32 = 24;
/// Limit of neighbour visits in all rounds together: about a second.
const WORK_MAX: u64 = 100_000_000;

/// Initial orders.
#[derive(Clone, Copy)]
enum Order {
    /// Largest size first.
    Bytes,
    /// Largest product of size and moments first.
    Area,
    /// Longest first.
    Moments,
}

impl Order {
    const ALL: [Order; 3] = [Order::Bytes, Order::Area, Order::Moments];

    fn sort(self, lifetimes: &[Lifetime], items: &mut [u32]) {
        items.sort_by_key(|&item| {
            let lifetime = &lifetimes[item as usize];
            let moments = u128::from(lifetime.last - lifetime.first);
            let bytes = u128::from(lifetime.bytes);
            std::cmp::Reverse(match self {
                Order::Bytes => (bytes, moments),
                Order::Area => (bytes * moments, bytes),
                Order::Moments => (moments, bytes),
            })
        });
    }
}

/// Offsets for all lifetimes (compressed to `moments`) and the peak. The target `goal` is the
/// largest live sum.
///
/// In a large set, only a few thousand lifetimes decide the peak. Those are placed in several
/// orders, the others around them in the order of birth. Lifetimes that live to the end of a large
/// set are stacked from offset 0 in the order of birth: at every moment the stack is exactly their
/// live bytes high, so nothing is lost.
pub(super) fn place(
    lifetimes: &[Lifetime],
    moments: usize,
    profile: &[u64],
    goal: u64,
) -> (Vec<u64>, u64) {
    let mut offsets = vec![0; lifetimes.len()];
    let mut floor = vec![0; moments];
    let mut peak = 0;
    let mut careful: Vec<u32> = (0..lifetimes.len() as u32)
        .filter(|&item| !lifetimes[item as usize].is_empty())
        .collect();
    let mut others = Vec::new();
    if careful.len() > CAREFUL_COUNT_MAX {
        let lasting: Vec<u32>;
        (lasting, others) = careful
            .into_iter()
            .partition(|&item| lifetimes[item as usize].last as usize == moments);
        peak = stack(lifetimes, lasting, &mut floor, &mut offsets);
        (careful, others) = split_decisive(lifetimes, others, profile, &floor);
    }
    let aim = peak.max(goal);
    peak = peak.max(place_with_care(
        lifetimes,
        moments,
        &floor,
        &mut careful,
        aim,
        &mut offsets,
    ));
    others.sort_by_key(|&item| {
        let lifetime = &lifetimes[item as usize];
        (lifetime.first, std::cmp::Reverse(lifetime.bytes))
    });
    let rest = sweep::place(lifetimes, &floor, careful, &others, &mut offsets);
    (offsets, peak.max(rest))
}

/// Stacks the lifetimes that live to the end. Returns the height of the stack at each moment, and
/// at the end.
fn stack(
    lifetimes: &[Lifetime],
    mut lasting: Vec<u32>,
    floor: &mut [u64],
    offsets: &mut [u64],
) -> u64 {
    lasting.sort_by_key(|&item| lifetimes[item as usize].first);
    let mut height = 0_u64;
    let mut moment = 0;
    for item in lasting {
        let lifetime = &lifetimes[item as usize];
        floor[moment..lifetime.first as usize].fill(height);
        moment = lifetime.first as usize;
        offsets[item as usize] = height;
        height = height.saturating_add(lifetime.bytes);
    }
    floor[moment..].fill(height);
    height
}

/// Splits `items` into those that decide the peak (not tiny, and live when nearly all of the peak
/// is live) and the others.
fn split_decisive(
    lifetimes: &[Lifetime],
    items: Vec<u32>,
    profile: &[u64],
    floor: &[u64],
) -> (Vec<u32>, Vec<u32>) {
    let above_floor = |moment: usize| profile[moment].saturating_sub(floor[moment]);
    let passing = (0..profile.len()).map(above_floor).max().unwrap_or(0);
    let goal = profile.iter().copied().max().unwrap_or(0);
    let mut split = (Vec::new(), items.clone());
    for percent in (5..=50).step_by(5) {
        let threshold = goal.saturating_sub(passing / 100 * percent);
        // Number of full moments before each moment.
        let mut before = Vec::with_capacity(profile.len() + 1);
        before.push(0_u32);
        for &live in profile {
            before.push(before[before.len() - 1] + u32::from(live >= threshold));
        }
        let next: (Vec<u32>, Vec<u32>) = items.iter().partition(|&&item| {
            let lifetime = &lifetimes[item as usize];
            lifetime.bytes >= passing / 1000
                && before[lifetime.last as usize] > before[lifetime.first as usize]
        });
        if next.0.len() > CAREFUL_COUNT_MAX {
            break;
        }
        split = next;
    }
    split
}

/// Places `items` in several orders, each time again with those first that ended above `aim`; keeps
/// the best.
fn place_with_care(
    lifetimes: &[Lifetime],
    moments: usize,
    floor: &[u64],
    items: &mut Vec<u32>,
    aim: u64,
    offsets: &mut Vec<u64>,
) -> u64 {
    if items.is_empty() {
        return 0;
    }
    // Within a thousandth of the lower bound is good enough to stop.
    let near_enough = aim.saturating_add(aim / 1000);
    let mut work = 0;
    let mut best_offsets = offsets.clone();
    let mut best = u64::MAX;
    for order in Order::ALL {
        order.sort(lifetimes, items);
        for _ in 0..ROUNDS_MAX {
            if best <= near_enough || (best < u64::MAX && work > WORK_MAX) {
                break;
            }
            let peak = place_in_turn(lifetimes, moments, floor, items, offsets, &mut work);
            if peak < best {
                best = peak;
                best_offsets.clone_from(offsets);
            }
            let (mut stuck_out, fitted): (Vec<u32>, Vec<u32>) = items.iter().partition(|&&item| {
                offsets[item as usize].saturating_add(lifetimes[item as usize].bytes) > aim
            });
            stuck_out.extend(fitted);
            *items = stuck_out;
        }
    }
    *offsets = best_offsets;
    best
}

/// Places `items` in turn, each at the lowest offset that is clear of those before. Returns the
/// highest end.
fn place_in_turn(
    lifetimes: &[Lifetime],
    moments: usize,
    floor: &[u64],
    items: &[u32],
    offsets: &mut [u64],
    work: &mut u64,
) -> u64 {
    let mut placed = Overlaps::new(moments, lifetimes.len());
    let mut found = Vec::new();
    let mut taken = Vec::new();
    let mut peak = 0;
    for &item in items {
        let lifetime = &lifetimes[item as usize];
        let (first, last) = (lifetime.first as usize, lifetime.last as usize);
        placed.query(first, last, &mut found);
        *work += found.len() as u64;
        taken.clear();
        taken.extend(found.iter().map(|&other| {
            let offset = offsets[other as usize];
            (
                offset,
                offset.saturating_add(lifetimes[other as usize].bytes),
            )
        }));
        taken.sort_unstable();
        let offset = lowest_gap(floor[last - 1], lifetime.bytes, taken.iter().copied());
        offsets[item as usize] = offset;
        peak = peak.max(offset.saturating_add(lifetime.bytes));
        placed.insert(item, first, last);
    }
    peak
}
