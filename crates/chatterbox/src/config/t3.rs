//! T3, the token-to-token transformer, and how its tokens are drawn.

use serde::{Deserialize, Serialize};

/// The transformer family of T3's backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackboneKind {
    /// RMS norms, rotary positions, SiLU-gated feed-forward, no biases.
    Llama,
    /// Layer norms, learned absolute positions (`wpe`), GELU (tanh form), biases everywhere;
    /// weights stored `[in, out]`.
    Gpt2,
}

/// Llama 3's stretching of rotary wavelengths.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// How much slower long wavelengths turn.
    pub factor: f32,
    /// Wavelengths above `original_positions / low_frequency_factor` are stretched in full.
    pub low_frequency_factor: f32,
    /// Wavelengths below `original_positions / high_frequency_factor` stay.
    pub high_frequency_factor: f32,
    /// The context length before stretching.
    pub original_positions: usize,
}

/// Rotary position embedding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeConfig {
    /// Base of the wavelengths.
    pub theta: f32,
    /// Stretching, if any.
    pub scaling: Option<RopeScaling>,
}

/// The decoder stack.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneConfig {
    /// Llama or GPT-2.
    pub kind: BackboneKind,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; keys and values have as many.
    pub heads: usize,
    /// Width of one head.
    pub head_size: usize,
    /// Inner width of the feed-forward part.
    pub feed_forward: usize,
    /// Epsilon of its norms.
    pub norm_epsilon: f32,
    /// Longest sequence it can take; for GPT-2 the rows of `wpe`.
    pub position_count_max: usize,
    /// Rotary positions (Llama only).
    pub rope: Option<RopeConfig>,
}

/// The resampler that turns prompt tokens into a fixed number of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerceiverConfig {
    /// Learned query vectors, and so output vectors.
    pub queries: usize,
    /// Attention heads.
    pub heads: usize,
}

/// Learned position tables added to the embeddings, beside the backbone's own positions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionTables {
    /// Rows for text.
    pub text: usize,
    /// Rows for speech, counted from 0 at the start token; prompt tokens count from 0 in it too.
    pub speech: usize,
}

/// In which order the logits are changed before a token is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplingOrder {
    /// Guidance, repetition penalty (the start token counts), temperature, min-p, top-p.
    PenaltyFirst,
    /// Temperature, top-k, top-p, then repetition penalty (the start token counts in the first step
    /// only).
    PenaltyLast,
    /// Guidance, temperature, repetition penalty (the start token counts), top-p: the order of the
    /// streaming fork.
    TemperatureFirst,
}

/// The reference's sampling defaults for a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// The order of the steps.
    pub order: SamplingOrder,
    /// Logits are divided by it.
    pub temperature: f32,
    /// How many of the likeliest tokens stay; 0 keeps all.
    pub top_k: usize,
    /// The mass that stays, likeliest first; 1 keeps all.
    pub top_p: f32,
    /// Tokens less likely than this share of the likeliest go; 0 keeps all.
    pub min_p: f32,
    /// Logits of tokens already drawn are divided (positive) or multiplied (negative) by it.
    pub repetition_penalty: f32,
    /// Weight of classifier-free guidance; used only by models that have it.
    pub guidance: f32,
    /// Emotion input; used only by models that have it.
    pub exaggeration: f32,
    /// The most speech tokens of one run.
    pub token_count_max: usize,
}

/// T3: text tokens and a voice in, speech tokens out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct T3Config {
    /// The decoder stack.
    pub backbone: BackboneConfig,
    /// Rows of the text embedding.
    pub text_vocabulary: usize,
    /// Rows of the speech embedding and of the head.
    pub speech_vocabulary: usize,
    /// Text start and stop tokens put around the text; `None`: the text stands alone.
    pub text_start_stop: Option<(u32, u32)>,
    /// The token that starts speech.
    pub speech_start: u32,
    /// The token that ends speech.
    pub speech_stop: u32,
    /// Whether the start token occurs twice, both at speech position 0, as in the base model's
    /// inference.
    pub speech_start_twice: bool,
    /// Learned tables (base) or none.
    pub positions: Option<PositionTables>,
    /// Width of the speaker embedding.
    pub speaker_embedding: usize,
    /// The most prompt tokens that condition T3.
    pub prompt_token_count_max: usize,
    /// The resampler over prompt tokens (base) or none (they stand in the sequence themselves).
    pub perceiver: Option<PerceiverConfig>,
    /// Whether there is an emotion input.
    pub emotion: bool,
    /// Whether the speech head has a bias.
    pub speech_head_bias: bool,
    /// Whether a second, unconditional row runs beside the first.
    pub classifier_free_guidance: bool,
    /// How tokens are drawn unless the caller says otherwise.
    pub sampling: SamplingConfig,
}

impl T3Config {
    pub(super) fn base() -> T3Config {
        T3Config {
            backbone: BackboneConfig {
                kind: BackboneKind::Llama,
                hidden: 1024,
                layers: 30,
                heads: 16,
                head_size: 64,
                feed_forward: 4096,
                norm_epsilon: 1e-5,
                position_count_max: 131_072,
                rope: Some(RopeConfig {
                    theta: 500_000.0,
                    scaling: Some(RopeScaling {
                        factor: 8.0,
                        low_frequency_factor: 1.0,
                        high_frequency_factor: 4.0,
                        original_positions: 8192,
                    }),
                }),
            },
            text_vocabulary: 704,
            speech_vocabulary: 8194,
            text_start_stop: Some((255, 0)),
            speech_start: 6561,
            speech_stop: 6562,
            speech_start_twice: true,
            positions: Some(PositionTables {
                text: 2050,
                speech: 4100,
            }),
            speaker_embedding: 256,
            prompt_token_count_max: 150,
            perceiver: Some(PerceiverConfig {
                queries: 32,
                heads: 4,
            }),
            emotion: true,
            speech_head_bias: false,
            classifier_free_guidance: true,
            sampling: SamplingConfig {
                order: SamplingOrder::PenaltyFirst,
                temperature: 0.8,
                top_k: 0,
                top_p: 1.0,
                min_p: 0.05,
                repetition_penalty: 1.2,
                guidance: 0.5,
                exaggeration: 0.5,
                token_count_max: 1000,
            },
        }
    }

    pub(super) fn turbo() -> T3Config {
        T3Config {
            backbone: BackboneConfig {
                kind: BackboneKind::Gpt2,
                hidden: 1024,
                layers: 24,
                heads: 16,
                head_size: 64,
                feed_forward: 4096,
                norm_epsilon: 1e-5,
                position_count_max: 8196,
                rope: None,
            },
            text_vocabulary: 50_276,
            speech_vocabulary: 6563,
            text_start_stop: None,
            speech_start: 6561,
            speech_stop: 6562,
            speech_start_twice: false,
            positions: None,
            speaker_embedding: 256,
            prompt_token_count_max: 375,
            perceiver: None,
            emotion: false,
            speech_head_bias: true,
            classifier_free_guidance: false,
            sampling: SamplingConfig {
                order: SamplingOrder::PenaltyLast,
                temperature: 0.8,
                top_k: 1000,
                top_p: 0.95,
                min_p: 0.0,
                repetition_penalty: 1.2,
                guidance: 0.0,
                exaggeration: 0.0,
                token_count_max: 1000,
            },
        }
    }

    pub(super) fn nano() -> T3Config {
        let turbo = T3Config::turbo();
        T3Config {
            backbone: BackboneConfig {
                hidden: 768,
                layers: 12,
                heads: 12,
                feed_forward: 3072,
                ..turbo.backbone
            },
            ..turbo
        }
    }
}
