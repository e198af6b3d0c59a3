//! Outputs of every network from given inputs, for comparison with the reference.
//!
//! From a file of inputs, every output is computed whose inputs are all given. Random numbers are
//! inputs too, so that both sides use the same. `m` is a number of speech tokens, `t` of flow
//! tokens, `p` of flow prompt tokens, `h` of harmonics with the fundamental. Names and shapes:
//!
//! | inputs | outputs |
//! |---|---|
//! | `wav_16k` `[n]` | `speaker_embedding`, `speech_tokens`, `x_vector` |
//! | `wav_24k` `[n]` | `prompt_mel` `[frames, bands]` |
//! | `tokens_text` (UTF-8 bytes), for multilingual models also `tokens_language` | `text_ids` |
//! | T3's inputs, below | `t3_logits` `[rows, m, vocabulary]` |
//! | T3's inputs, if it decodes in blocks | `block_tokens`, `block_logits` |
//! | the flow's inputs, below | `mel` `[bands, 2 t]` |
//! | `vocoder_mel` `[bands, frames]` | `f0` `[frames]` |
//! | `vocoder_f0` `[frames]`, `vocoder_phase`, `vocoder_noise` | `source` `[samples]` |
//! | `vocoder_mel`, `vocoder_source` `[samples]` | `wav` `[samples]` |
//! | `watermark_in_32k` `[n]` | `watermarked_32k` `[n]`, whole hops |
//!
//! T3's inputs: `text_tokens`, `speech_in` `[m]`, `cond_speaker_embedding`, `cond_prompt_tokens`,
//! `emotion` `[1]`; if it decodes in blocks, `block_token_count` `[1]` in place of `speech_in`, for
//! `block_logits` `[passes, rows, block, vocabulary]` at temperature 0.
//!
//! The flow's inputs: `flow_tokens` `[t]`, `flow_prompt_tokens` `[p]`, `flow_prompt_mel`
//! `[2 p, bands]`, `flow_x_vector`, `flow_noise` `[bands, 2 (p + t)]`.
//! `vocoder_noise` is `[h, samples]`. The watermark's weights are read from `perth.safetensors` in
//! the model's folder.

mod inputs;

