//! S3Gen's flow: speech tokens to mel frames.

use super::MelConfig;
use serde::{Deserialize, Serialize};

/// The conformer encoder: look-ahead, blocks, upsampling, blocks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowEncoderConfig {
    /// Width, also of the token embedding.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Inner width of the feed-forward parts.
    pub feed_forward: usize,
    /// Blocks before upsampling.
    pub layers: usize,
    /// Blocks after upsampling.
    pub layers_upsampled: usize,
    /// Tokens that the first layer sees ahead.
    pub look_ahead: usize,
}

/// The estimator of the flow's velocity: residual convolutions and transformer blocks in a
/// one-level U-Net.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowDecoderConfig {
    /// Width; the time embedding is four times as wide.
    pub channels: usize,
    /// Middle stages between the one going down and the one going up.
    pub middle_stages: usize,
    /// Transformer blocks in a stage.
    pub blocks: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of one head.
    pub head_size: usize,
}

/// How the flow is integrated from noise to mel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FlowSolver {
    /// Euler steps at cosine times, with guidance from a second row.
    Euler {
        /// Steps.
        steps: usize,
        /// Guidance weight.
        guidance: f32,
    },
    /// Mean-flow steps at even times, without guidance; the estimator sees both ends of a step.
    MeanFlow {
        /// Steps.
        steps: usize,
    },
}

impl FlowSolver {
    /// Steps from noise to mel.
    pub fn steps(&self) -> usize {
        match *self {
            FlowSolver::Euler { steps, .. } | FlowSolver::MeanFlow { steps } => steps,
        }
    }
}

/// S3Gen's flow.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowConfig {
    /// Speech tokens that have an embedding.
    pub vocabulary: usize,
    /// Speech tokens a second.
    pub token_rate: u32,
    /// Mel frames for one token.
    pub upsampling: usize,
    /// The mel front end of the prompt; its bands are the flow's channels.
    pub prompt_mel: MelConfig,
    /// Width of the x-vector.
    pub speaker_vector: usize,
    /// Token that stands for silence, appended by turbo and nano.
    pub silence_token: u32,
    /// How many silence tokens follow the speech.
    pub silence_token_count: usize,
    /// The encoder.
    pub encoder: FlowEncoderConfig,
    /// The velocity estimator.
    pub decoder: FlowDecoderConfig,
    /// The integration.
    pub solver: FlowSolver,
}

impl FlowConfig {
    pub(super) fn base() -> FlowConfig {
        FlowConfig {
            vocabulary: 6561,
            token_rate: 25,
            upsampling: 2,
            prompt_mel: MelConfig::speech_24k(),
            speaker_vector: 192,
            silence_token: 4299,
            silence_token_count: 0,
            encoder: FlowEncoderConfig {
                hidden: 512,
                heads: 8,
                feed_forward: 2048,
                layers: 6,
                layers_upsampled: 4,
                look_ahead: 3,
            },
            decoder: FlowDecoderConfig {
                channels: 256,
                middle_stages: 12,
                blocks: 4,
                heads: 8,
                head_size: 64,
            },
            solver: FlowSolver::Euler {
                steps: 10,
                guidance: 0.7,
            },
        }
    }

    pub(super) fn mean_flow() -> FlowConfig {
        FlowConfig {
            silence_token_count: 3,
            solver: FlowSolver::MeanFlow { steps: 2 },
            ..FlowConfig::base()
        }
    }

    /// Mel bands.
    pub fn mel_bands(&self) -> usize {
        self.prompt_mel.bands
    }
}
