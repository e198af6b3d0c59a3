//! The configuration of every network, stored as `config.json` beside the weights.
//!
//! Official model folders have no such file. They are recognised by the names of their weight files
//! and use [`ModelConfig::base`], [`ModelConfig::turbo`] or [`ModelConfig::nano`]. Converted and
//! small models have their own.

mod mel;
mod s3gen;
mod t3;
mod text;
mod tiny;
mod validate;
mod vocoder;
mod voice;

pub use mel::MelConfig;
pub use s3gen::{FlowConfig, FlowDecoderConfig, FlowEncoderConfig, FlowSolver};
pub use t3::{
    AttentionHead, BackboneConfig, BackboneKind, BlockConfig, PerceiverConfig, PositionTables,
    RopeConfig, RopeScaling, SamplingConfig, SamplingOrder, StatedHeads, T3Config,
};
pub use text::{LetterCase, Normalisation, TextConfig, TokenizerKind};
pub use validate::ConfigError;
pub(crate) use vocoder::{F0_KERNEL, OUTER_KERNEL};
pub use vocoder::{SourceConfig, VocoderConfig};
pub use voice::{
    PromptConfig, SpeakerVectorConfig, SpeechTokenizerConfig, VoiceConfig, VoiceEncoderConfig,
};

use crate::text::LANGUAGES;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A member of the model family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Llama backbone with guidance, emotion and perceiver; ten flow steps.
    Base,
    /// Base's backbone, decoding in blocks; two mean-flow steps.
    Flash,
    /// Base's networks with a text vocabulary for 23 languages, or a checkpoint fine-tuned to one
    /// language.
    Multilingual,
    /// GPT-2 medium backbone; two mean-flow steps.
    Turbo,
    /// GPT-2 small backbone; two mean-flow steps.
    Nano,
    /// The embedded model: nano's architecture at a fraction of its size.
    Pico,
}

impl fmt::Display for Variant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Variant::Base => "base",
            Variant::Flash => "flash",
            Variant::Multilingual => "multilingual",
            Variant::Turbo => "turbo",
            Variant::Nano => "nano",
            Variant::Pico => "pico",
        })
    }
}

/// The configuration of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The member of the family.
    pub variant: Variant,
    /// Text front end: characters to text tokens.
    pub text: TextConfig,
    /// T3: text tokens to speech tokens.
    pub t3: T3Config,
    /// S3Gen's flow: speech tokens to mel frames.
    pub flow: FlowConfig,
    /// Vocoder: mel frames to samples.
    pub vocoder: VocoderConfig,
    /// Voice preparation: a reference clip to a voice.
    pub voice: VoiceConfig,
}

impl ModelConfig {
    /// Chatterbox, English.
    pub fn base() -> ModelConfig {
        ModelConfig {
            variant: Variant::Base,
            text: TextConfig::base(),
            t3: T3Config::base(),
            flow: FlowConfig::base(),
            vocoder: VocoderConfig::official(),
            voice: VoiceConfig::base(),
        }
    }

    /// Chatterbox-Flash, English.
    pub fn flash() -> ModelConfig {
        ModelConfig {
            variant: Variant::Flash,
            text: TextConfig::flash(),
            t3: T3Config::flash(),
            flow: FlowConfig {
                silence_token_count: 0,
                ..FlowConfig::mean_flow()
            },
            ..ModelConfig::base()
        }
    }

    /// Chatterbox multilingual, for all its languages, or for those of a checkpoint fine-tuned to
    /// fewer.
    pub fn multilingual(languages: &[&str]) -> ModelConfig {
        ModelConfig {
            variant: Variant::Multilingual,
            text: TextConfig::multilingual(languages),
            t3: T3Config::multilingual(),
            ..ModelConfig::base()
        }
    }

    /// Chatterbox turbo.
    pub fn turbo() -> ModelConfig {
        ModelConfig {
            variant: Variant::Turbo,
            text: TextConfig::turbo(),
            t3: T3Config::turbo(),
            flow: FlowConfig::mean_flow(),
            vocoder: VocoderConfig::official(),
            voice: VoiceConfig::turbo(),
        }
    }

    /// Chatterbox nano: turbo with a smaller T3.
    pub fn nano() -> ModelConfig {
        ModelConfig {
            variant: Variant::Nano,
            t3: T3Config::nano(),
            ..ModelConfig::turbo()
        }
    }

