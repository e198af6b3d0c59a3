//! What a caller may choose, with the reference's names where it has them.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use sottovoce_chatterbox::config::{FlowSolver, ModelConfig, Variant};
pub use sottovoce_memory::policy::MemoryProfile as Profile;
pub use sottovoce_tensor::CachePrecision;
use sottovoce_tensor::Threads;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

/// Samples a second of everything that is spoken.
pub const SAMPLE_RATE: u32 = 24_000;
/// Speech tokens a second.
pub const TOKENS_PER_SECOND: u32 = 25;
/// The longest text of one stream, in characters: more than an hour of speech.
pub const TEXT_CHARACTERS_MAX: usize = 100_000;

/// Speech tokens in a chunk of this model once a stream runs, where no other number is asked for. Each chunk's synthesis sees the voice's
/// prompt and some context again, so a large one costs less a second of sound, but the workspace grows. Two steps of a mean flow are done
/// with a little more for 3 s than for 1 s; ten guided ones are so much work that 6 s pay.
pub fn default_chunk_size(config: &ModelConfig) -> usize {
    match config.flow.solver {
        FlowSolver::MeanFlow { .. } => 75,
        FlowSolver::Euler { .. } => 150,
    }
}

const CHUNK_SIZES: RangeInclusive<usize> = 1..=250;
const CONTEXT_WINDOWS: RangeInclusive<usize> = 0..=500;
/// A step's workspace is planned for all streams together.
const STREAMS_MAX: usize = 4096;

/// Reads the name of a full-size member of the family.
pub fn parse_variant(text: &str) -> Result<Variant, Error> {
    match text {
        "base" => Ok(Variant::Base),
        "turbo" => Ok(Variant::Turbo),
        "nano" => Ok(Variant::Nano),
        _ => Err(Error::option("synthetic", text, "use base, turbo or nano")),
    }
}

/// Reads how T3's keys and values are kept.
pub fn parse_cache_precision(text: &str) -> Result<CachePrecision, Error> {
    match text {
        "f32" => Ok(CachePrecision::F32),
        "f16" => Ok(CachePrecision::F16),
        "int8" => Ok(CachePrecision::Int8),
        _ => Err(Error::option(
            "cache_precision",
            text,
            "use f32, f16 or int8",
        )),
    }
}

/// Where a model's weights come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The small voice inside the program.
    Embedded,
    /// A folder laid out as the official ones, or written by `convert`.
    Directory(PathBuf),
    /// Full-size random weights, for measuring memory and time.
    Synthetic(Variant),
    /// Random weights of any sizes.
    Random(Box<ModelConfig>),
}

/// How weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// The finest that fits the budget.
    Auto,
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8 bits, one scale a row.
    Int8,
    /// 4 bits in groups of 32 for T3's matrices, 8 bits elsewhere.
    Q4,
}

impl fmt::Display for PrecisionChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Q4 => "q4",
        })
    }
}

impl FromStr for PrecisionChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<PrecisionChoice, Error> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "int8" => Ok(Self::Int8),
            "q4" => Ok(Self::Q4),
            _ => Err(Error::option(
                "precision",
                text,
                "use auto, f32, f16, int8 or q4",
            )),
        }
    }
}

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// This machine's processor.
    #[default]
    Cpu,
    /// The CUDA device of this number.
    Cuda(u32),
    /// The first CUDA device if the model fits there, else the processor.
    Auto,
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Cpu => formatter.pad("cpu"),
            DeviceChoice::Cuda(ordinal) => formatter.pad(&format!("cuda:{ordinal}")),
            DeviceChoice::Auto => formatter.pad("auto"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<DeviceChoice, Error> {
        let cuda = |number: &str| {
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| number.parse().ok()).flatten()
        };
        let choice = match text {
            "cpu" => Some(DeviceChoice::Cpu),
            "cuda" => Some(DeviceChoice::Cuda(0)),
            "auto" => Some(DeviceChoice::Auto),
            _ => (text.strip_prefix("cuda:").and_then(cuda)).map(DeviceChoice::Cuda),
        };
        choice.ok_or_else(|| {
            let reason = "use cpu, cuda, cuda:N (counted from 0) or auto";
            Error::option("device", text, reason)
        })
    }
}

