//! The solver: heuristic placement for any set, exact search for small ones.

use super::lifetime::{Lifetime, lower_bound};
use super::search::{self, Outcome, Problem};
use super::{heuristic, moments};

/// Options of the solver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SolveOptions {
    /// Alignment of offsets, in bytes.
    pub alignment: u64,
    /// Limit of the exact search's work: a count of elementary steps, roughly 10^9 a second. A
    /// count instead of a time makes a plan the same on every machine.
    pub effort: u64,
}

impl Default for SolveOptions {
    /// Alignment to cache lines (64 bytes); a fraction of a second for sets that need the search.
    fn default() -> SolveOptions {
        SolveOptions {
            alignment: 64,
            effort: 200_000_000,
        }
    }
}

/// An offset for each lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Offset of each lifetime from the arena's start, in bytes.
    pub offsets: Vec<u64>,
    /// The arena's size in bytes.
    pub peak: u64,
    /// The largest sum of live bytes, without alignment: no plan has a lower peak.
    pub lower_bound: u64,
    /// Proven lower bound of every plan's peak, in bytes, with alignment: the largest sum of live
    /// bytes, or more where the search has excluded it. Between it and `peak` nothing is known; if
    /// they are equal, no plan is better.
    pub proven_bytes: u64,
}

/// Largest set that is searched exactly: the depth of the search is the size of the set.
const SEARCH_COUNT_MAX: usize = 1000;

/// Part of the effort that a capacity is tried with at first, and the factor from round to round.
const FIRST_SHARE: u64 = 256;
const SHARE_GROWTH: u64 = 4;
/// Least effort that a capacity is tried with.
const SEARCH_EFFORT_MIN: u64 = 1 << 20;
/// The part of the largest live sum within which a better plan is not looked for.
const NEAR_ENOUGH: u64 = 4096;

/// Number of overfull moments that are examined for the shortest explanation.
const MOMENTS_EXPLAINED_MAX: usize = 100;

/// Places all lifetimes with a peak as low as the effort allows. Deterministic: equal input gives
/// equal plans.
pub fn solve(lifetimes: &[Lifetime], options: &SolveOptions) -> Plan {
    let (set, mut plan) = CompressedSet::placed(lifetimes, options.alignment);
    if set.searchable() {
        let mut effort = options.effort;
        set.improve(&mut plan, 0, &mut effort);
    }
    plan
}

/// Looks for a plan within `capacity` bytes.
///
/// # Errors
/// [`DoesNotFit`] with the best plan found, and with a minimal set of lifetimes that cannot fit, if
/// one could be proven.
pub fn fit(
    lifetimes: &[Lifetime],
    capacity: u64,
    options: &SolveOptions,
) -> Result<Plan, DoesNotFit> {
    let (set, mut plan) = CompressedSet::placed(lifetimes, options.alignment);
    if plan.peak <= capacity {
        return Ok(plan);
    }
    if set.goal <= capacity && set.searchable() {
        let (mut effort, rest) = (options.effort / 8 * 3, options.effort / 4);
        let highest = capacity / set.grain * set.grain;
        match search::search(&set.problem(&plan.offsets), highest, &mut effort) {
            Outcome::Found(offsets) => set.adopt(&mut plan, offsets),
            Outcome::Impossible => plan.proven_bytes = set.above(capacity),
            Outcome::Undecided => {}
        }
        // The best plan near the capacity; it may happen to lie within it.
        effort += rest;
        set.improve(&mut plan, set.above(capacity), &mut effort);
        // From there it may not be far.
        if plan.peak > capacity && plan.proven_bytes <= capacity {
            effort += options.effort / 8 * 3;
            match search::learn(&set.problem(&plan.offsets), highest, &mut effort) {
                Outcome::Found(offsets) => set.adopt(&mut plan, offsets),
                Outcome::Impossible => plan.proven_bytes = set.above(capacity),
                Outcome::Undecided => {}
            }
        }
    }
    if plan.peak <= capacity {
        return Ok(plan);
    }
    Err(DoesNotFit {
        capacity,
        smallest: if plan.proven_bytes > capacity {
            set.smallest_subset(capacity, options.effort)
        } else {
            Vec::new()
        },
        plan,
    })
}

