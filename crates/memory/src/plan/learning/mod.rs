//! Search for plans that learns from conflicts, for small sets that are packed tightly.
//!
//! Of two lifetimes that overlap in time, one lies below the other: that is all there is to decide.
//! The pairs are decided in any order, and bounds follow: how far from the ground and how far from
//! the ceiling each lifetime must lie, at least (`propagation`). Where bounds exclude each other,
//! the decisions that caused it are found and kept as a clause, so that no other branch fails for
//! the same reason (`analysis`). Pairs that conflicts have touched lately are decided first, and as
//! they lay last; the search begins anew now and then, with what it has learnt.
//!
//! The method is that of solvers for satisfiability modulo difference logic, with rules from
//! scheduling on one machine: a moment is the machine, bytes are times.

mod activity;
mod analysis;
mod propagation;

use super::search::{Outcome, Problem};
use activity::Activity;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// That of a pair, the first lifetime lies below the second one (even), or above it (odd).
type Literal = u32;

/// No literal, place or clause.
const NONE: u32 = u32::MAX;

/// From the ground up, and from the ceiling down. A lifetime's bound on a side is how far from
/// there it lies at least; its index is `2 × lifetime + side`.
const SIDES: [usize; 2] = [0, 1];

/// Most pairs of a set: with more, a conflict takes longer to find and teaches less.
const PAIRS_MAX: usize = 1 << 14;
/// Three of it can be added.
const CAPACITY_MAX: u64 = u64::MAX / 4;
/// Conflicts before the search begins anew, times the numbers of [`luby`].
const CONFLICTS_PER_RESTART: u64 = 100;
/// Conflicts before half of the clauses are dropped, and how much longer it takes each time.
const CONFLICTS_PER_CLEANING: u64 = 2000;
const CONFLICTS_MORE: u64 = 300;
/// First activities, beside 1 for a conflict.
const FIRST_ACTIVITY: f64 = 1e-3;
/// How much of them is left to chance.
const NOISE: f64 = 0.3;

/// Something that is true from a place of the trail on.
#[derive(Clone, Copy, Debug)]
enum Fact {
    Order(Literal),
    /// The bound with this index is at least that. In a reason for a bound: if less than that bound
    /// is to be explained, so much less will do here.
    Bound(u32, u64),
    /// The same, and no lower bound will do.
    Firm(u32, u64),
}

/// Why something is true.
#[derive(Clone, Copy)]
enum Reason {
    Decision,
    Clause(u32),
    /// A range of `Learning::facts`.
    Facts(u32, u32),
}

#[derive(Clone, Copy)]
enum Change {
    Order(Literal),
    /// A bound's index, its value before, and the place of its change before.
    Bound(u32, u64, u32),
}

/// An entry of the trail: what became true, in turn.
#[derive(Clone, Copy)]
struct Entry {
    change: Change,
    /// The bound that was reached; 0 for an order.
    value: u64,
    reason: Reason,
    /// Number of decisions before it, with its own.
    level: u32,
}

/// A range of `Learning::literals`, of which one is true in every plan. The first two are watched:
/// they become false last.
struct Clause {
    start: u32,
    end: u32,
    /// Levels that its literals had when it was learnt. The fewer, the more it is worth.
    levels: u32,
}

