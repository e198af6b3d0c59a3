//! Configuration of mel spectrograms.

use serde::{Deserialize, Serialize};

/// Parameters of a mel spectrogram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MelConfig {
    /// Expected sample rate in Hz.
    pub sample_rate: u32,
    /// Samples per transform; also the window length.
    pub fft: usize,
    /// Samples from one frame to the next.
    pub hop: usize,
    /// Number of mel bands.
    pub bands: usize,
    /// Lowest frequency in Hz.
    pub frequency_min: f32,
    /// Highest frequency in Hz.
    pub frequency_max: f32,
}

impl MelConfig {
    /// The mel spectrogram of the speech decoder: 24 kHz, 80 bands, 50 frames per second.
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

    /// The mel spectrograms at 16 kHz: 100 frames per second.
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
