//! Metrics of requests and streams, as OpenMetrics text for Prometheus.
//!
//! What the engine counts is exported from its own metrics, of all loads together; only what
//! happens before or behind the engine is counted here. Each app has its own registry, so that two
//! servers in one process do not mix their metrics.

use crate::host::Loaded;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde::Serialize;
use sottovoce::{ChunkMetrics, Engine};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use utoipa::ToSchema;

/// Media type of [`ServerMetrics::render`].
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the real-time factor's histogram.
const RATIOS: [f64; 9] = [0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.0, 10.0];

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

/// The server's own counters and histograms, and the figures of earlier engines.
pub(crate) struct ServerMetrics {
    /// Registry of the server's own counters and histograms; the engine's figures are read at each
    /// scrape.
    registry: Registry,
    requests: Family<Answered, Counter>,
    streams: Family<Ended, Counter>,
    queue_wait: Histogram,
    work_ratio: Histogram,
    engines: Mutex<Engines>,
}

/// What engines have counted, by load. A reloaded engine starts at 0, but the metrics continue.
#[derive(Default)]
struct Engines {
    /// Sum of the engines that are gone.
    gone: EngineTotals,
    /// The others, as last seen.
    seen: BTreeMap<u64, EngineTotals>,
}

impl Engines {
    fn totals(&self) -> EngineTotals {
        let mut totals = self.gone.clone();
        self.seen.values().for_each(|engine| totals.add(engine));
        totals
    }
}

/// What one engine has counted, or several.
#[derive(Clone, Default)]
struct EngineTotals {
    first_audio: Durations,
    uninterrupted: Durations,
    audio_seconds: f64,
    run_ons: u64,
    out_of_memory: u64,
    cache_clears: BTreeMap<String, u64>,
}

impl EngineTotals {
    fn of(engine: &Engine) -> EngineTotals {
        let metrics = engine.metrics();
        let clears = engine.memory_report().clears;
        EngineTotals {
            first_audio: Durations(metrics.first_audio),
            uninterrupted: Durations(metrics.uninterrupted),
            audio_seconds: metrics.audio_seconds,
            run_ons: metrics.run_ons,
            out_of_memory: metrics.out_of_memory,
            cache_clears: (clears.into_iter())
                .map(|clear| (clear.reason, clear.count))
                .collect(),
        }
    }

    fn add(&mut self, other: &EngineTotals) {
        self.first_audio.0.add(&other.first_audio.0);
        self.uninterrupted.0.add(&other.uninterrupted.0);
        self.audio_seconds += other.audio_seconds;
        self.run_ons += other.run_ons;
        self.out_of_memory += other.out_of_memory;
        for (reason, count) in &other.cache_clears {
            *self.cache_clears.entry(reason.clone()).or_default() += count;
        }
    }

    /// Registers the totals. Counters get the suffix `_total` when they are written.
    fn register(self, registry: &mut Registry) {
        registry.register(
            "sottovoce_audio_seconds",
            "Seconds of speech made",
            ConstCounter::new(self.audio_seconds),
        );
        registry.register(
            "sottovoce_out_of_memory",
            "Allocations that failed at first",
            ConstCounter::new(self.out_of_memory),
        );
        registry.register(
            "sottovoce_run_ons",
            "Sentences ended because speech looped or ran on after their text",
            ConstCounter::new(self.run_ons),
        );
        registry.register(
            "sottovoce_first_audio_seconds",
            "From the request to its first sound",
            self.first_audio,
        );
        registry.register(
            "sottovoce_uninterrupted_after_seconds",
            "From the request to playback without a gap, of finished streams",
            self.uninterrupted,
        );
        let clears: Family<Cleared, Counter> = Family::default();
        for (reason, count) in self.cache_clears {
            clears.get_or_create(&Cleared { reason }).inc_by(count);
        }
        registry.register(
            "sottovoce_cache_clears",
            "Times memory was given back, by reason",
            clears,
        );
    }
}

/// The engine's histogram, for the registry.
#[derive(Clone, Debug, Default)]
struct Durations(sottovoce::Histogram);

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let bounds = sottovoce::Histogram::BOUNDS
            .into_iter()
            .chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.0.buckets).collect();
        let (sum, count) = (self.0.sum_seconds, self.0.count());
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// Time to first audio, in seconds.
#[derive(Serialize, Default, ToSchema)]
pub(crate) struct LatencySummary {
    /// Number of streams.
    count: u64,
    /// Median, estimated from the bins.
    p50: f64,
    /// 95th percentile, likewise.
    p95: f64,
    /// Upper bounds of the histogram's bins.
    bounds: Vec<f64>,
    /// Streams in each bin; the last bin is beyond all bounds.
    counts: Vec<u64>,
}

