//! What is counted about requests and streams, and shown as Prometheus text.
//!
//! The recorder hangs on the app instead of being the process's own, so that two servers in one
//! process do not mix their figures.

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use serde::Serialize;
use sottovoce::ChunkMetrics;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use utoipa::ToSchema;

static METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Upper bounds of the time histograms, in seconds.
const SECONDS: [f64; 12] = [
    0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0,
];
/// Upper bounds of the histogram of seconds of work a second of speech.
const RATIOS: [f64; 9] = [0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.0, 10.0];
/// First-audio times kept for the page's distribution.
const RECENT_MAX: usize = 512;

/// Counters, histograms and the latest times.
pub(crate) struct Measures {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    recent_first_audio: Mutex<VecDeque<f64>>,
}

/// How long callers waited for the first sound, over the latest streams. Seconds.
#[derive(Serialize, Default, ToSchema)]
pub(crate) struct LatencySummary {
    /// Streams counted.
    count: usize,
    /// Half of the streams began to sound sooner.
    p50: f64,
    /// 95 of 100 streams began to sound sooner.
    p95: f64,
    /// Upper bounds of the histogram's bins.
    bounds: Vec<f64>,
    /// Streams in each bin; one more than the bounds, for those beyond.
    counts: Vec<usize>,
}

impl Measures {
    pub(crate) fn new() -> Measures {
        let mut builder = PrometheusBuilder::new();
        for (suffix, bounds) in [
            ("_seconds", &SECONDS[..]),
            ("_ratio_per_stream", &RATIOS[..]),
        ] {
            // Fails only for an empty list of bounds; the defaults would serve then.
            builder = match builder.set_buckets_for_metric(Matcher::Suffix(suffix.into()), bounds) {
                Ok(builder) => builder,
                Err(_) => PrometheusBuilder::new(),
            };
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let measures = Measures {
            recorder,
            handle,
            recent_first_audio: Mutex::default(),
        };
        measures.describe();
        measures
    }

    fn describe(&self) {
        for (name, text) in [
            ("sottovoce_memory_bytes", "Bytes in use, by owner"),
            (
                "sottovoce_memory_reserved_bytes",
                "Bytes held from the system or device",
            ),
            (
                "sottovoce_memory_reserved_peak_bytes",
                "The most bytes ever held",
            ),
            (
                "sottovoce_memory_resident_bytes",
                "The process's resident size",
            ),
            (
                "sottovoce_fragmentation",
                "(reserved - allocated) / reserved",
            ),
            ("sottovoce_streams_live", "Streams under way"),
            ("sottovoce_streams_max", "Streams that fit"),
            ("sottovoce_queue_length", "Requests waiting for a place"),
            ("sottovoce_model_loaded", "1 while the model is loaded"),
        ] {
            self.recorder.describe_gauge(name.into(), None, text.into());
        }
        for (name, text) in [
            (
                "sottovoce_requests_total",
                "Requests answered, by route and status",
            ),
            ("sottovoce_streams_total", "Streams ended, by outcome"),
            ("sottovoce_audio_seconds_total", "Seconds of speech made"),
            (
                "sottovoce_cache_clears_total",
                "Times memory was given back, by reason",
            ),
            (
                "sottovoce_run_ons_total",
                "Sentences ended because speech looped or ran on after their text",
            ),
            (
                "sottovoce_out_of_memory_total",
                "Allocations that failed at first",
            ),
        ] {
            self.recorder
                .describe_counter(name.into(), None, text.into());
        }
        for (name, text) in [
            (
                "sottovoce_first_audio_seconds",
                "From the request to its first sound",
            ),
            (
                "sottovoce_uninterrupted_after_seconds",
                "From the request to playback without a gap",
            ),
            (
                "sottovoce_queue_wait_seconds",
                "Time spent waiting for a place",
            ),
            (
                "sottovoce_work_ratio_per_stream",
                "Seconds of work a second of speech",
            ),
        ] {
            self.recorder
                .describe_histogram(name.into(), None, text.into());
        }
    }

    pub(crate) fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        self.recorder
            .register_counter(&Key::from_parts(name, labels), &METADATA)
    }

    pub(crate) fn gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        self.recorder
            .register_gauge(&Key::from_parts(name, labels), &METADATA)
    }

    fn histogram(&self, name: &'static str) -> Histogram {
        self.recorder
            .register_histogram(&Key::from_name(name), &METADATA)
    }

    /// A request was answered.
    pub(crate) fn request(&self, route: &str, status: u16) {
        let labels = vec![
            Label::new("route", route.to_owned()),
            Label::new("status", status.to_string()),
        ];
        self.counter("sottovoce_requests_total", labels)
            .increment(1);
    }

    /// A request got its place after so many seconds.
    pub(crate) fn queue_wait(&self, seconds: f64) {
        self.histogram("sottovoce_queue_wait_seconds")
            .record(seconds);
    }

    /// A stream made its first sound.
    pub(crate) fn first_audio(&self, seconds: f64) {
        self.histogram("sottovoce_first_audio_seconds")
            .record(seconds);
        let mut recent = self
            .recent_first_audio
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(seconds);
    }

    /// A stream ended.
    pub(crate) fn stream_ended(&self, outcome: &'static str, last: &ChunkMetrics) {
        self.counter(
            "sottovoce_streams_total",
            vec![Label::new("outcome", outcome)],
        )
        .increment(1);
        (self.counter("sottovoce_run_ons_total", Vec::new())).increment(last.run_ons);
        if last.chunk_count > 0 {
            self.histogram("sottovoce_uninterrupted_after_seconds")
                .record(last.uninterrupted_after);
            self.histogram("sottovoce_work_ratio_per_stream")
                .record(last.rtf);
        }
    }

    /// The latest first-audio times, as a distribution.
    pub(crate) fn latency(&self) -> LatencySummary {
        let recent = self
            .recent_first_audio
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<f64> = recent.iter().copied().collect();
        drop(recent);
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = sorted.len().saturating_sub(1);
            sorted
                .get((last as f64 * share).round() as usize)
                .copied()
                .unwrap_or(0.0)
        };
        let mut counts = vec![0; SECONDS.len() + 1];
        for value in &sorted {
            counts[SECONDS.partition_point(|bound| bound < value)] += 1;
        }
        LatencySummary {
            count: sorted.len(),
            p50: at(0.5),
            p95: at(0.95),
            bounds: SECONDS.to_vec(),
            counts,
        }
    }

    /// Everything as Prometheus text.
    pub(crate) fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_do_not_share_their_figures() {
        let (one, other) = (Measures::new(), Measures::new());
        one.request("/v1/models", 200);
        assert!(
            one.render()
                .contains("sottovoce_requests_total{route=\"/v1/models\",status=\"200\"} 1")
        );
        assert!(!other.render().contains("sottovoce_requests_total{"));
    }

    #[test]
    fn the_latency_summary_counts_each_stream_once() {
        let measures = Measures::new();
        for milliseconds in 1..=100 {
            measures.first_audio(f64::from(milliseconds) / 100.0);
        }
        let summary = measures.latency();
        assert_eq!(summary.counts.iter().sum::<usize>(), 100);
        assert!((summary.p50 - 0.5).abs() < 0.02 && (summary.p95 - 0.95).abs() < 0.02);
    }

    #[test]
    fn histograms_have_bounds_in_seconds() {
        let measures = Measures::new();
        measures.first_audio(0.07);
        assert!(
            measures
                .render()
                .contains("sottovoce_first_audio_seconds_bucket{le=\"0.1\"} 1")
        );
    }
}
