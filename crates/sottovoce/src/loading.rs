//! Loading decisions: the model's files, the precision, and the number of streams that fit the
//! budget.

use crate::device;
use crate::error::Error;
use crate::metrics::MemoryPlan;
use crate::options::{EngineOptions, PrecisionChoice, SAMPLE_RATE, Source, parse_variant};
use crate::plan::{Extent, FLOW_STREAMS, RunTraces, make_plan, streams_at_once};
use crate::voice::VoiceParts;
use crate::watermark::WatermarkPlan;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::inspect::Inspection;
use sottovoce_chatterbox::s3gen::FlowVoice;
use sottovoce_chatterbox::voice::{NetworkPlan, WindowTokenizer};
use sottovoce_chatterbox::weights::{Component, WeightSource, WeightsError};
use sottovoce_memory::Memory;
use sottovoce_memory::stats::Bytes;
use sottovoce_tensor::{CachePrecision, Device, Precision};
use std::path::Path;
use std::sync::{Arc, Weak};

/// The embedded model: config, tokenizer and weights in one file, made by `training/`.
static PICO: &[u8] = include_bytes!("../assets/pico/model.safetensors");
/// The embedded model's voice.
static PICO_VOICE: &[u8] = include_bytes!("../assets/pico/voice.safetensors");

/// Random weights are the same on every machine.
const SYNTHETIC_SEED: u64 = 1;

/// Precisions that `auto` tries, finest first.
const AUTO: [Precision; 3] = [Precision::F16, Precision::Int8, Precision::Q4];
/// Precisions that a refusal suggests from, finest first.
const ALL: [Precision; 4] = [
    Precision::F32,
    Precision::F16,
    Precision::Int8,
    Precision::Q4,
];

/// Opens a model's files. Nothing is loaded yet.
///
/// # Errors
/// If it is not a model, is damaged, or speaks at another sample rate.
pub fn open_model(source: &Source) -> Result<WeightSource, Error> {
    open(source, WeightSource::open)
}

/// Opens a model's files as an engine with these options needs them.
pub(crate) fn model_for(source: &Source, options: &EngineOptions) -> Result<WeightSource, Error> {
    let paired;
    let source = match &options.sound {
        None => source,
        Some(sound) => {
            paired = Source::Paired {
                model: Box::new(source.clone()),
                sound: Box::new(sound_source(source, sound)),
            };
            &paired
        }
    };
    match options.speech {
        true => open_model(source),
        false => open(source, WeightSource::open_sound),
    }
}

/// The model whose sound is taken: a folder, or beside random weights those of a variant.
fn sound_source(model: &Source, sound: &Path) -> Source {
    let variant = sound.to_str().and_then(|name| parse_variant(name).ok());
    match (model, variant) {
        (Source::Synthetic(_), Some(variant)) => Source::Synthetic(variant),
        _ => Source::Directory(sound.to_owned()),
    }
}

fn open(
    source: &Source,
    open: fn(&Path) -> Result<WeightSource, WeightsError>,
) -> Result<WeightSource, Error> {
    let weights = match source {
        Source::Embedded => {
            WeightSource::embedded("pico", PICO).map_err(|error| Error::model("pico", error))?
        }
        Source::Directory(folder) => {
            let name = folder.display().to_string();
            open(folder).map_err(|error| Error::model(&name, error))?
        }
        Source::Synthetic(variant) => {
            WeightSource::synthetic(ModelConfig::preset(*variant), SYNTHETIC_SEED)
        }
        Source::Random(config) => WeightSource::synthetic((**config).clone(), SYNTHETIC_SEED),
        Source::Paired { model, sound } => {
            let sound = self::open(sound, WeightSource::open_sound)?;
            let model = self::open(model, open)?;
            let name = model.name().to_owned();
            (model.with_sound(sound)).map_err(|error| Error::model(&name, error))?
        }
    };
    let rate = weights.config().sample_rate();
    if rate != SAMPLE_RATE {
        return Err(Error::model(
            weights.name(),
            format!("it speaks at {rate} Hz; {SAMPLE_RATE} Hz are supported"),
        ));
    }
    Ok(weights)
}

/// Describes a model's folder or a weight file. A file that holds only a part of a model is
/// described without the part's size in memory.
///
/// # Errors
/// If it is neither a model nor a weight file, or is damaged.
pub fn inspect(source: &Source) -> Result<Inspection, Error> {
    let Source::Directory(path) = source else {
        return Ok(Inspection::of(&open_model(source)?));
    };
    match WeightSource::open(path) {
        Ok(weights) => Ok(Inspection::of(&weights)),
        Err(WeightsError::NoModel { .. } | WeightsError::MissingFile { .. }) if path.is_file() => {
            Inspection::of_file(path)
                .map_err(|error| Error::model(&path.display().to_string(), error))
        }
        Err(error) => Err(Error::model(&path.display().to_string(), error)),
    }
}

