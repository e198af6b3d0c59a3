//! The memory report: the ledger, for people and programs. Shown by `GET /memory`, `--stats` and
//! the page.

use crate::admission::Ticket;
use crate::engine::StreamProgress;
use crate::system_memory::resident_bytes;
use serde::Serialize;
use sottovoce_memory::budget::Budget;
use sottovoce_memory::policy::{Action, Observation};
use sottovoce_memory::stats::{MetricsRecorder, Sample, Timeline};
use sottovoce_memory::{MemoryStatistics, Region};
use std::collections::BTreeMap;

/// Most entries of a report's timeline: enough for a plot.
const TIMELINE_ENTRIES_MAX: usize = 600;

/// The engine's memory at one moment. Sizes are bytes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MemoryReport {
    /// The budget; `None` if none was set.
    pub budget_bytes: Option<u64>,
    /// Bytes in use.
    pub allocated_bytes: u64,
    /// Bytes held from the system or the device.
    pub reserved_bytes: u64,
    /// Peak of the bytes in use.
    pub allocated_peak_bytes: u64,
    /// Peak of the bytes held.
    pub reserved_peak_bytes: u64,
    /// (reserved − allocated) ÷ reserved.
    pub fragmentation: f64,
    /// The process's resident size.
    pub resident_bytes: u64,
    /// Resident memory beyond what the engine holds on the host.
    pub other_bytes: u64,
    /// Of the bytes held, those that the device's driver holds for itself: context, modules,
    /// graphs.
    pub driver_bytes: u64,
    /// The host's ledger, if the device has memory of its own. All other figures are then the
    /// device's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostReport>,
    /// Bytes in use by region and tag, largest first.
    pub owners: Vec<OwnerBytes>,
    /// Bytes reserved in the budget for loaded networks, voices and streams.
    pub promised_bytes: u64,
    /// The streams under way, oldest first.
    pub streams: Vec<StreamReport>,
    /// Actions of the memory policy, and their counts.
    pub actions: Vec<ActionCount>,
    /// Releases of cached memory, by reason.
    pub clears: Vec<ReasonCount>,
    /// Allocations that failed at first.
    pub out_of_memory_count: u64,
    /// Allocations that were retried.
    pub retry_count: u64,
    /// Driver calls that allocate or release.
    pub driver_calls: u64,
    /// Memory over time, oldest first, thinned if it is long; empty without monitoring.
    pub timeline: Vec<TimelineEntry>,
}

/// Host memory beside a device's own. Sizes are bytes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HostReport {
    /// The budget of voices and undelivered samples; `None` if none was set.
    pub budget_bytes: Option<u64>,
    /// Bytes in use.
    pub allocated_bytes: u64,
    /// Bytes held from the system.
    pub reserved_bytes: u64,
    /// Peak of the bytes held.
    pub reserved_peak_bytes: u64,
    /// Bytes reserved in the budget for voices and streams.
    pub promised_bytes: u64,
    /// Bytes in use by region and tag, largest first.
    pub owners: Vec<OwnerBytes>,
}

/// Bytes in use by region and tag, largest first.
fn owners(statistics: &MemoryStatistics) -> Vec<OwnerBytes> {
    let mut owners: BTreeMap<_, OwnerBytes> = BTreeMap::new();
    for usage in &statistics.owners {
        let region = usage.owner.region.to_string();
        let tag = usage.owner.tag.to_owned();
        let entry = owners
            .entry((region.clone(), tag.clone()))
            .or_insert(OwnerBytes {
                region,
                tag,
                ..Default::default()
            });
        entry.bytes += usage.live_bytes;
        entry.peak_bytes += usage.peak_bytes;
    }
    let mut owners: Vec<OwnerBytes> = owners.into_values().collect();
    owners.sort_by_key(|owner| std::cmp::Reverse(owner.bytes));
    owners
}

