//! Who speaks.

use crate::error::Error;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::noise::Noise;
use sottovoce_chatterbox::s3gen::FlowVoice;
use sottovoce_chatterbox::t3::Prefix;
use sottovoce_chatterbox::voice::PreparedVoice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where a voice comes from.
#[derive(Clone, Debug)]
pub enum VoiceSource {
    /// The voice that comes with the model.
    Default,
    /// A voice prepared under a name.
    Name(String),
    /// A prepared voice's file (`.safetensors`, or the reference's `conds.pt`).
    Prepared(PathBuf),
    /// A recording to take the voice from: wav, flac, mp3 or ogg.
    Clip(PathBuf),
    /// The same, already in memory; the name is for messages.
    ClipBytes {
        /// What to call it in messages.
        name: String,
        /// The file's bytes.
        bytes: Vec<u8>,
    },
}

/// Everything derived from a reference recording; cheap to clone.
#[derive(Clone)]
pub struct Voice {
    pub(crate) inner: Arc<VoiceInner>,
}

pub(crate) struct VoiceInner {
    pub name: String,
    /// The voice encoder's embedding.
    pub speaker_embedding: Vec<f32>,
    /// Speech tokens for T3.
    pub prompt_tokens: Vec<u32>,
    pub flow: Arc<FlowVoice>,
    /// The model for which it was prepared from a recording.
    config: Option<Arc<ModelConfig>>,
    /// T3's keys and values of the conditioning, by exaggeration: a cache.
    prefixes: Mutex<Vec<(f32, Arc<Prefix>)>>,
}

impl VoiceInner {
    pub fn new(
        name: String,
        speaker_embedding: Vec<f32>,
        prompt_tokens: Vec<u32>,
        flow: FlowVoice,
    ) -> VoiceInner {
        VoiceInner {
            name,
            speaker_embedding,
            prompt_tokens,
            flow: Arc::new(flow),
            config: None,
            prefixes: Mutex::default(),
        }
    }

    pub fn prefixes(&self) -> MutexGuard<'_, Vec<(f32, Arc<Prefix>)>> {
        self.prefixes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Voice {
    pub(crate) fn new(inner: VoiceInner) -> Voice {
        Voice {
            inner: Arc::new(inner),
        }
    }

    /// A made-up voice with prompts as long as the model takes them, for random weights.
    pub(crate) fn random(config: &ModelConfig, prompts: bool) -> Voice {
        let noise = Noise::new(1);
        let numbers = |row: u64, count: usize| -> Vec<f32> {
            (0..count as u64)
                .map(|column| noise.normal(row, column))
                .collect()
        };
        let tokens = |row: u64, count: usize| -> Vec<u32> {
            (0..count as u64)
                .map(|column| (noise.uniform(row, column) * config.flow.vocabulary as f32) as u32)
                .collect()
        };
        let seconds = config.voice.prompt.flow_seconds_max;
        let flow_tokens = if prompts {
            (seconds * config.flow.token_rate as f32) as usize
        } else {
            0
        };
        let flow = FlowVoice {
            prompt_tokens: tokens(1, flow_tokens),
            prompt_mel: numbers(
                2,
                flow_tokens * config.flow.upsampling * config.flow.mel_bands(),
            ),
            speaker_vector: numbers(3, config.flow.speaker_vector),
        };
        let prompt_tokens = tokens(
            4,
            if prompts {
                config.t3.prompt_token_count_max
            } else {
                0
            },
        );
        Voice::new(VoiceInner::new(
            "default".into(),
            unit(numbers(0, config.t3.speaker_embedding)),
            prompt_tokens,
            flow,
        ))
    }

    pub(crate) fn is_same(&self, other: &Voice) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The voice's name or file, for people.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// A voice like this one with its speaker changed a little, the same for the same seed: for trying many voices.
    pub fn varied(&self, seed: u64) -> Voice {
        let noise = Noise::new(seed);
        let inner = &self.inner;
        let vary = |values: &[f32], row: u64| -> Vec<f32> {
            let size = (values.iter().map(|value| value * value).sum::<f32>()
                / values.len().max(1) as f32)
                .sqrt();
            values
                .iter()
                .zip(0..)
                .map(|(value, column)| value + 0.1 * size * noise.normal(row, column))
                .collect()
        };
        let flow = FlowVoice {
            speaker_vector: vary(&inner.flow.speaker_vector, 1),
            ..(*inner.flow).clone()
        };
        let name = format!("{} ({seed})", inner.name);
        Voice::new(VoiceInner::new(
            name,
            unit(vary(&inner.speaker_embedding, 0)),
            inner.prompt_tokens.clone(),
            flow,
        ))
    }

    /// What was prepared from a recording, as a voice.
    pub(crate) fn prepared(name: String, prepared: PreparedVoice, config: &ModelConfig) -> Voice {
        let flow = FlowVoice {
            prompt_tokens: prepared.flow_prompt_tokens,
            prompt_mel: prepared.prompt_mel,
            speaker_vector: prepared.x_vector,
        };
        let mut inner = VoiceInner::new(
            name,
            prepared.speaker_embedding,
            prepared.t3_prompt_tokens,
            flow,
        );
        inner.config = Some(Arc::new(config.clone()));
        Voice::new(inner)
    }

    /// Writes the voice to a file from which [`VoiceSource::Prepared`] takes it again.
    ///
    /// # Errors
    /// If the voice has no recording behind it, or the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let inner = &self.inner;
        let failed = |reason: String| Error::Voice {
            name: inner.name.clone(),
            reason,
        };
        let config = inner.config.as_ref().ok_or_else(|| {
            failed("it belongs to the model and has no recording behind it".into())
        })?;
        let prepared = PreparedVoice {
            speaker_embedding: inner.speaker_embedding.clone(),
            t3_prompt_tokens: inner.prompt_tokens.clone(),
            flow_prompt_tokens: inner.flow.prompt_tokens.clone(),
            prompt_mel: inner.flow.prompt_mel.clone(),
            x_vector: inner.flow.speaker_vector.clone(),
        };
        let bytes = prepared
            .write(config)
            .map_err(|error| failed(error.to_string()))?;
        std::fs::write(path, bytes).map_err(|source| Error::file(path, source))
    }
}

fn unit(mut values: Vec<f32>) -> Vec<f32> {
    let length = values
        .iter()
        .map(|value| value * value)
        .sum::<f32>()
        .sqrt()
        .max(f32::MIN_POSITIVE);
    values.iter_mut().for_each(|value| *value /= length);
    values
}
