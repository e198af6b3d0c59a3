//! Why a recording cannot be read.

use super::unread::Unread;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudioError {
    /// Not a format that is read.
    #[error("not a recording in a format that is read ({FORMATS}): {reason}", FORMATS = super::FORMATS)]
    Unknown {
        /// What the reader met.
        reason: String,
    },
    /// A known format or codec that nothing here decodes.
    #[error("{0}")]
    Unread(Unread),
    /// No sound in it.
    #[error("the recording is empty")]
    Empty,
    /// Damaged.
    #[error("the recording is damaged: {reason}")]
    Damaged {
        /// What the reader met.
        reason: String,
    },
    /// A rate or channel count beyond the limits.
    #[error("the recording has {value} {what}; from {least} to {most} are read")]
    OutOfRange {
        /// Rate or channels.
        what: &'static str,
        /// What the file says.
        value: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// Longer than the limit.
    #[error("the recording is longer than {seconds_max} s; cut it to that length")]
    TooLong {
        /// The limit.
        seconds_max: u32,
    },
    /// An index or a packet that takes more memory than decoding may.
    #[error(
        "the recording's {part} is longer than {bytes_max} bytes; convert it: \
         ffmpeg -i recording -vn voice.wav"
    )]
    TooLarge {
        /// What is too large.
        part: &'static str,
        /// The limit.
        bytes_max: u64,
    },
}
