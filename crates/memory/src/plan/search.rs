//! Exact search for plans of small sets: branch and bound over placements from the bottom up.
//!
//! Any plan can be pushed down until every lifetime rests on another one or on offset 0, and its
//! lifetimes can be placed in the order of their offsets. Only such placements are searched. That
//! leaves few choices:
//!
//! - the next lifetime lies where those below it let it rest, never lower than the previous one
//!   (ties are broken by index);
//! - no lifetime is placed above a gap that another one could still fill: that one would have come
//!   before;
//! - at each moment, the remaining lifetimes, stacked in the order of the lowest offsets that each
//!   can take, must stay within the capacity;
//! - of lifetimes of the same bytes and moments, the first one lies lowest;
//! - parts of the timeline that no remaining lifetime connects are searched separately, and the
//!   first one that fails ends the branch.
//!
//! The method is that of MiniMalloc (Moffitt, ASPLOS 2023), with different branching orders and a
//! closer bound: the stack at a moment is a schedule of jobs with release times on one machine,
//! whose shortest end is that of the order of release.
//!
//! What a short search leaves undecided goes on in [`THREADS`] threads. One searches as above, in
//! the orders of [`Preference`]. The other perturbs the orders, and traces each failure back to the
//! placements that caused it, so that others, far from them in time, are not tried in vain
//! (`Search::blame`): it proves nothing. Half of the work of both is another search, which learns
//! from conflicts ([`Learning`]), each time from another beginning: it fits sets that are packed
//! too tightly for this one, and proves as well that no plan exists.
//!
//! The threads' work is counted and the first order that decides counts, so that a plan does not
//! depend on their speed.

use super::conflict::Conflict;
use super::learning::Learning;
use super::{Lifetime, moments};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Result of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Offsets within the capacity.
    Found(Vec<u64>),
    /// No offsets exist.
    Impossible,
    /// Not decided within the effort allowed.
    Undecided,
}

/// Which lifetime to try first among those that rest equally low. No single preference is best for
/// all sets: the search restarts with each in turn and a growing limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preference {
    /// Live at the moment with most failed branches, then the longest.
    MostFailures,
    /// Live through most failures, then the longest.
    SumOfFailures,
    /// Live at the fullest moment, then most bytes × steps.
    FullestLarge,
    /// Live at the fullest moment, then the longest.
    FullestLong,
    /// Most bytes × steps.
    Area,
    /// The longest.
    Steps,
}

impl Preference {
    const ALL: [Preference; 6] = [
        Preference::MostFailures,
        Preference::SumOfFailures,
        Preference::FullestLarge,
        Preference::FullestLong,
        Preference::Area,
        Preference::Steps,
    ];
}

/// Elementary steps charged for ranking an item.
const RANKING_STEPS: u64 = 8;

/// A set to search.
pub(super) struct Problem<'a> {
    /// The lifetimes, compressed.
    pub(super) lifetimes: &'a [Lifetime],
    /// Number of moments.
    pub(super) moments: usize,
    /// Length in steps of each lifetime before compression.
    pub(super) steps: &'a [u32],
    /// Offsets of a plan that may need more than there is, or none.
    pub(super) hint: &'a [u64],
}

/// Threads of a long search.
const THREADS: usize = 2;
/// Work of a search before further threads are worth it.
const ALONE_EFFORT: u64 = 1 << 26;
/// Work of a thread in the first round of learning alone.
const LEARNING_EFFORT: u64 = 1 << 28;
/// How often a search looks whether another thread has decided, in nodes.
const NODES_PER_LOOK: u32 = 1 << 10;

/// A restart: an order of branching and the limit of its work.
#[derive(Clone, Copy)]
struct Restart {
    preference: Preference,
    /// Perturbs the order; 0 for none.
    seed: u64,
    limit: u64,
    /// Whether a failure is traced back to the placements that caused it (see [`Search::blame`]).
    jumps: bool,
}

