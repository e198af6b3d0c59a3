//! Streaming encoders for files, pipes and network responses.
//!
//! Formats whose header states the length are written with "unknown" there. [`Encoder::patches`]
//! returns the bytes that a seekable output rewrites, so that a file is valid whenever writing
//! stops.

#[cfg(feature = "aac")]
mod aac;
#[cfg(feature = "flac")]
mod flac;
#[cfg(feature = "mp3")]
mod mp3;
#[cfg(feature = "opus")]
mod opus;
mod wav;

use crate::{AudioFormat, Error};

/// Bytes to rewrite at `offset` of the output so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Bytes from the start of the output.
    pub offset: u64,
    /// The new bytes.
    pub bytes: Vec<u8>,
}

/// One format's encoder; samples are mono, nominally in −1..1.
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
    /// Starts a recording at `sample_rate` Hz.
    ///
    /// # Errors
    /// If the format cannot carry that rate, or the program was built without its encoder.
    pub fn new(format: AudioFormat, sample_rate: u32) -> Result<Encoder, Error> {
        let codec: Box<dyn Codec> = match format {
            AudioFormat::Wav => Box::new(wav::Wav::new(sample_rate)),
            AudioFormat::Pcm => Box::new(wav::Pcm),
            #[cfg(feature = "flac")]
            AudioFormat::Flac => Box::new(flac::Flac::new(sample_rate)?),
            #[cfg(feature = "mp3")]
            AudioFormat::Mp3 => Box::new(mp3::Mp3::new(sample_rate)),
            #[cfg(feature = "opus")]
            AudioFormat::Opus => Box::new(opus::Opus::new(sample_rate)?),
            #[cfg(feature = "aac")]
            AudioFormat::Aac => Box::new(aac::Aac::new(sample_rate)?),
            #[allow(
                unreachable_patterns,
                reason = "which formats are left depends on features"
            )]
            other => return Err(Error::NotBuilt(other)),
        };
        Ok(Encoder {
            codec,
            finished: false,
        })
    }

    /// Appends to `output` the bytes that `samples` complete; a short piece may complete none.
    ///
    /// # Errors
    /// If the encoder refuses the samples.
    pub fn encode(&mut self, samples: &[f32], output: &mut Vec<u8>) -> Result<(), Error> {
        self.codec.encode(samples, output)
    }

    /// Appends the remaining bytes. Further calls add nothing.
    ///
    /// # Errors
    /// If the encoder cannot write its last frame.
    pub fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), Error> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(());
        }
        self.codec.finish(output)
    }

    /// The bytes that a seekable output rewrites so that its header describes what was written.
    pub fn patches(&self) -> Vec<Patch> {
        self.codec.patches()
    }
}

/// Rounds to 16 bit; values beyond full scale are clipped, NaN becomes 0.
fn sample_to_i16(sample: f32) -> i16 {
    (sample * 32767.0).round().clamp(-32768.0, 32767.0) as i16
}
