//! A prepared voice and its file formats.

use super::VoiceError;
use crate::config::ModelConfig;
use sottovoce_formats::content::Content;
use sottovoce_formats::dtype::Dtype;
use sottovoce_formats::safetensors::{self, CHECKSUMS, CheckedWriter, DATA_ALIGNMENT, Entry};
use sottovoce_formats::torch_archive::TorchArchive;
use std::io::Cursor;

/// Metadata key of the version of a voice file's layout.
const LAYOUT_KEY: &str = "layout";
/// Version of the layout of voice files. Any change to the meaning of a part must increase it.
pub const VOICE_LAYOUT_VERSION: u32 = 1;

/// Everything derived from a reference recording.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PreparedVoice {
    /// Speaker embedding for T3, `[t3.speaker_embedding]`.
    pub speaker_embedding: Vec<f32>,
    /// Prompt tokens for T3.
    pub t3_prompt_tokens: Vec<u32>,
    /// Prompt tokens for the flow.
    pub flow_prompt_tokens: Vec<u32>,
    /// Prompt mel for the flow, `[upsampling · flow prompt tokens × bands]`.
    pub prompt_mel: Vec<f32>,
    /// Speaker vector for the flow, `[flow.speaker_vector]`.
    pub x_vector: Vec<f32>,
}

/// A part's name in this format and in the reference's `conds.pt`.
struct Part {
    name: &'static str,
    reference: &'static str,
}

const SPEAKER: Part = Part {
    name: "speaker_embedding",
    reference: "t3.speaker_emb",
};
const T3_PROMPT: Part = Part {
    name: "t3_prompt_tokens",
    reference: "t3.cond_prompt_speech_tokens",
};
const FLOW_PROMPT: Part = Part {
    name: "flow_prompt_tokens",
    reference: "gen.prompt_token",
};
const PROMPT_MEL: Part = Part {
    name: "prompt_mel",
    reference: "gen.prompt_feat",
};
const X_VECTOR: Part = Part {
    name: "x_vector",
    reference: "gen.embedding",
};

impl PreparedVoice {
    /// Reads a voice file that [`PreparedVoice::write`] or the reference (`conds.pt`) wrote, and
    /// checks it against a model.
    ///
    /// # Errors
    /// [`VoiceError`] names the part that is missing or belongs to another model.
    pub fn read(file: &[u8], config: &ModelConfig) -> Result<PreparedVoice, VoiceError> {
        let voice = if Content::of(file) == Content::Zip {
            PreparedVoice::read_torch(file)?
        } else {
            PreparedVoice::read_safetensors(file)?
        };
        voice.check(config)
    }

    fn read_safetensors(file: &[u8]) -> Result<PreparedVoice, VoiceError> {
        let header = safetensors::read_header(file)?;
        let layout = header.metadata.get(LAYOUT_KEY);
        let is_known = layout.is_some_and(|found| *found == VOICE_LAYOUT_VERSION.to_string());
        if !is_known || !header.metadata.contains_key(CHECKSUMS) {
            return Err(VoiceError::Layout {
                found: layout.cloned().unwrap_or_else(|| "none".into()),
                expected: VOICE_LAYOUT_VERSION,
            });
        }
        let find = |part: &Part| {
            let info = header
                .tensors
                .get(part.name)
                .ok_or_else(|| missing(part.name))?;
            info.check(part.name, file)?;
            Ok::<_, VoiceError>((info.dtype, &file[info.bytes.clone()]))
        };
        let floats = |part: &Part| {
            let (dtype, bytes) = find(part)?;
            if !dtype.is_float() {
                return Err(wrong(
                    part.name,
                    format!("holds {dtype}, not floating-point numbers"),
                ));
            }
            let mut values = vec![0.0; bytes.len() / dtype.size()];
            dtype.read_f32(bytes, &mut values);
            Ok(values)
        };
        let tokens = |part: &Part| {
            let (dtype, bytes) = find(part)?;
            let values = dtype
                .read_i64(bytes)
                .ok_or_else(|| wrong(part.name, format!("holds {dtype}, not integers")))?;
            as_tokens(part.name, &values)
        };
        Ok(PreparedVoice {
            speaker_embedding: floats(&SPEAKER)?,
            t3_prompt_tokens: tokens(&T3_PROMPT)?,
            flow_prompt_tokens: tokens(&FLOW_PROMPT)?,
            prompt_mel: floats(&PROMPT_MEL)?,
            x_vector: floats(&X_VECTOR)?,
        })
    }

