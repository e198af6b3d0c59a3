//! A log of memory management: every action is counted, the latest ones are kept.

use super::{Action, Reason};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// An action that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The action.
    pub action: Action,
    /// The reason.
    pub reason: Reason,
    /// Bytes released by it.
    pub freed_bytes: u64,
}

/// Counts of all actions by reason, and the latest actions with their times.
#[derive(Clone, Debug)]
pub struct ActionLog {
    counts: BTreeMap<(Action, Reason), u64>,
    latest: VecDeque<(u64, Done)>,
    latest_max: usize,
}

impl ActionLog {
    /// An empty log that keeps the latest `latest_max` actions.
    pub fn new(latest_max: usize) -> ActionLog {
        ActionLog {
            counts: BTreeMap::new(),
            latest: VecDeque::with_capacity(latest_max),
            latest_max,
        }
    }

    /// Records an action at a time of the caller's clock.
    pub fn record(&mut self, microseconds: u64, done: Done) {
        *self.counts.entry((done.action, done.reason)).or_default() += 1;
        if self.latest.len() >= self.latest_max {
            self.latest.pop_front();
        }
        if self.latest_max > 0 {
            self.latest.push_back((microseconds, done));
        }
    }

    /// How often an action was carried out for a reason.
    pub fn count(&self, action: Action, reason: Reason) -> u64 {
        self.counts
            .get(&(action, reason))
            .copied()
            .unwrap_or_default()
    }

    /// How often an action was carried out, for any reason.
    pub fn count_of(&self, action: Action) -> u64 {
        let same = self.counts.iter().filter(|((of, _), _)| *of == action);
        same.map(|(_, count)| count).sum()
    }

    /// All counts.
    pub fn counts(&self) -> &BTreeMap<(Action, Reason), u64> {
        &self.counts
    }

    /// The latest actions with their times, oldest first.
    pub fn latest(&self) -> impl Iterator<Item = &(u64, Done)> {
        self.latest.iter()
    }
}
