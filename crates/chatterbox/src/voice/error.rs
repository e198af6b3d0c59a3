//! What can be wrong with a voice.

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
        /// Its length.
        seconds: f64,
        /// What it must exceed.
        seconds_min: f32,
    },
    /// Nothing to be heard.
    #[error("the recording is silent: its loudest sample is {peak}")]
    Silent {
        /// The largest magnitude.
        peak: f32,
    },
    /// Samples that no recording has.
    #[error(
        "the recording's loudest sample is {peak:e}; samples are from -1 to 1, or at most {peak_max} where they were not scaled"
    )]
    TooLoud {
        /// The largest magnitude.
        peak: f32,
        /// What is taken at most.
        peak_max: f32,
    },
    /// A network whose weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// No memory to prepare in.
    #[error("no memory to prepare the voice: {0}")]
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
        /// The layout that it names.
        found: String,
        /// The layout that is read.
        expected: u32,
    },
    /// A voice file without a part, or of another model.
    #[error("the voice file's {tensor} {reason}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// What is wrong.
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