    /// The official model of a variant. The embedded model has its own file, so [`Variant::Pico`]
    /// returns [`ModelConfig::tiny_turbo`], the smallest configuration of its architecture.
    pub fn preset(variant: Variant) -> ModelConfig {
        match variant {
            Variant::Base => ModelConfig::base(),
            Variant::Flash => ModelConfig::flash(),
            Variant::Multilingual => {
                let languages: Vec<&str> = LANGUAGES.iter().map(|(code, _)| *code).collect();
                ModelConfig::multilingual(&languages)
            }
            Variant::Turbo => ModelConfig::turbo(),
            Variant::Nano => ModelConfig::nano(),
            Variant::Pico => ModelConfig {
                variant: Variant::Pico,
                ..ModelConfig::tiny_turbo()
            },
        }
    }

    /// This model with the S3Gen and the vocoder of `sound`. Voices are then prepared by the
    /// networks of both: for T3 by the model's voice encoder, for the sound by `sound`'s networks.
    /// Length and loudness of the recording stay the model's.
    ///
    /// # Errors
    /// A sentence that says why they do not fit: other speech tokens, other rates, or a model with
    /// a sound of its own.
    pub fn with_sound_of(&self, sound: &ModelConfig) -> Result<ModelConfig, String> {
        if let Some(pico) = [self, sound]
            .into_iter()
            .find(|config| !config.has_prompts())
        {
            return Err(format!("{} speaks with its own sound only", pico.variant));
        }
        let code_digits = |config: &ModelConfig| config.voice.tokenizer.code_digits;
        let pairs = [
            ("speech tokens", self.flow.vocabulary, sound.flow.vocabulary),
            (
                "digits of a speech token",
                code_digits(self),
                code_digits(sound),
            ),
            (
                "speech tokens a second",
                self.flow.token_rate as usize,
                sound.flow.token_rate as usize,
            ),
            (
                "samples a second",
                self.sample_rate() as usize,
                sound.sample_rate() as usize,
            ),
        ];
        for (what, own, other) in pairs {
            if own != other {
                return Err(format!("it has {other} {what}, the model {own}"));
            }
        }
        let voice = VoiceConfig {
            tokenizer: sound.voice.tokenizer,
            speaker_vector: sound.voice.speaker_vector.clone(),
            ..self.voice.clone()
        };
        Ok(ModelConfig {
            flow: sound.flow,
            vocoder: sound.vocoder.clone(),
            voice,
            ..self.clone()
        })
    }

    /// Parses a config and checks every size in it.
    ///
    /// # Errors
    /// [`ConfigError`] names the field that is missing, unknown or out of range.
    pub fn from_json(json: &str) -> Result<ModelConfig, ConfigError> {
        let config: ModelConfig =
            serde_json::from_str(json).map_err(|error| ConfigError::Syntax {
                reason: error.to_string(),
            })?;
        config.validate()?;
        Ok(config)
    }

