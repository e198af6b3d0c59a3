//! What can go wrong, each with what to do about it.

use sottovoce_chatterbox::t3::T3Error;
use sottovoce_chatterbox::weights::WeightsError;
use sottovoce_memory::stats::Bytes;
use sottovoce_tensor::{DeviceError, Failure};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that the engine refuses or fails at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option has a value that it cannot have.
    #[error("option {option}: {value:?} cannot be used: {reason}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// The value that was given.
        value: String,
        /// What would be right.
        reason: String,
    },
    /// There is no option of this name.
    #[error("there is no option {name:?}")]
    UnknownOption {
        /// The name that was given.
        name: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A recording could not be decoded.
    #[error("{}: {reason}", path.display())]
    Recording {
        /// The recording's file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A voice is not known or cannot be used with this model.
    #[error("voice {name:?}: {reason}")]
    Voice {
        /// The voice's name or file.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A model cannot be used.
    #[error("model {name}: {reason}")]
    Model {
        /// The model's folder or name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// The text holds nothing that can be spoken, or too much.
    #[error("text: {reason}")]
    Text {
        /// What is wrong with it.
        reason: String,
    },
    /// All streams that fit are under way, and so many wait that no further one may.
    #[error("{waiting} streams wait already, {waiting_max} may; try again in {} s", retry_after.as_secs())]
    Busy {
        /// Streams waiting now.
        waiting: usize,
        /// Streams that may wait.
        waiting_max: usize,
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// A recording could not be encoded.
    #[error(transparent)]
    Encoding(#[from] sottovoce_audio::Error),
    /// The budget cannot hold what was asked for.
    #[error(
        "the budget of {} ({budget_bytes} bytes) cannot hold it: {} ({needed_bytes} bytes) are needed ({plan}){}",
        Bytes(*budget_bytes), Bytes(*needed_bytes), hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default()
    )]
    Budget {
        /// The budget.
        budget_bytes: u64,
        /// What must be there.
        needed_bytes: u64,
        /// The parts of it, in words.
        plan: String,
        /// What would fit, in words.
        hint: Option<String>,
    },
    /// Memory ran out, after everything that could be given back was.
    #[error("out of memory: {0}")]
    OutOfMemory(#[from] sottovoce_memory::OutOfMemory),
    /// There is no such CUDA device, or it cannot be used.
    #[error("{0}; the CPU speaks without it (device cpu)")]
    Cuda(#[from] sottovoce_memory::driver::cuda::CudaError),
    /// The device failed; the engine has to be loaded again.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The model failed at a stream.
    #[error("{reason}")]
    Synthesis {
        /// What failed.
        reason: String,
    },
    /// A stage broke off by a fault of this program; the engine goes on with other streams.
    #[error("a stage broke off: {reason}; other streams go on, please report it")]
    Fault {
        /// What the stage said.
        reason: String,
    },
    /// The engine was shut down while the stream was under way.
    #[error("the engine was shut down")]
    Stopped,
}

impl Error {
    /// An option's refusal.
    pub(crate) fn option(
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

    /// A refused budget, with something more to know about it; other errors as they are.
    pub(crate) fn with_hint(mut self, further: &str) -> Error {
        if let Error::Budget { hint, .. } = &mut self {
            *hint = Some(match hint.take() {
                Some(first) => format!("{first} ({further})"),
                None => further.to_owned(),
            });
        }
        self
    }

    /// A file's failure.
    pub(crate) fn file(path: &Path, source: std::io::Error) -> Error {
        Error::File {
            path: path.to_owned(),
            source,
        }
    }

    /// A model that cannot be used.
    pub(crate) fn model(name: &str, error: impl std::fmt::Display) -> Error {
        Error::Model {
            name: name.to_owned(),
            reason: error.to_string(),
        }
    }

    /// Weights that could not be loaded; running out of memory stays that.
    pub(crate) fn weights(name: &str, error: WeightsError) -> Error {
        match error {
            WeightsError::Memory { source, .. } => Error::OutOfMemory(source),
            WeightsError::Device { source, .. } => Error::Device(DeviceError {
                device: "the device".into(),
                source,
            }),
            other => Error::model(name, other),
        }
    }

    /// When to try again, where that can help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Busy { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whether waiting for others to end could help.
    pub(crate) fn is_memory_short(&self) -> bool {
        matches!(self, Error::OutOfMemory(error) if error.kind == sottovoce_memory::OutOfMemoryKind::NotNow)
    }

    /// Whether the caller's input is at fault (and not the engine's state or the machine).
    pub fn is_input(&self) -> bool {
        matches!(
            self,
            Error::Option { .. }
                | Error::UnknownOption { .. }
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