impl MemoryReport {
    /// Combines the ledger, the budget's reservations and the system's figure.
    pub(crate) fn of(
        statistics: &MemoryStatistics,
        now: Observation,
        budget: &Budget,
    ) -> MemoryReport {
        let resident_bytes = resident_bytes().unwrap_or(0);
        let mut streams: BTreeMap<u64, StreamReport> = BTreeMap::new();
        for usage in &statistics.owners {
            if let (Some(stream), 1..) = (usage.owner.stream, usage.live_bytes) {
                streams.entry(stream.0).or_default().bytes += usage.live_bytes;
            }
        }
        for (account, balance) in budget.accounts() {
            if let Some(stream) = account.stream {
                streams.entry(stream.0).or_default().promised_bytes += balance.reserved;
            }
        }
        MemoryReport {
            allocated_bytes: now.allocated_bytes,
            reserved_bytes: now.reserved_bytes,
            allocated_peak_bytes: statistics.allocated_bytes.all.peak + statistics.exact_bytes.peak,
            reserved_peak_bytes: statistics.held_peak_bytes(),
            fragmentation: now.fragmentation(),
            resident_bytes,
            other_bytes: resident_bytes.saturating_sub(now.reserved_bytes),
            driver_bytes: statistics.driver_bytes,
            owners: owners(statistics),
            promised_bytes: budget.device().reserved,
            streams: streams
                .into_iter()
                .map(|(stream, entry)| StreamReport { stream, ..entry })
                .collect(),
            retry_count: statistics.num_alloc_retries,
            driver_calls: statistics.driver_calls(),
            ..MemoryReport::default()
        }
    }

    /// Adds the host's ledger, if the device has memory of its own.
    pub(crate) fn add_host(
        &mut self,
        statistics: &MemoryStatistics,
        pinned_bytes: u64,
        budget_bytes: Option<u64>,
        budget: &Budget,
    ) {
        let now = Observation::of(statistics, 0);
        let mut owners = owners(statistics);
        if pinned_bytes > 0 {
            owners.push(OwnerBytes {
                region: Region::Staging.to_string(),
                tag: "pinned".into(),
                bytes: pinned_bytes,
                peak_bytes: pinned_bytes,
            });
            owners.sort_by_key(|owner| std::cmp::Reverse(owner.bytes));
        }
        let reserved_bytes = now.reserved_bytes + pinned_bytes;
        self.other_bytes = self.resident_bytes.saturating_sub(reserved_bytes);
        self.host = Some(HostReport {
            budget_bytes,
            allocated_bytes: now.allocated_bytes + pinned_bytes,
            reserved_bytes,
            reserved_peak_bytes: statistics.held_peak_bytes() + pinned_bytes,
            promised_bytes: budget.device().reserved,
            owners,
        });
    }

    /// Adds how far the streams are.
    pub(crate) fn add_progress(&mut self, progress: &BTreeMap<Ticket, StreamProgress>) {
        for (&ticket, progress) in progress {
            let place = self.streams.partition_point(|known| known.stream < ticket);
            if self
                .streams
                .get(place)
                .is_none_or(|known| known.stream != ticket)
            {
                let stream = StreamReport {
                    stream: ticket,
                    ..StreamReport::default()
                };
                self.streams.insert(place, stream);
            }
            let stream = &mut self.streams[place];
            stream.chunks = progress.chunks;
            stream.audio_seconds = progress.audio_seconds;
            stream.rtf = progress.rtf;
            stream.age_seconds = progress.admitted.elapsed().as_secs_f64();
        }
    }

    /// Adds the actions and the timeline.
    pub(crate) fn add_history(&mut self, recorder: &MetricsRecorder) {
        let counts = recorder.actions().counts();
        let mut clears: BTreeMap<&str, u64> = BTreeMap::new();
        for (&(action, reason), &count) in counts {
            self.actions.push(ActionCount {
                action: action.name().into(),
                reason: reason.name().into(),
                count,
            });
            if action == Action::TrimPool {
                *clears.entry(reason.name()).or_default() += count;
            }
        }
        self.clears = (clears.into_iter())
            .map(|(reason, count)| ReasonCount {
                reason: reason.into(),
                count,
            })
            .collect();
        self.timeline = timeline(recorder.timeline());
    }
}

