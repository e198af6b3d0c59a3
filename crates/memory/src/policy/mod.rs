//! When kept memory goes back: a pure function of what is known, without a clock and without I/O.
//!
//! ```
//! use sottovoce_memory::policy::{Action, Event, MemoryProfile, Observation, Policy};
//!
//! let mut policy = Policy::new(MemoryProfile::Balanced.settings(None));
//! let kept = Observation { allocated_bytes: 100 << 20, reserved_bytes: 400 << 20 };
//! assert!(policy.decide(Event::ComponentLoaded, kept).actions.contains(&Action::TrimPool));
//! ```

mod ladder;
mod profile;

pub use ladder::{RUNGS, rung};
pub use profile::{MemoryProfile, ProfileSettings, UnknownProfile};

use serde::Serialize;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A network was loaded.
    ComponentLoaded,
    /// Another voice speaks than before.
    VoiceSwitched,
    /// A chunk is done.
    ChunkDone,
    /// A text went beyond the window and goes on in a fresh one.
    ContextOverflowed,
}

/// What the books say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Bytes handed out.
    pub allocated_bytes: u64,
    /// Bytes held from the driver.
    pub reserved_bytes: u64,
}

impl Observation {
    /// (reserved − allocated) ÷ reserved.
    pub fn fragmentation(&self) -> f64 {
        match self.reserved_bytes {
            0 => 0.0,
            reserved => self.kept_bytes() as f64 / reserved as f64,
        }
    }

    /// Bytes held and not handed out.
    pub fn kept_bytes(&self) -> u64 {
        self.reserved_bytes.saturating_sub(self.allocated_bytes)
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Give what the pool and the pages keep back to the driver.
    TrimPool,
    /// Drop what can be made again: caches of voices, idle networks.
    RunReclaimHooks,
    /// Make do with a smaller workspace.
    ShrinkWorkspace,
    /// Let no further stream in before one has ended.
    HoldAdmissions,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing is to be done.
    None,
    /// The event itself asks for it.
    Event,
    /// As many chunks as the profile says have gone by.
    Cadence,
    /// Fragmentation is above the profile's threshold.
    Fragmentation,
}

impl Reason {
    /// The reason's name in counts and logs.
    pub fn name(self) -> &'static str {
        match self {
            Reason::None => "none",
            Reason::Event => "event",
            Reason::Cadence => "cadence",
            Reason::Fragmentation => "fragmentation",
        }
    }
}

/// Actions with their reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// In the order in which to carry them out.
    pub actions: Vec<Action>,
    /// Why.
    pub reason: Reason,
}

/// A clear that freed nothing doubles the time to the next one, up to this factor.
const BACK_OFF_MAX: u32 = 64;

/// Settings and what happened so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    settings: ProfileSettings,
    chunks_since_clear: u32,
    back_off: u32,
}

impl Policy {
    /// Nothing has happened yet.
    pub fn new(settings: ProfileSettings) -> Policy {
        Policy {
            settings,
            chunks_since_clear: 0,
            back_off: 1,
        }
    }

    /// What it goes by.
    pub fn settings(&self) -> &ProfileSettings {
        &self.settings
    }

    /// What to do about an event. Clearing is worth it only where the books show as much kept as the profile asks for, so that a
    /// steady state costs no driver call.
    pub fn decide(&mut self, event: Event, books: Observation) -> Decision {
        if event == Event::ChunkDone {
            self.chunks_since_clear = self.chunks_since_clear.saturating_add(1);
        }
        let reason = self.reason(event, books);
        if reason == Reason::None || books.kept_bytes() < self.settings.worthwhile_bytes {
            return Decision {
                actions: Vec::new(),
                reason: Reason::None,
            };
        }
        self.chunks_since_clear = 0;
        let mut actions = vec![Action::TrimPool];
        if self.settings.collect && reason != Reason::Fragmentation {
            actions.insert(0, Action::RunReclaimHooks);
        }
        Decision { actions, reason }
    }

