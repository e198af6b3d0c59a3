//! Configuration of HiFT, the vocoder: mel frames to samples.

use serde::{Deserialize, Serialize};

/// Kernel of the first and of the last convolution.
pub(crate) const OUTER_KERNEL: usize = 7;
/// Kernel of the convolutions that predict the fundamental frequency.
pub(crate) const F0_KERNEL: usize = 3;

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
        let factors = self.upsampling.iter();
        factors.fold(self.hop, |product, &factor| product.saturating_mul(factor))
    }

    /// Mel frames before a frame that its samples depend on, by way of the mel or of the source
    /// signal.
    pub fn reach_frames(&self) -> usize {
        // Positions are those of the first row that row 0 of the next layer reads, from the
        // samples of frame 0 back to the mel.
        let outer = (OUTER_KERNEL / 2) as i64;
        let half_window = (self.fft / 2) as i64;
        let hop = self.hop as i64;
        let floor = |position: i64, by: i64| position.div_euclid(by);
        let ceiling = |position: i64, by: i64| -(-position).div_euclid(by);
        let residual = |kernel: usize| -> i64 {
            let dilations = self.residual_dilations.iter();
            dilations
                .map(|dilation| (kernel / 2 * (dilation + 1)) as i64)
                .sum()
        };
        let longest = |kernels: &[usize]| kernels.iter().copied().max().unwrap_or(1);
        let mut row = ceiling(1 - half_window, hop) - outer;
        let mut source_sample = 0;
        let mut down = 1;
        for stage in (0..self.upsampling.len()).rev() {
            row -= residual(longest(&self.residual_kernels));
            let of_source = row - residual(self.source_residual_kernels[stage]);
            let spectrum_row = match down {
                1 => of_source,
                _ => of_source * down - down / 2,
            };
            source_sample = source_sample.min(spectrum_row * hop - half_window);
            if stage + 1 == self.upsampling.len() {
                // The mirrored row shifts all others by one.
                row -= 1;
            }
            let (factor, kernel) = (
                self.upsampling[stage] as i64,
                self.upsampling_kernels[stage],
            );
            let kernel = kernel as i64;
            row = ceiling(row + (kernel - factor) / 2 - (kernel - 1), factor);
            down *= factor;
        }
        let mel = row - outer;
        let source = floor(source_sample, self.samples_per_frame() as i64);
        let pitch = -((self.f0_layers * (F0_KERNEL / 2)) as i64);
        mel.min(source).min(pitch).unsigned_abs() as usize
    }
}