/// Bytes of one owner.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OwnerBytes {
    /// `weights`, `key_value`, `workspace`, `voice`, `staging` or `driver`.
    pub region: String,
    /// The part of the engine.
    pub tag: String,
    /// Bytes in use.
    pub bytes: u64,
    /// Peak of the bytes in use.
    pub peak_bytes: u64,
}

/// A stream under way: what it holds, and how far it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StreamReport {
    /// The stream's number, counted from the engine's start.
    pub stream: u64,
    /// Bytes in use.
    pub bytes: u64,
    /// Its worst case, reserved at admission.
    pub promised_bytes: u64,
    /// Chunks delivered so far.
    pub chunks: u64,
    /// Seconds of speech delivered so far.
    pub audio_seconds: f64,
    /// Seconds of work per second of speech.
    pub rtf: f64,
    /// Seconds since it was admitted.
    pub age_seconds: f64,
}

/// Count of an action by reason.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ActionCount {
    /// The action: trim_pool, run_reclaim_hooks, shrink_workspace or hold_admissions.
    pub action: String,
    /// The reason, as text.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// Count by reason.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReasonCount {
    /// The reason, as text.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// One moment of the timeline.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TimelineEntry {
    /// Seconds since the engine was loaded.
    pub seconds: f64,
    /// Bytes in use.
    pub allocated_bytes: u64,
    /// Bytes held from the system or device.
    pub reserved_bytes: u64,
    /// (reserved − allocated) ÷ reserved.
    pub fragmentation: f64,
    /// Bytes in use by region.
    pub regions: RegionBytes,
}

/// Bytes in use by region.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RegionBytes {
    /// Weights.
    pub weights: u64,
    /// T3's KV cache.
    pub key_value: u64,
    /// Activations and scratch.
    pub workspace: u64,
    /// Voices, and the networks that prepare them.
    pub voice: u64,
    /// Bytes on their way to or from the device or the reader.
    pub staging: u64,
    /// Bytes that the device's driver holds for itself.
    pub driver: u64,
}

/// The timeline, thinned to [`TIMELINE_ENTRIES_MAX`] entries. Of the moments that share an entry,
/// the one with the most bytes held is kept.
fn timeline(timeline: &Timeline) -> Vec<TimelineEntry> {
    let samples: Vec<&Sample> = timeline.samples().collect();
    let together = samples.len().div_ceil(TIMELINE_ENTRIES_MAX).max(1);
    let highest = |samples: &[&Sample]| {
        let highest = samples.iter().max_by_key(|sample| sample.reserved_bytes);
        highest.map(|sample| TimelineEntry::from(**sample))
    };
    samples.chunks(together).filter_map(highest).collect()
}

impl From<Sample> for TimelineEntry {
    fn from(sample: Sample) -> TimelineEntry {
        let of = |region: Region| sample.region_bytes[region as usize];
        TimelineEntry {
            seconds: sample.microseconds as f64 / 1e6,
            allocated_bytes: sample.allocated_bytes,
            reserved_bytes: sample.reserved_bytes,
            fragmentation: sample.fragmentation(),
            regions: RegionBytes {
                weights: of(Region::Weights),
                key_value: of(Region::KeyValue),
                workspace: of(Region::Workspace),
                voice: of(Region::Voice),
                staging: of(Region::Staging),
                driver: of(Region::Driver),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_timeline_is_thinned_and_keeps_its_peak() {
        let mut long = Timeline::new(3000);
        for moment in 0..2500 {
            long.record(Sample {
                microseconds: moment,
                reserved_bytes: if moment == 1234 { 9 } else { 1 },
                ..Sample::default()
            });
        }
        let entries = timeline(&long);
        assert!(entries.len() <= TIMELINE_ENTRIES_MAX);
        assert!(entries.iter().any(|entry| entry.reserved_bytes == 9));
        assert!(entries.is_sorted_by_key(|entry| entry.seconds));
    }
}
