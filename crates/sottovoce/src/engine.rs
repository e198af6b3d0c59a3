//! The engine's public interface: what it is, holds and reports. Loading, streams, voices and voice
//! changes have a file each.

mod change;
mod decoding;
mod devices;
mod effects;
mod handle;
mod load;
mod shared;
mod streams;
mod voices;

pub(crate) use handle::Handle;
pub(crate) use shared::{Shared, StreamProgress};

use crate::metrics::{EngineMetrics, MemoryPlan};
use crate::options::{Capabilities, EngineOptions, Profile, StreamOptions};
use crate::report::MemoryReport;
use sottovoce_memory::driver::Resident;
use sottovoce_memory::policy::Decision;
use std::sync::Arc;
use std::time::Duration;

/// A loaded model. Clones share it. When the last clone and the last stream are dropped, all its
/// memory is returned.
#[derive(Clone)]
pub struct Engine {
    handle: Arc<Handle>,
}

impl Engine {
    /// Capabilities of this model on its device, which decide the options that have an effect
    /// ([`OptionTable::without_effect`](crate::OptionTable::without_effect)).
    pub fn capabilities(&self) -> &Capabilities {
        &self.handle.shared.capabilities
    }

    /// The default options of a stream, with the model's own values filled in.
    pub fn stream_defaults(&self) -> StreamOptions {
        let config = self.handle.shared.model.config();
        let chunk_tokens_max = self.handle.shared.requests().options.chunk_tokens(config);
        StreamOptions::of_model(config, chunk_tokens_max)
    }

    /// Options given at load that have no effect with this model or device.
    pub fn options_without_effect(&self) -> &[&'static str] {
        &self.handle.shared.without_effect
    }

    /// Most streams under way at once.
    pub fn streams_max(&self) -> usize {
        self.handle.shared.plan.streams_fit
    }

    /// The memory plan made at load.
    pub fn plan(&self) -> &MemoryPlan {
        &self.handle.shared.plan
    }

    /// Streams under way.
    pub fn streams_live(&self) -> usize {
        self.handle.shared.requests().admission.live()
    }

    /// Streams in the queue.
    pub fn streams_waiting(&self) -> usize {
        self.handle.shared.requests().admission.waiting()
    }

    /// Estimated time until a new request would find a free place, from the duration of earlier
    /// streams.
    pub fn retry_after(&self) -> Duration {
        self.handle.shared.requests().admission.retry_after()
    }

    /// Refuses further streams and ends those in the queue; running streams go on.
    pub fn drain(&self) {
        self.handle.shared.drain();
    }

    /// Refuses further streams if none is running or queued. Returns the number of running and
    /// queued streams.
    pub fn drain_if_idle(&self) -> usize {
        let mut requests = self.handle.shared.requests();
        let streams = requests.admission.live() + requests.admission.waiting();
        requests.draining |= streams == 0;
        streams
    }

    /// Whether the engine accepts work: not after [`stop`](Self::stop), nor after a fault from
    /// which its worker could not recover. Its memory is returned when it is dropped; load another
    /// engine instead.
    pub fn is_alive(&self) -> bool {
        !self.handle.shared.closing()
    }

    /// Name of the device.
    pub fn device_name(&self) -> &str {
        &self.handle.shared.device_name
    }

    /// Why the CPU computes although [`DeviceChoice::Auto`](crate::DeviceChoice::Auto) would have
    /// preferred a CUDA device.
    pub fn device_note(&self) -> Option<&str> {
        self.handle.shared.device_note.get().map(String::as_str)
    }

    /// Ends every stream, including those of other clones, and refuses new ones.
    pub fn stop(&self) {
        self.handle.shared.close();
    }

    /// The memory ledger at this moment.
    pub fn memory_report(&self) -> MemoryReport {
        let shared = &self.handle.shared;
        let (statistics, now) = shared.holdings.look();
        let mut report = MemoryReport::of(&statistics, now, shared.accounts.budget());
        report.budget_bytes = shared.budget_bytes;
        if let (Some(statistics), Some(budget)) =
            (shared.holdings.look_at_host(), shared.accounts.host())
        {
            let pinned_bytes = shared.plan.host.map_or(0, |host| host.staging_bytes);
            report.add_host(&statistics, pinned_bytes, shared.host_budget_bytes, budget);
        }
        report.out_of_memory_count = shared.metrics().out_of_memory;
        report.add_progress(&shared.progress());
        report.add_history(&shared.recorder());
        report
    }

    /// What of the host's ledger is in the process's memory, if the system tells: pages that were
    /// never written are not. Reads the system's table of these pages.
    pub fn resident_ledger(&self) -> Option<Resident> {
        self.handle.shared.holdings.host().resident()
    }

    /// Counters and latencies.
    pub fn metrics(&self) -> EngineMetrics {
        let mut metrics = self.handle.shared.metrics().clone();
        let requests = self.handle.shared.requests();
        metrics.streams_live = requests.admission.live();
        metrics.streams_waiting = requests.admission.waiting();
        metrics
    }

    /// Returns cached memory to the system; returns the number of bytes.
    pub fn trim(&self) -> u64 {
        let shared = &self.handle.shared;
        let done = shared.carry_out(&Decision::forced(), &mut &*shared.holdings);
        done.iter().map(|done| done.freed_bytes).sum()
    }

    /// Changes the memory profile at run time.
    pub fn set_profile(&self, profile: Profile) {
        self.handle.shared.requests().options.profile = profile;
    }

    /// Changes profile, monitoring and cadence at run time.
    pub fn configure_memory_management(
        &self,
        profile: Profile,
        enable_monitoring: bool,
        cache_interval: Option<u32>,
    ) {
        let mut requests = self.handle.shared.requests();
        requests.options.profile = profile;
        requests.options.enable_monitoring = enable_monitoring;
        requests.options.cache_interval = cache_interval;
        drop(requests);
        self.handle.shared.set_monitoring(enable_monitoring);
    }

    /// The options given at load, with later changes.
    pub fn options(&self) -> EngineOptions {
        self.handle.shared.requests().options.clone()
    }
}
