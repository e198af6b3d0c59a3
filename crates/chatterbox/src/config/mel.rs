//! Short-time spectra.

use serde::{Deserialize, Serialize};

/// A mel spectrogram's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MelConfig {
    /// Samples a second that it expects.
    pub sample_rate: u32,
    /// Samples in a transform; the window is as long.
    pub fft: usize,
    /// Samples between two frames.
    pub hop: usize,
    /// Mel bands.
    pub bands: usize,
    /// Lowest frequency, Hz.
    pub frequency_min: f32,
    /// Highest frequency, Hz.
    pub frequency_max: f32,
}

impl MelConfig {
    /// The front end of the speech decoder: 24 kHz, 80 bands, 50 frames a second.
    pub(super) fn speech_24k() -> MelConfig {
        MelConfig {
            sample_rate: 24_000,
            fft: 1920,
            hop: 480,
            bands: 80,
            frequency_min: 0.0,
            frequency_max: 8000.0,
        }
    }

    /// The front ends at 16 kHz: 100 frames a second.
    pub(super) fn at_16k(bands: usize) -> MelConfig {
        MelConfig {
            sample_rate: 16_000,
            fft: 400,
            hop: 160,
            bands,
            frequency_min: 0.0,
            frequency_max: 8000.0,
        }
    }
}
