//! Errors of downloads.

use std::path::{Path, PathBuf};

/// An error of a download.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The hub refused, the connection broke, or the response differs from the announced file.
    #[error("hub: {what}: {reason}")]
    Download {
        /// The repository or file.
        what: String,
        /// The reason.
        reason: String,
    },
    /// Whoever asked for the download ended it.
    #[error("{what}: the download was cancelled; the next one goes on from here")]
    Cancelled {
        /// The file on its way.
        what: String,
    },
    /// A file of the cache could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn file(path: &Path, source: std::io::Error) -> Error {
        Error::File {
            path: path.to_owned(),
            source,
        }
    }
}

pub(crate) fn hub_error(what: &str, reason: impl std::fmt::Display) -> Error {
    Error::Download {
        what: what.to_owned(),
        reason: reason.to_string(),
    }
}