impl Clause {
    fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

#[derive(Clone, Copy)]
struct Watch {
    clause: u32,
    /// Another literal of the clause: while it is true, the clause need not be looked at.
    blocker: Literal,
}

/// A neighbour in time.
#[derive(Clone, Copy)]
struct Neighbour {
    item: u32,
    /// That the lifetime itself lies below this neighbour.
    below: Literal,
}

/// Something excludes all plans that the decisions so far leave; `Learning::conflict` says what.
struct Conflict;

/// A search within one capacity.
pub(super) struct Learning<'a> {
    problem: &'a Problem<'a>,
    capacity: u64,
    bytes: Vec<u64>,
    /// First and last moment of each lifetime.
    spans: Vec<(u32, u32)>,
    neighbours: Vec<Vec<Neighbour>>,
    /// The lifetime that each literal says to lie below another.
    lower: Vec<u32>,
    /// The literal that one lies below another, by `one × lifetimes + other`.
    literal: Vec<Literal>,
    /// Words of a set of lifetimes.
    words: usize,
    /// For each side, the set of those that are known to lie before each lifetime.
    before: [Vec<u64>; 2],
    /// Of each literal: 1 if true, -1 if false.
    value: Vec<i8>,
    /// Place in the trail of each pair.
    place: Vec<u32>,
    bounds: Vec<u64>,
    /// Place in the trail of the last change of each bound.
    last: Vec<u32>,
    trail: Vec<Entry>,
    /// What of the trail is followed up.
    followed: usize,
    /// Facts of reasons.
    facts: Vec<Fact>,
    /// Lengths of the trail and of the facts before each decision.
    levels: Vec<(usize, usize)>,
    /// Bounds whose stack may have grown, the lowest first.
    stacks: BinaryHeap<Reverse<(u64, u32)>>,
    is_in_stacks: Vec<bool>,
    /// Moments at which a bound has changed.
    moments: Vec<u32>,
    is_in_moments: Vec<bool>,
    clauses: Vec<Clause>,
    literals: Vec<Literal>,
    watches: Vec<Vec<Watch>>,
    activity: Activity,
    /// Whether the first lifetime of each pair lay below when it was decided last.
    phase: Vec<bool>,
    conflicts: u64,
    /// Conflicts at which clauses are dropped, and how often that was.
    cleaning: (u64, u64),
    is_impossible: bool,
    effort: u64,
    /// Facts that exclude each other.
    conflict: Vec<Fact>,
    /// Scratch of the analysis: whether each place of the trail has part, and the bound it needs.
    seen: Vec<bool>,
    needed: Vec<u64>,
    /// For each side, the lifetimes at each moment, by falling bounds.
    sorted: [Vec<Vec<u32>>; 2],
    /// Scratch: what lies before a lifetime, and the height of that at each moment.
    stacked: Vec<(u64, u32)>,
    heights: Vec<u64>,
    /// Scratch: the most bytes of those behind each place of a moment.
    largest: Vec<u64>,
}

