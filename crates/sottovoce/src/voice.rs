//! Voices.

use crate::accounts::VoicePlace;
use crate::error::Error;
use crate::holdings::Holdings;
use crate::plan::whole_pages;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::s3gen::FlowVoice;
use sottovoce_chatterbox::t3::Prefix;
use sottovoce_chatterbox::voice::PreparedVoice;
use sottovoce_formats::output::write_whole;
use sottovoce_memory::{Memory, OutOfMemory, Owner, Region};
use sottovoce_tensor::{Noise, Vector};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Name of the model's own voice, unless a voice of this name was prepared.
pub const DEFAULT_VOICE: &str = "default";

/// Source of a voice.
#[derive(Clone, Debug)]
pub enum VoiceSource {
    /// The model's default voice.
    Default,
    /// A voice prepared under a name, or [`DEFAULT_VOICE`].
    Name(String),
    /// A prepared voice's file (`.safetensors`, or the reference's `conds.pt`).
    Prepared(PathBuf),
    /// A reference recording: wav, flac, mp3 or ogg.
    Clip(PathBuf),
    /// A reference recording in memory.
    ClipBytes {
        /// Its name in messages.
        name: String,
        /// The file's bytes.
        bytes: Vec<u8>,
    },
}

/// Everything derived from a reference recording. Cloning is cheap.
#[derive(Clone)]
pub struct Voice {
    pub(crate) inner: Arc<VoiceInner>,
}

pub(crate) struct VoiceInner {
    pub name: String,
    /// Output of the voice encoder.
    pub speaker_embedding: Vector,
    /// Speech tokens for T3.
    pub prompt_tokens: Vec<u32>,
    pub flow: Arc<FlowVoice>,
    /// Config of the model for which it was prepared from a recording.
    config: Option<Arc<ModelConfig>>,
    /// As [`VoiceParts::may_be_kept`].
    pub may_be_kept: bool,
    /// T3's cached keys and values of the conditioning, by exaggeration.
    prefixes: Mutex<Vec<(f32, Arc<Prefix>)>>,
    /// Its share of the budget, unless it is part of the plan.
    _place: Option<VoicePlace>,
    returns: ReturnsMemory,
}

/// Returns the voice's memory to the driver of its engine at once, even if other streams are
/// running. It must be the last field: when it is dropped, the voice's memory is free already.
struct ReturnsMemory(Weak<Holdings>);

impl Drop for ReturnsMemory {
    fn drop(&mut self) {
        if let Some(holdings) = self.0.upgrade() {
            drop(holdings.open());
        }
    }
}

/// A voice before it is placed in the engine's memory.
pub(crate) struct VoiceParts {
    pub name: String,
    pub prepared: PreparedVoice,
    /// Config of the model for which it was prepared from a recording.
    pub config: Option<Arc<ModelConfig>>,
    /// Whether what is derived from it may stay on disk: it, or its recording, is there already.
    pub may_be_kept: bool,
}

impl VoiceParts {
    /// Reads a prepared voice's file; the voice is named after it.
    pub fn read(path: &Path, config: &ModelConfig) -> Result<VoiceParts, Error> {
        VoiceParts::of_file(path.display().to_string(), &read_limited(path)?, config)
    }

    /// Parses the bytes of a prepared voice's file.
    pub fn of_file(name: String, file: &[u8], config: &ModelConfig) -> Result<VoiceParts, Error> {
        match PreparedVoice::read(file, config) {
            Ok(prepared) => Ok(VoiceParts {
                name,
                prepared,
                config: Some(Arc::new(config.clone())),
                may_be_kept: true,
            }),
            Err(error) => Err(Error::Voice {
                name,
                reason: error.to_string(),
            }),
        }
    }

    /// Bytes of the voice once placed.
    pub fn bytes(&self) -> u64 {
        let prepared = &self.prepared;
        let numbers = [
            &prepared.speaker_embedding,
            &prepared.prompt_mel,
            &prepared.x_vector,
        ];
        whole_pages(
            numbers
                .map(|part| Vector::bytes_for(part.len()) as u64)
                .iter()
                .sum(),
        )
    }

    /// Places the voice in `memory`, whose driver must be open. `holdings` are its engine's, if
    /// it has one.
    pub fn keep(
        self,
        memory: &Memory,
        place: Option<VoicePlace>,
        holdings: Weak<Holdings>,
    ) -> Result<Voice, OutOfMemory> {
        let prepared = self.prepared;
        let parts: [&[f32]; 3] = [
            &prepared.speaker_embedding,
            &prepared.prompt_mel,
            &prepared.x_vector,
        ];
        let owner = Owner::new(Region::Voice, "voice");
        let mut numbers = Vector::together(memory, owner, &parts)?;
        let [speaker_embedding, prompt_mel, speaker_vector] =
            [0; 3].map(|first| numbers.remove(first));
        Ok(Voice {
            inner: Arc::new(VoiceInner {
                name: self.name,
                speaker_embedding,
                prompt_tokens: prepared.t3_prompt_tokens,
                flow: Arc::new(FlowVoice {
                    prompt_tokens: prepared.flow_prompt_tokens,
                    prompt_mel,
                    speaker_vector,
                }),
                config: self.config,
                may_be_kept: self.may_be_kept,
                prefixes: Mutex::default(),
                _place: place,
                returns: ReturnsMemory(holdings),
            }),
        })
    }
}