/// Files with a folder's default voice: the engine's format, then the reference's.
const DEFAULT_VOICE_FILES: [&str; 2] = ["voice.safetensors", "conds.pt"];

/// The model's default voice, if it has one; random weights get a random voice.
pub(crate) fn default_voice(weights: &WeightSource) -> Result<Option<VoiceParts>, Error> {
    let config = weights.config();
    let found = weights.folder().and_then(|folder| {
        DEFAULT_VOICE_FILES
            .iter()
            .map(|file| folder.join(file))
            .find(|path| path.is_file())
    });
    let name = "default".to_owned();
    let parts = match found {
        Some(path) => VoiceParts {
            name,
            ..VoiceParts::read(&path, config)?
        },
        None if weights.is_synthetic() => VoiceParts::random(config),
        None if weights.folder().is_none() => VoiceParts::of_file(name, PICO_VOICE, config)?,
        None => return Ok(None),
    };
    Ok(Some(parts))
}

/// The part of a model's default voice that the flow needs, placed in `memory`.
///
/// # Errors
/// If the model has no voice of its own, or memory runs out.
pub fn default_flow_voice(
    weights: &WeightSource,
    memory: &Memory,
) -> Result<Arc<FlowVoice>, Error> {
    let voice = default_voice(weights)?
        .ok_or_else(|| Error::model(weights.name(), "it has no voice of its own"))?;
    Ok(voice.keep(memory, None, Weak::new())?.inner.flow.clone())
}

/// The precision, streams and plan to load.
pub(crate) struct Choice {
    pub plan: MemoryPlan,
    pub traces: RunTraces,
    pub precision: Precision,
    pub extent: Extent,
    pub watermark: Option<WatermarkPlan>,
    /// In an engine that only changes voices.
    pub tokenizer: Option<NetworkPlan>,
}

/// Message for a model without a speech tokenizer.
pub(crate) const CHANGES_NO_VOICES: &str =
    "it has no speech tokenizer and changes no voices; base, turbo and nano do";

/// The plan of a model's speech tokenizer, which computes on `host`.
///
/// # Errors
/// If the model has none.
pub(crate) fn tokenizer_plan(
    weights: &WeightSource,
    host: &dyn Device,
) -> Result<NetworkPlan, Error> {
    if !weights.holds(Component::SpeechTokenizer) {
        return Err(Error::model(weights.name(), CHANGES_NO_VOICES));
    }
    WindowTokenizer::plan(weights, host).map_err(|error| Error::model(weights.name(), error))
}

