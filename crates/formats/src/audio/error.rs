//! Errors of reading recordings.

use super::unread::Unread;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudioError {
    /// The format is not supported.
    #[error("not a recording in a supported format ({FORMATS}): {reason}", FORMATS = super::FORMATS)]
    Unknown {
        /// What was found instead.
        reason: String,
    },
    /// A known format or codec without a decoder.
    #[error("{0}")]
    Unread(Unread),
    /// No audio data.
    #[error("the recording is empty")]
    Empty,
    /// The file is damaged.
    #[error("the recording is damaged: {reason}")]
    Damaged {
        /// What is damaged.
        reason: String,
    },
    /// A sample rate or channel count beyond the limits.
    #[error("the recording has {value} {what}; {least} to {most} are supported")]
    OutOfRange {
        /// Sample rate or channels.
        what: &'static str,
        /// The file's value.
        value: u64,
        /// The lower limit.
        least: u64,
        /// The upper limit.
        most: u64,
    },
    /// Longer than the limit.
    #[error("the recording is longer than {seconds_max} s; cut it to that length")]
    TooLong {
        /// The limit in seconds.
        seconds_max: u32,
    },
    /// An index or a packet that exceeds the memory limit of decoding.
    #[error(
        "the recording's {part} is longer than {bytes_max} bytes; convert it: \
         ffmpeg -i recording -vn voice.wav"
    )]
    TooLarge {
        /// The part that is too large.
        part: &'static str,
        /// The limit in bytes.
        bytes_max: u64,
    },
}
