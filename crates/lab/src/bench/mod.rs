//! Benchmarks of the engine for each precision and profile, next to measured figures of the
//! reference.

mod bandwidth;
mod cost;
mod flow;
mod further;
mod page;
mod speed;
mod utterances;

pub use bandwidth::{BandwidthFigures, BandwidthOptions, bandwidth};
pub use cost::ProfileCost;
pub use flow::{FlowBenchOptions, FlowChoice, FlowFigures, flow};
pub use further::Further;
pub use page::html;
pub use speed::{SpeedError, SpeedOptions, SpeedReport, speed};
pub use utterances::{UtteranceFigures, UtteranceOptions, utterances};

use serde::Serialize;
use sottovoce::{
    CachePrecision, Engine, EngineOptions, Error, MemoryPlan, PrecisionChoice, Profile,
    SAMPLE_RATE, Source, StreamOptions, TOKENS_PER_SECOND, VoiceSource, resident_bytes,
    resident_peak_bytes,
};
use std::collections::BTreeMap;
use std::time::Instant;

/// Peak of the bytes that the reference reserved: full-size base model in f32, one stream.
pub const REFERENCE_PEAK_RESERVED_BYTES: u64 = 3_749_707_776;
/// The same with four voices in turn.
pub const REFERENCE_PEAK_RESERVED_FOUR_VOICES_BYTES: u64 = 3_762_290_688;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The model.
    pub source: Source,
    /// Precisions to measure.
    pub precisions: Vec<PrecisionChoice>,
    /// Profiles to measure.
    pub profiles: Vec<Profile>,
    /// All other engine options.
    pub engine: EngineOptions,
    /// Text to speak.
    pub text: String,
    /// Most seconds of speech per run.
    pub audio_seconds_max: f64,
    /// Whether to measure further streams and voices too.
    pub further: bool,
    /// Rounds in which every profile speaks in turn, to measure its time cost; 0 skips them.
    pub rounds: usize,
}

impl BenchOptions {
    /// Stream options of every run.
    fn stream_options(&self) -> StreamOptions {
        let tokens_max = (self.audio_seconds_max * f64::from(TOKENS_PER_SECOND)).ceil() as usize;
        StreamOptions {
            sentence_tokens_max: Some(tokens_max),
            ..StreamOptions::default()
        }
    }
}

/// All runs.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// Description of the model.
    pub model: String,
    /// Compute threads; `None` if the engine chose.
    pub threads: Option<usize>,
    /// [`REFERENCE_PEAK_RESERVED_BYTES`].
    pub reference_peak_reserved_bytes: u64,
    /// [`REFERENCE_PEAK_RESERVED_FOUR_VOICES_BYTES`].
    pub reference_peak_reserved_four_voices_bytes: u64,
    /// One run for each precision and profile.
    pub runs: Vec<BenchRun>,
    /// Time cost of each profile; empty without rounds.
    pub costs: Vec<ProfileCost>,
    /// Cost of further streams and voices, with a 16-bit and an 8-bit KV cache.
    pub further: Vec<Further>,
}

/// One run. Sizes are bytes, times seconds.
#[derive(Clone, Debug, Serialize)]
pub struct BenchRun {
    /// Precision of the weights.
    pub precision: PrecisionChoice,
    /// Memory profile.
    pub profile: Profile,
    /// The memory plan made at load.
    pub plan: MemoryPlan,
    /// Time to load.
    pub load_seconds: f64,
    /// Peak of the bytes held from the system.
    pub peak_reserved_bytes: u64,
    /// The same relative to the reference's.
    pub peak_reserved_share: f64,
    /// Peak resident size of the process since it started.
    pub peak_resident_bytes: u64,
    /// Peak of the resident bytes outside the ledger, at the ends of chunks.
    pub other_bytes_max: u64,
    /// From the call to the first chunk.
    pub first_audio_seconds: f64,
    /// From the call until playback can run without interruption.
    pub uninterrupted_seconds: f64,
    /// Seconds of work per second of speech.
    pub rtf: f64,
    /// Seconds of speech.
    pub audio_seconds: f64,
    /// Highest (reserved − allocated) ÷ reserved at the end of a chunk.
    pub fragmentation_max: f64,
    /// Driver calls per chunk after the first one.
    pub driver_calls_per_chunk: f64,
    /// Metrics of each chunk.
    pub chunks: Vec<BenchChunk>,
}

/// Metrics after one chunk.
#[derive(Clone, Debug, Serialize)]
pub struct BenchChunk {
    /// Time since the call.
    pub seconds: f64,
    /// Time of work on this chunk.
    pub latency_seconds: f64,
    /// Bytes in use.
    pub allocated_bytes: u64,
    /// Bytes held from the system.
    pub reserved_bytes: u64,
    /// (reserved − allocated) ÷ reserved.
    pub fragmentation: f64,
    /// Bytes in use by owner: region and tag.
    pub owners: BTreeMap<String, u64>,
}