    fn read_torch(file: &[u8]) -> Result<PreparedVoice, VoiceError> {
        let archive = TorchArchive::read(file)?;
        let find = |part: &Part| {
            archive
                .tensors()
                .get(part.reference)
                .ok_or_else(|| missing(part.reference))
        };
        let floats = |part: &Part| {
            Ok::<_, VoiceError>(
                find(part)?
                    .to_f32(file)
                    .map_err(|error| error.within(part.reference))?,
            )
        };
        let tokens = |part: &Part| {
            as_tokens(
                part.reference,
                &find(part)?
                    .to_i64(file)
                    .map_err(|error| error.within(part.reference))?,
            )
        };
        Ok(PreparedVoice {
            speaker_embedding: floats(&SPEAKER)?,
            t3_prompt_tokens: tokens(&T3_PROMPT)?,
            flow_prompt_tokens: tokens(&FLOW_PROMPT)?,
            prompt_mel: floats(&PROMPT_MEL)?,
            x_vector: floats(&X_VECTOR)?,
        })
    }

    /// Checks the voice against a model. Prompts are cut to the model's limit, as the reference
    /// cuts the recording; frames without tokens and tokens without frames are cut too.
    pub(super) fn check(mut self, config: &ModelConfig) -> Result<PreparedVoice, VoiceError> {
        let sized = |name: &str, found: usize, expected: usize| match found == expected {
            true => Ok(()),
            false => Err(wrong(
                name,
                format!(
                    "has {found} values where the model has {expected}; was it made for another model?"
                ),
            )),
        };
        sized(
            SPEAKER.name,
            self.speaker_embedding.len(),
            config.t3.speaker_embedding,
        )?;
        sized(
            X_VECTOR.name,
            self.x_vector.len(),
            config.flow.speaker_vector,
        )?;
        let (bands, upsampling) = (config.flow.mel_bands(), config.flow.upsampling);
        if !self.prompt_mel.len().is_multiple_of(bands) {
            return Err(wrong(
                PROMPT_MEL.name,
                format!(
                    "has {} values, not whole frames of {bands}",
                    self.prompt_mel.len()
                ),
            ));
        }
        let frames = self.prompt_mel.len() / bands;
        self.flow_prompt_tokens
            .truncate((frames / upsampling).min(config.flow_prompt_token_count_max()));
        self.prompt_mel
            .truncate(self.flow_prompt_tokens.len() * upsampling * bands);
        self.t3_prompt_tokens
            .truncate(config.t3_prompt_token_count_max());
        for (part, tokens, vocabulary) in [
            (
                T3_PROMPT,
                &self.t3_prompt_tokens,
                config.t3.speech_vocabulary,
            ),
            (
                FLOW_PROMPT,
                &self.flow_prompt_tokens,
                config.flow.vocabulary,
            ),
        ] {
            if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                return Err(wrong(
                    part.name,
                    format!("holds {token}, but the vocabulary has {vocabulary}"),
                ));
            }
        }
        for (part, values) in [
            (SPEAKER, &self.speaker_embedding),
            (PROMPT_MEL, &self.prompt_mel),
            (X_VECTOR, &self.x_vector),
        ] {
            if values.iter().any(|value| !value.is_finite()) {
                return Err(wrong(part.name, "holds a value that is not finite".into()));
            }
        }
        Ok(self)
    }

    /// The voice as a safetensors file.
    ///
    /// # Errors
    /// Never in memory; the type is the writer's.
    pub fn write(&self, config: &ModelConfig) -> Result<Vec<u8>, VoiceError> {
        let bands = config.flow.mel_bands();
        let floats = |values: &[f32]| {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect::<Vec<u8>>()
        };
        let tokens = |values: &[u32]| {
            values
                .iter()
                .flat_map(|&value| (value as i32).to_le_bytes())
                .collect::<Vec<u8>>()
        };
        let parts = [
            (
                Entry::new(SPEAKER.name, Dtype::F32, &[self.speaker_embedding.len()]),
                floats(&self.speaker_embedding),
            ),
            (
                Entry::new(T3_PROMPT.name, Dtype::I32, &[self.t3_prompt_tokens.len()]),
                tokens(&self.t3_prompt_tokens),
            ),
            (
                Entry::new(
                    FLOW_PROMPT.name,
                    Dtype::I32,
                    &[self.flow_prompt_tokens.len()],
                ),
                tokens(&self.flow_prompt_tokens),
            ),
            (
                Entry::new(
                    PROMPT_MEL.name,
                    Dtype::F32,
                    &[self.prompt_mel.len() / bands, bands],
                ),
                floats(&self.prompt_mel),
            ),
            (
                Entry::new(X_VECTOR.name, Dtype::F32, &[self.x_vector.len()]),
                floats(&self.x_vector),
            ),
        ];
        let entries: Vec<Entry> = parts.iter().map(|(entry, _)| entry.clone()).collect();
        let variant = config.variant.to_string();
        let layout = VOICE_LAYOUT_VERSION.to_string();
        let mut writer = CheckedWriter::begin(
            Cursor::new(Vec::new()),
            &entries,
            &[
                ("kind", "voice"),
                ("variant", &variant),
                (LAYOUT_KEY, &layout),
            ],
            DATA_ALIGNMENT,
        )?;
        for (entry, bytes) in &parts {
            writer.tensor(&entry.name, bytes)?;
        }
        Ok(writer.finish()?.into_inner())
    }
}

