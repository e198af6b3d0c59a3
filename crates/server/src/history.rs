//! Memory over the last hour, for plots: one sample a second, and a coarser one every six seconds.

use serde::Serialize;
use sottovoce::MemoryReport;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use utoipa::ToSchema;

/// Interval between samples.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Samples in a window: ten minutes of fine ones, an hour of coarse ones.
const SAMPLES_MAX: usize = 600;
/// Fine samples per coarse one.
const COARSE: u64 = 6;
/// Minutes covered by fine samples.
const FINE_MINUTES: u64 = 10;
/// Minutes covered by the history.
pub(crate) const MINUTES_MAX: u64 = 60;
/// Most distinct reasons of clears; the rest are counted together.
const REASONS_MAX: usize = 8;
/// Name of the remaining reasons.
const OTHER_REASONS: &str = "other reasons";

/// Regions in the order of a sample's bytes.
const REGIONS: [&str; 6] = [
    "weights",
    "key_value",
    "workspace",
    "voice",
    "staging",
    "driver",
];

/// A sample. Counts cover the time since the previous one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sample {
    /// Unix time, in seconds.
    at: f64,
    budget_bytes: Option<u64>,
    reserved_bytes: u64,
    allocated_bytes: u64,
    fragmentation: f64,
    regions: [u64; REGIONS.len()],
    clears: [u32; REASONS_MAX],
    out_of_memory: u32,
    retries: u32,
}

impl Sample {
    /// Merges two samples: the bytes of the one with more bytes held, and the sum of the counts.
    fn merge(self, later: Sample) -> Sample {
        let most = match self.reserved_bytes > later.reserved_bytes {
            true => self,
            false => later,
        };
        let mut clears = self.clears;
        for (count, more) in clears.iter_mut().zip(later.clears) {
            *count = count.saturating_add(more);
        }
        Sample {
            at: later.at,
            clears,
            out_of_memory: self.out_of_memory.saturating_add(later.out_of_memory),
            retries: self.retries.saturating_add(later.retries),
            ..most
        }
    }
}

/// A model's counts at the previous sample.
#[derive(Default)]
struct Counted {
    /// Load that the counts belong to.
    loads: u64,
    clears: BTreeMap<String, u64>,
    out_of_memory: u64,
    retries: u64,
}

#[derive(Default)]
struct Samples {
    fine: VecDeque<Sample>,
    coarse: VecDeque<Sample>,
    /// The coarse sample in progress, and the number of fine ones in it.
    merging: Option<(Sample, u64)>,
    reasons: Vec<String>,
    counted: Counted,
}

/// The samples of the last hour.
#[derive(Default)]
pub(crate) struct History(Mutex<Samples>);

/// Memory over time: each list has one entry per sample, oldest first. Sizes are bytes.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct MemoryHistory {
    /// Seconds since 1970.
    at: Vec<f64>,
    /// The budget; null without a budget or a model.
    budget_bytes: Vec<Option<u64>>,
    /// Bytes held from the system or device.
    reserved_bytes: Vec<u64>,
    /// Of these, bytes in use.
    allocated_bytes: Vec<u64>,
    /// (reserved − allocated) ÷ reserved.
    fragmentation: Vec<f64>,
    /// Bytes in use by region.
    regions: BTreeMap<&'static str, Vec<u64>>,
    /// Releases of cached memory since the previous sample, by reason.
    clears: BTreeMap<String, Vec<u32>>,
    /// Allocations that failed at first since the previous sample.
    out_of_memory: Vec<u32>,
    /// Allocations that were retried since the previous sample.
    retries: Vec<u32>,
}

impl History {
    fn samples(&self) -> MutexGuard<'_, Samples> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a sample; `loads` separates the counts of successive models.
    pub(crate) fn record(&self, report: Option<&MemoryReport>, loads: u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let at = now.map_or(0.0, |now| now.as_secs_f64());
        self.samples().record(report, loads, at);
    }

    /// Samples of the last `minutes` that are newer than `since` (Unix time, in seconds).
    pub(crate) fn window(&self, minutes: u64, since: f64) -> MemoryHistory {
        self.samples().window(minutes, since)
    }
}

fn push(ring: &mut VecDeque<Sample>, sample: Sample) {
    if ring.len() == SAMPLES_MAX {
        ring.pop_front();
    }
    ring.push_back(sample);
}

impl Samples {
    fn record(&mut self, report: Option<&MemoryReport>, loads: u64, at: f64) {
        let sample = match report {
            Some(report) => self.sample(report, loads, at),
            None => Sample {
                at,
                ..Sample::default()
            },
        };
        push(&mut self.fine, sample);
        let (merged, count) = match self.merging.take() {
            Some((before, count)) => (before.merge(sample), count + 1),
            None => (sample, 1),
        };
        if count == COARSE {
            push(&mut self.coarse, merged);
        } else {
            self.merging = Some((merged, count));
        }
    }

