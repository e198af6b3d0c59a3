//! Errors of encoding and writing recordings.

use crate::AudioFormat;
use std::path::{Path, PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An unknown format name.
    #[error("format {0:?} is not known: use wav, flac, mp3, opus (or ogg), aac or pcm")]
    UnknownFormat(String),
    /// A file name without the extension of a format.
    #[error(
        "{}: the extension names the format: use .wav, .flac, .mp3, .opus, .ogg, .aac or .pcm",
        .0.display()
    )]
    UnknownExtension(PathBuf),
    /// The program was built without this format's encoder.
    #[error("{0}: this program was built without the feature {0:?}: use another format")]
    NotBuilt(AudioFormat),
    /// An encoder refused its input.
    #[error("{format}: {reason}")]
    Encoding {
        /// The format being written.
        format: AudioFormat,
        /// The encoder's reason.
        reason: String,
    },
    /// The output could not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The output.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Error {
    #[cfg_attr(
        not(any(feature = "aac", feature = "flac", feature = "mp3", feature = "opus")),
        allow(dead_code)
    )]
    pub(crate) fn encoding(format: AudioFormat, error: impl std::fmt::Display) -> Error {
        Error::Encoding {
            format,
            reason: error.to_string(),
        }
    }

    pub(crate) fn file(path: &Path, source: std::io::Error) -> Error {
        Error::File {
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the caller's choice of a format is at fault, and not the output or the encoder.
    pub fn is_input(&self) -> bool {
        matches!(
            self,
            Error::UnknownFormat(_) | Error::UnknownExtension(_) | Error::NotBuilt(_)
        )
    }
}
