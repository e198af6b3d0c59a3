//! The engine's metrics, and its memory plan.

use crate::error::Error;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use sottovoce_memory::stats::{Bytes, MemoryMetrics};
use std::time::Duration;

/// The memory plan made at load, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Precision of the weights.
    pub precision: String,
    /// Memory that the device takes for itself: the driver's context, kernels. 0 on the CPU.
    #[serde(skip_serializing_if = "is_zero")]
    pub device_bytes: u64,
    /// Weights.
    pub weights_bytes: u64,
    /// The worker's workspace.
    pub workspace_bytes: u64,
    /// One prepared voice, including T3's keys and values of its prefix.
    pub voice_bytes: u64,
    /// The part of `voice_bytes` that lives as long as the voice; the rest is a cache.
    pub prepared_voice_bytes: u64,
    /// The worst case of one stream.
    pub stream_bytes: u64,
    /// The part of `stream_bytes` for the speech tokenizer and the recording being read, in an
    /// engine that only changes voices.
    #[serde(skip_serializing_if = "is_zero")]
    pub listener_bytes: u64,
    /// Speech tokens per pass of the flow in whole delivery.
    pub whole_tokens: usize,
    /// Streams that fit the budget.
    pub streams_fit: usize,
    /// The host's part of the plan, if the device has memory of its own; otherwise it is included
    /// above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostPlan>,
}

/// The plan for host memory beside a device's own, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostPlan {
    /// One prepared voice.
    pub voice_bytes: u64,
    /// One stream's samples waiting for its reader, by default.
    pub stream_bytes: u64,
    /// The watermark's network and its workspace.
    pub watermark_bytes: u64,
    /// Pinned memory for copies.
    pub staging_bytes: u64,
}

impl HostPlan {
    /// Bytes needed for `streams` streams, each with a voice of its own.
    pub fn total_bytes(&self, streams: usize) -> u64 {
        let per_stream = self.voice_bytes.saturating_add(self.stream_bytes);
        (self.voice_bytes.saturating_add(self.watermark_bytes))
            .saturating_add(self.staging_bytes)
            .saturating_add(per_stream.saturating_mul(streams as u64))
    }
}

fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

impl MemoryPlan {
    /// Reservation of an admitted stream. Its voice is part of the voices' reservation.
    pub(crate) fn stream_promise_bytes(&self) -> u64 {
        self.stream_bytes.saturating_sub(self.prepared_voice_bytes)
    }

    /// Accounts for device memory beyond the estimate; fewer streams may fit.
    ///
    /// # Errors
    /// If not even one stream fits any more.
    pub(crate) fn grow_device(&mut self, bytes: u64, budget: Option<u64>) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.device_bytes, bytes);
        let Some(budget_bytes) = budget else {
            return Ok(());
        };
        let left = budget_bytes.saturating_sub(self.total_bytes(0));
        let fit = left / self.stream_bytes.max(1);
        self.streams_fit = (self.streams_fit as u64).min(fit) as usize;
        if self.streams_fit > 0 {
            return Ok(());
        }
        Err(Error::Budget {
            budget_bytes,
            needed_bytes: self.total_bytes(1),
            plan: format!(
                "the device itself took {} while the model was loaded, {} before",
                Bytes(bytes),
                Bytes(before)
            ),
            hint: Some(format!("give at least {} bytes", self.total_bytes(1))),
        })
    }

    /// Bytes needed for `streams` streams.
    pub fn total_bytes(&self, streams: usize) -> u64 {
        let per_stream = self.stream_bytes.saturating_mul(streams as u64);
        [
            self.device_bytes,
            self.weights_bytes,
            self.workspace_bytes,
            self.voice_bytes,
            per_stream,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// Metrics since the engine was loaded.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EngineMetrics {
    /// Streams under way.
    pub streams_live: usize,
    /// Streams in the queue.
    pub streams_waiting: usize,
    /// Streams that finished.
    pub streams_finished: u64,
    /// Streams that were dropped or cancelled.
    pub streams_cancelled: u64,
    /// Streams that ended with an error.
    pub streams_failed: u64,
    /// Refused requests.
    pub streams_refused: u64,
    /// Chunks delivered.
    pub chunks: u64,
    /// Chunks whose mel was rendered in one pass of the flow with those of other streams.
    pub chunks_together: u64,
    /// Seconds of speech.
    pub audio_seconds: f64,
    /// Seconds that the worker was busy.
    pub busy_seconds: f64,
    /// Sentences cut off because speech looped or ran on after the text.
    pub run_ons: u64,
    /// Times memory ran short.
    pub out_of_memory: u64,
    /// Memory metrics.
    pub memory: MemoryMetrics,
    /// From the call, or from [`Stream::asked_at`](crate::Stream::asked_at), to the first chunk.
    pub first_audio: Histogram,
    /// From the same moment until playback can run without interruption, of finished streams.
    pub uninterrupted: Histogram,
    /// Work per chunk.
    pub chunk_latency: Histogram,
}

impl EngineMetrics {
    /// Real-time factor: seconds of work per second of speech.
    pub fn rtf(&self) -> f64 {
        if self.audio_seconds > 0.0 {
            self.busy_seconds / self.audio_seconds
        } else {
            0.0
        }
    }
}

/// Histogram of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Count of each bucket: durations up to its bound and above the one before. The last bucket is
    /// for those above all bounds.
    pub buckets: [u64; Histogram::BOUNDS.len() + 1],
    /// Sum of all, in seconds.
    pub sum_seconds: f64,
}

