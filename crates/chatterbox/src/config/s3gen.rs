//! Configuration of S3Gen's flow: speech tokens to mel frames.

use super::MelConfig;
use serde::{Deserialize, Serialize};

/// The conformer encoder: look-ahead layer, blocks, upsampling, blocks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowEncoderConfig {
    /// Width, also of the token embedding.
    pub hidden: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Inner width of the feed-forward layers.
    pub feed_forward: usize,
    /// Number of blocks before upsampling.
    pub layers: usize,
    /// Number of blocks after upsampling.
    pub layers_upsampled: usize,
    /// Look-ahead of the first layer, in tokens.
    pub look_ahead: usize,
}

/// The velocity estimator: residual convolutions and transformer blocks in a one-level U-Net.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowDecoderConfig {
    /// Width; the time embedding is four times as wide.
    pub channels: usize,
    /// Number of stages between the downward and the upward one.
    pub middle_stages: usize,
    /// Transformer blocks per stage.
    pub blocks: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Width of a head.
    pub head_size: usize,
}

/// Integration of the flow from noise to mel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FlowSolver {
    /// Euler steps at cosine times, with classifier-free guidance from a second row.
    Euler {
        /// Number of steps.
        steps: usize,
        /// Guidance weight.
        guidance: f32,
    },
    /// Mean-flow steps at even times, without guidance; the estimator gets both ends of a step.
    MeanFlow {
        /// Number of steps.
        steps: usize,
    },
}

impl FlowSolver {
    /// Number of steps from noise to mel.
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
    /// Number of speech tokens with an embedding.
    pub vocabulary: usize,
    /// Speech tokens per second.
    pub token_rate: u32,
    /// Mel frames per token.
    pub upsampling: usize,
    /// Mel spectrogram of the prompt; its bands are the flow's channels.
    pub prompt_mel: MelConfig,
    /// Width of the x-vector.
    pub speaker_vector: usize,
    /// Silence token, appended by turbo and nano.
    pub silence_token: u32,
    /// Number of silence tokens after the speech.
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

    /// Number of mel bands.
    pub fn mel_bands(&self) -> usize {
        self.prompt_mel.bands
    }
}
