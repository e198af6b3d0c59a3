//! Configuration of T3, the token-to-token transformer, and of its sampling.

use serde::{Deserialize, Serialize};

/// Transformer family of T3's backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackboneKind {
    /// RMS norms, rotary positions, SiLU-gated feed-forward layers, no biases.
    Llama,
    /// Layer norms, learned absolute positions (`wpe`), GELU (tanh form), biases everywhere;
    /// weights stored `[in, out]`.
    Gpt2,
}

/// Llama 3's scaling of rotary wavelengths.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// Factor of the longest wavelengths.
    pub factor: f32,
    /// Wavelengths above `original_positions / low_frequency_factor` are scaled in full.
    pub low_frequency_factor: f32,
    /// Wavelengths below `original_positions / high_frequency_factor` are unchanged.
    pub high_frequency_factor: f32,
    /// Context length before scaling.
    pub original_positions: usize,
}

/// Rotary position embedding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeConfig {
    /// Base of the wavelengths.
    pub theta: f32,
    /// Scaling, if any.
    pub scaling: Option<RopeScaling>,
}

/// The transformer's decoder stack.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneConfig {
    /// Llama or GPT-2.
    pub kind: BackboneKind,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Number of attention heads; keys and values have as many.
    pub heads: usize,
    /// Width of a head.
    pub head_size: usize,
    /// Inner width of the feed-forward layers.
    pub feed_forward: usize,
    /// Epsilon of the norms.
    pub norm_epsilon: f32,
    /// Longest sequence; the rows of `wpe` for GPT-2.
    pub position_count_max: usize,
    /// Rotary positions (Llama only).
    pub rope: Option<RopeConfig>,
}

/// The resampler of prompt tokens to a fixed number of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerceiverConfig {
    /// Number of learned queries, and so of output vectors.
    pub queries: usize,
    /// Number of attention heads.
    pub heads: usize,
}

/// Learned position tables added to the embeddings, in addition to the backbone's positions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionTables {
    /// Rows for text.
    pub text: usize,
    /// Rows for speech, counted from 0 at the start token; prompt tokens also count from 0.
    pub speech: usize,
}

/// Order of the logit processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplingOrder {
    /// Guidance, repetition penalty (including the start token), temperature, min-p, top-p.
    PenaltyFirst,
    /// Temperature, top-k, top-p, then repetition penalty (including the start token in the first
    /// step only).
    PenaltyLast,
    /// Guidance, temperature, repetition penalty (including the start token), top-p: the order of
    /// the streaming fork.
    TemperatureFirst,
}

/// A model's sampling defaults, those of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// Order of the logit processors.
    pub order: SamplingOrder,
    /// Divisor of the logits.
    pub temperature: f32,
    /// Number of most likely tokens kept; 0 keeps all.
    pub top_k: usize,
    /// Probability mass kept, most likely tokens first; 1 keeps all.
    pub top_p: f32,
    /// Tokens below this share of the largest probability are dropped; 0 keeps all.
    pub min_p: f32,
    /// Logits of tokens already drawn are divided (positive) or multiplied (negative) by it.
    pub repetition_penalty: f32,
    /// Weight of classifier-free guidance, for models that use it.
    pub guidance: f32,
    /// Emotion input, for models that have it.
    pub exaggeration: f32,
    /// Limit of speech tokens per run.
    pub token_count_max: usize,
}

/// Decoding of speech in blocks: all tokens of a block start as mask tokens, and each pass of the
/// backbone decides some of them. As in Chatterbox-Flash (arXiv:2605.30748).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockConfig {
    /// Tokens of a block.
    pub size: usize,
    /// Most passes for a block; the last one decides all remaining tokens.
    pub passes: usize,
    /// How far the score quantile from which tokens are decided falls over the passes; at 0, a pass
    /// decides exactly as many tokens as the schedule says.
    pub early: f32,
    /// Shape of the schedule: below 1, the first passes decide fewer tokens than the last ones.
    pub schedule_shift: f32,
    /// Whether Gumbel noise perturbs the order in which tokens are decided.
    pub order_is_random: bool,
    /// Most speech tokens per text token of a sentence, start and stop tokens included.
    pub speech_a_text_token_max: usize,
    /// Speech tokens that a sentence of any length may have.
    pub speech_token_count_min: usize,
}

/// An attention head of the backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionHead {
    /// The layer, from 0.
    pub layer: usize,
    /// The head in the layer, from 0.
    pub head: usize,
}

/// Most alignment heads of a config.
pub const ALIGNMENT_HEADS_MAX: usize = 4;

/// Alignment heads of a config, as pairs of a layer and its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<[usize; 2]>", into = "Vec<[usize; 2]>")]
pub struct StatedHeads {
    heads: [AttentionHead; ALIGNMENT_HEADS_MAX],
    count: usize,
}

impl StatedHeads {
    /// The heads.
    pub fn as_slice(&self) -> &[AttentionHead] {
        &self.heads[..self.count]
    }
}

impl TryFrom<Vec<[usize; 2]>> for StatedHeads {
    type Error = String;

    fn try_from(pairs: Vec<[usize; 2]>) -> Result<StatedHeads, String> {
        if pairs.len() > ALIGNMENT_HEADS_MAX {
            let count = pairs.len();
            return Err(format!(
                "{count} alignment heads; at most {ALIGNMENT_HEADS_MAX} are watched"
            ));
        }
        let mut heads = [at(0, 0); ALIGNMENT_HEADS_MAX];
        for (place, [layer, head]) in heads.iter_mut().zip(&pairs) {
            *place = at(*layer, *head);
        }
        Ok(StatedHeads {
            heads,
            count: pairs.len(),
        })
    }
}

