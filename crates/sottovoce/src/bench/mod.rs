//! What the engine costs, for each precision and profile, beside the reference's measured figures.

mod cost;
mod flow;
mod further;
mod page;
mod speed;
mod utterances;

pub use cost::ProfileCost;
pub use flow::{FlowBenchOptions, FlowChoice, FlowFigures, flow};
pub use further::Further;
pub use page::html;
pub use speed::{SpeedError, SpeedOptions, SpeedReport, speed};
pub use utterances::{UtteranceFigures, UtteranceOptions, utterances};

use crate::engine::Engine;
use crate::error::Error;
use crate::metrics::MemoryPlan;
use crate::options::{
    CachePrecision, EngineOptions, PrecisionChoice, Profile, SAMPLE_RATE, Source, StreamOptions,
    TOKENS_PER_SECOND,
};
use crate::system_memory::{resident_bytes, resident_peak_bytes};
use crate::voice::VoiceSource;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;

/// Bytes that the reference engine held at its peak, full-size base in f32, one stream.
pub const REFERENCE_PEAK_RESERVED_BYTES: u64 = 3_749_707_776;
/// The same with four voices in turn.
pub const REFERENCE_PEAK_RESERVED_FOUR_VOICES_BYTES: u64 = 3_762_290_688;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The model.
    pub source: Source,
    /// Precisions to try.
    pub precisions: Vec<PrecisionChoice>,
    /// Profiles to try.
    pub profiles: Vec<Profile>,
    /// Everything else.
    pub engine: EngineOptions,
    /// What to speak.
    pub text: String,
    /// Most seconds of speech in a run.
    pub audio_seconds_max: f64,
    /// Whether further streams and voices are measured too.
    pub further: bool,
    /// Rounds in which every profile speaks in turn, to tell what it costs in time; 0 leaves that
    /// out.
    pub rounds: usize,
}

impl BenchOptions {
    /// How each run speaks.
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
    /// The model, in words.
    pub model: String,
    /// Threads for arithmetic; absent where the engine chose.
    pub threads: Option<usize>,
    /// [`REFERENCE_PEAK_RESERVED_BYTES`].
    pub reference_peak_reserved_bytes: u64,
    /// [`REFERENCE_PEAK_RESERVED_FOUR_VOICES_BYTES`].
    pub reference_peak_reserved_four_voices_bytes: u64,
    /// One for each precision and profile.
    pub runs: Vec<BenchRun>,
    /// What each profile costs in time, where rounds were asked for.
    pub costs: Vec<ProfileCost>,
    /// What one more stream and voice take, with 16-bit and with 8-bit keys and values.
    pub further: Vec<Further>,
}

/// One run. Sizes are bytes, times seconds.
#[derive(Clone, Debug, Serialize)]
pub struct BenchRun {
    /// How weights were kept.
    pub precision: PrecisionChoice,
    /// How eagerly memory went back.
    pub profile: Profile,
    /// What was reckoned with at load.
    pub plan: MemoryPlan,
    /// Loading.
    pub load_seconds: f64,
    /// The most held from the system.
    pub peak_reserved_bytes: u64,
    /// The same as a share of the reference's.
    pub peak_reserved_share: f64,
    /// The process's resident size at its highest since it started.
    pub peak_resident_bytes: u64,
    /// The most that was resident but not in the ledger, at the end of a chunk.
    pub other_bytes_max: u64,
    /// From call to first sound.
    pub first_audio_seconds: f64,
    /// From call to playback without a gap.
    pub uninterrupted_seconds: f64,
    /// Seconds of work a second of speech.
    pub rtf: f64,
    /// Seconds of speech.
    pub audio_seconds: f64,
    /// Highest (reserved − allocated) ÷ reserved at the end of a chunk.
    pub fragmentation_max: f64,
    /// Driver calls a chunk once the first one was out.
    pub driver_calls_per_chunk: f64,
    /// Chunk by chunk.
    pub chunks: Vec<BenchChunk>,
}

/// The state after one chunk.
#[derive(Clone, Debug, Serialize)]
pub struct BenchChunk {
    /// Since the call.
    pub seconds: f64,
    /// Work for this chunk.
    pub latency_seconds: f64,
    /// In use.
    pub allocated_bytes: u64,
    /// Held from the system.
    pub reserved_bytes: u64,
    /// (reserved − allocated) ÷ reserved.
    pub fragmentation: f64,
    /// In use by owner: region and tag.
    pub owners: BTreeMap<String, u64>,
}

/// Measures; `progress` hears what is going on.
///
/// # Errors
/// What keeps an engine from loading or speaking.
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
        model: match &options.source {
            Source::Embedded => "pico".into(),
            Source::Synthetic(variant) => format!("synthetic {variant}"),
            Source::Random(config) => format!("random {}", config.variant),
            Source::Directory(folder) => folder.display().to_string(),
        },
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
        // As it stood when the chunk was done: the worker may be far ahead of its reader.
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
