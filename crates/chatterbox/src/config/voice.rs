//! Configuration of voice preparation.

use super::MelConfig;
use serde::{Deserialize, Serialize};

/// Length and loudness of the clip.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptConfig {
    /// Seconds of the clip used for T3's prompt tokens.
    pub t3_seconds_max: f32,
    /// Seconds of the clip used for the flow's prompt.
    pub flow_seconds_max: f32,
    /// Minimum length of the clip, in seconds (exclusive).
    pub seconds_min: f32,
    /// Integrated loudness to which the clip is normalised first, in LUFS.
    pub loudness: Option<f32>,
}

/// The voice encoder: an LSTM over power mel spectrograms, one embedding per window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoiceEncoderConfig {
    /// The mel spectrogram.
    pub mel: MelConfig,
    /// Width of the LSTM.
    pub hidden: usize,
    /// Number of LSTM layers.
    pub layers: usize,
    /// Width of the embedding.
    pub embedding: usize,
    /// Frames per window.
    pub window: usize,
    /// Windows per second.
    pub rate: f32,
    /// Minimum share of the last window that must be covered.
    pub coverage_min: f32,
    /// Leading and trailing parts this far below the clip's peak are trimmed, in dB.
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
    /// The mel spectrogram.
    pub mel: MelConfig,
    /// Width.
    pub hidden: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Taps of the memory convolution.
    pub memory_kernel: usize,
    /// Ternary digits of a code.
    pub code_digits: usize,
    /// Frames per window; longer clips use overlapping windows.
    pub window: usize,
    /// Frames shared by two windows.
    pub overlap: usize,
}

/// CAMPPlus: Kaldi filter banks to an x-vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeakerVectorConfig {
    /// Number of filter-bank bands.
    pub bands: usize,
    /// Channels of the two-dimensional head.
    pub head_channels: usize,
    /// Channels after the first time-delay layer.
    pub channels: usize,
    /// Number of layers of each dense block.
    pub block_layers: Vec<usize>,
    /// Dilation of each dense block.
    pub block_dilations: Vec<usize>,
    /// Kernel size of the dense layers.
    pub kernel: usize,
    /// Channels added by each dense layer.
    pub growth: usize,
    /// Channels of each dense layer's bottleneck.
    pub bottleneck: usize,
    /// Frames per context segment.
    pub segment: usize,
    /// Width of the x-vector.
    pub embedding: usize,
}

/// Configuration of voice preparation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoiceConfig {
    /// Length and loudness of the clip.
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