impl VoiceInner {
    /// A copy of all data derived from the recording.
    fn prepared(&self) -> PreparedVoice {
        PreparedVoice {
            speaker_embedding: self.speaker_embedding.data().to_vec(),
            t3_prompt_tokens: self.prompt_tokens.clone(),
            flow_prompt_tokens: self.flow.prompt_tokens.clone(),
            prompt_mel: self.flow.prompt_mel.data().to_vec(),
            x_vector: self.flow.speaker_vector.data().to_vec(),
        }
    }

    pub fn prefixes(&self) -> MutexGuard<'_, Vec<(f32, Arc<Prefix>)>> {
        self.prefixes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VoiceParts {
    /// A random voice with the longest prompts that the model accepts, for random weights.
    pub fn random(config: &ModelConfig) -> VoiceParts {
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
        let flow_tokens = config.flow_prompt_token_count_max();
        let t3_tokens = config.t3_prompt_token_count_max();
        VoiceParts {
            name: "default".into(),
            prepared: PreparedVoice {
                speaker_embedding: unit(numbers(0, config.t3.speaker_embedding)),
                t3_prompt_tokens: tokens(4, t3_tokens),
                flow_prompt_tokens: tokens(1, flow_tokens),
                prompt_mel: numbers(
                    2,
                    flow_tokens * config.flow.upsampling * config.flow.mel_bands(),
                ),
                x_vector: numbers(3, config.flow.speaker_vector),
            },
            config: None,
            may_be_kept: false,
        }
    }

    /// A variation of `voice` with a slightly changed speaker, deterministic in `seed`.
    pub fn varied(voice: &Voice, seed: u64) -> VoiceParts {
        let noise = Noise::new(seed);
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
        let inner = &voice.inner;
        let prepared = inner.prepared();
        VoiceParts {
            name: format!("{} ({seed})", inner.name),
            prepared: PreparedVoice {
                speaker_embedding: unit(vary(&prepared.speaker_embedding, 0)),
                x_vector: vary(&prepared.x_vector, 1),
                ..prepared
            },
            config: None,
            may_be_kept: false,
        }
    }
}

impl Voice {
    /// The voice's name or file, for messages.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Whether the voice belongs to the engine of `holdings`; it can be used with that engine's
    /// ledger and weights only.
    pub(crate) fn is_at(&self, holdings: &Arc<Holdings>) -> bool {
        self.inner.returns.0.as_ptr() == Arc::as_ptr(holdings)
    }

    /// Saves the voice to a file for [`VoiceSource::Prepared`].
    ///
    /// # Errors
    /// If the voice was not made from a recording, or the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let inner = &self.inner;
        let failed = |reason: String| Error::Voice {
            name: inner.name.clone(),
            reason,
        };
        let config = inner.config.as_ref().ok_or_else(|| {
            failed("it belongs to the model and has no recording behind it".into())
        })?;
        let bytes = inner
            .prepared()
            .write(config)
            .map_err(|error| failed(error.to_string()))?;
        write_whole(path, &bytes).map_err(|source| Error::file(path, source))
    }
}

/// Largest file of a prepared voice.
const VOICE_FILE_BYTES_MAX: u64 = 256 << 20;

fn read_limited(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::file(path, source);
    let file = sottovoce_formats::file::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(VOICE_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > VOICE_FILE_BYTES_MAX {
        return Err(Error::Voice {
            name: path.display().to_string(),
            reason: format!("the file is longer than {VOICE_FILE_BYTES_MAX} bytes"),
        });
    }
    Ok(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;
    use sottovoce_memory::pages::PagePool;

    #[test]
    fn a_voice_gives_its_memory_back_as_it_goes_while_the_driver_is_sealed() {
        let memory = Memory::host(1 << 30);
        let pages = PagePool::new(&memory, 4096, 4);
        let holdings = Arc::new(Holdings::new(memory, None, pages));
        let parts = VoiceParts::random(&ModelConfig::tiny_base());
        let bytes = parts.bytes();
        let voice = {
            let _open = holdings.open();
            let engine = Arc::downgrade(&holdings);
            parts.keep(holdings.memory(), None, engine).unwrap()
        };
        assert_eq!(holdings.look().1.reserved_bytes, bytes);
        drop(voice);
        assert_eq!(holdings.look().1.reserved_bytes, 0);
        let refused = holdings
            .memory()
            .reserve_exact(4096, Owner::new(Region::Voice, "test"));
        assert!(refused.is_err(), "the driver is sealed again");
    }

    #[test]
    fn a_file_too_long_for_a_voice_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long.safetensors");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(VOICE_FILE_BYTES_MAX + 1).unwrap();
        let refused = VoiceParts::read(&path, &ModelConfig::tiny_base());
        let message = refused.err().unwrap().to_string();
        assert!(
            message.contains("long.safetensors") && message.contains("268435456"),
            "{message}"
        );
    }
}