/// Runs the benchmarks; `progress` receives messages about the current step.
///
/// # Errors
/// If an engine cannot load or speak.
pub fn bench(options: &BenchOptions, progress: &mut dyn FnMut(&str)) -> Result<BenchReport, Error> {
    let mut runs = Vec::new();
    for &precision in &options.precisions {
        for &profile in &options.profiles {
            progress(&format!("{precision} {profile}"));
            runs.push(run(options, precision, profile)?);
        }
    }
    let mut costs = Vec::new();
    if options.rounds > 0 {
        for &precision in &options.precisions {
            progress(&format!("{precision}, profiles in turn"));
            costs.extend(cost::costs(options, precision)?);
        }
    }
    let mut further = Vec::new();
    if options.further {
        let engine = EngineOptions {
            precision: (options.precisions.last().copied()).unwrap_or(PrecisionChoice::Auto),
            ..options.engine.clone()
        };
        for cache in [CachePrecision::F16, CachePrecision::Int8] {
            progress(&format!(
                "further streams and voices, {cache} keys and values"
            ));
            further.push(further::further(&options.source, &engine, cache)?);
        }
    }
    Ok(BenchReport {
        model: options.source.to_string(),
        threads: options.engine.threads,
        reference_peak_reserved_bytes: REFERENCE_PEAK_RESERVED_BYTES,
        reference_peak_reserved_four_voices_bytes: REFERENCE_PEAK_RESERVED_FOUR_VOICES_BYTES,
        runs,
        costs,
        further,
    })
}

fn run(
    options: &BenchOptions,
    precision: PrecisionChoice,
    profile: Profile,
) -> Result<BenchRun, Error> {
    let started = Instant::now();
    let engine = Engine::load(
        options.source.clone(),
        EngineOptions {
            precision,
            profile,
            ..options.engine.clone()
        },
    )?;
    let load_seconds = started.elapsed().as_secs_f64();
    let voice = engine.voice(VoiceSource::Default)?;
    let mut run = BenchRun {
        precision,
        profile,
        plan: engine.plan().clone(),
        load_seconds,
        peak_reserved_bytes: 0,
        peak_reserved_share: 0.0,
        peak_resident_bytes: 0,
        other_bytes_max: 0,
        first_audio_seconds: 0.0,
        uninterrupted_seconds: 0.0,
        rtf: 0.0,
        audio_seconds: 0.0,
        fragmentation_max: 0.0,
        driver_calls_per_chunk: 0.0,
        chunks: Vec::new(),
    };
    let mut calls_after_first = 0;
    let mut calls = 0;
    let mut before = 0.0;
    for chunk in engine.stream(&options.text, &voice, options.stream_options())? {
        let chunk = chunk?;
        let report = engine.memory_report();
        calls = report.driver_calls;
        if run.chunks.is_empty() {
            calls_after_first = calls;
            run.first_audio_seconds = chunk.metrics.latency_to_first_chunk;
        }
        let owners = (report.owners.iter())
            .filter(|owner| owner.bytes > 0)
            .map(|owner| (format!("{} {}", owner.region, owner.tag), owner.bytes));
        let seconds = chunk.metrics.total_generation_time;
        run.uninterrupted_seconds = chunk.metrics.uninterrupted_after;
        run.audio_seconds += chunk.samples.len() as f64 / f64::from(SAMPLE_RATE);
        run.rtf = seconds / run.audio_seconds.max(f64::MIN_POSITIVE);
        // The chunk's own metrics: the worker may be far ahead of its reader.
        let metrics = &chunk.metrics;
        run.fragmentation_max = run.fragmentation_max.max(metrics.fragmentation);
        run.other_bytes_max = run.other_bytes_max.max(
            resident_bytes()
                .unwrap_or(0)
                .saturating_sub(report.reserved_bytes),
        );
        run.chunks.push(BenchChunk {
            seconds,
            latency_seconds: seconds - before,
            allocated_bytes: metrics.memory_allocated,
            reserved_bytes: metrics.memory_reserved,
            fragmentation: metrics.fragmentation,
            owners: owners.collect(),
        });
        before = seconds;
        if run.audio_seconds >= options.audio_seconds_max {
            break;
        }
    }
    run.peak_reserved_bytes = engine.memory_report().reserved_peak_bytes;
    run.peak_reserved_share = run.peak_reserved_bytes as f64 / REFERENCE_PEAK_RESERVED_BYTES as f64;
    run.peak_resident_bytes = resident_peak_bytes().unwrap_or(0);
    run.driver_calls_per_chunk =
        (calls - calls_after_first) as f64 / run.chunks.len().saturating_sub(1).max(1) as f64;
    Ok(run)
}
