//! Execution of the memory policy: at its events, and rung by rung of the ladder when memory is
//! short. No lock is held while memory is reclaimed.

use crate::engine::Shared;
use crate::options::Profile;
use sottovoce_memory::OutOfMemory;
use sottovoce_memory::policy::{
    Action, Decision, Done, Observation, Policy, PolicyEvent, ProfileSettings, Reclaim,
};
use sottovoce_memory::stats::Bytes;

/// Asks the policy, and applies its actions to the engine.
pub(crate) struct StreamingMemoryManager {
    device_bytes: Option<u64>,
    profile: Profile,
    cache_interval: Option<u32>,
    policy: Policy,
}

impl StreamingMemoryManager {
    pub fn new(
        device_bytes: Option<u64>,
        profile: Profile,
        cache_interval: Option<u32>,
    ) -> StreamingMemoryManager {
        let policy = Policy::new(settings(profile, device_bytes, cache_interval));
        StreamingMemoryManager {
            device_bytes,
            profile,
            cache_interval,
            policy,
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
        let (statistics, now) = shared.holdings().look();
        shared.record(|recorder, microseconds| match event {
            PolicyEvent::ChunkDone => recorder.chunk_done(&statistics, now, microseconds),
            _ => recorder.observe(&statistics, now, microseconds),
        });
        let decision = self.policy.decide(event, now);
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
        let done = shared.carry_out(decision, reclaim);
        self.policy
            .learn(done.iter().map(|done| done.freed_bytes).sum());
        done.iter().map(describe).collect()
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