    fn sample(&mut self, report: &MemoryReport, loads: u64, at: f64) -> Sample {
        if self.counted.loads != loads {
            self.counted = Counted {
                loads,
                ..Counted::default()
            };
        }
        let mut regions = [0; REGIONS.len()];
        for owner in &report.owners {
            if let Some(index) = REGIONS.iter().position(|region| *region == owner.region) {
                regions[index] += owner.bytes;
            }
        }
        let mut clears = [0_u32; REASONS_MAX];
        for clear in &report.clears {
            let before = self
                .counted
                .clears
                .insert(clear.reason.clone(), clear.count);
            let more = since(before.unwrap_or(0), clear.count);
            let count = &mut clears[self.reason(&clear.reason)];
            *count = count.saturating_add(more);
        }
        let counted = &mut self.counted;
        let failed = std::mem::replace(&mut counted.out_of_memory, report.out_of_memory_count);
        let retried = std::mem::replace(&mut counted.retries, report.retry_count);
        Sample {
            at,
            budget_bytes: report.budget_bytes,
            reserved_bytes: report.reserved_bytes,
            allocated_bytes: report.allocated_bytes,
            fragmentation: report.fragmentation,
            regions,
            clears,
            out_of_memory: since(failed, report.out_of_memory_count),
            retries: since(retried, report.retry_count),
        }
    }

    /// Index of a reason's counts; the last one collects all others.
    fn reason(&mut self, reason: &str) -> usize {
        if let Some(index) = self.reasons.iter().position(|known| known == reason) {
            return index;
        }
        if self.reasons.len() + 1 == REASONS_MAX {
            self.reasons.push(OTHER_REASONS.into());
        }
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(reason.to_owned());
        }
        self.reasons.len() - 1
    }

    fn window(&self, minutes: u64, since: f64) -> MemoryHistory {
        let (ring, step) = match minutes <= FINE_MINUTES {
            true => (&self.fine, 1),
            false => (&self.coarse, COARSE),
        };
        let count = (minutes * 60 / step) as usize;
        let newest = ring.iter().skip(ring.len().saturating_sub(count));
        let samples: Vec<&Sample> = newest.filter(|sample| sample.at > since).collect();
        let mut history = MemoryHistory::default();
        for sample in &samples {
            history.at.push(sample.at);
            history.budget_bytes.push(sample.budget_bytes);
            history.reserved_bytes.push(sample.reserved_bytes);
            history.allocated_bytes.push(sample.allocated_bytes);
            history.fragmentation.push(sample.fragmentation);
            history.out_of_memory.push(sample.out_of_memory);
            history.retries.push(sample.retries);
        }
        for (index, region) in REGIONS.into_iter().enumerate() {
            let bytes = samples.iter().map(|sample| sample.regions[index]).collect();
            history.regions.insert(region, bytes);
        }
        for (index, reason) in self.reasons.iter().enumerate() {
            let counts: Vec<u32> = samples.iter().map(|sample| sample.clears[index]).collect();
            if counts.iter().any(|count| *count > 0) {
                history.clears.insert(reason.clone(), counts);
            }
        }
        history
    }
}

/// Growth of a count.
fn since(before: u64, now: u64) -> u32 {
    u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sottovoce::{OwnerBytes, ReasonCount};

    fn report(bytes: u64, clears: &[(&str, u64)]) -> MemoryReport {
        MemoryReport {
            reserved_bytes: bytes,
            owners: vec![OwnerBytes {
                region: "weights".into(),
                bytes,
                ..OwnerBytes::default()
            }],
            clears: (clears.iter())
                .map(|(reason, count)| ReasonCount {
                    reason: (*reason).into(),
                    count: *count,
                })
                .collect(),
            ..MemoryReport::default()
        }
    }

    #[test]
    fn counts_are_of_the_time_between_two_samples_and_begin_anew_with_a_model() {
        let mut samples = Samples::default();
        samples.record(Some(&report(1, &[("asked", 3)])), 1, 1.0);
        samples.record(Some(&report(1, &[("asked", 5)])), 1, 2.0);
        samples.record(None, 1, 3.0);
        samples.record(Some(&report(1, &[("asked", 1)])), 2, 4.0);
        let history = samples.window(1, 0.0);
        assert_eq!(history.clears["asked"], [3, 2, 0, 1]);
        assert_eq!(history.reserved_bytes, [1, 1, 0, 1]);
        assert_eq!(history.regions["weights"], [1, 1, 0, 1]);
    }

    #[test]
    fn only_what_is_new_is_told_to_who_has_the_rest() {
        let mut samples = Samples::default();
        for second in 1..=20 {
            samples.record(Some(&report(second, &[])), 1, second as f64);
        }
        assert_eq!(samples.window(1, 18.0).at, [19.0, 20.0]);
        assert_eq!(samples.window(60, 0.0).at, [6.0, 12.0, 18.0]);
        assert!(samples.window(60, 18.0).at.is_empty());
    }

    #[test]
    fn an_hour_is_kept_in_bounds_and_keeps_peaks_and_counts() {
        let mut samples = Samples::default();
        for second in 1..=10_000 {
            let bytes = if second == 9_001 { 99 } else { 1 };
            samples.record(Some(&report(bytes, &[("asked", second)])), 1, second as f64);
        }
        assert_eq!(samples.fine.len(), SAMPLES_MAX);
        let hour = samples.window(MINUTES_MAX, 0.0);
        assert_eq!(hour.at.len(), SAMPLES_MAX);
        assert!(hour.reserved_bytes.contains(&99));
        let counted: u32 = hour.clears["asked"].iter().sum();
        assert_eq!(counted, 3_600);
    }

    #[test]
    fn more_reasons_than_have_a_place_are_counted_together() {
        let mut samples = Samples::default();
        let names: Vec<String> = (0..20).map(|number| format!("reason {number}")).collect();
        let clears: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        samples.record(Some(&report(1, &clears)), 1, 1.0);
        let history = samples.window(1, 0.0);
        assert_eq!(history.clears.len(), REASONS_MAX);
        let counted: u32 = history.clears.values().flatten().sum();
        assert_eq!(counted, 20);
        assert!(history.clears[OTHER_REASONS] == [13]);
    }
}
