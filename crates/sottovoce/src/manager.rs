//! Execution of the memory policy: at its events, and rung by rung of the ladder when memory is
//! short. No lock is held while memory is reclaimed.

use crate::engine::Shared;
use crate::holdings::Holdings;
use crate::options::Profile;
use sottovoce_memory::OutOfMemory;
use sottovoce_memory::policy::{
    Action, Decision, Done, Observation, Policy, PolicyEvent, ProfileSettings, Reclaim,
};
use sottovoce_memory::stats::{Bytes, MetricsRecorder};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Asks the policy, applies its actions to the engine, and counts them.
pub(crate) struct StreamingMemoryManager {
    holdings: Arc<Holdings>,
    device_bytes: Option<u64>,
    profile: Profile,
    cache_interval: Option<u32>,
    policy: Policy,
    recorder: Arc<Mutex<MetricsRecorder>>,
    started: Instant,
}

impl StreamingMemoryManager {
    pub fn new(
        holdings: Arc<Holdings>,
        recorder: Arc<Mutex<MetricsRecorder>>,
        started: Instant,
        device_bytes: Option<u64>,
        profile: Profile,
        cache_interval: Option<u32>,
    ) -> StreamingMemoryManager {
        let policy = Policy::new(settings(profile, device_bytes, cache_interval));
        StreamingMemoryManager {
            holdings,
            device_bytes,
            profile,
            cache_interval,
            policy,
            recorder,
            started,
        }
    }

    /// Switches to another profile; the same one changes nothing.
    pub fn configure(&mut self, profile: Profile, cache_interval: Option<u32>) {
        if (profile, cache_interval) != (self.profile, self.cache_interval) {
            self.profile = profile;
            self.cache_interval = cache_interval;
            self.policy = Policy::new(settings(profile, self.device_bytes, cache_interval));
        }
    }

    /// Handles an event: applies the policy's actions and returns their descriptions.
    pub fn event(
        &mut self,
        event: PolicyEvent,
        reclaim: &mut dyn Reclaim,
        shared: &Shared,
    ) -> Vec<String> {
        let (statistics, now) = self.holdings.look();
        let microseconds = self.started.elapsed().as_micros() as u64;
        let mut recorder = self.recorder();
        match event {
            PolicyEvent::ChunkDone => {
                recorder.chunk_done(&statistics, now.spare_bytes, microseconds)
            }
            _ => recorder.observe(&statistics, now.spare_bytes, microseconds),
        }
        let memory = recorder.metrics();
        drop(recorder);
        shared.metrics().memory = memory;
        let books = Observation {
            allocated_bytes: now.allocated_bytes,
            reserved_bytes: now.reserved_bytes,
        };
        let decision = self.policy.decide(event, books);
        self.carry_out(&decision, reclaim, shared)
    }

    /// Memory is short: applies rung `attempt` of the ladder and describes it. `None` after the
    /// last rung.
    pub fn climb(
        &mut self,
        error: &OutOfMemory,
        attempt: usize,
        reclaim: &mut dyn Reclaim,
        shared: &Shared,
    ) -> Option<String> {
        if attempt == 0 {
            shared.metrics().out_of_memory += 1;
        }
        let event = PolicyEvent::OutOfMemory {
            kind: error.kind,
            attempt,
        };
        let decision = self.policy.decide(event, Observation::default());
        let done = self.carry_out(&decision, reclaim, shared);
        (!done.is_empty()).then(|| done.join(", "))
    }

    fn carry_out(
        &mut self,
        decision: &Decision,
        reclaim: &mut dyn Reclaim,
        shared: &Shared,
    ) -> Vec<String> {
        if decision.actions.is_empty() {
            return Vec::new();
        }
        let done = decision.carry_out(reclaim);
        self.policy
            .learn(done.iter().map(|done| done.freed_bytes).sum());
        let microseconds = self.started.elapsed().as_micros() as u64;
        let mut recorder = self.recorder();
        for done in &done {
            recorder.acted(microseconds, *done);
        }
        let memory = recorder.metrics();
        drop(recorder);
        shared.metrics().memory = memory;
        done.iter().map(describe).collect()
    }

    fn recorder(&self) -> MutexGuard<'_, MetricsRecorder> {
        // Counters stay valid even if a thread panicked while it held the lock.
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn settings(
    profile: Profile,
    device_bytes: Option<u64>,
    cache_interval: Option<u32>,
) -> ProfileSettings {
    let mut settings = profile.settings(device_bytes);
    if cache_interval.is_some() && settings.cache_interval.is_some() {
        settings.cache_interval = cache_interval;
    }
    settings
}

fn describe(done: &Done) -> String {
    let what = match done.action {
        Action::TrimPool => "gave kept memory back",
        Action::RunReclaimHooks => "dropped caches",
        Action::ShrinkWorkspace => "made the workspace as small as those under way need",
        Action::HoldAdmissions => "held newcomers",
    };
    format!(
        "{what}, {} ({})",
        Bytes(done.freed_bytes),
        done.reason.name()
    )
}