/// The restarts of a round, whose limits double from round to round. With `perturbed`, each order
/// is followed by a perturbed one, for another thread.
fn restarts(first_limit: u64, round: u32, perturbed: bool) -> Vec<Restart> {
    let limit = first_limit.checked_shl(round).unwrap_or(u64::MAX);
    let seeds = [0, u64::from(round) + 1];
    let seeds = if perturbed { &seeds[..] } else { &seeds[..1] };
    let orders = Preference::ALL.iter().flat_map(|&preference| {
        seeds.iter().map(move |&seed| Restart {
            preference,
            seed,
            limit,
            jumps: seed > 0,
        })
    });
    orders.collect()
}

/// Searches for offsets within `capacity`, with about `effort` elementary steps of work at most;
/// the work done is subtracted from `effort`.
pub(super) fn search(problem: &Problem<'_>, capacity: u64, effort: &mut u64) -> Outcome {
    let first_limit = (*effort / 4096).max(1 << 16);
    // Of the restarts of a round, the first that has decided.
    let first_decided = AtomicUsize::new(usize::MAX);
    let mut alone = Search::new(problem, capacity, &first_decided);
    let mut alone_effort = ALONE_EFFORT.min(*effort);
    let mut round = 0;
    while alone_effort > 0 {
        for restart in restarts(first_limit, round, false) {
            let used = alone.restart(restart, alone_effort);
            *effort -= used;
            alone_effort -= used;
            if let Some(outcome) = alone.decided.take() {
                return outcome;
            }
        }
        round += 1;
    }
    // All begin with what was learnt about the moments.
    let orders = |round| restarts(first_limit, round, true);
    in_rounds(vec![alone; THREADS], round, orders, effort)
}

/// The part of [`search`] that learns from conflicts, by itself: where a plan is known that needs
/// little more than `capacity`, its order is worth more than any other.
pub(super) fn learn(problem: &Problem<'_>, capacity: u64, effort: &mut u64) -> Outcome {
    let first_decided = AtomicUsize::new(usize::MAX);
    let search = Search::new(problem, capacity, &first_decided);
    in_rounds(vec![search; THREADS], 0, |_| Vec::new(), effort)
}

/// Searches in threads, in rounds of the `orders`, which are followed by as much of learning, until
/// one decides.
fn in_rounds(
    mut searches: Vec<Search<'_>>,
    mut round: u32,
    orders: impl Fn(u32) -> Vec<Restart>,
    effort: &mut u64,
) -> Outcome {
    let (problem, capacity) = (searches[0].problem, searches[0].capacity);
    let first_decided = searches[0].first_decided;
    let mut learners: Vec<Option<Learning<'_>>> = (0..THREADS)
        .map(|_| Learning::new(problem, capacity))
        .collect();
    while *effort > 0 {
        let orders = orders(round);
        // Half of the work is for learning, unless the set has too many pairs.
        let parts = orders.len() as u64 * (1 + u64::from(learners[0].is_some()));
        let share = *effort / parts.max(2) + 1;
        let learning = if orders.is_empty() {
            LEARNING_EFFORT
                .checked_shl(round)
                .unwrap_or(u64::MAX)
                .min(share)
        } else {
            let limits = orders.iter().map(|order| order.limit.min(share));
            limits.sum::<u64>() / THREADS as u64
        };
        let used = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            let pairs = searches.iter_mut().zip(&mut learners).enumerate();
            for (first, (search, learner)) in pairs {
                let orders = &orders;
                threads.push(scope.spawn(move || {
                    let mut used = search.restarts(orders, first, share);
                    if let Some(learner) = learner {
                        // Another beginning each time.
                        let seed = u64::from(round) * THREADS as u64 + first as u64;
                        used.extend(search.learn(learner, seed, orders.len() + first, learning));
                    }
                    used
                }));
            }
            let used = threads.into_iter().filter_map(|thread| thread.join().ok());
            used.flatten().collect::<Vec<(usize, u64)>>()
        });
        let decided = first_decided.load(Ordering::Relaxed);
        let work = used.iter().filter(|(index, _)| *index <= decided);
        let work = work.map(|(_, work)| work).sum::<u64>();
        *effort = effort.saturating_sub(work.max(1));
        let outcome = searches.iter_mut().find_map(|search| {
            let is_first = search.index == decided;
            search.decided.take().filter(|_| is_first)
        });
        if let Some(outcome) = outcome {
            return outcome;
        }
        if used.is_empty() {
            // Nothing to do: no orders, and too many pairs to learn.
            break;
        }
        round += 1;
    }
    Outcome::Undecided
}