    /// What a clear gave back: one that freed nothing is not repeated on the same schedule.
    pub fn learn(&mut self, freed_bytes: u64) {
        self.back_off = if freed_bytes == 0 {
            (self.back_off * 2).min(BACK_OFF_MAX)
        } else {
            1
        };
    }

    fn reason(&self, event: Event, books: Observation) -> Reason {
        let Some(interval) = self.settings.cache_interval else {
            return Reason::None;
        };
        let due = self.chunks_since_clear >= interval.saturating_mul(self.back_off);
        match event {
            Event::ComponentLoaded | Event::VoiceSwitched | Event::ContextOverflowed => {
                Reason::Event
            }
            Event::ChunkDone if due => Reason::Cadence,
            Event::ChunkDone
                if self.back_off == 1
                    && books.fragmentation() > self.settings.fragmentation_threshold =>
            {
                Reason::Fragmentation
            }
            Event::ChunkDone => Reason::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1 << 20;

    fn books(allocated: u64, kept: u64) -> Observation {
        Observation {
            allocated_bytes: allocated * MEBIBYTE,
            reserved_bytes: (allocated + kept) * MEBIBYTE,
        }
    }

    #[test]
    fn chunks_clear_at_the_profiles_cadence() {
        for (profile, interval) in [
            (MemoryProfile::Aggressive, 5),
            (MemoryProfile::Balanced, 10),
            (MemoryProfile::Performance, 20),
        ] {
            let mut policy = Policy::new(profile.settings(None));
            // Much is kept, but less than the threshold of fragmentation.
            let books = books(10_000, 250);
            for chunk in 1..=interval {
                let decision = policy.decide(Event::ChunkDone, books);
                let expected = if chunk == interval {
                    Reason::Cadence
                } else {
                    Reason::None
                };
                assert_eq!(decision.reason, expected, "{profile:?}, chunk {chunk}");
            }
        }
    }

    #[test]
    fn fragmentation_clears_before_the_cadence() {
        let mut policy = Policy::new(MemoryProfile::Balanced.settings(None));
        let decision = policy.decide(Event::ChunkDone, books(200, 150));
        assert_eq!(
            (decision.reason, decision.actions),
            (Reason::Fragmentation, vec![Action::TrimPool])
        );
    }

    #[test]
    fn where_nothing_worthwhile_is_kept_nothing_is_done() {
        for event in [
            Event::ComponentLoaded,
            Event::VoiceSwitched,
            Event::ChunkDone,
            Event::ContextOverflowed,
        ] {
            let mut policy = Policy::new(MemoryProfile::Aggressive.settings(None));
            for _ in 0..100 {
                assert_eq!(
                    policy.decide(event, books(3, 10)).reason,
                    Reason::None,
                    "{event:?}"
                );
            }
        }
    }

    #[test]
    fn a_clear_that_freed_nothing_is_not_repeated_on_the_same_schedule() {
        let mut policy = Policy::new(MemoryProfile::Aggressive.settings(None));
        let books = books(10_000, 300);
        let mut clears = Vec::new();
        for chunk in 1..=40 {
            if policy.decide(Event::ChunkDone, books).reason == Reason::Cadence {
                clears.push(chunk);
                policy.learn(0);
            }
        }
        assert_eq!(clears, [5, 15, 35], "the time between doubles");
        policy.learn(1);
        let decision = policy.decide(Event::ChunkDone, books);
        assert_eq!(
            decision.reason,
            Reason::Cadence,
            "five chunks have gone by, and a clear that freed something resets the schedule"
        );
    }

    #[test]
    fn performance_does_not_collect_and_none_does_nothing() {
        let mut performance = Policy::new(MemoryProfile::Performance.settings(None));
        let books = books(100, 400);
        assert_eq!(
            performance.decide(Event::VoiceSwitched, books).actions,
            [Action::TrimPool]
        );
        let mut none = Policy::new(MemoryProfile::None.settings(None));
        assert!(none.decide(Event::VoiceSwitched, books).actions.is_empty());
    }
}