impl Histogram {
    /// Upper bounds of the buckets, in seconds.
    pub const BOUNDS: [f64; 14] = [
        0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0,
    ];

    /// Number of recorded durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Records a duration.
    pub fn record(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        self.buckets[Histogram::BOUNDS.partition_point(|&bound| bound < seconds)] += 1;
        self.sum_seconds += seconds;
    }

    /// Adds the durations of another one.
    pub fn add(&mut self, other: &Histogram) {
        for (count, more) in self.buckets.iter_mut().zip(other.buckets) {
            *count += more;
        }
        self.sum_seconds += other.sum_seconds;
    }

    /// Estimate of quantile `share` (0 to 1) in seconds, as Prometheus makes it: linear within a
    /// bucket, and the last bound for what is above it. 0 if nothing was recorded.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = self.count() as f64 * share;
        let mut seen = 0.0;
        let mut lower = 0.0;
        for (&bound, &count) in Histogram::BOUNDS.iter().zip(&self.buckets) {
            let count = count as f64;
            if count > 0.0 && seen + count >= wanted {
                return lower + (bound - lower) * (wanted - seen) / count;
            }
            seen += count;
            lower = bound;
        }
        match self.count() {
            0 => 0.0,
            _ => lower,
        }
    }
}

/// With the bounds, so that readers of other languages need no copy of them.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Histogram", 3)?;
        fields.serialize_field("bounds", &Histogram::BOUNDS)?;
        fields.serialize_field("buckets", &self.buckets)?;
        fields.serialize_field("sum_seconds", &self.sum_seconds)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_duration_once_and_estimates_quantiles() {
        let mut histogram = Histogram::default();
        for milliseconds in [0, 10, 11, 400, 500, 1_000_000] {
            histogram.record(Duration::from_millis(milliseconds));
        }
        assert_eq!(histogram.count(), 6);
        assert_eq!(histogram.buckets[..2], [2, 1], "a bound is in its bucket");
        let close = |share: f64, seconds: f64| (histogram.quantile(share) - seconds).abs() < 1e-9;
        assert!(close(0.5, 0.025), "the third of six is the bucket's last");
        assert!(
            close(4.0 / 6.0, 0.375),
            "half-way through two from 0.25 s on"
        );
        assert!(close(1.0, 60.0), "the last bound");
        assert_eq!(Histogram::default().quantile(0.5), 0.0);
        let mut both = histogram;
        both.add(&histogram);
        assert_eq!(
            (both.count(), both.quantile(0.5)),
            (12, histogram.quantile(0.5))
        );
        assert_eq!(both.sum_seconds, 2.0 * histogram.sum_seconds);
    }

    #[test]
    fn a_device_that_takes_more_for_itself_leaves_room_for_fewer_streams_or_is_refused() {
        let plan = || MemoryPlan {
            device_bytes: 10,
            weights_bytes: 100,
            stream_bytes: 20,
            streams_fit: 4,
            ..MemoryPlan::default()
        };
        let mut unlimited = plan();
        unlimited.grow_device(50, None).unwrap();
        assert_eq!((unlimited.device_bytes, unlimited.streams_fit), (50, 4));
        let mut fewer = plan();
        fewer.grow_device(50, Some(190)).unwrap();
        assert_eq!(fewer.streams_fit, 2);
        assert!(fewer.total_bytes(2) <= 190);
        let refused = plan().grow_device(71, Some(190)).unwrap_err();
        assert!(matches!(
            refused,
            Error::Budget {
                needed_bytes: 191,
                ..
            }
        ));
    }

    #[test]
    fn a_plan_too_large_to_count_stays_too_large() {
        let plan = MemoryPlan {
            stream_bytes: u64::MAX,
            ..Default::default()
        };
        assert_eq!(plan.total_bytes(2), u64::MAX);
    }
}
