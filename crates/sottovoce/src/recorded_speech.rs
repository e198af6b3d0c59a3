//! Recorded speech whose voice is changed.

use crate::error::Error;
use sottovoce_formats::audio::{AudioError, Mix, SAMPLE_RATES, decode_pieces, pieces_bytes_max_of};
use sottovoce_formats::file;
use sottovoce_formats::resample::{Filter, RESAMPLER_BYTES_MAX, Resampler};
use sottovoce_memory::{Owner, Region};
use std::fs::File;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Owner of a recording's memory while it is decoded.
pub(crate) const RECORDING: Owner = Owner::new(Region::Staging, "recording");
/// Samples resampled at a time.
const PIECE_SAMPLES: usize = 1 << 14;

/// Recorded speech, of any length. A file is read piece by piece, twice: first for its loudness,
/// then for its words.
#[derive(Debug)]
pub enum RecordedSpeech {
    /// A recording's file.
    File(PathBuf),
    /// A recording's file that is open already.
    Opened {
        /// Its name in messages.
        name: String,
        /// The file.
        file: File,
    },
    /// A recording in memory.
    Bytes {
        /// Its name in messages.
        name: String,
        /// The file's bytes.
        bytes: Vec<u8>,
    },
    /// Mono samples, nominally in −1..1.
    Samples {
        /// The samples.
        samples: Vec<f32>,
        /// Samples a second.
        sample_rate: u32,
    },
}

impl RecordedSpeech {
    /// Its name in messages.
    pub fn name(&self) -> String {
        match self {
            RecordedSpeech::File(path) => path.display().to_string(),
            RecordedSpeech::Opened { name, .. } | RecordedSpeech::Bytes { name, .. } => {
                name.clone()
            }
            RecordedSpeech::Samples { .. } => "the samples".into(),
        }
    }

    /// An error about it.
    pub(crate) fn refuse(&self, reason: impl ToString) -> Error {
        Error::Recording {
            path: self.name().into(),
            reason: reason.to_string(),
        }
    }

    /// Checks early whether the recording can be read, as far as possible without decoding. Returns
    /// an upper bound of the memory for reading it at `sample_rate`, in bytes, which does not
    /// depend on its length.
    pub(crate) fn check(&self, sample_rate: u32) -> Result<u64, Error> {
        let decoding = |bytes_max: Result<usize, AudioError>| {
            let bytes_max = bytes_max.map_err(|error| self.refuse(error))?;
            Ok(bytes_max as u64)
        };
        match self {
            RecordedSpeech::File(path) => decoding(pieces_bytes_max_of(open(path)?, sample_rate)),
            RecordedSpeech::Opened { name, file } => {
                decoding(pieces_bytes_max_of(again(name, file)?, sample_rate))
            }
            RecordedSpeech::Bytes { bytes, .. } => {
                let source = Cursor::new(bytes.as_slice());
                decoding(pieces_bytes_max_of(source, sample_rate))
            }
            RecordedSpeech::Samples {
                samples,
                sample_rate: from,
            } => {
                if !SAMPLE_RATES.contains(from) {
                    let (least, most) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
                    return Err(self.refuse(format!(
                        "{from} samples a second; {least} to {most} are supported"
                    )));
                }
                match samples.iter().position(|sample| !sample.is_finite()) {
                    Some(index) => Err(self.refuse(format!("sample {index} is not finite"))),
                    None => {
                        let ratio = u64::from(sample_rate.div_ceil(*from));
                        // A resampled piece, in a vector that grows by doubling.
                        let piece = 2 * size_of::<f32>() * PIECE_SAMPLES;
                        Ok(RESAMPLER_BYTES_MAX as u64 + piece as u64 * (ratio + 1))
                    }
                }
            }
        }
    }

    /// Passes its samples at `sample_rate` to `take`, piece by piece. Returns the mix of its
    /// channels that was read.
    pub(crate) fn read(
        &self,
        sample_rate: u32,
        mix: Mix,
        take: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<Mix, Error> {
        let decoded = match self {
            RecordedSpeech::File(path) => decode_pieces(open(path)?, sample_rate, mix, take),
            RecordedSpeech::Opened { name, file } => {
                decode_pieces(again(name, file)?, sample_rate, mix, take)
            }
            RecordedSpeech::Bytes { bytes, .. } => {
                decode_pieces(Cursor::new(bytes.as_slice()), sample_rate, mix, take)
            }
            RecordedSpeech::Samples {
                samples,
                sample_rate: from,
            } => {
                let mut resampler = Resampler::new(*from, sample_rate, Filter::Kaiser64);
                let mut piece = Vec::new();
                for part in samples.chunks(PIECE_SAMPLES) {
                    piece.clear();
                    resampler.push(part, &mut piece);
                    if take(&piece).is_break() {
                        return Ok(Mix::Mean);
                    }
                }
                piece.clear();
                resampler.finish(&mut piece);
                // Nothing follows, so its answer does not matter.
                let _ = take(&piece);
                Ok(Mix::Mean)
            }
        };
        decoded.map_err(|error| self.refuse(error))
    }
}

fn again(name: &str, file: &File) -> Result<File, Error> {
    (file.try_clone()).map_err(|source| Error::file(name.as_ref(), source))
}

fn open(path: &Path) -> Result<File, Error> {
    file::open(path).map_err(|source| Error::file(path, source))
}
