//! What a conflict teaches.

use super::{Change, Clause, Fact, Learning, Literal, NONE, Reason, Watch};
use std::collections::BinaryHeap;

/// Clauses of so few levels are kept for good.
const LEVELS_KEPT: u32 = 2;

impl Learning<'_> {
    /// Adds the facts of a reason to the conflict. `literal` is what a clause implied.
    pub(super) fn explain(&mut self, reason: Reason, literal: Literal) {
        match reason {
            Reason::Decision => {}
            Reason::Clause(clause) => {
                let literals = &self.literals[self.clauses[clause as usize].range()];
                let others = literals.iter().filter(|&&other| other != literal);
                self.conflict
                    .extend(others.map(|&other| Fact::Order(other ^ 1)));
            }
            Reason::Facts(start, end) => {
                let facts = &self.facts[start as usize..end as usize];
                self.conflict.extend_from_slice(facts);
            }
        }
    }

    /// Learns a clause from the conflict and goes back to where it leaves one choice; `false` if
    /// nothing is left to go back to.
    pub(super) fn learn(&mut self) -> bool {
        let Some(mut clause) = self.trace() else {
            return false;
        };
        self.shorten(&mut clause);
        // The second one is that of the highest level, which becomes open last.
        let level = |search: &Self, literal: Literal| {
            let place = search.place[literal as usize / 2];
            search.trail[place as usize].level
        };
        let mut back = 0;
        for at in 1..clause.len() {
            if level(self, clause[at]) > back {
                back = level(self, clause[at]);
                clause.swap(1, at);
            }
        }
        let mut levels: Vec<u32> = clause.iter().map(|&literal| level(self, literal)).collect();
        levels.sort_unstable();
        levels.dedup();
        self.backtrack(back as usize);
        self.activity.decay();
        let reason = self.keep(&clause, levels.len() as u32);
        self.assign(clause[0], reason).is_ok()
    }

    /// Traces the conflict back to orders of pairs that exclude each other: a clause of their
    /// opposites, the first of which is the only one of the highest level.
    fn trace(&mut self) -> Option<Vec<Literal>> {
        loop {
            let mut queue = BinaryHeap::new();
            self.seen.clear();
            self.seen.resize(self.trail.len(), false);
            self.needed.resize(self.trail.len(), 0);
            self.require_conflict(0, &mut queue);
            // Propagation may have missed it at the level before.
            let level = self.trail[*queue.peek()? as usize].level;
            let begin = self.levels[level as usize - 1].0 as u32;
            let mut clause = vec![NONE];
            while let Some(place) = queue.pop() {
                let entry = self.trail[place as usize];
                let (literal, slack) = match entry.change {
                    Change::Order(literal) => (literal, 0),
                    Change::Bound(..) => (NONE, entry.value - self.needed[place as usize]),
                };
                if literal != NONE {
                    let is_last = queue.peek().is_none_or(|&next| next < begin);
                    if place < begin {
                        clause.push(literal ^ 1);
                        continue;
                    }
                    if is_last {
                        clause[0] = literal ^ 1;
                        continue;
                    }
                }
                self.conflict.clear();
                self.explain(entry.reason, literal);
                self.require_conflict(slack, &mut queue);
            }
            if clause[0] != NONE {
                return Some(clause);
            }
            // It was one of a level before: propagation does not find all that follows.
            self.conflict.clear();
            (self.conflict).extend(clause[1..].iter().map(|&literal| Fact::Order(literal ^ 1)));
        }
    }

    /// Lets all facts of the conflict have part, with bounds lowered by `slack`.
    fn require_conflict(&mut self, slack: u64, queue: &mut BinaryHeap<u32>) {
        let facts = std::mem::take(&mut self.conflict);
        self.effort = self.effort.saturating_sub(4 * facts.len() as u64 + 4);
        for &fact in &facts {
            let (fact, needed) = match fact {
                Fact::Order(_) => (fact, 0),
                Fact::Bound(index, value) => {
                    let value = value.saturating_sub(slack);
                    (Fact::Bound(index, value), value)
                }
                Fact::Firm(_, value) => (fact, value),
            };
            let Some(place) = self.place_of(fact) else {
                continue;
            };
            let known = &mut self.needed[place as usize];
            if std::mem::replace(&mut self.seen[place as usize], true) {
                *known = needed.max(*known);
                continue;
            }
            *known = needed;
            queue.push(place);
            if let Fact::Order(literal) = fact {
                self.activity.bump(literal / 2);
            }
        }
        self.conflict = facts;
    }

    /// The place in the trail from which on a fact is true; none if it is without any decision.
    fn place_of(&self, fact: Fact) -> Option<u32> {
        let place = match fact {
            Fact::Order(literal) => self.place[literal as usize / 2],
            Fact::Bound(_, 0) | Fact::Firm(_, 0) => return None,
            Fact::Bound(index, value) | Fact::Firm(index, value) => {
                let mut place = self.last[index as usize];
                while let Change::Bound(_, before, earlier) = self.trail[place as usize].change
                    && before >= value
                {
                    place = earlier;
                }
                place
            }
        };
        (self.trail[place as usize].level > 0).then_some(place)
    }

    /// Drops the literals that follow from the others.
    fn shorten(&self, clause: &mut Vec<Literal>) {
        let has_part = |fact: Fact| {
            self.place_of(fact).is_none_or(|place| {
                let needed = self.needed[place as usize];
                self.seen[place as usize]
                    && match fact {
                        Fact::Order(_) => true,
                        Fact::Bound(_, value) | Fact::Firm(_, value) => needed >= value,
                    }
            })
        };
        let first = clause[0];
        clause.retain(|&literal| {
            let place = self.place[literal as usize / 2];
            let follows = match self.trail[place as usize].reason {
                Reason::Decision => false,
                Reason::Clause(other) => {
                    let others = &self.literals[self.clauses[other as usize].range()];
                    (others.iter())
                        .all(|&other| other == literal ^ 1 || has_part(Fact::Order(other ^ 1)))
                }
                Reason::Facts(start, end) => {
                    let facts = &self.facts[start as usize..end as usize];
                    facts.iter().all(|&fact| has_part(fact))
                }
            };
            literal == first || !follows
        });
    }

    /// Keeps a clause; returns it as a reason.
    fn keep(&mut self, clause: &[Literal], levels: u32) -> Reason {
        let &[first, second, ..] = clause else {
            return Reason::Decision;
        };
        let index = self.clauses.len() as u32;
        let start = self.literals.len() as u32;
        self.literals.extend_from_slice(clause);
        let end = self.literals.len() as u32;
        self.clauses.push(Clause { start, end, levels });
        for (literal, blocker) in [(first, second), (second, first)] {
            self.watches[literal as usize].push(Watch {
                clause: index,
                blocker,
            });
        }
        Reason::Clause(index)
    }

    /// Drops the worse half of the clauses: those of many levels, the older ones first.
    pub(super) fn clean(&mut self) {
        let mut is_kept: Vec<bool> = (self.clauses.iter())
            .map(|clause| clause.levels <= LEVELS_KEPT)
            .collect();
        for entry in &self.trail {
            if let Reason::Clause(clause) = entry.reason {
                is_kept[clause as usize] = true;
            }
        }
        let mut others: Vec<usize> = (0..is_kept.len()).filter(|&at| !is_kept[at]).collect();
        others.sort_by_key(|&at| (self.clauses[at].levels, std::cmp::Reverse(at)));
        for &at in &others[..others.len() / 2] {
            is_kept[at] = true;
        }
        let mut numbers = vec![NONE; self.clauses.len()];
        let mut literals = Vec::new();
        let mut clauses = Vec::new();
        for (at, clause) in self.clauses.iter().enumerate() {
            if is_kept[at] {
                numbers[at] = clauses.len() as u32;
                let start = literals.len() as u32;
                literals.extend_from_slice(&self.literals[clause.range()]);
                let end = literals.len() as u32;
                clauses.push(Clause {
                    start,
                    end,
                    levels: clause.levels,
                });
            }
        }
        self.effort = self.effort.saturating_sub(self.literals.len() as u64);
        self.literals = literals;
        self.clauses = clauses;
        for watches in &mut self.watches {
            watches.retain_mut(|watch| {
                watch.clause = numbers[watch.clause as usize];
                watch.clause != NONE
            });
        }
        for entry in &mut self.trail {
            if let Reason::Clause(clause) = &mut entry.reason {
                *clause = numbers[*clause as usize];
            }
        }
    }
}
