//! HiFT, the vocoder: mel frames to samples.

use serde::{Deserialize, Serialize};

/// The harmonic source.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Overtones beside the fundamental.
    pub harmonics: usize,
    /// Amplitude of a sine; unvoiced noise deviates by a third of it.
    pub sine_amplitude: f32,
    /// Standard deviation of the noise under voiced sines.
    pub noise_deviation: f32,
    /// Frames with a higher fundamental are voiced, Hz.
    pub voiced_threshold: f32,
}

/// HiFT's sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VocoderConfig {
    /// Samples a second.
    pub sample_rate: u32,
    /// Channels after the first convolution; each upsampling halves them.
    pub channels: usize,
    /// Upsampling factors, first to last.
    pub upsampling: Vec<usize>,
    /// Kernels of the upsampling convolutions.
    pub upsampling_kernels: Vec<usize>,
    /// Kernels of the residual blocks after each upsampling.
    pub residual_kernels: Vec<usize>,
    /// Dilations inside every residual block.
    pub residual_dilations: Vec<usize>,
    /// Kernel of the source's residual block at each upsampling.
    pub source_residual_kernels: Vec<usize>,
    /// Samples in the closing inverse transform.
    pub fft: usize,
    /// Samples between its frames.
    pub hop: usize,
    /// Slope of the leaky rectifier before each upsampling.
    pub leaky_slope: f32,
    /// Samples are clamped to this magnitude.
    pub sample_max: f32,
    /// Channels of the fundamental-frequency predictor.
    pub f0_channels: usize,
    /// Its convolutions.
    pub f0_layers: usize,
    /// The harmonic source.
    pub source: SourceConfig,
}

impl VocoderConfig {
    pub(super) fn official() -> VocoderConfig {
        VocoderConfig {
            sample_rate: 24_000,
            channels: 512,
            upsampling: vec![8, 5, 3],
            upsampling_kernels: vec![16, 11, 7],
            residual_kernels: vec![3, 7, 11],
            residual_dilations: vec![1, 3, 5],
            source_residual_kernels: vec![7, 7, 11],
            fft: 16,
            hop: 4,
            leaky_slope: 0.1,
            sample_max: 0.99,
            f0_channels: 512,
            f0_layers: 5,
            source: SourceConfig {
                harmonics: 8,
                sine_amplitude: 0.1,
                noise_deviation: 0.003,
                voiced_threshold: 10.0,
            },
        }
    }

    /// Output samples for one mel frame.
    pub fn samples_per_frame(&self) -> usize {
        self.upsampling.iter().product::<usize>() * self.hop
    }
}