enum Verdict {
    Solved,
    Failed,
    OutOfEffort,
}

/// The previous placement, in the order of offsets and, for equal offsets, of indices.
#[derive(Clone, Copy)]
struct Last {
    offset: u64,
    rank: Option<u32>,
}

impl Last {
    const GROUND: Last = Last {
        offset: 0,
        rank: None,
    };

    fn allows(self, offset: u64, rank: u32) -> bool {
        offset > self.offset || offset == self.offset && self.rank.is_none_or(|last| last < rank)
    }
}

#[derive(Clone)]
struct Search<'a> {
    problem: &'a Problem<'a>,
    capacity: u64,
    effort: u64,
    /// The place of the restart under way among those of all threads.
    index: usize,
    /// The first restart of any thread that has decided: those behind it end.
    first_decided: &'a AtomicUsize,
    nodes: u32,
    decided: Option<Outcome>,
    seed: u64,
    by_birth: Vec<u32>,
    preference: Preference,
    /// Whether failures are traced back.
    jumps: bool,
    /// The placements that caused the last failure, if failures are traced back.
    conflict: Conflict,
    /// Placed lifetimes in turn.
    turns: Vec<u32>,
    /// Place in `turns` of each placed lifetime.
    turn: Vec<u32>,
    /// Rank of each item; lower ranks are tried first.
    rank: Vec<u32>,
    neighbours: Vec<Vec<u32>>,
    /// The lifetime before each of the same bytes and moments.
    twins: Vec<Option<u32>>,
    /// Offset of each placed lifetime, or the offset at which an unplaced one would rest now.
    offsets: Vec<u64>,
    placed: Vec<bool>,
    trail: Vec<Change>,
    /// Unplaced bytes at each moment.
    left: Vec<u64>,
    /// Number of failed branches at each moment, over all restarts. Hard moments are filled first.
    failures: Vec<u64>,
    /// Scratch: the height of the stack of remaining lifetimes at each moment.
    heights: Vec<u64>,
    /// Scratch: the lowest offset of each remaining lifetime.
    lowest: Vec<(u64, u32)>,
}

/// An entry of the undo trail.
#[derive(Clone)]
enum Change {
    Placed(u32),
    /// An item and its previous resting offset.
    Raised(u32, u64),
}

/// A factor from 16 to 31 that depends on a lifetime alone, so that twins keep their order; 16
/// without a seed.
fn perturbation(seed: u64, lifetime: &Lifetime) -> u128 {
    if seed == 0 {
        return 16;
    }
    let mut hasher = rustc_hash::FxHasher::default();
    (seed, lifetime.first, lifetime.last, lifetime.bytes).hash(&mut hasher);
    u128::from(16 + (hasher.finish() >> 32) % 16)
}

