//! Small models of each architecture for tests and fixtures. They keep the sizes that are constants
//! in the reference's code: 80 mel bands, the shape of the dense blocks, the S3 tokenizer's head
//! size of 64.

use super::*;

impl ModelConfig {
    /// Base's architecture, about 1 M parameters without the voice networks.
    pub fn tiny_base() -> ModelConfig {
        let base = ModelConfig::base();
        let t3 = T3Config {
            backbone: BackboneConfig {
                hidden: 64,
                layers: 2,
                heads: 2,
                head_size: 32,
                feed_forward: 128,
                ..base.t3.backbone
            },
            speech_vocabulary: 6563,
            positions: Some(PositionTables {
                text: 258,
                speech: 516,
            }),
            speaker_embedding: 32,
            perceiver: Some(PerceiverConfig {
                queries: 8,
                heads: 4,
            }),
            ..base.t3
        };
        ModelConfig {
            variant: Variant::Base,
            t3,
            flow: tiny_flow(base.flow),
            vocoder: tiny_vocoder(base.vocoder),
            voice: tiny_voice(base.voice),
            text: base.text,
        }
    }

    /// As [`ModelConfig::tiny_base`], decoding in blocks, with two mean-flow steps.
    pub fn tiny_flash() -> ModelConfig {
        let (flash, tiny) = (ModelConfig::flash(), ModelConfig::tiny_base());
        ModelConfig {
            variant: flash.variant,
            text: flash.text,
            t3: T3Config {
                speech_start_twice: flash.t3.speech_start_twice,
                sampling: flash.t3.sampling,
                blocks: flash.t3.blocks,
                ..tiny.t3
            },
            flow: tiny_flow(flash.flow),
            ..tiny
        }
    }

    /// As [`ModelConfig::tiny_base`], with the multilingual text vocabulary.
    pub fn tiny_multilingual() -> ModelConfig {
        let multilingual = ModelConfig::preset(Variant::Multilingual);
        let tiny = ModelConfig::tiny_base();
        ModelConfig {
            variant: multilingual.variant,
            text: multilingual.text,
            t3: T3Config {
                text_vocabulary: multilingual.t3.text_vocabulary,
                sampling: multilingual.t3.sampling,
                ..tiny.t3
            },
            ..tiny
        }
    }

    /// Turbo's architecture, about 1 M parameters without the voice networks.
    pub fn tiny_turbo() -> ModelConfig {
        let turbo = ModelConfig::turbo();
        let t3 = T3Config {
            backbone: BackboneConfig {
                hidden: 64,
                layers: 2,
                heads: 2,
                head_size: 32,
                feed_forward: 256,
                position_count_max: 1024,
                ..turbo.t3.backbone
            },
            text_vocabulary: 512,
            speaker_embedding: 32,
            ..turbo.t3
        };
        ModelConfig {
            variant: Variant::Turbo,
            t3,
            flow: tiny_flow(turbo.flow),
            vocoder: tiny_vocoder(turbo.vocoder),
            voice: tiny_voice(turbo.voice),
            text: turbo.text,
        }
    }
}

fn tiny_flow(official: FlowConfig) -> FlowConfig {
    FlowConfig {
        speaker_vector: 24,
        encoder: FlowEncoderConfig {
            hidden: 32,
            heads: 2,
            feed_forward: 64,
            layers: 2,
            ..official.encoder
        },
        decoder: FlowDecoderConfig {
            channels: 32,
            middle_stages: 2,
            blocks: 1,
            heads: 2,
            head_size: 16,
        },
        ..official
    }
}

fn tiny_vocoder(official: VocoderConfig) -> VocoderConfig {
    VocoderConfig {
        channels: 32,
        f0_channels: 16,
        ..official
    }
}

fn tiny_voice(official: VoiceConfig) -> VoiceConfig {
    VoiceConfig {
        encoder: VoiceEncoderConfig {
            hidden: 32,
            embedding: 32,
            ..official.encoder
        },
        tokenizer: SpeechTokenizerConfig {
            hidden: 128,
            heads: 2,
            layers: 2,
            ..official.tokenizer
        },
        speaker_vector: SpeakerVectorConfig {
            head_channels: 4,
            channels: 16,
            growth: 4,
            bottleneck: 16,
            embedding: 24,
            ..official.speaker_vector
        },
        ..official
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_models_of_the_reference_scripts_have_these_sizes() {
        for (json, preset) in [
            (
                include_str!("../../tests/fixtures/tiny-base.json"),
                ModelConfig::tiny_base(),
            ),
            (
                include_str!("../../tests/fixtures/tiny-flash.json"),
                ModelConfig::tiny_flash(),
            ),
            (
                include_str!("../../tests/fixtures/tiny-multilingual.json"),
                ModelConfig::tiny_multilingual(),
            ),
            (
                include_str!("../../tests/fixtures/tiny-turbo.json"),
                ModelConfig::tiny_turbo(),
            ),
        ] {
            assert_eq!(
                json.trim_end(),
                preset.to_json(),
                "the file must be what the preset writes"
            );
        }
    }
}
