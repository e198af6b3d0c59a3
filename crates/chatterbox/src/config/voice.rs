//! Voice preparation: what a reference clip goes through.

use super::MelConfig;
use serde::{Deserialize, Serialize};

/// How the clip is cut and levelled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptConfig {
    /// Seconds of the clip that T3 hears as prompt tokens.
    pub t3_seconds_max: f32,
    /// Seconds of the clip that the flow hears.
    pub flow_seconds_max: f32,
    /// The clip must be longer, seconds.
    pub seconds_min: f32,
    /// Integrated loudness that the clip is brought to first, LUFS.
    pub loudness: Option<f32>,
}

/// The voice encoder: an LSTM over power mels, one embedding a window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoiceEncoderConfig {
    /// The front end.
    pub mel: MelConfig,
    /// Width of the LSTM.
    pub hidden: usize,
    /// LSTM layers.
    pub layers: usize,
    /// Width of the embedding.
    pub embedding: usize,
    /// Frames of a window.
    pub window: usize,
    /// Windows a second.
    pub rate: f32,
    /// The share of a last window that must be covered for it to count.
    pub coverage_min: f32,
    /// Leading and trailing parts this far below the clip's peak are cut, dB.
    pub trim_decibels: f32,
}

impl VoiceEncoderConfig {
    /// Frames between the starts of two windows.
    pub fn step(&self) -> usize {
        // The reference divides samples per window by frames per window and rounds half to even.
        (f64::from(self.mel.sample_rate) / f64::from(self.rate) / self.window as f64)
            .round_ties_even() as usize
    }
}

/// The S3 tokenizer, version 2.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeechTokenizerConfig {
    /// The front end.
    pub mel: MelConfig,
    /// Width.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
    /// Taps of the memory convolution.
    pub memory_kernel: usize,
    /// Ternary digits of a code.
    pub code_digits: usize,
    /// Frames that are worked on at once; longer clips go in overlapping windows.
    pub window: usize,
    /// Frames that two windows share.
    pub overlap: usize,
}

/// CAMPPlus: Kaldi filter banks to an x-vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeakerVectorConfig {
    /// Filter-bank bands.
    pub bands: usize,
    /// Channels of the two-dimensional head.
    pub head_channels: usize,
    /// Channels after the first time-delay layer.
    pub channels: usize,
    /// Layers of each dense block.
    pub block_layers: Vec<usize>,
    /// Dilation of each dense block.
    pub block_dilations: Vec<usize>,
    /// Kernel of the dense layers.
    pub kernel: usize,
    /// Channels that each dense layer adds.
    pub growth: usize,
    /// Channels of each dense layer's bottleneck.
    pub bottleneck: usize,
    /// Frames of a context segment.
    pub segment: usize,
    /// Width of the x-vector.
    pub embedding: usize,
}

/// All that voice preparation needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoiceConfig {
    /// Cutting and levelling.
    pub prompt: PromptConfig,
    /// The voice encoder.
    pub encoder: VoiceEncoderConfig,
    /// The speech tokenizer.
    pub tokenizer: SpeechTokenizerConfig,
    /// The x-vector network.
    pub speaker_vector: SpeakerVectorConfig,
}

impl VoiceConfig {
    pub(super) fn base() -> VoiceConfig {
        VoiceConfig {
            prompt: PromptConfig {
                t3_seconds_max: 6.0,
                flow_seconds_max: 10.0,
                seconds_min: 0.0,
                loudness: None,
            },
            encoder: VoiceEncoderConfig {
                mel: MelConfig::at_16k(40),
                hidden: 256,
                layers: 3,
                embedding: 256,
                window: 160,
                rate: 1.3,
                coverage_min: 0.8,
                trim_decibels: 20.0,
            },
            tokenizer: SpeechTokenizerConfig {
                mel: MelConfig::at_16k(128),
                hidden: 1280,
                heads: 20,
                layers: 6,
                memory_kernel: 31,
                code_digits: 8,
                window: 3000,
                overlap: 400,
            },
            speaker_vector: SpeakerVectorConfig {
                bands: 80,
                head_channels: 32,
                channels: 128,
                block_layers: vec![12, 24, 16],
                block_dilations: vec![1, 2, 2],
                kernel: 3,
                growth: 32,
                bottleneck: 128,
                segment: 100,
                embedding: 192,
            },
        }
    }

    pub(super) fn turbo() -> VoiceConfig {
        let base = VoiceConfig::base();
        VoiceConfig {
            prompt: PromptConfig {
                t3_seconds_max: 15.0,
                seconds_min: 5.0,
                loudness: Some(-27.0),
                ..base.prompt
            },
            ..base
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voice_encoder_windows_start_77_frames_apart() {
        assert_eq!(VoiceConfig::base().encoder.step(), 77);
    }
}
