//! Where the sound goes: one streaming encoder for files, pipes and network responses.
//!
//! An [`Encoder`] turns samples into bytes as they come. Formats whose header states the length are written with "unknown" there;
//! [`Encoder::patches`] then names the bytes that a seekable output rewrites, so that a file is valid whenever writing stops.

mod aac;
mod file;
mod flac;
mod mp3;
mod opus;
mod wav;

pub use file::FileSink;

use crate::error::Error;
use std::path::Path;
use std::str::FromStr;

/// How samples are written.
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
    /// Opus in Ogg.
    Opus,
    /// AAC-LC in ADTS frames, 64 kbit/s.
    Aac,
}

impl AudioFormat {
    /// Every format, in the order in which help texts name them.
    pub const ALL: [AudioFormat; 6] = [
        Self::Wav,
        Self::Flac,
        Self::Mp3,
        Self::Opus,
        Self::Aac,
        Self::Pcm,
    ];

    /// The name that options and requests use.
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

    /// The format that a file's name asks for.
    ///
    /// # Errors
    /// If it has no ending, or one that is no format's.
    pub fn from_path(path: &Path) -> Result<AudioFormat, Error> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let reason =
            "a name says the format by its ending: .wav, .flac, .mp3, .opus, .ogg, .aac or .pcm";
        extension
            .and_then(|extension| extension.parse().ok())
            .ok_or_else(|| Error::option("out", path.display(), reason))
    }
}

impl FromStr for AudioFormat {
    type Err = Error;

    /// Reads a format's name or usual file extension, in any case.
    fn from_str(text: &str) -> Result<AudioFormat, Error> {
        match text.to_ascii_lowercase().as_str() {
            "wav" | "wave" => Ok(Self::Wav),
            "pcm" | "raw" => Ok(Self::Pcm),
            "flac" => Ok(Self::Flac),
            "mp3" => Ok(Self::Mp3),
            "opus" | "ogg" => Ok(Self::Opus),
            "aac" | "adts" => Ok(Self::Aac),
            _ => Err(Error::option(
                "format",
                text,
                "use wav, flac, mp3, opus (or ogg), aac or pcm",
            )),
        }
    }
}

impl std::fmt::Display for AudioFormat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Bytes to rewrite at `offset` of what was written so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Bytes from the start of the output.
    pub offset: u64,
    /// What belongs there now.
    pub bytes: Vec<u8>,
}

/// What each format does; samples are mono, nominally in −1..1.
trait Codec: Send {
    fn encode(&mut self, samples: &[f32], output: &mut Vec<u8>) -> Result<(), Error>;
    fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), Error>;
    fn patches(&self) -> Vec<Patch> {
        Vec::new()
    }
}

/// A streaming encoder for one mono recording.
pub struct Encoder {
    codec: Box<dyn Codec>,
    finished: bool,
}

impl Encoder {
    /// Starts a recording at `sample_rate` Hz. A format that cannot carry that rate is refused.
    pub fn new(format: AudioFormat, sample_rate: u32) -> Result<Encoder, Error> {
        let codec: Box<dyn Codec> = match format {
            AudioFormat::Wav => Box::new(wav::Wav::new(sample_rate)),
            AudioFormat::Pcm => Box::new(wav::Pcm),
            AudioFormat::Flac => Box::new(flac::Flac::new(sample_rate)?),
            AudioFormat::Mp3 => Box::new(mp3::Mp3::new(sample_rate)),
            AudioFormat::Opus => Box::new(opus::Opus::new(sample_rate)?),
            AudioFormat::Aac => Box::new(aac::Aac::new(sample_rate)?),
        };
        Ok(Encoder {
            codec,
            finished: false,
        })
    }

    /// Appends to `output` what `samples` complete; nothing may come for a short piece.
    pub fn encode(&mut self, samples: &[f32], output: &mut Vec<u8>) -> Result<(), Error> {
        self.codec.encode(samples, output)
    }

    /// Appends what is still held back. Further calls add nothing.
    pub fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), Error> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(());
        }
        self.codec.finish(output)
    }

    /// What a seekable output rewrites so that its header tells what was written up to now.
    pub fn patches(&self) -> Vec<Patch> {
        self.codec.patches()
    }
}

/// Rounds to 16 bit; beyond full scale and not-a-number are pinned.
fn sample_to_i16(sample: f32) -> i16 {
    (sample * 32767.0).round().clamp(-32768.0, 32767.0) as i16
}

#[cfg(test)]
mod tests;
