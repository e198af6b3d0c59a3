//! Recordings in: wav, flac, mp3 or ogg (Vorbis, Opus), any rate and number of channels, as one channel.
//!
//! A file is read piece by piece: what is held is what was decoded, and that ends at the limits.

mod opus;

use std::fs::File;
use std::io::{Cursor, SeekFrom};
use symphonia::core::audio::AudioSpec;
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;

/// What is read at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AudioLimits {
    /// Longest recording, seconds.
    pub seconds_max: u32,
    /// Most samples a channel, whatever the rate.
    pub samples_max: usize,
    /// Damaged packets that are passed over before the file is given up.
    pub damaged_packets_max: usize,
}

impl Default for AudioLimits {
    fn default() -> AudioLimits {
        AudioLimits {
            seconds_max: 600,
            samples_max: 600 * 48_000,
            damaged_packets_max: 16,
        }
    }
}

impl AudioLimits {
    /// Longest recording at a rate, whole seconds.
    fn seconds_max_at(&self, sample_rate: u32) -> u32 {
        let by_samples = self.samples_max / sample_rate as usize;
        self.seconds_max
            .min(u32::try_from(by_samples).unwrap_or(u32::MAX))
    }
}

/// The lowest and highest sample rate that is read.
pub const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 4_000..=384_000;
const CHANNELS_MAX: usize = 32;

/// A recording, its channels averaged.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Samples from −1 to 1.
    pub samples: Vec<f32>,
    /// Samples a second.
    pub sample_rate: u32,
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudioError {
    /// Not a format that is read.
    #[error("not a wav, flac, mp3 or ogg (Vorbis, Opus) recording: {reason}")]
    Unknown {
        /// What the reader met.
        reason: String,
    },
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
    #[error(
        "the recording is longer than {seconds_max} s; cut it to the part with the voice, 10 to 20 s are enough"
    )]
    TooLong {
        /// The limit.
        seconds_max: u32,
    },
}

/// Decodes a recording that is in memory.
///
/// # Errors
/// [`AudioError`] says what the file is not, or which limit it passes.
pub fn decode(file: &[u8], limits: &AudioLimits) -> Result<Recording, AudioError> {
    read(Cursor::new(file), limits)
}

/// Decodes a recording from its file, which is not read further than the limits.
///
/// # Errors
/// As [`decode`].
pub fn decode_file(file: File, limits: &AudioLimits) -> Result<Recording, AudioError> {
    read(file, limits)
}

fn read(mut source: impl MediaSource, limits: &AudioLimits) -> Result<Recording, AudioError> {
    let mut taken = Taken::new(limits);
    if source.byte_len() == Some(0) {
        return Err(AudioError::Empty);
    }
    let is_opus = opus::is_ogg_opus(&mut source).and_then(|is_opus| {
        source.seek(SeekFrom::Start(0))?;
        Ok(is_opus)
    });
    let is_opus = is_opus.map_err(|error| AudioError::Unknown {
        reason: error.to_string(),
    })?;
    if is_opus {
        opus::decode(source, &mut taken)?;
    } else {
        decode_by_probe(source, &mut taken)?;
    }
    taken.finish()
}

/// What was decoded so far, and what is still allowed.
struct Taken<'l> {
    limits: &'l AudioLimits,
    recording: Recording,
    damaged_packets: usize,
}

