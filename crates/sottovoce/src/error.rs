//! Errors, each with the remedy.

use sottovoce_chatterbox::t3::T3Error;
use sottovoce_chatterbox::voice::VoiceError;
use sottovoce_chatterbox::weights::WeightsError;
use sottovoce_memory::stats::Bytes;
use sottovoce_tensor::{DeviceError, Failure};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every error of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option's value is out of its domain.
    #[error("option {option}: {value:?} cannot be used: {reason}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// The value given.
        value: String,
        /// The values allowed.
        reason: String,
    },
    /// No option has this name.
    #[error("there is no option {name:?}")]
    UnknownOption {
        /// The name given.
        name: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A recording could not be decoded.
    #[error("{}: {reason}", path.display())]
    Recording {
        /// The recording's file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A voice is unknown or cannot be used with this model.
    #[error("voice {name:?}: {reason}")]
    Voice {
        /// The voice's name or file.
        name: String,
        /// The reason.
        reason: String,
    },
    /// A model cannot be used.
    #[error("model {name}: {reason}")]
    Model {
        /// The model's folder or name.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The text has nothing to speak, or is too long.
    #[error("text: {reason}")]
    Text {
        /// The reason.
        reason: String,
    },
    /// All places are taken and the queue is full.
    #[error("{waiting} streams wait already, {waiting_max} may; try again in {} s", retry_after.as_secs())]
    Busy {
        /// Requests in the queue.
        waiting: usize,
        /// Most requests in the queue.
        waiting_max: usize,
        /// Estimated time until a place is free.
        retry_after: Duration,
    },
    /// Streams under way hold the memory that a recording needs until it is a voice.
    #[error(
        "a recording needs {} until it is a voice, and streams under way leave {}; try again in {} s",
        Bytes(*needed_bytes), Bytes(*left_bytes), retry_after.as_secs()
    )]
    NoRoom {
        /// Bytes needed.
        needed_bytes: u64,
        /// Bytes left by streams and voices.
        left_bytes: u64,
        /// Estimated time until a stream ends.
        retry_after: Duration,
    },
    /// A recording could not be encoded.
    #[error(transparent)]
    Encoding(#[from] sottovoce_audio::Error),
    /// The budget is too small.
    #[error(
        "the budget of {} ({budget_bytes} bytes) cannot hold it: {} ({needed_bytes} bytes) are needed ({plan}){}",
        Bytes(*budget_bytes), Bytes(*needed_bytes), hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default()
    )]
    Budget {
        /// The budget.
        budget_bytes: u64,
        /// Bytes needed.
        needed_bytes: u64,
        /// Its parts, as text.
        plan: String,
        /// What would fit, as text.
        hint: Option<String>,
    },
    /// Memory ran out after all reclaimable memory was released.
    #[error("out of memory: {0}")]
    OutOfMemory(#[from] sottovoce_memory::OutOfMemory),
    /// There is no such CUDA device, or it cannot be used.
    #[error("{0}; the CPU speaks without it (device cpu)")]
    Cuda(#[from] sottovoce_memory::driver::cuda::CudaError),
    /// The device failed; the engine must be loaded again.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The model failed during a stream.
    #[error("{reason}")]
    Synthesis {
        /// The reason.
        reason: String,
    },
    /// A stage panicked; the engine goes on with other streams.
    #[error("a stage broke off: {reason}; other streams go on, please report it")]
    Fault {
        /// The panic's message.
        reason: String,
    },
    /// The engine was shut down during the stream.
    #[error("the engine was shut down")]
    Stopped,
}

impl Error {
    /// An error about an option's value.
    pub fn option(
        option: &'static str,
        value: impl std::fmt::Display,
        reason: impl Into<String>,
    ) -> Error {
        Error::Option {
            option,
            value: value.to_string(),
            reason: reason.into(),
        }
    }

    /// Adds a hint to a budget error; other errors are unchanged.
    pub(crate) fn with_hint(mut self, further: &str) -> Error {
        if let Error::Budget { hint, .. } = &mut self {
            *hint = Some(match hint.take() {
                Some(first) => format!("{first} ({further})"),
                None => further.to_owned(),
            });
        }
        self
    }

    /// An error about a file.
    pub(crate) fn file(path: &Path, source: std::io::Error) -> Error {
        Error::File {
            path: path.to_owned(),
            source,
        }
    }

    /// An error about a model.
    pub fn model(name: &str, error: impl std::fmt::Display) -> Error {
        Error::Model {
            name: name.to_owned(),
            reason: error.to_string(),
        }
    }

    /// An error about weights; out-of-memory errors keep their kind.
    pub fn weights(name: &str, error: WeightsError) -> Error {
        match error {
            WeightsError::Memory { source, .. } => Error::OutOfMemory(source),
            WeightsError::Device { source, .. } => Error::Device(DeviceError {
                device: "the device".into(),
                source,
            }),
            other => Error::model(name, other),
        }
    }

    /// An error of a network that hears recordings; `other` names those of the recording.
    pub(crate) fn hearing(
        model: &str,
        error: VoiceError,
        other: impl FnOnce(VoiceError) -> Error,
    ) -> Error {
        match error {
            VoiceError::Memory(error) => Error::OutOfMemory(error),
            VoiceError::Device(error) => Error::Device(error),
            VoiceError::Weights(error) => Error::weights(model, error),
            error => other(error),
        }
    }

    /// When to retry, if retrying can help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Busy { retry_after, .. } | Error::NoRoom { retry_after, .. } => {
                Some(*retry_after)
            }
            _ => None,
        }
    }

    /// Whether the request could succeed once other streams have ended.
    pub(crate) fn is_memory_short(&self) -> bool {
        matches!(self, Error::OutOfMemory(error) if error.kind == sottovoce_memory::OutOfMemoryKind::NotNow)
    }

    /// Whether the caller's input is the cause, rather than the engine's state or the machine.
    pub fn is_input(&self) -> bool {
        matches!(
            self,
            Error::Option { .. }
                | Error::UnknownOption { .. }
                | Error::Recording { .. }
                | Error::Voice { .. }
                | Error::Text { .. }
        )
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::OutOfMemory(error) => Error::OutOfMemory(error),
            Failure::Device(error) => Error::Device(error),
        }
    }
}

impl From<T3Error> for Error {
    fn from(error: T3Error) -> Error {
        match error {
            T3Error::OutOfMemory(error) => Error::OutOfMemory(error),
            T3Error::Device(error) => Error::Device(error),
            other => Error::Synthesis {
                reason: other.to_string(),
            },
        }
    }
}
