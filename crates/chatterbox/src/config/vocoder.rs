//! Configuration of HiFT, the vocoder: mel frames to samples.

use serde::{Deserialize, Serialize};

/// The harmonic source signal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Number of overtones beside the fundamental.
    pub harmonics: usize,
    /// Amplitude of a sine; a third of it is the standard deviation of unvoiced noise.
    pub sine_amplitude: f32,
    /// Standard deviation of the noise in voiced frames.
    pub noise_deviation: f32,
    /// Fundamental frequency in Hz above which a frame is voiced.
    pub voiced_threshold: f32,
}

/// Configuration of HiFT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VocoderConfig {
    /// Sample rate in Hz.
    pub sample_rate: u32,
    /// Channels after the first convolution; each upsampling stage halves them.
    pub channels: usize,
    /// Upsampling factors.
    pub upsampling: Vec<usize>,
    /// Kernel sizes of the upsampling convolutions.
    pub upsampling_kernels: Vec<usize>,
    /// Kernel sizes of the residual blocks after each upsampling stage.
    pub residual_kernels: Vec<usize>,
    /// Dilations of every residual block.
    pub residual_dilations: Vec<usize>,
    /// Kernel size of the source's residual block at each upsampling stage.
    pub source_residual_kernels: Vec<usize>,
    /// Samples per inverse Fourier transform.
    pub fft: usize,
    /// Samples from one transform to the next.
    pub hop: usize,
    /// Slope of the leaky ReLU before each upsampling stage.
    pub leaky_slope: f32,
    /// Samples are clipped to this magnitude.
    pub sample_max: f32,
    /// Channels of the predictor of the fundamental frequency.
    pub f0_channels: usize,
    /// Number of its convolutions.
    pub f0_layers: usize,
    /// The harmonic source signal.
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

    /// Output samples per mel frame.
    pub fn samples_per_frame(&self) -> usize {
        self.upsampling.iter().product::<usize>() * self.hop
    }
}
