//! Metrics of requests and streams, as OpenMetrics text for Prometheus.
//!
//! Each app has its own registry, so that two servers in one process do not mix their metrics.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde::Serialize;
use sottovoce::{ChunkMetrics, Engine};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use utoipa::ToSchema;

/// Media type of [`Measures::render`].
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the time histograms, in seconds.
const SECONDS: [f64; 12] = [
    0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0,
];
/// Upper bounds of the real-time factor's histogram.
const RATIOS: [f64; 9] = [0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.0, 10.0];
/// Latest first-audio times kept for the page.
const RECENT_MAX: usize = 512;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Cleared {
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Owner {
    region: String,
    tag: String,
}

/// Counters, histograms and the latest first-audio times.
pub(crate) struct Measures {
    /// Registry of all counters and histograms; gauges are read at each scrape.
    registry: Registry,
    requests: Family<Answered, Counter>,
    streams: Family<Ended, Counter>,
    audio_seconds: Counter<f64, AtomicU64>,
    cache_clears: Family<Cleared, Counter>,
    out_of_memory: Counter,
    run_ons: Counter,
    first_audio: Histogram,
    uninterrupted_after: Histogram,
    queue_wait: Histogram,
    work_ratio: Histogram,
    recent_first_audio: Mutex<VecDeque<f64>>,
    counted: Mutex<Counted>,
}

/// The engine's counters at the previous scrape.
#[derive(Default)]
struct Counted {
    /// Load that the counters belong to: a reloaded engine starts at 0, but the metrics continue.
    load: u64,
    cache_clears: HashMap<String, u64>,
    out_of_memory: u64,
}

/// Time to first audio of the latest streams, in seconds.
#[derive(Serialize, Default, ToSchema)]
pub(crate) struct LatencySummary {
    /// Number of streams.
    count: usize,
    /// Median.
    p50: f64,
    /// 95th percentile.
    p95: f64,
    /// Upper bounds of the histogram's bins.
    bounds: Vec<f64>,
    /// Streams in each bin; the last bin is beyond all bounds.
    counts: Vec<usize>,
}

impl Measures {
    pub(crate) fn new() -> Measures {
        let measures = Measures {
            registry: Registry::default(),
            requests: Family::default(),
            streams: Family::default(),
            audio_seconds: Counter::default(),
            cache_clears: Family::default(),
            out_of_memory: Counter::default(),
            run_ons: Counter::default(),
            first_audio: Histogram::new(SECONDS),
            uninterrupted_after: Histogram::new(SECONDS),
            queue_wait: Histogram::new(SECONDS),
            work_ratio: Histogram::new(RATIOS),
            recent_first_audio: Mutex::default(),
            counted: Mutex::default(),
        };
        measures.register()
    }

    /// Registers names and descriptions. Counters get the suffix `_total` when they are written.
    fn register(mut self) -> Measures {
        let registry = &mut self.registry;
        registry.register(
            "sottovoce_requests",
            "Requests answered, by route and status",
            self.requests.clone(),
        );
        registry.register(
            "sottovoce_streams",
            "Streams ended, by outcome",
            self.streams.clone(),
        );
        registry.register(
            "sottovoce_audio_seconds",
            "Seconds of speech made",
            self.audio_seconds.clone(),
        );
        registry.register(
            "sottovoce_cache_clears",
            "Times memory was given back, by reason",
            self.cache_clears.clone(),
        );
        registry.register(
            "sottovoce_out_of_memory",
            "Allocations that failed at first",
            self.out_of_memory.clone(),
        );
        registry.register(
            "sottovoce_run_ons",
            "Sentences ended because speech looped or ran on after their text",
            self.run_ons.clone(),
        );
        registry.register(
            "sottovoce_first_audio_seconds",
            "From the request to its first sound",
            self.first_audio.clone(),
        );
        registry.register(
            "sottovoce_uninterrupted_after_seconds",
            "From the request to playback without a gap",
            self.uninterrupted_after.clone(),
        );
        registry.register(
            "sottovoce_queue_wait_seconds",
            "Time spent waiting for a place",
            self.queue_wait.clone(),
        );
        registry.register(
            "sottovoce_work_ratio_per_stream",
            "Seconds of work a second of speech",
            self.work_ratio.clone(),
        );
        self
    }

    /// Counts a response.
    pub(crate) fn request(&self, route: &str, status: u16) {
        let labels = Answered {
            route: route.to_owned(),
            status,
        };
        self.requests.get_or_create(&labels).inc();
    }

    /// Records the seconds that a request waited in the queue.
    pub(crate) fn queue_wait(&self, seconds: f64) {
        self.queue_wait.observe(seconds);
    }

    /// Counts seconds of generated speech.
    pub(crate) fn audio_made(&self, seconds: f64) {
        self.audio_seconds.inc_by(seconds);
    }

    /// Records a stream's time to first audio.
    pub(crate) fn first_audio(&self, seconds: f64) {
        self.first_audio.observe(seconds);
        let mut recent = self
            .recent_first_audio
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(seconds);
    }

    /// Counts the end of a stream.
    pub(crate) fn stream_ended(&self, outcome: &'static str, last: &ChunkMetrics) {
        self.streams.get_or_create(&Ended { outcome }).inc();
        self.run_ons.inc_by(last.run_ons);
        if last.chunk_count > 0 {
            self.uninterrupted_after.observe(last.uninterrupted_after);
            self.work_ratio.observe(last.rtf);
        }
    }

    /// Distribution of the latest first-audio times.
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

    /// All metrics as OpenMetrics text: counters, and gauges of the engine, which is the `load`th.
    pub(crate) fn render(&self, load: u64, engine: Option<&Engine>) -> String {
        let gauges = self.look(load, engine);
        let mut text = String::new();
        let written = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &gauges))
            .and_then(|()| encode_eof(&mut text));
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        text
    }

    /// Reads the gauges, and adds the engine's counts since the previous scrape to the counters.
    fn look(&self, load: u64, engine: Option<&Engine>) -> Registry {
        let mut registry = Registry::default();
        let mut gauge = |name: &str, help: &str, value: u64| {
            registry.register(name, help, ConstGauge::new(value as i64));
        };
        let count = |look: fn(&Engine) -> usize| engine.map_or(0, look) as u64;
        let report = engine.map(Engine::memory_report).unwrap_or_default();
        gauge(
            "sottovoce_model_loaded",
            "1 while the model is loaded",
            engine.is_some().into(),
        );
        gauge(
            "sottovoce_streams_live",
            "Streams under way",
            count(Engine::streams_live),
        );
        gauge(
            "sottovoce_streams_max",
            "Streams that fit",
            count(Engine::streams_max),
        );
        gauge(
            "sottovoce_queue_length",
            "Requests waiting for a place",
            count(Engine::streams_waiting),
        );
        gauge(
            "sottovoce_memory_reserved_bytes",
            "Bytes held from the system or device",
            report.reserved_bytes,
        );
        gauge(
            "sottovoce_memory_reserved_peak_bytes",
            "The most bytes ever held",
            report.reserved_peak_bytes,
        );
        gauge(
            "sottovoce_memory_resident_bytes",
            "The process's resident size",
            report.resident_bytes,
        );
        registry.register(
            "sottovoce_fragmentation",
            "(reserved - allocated) / reserved",
            ConstGauge::new(report.fragmentation),
        );
        let owners: Family<Owner, Gauge> = Family::default();
        for owner in report.owners {
            let labels = Owner {
                region: owner.region,
                tag: owner.tag,
            };
            owners.get_or_create(&labels).set(owner.bytes as i64);
        }
        registry.register("sottovoce_memory_bytes", "Bytes in use, by owner", owners);

        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.load != load {
            *counted = Counted {
                load,
                ..Counted::default()
            };
        }
        for clear in report.clears {
            let before = counted
                .cache_clears
                .insert(clear.reason.clone(), clear.count);
            let labels = Cleared {
                reason: clear.reason,
            };
            let new = clear.count.saturating_sub(before.unwrap_or(0));
            self.cache_clears.get_or_create(&labels).inc_by(new);
        }
        let count = report.out_of_memory_count;
        let before = std::mem::replace(&mut counted.out_of_memory, count);
        self.out_of_memory.inc_by(count.saturating_sub(before));
        registry
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
            one.render(0, None)
                .contains("sottovoce_requests_total{route=\"/v1/models\",status=\"200\"} 1")
        );
        assert!(!other.render(0, None).contains("sottovoce_requests_total{"));
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
    fn histograms_have_bounds_in_seconds_and_speech_is_counted_in_parts_of_them() {
        let measures = Measures::new();
        measures.first_audio(0.07);
        measures.audio_made(0.25);
        measures.audio_made(0.5);
        let text = measures.render(0, None);
        for line in [
            "sottovoce_first_audio_seconds_bucket{le=\"0.1\"} 1",
            "sottovoce_audio_seconds_total 0.75",
            "# TYPE sottovoce_audio_seconds counter",
            "sottovoce_queue_length 0",
            "sottovoce_model_loaded 0",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