impl From<sottovoce::Histogram> for LatencySummary {
    fn from(histogram: sottovoce::Histogram) -> LatencySummary {
        LatencySummary {
            count: histogram.count(),
            p50: histogram.quantile(0.5),
            p95: histogram.quantile(0.95),
            bounds: sottovoce::Histogram::BOUNDS.to_vec(),
            counts: histogram.buckets.to_vec(),
        }
    }
}

impl ServerMetrics {
    pub(crate) fn new() -> ServerMetrics {
        let metrics = ServerMetrics {
            registry: Registry::default(),
            requests: Family::default(),
            streams: Family::default(),
            queue_wait: Histogram::new(sottovoce::Histogram::BOUNDS),
            work_ratio: Histogram::new(RATIOS),
            engines: Mutex::default(),
        };
        metrics.register()
    }

    /// Registers names and descriptions. Counters get the suffix `_total` when they are written.
    fn register(mut self) -> ServerMetrics {
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

    /// Counts the end of a stream.
    pub(crate) fn stream_ended(&self, outcome: &'static str, last: &ChunkMetrics) {
        self.streams.get_or_create(&Ended { outcome }).inc();
        if last.chunk_count > 0 {
            self.work_ratio.observe(last.rtf);
        }
    }

    /// Keeps the figures of an engine that goes, the `load`th.
    pub(crate) fn keep(&self, load: u64, engine: &Engine) {
        let last = EngineTotals::of(engine);
        let mut engines = self.engines();
        engines.seen.remove(&load);
        engines.gone.add(&last);
    }

    /// The figures of all engines so far.
    fn totals(&self, loaded: Option<&Loaded>) -> EngineTotals {
        let now = loaded.map(|loaded| (loaded.number, EngineTotals::of(&loaded.engine)));
        let mut engines = self.engines();
        engines.seen.extend(now);
        engines.totals()
    }

    fn engines(&self) -> MutexGuard<'_, Engines> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time to first audio of the streams so far.
    pub(crate) fn latency(&self, loaded: Option<&Loaded>) -> LatencySummary {
        self.totals(loaded).first_audio.0.into()
    }

    /// All metrics as OpenMetrics text: the server's own, and those of the engine.
    pub(crate) fn render(&self, loaded: Option<&Loaded>) -> String {
        let mut engine = gauges(loaded.map(|loaded| &loaded.engine));
        self.totals(loaded).register(&mut engine);
        let mut text = String::new();
        let written = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &engine))
            .and_then(|()| encode_eof(&mut text));
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        text
    }
}

/// The engine's state at this moment.
fn gauges(engine: Option<&Engine>) -> Registry {
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

    registry
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn two_servers_do_not_share_their_figures() {
        let (one, other) = (ServerMetrics::new(), ServerMetrics::new());
        one.request("/v1/models", 200);
        assert!(
            one.render(None)
                .contains("sottovoce_requests_total{route=\"/v1/models\",status=\"200\"} 1")
        );
        assert!(!other.render(None).contains("sottovoce_requests_total{"));
    }

    #[test]
    fn the_figures_of_engines_that_are_gone_stay() {
        let mut one = EngineTotals {
            audio_seconds: 0.25,
            run_ons: 1,
            ..EngineTotals::default()
        };
        for milliseconds in 1..=100 {
            let duration = Duration::from_millis(10 * milliseconds);
            one.first_audio.0.record(duration);
        }
        one.cache_clears.insert("forced".into(), 2);
        let metrics = ServerMetrics::new();
        metrics.engines().gone.add(&one);
        metrics.engines().seen.insert(2, one);
        let text = metrics.render(None);
        for line in [
            "sottovoce_first_audio_seconds_bucket{le=\"0.1\"} 20",
            "sottovoce_first_audio_seconds_bucket{le=\"3.0\"} 200",
            "sottovoce_first_audio_seconds_bucket{le=\"+Inf\"} 200",
            "sottovoce_first_audio_seconds_count 200",
            "sottovoce_audio_seconds_total 0.5",
            "sottovoce_run_ons_total 2",
            "sottovoce_cache_clears_total{reason=\"forced\"} 4",
            "# TYPE sottovoce_first_audio_seconds histogram",
            "# TYPE sottovoce_audio_seconds counter",
            "sottovoce_queue_length 0",
            "sottovoce_model_loaded 0",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let summary = metrics.latency(None);
        assert_eq!(summary.counts.iter().sum::<u64>(), summary.count);
        assert!((summary.p50 - 0.5).abs() < 0.01 && (summary.p95 - 0.95).abs() < 0.01);
    }
}