/// Lifetimes for which no plan within the capacity was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}; the best plan found needs {} bytes", self.reason(), plan.peak)]
pub struct DoesNotFit {
    /// The capacity in bytes.
    pub capacity: u64,
    /// The best plan found, which needs more.
    pub plan: Plan,
    /// Indices of a minimal set of lifetimes that cannot fit together. Empty if none is known: a
    /// plan may exist that was not found.
    pub smallest: Vec<usize>,
}

impl DoesNotFit {
    fn reason(&self) -> String {
        let capacity = self.capacity;
        match self.smallest.len() {
            0 => format!(
                "no plan within {capacity} bytes was found, and its impossibility was not proven: every plan \
                 needs at least {} bytes",
                self.plan.proven_bytes
            ),
            count => format!(
                "no plan within {capacity} bytes exists: {count} of the lifetimes alone cannot fit"
            ),
        }
    }
}

/// The prepared input: sizes rounded up, time compressed.
struct CompressedSet {
    lifetimes: Vec<Lifetime>,
    steps: Vec<u32>,
    moments: usize,
    profile: Vec<u64>,
    /// The largest live sum of the rounded sizes.
    goal: u64,
    /// The greatest common divisor of the rounded sizes: so are the peaks of plans in which all
    /// lifetimes rest on others, and no other capacities need be tried.
    grain: u64,
}

impl CompressedSet {
    /// The set of some lifetimes, and a first plan for them.
    fn placed(lifetimes: &[Lifetime], alignment: u64) -> (CompressedSet, Plan) {
        let mut set = CompressedSet::new(lifetimes, alignment);
        let (offsets, peak) = set.place();
        let plan = Plan {
            offsets,
            peak,
            lower_bound: lower_bound(lifetimes),
            proven_bytes: set.goal,
        };
        (set, plan)
    }

    fn new(lifetimes: &[Lifetime], alignment: u64) -> CompressedSet {
        let alignment = alignment.max(1);
        let steps = lifetimes
            .iter()
            .map(|lifetime| lifetime.last.saturating_sub(lifetime.first))
            .collect();
        let mut lifetimes: Vec<Lifetime> = lifetimes
            .iter()
            .map(|lifetime| Lifetime {
                bytes: lifetime
                    .bytes
                    .checked_next_multiple_of(alignment)
                    .unwrap_or(u64::MAX),
                ..*lifetime
            })
            .collect();
        let moments = moments::compress(&mut lifetimes);
        let profile = moments::profile(&lifetimes, moments);
        let goal = profile.iter().copied().max().unwrap_or(0);
        let sizes = lifetimes.iter().map(|lifetime| lifetime.bytes);
        let grain = sizes.fold(0, greatest_common_divisor).max(1);
        CompressedSet {
            lifetimes,
            steps,
            moments,
            profile,
            goal,
            grain,
        }
    }

    /// Looks for a plan with a lower peak, of at least `floor` bytes, until none is left to try or
    /// the effort is spent.
    ///
    /// In rounds, each with more work for a capacity than the one before: first at the lowest
    /// capacity that is not excluded, which most sets fit, then by bisection between it and the
    /// best peak. What a round leaves undecided counts as too low until the next.
    fn improve(&self, plan: &mut Plan, floor: u64, effort: &mut u64) {
        let near_enough = (self.goal / NEAR_ENOUGH).max(1);
        let mut share = *effort / FIRST_SHARE;
        loop {
            let mut low = plan.proven_bytes.max(floor);
            if plan.peak < low.saturating_add(near_enough) {
                return;
            }
            let mut capacity = low;
            while plan.peak >= low.saturating_add(near_enough) {
                if *effort == 0 {
                    return;
                }
                let mut allowed = share.max(SEARCH_EFFORT_MIN).min(*effort);
                *effort -= allowed;
                match search::search(&self.problem(&plan.offsets), capacity, &mut allowed) {
                    Outcome::Found(offsets) => self.adopt(plan, offsets),
                    Outcome::Impossible => {
                        low = self.above(capacity);
                        plan.proven_bytes = low;
                    }
                    Outcome::Undecided => low = self.above(capacity),
                }
                *effort += allowed;
                let middle = low.midpoint(plan.peak.saturating_sub(1));
                capacity = (middle / self.grain * self.grain).max(low);
            }
            share = share.saturating_mul(SHARE_GROWTH);
        }
    }