    /// The contents of `config.json`.
    #[expect(
        clippy::missing_panics_doc,
        reason = "numbers, strings and lists can always be serialised"
    )]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a config holds only numbers, strings and lists")
    }

    /// Output sample rate in Hz.
    pub fn sample_rate(&self) -> u32 {
        self.vocoder.sample_rate
    }

    /// Whether voices have a prompt: those of pico have only a speaker embedding.
    pub fn has_prompts(&self) -> bool {
        self.variant != Variant::Pico
    }

    /// Longest text of a sentence in tokens, with start and stop.
    pub fn text_token_count_max(&self) -> usize {
        self.text.token_count_max + 2
    }

    /// Longest prompt of a voice for T3, in tokens.
    pub fn t3_prompt_token_count_max(&self) -> usize {
        match self.has_prompts() {
            true => self.t3.prompt_token_count_max,
            false => 0,
        }
    }

    /// Longest prompt of a voice for the flow, in tokens.
    pub fn flow_prompt_token_count_max(&self) -> usize {
        match self.has_prompts() {
            true => {
                (self.voice.prompt.flow_seconds_max * self.flow.token_rate as f32).ceil() as usize
            }
            false => 0,
        }
    }

    /// Output samples per speech token.
    pub fn samples_per_token(&self) -> usize {
        self.flow.upsampling * self.vocoder.samples_per_frame()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_survive_json() {
        for config in [
            ModelConfig::base(),
            ModelConfig::turbo(),
            ModelConfig::nano(),
            ModelConfig::preset(Variant::Multilingual),
            ModelConfig::flash(),
            ModelConfig::tiny_base(),
            ModelConfig::tiny_flash(),
            ModelConfig::tiny_multilingual(),
            ModelConfig::tiny_turbo(),
            ModelConfig::preset(Variant::Pico),
        ] {
            let again = ModelConfig::from_json(&config.to_json()).expect("a preset is valid");
            assert_eq!(again, config);
        }
    }

    #[test]
    fn alignment_heads_are_the_configs_or_those_known_for_the_sizes() {
        let nano = ModelConfig::nano();
        assert!(nano.t3.alignment_heads().is_empty());
        let with = |heads: &str| {
            let stated = format!("\"alignment_heads\": {heads}, \"text_vocabulary\"");
            let json = nano.to_json().replacen("\"text_vocabulary\"", &stated, 1);
            ModelConfig::from_json(&json)
        };
        let config = with("[[4, 6], [3, 1]]").unwrap();
        let heads = [(4, 6), (3, 1)].map(|(layer, head)| AttentionHead { layer, head });
        assert_eq!(config.t3.alignment_heads(), heads);
        assert_eq!(ModelConfig::from_json(&config.to_json()).unwrap(), config);
        for (heads, words) in [
            ("[[999, 0]]", "t3.alignment_heads"),
            ("[[0, 999]]", "t3.alignment_heads"),
            ("[[0, 0], [0, 1], [0, 2], [0, 3], [0, 4]]", "at most 4"),
        ] {
            let message = with(heads).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        let turbo = ModelConfig::turbo();
        assert!(!turbo.t3.alignment_heads().is_empty());
        let mut flash = ModelConfig::flash();
        assert!(flash.t3.alignment_heads().is_empty());
        flash.t3.alignment_heads = config.t3.alignment_heads;
        assert!(ModelConfig::from_json(&flash.to_json()).is_err());
    }

    #[test]
    fn a_model_takes_the_sound_of_another_and_refuses_what_cannot_fit_by_name() {
        let (base, turbo) = (ModelConfig::base(), ModelConfig::turbo());
        let paired = base.with_sound_of(&turbo).unwrap();
        assert_eq!((&paired.t3, &paired.text), (&base.t3, &base.text));
        assert_eq!(
            (&paired.flow, &paired.vocoder),
            (&turbo.flow, &turbo.vocoder)
        );
        assert_eq!(paired.voice.prompt, base.voice.prompt);
        ModelConfig::from_json(&paired.to_json()).unwrap();
        let pico = ModelConfig::preset(Variant::Pico);
        let mut tokens = turbo.clone();
        tokens.flow.vocabulary = 4096;
        let mut rate = turbo.clone();
        rate.vocoder.sample_rate = 22_050;
        for (model, sound, words) in [
            (&base, &pico, "pico"),
            (&pico, &turbo, "pico"),
            (&base, &tokens, "4096 speech tokens"),
            (&base, &rate, "22050 samples a second"),
        ] {
            let refusal = model.with_sound_of(sound).unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
        }
    }

    #[test]
    fn official_models_have_960_samples_per_token() {
        assert_eq!(ModelConfig::base().samples_per_token(), 960);
        assert_eq!(ModelConfig::nano().samples_per_token(), 960);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let json = ModelConfig::base().to_json().replacen(
            "\"variant\"",
            "\"volume\": 3,\n  \"variant\"",
            1,
        );
        let error = ModelConfig::from_json(&json).expect_err("an unknown key must not be ignored");
        assert!(
            error.to_string().contains("volume"),
            "the message names the key: {error}"
        );
    }

    #[test]
    fn a_size_out_of_range_is_refused_by_name() {
        for (from, to, field) in [
            ("\"hidden\": 1024", "\"hidden\": 0", "t3.backbone.hidden"),
            (
                "\"hidden\": 1024",
                "\"hidden\": 1000000000000",
                "t3.backbone.hidden",
            ),
            ("\"upsampling\": 2", "\"upsampling\": 0", "flow.upsampling"),
            ("\"hop\": 480", "\"hop\": 0", "flow.prompt_mel.hop"),
        ] {
            let json = ModelConfig::base().to_json();
            assert!(json.contains(from), "{from} stands in the config");
            let error = ModelConfig::from_json(&json.replace(from, to))
                .expect_err("a size out of range must be refused");
            assert!(
                error.to_string().contains(field),
                "{error} must name {field}"
            );
        }
    }

    #[test]
    fn a_vocoder_that_would_not_upsample_last_is_refused() {
        let mut config = ModelConfig::turbo();
        config.vocoder.upsampling = vec![8, 15, 1];
        let error = ModelConfig::from_json(&config.to_json()).expect_err("the last factor is 1");
        assert!(
            error.to_string().contains("vocoder.upsampling[2]"),
            "{error}"
        );
    }
}
