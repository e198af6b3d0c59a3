//! Errors of voices.

use crate::weights::WeightsError;
use sottovoce_formats::audio::AudioError;
use sottovoce_formats::safetensors::SafetensorsError;
use sottovoce_formats::torch_archive::TorchArchiveError;
use sottovoce_memory::OutOfMemory;
use sottovoce_tensor::{DeviceError, Failure};

/// Why a voice cannot be prepared, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VoiceError {
    /// An unreadable recording.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// A recording that is too short for the model.
    #[error(
        "the recording has {seconds:.1} s; this model needs more than {seconds_min} s of the voice"
    )]
    TooShort {
        /// Its length in seconds.
        seconds: f64,
        /// The length that it must exceed.
        seconds_min: f32,
    },
    /// A silent recording.
    #[error("the recording is silent: the loudest sample of its first {seconds:.0} s is {peak:e}")]
    Silent {
        /// Seconds that were heard.
        seconds: f64,
        /// The largest magnitude.
        peak: f32,
    },
    /// Samples out of range.
    #[error(
        "the recording's loudest sample is {peak:e}; samples must lie between -1 and 1, or up to {peak_max} if they were not scaled"
    )]
    TooLoud {
        /// The largest magnitude.
        peak: f32,
        /// The upper limit.
        peak_max: f32,
    },
    /// A network with invalid weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Too little memory to prepare the voice.
    #[error("out of memory while preparing the voice: {0}")]
    Memory(#[from] OutOfMemory),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Not a safetensors file.
    #[error("the voice file: {0}")]
    Safetensors(#[from] SafetensorsError),
    /// Not a torch archive.
    #[error("the voice file: {0}")]
    TorchArchive(#[from] TorchArchiveError),
    /// A voice file of another version.
    #[error(
        "the voice file was written by another version of this program: its layout is {found}, this version reads {expected}; prepare it again"
    )]
    Layout {
        /// Layout of the file.
        found: String,
        /// Layout that this version reads.
        expected: u32,
    },
    /// A voice file that lacks a part, or belongs to another model.
    #[error("the voice file's {tensor} {reason}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// The problem.
        reason: String,
    },
    /// The file could not be written.
    #[error("the voice file: {0}")]
    Write(#[from] std::io::Error),
}

impl From<Failure> for VoiceError {
    fn from(failure: Failure) -> VoiceError {
        match failure {
            Failure::OutOfMemory(error) => VoiceError::Memory(error),
            Failure::Device(error) => VoiceError::Device(error),
        }
    }
}