/// Choices for a whole engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Bytes that the engine may use in all; without it, what the system has. On a device with a
    /// memory of its own they are the device's.
    pub memory: Option<u64>,
    /// Bytes of the host for voices and for samples on their way to readers, where the device has a
    /// memory of its own; without it, what the system has.
    pub host_memory: Option<u64>,
    /// What computes.
    pub device: DeviceChoice,
    /// How weights are kept.
    pub precision: PrecisionChoice,
    /// How eagerly memory goes back.
    pub profile: Profile,
    /// Threads for arithmetic; without it, one a core.
    pub threads: Option<usize>,
    /// Streams that may be under way together, at most 4096; fewer where the budget holds fewer.
    pub streams_max: usize,
    /// Streams that may wait for a place.
    pub waiting_max: usize,
    /// Most speech tokens in a chunk of any stream: the workspace is made for it. Without it [`default_chunk_size`].
    pub chunk_tokens_max: Option<usize>,
    /// Most speech tokens before a chunk that any stream sees again.
    pub context_tokens_max: usize,
    /// How T3's keys and values are kept.
    pub key_value_precision: CachePrecision,
    /// Chunks between two looks at the cache, in place of the profile's own number.
    pub cache_interval: Option<u32>,
    /// The folder of named voices, for [`VoiceSource::Name`](crate::VoiceSource::Name).
    pub voices: Option<PathBuf>,
    /// Whether the memory timeline is kept.
    pub enable_monitoring: bool,
    /// The watermark's weights; with them every stream is marked, a quarter of a second later.
    pub watermark: Option<PathBuf>,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            memory: None,
            host_memory: None,
            device: DeviceChoice::default(),
            precision: PrecisionChoice::Auto,
            profile: Profile::Automatic,
            threads: None,
            streams_max: 8,
            waiting_max: 64,
            chunk_tokens_max: None,
            context_tokens_max: 50,
            key_value_precision: CachePrecision::F16,
            cache_interval: None,
            voices: None,
            enable_monitoring: true,
            watermark: None,
        }
    }
}

impl EngineOptions {
    /// Most speech tokens in a chunk with this model.
    pub(crate) fn chunk_tokens(&self, config: &ModelConfig) -> usize {
        self.chunk_tokens_max
            .unwrap_or_else(|| default_chunk_size(config))
    }

    /// Refuses values outside their range, naming the option.
    pub fn check(&self) -> Result<(), Error> {
        count_in_range("threads", self.threads.unwrap_or(0), 0..=Threads::COUNT_MAX)?;
        count_in_range("streams_max", self.streams_max, 0..=STREAMS_MAX)?;
        count_in_range(
            "chunk_tokens_max",
            self.chunk_tokens_max.unwrap_or(1),
            CHUNK_SIZES,
        )?;
        count_in_range(
            "context_tokens_max",
            self.context_tokens_max,
            CONTEXT_WINDOWS,
        )
    }
}

/// What a stream does when all places are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Wait in line; refused only when the line is full.
    #[default]
    Wait,
    /// Be refused at once, with the time after which to try again.
    Refuse,
}

/// Choices for one stream. `None` takes the model's own default, which is the reference's for that variant.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// How fast: 1 as the voice speaks, 2 twice as fast at the same pitch; 0.25 to 4.
    pub speed: f32,
    /// Emotion, 0 to 2 (base only).
    pub exaggeration: Option<f32>,
    /// Weight of classifier-free guidance (base only).
    pub cfg_weight: Option<f32>,
    /// Sampling temperature; 0 always takes the most likely token.
    pub temperature: Option<f32>,
    /// Nucleus: least probability mass kept.
    pub top_p: Option<f32>,
    /// Most tokens kept (turbo, nano).
    pub top_k: Option<usize>,
    /// Least probability kept, relative to the best.
    pub min_p: Option<f32>,
    /// Above 1 makes repeats rarer.
    pub repetition_penalty: Option<f32>,
    /// Speech tokens (1/25 s) in a chunk once the stream runs. Without it [`default_chunk_size`], or the engine's most if that is less.
    pub chunk_size: Option<usize>,
    /// Speech tokens before a chunk that its synthesis sees again. With 50 the mel is a third nearer to the whole's than with 10; 100 bring an
    /// eighth more.
    pub context_window: usize,
    /// Most tokens of the voice's prompt that a chunk's synthesis sees, the last ones; all of them without it.
    pub prompt_tokens: Option<usize>,
    /// Steps from noise to mel, at most the model's own. Fewer are faster and rougher.
    pub flow_steps: Option<usize>,
    /// How many of the steps, from the first on, are guided (base only): one that is not takes half the time.
    pub flow_guided_steps: Option<usize>,
    /// Seconds of fade at the very start.
    pub fade_duration: f32,
    /// Whether the memory policy looks at this stream's chunks.
    pub memory_management: bool,
    /// Starts the random numbers; the same seed, text, voice and precision give the same samples.
    pub seed: u64,
    /// Most speech tokens of one sentence, in place of the model's own limit.
    pub sentence_tokens_max: Option<usize>,
    /// What to do when all places are taken.
    pub when_full: WhenFull,
    /// Chunks that may wait for the reader before the stream pauses.
    pub buffered_chunks_max: usize,
}

impl Default for StreamOptions {
    fn default() -> StreamOptions {
        StreamOptions {
            speed: 1.0,
            exaggeration: None,
            cfg_weight: None,
            temperature: None,
            top_p: None,
            top_k: None,
            min_p: None,
            repetition_penalty: None,
            chunk_size: None,
            context_window: 50,
            prompt_tokens: None,
            flow_steps: None,
            flow_guided_steps: None,
            fade_duration: 0.02,
            memory_management: true,
            seed: 0,
            sentence_tokens_max: None,
            when_full: WhenFull::Wait,
            buffered_chunks_max: 4,
        }
    }
}