impl From<StatedHeads> for Vec<[usize; 2]> {
    fn from(stated: StatedHeads) -> Vec<[usize; 2]> {
        let heads = stated.as_slice().iter();
        heads.map(|head| [head.layer, head.head]).collect()
    }
}

/// Heads of the Llama backbone, from the reference's `AlignmentStreamAnalyzer`.
const LLAMA_HEADS: &[AttentionHead] = &[at(12, 15), at(13, 11), at(9, 2)];
/// Pico's heads, found with phone boundaries (`training/alignment.py`).
const PICO_HEADS: &[AttentionHead] = &[at(3, 1), at(3, 0), at(2, 3)];
/// A head of turbo, as published in the reference's pull request 563.
const TURBO_HEADS: &[AttentionHead] = &[at(4, 6)];

const fn at(layer: usize, head: usize) -> AttentionHead {
    AttentionHead { layer, head }
}

/// T3: text tokens and a voice to speech tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct T3Config {
    /// The decoder stack.
    pub backbone: BackboneConfig,
    /// Rows of the text embedding.
    pub text_vocabulary: usize,
    /// Rows of the speech embedding and of the output head.
    pub speech_vocabulary: usize,
    /// Start and stop tokens around the text; `None` if the text has neither.
    pub text_start_stop: Option<(u32, u32)>,
    /// The token that starts speech.
    pub speech_start: u32,
    /// The token that ends speech.
    pub speech_stop: u32,
    /// Whether the start token occurs twice, both times at speech position 0, as in the base
    /// model's inference.
    pub speech_start_twice: bool,
    /// Learned position tables (base), or none.
    pub positions: Option<PositionTables>,
    /// Width of the speaker embedding.
    pub speaker_embedding: usize,
    /// Limit of the prompt tokens that condition T3.
    pub prompt_token_count_max: usize,
    /// The resampler of prompt tokens (base); without it, prompt tokens are part of the sequence.
    pub perceiver: Option<PerceiverConfig>,
    /// Whether there is an emotion input.
    pub emotion: bool,
    /// Whether the speech head has a bias.
    pub speech_head_bias: bool,
    /// Whether an unconditional row runs beside the conditional one.
    pub classifier_free_guidance: bool,
    /// Sampling defaults.
    pub sampling: SamplingConfig,
    /// Decoding in blocks (flash). The speech embedding then has one more row, the mask token's,
    /// and the unconditional row sees neither voice nor text nor their positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<BlockConfig>,
    /// Alignment heads, for weights whose heads are not known here; see
    /// [`T3Config::alignment_heads`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alignment_heads: Option<StatedHeads>,
}

impl T3Config {
    /// Alignment heads: the heads whose attention follows the text as it is spoken. They belong to
    /// trained weights: the config's, else those published for a backbone of these sizes. Others
    /// have none.
    pub fn alignment_heads(&self) -> &[AttentionHead] {
        if let Some(stated) = &self.alignment_heads {
            return stated.as_slice();
        }
        let backbone = &self.backbone;
        match (backbone.kind, backbone.layers, backbone.heads) {
            // Those of flash are not known.
            _ if self.blocks.is_some() => &[],
            (BackboneKind::Llama, 30, 16) => LLAMA_HEADS,
            (BackboneKind::Gpt2, 24, 16) => TURBO_HEADS,
            (BackboneKind::Gpt2, 6, 4) => PICO_HEADS,
            _ => &[],
        }
    }

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
            blocks: None,
            alignment_heads: None,
        }
    }

    pub(super) fn multilingual() -> T3Config {
        let base = T3Config::base();
        T3Config {
            text_vocabulary: 2454,
            sampling: SamplingConfig {
                repetition_penalty: 2.0,
                ..base.sampling
            },
            ..base
        }
    }

    pub(super) fn flash() -> T3Config {
        let base = T3Config::base();
        T3Config {
            speech_start_twice: false,
            sampling: SamplingConfig {
                temperature: 0.6,
                min_p: 0.0,
                repetition_penalty: 1.0,
                guidance: 1.0,
                ..base.sampling
            },
            blocks: Some(BlockConfig {
                size: 16,
                passes: 10,
                early: 0.1,
                schedule_shift: 0.5,
                order_is_random: true,
                speech_a_text_token_max: 6,
                speech_token_count_min: 300,
            }),
            ..base
        }
    }

    /// Rows of keys and values of a voice's conditioning: an utterance's rows share one, unless its
    /// unconditional row does not attend to the voice.
    pub fn prefix_rows(&self) -> usize {
        match self.blocks.is_some() && self.classifier_free_guidance {
            true => 2,
            false => 1,
        }
    }

    /// Positions of a voice's conditioning with so many prompt tokens: speaker, prompt, emotion.
    pub fn prefix_positions(&self, prompt_tokens: usize) -> usize {
        let prompt = match &self.perceiver {
            Some(perceiver) if prompt_tokens > 0 => perceiver.queries,
            _ => prompt_tokens.min(self.prompt_token_count_max),
        };
        1 + prompt + usize::from(self.emotion)
    }

    /// Positions that speech tokens can have: those of a sentence, which may end within a block, or
    /// of a prompt.
    pub(crate) fn speech_position_count(&self) -> usize {
        let last = self.blocks.map_or(1, |blocks| blocks.size);
        1 + (self.sampling.token_count_max + last).max(self.prompt_token_count_max)
    }

    /// The mask token: a speech token that is not decided yet.
    pub fn mask_token(&self) -> u32 {
        self.speech_vocabulary as u32
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
            blocks: None,
            alignment_heads: None,
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