/// Finds the precision and the number of streams that fit the budget.
///
/// # Errors
/// [`Error::Budget`] with the numbers and a suggestion that would fit.
pub(crate) fn choose(
    weights: &WeightSource,
    options: &EngineOptions,
    device: &dyn Device,
) -> Result<Choice, Error> {
    let precisions: &[Precision] = match options.precision {
        PrecisionChoice::Auto => &AUTO,
        PrecisionChoice::F32 => &[Precision::F32],
        PrecisionChoice::F16 => &[Precision::F16],
        PrecisionChoice::Int8 => &[Precision::Int8],
        PrecisionChoice::Q4 => &[Precision::Q4],
    };
    // The watermark is applied on the host, whatever the device.
    let host = (!device.host_accessible()).then(|| device::host(options.threads.unwrap_or(0)));
    let marking = host.as_deref().unwrap_or(device);
    let watermark = (options.watermark.as_deref())
        .map(|path| WatermarkPlan::of(weights, path, marking))
        .transpose()?;
    let tokenizer = (!options.speech)
        .then(|| tokenizer_plan(weights, marking))
        .transpose()?;
    let attempt = |precision: Precision,
                   cache: CachePrecision,
                   whole_tokens: usize,
                   flow_streams: usize|
     -> Result<(Choice, bool), Error> {
        let budget = options.memory.unwrap_or(u64::MAX);
        let host_budget = options.host_memory.unwrap_or(u64::MAX);
        let config = weights.config();
        let extent_of = |streams| {
            let chunk_tokens = options.chunk_tokens(config);
            Extent::of(config, streams, chunk_tokens, options.context_tokens_max)
        };
        let most = match tokenizer {
            None => streams_at_once(&config.t3, &extent_of(1), device),
            Some(_) => usize::MAX,
        };
        let mut streams = options.streams_max.min(most).max(1);
        loop {
            let mut extent = extent_of(streams);
            extent.whole_tokens = extent.whole_tokens.max(whole_tokens);
            extent.flow_streams = flow_streams;
            if tokenizer.is_some() {
                extent = extent.without_text();
            }
            let tokenizer = tokenizer.as_ref();
            let (mut plan, traces) =
                make_plan(weights, precision, cache, &extent, tokenizer, device)?;
            if let Some(watermark) = &watermark {
                let (weights, workspace) = (watermark.weights_bytes, watermark.workspace_bytes);
                match &mut plan.host {
                    Some(host) => host.watermark_bytes = weights + workspace,
                    None => {
                        plan.weights_bytes += weights;
                        plan.workspace_bytes += workspace;
                    }
                }
            }
            let left = budget.saturating_sub(plan.total_bytes(0));
            let on_host = plan.host.map_or(u64::MAX, |host| {
                let left = host_budget.saturating_sub(host.total_bytes(0));
                left / (host.total_bytes(1) - host.total_bytes(0)).max(1)
            });
            let fit = (left / plan.stream_bytes.max(1)).min(on_host);
            let fit = fit.min(streams as u64) as usize;
            plan.streams_fit = fit;
            // The workspace grows with the streams. With fewer streams, one more may fit than this
            // estimate; never fewer.
            if fit == streams || streams == 1 {
                let fits = fit > 0;
                return Ok((
                    Choice {
                        plan,
                        traces,
                        precision,
                        extent,
                        watermark: None,
                        tokenizer: None,
                    },
                    fits,
                ));
            }
            streams = fit.max(1);
        }
    };
    let mut last = None;
    for &precision in precisions {
        let cache = options.key_value_precision;
        let (mut choice, fits) = attempt(precision, cache, 0, 1)?;
        if fits {
            // A larger window is free where it displaces no stream,
            for whole_tokens in wholes(options.whole_tokens_max, choice.extent.whole_tokens) {
                let (larger, fits) = attempt(precision, cache, whole_tokens, 1)?;
                if fits && larger.plan.streams_fit >= choice.plan.streams_fit {
                    choice = larger;
                    break;
                }
            }
            // and so are more streams in one pass of the flow.
            let whole_tokens = choice.extent.whole_tokens;
            let most = match device.favours_batches() {
                true => choice.plan.streams_fit,
                false => 1,
            };
            let several = FLOW_STREAMS
                .into_iter()
                .filter(|&count| 1 < count && count <= most);
            for flow_streams in several.rev() {
                let (larger, fits) = attempt(precision, cache, whole_tokens, flow_streams)?;
                if fits && larger.plan.streams_fit >= choice.plan.streams_fit {
                    choice = larger;
                    break;
                }
            }
            return Ok(Choice {
                watermark,
                tokenizer,
                ..choice
            });
        }
        last = Some(choice);
    }
    let Some(choice) = last else {
        return Err(Error::option("precision", "", "none was named"));
    };
    let plan = choice.plan;
    if let Some(host) = plan.host
        && let Some(budget_bytes) = options.host_memory
        && budget_bytes < host.total_bytes(1)
    {
        return Err(Error::Budget {
            budget_bytes,
            needed_bytes: host.total_bytes(1),
            plan: format!(
                "on the host: voice {} twice, one stream {}",
                Bytes(host.voice_bytes),
                Bytes(host.stream_bytes)
            ),
            hint: Some("give the host more memory, or smaller chunks".into()),
        });
    }
    let smaller = ALL
        .into_iter()
        .filter(|precision| !precisions.contains(precision));
    let cache = options.key_value_precision;
    // Suggests other weights first, then the same and other weights with a shorter KV cache.
    let others = (smaller.map(|precision| (precision, cache)))
        .chain(precisions.iter().map(|&same| (same, CachePrecision::Int8)))
        .chain(ALL.map(|precision| (precision, CachePrecision::Int8)));
    let hint = others
        .filter_map(|(precision, cache)| Some((attempt(precision, cache, 0, 1).ok()?, cache)))
        .find(|((_, fits), _)| *fits);
    let hint = match hint {
        Some(((choice, _), used)) => {
            let with_cache = match used == cache {
                true => "",
                false => " with key_value_precision int8",
            };
            format!(
                "precision {}{with_cache} fits, with {} at a time",
                choice.precision,
                streams_text(choice.plan.streams_fit)
            )
        }
        None => format!("give at least {} bytes", plan.total_bytes(1)),
    };
    Err(Error::Budget {
        budget_bytes: options.memory.unwrap_or(u64::MAX),
        needed_bytes: plan.total_bytes(1),
        plan: format!(
            "at {}: {}weights {}, workspace {}, voice {}, one stream {}",
            plan.precision,
            match plan.device_bytes {
                0 => String::new(),
                bytes => format!("the device itself {}, ", Bytes(bytes)),
            },
            Bytes(plan.weights_bytes),
            Bytes(plan.workspace_bytes),
            Bytes(plan.voice_bytes),
            Bytes(plan.stream_bytes)
        ),
        hint: Some(hint),
    })
}

/// Windows for whole delivery beyond the minimum: the requested one, then smaller ones for a budget
/// that does not hold it.
fn wholes(most: Option<usize>, least: usize) -> impl Iterator<Item = usize> {
    let most = most.unwrap_or(0);
    [4, 3, 2]
        .into_iter()
        .map(move |quarters| most * quarters / 4)
        .filter(move |tokens| *tokens > least)
}

fn streams_text(count: usize) -> String {
    if count == 1 {
        "one stream".to_owned()
    } else {
        format!("{count} streams")
    }
}