impl StreamOptions {
    /// Speech tokens in a chunk of this model once the stream runs.
    pub(crate) fn chunk_tokens(&self, config: &ModelConfig) -> usize {
        self.chunk_size
            .unwrap_or_else(|| default_chunk_size(config))
    }

    /// Most bytes of samples on their way to the reader, in chunks of at most `chunk_tokens`: those
    /// that wait, and the one that is being made.
    pub(crate) fn delivery_bytes(&self, chunk_tokens: usize) -> u64 {
        let samples = chunk_tokens * (SAMPLE_RATE / TOKENS_PER_SECOND) as usize;
        ((self.buffered_chunks_max + 1) * samples * size_of::<f32>()) as u64
    }

    /// Refuses values outside their range, naming the option.
    pub fn check(&self) -> Result<(), Error> {
        in_range("speed", self.speed, 0.25, 4.0)?;
        in_range("fade_duration", self.fade_duration, 0.0, 1.0)?;
        for (option, value, least, most) in [
            ("exaggeration", self.exaggeration, 0.0, 2.0),
            ("cfg_weight", self.cfg_weight, 0.0, 5.0),
            ("temperature", self.temperature, 0.0, 5.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("repetition_penalty", self.repetition_penalty, 1.0, 10.0),
        ] {
            if let Some(value) = value {
                in_range(option, value, least, most)?;
            }
        }
        for (option, value, range) in [
            ("chunk_size", self.chunk_size.unwrap_or(1), CHUNK_SIZES),
            ("context_window", self.context_window, CONTEXT_WINDOWS),
            ("prompt_tokens", self.prompt_tokens.unwrap_or(0), 0..=1000),
            ("flow_steps", self.flow_steps.unwrap_or(1), 1..=100),
            (
                "flow_guided_steps",
                self.flow_guided_steps.unwrap_or(0),
                0..=100,
            ),
            ("buffered_chunks_max", self.buffered_chunks_max, 1..=1000),
        ] {
            count_in_range(option, value, range)?;
        }
        Ok(())
    }
}

fn count_in_range(
    option: &'static str,
    value: usize,
    range: RangeInclusive<usize>,
) -> Result<(), Error> {
    if range.contains(&value) {
        return Ok(());
    }
    let reason = format!("use {} to {}", range.start(), range.end());
    Err(Error::option(option, value, reason))
}

fn in_range(option: &'static str, value: f32, least: f32, most: f32) -> Result<(), Error> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(Error::option(
            option,
            value,
            format!("use {least} to {most}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_their_own_check() {
        StreamOptions::default().check().unwrap();
        EngineOptions::default().check().unwrap();
    }

    #[test]
    fn an_engine_refuses_absurd_sizes_by_name() {
        let default = EngineOptions::default;
        for (option, options) in [
            (
                "threads",
                EngineOptions {
                    threads: Some(100_000),
                    ..default()
                },
            ),
            (
                "streams_max",
                EngineOptions {
                    streams_max: usize::MAX,
                    ..default()
                },
            ),
            (
                "chunk_tokens_max",
                EngineOptions {
                    chunk_tokens_max: Some(usize::MAX),
                    ..default()
                },
            ),
            (
                "context_tokens_max",
                EngineOptions {
                    context_tokens_max: 501,
                    ..default()
                },
            ),
        ] {
            let refusal = crate::Engine::load(Source::Embedded, options).err();
            let message = refusal.map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains(option), "{message:?} must name {option}");
        }
    }

    #[test]
    fn a_device_is_named_as_it_is_read() {
        for (text, choice) in [
            ("cpu", DeviceChoice::Cpu),
            ("auto", DeviceChoice::Auto),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:17", DeviceChoice::Cuda(17)),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!(
            "cuda".parse::<DeviceChoice>().unwrap(),
            DeviceChoice::Cuda(0)
        );
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:99999999999"] {
            let refusal = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(refusal.contains("cuda:N"), "{refusal}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let cases: [(&str, StreamOptions); 8] = [
            (
                "temperature",
                StreamOptions {
                    temperature: Some(-0.1),
                    ..Default::default()
                },
            ),
            (
                "exaggeration",
                StreamOptions {
                    exaggeration: Some(f32::NAN),
                    ..Default::default()
                },
            ),
            (
                "top_p",
                StreamOptions {
                    top_p: Some(1.5),
                    ..Default::default()
                },
            ),
            (
                "chunk_size",
                StreamOptions {
                    chunk_size: Some(0),
                    ..Default::default()
                },
            ),
            (
                "prompt_tokens",
                StreamOptions {
                    prompt_tokens: Some(1001),
                    ..Default::default()
                },
            ),
            (
                "flow_steps",
                StreamOptions {
                    flow_steps: Some(0),
                    ..Default::default()
                },
            ),
            (
                "flow_guided_steps",
                StreamOptions {
                    flow_guided_steps: Some(101),
                    ..Default::default()
                },
            ),
            (
                "buffered_chunks_max",
                StreamOptions {
                    buffered_chunks_max: 0,
                    ..Default::default()
                },
            ),
        ];
        for (option, options) in cases {
            let message = options.check().unwrap_err().to_string();
            assert!(message.contains(option), "{message} must name {option}");
        }
    }
}
