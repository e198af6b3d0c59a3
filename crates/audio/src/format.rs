//! Output formats.

use crate::Error;
use std::path::Path;
use std::str::FromStr;

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioFormat {
    /// RIFF WAVE, 16-bit PCM.
    Wav,
    /// Headerless 16-bit little-endian PCM.
    Pcm,
    /// FLAC, 16 bit.
    Flac,
    /// MPEG-2 layer III, 64 kbit/s.
    Mp3,
    /// Opus in Ogg, 32 kbit/s.
    Opus,
    /// AAC-LC in ADTS frames, 64 kbit/s.
    Aac,
}

impl AudioFormat {
    /// Every format, in the order of help texts.
    pub const ALL: [AudioFormat; 6] = [
        Self::Wav,
        Self::Flac,
        Self::Mp3,
        Self::Opus,
        Self::Aac,
        Self::Pcm,
    ];

    /// Whether this program was built with the format's encoder.
    pub fn is_built(self) -> bool {
        match self {
            Self::Wav | Self::Pcm => true,
            Self::Flac => cfg!(feature = "flac"),
            Self::Mp3 => cfg!(feature = "mp3"),
            Self::Opus => cfg!(feature = "opus"),
            Self::Aac => cfg!(feature = "aac"),
        }
    }

    /// The name in options and requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Pcm => "pcm",
            Self::Flac => "flac",
            Self::Mp3 => "mp3",
            Self::Opus => "opus",
            Self::Aac => "aac",
        }
    }

    /// The media type for HTTP.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Wav => "audio/wav",
            Self::Pcm => "audio/pcm",
            Self::Flac => "audio/flac",
            Self::Mp3 => "audio/mpeg",
            Self::Opus => "audio/ogg; codecs=opus",
            Self::Aac => "audio/aac",
        }
    }

    /// The format of a file name's extension.
    ///
    /// # Errors
    /// If the name has no extension, or an unknown one.
    pub fn from_path(path: &Path) -> Result<AudioFormat, Error> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension
            .and_then(|extension| extension.parse().ok())
            .ok_or_else(|| Error::UnknownExtension(path.to_owned()))
    }
}

impl FromStr for AudioFormat {
    type Err = Error;

    /// Parses a format's name or usual file extension, in any case.
    fn from_str(text: &str) -> Result<AudioFormat, Error> {
        match text.to_ascii_lowercase().as_str() {
            "wav" | "wave" => Ok(Self::Wav),
            "pcm" | "raw" => Ok(Self::Pcm),
            "flac" => Ok(Self::Flac),
            "mp3" => Ok(Self::Mp3),
            "opus" | "ogg" => Ok(Self::Opus),
            "aac" | "adts" => Ok(Self::Aac),
            _ => Err(Error::UnknownFormat(text.to_owned())),
        }
    }
}

impl std::fmt::Display for AudioFormat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
