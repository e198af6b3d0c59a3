//! What follows from decisions, and why.

use super::{
    Change, Conflict, Entry, Fact, Learning, Literal, Reason, Reverse, SIDES, Watch, relax,
};

/// Most lifetimes of which one must come first; more say little.
const FIRST_COUNT_MAX: usize = 4;

impl Learning<'_> {
    /// Follows up all that became true, the cheapest rules first.
    pub(super) fn propagate(&mut self) -> Result<(), Conflict> {
        loop {
            if let Some(&entry) = self.trail.get(self.followed) {
                self.followed += 1;
                self.follow(entry)?;
            } else if let Some(Reverse((_, index))) = self.stacks.pop() {
                self.is_in_stacks[index as usize] = false;
                self.stack(index as usize)?;
            } else if let Some(moment) = self.moments.pop() {
                self.is_in_moments[moment as usize] = false;
                self.moment(moment as usize)?;
            } else {
                return Ok(());
            }
        }
    }

    fn follow(&mut self, entry: Entry) -> Result<(), Conflict> {
        match entry.change {
            Change::Order(literal) => {
                self.follow_clauses(literal ^ 1)?;
                self.follow_order(literal)
            }
            // Unless it was raised again: that comes later.
            Change::Bound(index, ..) if self.bounds[index as usize] == entry.value => {
                self.follow_bound(index as usize)
            }
            Change::Bound(..) => Ok(()),
        }
    }

    /// Looks at the clauses that watch a literal which became false.
    fn follow_clauses(&mut self, falsified: Literal) -> Result<(), Conflict> {
        let mut watches = std::mem::take(&mut self.watches[falsified as usize]);
        let mut result = Ok(());
        watches.retain_mut(|watch| {
            if result.is_err() || self.value[watch.blocker as usize] == 1 {
                return true;
            }
            let range = self.clauses[watch.clause as usize].range();
            self.effort = self.effort.saturating_sub(4);
            let literals = &mut self.literals[range];
            if literals[0] == falsified {
                literals.swap(0, 1);
            }
            let first = literals[0];
            if self.value[first as usize] == 1 {
                watch.blocker = first;
                return true;
            }
            let other = literals[2..]
                .iter()
                .position(|&literal| self.value[literal as usize] != -1);
            if let Some(other) = other {
                literals.swap(1, 2 + other);
                self.watches[literals[1] as usize].push(Watch {
                    blocker: first,
                    ..*watch
                });
                return false;
            }
            result = self.assign(first, Reason::Clause(watch.clause));
            true
        });
        self.watches[falsified as usize] = watches;
        result
    }

    /// One lies below another: so do those below the one, and above the other.
    fn follow_order(&mut self, literal: Literal) -> Result<(), Conflict> {
        self.effort = self.effort.saturating_sub(2 * self.words as u64 + 8);
        let (lower, upper) = self.items(literal);
        for side in SIDES {
            let (one, other) = [(lower, upper), (upper, lower)][side];
            for word in 0..self.words {
                let mut rest = self.before[side][one * self.words + word]
                    & !self.before[side][other * self.words + word];
                while rest > 0 {
                    let third = 64 * word + rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    let implied = self.precedes(side, third, other);
                    if implied == super::NONE {
                        continue;
                    }
                    let start = self.facts.len();
                    let link = self.precedes(side, third, one);
                    self.facts.extend([Fact::Order(link), Fact::Order(literal)]);
                    let reason = self.facts_from(start);
                    self.assign(implied, reason)?;
                }
            }
            self.mark_stack(2 * other + side);
        }
        Ok(())
    }

    /// A bound was raised: what comes behind it may be as well, and there may be no room left for
    /// some before it.
    fn follow_bound(&mut self, index: usize) -> Result<(), Conflict> {
        let (item, side) = (index / 2, index % 2);
        let bound = self.bounds[index];
        let end = bound + self.bytes[item];
        self.effort = (self.effort).saturating_sub(self.neighbours[item].len() as u64);
        for at in 0..self.neighbours[item].len() {
            let neighbour = self.neighbours[item][at];
            let other = neighbour.item as usize;
            let literal = neighbour.below ^ side as u32;
            match self.value[literal as usize] {
                1 => self.mark_stack(2 * other + side),
                0 => {
                    let opposite = 2 * other + (side ^ 1);
                    let needed = end + self.bytes[other] + self.bounds[opposite];
                    if needed > self.capacity {
                        let excess = needed - self.capacity - 1;
                        let (low, high) = relax(bound, self.bounds[opposite], excess);
                        let start = self.facts.len();
                        self.facts.push(Fact::Bound(index as u32, low));
                        self.facts.push(Fact::Bound(opposite as u32, high));
                        let reason = self.facts_from(start);
                        self.assign(literal ^ 1, reason)?;
                    }
                }
                _ => {}
            }
        }
        let (first, end) = self.spans[item];
        for moment in first..end {
            if !std::mem::replace(&mut self.is_in_moments[moment as usize], true) {
                self.moments.push(moment);
            }
        }
        Ok(())
    }

    fn mark_stack(&mut self, index: usize) {
        if !std::mem::replace(&mut self.is_in_stacks[index], true) {
            self.stacks
                .push(Reverse((self.bounds[index], index as u32)));
        }
    }

    fn facts_from(&self, start: usize) -> Reason {
        Reason::Facts(start as u32, self.facts.len() as u32)
    }

    /// A lifetime lies behind the stack of those before it, at each moment.
    fn stack(&mut self, index: usize) -> Result<(), Conflict> {
        let mut stacked = std::mem::take(&mut self.stacked);
        self.collect_stack(index, &mut stacked);
        let result = if stacked.is_empty() {
            Ok(())
        } else {
            self.measure_stack(index, &stacked)
        };
        self.stacked = stacked;
        result
    }

    /// Those before a lifetime, by their bounds, from where their stack could reach higher than is
    /// known, were all live together.
    fn collect_stack(&mut self, index: usize, stacked: &mut Vec<(u64, u32)>) {
        let (item, side) = (index / 2, index % 2);
        stacked.clear();
        for word in 0..self.words {
            let mut rest = self.before[side][item * self.words + word];
            while rest > 0 {
                let other = 64 * word as u32 + rest.trailing_zeros();
                rest &= rest - 1;
                stacked.push((self.bounds[2 * other as usize + side], other));
            }
        }
        stacked.sort_unstable();
        self.effort = (self.effort).saturating_sub(8 * stacked.len() as u64);
        let mut sum = 0_u64;
        let mut needed = stacked.len();
        for (at, &(bound, other)) in stacked.iter().enumerate().rev() {
            sum = sum.saturating_add(self.bytes[other as usize]);
            if bound.saturating_add(sum) > self.bounds[index] {
                needed = at;
            }
        }
        stacked.drain(..needed);
    }

    fn measure_stack(&mut self, index: usize, stacked: &[(u64, u32)]) -> Result<(), Conflict> {
        let (item, side) = (index / 2, index % 2);
        let (first, end) = self.spans[item];
        let heights = &mut self.heights[first as usize..end as usize];
        heights.fill(0);
        let mut work = 0;
        for &(bound, other) in stacked {
            let span = self.spans[other as usize];
            let (from, to) = (span.0.max(first) - first, span.1.min(end) - first);
            let bytes = self.bytes[other as usize];
            for height in &mut heights[from as usize..to as usize] {
                *height = (*height).max(bound) + bytes;
            }
            work += u64::from(to - from);
        }
        self.effort = self.effort.saturating_sub(work);
        let highest = heights.iter().copied().max().unwrap_or(0);
        if highest <= self.bounds[index] {
            return Ok(());
        }
        let moment = heights.iter().position(|&height| height == highest);
        let moment = first + moment.unwrap_or(0) as u32;
        // From the top down to the last gap.
        let start = self.facts.len();
        let (mut sum, mut lowest) = (0, 0);
        for &(bound, other) in stacked.iter().rev() {
            let span = self.spans[other as usize];
            if moment < span.0 || span.1 <= moment {
                continue;
            }
            sum += self.bytes[other as usize];
            let literal = self.precedes(side, other as usize, item);
            self.facts.push(Fact::Order(literal));
            // The bound is filled in below.
            self.facts.push(Fact::Bound(2 * other + side as u32, 0));
            if bound + sum == highest {
                lowest = bound;
                break;
            }
        }
        for fact in &mut self.facts[start..] {
            if let Fact::Bound(_, bound) = fact {
                *bound = lowest;
            }
        }
        let reason = self.facts_from(start);
        self.raise(index, highest, reason)
    }

    /// What follows from the bounds of all that are live at a moment.
    fn moment(&mut self, moment: usize) -> Result<(), Conflict> {
        for side in SIDES {
            let mut sorted = std::mem::take(&mut self.sorted[side][moment]);
            // Nearly sorted from the time before.
            for at in 1..sorted.len() {
                let item = sorted[at];
                let bound = self.bounds[2 * item as usize + side];
                let mut place = at;
                while place > 0 && self.bounds[2 * sorted[place - 1] as usize + side] < bound {
                    sorted[place] = sorted[place - 1];
                    place -= 1;
                }
                sorted[place] = item;
            }
            self.effort = self.effort.saturating_sub(6 * sorted.len() as u64);
            let length = self.trail.len();
            let mut result = self.edges(side, &sorted);
            // What was found is followed up first.
            if result.is_ok() && self.trail.len() == length {
                result = self.firsts(side, &sorted);
            }
            self.sorted[side][moment] = sorted;
            result?;
        }
        Ok(())
    }

    /// Those that lie from some bound on must fit behind it, and what would leave them no room
    /// there lies before all of them.
    fn edges(&mut self, side: usize, sorted: &[u32]) -> Result<(), Conflict> {
        self.largest.clear();
        self.largest.resize(sorted.len(), 0);
        for place in (1..sorted.len()).rev() {
            let bytes = self.bytes[sorted[place] as usize];
            self.largest[place - 1] = self.largest[place].max(bytes);
        }
        let (mut sum, mut opposite) = (0, u64::MAX);
        for (place, &item) in sorted.iter().enumerate() {
            let bound = self.bounds[2 * item as usize + side];
            sum += self.bytes[item as usize];
            opposite = opposite.min(self.bounds[2 * item as usize + (side ^ 1)]);
            let next = sorted.get(place + 1);
            if next.is_some_and(|&next| self.bounds[2 * next as usize + side] == bound) {
                continue;
            }
            let set = &sorted[..=place];
            let needed = bound + sum + opposite;
            if needed > self.capacity {
                let (low, high) = relax(bound, opposite, needed - self.capacity - 1);
                self.conflict.clear();
                for &item in set {
                    let index = 2 * item + side as u32;
                    self.conflict.push(Fact::Bound(index, low));
                    self.conflict.push(Fact::Bound(index ^ 1, high));
                }
                return Err(Conflict);
            }
            let room = self.capacity - bound - sum;
            if self.largest[place] + opposite <= room {
                continue;
            }
            self.effort = (self.effort).saturating_sub((sorted.len() - place) as u64);
            for &item in &sorted[place + 1..] {
                let own = self.bounds[2 * item as usize + (side ^ 1)].min(opposite);
                let needed = self.bytes[item as usize] + own;
                if needed > room {
                    let bounds = relax(bound, own, needed - room - 1);
                    self.edge(side, set, item as usize, bounds)?;
                }
            }
        }
        Ok(())
    }

    /// A lifetime lies before all of a set, seen from `side`: they have no room together from the
    /// first bound on, which the set has there, to the second one on the other side.
    fn edge(
        &mut self,
        side: usize,
        set: &[u32],
        item: usize,
        (low, high): (u64, u64),
    ) -> Result<(), Conflict> {
        self.effort = self.effort.saturating_sub(set.len() as u64);
        let mut reason = None;
        for &other in set {
            if self.is_before(side ^ 1, other as usize, item) {
                continue;
            }
            let reason = *reason.get_or_insert_with(|| {
                let start = self.facts.len();
                let index = 2 * item as u32 + (side as u32 ^ 1);
                self.facts.push(Fact::Bound(index, high));
                for &third in set {
                    let index = 2 * third + side as u32;
                    self.facts.push(Fact::Bound(index, low));
                    self.facts.push(Fact::Bound(index ^ 1, high));
                }
                Reason::Facts(start as u32, self.facts.len() as u32)
            });
            let literal = self.precedes(side, item, other as usize);
            self.assign(literal, reason)?;
        }
        Ok(())
    }

    /// Of those from some bound on, one must come first while the others still fit behind it. All
    /// that come too late for that lie behind the earliest end of those that do not.
    fn firsts(&mut self, side: usize, sorted: &[u32]) -> Result<(), Conflict> {
        let bound = |search: &Self, item: u32| search.bounds[2 * item as usize + side];
        let mut sum = 0;
        for (place, &item) in sorted.iter().enumerate() {
            sum += self.bytes[item as usize];
            let next = sorted.get(place + 1);
            if next.is_some_and(|&next| bound(self, next) == bound(self, item)) {
                continue;
            }
            let Some(latest) = self.capacity.checked_sub(sum) else {
                return Ok(());
            };
            let late = sorted[..=place].partition_point(|&other| bound(self, other) > latest);
            let (late, firsts) = sorted[..=place].split_at(late);
            if late.is_empty() || firsts.is_empty() || firsts.len() > FIRST_COUNT_MAX {
                continue;
            }
            let ends =
                (firsts.iter()).map(|&first| bound(self, first) + self.bytes[first as usize]);
            let end = ends.min().unwrap_or(0);
            if bound(self, late[late.len() - 1]) >= end {
                continue;
            }
            let start = self.facts.len();
            for &other in late {
                let index = 2 * other + side as u32;
                self.facts.push(Fact::Firm(index, latest + 1));
            }
            for &first in firsts {
                let needed = end.saturating_sub(self.bytes[first as usize]);
                let index = 2 * first + side as u32;
                self.facts.push(Fact::Bound(index, needed));
            }
            let reason = self.facts_from(start);
            for &other in late {
                self.raise(2 * other as usize + side, end, reason)?;
            }
            // The order has changed.
            return Ok(());
        }
        Ok(())
    }
}
