//! Recordings in: wav, flac, mp3 or ogg (Vorbis), any rate and number of channels, as one channel.

use std::io::Cursor;
use symphonia::core::audio::SampleBuffer;
use symphonia::core::codecs::{CODEC_TYPE_NULL, DecoderOptions};
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::FormatOptions;
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::probe::Hint;

/// What is read at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AudioLimits {
    /// Longest recording, seconds.
    pub seconds_max: u32,
    /// Damaged packets that are passed over before the file is given up.
    pub damaged_packets_max: usize,
}

impl Default for AudioLimits {
    fn default() -> AudioLimits {
        AudioLimits {
            seconds_max: 600,
            damaged_packets_max: 16,
        }
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
    #[error("not a wav, flac, mp3 or ogg (Vorbis) recording: {reason}")]
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

/// Decodes a whole file. Memory grows with what is really decoded and ends at the limit.
pub fn decode(file: Vec<u8>, limits: &AudioLimits) -> Result<Recording, AudioError> {
    if file.is_empty() {
        return Err(AudioError::Empty);
    }
    let unknown = |error: SymphoniaError| AudioError::Unknown {
        reason: error.to_string(),
    };
    let damaged = |error: SymphoniaError| AudioError::Damaged {
        reason: error.to_string(),
    };
    let stream = MediaSourceStream::new(
        Box::new(Cursor::new(file)),
        MediaSourceStreamOptions::default(),
    );
    let probed = symphonia::default::get_probe()
        .format(
            &Hint::new(),
            stream,
            &FormatOptions::default(),
            &MetadataOptions::default(),
        )
        .map_err(unknown)?;
    let mut format = probed.format;
    let track = (format.tracks().iter())
        .find(|track| track.codec_params.codec != CODEC_TYPE_NULL)
        .ok_or_else(|| AudioError::Unknown {
            reason: "it has no sound track".into(),
        })?;
    let id = track.id;
    let mut decoder = symphonia::default::get_codecs()
        .make(&track.codec_params, &DecoderOptions::default())
        .map_err(unknown)?;
    let mut recording = Recording {
        samples: Vec::new(),
        sample_rate: 0,
    };
    let mut damaged_packets = 0;
    loop {
        let packet = match format.next_packet() {
            Ok(packet) => packet,
            // The end of the file, or of what is whole of it; a chained stream's second part is not read.
            Err(SymphoniaError::IoError(error))
                if error.kind() == std::io::ErrorKind::UnexpectedEof =>
            {
                break;
            }
            Err(SymphoniaError::ResetRequired) => break,
            Err(error) => return Err(damaged(error)),
        };
        if packet.track_id() != id {
            continue;
        }
        let buffer = match decoder.decode(&packet) {
            Ok(buffer) => buffer,
            Err(SymphoniaError::DecodeError(_)) if damaged_packets < limits.damaged_packets_max => {
                damaged_packets += 1;
                continue;
            }
            Err(SymphoniaError::IoError(error))
                if error.kind() == std::io::ErrorKind::UnexpectedEof =>
            {
                break;
            }
            Err(error) => return Err(damaged(error)),
        };
        let specification = *buffer.spec();
        let channels = specification.channels.count();
        check("channels", channels as u64, 1, CHANNELS_MAX as u64)?;
        check(
            "samples a second",
            specification.rate.into(),
            (*SAMPLE_RATES.start()).into(),
            (*SAMPLE_RATES.end()).into(),
        )?;
        if recording.sample_rate != 0 && recording.sample_rate != specification.rate {
            return Err(AudioError::Damaged {
                reason: "its sample rate changes on the way".into(),
            });
        }
        recording.sample_rate = specification.rate;
        if buffer.frames() == 0 {
            continue;
        }
        let mut interleaved = SampleBuffer::<f32>::new(buffer.capacity() as u64, specification);
        interleaved.copy_interleaved_ref(buffer);
        let share = 1.0 / channels as f32;
        recording
            .samples
            .extend((interleaved.samples().chunks_exact(channels)).map(|frame| {
                let mean = frame.iter().sum::<f32>() * share;
                if mean.is_finite() { mean } else { 0.0 }
            }));
        let most = u64::from(limits.seconds_max) * u64::from(recording.sample_rate);
        if recording.samples.len() as u64 > most {
            return Err(AudioError::TooLong {
                seconds_max: limits.seconds_max,
            });
        }
    }
    if recording.samples.is_empty() {
        return Err(AudioError::Empty);
    }
    Ok(recording)
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