    fn adopt(&self, plan: &mut Plan, offsets: Vec<u64>) {
        plan.peak = self.peak(&offsets);
        plan.offsets = offsets;
    }

    /// The lowest peak above `capacity` that a plan can have.
    fn above(&self, capacity: u64) -> u64 {
        (capacity / self.grain + 1).saturating_mul(self.grain)
    }

    fn place(&mut self) -> (Vec<u64>, u64) {
        heuristic::place(&self.lifetimes, self.moments, &self.profile, self.goal)
    }

    fn searchable(&self) -> bool {
        // Sums of the search must not overflow.
        self.lifetimes.len() <= SEARCH_COUNT_MAX && self.goal < 1 << 62
    }

    /// The set to search, with the offsets of the best plan known, if there is one.
    fn problem<'a>(&'a self, hint: &'a [u64]) -> Problem<'a> {
        Problem {
            lifetimes: &self.lifetimes,
            moments: self.moments,
            steps: &self.steps,
            hint,
        }
    }

    fn peak(&self, offsets: &[u64]) -> u64 {
        self.lifetimes
            .iter()
            .zip(offsets)
            .filter(|(lifetime, _)| !lifetime.is_empty())
            .map(|(lifetime, offset)| offset + lifetime.bytes)
            .max()
            .unwrap_or(0)
    }

    /// A minimal set of lifetimes that cannot fit together.
    fn smallest_subset(&self, capacity: u64, effort: u64) -> Vec<usize> {
        if self.goal > capacity {
            return self.fullest_moment(capacity);
        }
        // Drops one lifetime after another while the rest is proven not to fit.
        let mut kept: Vec<usize> = (0..self.lifetimes.len())
            .filter(|&index| !self.lifetimes[index].is_empty())
            .collect();
        kept.sort_by_key(|&index| self.lifetimes[index].bytes);
        let mut total = effort;
        let mut at = 0;
        while at < kept.len() {
            let mut fewer = kept.clone();
            fewer.remove(at);
            let lifetimes: Vec<Lifetime> =
                fewer.iter().map(|&index| self.lifetimes[index]).collect();
            let smaller = CompressedSet::new(&lifetimes, 1);
            let mut share = (effort / 16).min(total);
            total -= share;
            let outcome = search::search(&smaller.problem(&[]), capacity, &mut share);
            total += share;
            match outcome {
                Outcome::Impossible => kept = fewer,
                Outcome::Found(_) | Outcome::Undecided => at += 1,
            }
        }
        kept.sort_unstable();
        kept
    }

    /// The fewest lifetimes whose sum at one moment exceeds the capacity.
    fn fullest_moment(&self, capacity: u64) -> Vec<usize> {
        let mut best: Vec<usize> = Vec::new();
        let mut over: Vec<(u64, usize)> = self
            .profile
            .iter()
            .enumerate()
            .filter(|&(_, &live)| live > capacity)
            .map(|(moment, &live)| (live, moment))
            .collect();
        over.sort_unstable_by(|one, other| other.cmp(one));
        for &(_, moment) in over.iter().take(MOMENTS_EXPLAINED_MAX) {
            let mut live: Vec<usize> = (0..self.lifetimes.len())
                .filter(|&index| {
                    let lifetime = &self.lifetimes[index];
                    lifetime.first as usize <= moment && moment < lifetime.last as usize
                })
                .collect();
            live.sort_by_key(|&index| std::cmp::Reverse(self.lifetimes[index].bytes));
            let mut sum = 0_u64;
            let count = live
                .iter()
                .take_while(|&&index| {
                    let before = sum;
                    sum = sum.saturating_add(self.lifetimes[index].bytes);
                    before <= capacity
                })
                .count();
            if best.is_empty() || count < best.len() {
                live.truncate(count);
                best = live;
            }
        }
        best.sort_unstable();
        best
    }
}

fn greatest_common_divisor(mut one: u64, mut other: u64) -> u64 {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one
}