fn missing(tensor: &str) -> VoiceError {
    wrong(tensor, "is missing".into())
}

fn wrong(tensor: &str, reason: String) -> VoiceError {
    VoiceError::Tensor {
        tensor: tensor.into(),
        reason,
    }
}

fn as_tokens(name: &str, values: &[i64]) -> Result<Vec<u32>, VoiceError> {
    (values.iter())
        .map(|&value| {
            u32::try_from(value)
                .map_err(|_| wrong(name, format!("holds {value}, which is not a token")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Variant;

    fn voice(config: &ModelConfig) -> PreparedVoice {
        PreparedVoice {
            speaker_embedding: vec![0.1; config.t3.speaker_embedding],
            t3_prompt_tokens: vec![7; config.t3.prompt_token_count_max],
            flow_prompt_tokens: vec![9; 250],
            prompt_mel: vec![-4.0; 500 * config.flow.mel_bands()],
            x_vector: vec![0.2; config.flow.speaker_vector],
        }
    }

    #[test]
    fn a_written_voice_is_small_and_reads_as_it_was() {
        for config in [ModelConfig::base(), ModelConfig::nano()] {
            let voice = voice(&config);
            let file = voice.write(&config).unwrap();
            assert!(file.len() <= 200 << 10, "{} bytes", file.len());
            assert_eq!(PreparedVoice::read(&file, &config).unwrap(), voice);
        }
    }

    #[test]
    fn a_voice_of_another_layout_and_a_damaged_one_are_refused() {
        let config = ModelConfig::nano();
        let file = voice(&config).write(&config).unwrap();
        let refusal = |file: &[u8]| {
            let refused = PreparedVoice::read(file, &config).unwrap_err();
            refused.to_string()
        };
        let replaced = |from: &str, to: &str| {
            assert_eq!(from.len(), to.len());
            let mut file = file.clone();
            let at = file
                .windows(from.len())
                .position(|text| text == from.as_bytes())
                .unwrap();
            file[at..at + to.len()].copy_from_slice(to.as_bytes());
            file
        };
        for (from, to, found) in [
            ("\"layout\":\"1\"", "\"layout\":\"0\"", "layout is 0"),
            ("\"layout\":\"1\"", "\"l_yout\":\"1\"", "layout is none"),
            ("\"crc32\":", "\"crc_2\":", "prepare it again"),
        ] {
            let message = refusal(&replaced(from, to));
            assert!(message.contains(found), "{message}");
            assert!(message.contains("prepare it again"), "{message}");
        }
        let mut damaged = file.clone();
        let last = damaged.len() - 2;
        damaged[last] ^= 1;
        let message = refusal(&damaged);
        assert!(
            message.contains("x_vector") && message.contains("damaged"),
            "{message}"
        );
    }

    #[test]
    fn prompts_longer_than_the_models_are_cut() {
        let config = ModelConfig::base();
        let (whole, bands) = (voice(&config), config.flow.mel_bands());
        let longer = PreparedVoice {
            t3_prompt_tokens: vec![7; config.t3.prompt_token_count_max + 1],
            flow_prompt_tokens: vec![9; 5000],
            prompt_mel: vec![-4.0; 10_000 * bands],
            ..whole.clone()
        };
        assert_eq!(
            PreparedVoice::read(&longer.write(&config).unwrap(), &config).unwrap(),
            whole
        );
        let bare = ModelConfig {
            variant: Variant::Pico,
            ..config
        };
        let cut = longer.check(&bare).unwrap();
        assert!(
            cut.t3_prompt_tokens.is_empty()
                && cut.flow_prompt_tokens.is_empty()
                && cut.prompt_mel.is_empty(),
            "pico knows only the speaker"
        );
    }

    #[test]
    fn a_voice_without_prompt_is_a_voice() {
        let config = ModelConfig::nano();
        let bare = PreparedVoice {
            t3_prompt_tokens: vec![],
            flow_prompt_tokens: vec![],
            prompt_mel: vec![],
            ..voice(&config)
        };
        assert_eq!(
            PreparedVoice::read(&bare.write(&config).unwrap(), &config).unwrap(),
            bare
        );
    }

    #[test]
    fn a_voice_of_another_model_is_refused_by_part() {
        let file = voice(&ModelConfig::tiny_base())
            .write(&ModelConfig::tiny_base())
            .unwrap();
        let message = PreparedVoice::read(&file, &ModelConfig::base())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("speaker_embedding") && message.contains("256"),
            "{message}"
        );
        let config = ModelConfig::base();
        let foreign = PreparedVoice {
            flow_prompt_tokens: vec![70_000; 250],
            ..voice(&config)
        };
        let message = PreparedVoice::read(&foreign.write(&config).unwrap(), &config)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("flow_prompt_tokens") && message.contains("70000"),
            "{message}"
        );
    }
}
