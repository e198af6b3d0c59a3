//! The most important memory figures, gathered while streams run.

use super::MemoryStatistics;
use super::timeline::{Sample, Timeline};
use crate::owner::Region;
use crate::policy::{Action, ActionLog, Done, Observation};
use serde::Serialize;

const MEGABYTE: f64 = 1_048_576.0;
/// Samples of the timeline: an hour of chunks at one a second.
const TIMELINE_SAMPLES: usize = 3600;
/// Number of actions kept with their times.
const ACTIONS_KEPT: usize = 64;

/// The main memory figures. Megabytes are 1,048,576 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MemoryMetrics {
    /// Peak of the allocated bytes.
    pub peak_allocated_mb: f64,
    /// Peak of the reserved bytes.
    pub peak_reserved_mb: f64,
    /// Current (reserved − allocated) ÷ reserved.
    pub fragmentation_ratio: f64,
    /// Releases of cached memory.
    pub cache_clear_count: u64,
    /// Runs of the reclaim hooks, which drop what can be rebuilt.
    pub gc_collect_count: u64,
    /// Mean of the allocated bytes at the end of a chunk.
    pub avg_chunk_memory_mb: f64,
    /// Allocations that failed for good.
    pub oom_count: u64,
    /// Allocations that were retried after the cache was emptied.
    pub retry_count: u64,
}

/// Gathers [`MemoryMetrics`] and a timeline.
#[derive(Clone, Debug)]
pub struct MetricsRecorder {
    monitoring: bool,
    timeline: Timeline,
    peak_allocated_bytes: u64,
    peak_reserved_bytes: u64,
    actions: ActionLog,
    chunk_count: u64,
    chunk_bytes_sum: u128,
    latest: Sample,
    oom_count: u64,
    retry_count: u64,
}

impl Default for MetricsRecorder {
    fn default() -> MetricsRecorder {
        MetricsRecorder {
            monitoring: true,
            timeline: Timeline::new(TIMELINE_SAMPLES),
            peak_allocated_bytes: 0,
            peak_reserved_bytes: 0,
            actions: ActionLog::new(ACTIONS_KEPT),
            chunk_count: 0,
            chunk_bytes_sum: 0,
            latest: Sample::default(),
            oom_count: 0,
            retry_count: 0,
        }
    }
}

impl MetricsRecorder {
    /// Turns the timeline on or off; turning it off drops its samples.
    pub fn set_monitoring(&mut self, monitoring: bool) {
        if self.monitoring && !monitoring {
            self.timeline.clear();
        }
        self.monitoring = monitoring;
    }

    /// Samples the ledger, and the observation made of it, at a time of the caller's clock.
    pub fn observe(&mut self, statistics: &MemoryStatistics, now: Observation, microseconds: u64) {
        let exact = statistics.exact_bytes;
        let sample = Sample {
            microseconds,
            allocated_bytes: now.allocated_bytes,
            reserved_bytes: now.reserved_bytes,
            region_bytes: Region::ALL.map(|region| {
                let usage = statistics.regions.get(&region);
                usage.map_or(0, |usage| usage.live_bytes)
            }),
        };
        if self.monitoring {
            self.timeline.record(sample);
        }
        self.latest = sample;
        // The peaks of the pool and of exact pieces may come from different moments: only sums
        // observed together count.
        let peak = |recorded: u64, now: u64, own: u64| recorded.max(now).max(own);
        self.peak_allocated_bytes = peak(
            self.peak_allocated_bytes,
            sample.allocated_bytes,
            statistics.allocated_bytes.all.peak.max(exact.peak),
        );
        self.peak_reserved_bytes = peak(
            self.peak_reserved_bytes,
            sample.reserved_bytes,
            statistics.reserved_bytes.all.peak.max(exact.peak),
        );
        self.oom_count = statistics.num_ooms;
        self.retry_count = statistics.num_alloc_retries;
    }

    /// Records the statistics at the end of a chunk.
    pub fn chunk_done(
        &mut self,
        statistics: &MemoryStatistics,
        now: Observation,
        microseconds: u64,
    ) {
        self.observe(statistics, now, microseconds);
        self.chunk_count += 1;
        self.chunk_bytes_sum += u128::from(self.latest.allocated_bytes);
    }

    /// Records an action at a time of the caller's clock.
    pub fn acted(&mut self, microseconds: u64, done: Done) {
        self.actions.record(microseconds, done);
    }

    /// The log of actions.
    pub fn actions(&self) -> &ActionLog {
        &self.actions
    }

    /// The current figures.
    pub fn metrics(&self) -> MemoryMetrics {
        let average = match self.chunk_count {
            0 => 0.0,
            count => self.chunk_bytes_sum as f64 / count as f64 / MEGABYTE,
        };
        MemoryMetrics {
            peak_allocated_mb: self.peak_allocated_bytes as f64 / MEGABYTE,
            peak_reserved_mb: self.peak_reserved_bytes as f64 / MEGABYTE,
            fragmentation_ratio: self.latest.fragmentation(),
            cache_clear_count: self.actions.count_of(Action::TrimPool),
            gc_collect_count: self.actions.count_of(Action::RunReclaimHooks),
            avg_chunk_memory_mb: average,
            oom_count: self.oom_count,
            retry_count: self.retry_count,
        }
    }

    /// Memory over time.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Reason;
    use crate::{Memory, Owner};

    #[test]
    fn the_figures_are_those_of_the_statistics() {
        let memory = Memory::host(64 << 20);
        let owner = Owner::new(Region::Workspace, "test");
        let mut recorder = MetricsRecorder::default();
        let look = || {
            let statistics = memory.statistics();
            let now = Observation::of(&statistics, 0);
            (statistics, now)
        };
        let large = memory.allocate(20 << 20, owner).unwrap();
        let (statistics, now) = look();
        recorder.chunk_done(&statistics, now, 1);
        drop(large);
        let _small = memory.allocate(10 << 20, owner).unwrap();
        let (statistics, now) = look();
        recorder.chunk_done(&statistics, now, 2);
        for action in [
            Action::TrimPool,
            Action::RunReclaimHooks,
            Action::HoldAdmissions,
        ] {
            recorder.acted(
                2,
                Done {
                    action,
                    reason: Reason::Event,
                    freed_bytes: 0,
                },
            );
        }
        assert!(memory.allocate(1 << 40, owner).is_err());
        let (statistics, now) = look();
        recorder.observe(&statistics, now, 3);
        let metrics = recorder.metrics();
        assert_eq!(
            metrics,
            MemoryMetrics {
                peak_allocated_mb: 20.0,
                peak_reserved_mb: 20.0,
                fragmentation_ratio: 0.5,
                cache_clear_count: 1,
                gc_collect_count: 1,
                avg_chunk_memory_mb: 15.0,
                oom_count: 1,
                retry_count: 1,
            }
        );
        assert_eq!(recorder.timeline().samples().count(), 3);
        let last = recorder.timeline().samples().last().unwrap();
        assert_eq!(last.region_bytes, [0, 0, 10 << 20, 0, 0, 0]);
        recorder.set_monitoring(false);
        recorder.observe(&statistics, now, 4);
        assert_eq!(recorder.timeline().samples().count(), 0);
    }
}
