//! When cached memory is released: a pure function of its arguments, without a clock and without
//! I/O.
//!
//! ```
//! use sottovoce_memory::policy::{Action, MemoryProfile, Observation, Policy, PolicyEvent};
//!
//! let mut policy = Policy::new(MemoryProfile::Balanced.settings(None));
//! let kept = Observation { allocated_bytes: 100 << 20, reserved_bytes: 400 << 20 };
//! assert!(policy.decide(PolicyEvent::ComponentLoaded, kept).actions.contains(&Action::TrimPool));
//! ```
//!
//! # Use in an engine
//!
//! At each [`PolicyEvent`] the engine calls [`Policy::decide`], carries out the decision's actions
//! in order on its own [`Reclaim`] ([`Decision::carry_out`]), and reports the bytes released
//! ([`Policy::learn`]).
//!
//! A failed allocation is a [`PolicyEvent::OutOfMemory`], with `attempt` counting from 0. The
//! engine retries the allocation after each decision, until it succeeds or a decision has no
//! actions, which means that nothing is left to try. [`ActionLog`] counts and keeps the actions.

mod action_log;
mod ladder;
mod profile;

pub use action_log::{ActionLog, Done};
pub use ladder::{RUNGS, rung};
pub use profile::{MemoryProfile, ProfileSettings, UnknownProfile};

use crate::out_of_memory::OutOfMemoryKind;
use crate::stats::MemoryStatistics;
use serde::Serialize;

/// An event that may release memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyEvent {
    /// A network was loaded.
    ComponentLoaded,
    /// Speech switched to another voice.
    VoiceSwitched,
    /// A chunk was finished.
    ChunkDone,
    /// T3 has generated all of a stream's speech, and no waiting stream takes over its KV cache.
    SpeechGenerated,
    /// A stream ended, and no waiting stream takes over its memory.
    StreamEnded,
    /// A text exceeded the context window and continues in a fresh one.
    ContextOverflowed,
    /// An allocation failed.
    OutOfMemory {
        /// The kind of failure.
        kind: OutOfMemoryKind,
        /// Number of earlier decisions about this allocation.
        attempt: usize,
    },
}

/// Memory in use and reserved at one moment: the figures that a decision depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Bytes of blocks in use.
    pub allocated_bytes: u64,
    /// Bytes reserved from the driver.
    pub reserved_bytes: u64,
}

impl Observation {
    /// The figures of a ledger. `spare_bytes` are bytes that a page pool caches without using them
    /// ([`PagePool::spare_bytes`](crate::pages::PagePool::spare_bytes)): they count as cached.
    pub fn of(statistics: &MemoryStatistics, spare_bytes: u64) -> Observation {
        let allocated = statistics.allocated_bytes.all.current + statistics.exact_bytes.current;
        Observation {
            allocated_bytes: allocated.saturating_sub(spare_bytes),
            reserved_bytes: statistics.held_bytes(),
        }
    }

    /// (reserved − allocated) ÷ reserved.
    pub fn fragmentation(&self) -> f64 {
        match self.reserved_bytes {
            0 => 0.0,
            reserved => self.kept_bytes() as f64 / reserved as f64,
        }
    }

    /// Bytes reserved and not in use.
    pub fn kept_bytes(&self) -> u64 {
        self.reserved_bytes.saturating_sub(self.allocated_bytes)
    }
}

/// An action that releases memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Return the caches of the pool and of the pages to the driver.
    TrimPool,
    /// Drop what can be rebuilt: caches of voices, idle networks.
    RunReclaimHooks,
    /// Shrink the workspace.
    ShrinkWorkspace,
    /// Admit no further stream before one has ended.
    HoldAdmissions,
}

/// The reason of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing is to be done.
    None,
    /// The event itself.
    Event,
    /// The profile's number of chunks since the last release.
    Cadence,
    /// Fragmentation above the profile's threshold.
    Fragmentation,
    /// An allocation failed and may succeed after the actions.
    OutOfMemory,
    /// An explicit request.
    Forced,
}

impl Reason {
    /// The reason's name in counts and logs.
    pub fn name(self) -> &'static str {
        match self {
            Reason::None => "none",
            Reason::Event => "event",
            Reason::Cadence => "cadence",
            Reason::Fragmentation => "fragmentation",
            Reason::OutOfMemory => "out of memory",
            Reason::Forced => "forced",
        }
    }
}

impl Action {
    /// The action's name in counts and logs.
    pub fn name(self) -> &'static str {
        match self {
            Action::TrimPool => "trim_pool",
            Action::RunReclaimHooks => "run_reclaim_hooks",
            Action::ShrinkWorkspace => "shrink_workspace",
            Action::HoldAdmissions => "hold_admissions",
        }
    }
}