impl<'a> Learning<'a> {
    /// A search for offsets within `capacity`, or none if the set has too many pairs, or if sums of
    /// two bounds and what lies between them could overflow.
    pub(super) fn new(problem: &'a Problem<'a>, capacity: u64) -> Option<Learning<'a>> {
        if capacity > CAPACITY_MAX {
            return None;
        }
        let lifetimes = problem.lifetimes;
        let count = lifetimes.len();
        let mut sorted = vec![Vec::new(); problem.moments];
        for (item, lifetime) in lifetimes.iter().enumerate() {
            for live in &mut sorted[lifetime.first as usize..lifetime.last as usize] {
                live.push(item as u32);
            }
        }
        let mut neighbours = vec![Vec::new(); count];
        let mut lower = Vec::new();
        let mut literals = vec![NONE; count * count];
        let mut twins = Vec::new();
        for (one, lifetime) in lifetimes.iter().enumerate() {
            for (other, second) in lifetimes.iter().enumerate().skip(one + 1) {
                if lifetime.is_empty() || second.is_empty() || !lifetime.overlaps(second) {
                    continue;
                }
                let below = lower.len() as Literal;
                if below as usize / 2 >= PAIRS_MAX {
                    return None;
                }
                if lifetime == second {
                    twins.push(below);
                }
                lower.extend([one as u32, other as u32]);
                literals[one * count + other] = below;
                literals[other * count + one] = below ^ 1;
                let item = other as u32;
                neighbours[one].push(Neighbour { item, below });
                let (item, below) = (one as u32, below ^ 1);
                neighbours[other].push(Neighbour { item, below });
            }
        }
        let pairs = lower.len() / 2;
        let words = count.div_ceil(64);
        let mut search = Learning {
            problem,
            capacity,
            bytes: lifetimes.iter().map(|lifetime| lifetime.bytes).collect(),
            spans: (lifetimes.iter())
                .map(|lifetime| (lifetime.first, lifetime.last))
                .collect(),
            neighbours,
            lower,
            literal: literals,
            words,
            before: [vec![0; count * words], vec![0; count * words]],
            value: vec![0; 2 * pairs],
            place: vec![NONE; pairs],
            bounds: vec![0; 2 * count],
            last: vec![NONE; 2 * count],
            trail: Vec::new(),
            followed: 0,
            facts: Vec::new(),
            levels: Vec::new(),
            stacks: BinaryHeap::new(),
            is_in_stacks: vec![false; 2 * count],
            moments: (0..problem.moments as u32).collect(),
            is_in_moments: vec![true; problem.moments],
            clauses: Vec::new(),
            literals: Vec::new(),
            watches: vec![Vec::new(); 2 * pairs],
            activity: Activity::new(Vec::new()),
            phase: Vec::new(),
            conflicts: 0,
            cleaning: (CONFLICTS_PER_CLEANING, 0),
            is_impossible: lifetimes.iter().any(|lifetime| lifetime.bytes > capacity),
            effort: 0,
            conflict: Vec::new(),
            seen: Vec::new(),
            needed: Vec::new(),
            sorted: [sorted.clone(), sorted],
            stacked: Vec::new(),
            heights: vec![0; problem.moments],
            largest: Vec::new(),
        };
        search.forget_activity(0);
        // Of the same bytes and moments, the first lies lowest.
        for literal in twins {
            search.is_impossible |= search.assign(literal, Reason::Decision).is_err();
        }
        // A plan upside down is one as well, so that one pair may be decided.
        if let Some(pair) = search.activity.first()
            && search.value[2 * pair as usize] == 0
        {
            let literal = search.as_before(pair);
            search.is_impossible |= search.assign(literal, Reason::Decision).is_err();
        }
        Some(search)
    }

    /// Searches with about `effort` elementary steps of work at most, or until a restart before
    /// `index` has decided; returns the outcome and the work done. Another `seed` begins with other
    /// pairs; what was learnt is kept.
    pub(super) fn search(
        &mut self,
        seed: u64,
        effort: u64,
        index: usize,
        first_decided: &AtomicUsize,
    ) -> (Outcome, u64) {
        self.effort = effort;
        self.backtrack(0);
        self.forget_activity(seed);
        let mut outcome = Outcome::Undecided;
        let mut restart = 0;
        while outcome == Outcome::Undecided
            && self.effort > 0
            && first_decided.load(Ordering::Relaxed) >= index
        {
            restart += 1;
            self.backtrack(0);
            outcome = self.descend(CONFLICTS_PER_RESTART * luby(restart));
        }
        (outcome, effort - self.effort)
    }

    /// Decides pair after pair, until nothing is left or that many conflicts were met.
    fn descend(&mut self, conflicts: u64) -> Outcome {
        if self.is_impossible {
            return Outcome::Impossible;
        }
        let end = self.conflicts + conflicts;
        loop {
            if self.propagate().is_err() {
                self.conflicts += 1;
                if !self.learn() {
                    self.is_impossible = true;
                    return Outcome::Impossible;
                }
                if self.effort == 0 {
                    return Outcome::Undecided;
                }
                continue;
            }
            if self.effort == 0 || self.conflicts >= end {
                return Outcome::Undecided;
            }
            if self.conflicts >= self.cleaning.0 {
                self.cleaning.1 += 1;
                self.cleaning.0 =
                    self.conflicts + CONFLICTS_PER_CLEANING + CONFLICTS_MORE * self.cleaning.1;
                self.clean();
            }
            let Some(literal) = self.choose() else {
                return Outcome::Found(self.bounds.iter().copied().step_by(2).collect());
            };
            self.levels.push((self.trail.len(), self.facts.len()));
            self.set(literal, Reason::Decision);
        }
    }

    /// An open pair, and how to decide it.
    fn choose(&mut self) -> Option<Literal> {
        loop {
            let pair = self.activity.pop()?;
            if self.value[2 * pair as usize] == 0 {
                return Some(self.as_before(pair));
            }
        }
    }

    /// A pair as it lay last.
    fn as_before(&self, pair: u32) -> Literal {
        2 * pair + u32::from(!self.phase[pair as usize])
    }

    /// Lets large lifetimes be decided first again, and as they lie in the best plan known.
    fn forget_activity(&mut self, seed: u64) {
        let problem = self.problem;
        let area = |item: u32| {
            let steps = f64::from(problem.steps[item as usize]);
            problem.lifetimes[item as usize].bytes as f64 * steps
        };
        let items = 0..problem.lifetimes.len() as u32;
        let largest = items.map(area).fold(1.0, f64::max);
        let pairs = self.lower.chunks_exact(2).enumerate();
        let first = pairs.map(|(pair, items)| {
            let part = (area(items[0]) + area(items[1])) / largest;
            FIRST_ACTIVITY * part * (1.0 + NOISE * draw(seed, pair as u64))
        });
        self.activity = Activity::new(first.collect());
        let hint = |item: u32| problem.hint.get(item as usize).copied().unwrap_or(0);
        let pairs = self.lower.chunks_exact(2);
        self.phase = pairs
            .map(|items| hint(items[0]) <= hint(items[1]))
            .collect();
    }

    /// The lower and the upper lifetime of a literal.
    fn items(&self, literal: Literal) -> (usize, usize) {
        (
            self.lower[literal as usize] as usize,
            self.lower[literal as usize ^ 1] as usize,
        )
    }

    /// The literal that one lies before another, seen from a side.
    fn precedes(&self, side: usize, one: usize, other: usize) -> Literal {
        let count = self.bytes.len();
        if side == 0 {
            self.literal[one * count + other]
        } else {
            self.literal[other * count + one]
        }
    }

    /// Whether one is known to lie before another, seen from a side.
    fn is_before(&self, side: usize, one: usize, other: usize) -> bool {
        self.before[side][other * self.words + one / 64] >> (one % 64) & 1 == 1
    }

    /// Makes a literal true.
    fn assign(&mut self, literal: Literal, reason: Reason) -> Result<(), Conflict> {
        match self.value[literal as usize] {
            1 => Ok(()),
            0 => {
                self.set(literal, reason);
                Ok(())
            }
            _ => {
                self.conflict.clear();
                self.conflict.push(Fact::Order(literal ^ 1));
                self.explain(reason, literal);
                Err(Conflict)
            }
        }
    }

    /// Makes an open literal true.
    fn set(&mut self, literal: Literal, reason: Reason) {
        self.value[literal as usize] = 1;
        self.value[literal as usize ^ 1] = -1;
        self.place[literal as usize / 2] = self.trail.len() as u32;
        self.turn_before(literal);
        self.note(Change::Order(literal), 0, reason);
    }

    /// Adds a pair to the sets of what lies before, or takes it out.
    fn turn_before(&mut self, literal: Literal) {
        let (one, other) = self.items(literal);
        self.before[0][other * self.words + one / 64] ^= 1 << (one % 64);
        self.before[1][one * self.words + other / 64] ^= 1 << (other % 64);
    }

    fn note(&mut self, change: Change, value: u64, reason: Reason) {
        let level = self.levels.len() as u32;
        self.trail.push(Entry {
            change,
            value,
            reason,
            level,
        });
    }

    /// Raises a bound. The facts of the reason are those for this value.
    fn raise(&mut self, index: usize, value: u64, reason: Reason) -> Result<(), Conflict> {
        if self.bounds[index] >= value {
            return Ok(());
        }
        let change = Change::Bound(index as u32, self.bounds[index], self.last[index]);
        self.last[index] = self.trail.len() as u32;
        self.note(change, value, reason);
        self.bounds[index] = value;
        let opposite = self.bounds[index ^ 1];
        let needed = value + self.bytes[index / 2] + opposite;
        if needed > self.capacity {
            let (value, opposite) = relax(value, opposite, needed - self.capacity - 1);
            self.conflict.clear();
            self.conflict.push(Fact::Bound(index as u32, value));
            self.conflict.push(Fact::Bound(index as u32 ^ 1, opposite));
            return Err(Conflict);
        }
        Ok(())
    }

    /// Goes back to the state after so many decisions.
    fn backtrack(&mut self, level: usize) {
        let Some(&(length, facts)) = self.levels.get(level) else {
            return;
        };
        for at in (length..self.trail.len()).rev() {
            match self.trail[at].change {
                Change::Order(literal) => {
                    let pair = literal / 2;
                    self.value[literal as usize] = 0;
                    self.value[literal as usize ^ 1] = 0;
                    self.place[pair as usize] = NONE;
                    self.phase[pair as usize] = literal & 1 == 0;
                    self.turn_before(literal);
                    self.activity.insert(pair);
                }
                Change::Bound(index, before, earlier) => {
                    self.bounds[index as usize] = before;
                    self.last[index as usize] = earlier;
                }
            }
        }
        self.trail.truncate(length);
        self.facts.truncate(facts);
        self.levels.truncate(level);
        // All was followed up before the decision.
        self.followed = length;
        for Reverse((_, index)) in self.stacks.drain() {
            self.is_in_stacks[index as usize] = false;
        }
        for moment in self.moments.drain(..) {
            self.is_in_moments[moment as usize] = false;
        }
    }
}