impl<'l> Taken<'l> {
    fn new(limits: &'l AudioLimits) -> Taken<'l> {
        Taken {
            limits,
            recording: Recording {
                samples: Vec::new(),
                sample_rate: 0,
            },
            damaged_packets: 0,
        }
    }

    /// Takes the next frames, interleaved.
    fn add(
        &mut self,
        interleaved: &[f32],
        channels: usize,
        sample_rate: u32,
    ) -> Result<(), AudioError> {
        check("channels", channels as u64, 1, CHANNELS_MAX as u64)?;
        check(
            "samples a second",
            sample_rate.into(),
            (*SAMPLE_RATES.start()).into(),
            (*SAMPLE_RATES.end()).into(),
        )?;
        let recording = &mut self.recording;
        if recording.sample_rate != 0 && recording.sample_rate != sample_rate {
            return Err(AudioError::Damaged {
                reason: "its sample rate changes on the way".into(),
            });
        }
        recording.sample_rate = sample_rate;
        let seconds_max = self.limits.seconds_max_at(sample_rate);
        let frames = interleaved.len() / channels;
        let most = u64::from(seconds_max) * u64::from(sample_rate);
        if (recording.samples.len() + frames) as u64 > most {
            return Err(AudioError::TooLong { seconds_max });
        }
        let share = 1.0 / channels as f32;
        let mixed = interleaved.chunks_exact(channels).map(|frame| {
            let mean = frame.iter().sum::<f32>() * share;
            if mean.is_finite() { mean } else { 0.0 }
        });
        recording.samples.extend(mixed);
        Ok(())
    }

    /// Passes over a damaged packet, if that is still allowed.
    fn pass_over(&mut self, reason: impl ToString) -> Result<(), AudioError> {
        self.damaged_packets += 1;
        if self.damaged_packets > self.limits.damaged_packets_max {
            return Err(AudioError::Damaged {
                reason: reason.to_string(),
            });
        }
        Ok(())
    }

    fn finish(self) -> Result<Recording, AudioError> {
        if self.recording.samples.is_empty() {
            return Err(AudioError::Empty);
        }
        Ok(self.recording)
    }
}

fn decode_by_probe(source: impl MediaSource, taken: &mut Taken<'_>) -> Result<(), AudioError> {
    let unknown = |error: SymphoniaError| AudioError::Unknown {
        reason: error.to_string(),
    };
    let damaged = |error: SymphoniaError| AudioError::Damaged {
        reason: error.to_string(),
    };
    let stream = MediaSourceStream::new(Box::new(source), MediaSourceStreamOptions::default());
    let mut format = symphonia::default::get_probe()
        .probe(
            &Hint::new(),
            stream,
            FormatOptions::default(),
            MetadataOptions::default(),
        )
        .map_err(unknown)?;
    let no_track = || AudioError::Unknown {
        reason: "it has no sound track".into(),
    };
    let track = format
        .default_track(TrackType::Audio)
        .ok_or_else(no_track)?;
    let id = track.id;
    let parameters = (track.codec_params.as_ref())
        .and_then(|parameters| parameters.audio())
        .ok_or_else(no_track)?;
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(unknown)?;
    let mut interleaved = Vec::new();
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            // The end of the file, or of what is whole of it; a chained stream's second part is not read.
            Ok(None) | Err(SymphoniaError::ResetRequired) => return Ok(()),
            Err(error) if is_end(&error) => return Ok(()),
            Err(error) => return Err(damaged(error)),
        };
        if packet.track_id != id {
            continue;
        }
        let buffer = match decoder.decode(&packet) {
            Ok(buffer) => buffer,
            Err(error) if is_end(&error) => return Ok(()),
            Err(SymphoniaError::DecodeError(reason)) => {
                taken.pass_over(reason)?;
                continue;
            }
            Err(error) => return Err(damaged(error)),
        };
        let (channels, rate) = shape(buffer.spec());
        if buffer.frames() == 0 {
            continue;
        }
        buffer.copy_to_vec_interleaved(&mut interleaved);
        taken.add(&interleaved, channels, rate)?;
    }
}

fn shape(specification: &AudioSpec) -> (usize, u32) {
    (specification.channels().count(), specification.rate())
}

fn is_end(error: &SymphoniaError) -> bool {
    matches!(error, SymphoniaError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof)
}

fn check(what: &'static str, value: u64, least: u64, most: u64) -> Result<(), AudioError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(AudioError::OutOfRange {
        what,
        value,
        least,
        most,
    })
}