/// The actions, as implemented by the owner of the memory. Each returns the bytes released, or 0;
/// an owner of a pool alone has nothing else to release.
pub trait Reclaim {
    /// Releases the caches of the pool and of the pages: [`crate::Memory::trim`],
    /// [`crate::pages::PagePool::trim`].
    fn trim_pool(&mut self) -> u64;

    /// Drops what can be rebuilt.
    fn run_reclaim_hooks(&mut self) -> u64 {
        0
    }

    /// Shrinks the workspace as far as the runs under way allow: to fewer streams or shorter texts.
    fn shrink_workspace(&mut self) -> u64 {
        0
    }

    /// Admits no further stream before one has ended.
    fn hold_admissions(&mut self) {}
}

/// Actions, and their reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The actions, in order.
    pub actions: Vec<Action>,
    /// The reason.
    pub reason: Reason,
}

impl Decision {
    fn nothing() -> Decision {
        Decision {
            actions: Vec::new(),
            reason: Reason::None,
        }
    }

    /// Somebody asks for kept memory back now, whatever the thresholds say.
    pub fn forced() -> Decision {
        Decision {
            actions: vec![Action::TrimPool],
            reason: Reason::Forced,
        }
    }

    /// Carries out the actions. Returns each with its reason and the bytes that it released.
    pub fn carry_out(&self, holder: &mut dyn Reclaim) -> Vec<Done> {
        let mut act = |action| match action {
            Action::TrimPool => holder.trim_pool(),
            Action::RunReclaimHooks => holder.run_reclaim_hooks(),
            Action::ShrinkWorkspace => holder.shrink_workspace(),
            Action::HoldAdmissions => {
                holder.hold_admissions();
                0
            }
        };
        (self.actions.iter())
            .map(|&action| Done {
                action,
                reason: self.reason,
                freed_bytes: act(action),
            })
            .collect()
    }
}

/// Share of the reserved bytes that may stay cached once T3 has generated a stream's speech, and
/// after the stream's end. Releasing them costs driver calls, at a time when no request waits.
pub const IDLE_SHARE_MAX: f64 = 0.02;
/// A release that freed nothing doubles the interval to the next one, up to this factor.
const BACK_OFF_MAX: u32 = 64;

/// Settings and state of the policy.
///
/// Thresholds without effect adapt. After a release that freed nothing, the interval to the next
/// one doubles, and the bytes still cached become the baseline: events and fragmentation cause a
/// release only once a worthwhile amount has been added to it. The first release that frees
/// something restores the profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    settings: ProfileSettings,
    chunks_since_clear: u32,
    back_off: u32,
    /// Cached bytes when the latest release was decided, until its effect is known.
    kept_at_release: Option<u64>,
    /// Cached bytes that a release could not free: the baseline.
    baseline_bytes: u64,
}

impl Policy {
    /// The policy before any event.
    pub fn new(settings: ProfileSettings) -> Policy {
        Policy {
            settings,
            chunks_since_clear: 0,
            back_off: 1,
            kept_at_release: None,
            baseline_bytes: 0,
        }
    }

    /// The settings.
    pub fn settings(&self) -> &ProfileSettings {
        &self.settings
    }

    /// Current interval between two releases, in chunks: longer than the profile's after releases
    /// that freed nothing.
    pub fn interval_now(&self) -> Option<u32> {
        let interval = self.settings.cache_interval?;
        Some(interval.saturating_mul(self.back_off))
    }

    /// Decides about an event. A decision releases memory only if as much is cached as the profile
    /// demands, so that a steady state makes no driver call.
    pub fn decide(&mut self, event: PolicyEvent, books: Observation) -> Decision {
        let kept = books.kept_bytes();
        let reason = match event {
            PolicyEvent::OutOfMemory { kind, attempt } => {
                return match rung(kind, attempt) {
                    Some(action) => Decision {
                        actions: vec![action],
                        reason: Reason::OutOfMemory,
                    },
                    None => Decision::nothing(),
                };
            }
            _ => self.reason(event, books),
        };
        if reason == Reason::None {
            return Decision::nothing();
        }
        self.chunks_since_clear = 0;
        self.kept_at_release = Some(kept);
        let collects = match reason {
            Reason::Fragmentation => false,
            _ => self.settings.collect,
        };
        let hooks = collects.then_some(Action::RunReclaimHooks);
        Decision {
            actions: hooks.into_iter().chain([Action::TrimPool]).collect(),
            reason,
        }
    }