use crate::config::{ModelConfig, SamplingConfig};
use crate::convert::sound_precision;
use crate::s3gen::{Flow, FlowOptions};
use crate::t3::{BlockDecoder, T3, T3Error, VoiceConditioning};
use crate::text::{TextError, TextFrontEnd};
use crate::vocoder::{Vocoder, exact};
use crate::voice::{Preparer, VoiceError, prompt_mel};
use crate::watermark::{Perth, PerthConfig};
use crate::weights::{Component, WeightSource, WeightsError, load};
use inputs::Inputs;
use sottovoce_formats::dtype::Dtype;
use sottovoce_formats::safetensors::{Entry, SafetensorsError, SafetensorsWriter};
use sottovoce_memory::{Memory, OutOfMemory, Owner, Region};
use sottovoce_tensor::{
    CachePrecision, Context, Device, DeviceError, Failure, Precision, Workspace,
};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why outputs could not be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParityError {
    /// The inputs are not a safetensors file.
    #[error("the inputs: {0}")]
    Inputs(#[from] SafetensorsError),
    /// The inputs could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Their file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Inputs that are not enough for any output.
    #[error(
        "the inputs hold {found}, from which no output can be computed: each output needs all of its inputs"
    )]
    Nothing {
        /// Their names.
        found: String,
    },
    /// An input of another shape or type.
    #[error("input {input} {reason}")]
    Input {
        /// Its name.
        input: String,
        /// The problem.
        reason: String,
    },
    /// The model could not be loaded.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The text could not be tokenised.
    #[error(transparent)]
    Text(#[from] TextError),
    /// T3 refused its inputs.
    #[error(transparent)]
    T3(#[from] T3Error),
    /// The voice networks failed.
    #[error(transparent)]
    Voice(#[from] VoiceError),
    /// Too little memory for activations.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The outputs could not be written.
    #[error("the outputs: {0}")]
    Write(#[from] io::Error),
}

/// Three frames of the x-vector, the fewest with a standard deviation after its stride of two.
const WAV_16K_MIN: usize = 720;

impl From<Failure> for ParityError {
    fn from(failure: Failure) -> ParityError {
        match failure {
            Failure::OutOfMemory(error) => ParityError::Memory(error),
            Failure::Device(error) => ParityError::Device(error),
        }
    }
}

fn enough(input: &str, count: usize, least: usize) -> Result<(), ParityError> {
    match count < least {
        true => Err(inputs::wrong(
            input,
            format!("has {count} values; at least {least} are needed"),
        )),
        false => Ok(()),
    }
}

enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

struct Output {
    name: &'static str,
    shape: Vec<usize>,
    values: Values,
}

fn floats(name: &'static str, shape: &[usize], values: Vec<f32>) -> Output {
    Output {
        name,
        shape: shape.to_vec(),
        values: Values::Floats(values),
    }
}

fn integers(name: &'static str, values: impl Iterator<Item = u32>) -> Output {
    let values: Vec<i64> = values.map(i64::from).collect();
    Output {
        name,
        shape: vec![values.len()],
        values: Values::Integers(values),
    }
}

/// Computes outputs with a model. Networks are loaded when an output needs them, and freed
/// afterwards.
pub struct Parity<'a> {
    /// The weights.
    pub source: &'a WeightSource,
    /// The device that computes.
    pub device: &'a dyn Device,
    /// The memory of weights and activations.
    pub memory: &'a Memory,
    /// T3's precision. The flow and the vocoder have at least 16 bits, the voice networks 32.
    pub precision: Precision,
}

impl Parity<'_> {
    /// As [`Parity::compute`], with the inputs from a file.
    ///
    /// # Errors
    /// As [`Parity::compute`], and the system's error about the file.
    pub fn compute_file(&self, path: &Path) -> Result<Vec<u8>, ParityError> {
        let mut file = Vec::new();
        sottovoce_formats::file::open(path)
            .and_then(|mut opened| opened.read_to_end(&mut file))
            .map_err(|source| ParityError::Read {
                path: path.to_owned(),
                source,
            })?;
        self.compute(&file)
    }

    /// Computes the outputs, as a safetensors file, from the inputs, as one.
    ///
    /// # Errors
    /// [`ParityError`] names the input, file or tensor at fault.
    pub fn compute(&self, file: &[u8]) -> Result<Vec<u8>, ParityError> {
        let inputs = Inputs::read(file)?;
        let mut outputs = Vec::new();
        self.voice(&inputs, &mut outputs)?;
        self.text(&inputs, &mut outputs)?;
        self.t3(&inputs, &mut outputs)?;
        self.flow(&inputs, &mut outputs)?;
        self.vocoder(&inputs, &mut outputs)?;
        self.watermark(&inputs, &mut outputs)?;
        if outputs.is_empty() {
            return Err(ParityError::Nothing {
                found: inputs.names(),
            });
        }
        write(&outputs)
    }

    fn config(&self) -> &ModelConfig {
        self.source.config()
    }

    fn voice(&self, inputs: &Inputs<'_>, outputs: &mut Vec<Output>) -> Result<(), ParityError> {
        if let Some(samples) = inputs.floats("wav_24k", &[None])? {
            let mel = &self.config().flow.prompt_mel;
            // The ends are mirrored by half of the difference of window and hop.
            let least = (mel.fft - mel.hop) / 2 + 1;
            enough("wav_24k", samples.len(), least)?;
            let frames = prompt_mel(&samples, mel);
            outputs.push(floats(
                "prompt_mel",
                &[frames.len() / mel.bands, mel.bands],
                frames,
            ));
        }
        let Some(samples) = inputs.floats("wav_16k", &[None])? else {
            return Ok(());
        };
        enough("wav_16k", samples.len(), WAV_16K_MIN)?;
        let preparer = Preparer::new(self.source, self.memory)?;
        let embedding = preparer.speaker_embedding(self.device, &samples)?;
        outputs.push(floats("speaker_embedding", &[embedding.len()], embedding));
        let tokens = preparer.speech_tokens(self.device, &[(&samples, None)])?;
        outputs.push(integers("speech_tokens", tokens.into_iter().flatten()));
        let vector = preparer.x_vector(self.device, &samples)?;
        outputs.push(floats("x_vector", &[vector.len()], vector));
        Ok(())
    }

    fn text(&self, inputs: &Inputs<'_>, outputs: &mut Vec<Output>) -> Result<(), ParityError> {
        if let Some(text) = inputs.text("tokens_text")? {
            enough("tokens_text", text.len(), 1)?;
            let front_end = TextFrontEnd::new(self.config(), self.source)?;
            let ids = front_end.ids(text, inputs.text("tokens_language")?)?;
            outputs.push(integers("text_ids", ids.into_iter()));
        }
        Ok(())
    }

    fn t3(&self, inputs: &Inputs<'_>, outputs: &mut Vec<Output>) -> Result<(), ParityError> {
        let config = &self.config().t3;
        // A model without an emotion input needs none.
        let emotion = match inputs.floats("emotion", &[Some(1)])? {
            None if !config.emotion => Some(vec![0.0]),
            emotion => emotion,
        };
        // The tokens to predict, or the number of tokens to decode.
        let input = match config.blocks {
            Some(_) => "block_token_count",
            None => "speech_in",
        };
        let (Some(text), Some(speech), Some(speaker), Some(prompt), Some(emotion)) = (
            inputs.tokens("text_tokens")?,
            inputs.tokens(input)?,
            inputs.floats("cond_speaker_embedding", &[Some(config.speaker_embedding)])?,
            inputs.tokens("cond_prompt_tokens")?,
            emotion,
        ) else {
            return Ok(());
        };
        enough(input, speech.len(), 1)?;
        let most = config.prompt_token_count_max;
        if prompt.len() > most {
            return Err(inputs::wrong(
                "cond_prompt_tokens",
                format!("has {} values; the model takes {most}", prompt.len()),
            ));
        }
        let text_token_count_max = self.source.config().text_token_count_max();
        let t3 = load(
            self.source,
            Component::T3,
            self.precision,
            self.memory,
            |loader| T3::load(loader, config, text_token_count_max),
        )?
        .network;
        let cache = match self.precision {
            Precision::F32 => CachePrecision::F32,
            Precision::F16 | Precision::Int8 | Precision::Q4 => CachePrecision::F16,
        };
        let store = t3.store(self.memory, cache, usize::MAX);
        let owner = Owner {
            region: Region::KeyValue,
            tag: "t3",
            stream: None,
        };
        let workspace = Workspace::pooled(self.memory, "t3");
        let context = Context::new(&workspace, self.device);
        let voice = VoiceConditioning {
            speaker_embedding: &speaker,
            prompt_tokens: &prompt,
        };
        let prefix = t3.prefix(&context, &store, owner, &voice, emotion[0])?;
        let mut state = t3.state(&store, owner, Arc::new(prefix));
        if let Some(blocks) = config.blocks {
            let prior = t3.block_prior(&context, &store, owner)?;
            // Whole blocks, so that all passes have as many places.
            let count = (speech[0] as usize).min(config.sampling.token_count_max);
            let count = count.next_multiple_of(blocks.size);
            let sampling = SamplingConfig {
                temperature: 0.0,
                ..config.sampling
            };
            let decoder = BlockDecoder::new(config, sampling, prior.into(), 0, count);
            let Some(mut decoder) = decoder else {
                return Ok(());
            };
            let (mut tokens, mut passes) = (Vec::new(), Vec::new());
            let mut first = Vec::new();
            let mut logits = {
                let block = decoder.next_pass().block;
                t3.begin_blocks(&context, &mut state, &text, block)?
            };
            loop {
                let values = context.download(&logits)?;
                let decided = decoder.take(&values, t3.rows());
                let vocabulary = config.speech_vocabulary;
                let rows = values.chunks_exact(values.len() / t3.rows());
                // Logits of a block's first place come from its first pass, for all its passes.
                match rows.len() * blocks.size * vocabulary == values.len() {
                    true => {
                        first = rows.flat_map(|row| &row[..vocabulary]).copied().collect();
                        passes.extend_from_slice(&values);
                    }
                    false => {
                        for (first, row) in first.chunks_exact(vocabulary).zip(rows) {
                            passes.extend_from_slice(first);
                            passes.extend_from_slice(row);
                        }
                    }
                }
                let ended = decided.as_ref().is_some_and(|decided| decided.ended);
                tokens.extend(decided.into_iter().flat_map(|decided| decided.tokens));
                if ended {
                    break;
                }
                let pass = decoder.next_pass();
                let passed = t3.block_pass(&context, &mut [&mut state], &[pass]);
                logits = passed.map_err(T3Error::from)?;
            }
            outputs.push(integers("block_tokens", tokens.into_iter()));
            let one = [t3.rows(), blocks.size, config.speech_vocabulary];
            let count = passes.len() / one.iter().product::<usize>();
            outputs.push(floats(
                "block_logits",
                &[count, one[0], one[1], one[2]],
                passes,
            ));
            return Ok(());
        }
        let logits = t3.teacher_forced(&context, &mut state, &text, &speech)?;
        let values = context.download(&logits)?;
        outputs.push(floats("t3_logits", logits.shape(), values));
        Ok(())
    }

    fn flow(&self, inputs: &Inputs<'_>, outputs: &mut Vec<Output>) -> Result<(), ParityError> {
        let config = &self.config().flow;
        let (bands, upsampling) = (config.mel_bands(), config.upsampling);
        let (Some(tokens), Some(prompt)) = (
            inputs.tokens("flow_tokens")?,
            inputs.tokens("flow_prompt_tokens")?,
        ) else {
            return Ok(());
        };
        let frames = (prompt.len() + tokens.len()) * upsampling;
        let known_frames = prompt.len() * upsampling;
        let (Some(known), Some(speaker), Some(noise)) = (
            inputs.floats("flow_prompt_mel", &[Some(known_frames), Some(bands)])?,
            inputs.floats("flow_x_vector", &[Some(config.speaker_vector)])?,
            inputs.floats("flow_noise", &[Some(bands), Some(frames)])?,
        ) else {
            return Ok(());
        };
        for (name, tokens) in [("flow_tokens", &tokens), ("flow_prompt_tokens", &prompt)] {
            if let Some(token) = tokens
                .iter()
                .find(|&&token| token as usize >= config.vocabulary)
            {
                return Err(inputs::wrong(
                    name,
                    format!(
                        "holds {token}, but the vocabulary has {}",
                        config.vocabulary
                    ),
                ));
            }
        }
        enough("flow_tokens", tokens.len(), 1)?;
        let flow = load(
            self.source,
            Component::Flow,
            sound_precision(self.precision),
            self.memory,
            |loader| Flow::load(loader, config),
        )?
        .network;
        let workspace = Workspace::pooled(self.memory, "flow");
        let context = Context::new(&workspace, self.device);
        let start = context.upload(&[frames, bands], &inputs::transposed(&noise, bands));
        let all: Vec<u32> = prompt.iter().chain(&tokens).copied().collect();
        let options = FlowOptions::of(config);
        let mel = flow.mel_from(&context, &all, &known, &speaker, start, options);
        let spoken = &context.download(mel.view().rows(known_frames..frames))?;
        outputs.push(floats(
            "mel",
            &[bands, frames - known_frames],
            inputs::transposed(spoken, frames - known_frames),
        ));
        Ok(())
    }

    fn watermark(&self, inputs: &Inputs<'_>, outputs: &mut Vec<Output>) -> Result<(), ParityError> {
        let Some(samples) = inputs.floats("watermark_in_32k", &[None])? else {
            return Ok(());
        };
        let perth = load(
            self.source,
            Component::Watermark,
            Precision::F32,
            self.memory,
            |loader| Perth::load(loader, &PerthConfig::default()),
        )?
        .network;
        let workspace = Workspace::pooled(self.memory, "watermark");
        let context = Context::new(&workspace, self.device);
        let marked = perth.embed(&context, &samples)?;
        outputs.push(floats("watermarked_32k", &[marked.len()], marked));
        Ok(())
    }

    fn vocoder(&self, inputs: &Inputs<'_>, outputs: &mut Vec<Output>) -> Result<(), ParityError> {
        let config = &self.config().vocoder;
        let bands = self.config().flow.mel_bands();
        let (per_frame, count) = (config.samples_per_frame(), config.source.harmonics + 1);
        let mel = inputs.floats("vocoder_mel", &[Some(bands), None])?;
        let f0 = inputs.floats("vocoder_f0", &[None])?;
        if mel.is_none() && f0.is_none() {
            return Ok(());
        }
        let vocoder = load(
            self.source,
            Component::Vocoder,
            sound_precision(self.precision),
            self.memory,
            |loader| Vocoder::load(loader, config, bands),
        )?
        .network;
        let workspace = Workspace::pooled(self.memory, "vocoder");
        let context = Context::new(&workspace, self.device);
        if let Some(mel) = mel {
            let frames = mel.len() / bands;
            if frames == 0 {
                return Err(inputs::wrong("vocoder_mel", "has no frame".into()));
            }
            let mel = context.upload(&[frames, bands], &inputs::transposed(&mel, bands));
            let f0 = vocoder.f0(&context, &mel);
            outputs.push(floats("f0", &[frames], context.download(&f0)?));
            if let Some(source) = inputs.floats("vocoder_source", &[Some(frames * per_frame)])? {
                let source = context.upload(&[frames * per_frame, 1], &source);
                let wav = vocoder.decode(&context, &mel, &source);
                let wav = context.download(&wav)?;
                outputs.push(floats("wav", &[wav.len()], wav));
            }
        }
        if let Some(f0) = f0 {
            let samples = f0.len() * per_frame;
            let (Some(phase), Some(noise)) = (
                inputs.floats("vocoder_phase", &[Some(count)])?,
                inputs.floats("vocoder_noise", &[Some(count), Some(samples)])?,
            ) else {
                return Ok(());
            };
            let harmonics = context.upload(
                &[samples, count],
                &exact::harmonics(config, &f0, &phase, &noise),
            );
            let source = vocoder.merge_source(&context, &harmonics);
            outputs.push(floats("source", &[samples], context.download(&source)?));
        }
        Ok(())
    }
}

fn write(outputs: &[Output]) -> Result<Vec<u8>, ParityError> {
    let entries: Vec<Entry> = (outputs.iter())
        .map(|output| {
            let dtype = match output.values {
                Values::Floats(_) => Dtype::F32,
                Values::Integers(_) => Dtype::I64,
            };
            Entry::new(output.name, dtype, &output.shape)
        })
        .collect();
    let mut writer = SafetensorsWriter::begin(Vec::new(), &entries, &[])?;
    for output in outputs {
        let bytes: Vec<u8> = match &output.values {
            Values::Floats(values) => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
            Values::Integers(values) => values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        };
        writer.tensor(output.name, &bytes)?;
    }
    Ok(writer.finish()?)
}