/// Lowers two bounds by so much together, the first one first.
fn relax(one: u64, other: u64, excess: u64) -> (u64, u64) {
    let first = excess.min(one);
    (one - first, other.saturating_sub(excess - first))
}

/// The `index`-th number, from 1 on, of the sequence 1, 1, 2, 1, 1, 2, 4, … of Luby and others:
/// good without knowing how long a search should go on before it begins anew.
fn luby(mut index: u64) -> u64 {
    loop {
        let bits = index.ilog2();
        if index + 1 == 2 << bits {
            return 1 << bits;
        }
        index -= (1 << bits) - 1;
    }
}

/// A number from 0 to 1 that depends on a seed and a pair; 0 without a seed.
fn draw(seed: u64, pair: u64) -> f64 {
    if seed == 0 {
        return 0.0;
    }
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ pair;
    for _ in 0..2 {
        mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    (mixed >> 40) as f64 / (1_u64 << 24) as f64
}

#[cfg(test)]
mod tests {
    use super::super::{Lifetime, moments, search};
    use super::{Learning, Outcome, Problem, draw, luby};
    use proptest::prelude::*;
    use std::sync::atomic::AtomicUsize;

    fn learn(problem: &Problem<'_>, capacity: u64, seeds: u64) -> Outcome {
        let none = AtomicUsize::new(usize::MAX);
        let mut learning = Learning::new(problem, capacity).expect("few pairs");
        (0..seeds)
            .map(|seed| learning.search(seed, 1 << 24, 0, &none).0)
            .find(|outcome| *outcome != Outcome::Undecided)
            .unwrap_or(Outcome::Undecided)
    }

    fn assert_fits(lifetimes: &[Lifetime], offsets: &[u64], capacity: u64) {
        for (at, (one, &low)) in lifetimes.iter().zip(offsets).enumerate() {
            assert!(low + one.bytes <= capacity, "{one:?} at {low}");
            for (other, &second) in lifetimes.iter().zip(offsets).skip(at + 1) {
                let apart = low + one.bytes <= second || second + other.bytes <= low;
                assert!(apart || !one.overlaps(other), "{one:?} and {other:?}");
            }
        }
    }

    #[test]
    fn restarts_follow_lubys_sequence() {
        let numbers: Vec<u64> = (1..=15).map(luby).collect();
        assert_eq!(numbers, [1, 1, 2, 1, 1, 2, 4, 1, 1, 2, 1, 1, 2, 4, 8]);
    }

    #[test]
    fn draws_differ_between_pairs_and_seeds() {
        assert!((0..1000).all(|pair| (0.0..1.0).contains(&draw(7, pair))));
        assert_ne!(draw(7, 1), draw(7, 2));
        assert_ne!(draw(7, 1), draw(8, 1));
        assert_eq!(draw(0, 1), 0.0);
    }

    #[test]
    fn a_set_of_too_many_pairs_is_left_to_the_other_search() {
        let lifetimes = vec![
            Lifetime {
                first: 0,
                last: 1,
                bytes: 1
            };
            513
        ];
        let problem = Problem {
            lifetimes: &lifetimes,
            moments: 1,
            steps: &vec![1; 513],
            hint: &[],
        };
        assert!(Learning::new(&problem, 513).is_none());
    }

    /// Cuts a block of memory and time into lifetimes that leave no gap.
    fn cut(known: Lifetime, cuts: u32, number: &mut u64, pieces: &mut Vec<Lifetime>) {
        *number += 1;
        let part = 0.3 + 0.4 * draw(5, *number);
        let (mut one, mut other) = (known, known);
        if cuts.is_multiple_of(2) {
            one.bytes = (known.bytes as f64 * part) as u64;
            other.bytes = known.bytes - one.bytes;
        } else {
            one.last = known.first + (f64::from(known.last - known.first) * part) as u32;
            other.first = one.last;
        }
        for piece in [one, other] {
            if cuts > 1 {
                cut(piece, cuts - 1, number, pieces);
            } else {
                pieces.push(piece);
            }
        }
    }

    #[test]
    fn a_set_without_a_gap_is_planned_and_one_byte_less_is_known_to_be_too_little() {
        let (all, mut lifetimes) = ((0, 10_000, 1_000_000), Vec::new());
        let (first, last, bytes) = all;
        cut(Lifetime { first, last, bytes }, 6, &mut 0, &mut lifetimes);
        let steps: Vec<u32> = (lifetimes.iter())
            .map(|known| known.last - known.first)
            .collect();
        let moments = moments::compress(&mut lifetimes);
        assert!(
            moments::profile(&lifetimes, moments)
                .iter()
                .all(|&live| live == bytes)
        );
        let problem = Problem {
            lifetimes: &lifetimes,
            moments,
            steps: &steps,
            hint: &[],
        };
        let Outcome::Found(offsets) = learn(&problem, bytes, 40) else {
            panic!("no plan was found");
        };
        assert_fits(&lifetimes, &offsets, bytes);
        assert_eq!(learn(&problem, bytes - 1, 1), Outcome::Impossible);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Two ways to search, which share nothing, must agree on what fits and what cannot.
        #[test]
        fn learning_agrees_with_the_search_from_the_bottom_up(
            set in prop::collection::vec((0_u32..9, 1_u32..6, 1_u64..12), 1..20),
            more in 0_u64..3,
            seeds in 1_u64..4,
        ) {
            let mut lifetimes: Vec<Lifetime> = set
                .into_iter()
                .map(|(first, steps, bytes)| Lifetime { first, last: first + steps, bytes })
                .collect();
            let steps: Vec<u32> = lifetimes.iter().map(|known| known.last - known.first).collect();
            let moments = moments::compress(&mut lifetimes);
            let most = moments::profile(&lifetimes, moments).into_iter().max().unwrap_or(0);
            let problem = Problem { lifetimes: &lifetimes, moments, steps: &steps, hint: &[] };
            let capacity = most + more;
            let mut effort = 1 << 26;
            let expected = search::search(&problem, capacity, &mut effort);
            match learn(&problem, capacity, seeds) {
                Outcome::Found(offsets) => {
                    assert_fits(&lifetimes, &offsets, capacity);
                    prop_assert!(matches!(expected, Outcome::Found(_)));
                }
                outcome => prop_assert_eq!(outcome, expected),
            }
        }
    }
}