    /// Reports the bytes that the latest decision released: a release that freed nothing is not
    /// repeated on the same schedule. The ladder's rungs have no schedule to adapt.
    pub fn learn(&mut self, freed_bytes: u64) {
        match self.kept_at_release.take() {
            Some(kept) if freed_bytes == 0 => {
                self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
                self.baseline_bytes = kept;
            }
            Some(_) => {
                self.back_off = 1;
                self.baseline_bytes = 0;
            }
            None => {}
        }
    }

    fn reason(&mut self, event: PolicyEvent, books: Observation) -> Reason {
        if event == PolicyEvent::ChunkDone {
            self.chunks_since_clear = self.chunks_since_clear.saturating_add(1);
        }
        let (Some(interval), kept) = (self.interval_now(), books.kept_bytes()) else {
            return Reason::None;
        };
        // Bytes that were freed by other means leave the baseline.
        self.baseline_bytes = self.baseline_bytes.min(kept);
        let worthwhile = |bytes: u64| bytes >= self.settings.worthwhile_bytes;
        let due = self.chunks_since_clear >= interval;
        let fragmented = books.fragmentation() > self.settings.fragmentation_threshold;
        match event {
            PolicyEvent::SpeechGenerated | PolicyEvent::StreamEnded => {
                match books.fragmentation() > IDLE_SHARE_MAX {
                    true => Reason::Fragmentation,
                    false => Reason::None,
                }
            }
            PolicyEvent::ChunkDone if due && worthwhile(kept) => Reason::Cadence,
            _ if !worthwhile(kept - self.baseline_bytes) => Reason::None,
            PolicyEvent::ChunkDone if fragmented => Reason::Fragmentation,
            PolicyEvent::ChunkDone => Reason::None,
            _ => Reason::Event,
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
    fn chunks_release_at_the_profiles_cadence() {
        for (profile, interval) in [
            (MemoryProfile::Aggressive, 5),
            (MemoryProfile::Balanced, 10),
            (MemoryProfile::Performance, 20),
        ] {
            let mut policy = Policy::new(profile.settings(None));
            // More is cached than is worthwhile, but below the threshold of fragmentation.
            let books = books(10_000, 250);
            for chunk in 1..=interval {
                let decision = policy.decide(PolicyEvent::ChunkDone, books);
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
    fn memory_that_a_stream_needs_no_more_is_released_unless_the_profile_never_releases() {
        for (profile, allocated, kept, expected) in [
            (MemoryProfile::Balanced, 97, 3, Reason::Fragmentation),
            (MemoryProfile::Balanced, 98, 2, Reason::None),
            (MemoryProfile::Performance, 90, 10, Reason::Fragmentation),
            (MemoryProfile::None, 50, 50, Reason::None),
        ] {
            for event in [PolicyEvent::SpeechGenerated, PolicyEvent::StreamEnded] {
                let mut policy = Policy::new(profile.settings(None));
                let decision = policy.decide(event, books(allocated, kept));
                assert_eq!(decision.reason, expected, "{profile:?}, {kept} kept");
            }
        }
    }

    #[test]
    fn fragmentation_releases_before_the_cadence() {
        let mut policy = Policy::new(MemoryProfile::Balanced.settings(None));
        let decision = policy.decide(PolicyEvent::ChunkDone, books(200, 150));
        assert_eq!(
            (decision.reason, decision.actions),
            (Reason::Fragmentation, vec![Action::TrimPool])
        );
    }

    #[test]
    fn nothing_is_done_while_no_worthwhile_amount_is_cached() {
        for event in [
            PolicyEvent::ComponentLoaded,
            PolicyEvent::VoiceSwitched,
            PolicyEvent::ChunkDone,
            PolicyEvent::ContextOverflowed,
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
    fn a_release_that_freed_nothing_is_not_repeated_on_the_same_schedule() {
        let mut policy = Policy::new(MemoryProfile::Aggressive.settings(None));
        let books = books(10_000, 300);
        let mut clears = Vec::new();
        for chunk in 1..=40 {
            if policy.decide(PolicyEvent::ChunkDone, books).reason == Reason::Cadence {
                clears.push(chunk);
                policy.learn(0);
            }
        }
        assert_eq!(clears, [5, 15, 35], "the time between doubles");
        let release = (1..=80)
            .find(|_| policy.decide(PolicyEvent::ChunkDone, books).reason == Reason::Cadence);
        assert_eq!(release, Some(35), "the fortieth chunk since the release");
        policy.learn(1);
        let reasons: Vec<_> = (0..5)
            .map(|_| policy.decide(PolicyEvent::ChunkDone, books).reason)
            .collect();
        assert_eq!(
            reasons.iter().position(|reason| *reason == Reason::Cadence),
            Some(4),
            "a clear that freed something resets the schedule"
        );
    }

    #[test]
    fn performance_runs_no_reclaim_hooks_and_none_does_nothing() {
        let mut performance = Policy::new(MemoryProfile::Performance.settings(None));
        let books = books(100, 400);
        assert_eq!(
            performance
                .decide(PolicyEvent::VoiceSwitched, books)
                .actions,
            [Action::TrimPool]
        );
        let mut none = Policy::new(MemoryProfile::None.settings(None));
        assert!(
            none.decide(PolicyEvent::VoiceSwitched, books)
                .actions
                .is_empty()
        );
    }

    #[test]
    fn after_a_release_without_effect_only_bytes_above_the_baseline_count() {
        for event in [
            PolicyEvent::VoiceSwitched,
            PolicyEvent::ComponentLoaded,
            PolicyEvent::ContextOverflowed,
            PolicyEvent::ChunkDone,
        ] {
            let mut policy = Policy::new(MemoryProfile::Balanced.settings(None));
            let mut decide = |kept| {
                let decided = policy.decide(event, books(100, kept)).reason;
                if decided != Reason::None {
                    policy.learn(if kept == 400 { 1 } else { 0 });
                }
                decided != Reason::None
            };
            assert!(decide(200), "{event:?}: the first time");
            assert!(!decide(200), "{event:?}: that cannot be given back");
            assert!(!decide(299), "{event:?}: too little on top of it");
            assert!(decide(300), "{event:?}: a worthwhile amount on top");
            assert!(decide(400), "{event:?}: and again, which frees something");
            assert!(decide(200), "{event:?}: the profile holds again");
            assert!(
                !decide(150),
                "{event:?}: the ground sinks with what is kept"
            );
            assert!(decide(250), "{event:?}: and counts from there");
        }
    }

    #[test]
    fn out_of_memory_climbs_one_rung_per_attempt_whatever_the_thresholds() {
        let mut policy = Policy::new(MemoryProfile::None.settings(None));
        let mut attempts = |kind| {
            let attempt =
                |attempt| policy.decide(PolicyEvent::OutOfMemory { kind, attempt }, books(1, 0));
            (0..RUNGS.len() + 2).map(attempt).collect::<Vec<_>>()
        };
        for (attempt, decision) in attempts(OutOfMemoryKind::NotNow).into_iter().enumerate() {
            let expected: Vec<_> = RUNGS.get(attempt).copied().into_iter().collect();
            assert_eq!(decision.actions, expected);
            let reason = match expected.is_empty() {
                false => Reason::OutOfMemory,
                true => Reason::None,
            };
            assert_eq!(decision.reason, reason);
        }
        for kind in [OutOfMemoryKind::NeverFits, OutOfMemoryKind::OverAccount] {
            let nothing = Decision::nothing();
            assert!(attempts(kind).iter().all(|decision| *decision == nothing));
        }
    }

    #[test]
    fn an_explicit_request_ignores_thresholds_and_each_action_reports_its_bytes() {
        struct Holder(Vec<&'static str>);
        impl Reclaim for Holder {
            fn trim_pool(&mut self) -> u64 {
                self.0.push("trim");
                7
            }
            fn run_reclaim_hooks(&mut self) -> u64 {
                self.0.push("hooks");
                5
            }
            fn shrink_workspace(&mut self) -> u64 {
                self.0.push("shrink");
                3
            }
            fn hold_admissions(&mut self) {
                self.0.push("hold");
            }
        }
        let mut policy = Policy::new(MemoryProfile::None.settings(None));
        let mut holder = Holder(Vec::new());
        let mut decisions = vec![Decision::forced()];
        decisions.extend((0..RUNGS.len()).map(|attempt| {
            let kind = OutOfMemoryKind::NotNow;
            policy.decide(PolicyEvent::OutOfMemory { kind, attempt }, books(1, 0))
        }));
        let mut log = ActionLog::new(4);
        for (microseconds, decision) in decisions.iter().enumerate() {
            for done in decision.carry_out(&mut holder) {
                log.record(microseconds as u64, done);
            }
        }
        assert_eq!(holder.0, ["trim", "trim", "hooks", "shrink", "hold"]);
        assert_eq!(log.count(Action::TrimPool, Reason::Forced), 1);
        assert_eq!(log.count(Action::TrimPool, Reason::OutOfMemory), 1);
        let latest: Vec<_> = log.latest().map(|(_, done)| done.freed_bytes).collect();
        assert_eq!(latest, [7, 5, 3, 0], "the latest four of five");
        assert_eq!(log.counts().len(), 5);
    }
}