impl<'a> Search<'a> {
    fn new(problem: &'a Problem<'a>, capacity: u64, first_decided: &'a AtomicUsize) -> Search<'a> {
        let lifetimes = problem.lifetimes;
        let mut by_birth: Vec<u32> = (0..lifetimes.len() as u32)
            .filter(|&item| !lifetimes[item as usize].is_empty())
            .collect();
        by_birth.sort_by_key(|&item| lifetimes[item as usize].first);
        let mut neighbours = vec![Vec::new(); lifetimes.len()];
        for (at, &item) in by_birth.iter().enumerate() {
            let lifetime = &lifetimes[item as usize];
            for &other in by_birth[at + 1..]
                .iter()
                .take_while(|&&other| lifetimes[other as usize].first < lifetime.last)
            {
                neighbours[item as usize].push(other);
                neighbours[other as usize].push(item);
            }
        }
        let mut twins = vec![None; lifetimes.len()];
        for (at, &item) in by_birth.iter().enumerate() {
            let lifetime = &lifetimes[item as usize];
            let before = by_birth[..at].iter().rev();
            twins[item as usize] = before
                .take_while(|&&other| lifetimes[other as usize].first == lifetime.first)
                .find(|&&other| lifetimes[other as usize] == *lifetime)
                .copied();
        }
        Search {
            problem,
            capacity,
            effort: 0,
            index: 0,
            first_decided,
            nodes: 0,
            decided: None,
            seed: 0,
            by_birth,
            preference: Preference::Area,
            jumps: false,
            conflict: Conflict::new(lifetimes.len()),
            turns: Vec::new(),
            turn: vec![0; lifetimes.len()],
            rank: vec![0; lifetimes.len()],
            neighbours,
            twins,
            offsets: vec![0; lifetimes.len()],
            placed: vec![false; lifetimes.len()],
            trail: Vec::new(),
            left: moments::profile(lifetimes, problem.moments),
            failures: vec![0; problem.moments],
            heights: vec![0; problem.moments],
            lowest: Vec::new(),
        }
    }

    /// Searches in the orders of a round that are this thread's, every [`THREADS`]th from `first`
    /// on, until one decides; returns the work done for each.
    fn restarts(&mut self, round: &[Restart], first: usize, effort: u64) -> Vec<(usize, u64)> {
        let mut used = Vec::new();
        for index in (first..round.len()).step_by(THREADS) {
            if self.first_decided.load(Ordering::Relaxed) < index {
                break;
            }
            self.index = index;
            used.push((index, self.restart(round[index], effort)));
            if self.decided.is_some() {
                self.first_decided.fetch_min(index, Ordering::Relaxed);
                break;
            }
        }
        used
    }

    /// Searches by learning, as the restart with this `index`, unless one before it has decided;
    /// returns the index and the work done.
    fn learn(
        &mut self,
        learner: &mut Learning<'_>,
        seed: u64,
        index: usize,
        effort: u64,
    ) -> Option<(usize, u64)> {
        if self.first_decided.load(Ordering::Relaxed) < index {
            return None;
        }
        let (outcome, used) = learner.search(seed, effort, index, self.first_decided);
        if outcome != Outcome::Undecided {
            self.index = index;
            self.decided = Some(outcome);
            self.first_decided.fetch_min(index, Ordering::Relaxed);
        }
        Some((index, used))
    }

    /// Searches in one order, with at most `effort` steps of work; returns the work done.
    fn restart(&mut self, restart: Restart, effort: u64) -> u64 {
        let allowed = restart.limit.min(effort);
        self.effort = allowed;
        self.preference = restart.preference;
        self.seed = restart.seed;
        self.jumps = restart.jumps;
        let items = self.by_birth.clone();
        self.rank(&items);
        match self.solve(&items, Last::GROUND) {
            Verdict::Solved => self.decided = Some(Outcome::Found(self.offsets.clone())),
            // What a failure was traced to is plausible and not proven.
            Verdict::Failed if restart.jumps => {}
            Verdict::Failed => self.decided = Some(Outcome::Impossible),
            Verdict::OutOfEffort => {}
        }
        allowed - self.effort
    }

    /// Ranks `items` among themselves by the bytes left at their moments now.
    fn rank(&mut self, items: &[u32]) {
        let preference = self.preference;
        let mut order = items.to_vec();
        let seed = self.seed;
        order.sort_by_cached_key(|&item| {
            let lifetime = &self.problem.lifetimes[item as usize];
            let span = lifetime.first as usize..lifetime.last as usize;
            let steps = u128::from(self.problem.steps[item as usize]);
            let area = u128::from(lifetime.bytes) * steps;
            let failures = &self.failures[span.clone()];
            let most = |values: &[u64]| u128::from(values.iter().copied().max().unwrap_or(0));
            let key = match preference {
                Preference::MostFailures => (most(failures), steps, area),
                Preference::SumOfFailures => {
                    let sum = failures.iter().map(|&count| u128::from(count)).sum();
                    (sum, steps, area)
                }
                Preference::FullestLarge => (most(&self.left[span]), area, 0),
                Preference::FullestLong => (most(&self.left[span]), steps, area),
                Preference::Area => (area, most(&self.left[span]), 0),
                Preference::Steps => (steps, area, most(&self.left[span])),
            };
            std::cmp::Reverse((key.0 * perturbation(seed, lifetime), key.1, key.2))
        });
        for (place, &item) in order.iter().enumerate() {
            self.rank[item as usize] = place as u32;
        }
    }

    /// Places all `items` (ascending by birth), or restores the previous state.
    fn solve(&mut self, items: &[u32], last: Last) -> Verdict {
        // Parts that no lifetime connects in time.
        let mut start = 0;
        let mut end_of_part = 0;
        let mut parts = Vec::new();
        for (at, &item) in items.iter().enumerate() {
            let lifetime = &self.problem.lifetimes[item as usize];
            if at > start && lifetime.first >= end_of_part {
                parts.push(start..at);
                start = at;
            }
            end_of_part = end_of_part.max(lifetime.last);
        }
        if start < items.len() {
            parts.push(start..items.len());
        }
        // The smallest part is the cheapest to refute.
        parts.sort_by_key(|part| part.len());
        let before = self.trail.len();
        let is_split = parts.len() > 1;
        for part in parts {
            let part = &items[part];
            let verdict = if is_split {
                self.solve_anew(part)
            } else {
                self.solve_part(part, last)
            };
            if !matches!(verdict, Verdict::Solved) {
                self.undo(before);
                return verdict;
            }
        }
        Verdict::Solved
    }

    /// Places a separate part as a set of its own: ranked by its own remaining bytes, in an order
    /// of offsets that starts at 0. Orders that the larger set has tried may be repeated; that
    /// costs less than the ranks of a half-filled set would save.
    fn solve_anew(&mut self, items: &[u32]) -> Verdict {
        let ranks: Vec<u32> = items.iter().map(|&item| self.rank[item as usize]).collect();
        self.effort = (self.effort).saturating_sub(RANKING_STEPS * items.len() as u64);
        self.rank(items);
        let verdict = self.solve_part(items, Last::GROUND);
        for (&item, rank) in items.iter().zip(ranks) {
            self.rank[item as usize] = rank;
        }
        verdict
    }

    /// Places all `items`, which are connected in time, or restores the previous state.
    fn solve_part(&mut self, items: &[u32], last: Last) -> Verdict {
        self.nodes = self.nodes.wrapping_add(1);
        if self.nodes.is_multiple_of(NODES_PER_LOOK)
            && self.first_decided.load(Ordering::Relaxed) < self.index
        {
            self.effort = 0;
        }
        if self.effort == 0 {
            return Verdict::OutOfEffort;
        }
        if self.jumps {
            self.conflict.clear();
        }
        let Some(mut candidates) = self.candidates(items, last) else {
            return Verdict::Failed;
        };
        candidates.sort_by_key(|&item| (self.offsets[item as usize], self.rank[item as usize]));
        let mut rest = Vec::with_capacity(items.len());
        let mut joint = Conflict::new(if self.jumps { self.placed.len() } else { 0 });
        for item in candidates {
            let offset = self.offsets[item as usize];
            let before = self.trail.len();
            self.place(item);
            let raised_none = self.trail.len() == before + 1;
            rest.clear();
            rest.extend(items.iter().copied().filter(|&other| other != item));
            let next = Last {
                offset,
                rank: Some(self.rank[item as usize]),
            };
            let verdict = self.solve(&rest, next);
            if matches!(verdict, Verdict::Solved) {
                return verdict;
            }
            self.undo(before);
            // If the item stood in nobody's way, the others fail without it as well.
            if raised_none || matches!(verdict, Verdict::OutOfEffort) {
                return verdict;
            }
            if self.jumps {
                // The others would fail for the same reason.
                if !self.conflict.holds(item) {
                    return verdict;
                }
                self.conflict.remove(item);
                joint.join(&self.conflict);
            }
        }
        if self.jumps {
            self.conflict = joint;
        }
        Verdict::Failed
    }

    /// Adds to the conflict why `item` cannot lie below `offset`: the first placement that is in
    /// its way, or that came before it in the order of offsets, and what that one rests on.
    ///
    /// A node that fails blames the placements of its branches. Those that no branch blames are
    /// undone without trying others in their place: far from the conflict in time, another choice
    /// would change nothing. What a placement rests on might have let others rest lower, so that a
    /// plan may be jumped over: such a search can find plans, and proves nothing.
    fn blame(&mut self, item: u32, offset: u64) {
        let mut reasons = vec![(item, offset)];
        while let Some((item, offset)) = reasons.pop() {
            if offset == 0 {
                continue;
            }
            let end = |other: u32| {
                self.offsets[other as usize] + self.problem.lifetimes[other as usize].bytes
            };
            let mut first: Option<u32> = None;
            for &other in &self.neighbours[item as usize] {
                if self.placed[other as usize]
                    && end(other) >= offset
                    && first
                        .is_none_or(|first| self.turn[other as usize] < self.turn[first as usize])
                    && (!self.placed[item as usize]
                        || self.turn[other as usize] < self.turn[item as usize])
                {
                    first = Some(other);
                }
            }
            let found = first.or_else(|| {
                // No neighbour: the first placement that is not lower.
                let at = self
                    .turns
                    .partition_point(|&other| self.offsets[other as usize] < offset);
                self.turns.get(at).or(self.turns.last()).copied()
            });
            if let Some(other) = found.filter(|&other| self.conflict.insert(other)) {
                let bytes = self.problem.lifetimes[other as usize].bytes;
                let needed = match first {
                    Some(_) => offset.saturating_sub(bytes),
                    None => self.offsets[other as usize].min(offset),
                };
                reasons.push((other, needed));
            }
        }
    }

    /// The lifetimes that may come next, or `None` if no plan is left.
    fn candidates(&mut self, items: &[u32], last: Last) -> Option<Vec<u32>> {
        let mut limit = u64::MAX;
        let mut work = items.len() as u64;
        let (first, end) = items.iter().fold((u32::MAX, 0), |(first, end), &item| {
            let lifetime = &self.problem.lifetimes[item as usize];
            (first.min(lifetime.first), end.max(lifetime.last))
        });
        let span = first as usize..end as usize;
        self.lowest.clear();
        for &item in items {
            let lifetime = &self.problem.lifetimes[item as usize];
            let offset = self.offsets[item as usize];
            limit = limit.min(offset + lifetime.bytes);
            let lowest = if last.allows(offset, self.rank[item as usize]) {
                offset
            } else {
                // Too late for this offset: another lifetime must be placed below it first.
                let lowest = self.neighbours[item as usize]
                    .iter()
                    .filter(|&&other| !self.placed[other as usize])
                    .map(|&other| {
                        self.offsets[other as usize].max(last.offset)
                            + self.problem.lifetimes[other as usize].bytes
                    })
                    .min();
                let Some(lowest) = lowest else {
                    self.blame_if_traced(item, last.offset + 1);
                    return None;
                };
                lowest
            };
            if lowest + lifetime.bytes > self.capacity {
                let bytes = lifetime.bytes;
                self.blame_if_traced(item, self.capacity.saturating_sub(bytes) + 1);
                return None;
            }
            work += u64::from(lifetime.last - lifetime.first);
            self.lowest.push((lowest, item));
        }
        self.effort = self.effort.saturating_sub(work);
        // A remaining lifetime would still fit below the last placement: it would have come before.
        if limit <= last.offset {
            if self.jumps
                && let Some(&top) = self.turns.last()
            {
                self.conflict.insert(top);
                self.blame(top, last.offset);
            }
            return None;
        }
        self.lowest.sort_unstable();
        self.heights[span.clone()].fill(0);
        for &(lowest, item) in &self.lowest {
            let lifetime = &self.problem.lifetimes[item as usize];
            for height in &mut self.heights[lifetime.first as usize..lifetime.last as usize] {
                *height = (*height).max(lowest) + lifetime.bytes;
            }
        }
        for moment in span {
            if self.heights[moment] > self.capacity {
                self.failures[moment] += 1;
                if self.jumps {
                    self.blame_stack(moment as u32);
                }
                return None;
            }
        }
        Some(
            items
                .iter()
                .copied()
                .filter(|&item| {
                    let offset = self.offsets[item as usize];
                    let twin = self.twins[item as usize];
                    offset < limit
                        && last.allows(offset, self.rank[item as usize])
                        && twin.is_none_or(|twin| self.placed[twin as usize])
                })
                .collect(),
        )
    }

    fn blame_if_traced(&mut self, item: u32, offset: u64) {
        if self.jumps {
            self.blame(item, offset);
        }
    }

    /// Adds to the conflict why the lifetimes left at a moment are stacked above the capacity: from
    /// the last gap in the stack on, none of them can lie lower.
    fn blame_stack(&mut self, moment: u32) {
        let lowest = std::mem::take(&mut self.lowest);
        let live = |item: u32| {
            let lifetime = &self.problem.lifetimes[item as usize];
            lifetime.first <= moment && moment < lifetime.last
        };
        let stack = lowest.iter().copied().filter(|&(_, item)| live(item));
        let (mut height, mut gap) = (0, 0);
        for (offset, item) in stack.clone() {
            if offset > height {
                (height, gap) = (offset, offset);
            }
            height += self.problem.lifetimes[item as usize].bytes;
        }
        let blamed: Vec<u32> = stack
            .filter(|&(offset, _)| offset >= gap)
            .map(|(_, item)| item)
            .collect();
        // The overflow may be larger than the least that would still be one.
        let needed = gap - gap.min(height - self.capacity - 1);
        for item in blamed {
            self.blame(item, needed);
        }
        self.lowest = lowest;
    }

    /// Places an item at its resting offset, and raises those that must lie above it.
    fn place(&mut self, item: u32) {
        let lifetime = self.problem.lifetimes[item as usize];
        let end = self.offsets[item as usize] + lifetime.bytes;
        self.placed[item as usize] = true;
        self.trail.push(Change::Placed(item));
        self.turn[item as usize] = self.turns.len() as u32;
        self.turns.push(item);
        for left in &mut self.left[lifetime.first as usize..lifetime.last as usize] {
            *left -= lifetime.bytes;
        }
        for &other in &self.neighbours[item as usize] {
            let offset = &mut self.offsets[other as usize];
            if !self.placed[other as usize] && *offset < end {
                self.trail.push(Change::Raised(other, *offset));
                *offset = end;
            }
        }
    }

    /// Undoes all changes since the trail had this length.
    fn undo(&mut self, length: usize) {
        while self.trail.len() > length {
            match self.trail.pop() {
                Some(Change::Raised(item, offset)) => self.offsets[item as usize] = offset,
                Some(Change::Placed(item)) => {
                    let lifetime = self.problem.lifetimes[item as usize];
                    for left in &mut self.left[lifetime.first as usize..lifetime.last as usize] {
                        *left += lifetime.bytes;
                    }
                    self.placed[item as usize] = false;
                    self.turns.pop();
                }
                None => {}
            }
        }
    }
}
