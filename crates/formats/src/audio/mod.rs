//! Decoding of recordings from phones, browsers, recorders and editors, to mono at a requested
//! sample rate.
//!
//! A recording is mixed and resampled while it is decoded, and only as far as requested. Memory is
//! bounded whatever a file claims: [`DecodeOptions::bytes_max`].

mod aac;
mod aiff;
mod caf;
mod chunks;
mod error;
mod flac;
mod header;
mod ima;
mod isomp4;
mod library;
mod metered;
mod mixer;
mod opus;
mod opus_streams;
mod payload;
mod riff;
mod sun;
mod unread;

pub use error::AudioError;
pub use unread::Unread;

use chunks::Chunks;
use isomp4::{Index, SoundTrack};
use metered::{Allowance, Metered};
use mixer::Mixer;
use payload::{Coding, Payload};
use std::fs::File;
use std::io::{Cursor, SeekFrom};
use std::ops::ControlFlow;
pub use symphonia::core::io::MediaSource;

/// The supported formats, for messages.
const FORMATS: &str = "WAV, FLAC, MP3, Ogg, Opus, WebM, M4A, MP4, MOV, AAC, AIFF, CAF, AU";
/// Bytes at the beginning that identify a format.
const PREFIX_BYTES: usize = 4096;
/// Number of tags before the audio data that are skipped.
const TAGS_MAX: usize = 4;

/// Options of decoding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeOptions {
    /// Sample rate of the result, in Hz.
    pub sample_rate: u32,
    /// Limit of the result's length, in seconds.
    pub seconds_max: u32,
    /// Treatment of a longer recording.
    pub longer: Longer,
    /// Number of damaged packets that are skipped before decoding fails.
    pub damaged_packets_max: usize,
}

/// Treatment of a recording that is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Longer {
    /// The beginning is used; the rest is not read.
    Cut,
    /// The recording is refused.
    Refuse,
}

impl DecodeOptions {
    /// The first `seconds_max` seconds of a recording.
    pub const fn first(seconds_max: u32, sample_rate: u32) -> DecodeOptions {
        DecodeOptions {
            sample_rate,
            seconds_max,
            longer: Longer::Cut,
            damaged_packets_max: 16,
        }
    }

    /// A whole recording of up to `seconds_max` seconds.
    pub const fn whole(seconds_max: u32, sample_rate: u32) -> DecodeOptions {
        DecodeOptions {
            longer: Longer::Refuse,
            ..DecodeOptions::first(seconds_max, sample_rate)
        }
    }

    /// Upper bound of the memory of decoding a file of `file_bytes` bytes, in bytes: the result is
    /// included, the file itself is not.
    pub const fn bytes_max(&self, file_bytes: u64) -> usize {
        mixer::bytes_max(self) + library::bytes_max(file_bytes)
    }
}

/// Supported sample rates, in Hz.
pub const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 4_000..=384_000;
const CHANNELS_MAX: usize = 32;

/// A decoded recording, mixed to mono.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Samples from −1 to 1.
    pub samples: Vec<f32>,
    /// Sample rate in Hz.
    pub sample_rate: u32,
}

/// Decodes a recording in memory.
///
/// # Errors
/// [`AudioError`] names the unsupported format, the damage, or the limit exceeded.
pub fn decode(file: &[u8], options: &DecodeOptions) -> Result<Recording, AudioError> {
    read(Cursor::new(file), options)
}

/// Decodes a recording from a file, and reads no more of it than the options need.
///
/// # Errors
/// As [`decode`].
pub fn decode_file(file: File, options: &DecodeOptions) -> Result<Recording, AudioError> {
    read(file, options)
}

/// The channels of a recording that are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// The mean of all channels.
    Mean,
    /// The loudest channel, for channels that cancel out.
    LoudestChannel,
}

/// Decodes a recording of any length piece by piece: `take` gets the samples of a mix at
/// `sample_rate`, and may end the decoding. Nothing is kept, and a constant offset stays. Returns
/// the mix that [`decode`] would have chosen for what was read.
///
/// # Errors
/// As [`decode`].
pub fn decode_pieces(
    source: impl MediaSource,
    sample_rate: u32,
    mix: Mix,
    take: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
) -> Result<Mix, AudioError> {
    let options = DecodeOptions::first(u32::MAX, sample_rate);
    let mut mixer = Mixer::handing_on(&options, mix, take);
    read_into(source, &mut mixer)?;
    mixer.finish_handing_on()
}

/// Upper bound of the memory of [`decode_pieces`] at `sample_rate` for any recording, in bytes.
pub const fn pieces_bytes_max(sample_rate: u32) -> usize {
    mixer::handing_on_bytes_max(sample_rate) + library::bytes_max(u64::MAX)
}

/// Upper bound of the memory of [`decode_pieces`] at `sample_rate` for this source, in bytes. It
/// does not depend on the recording's length: containers that have no index need none.
///
/// # Errors
/// As [`decode`], if the container is damaged or its format has no decoder here.
pub fn pieces_bytes_max_of(
    mut source: impl MediaSource,
    sample_rate: u32,
) -> Result<usize, AudioError> {
    let has_index = !matches!(
        Container::of(&mut source)?.content,
        Content::Opus
            | Content::Chunks(_)
            | Content::Payload(Payload {
                coding: Coding::Blocks(_),
                ..
            })
    );
    Ok(match has_index {
        true => pieces_bytes_max(sample_rate),
        false => mixer::handing_on_bytes_max(sample_rate) + library::PACKETS_BYTES_MAX,
    })
}

fn read(source: impl MediaSource, options: &DecodeOptions) -> Result<Recording, AudioError> {
    let mut mixer = Mixer::new(options);
    read_into(source, &mut mixer)?;
    mixer.finish()
}

/// A recording's container, as far as its first bytes show.
struct Container {
    file_bytes: u64,
    /// Offset behind any tags.
    start: u64,
    prefix: Vec<u8>,
    content: Content,
}

/// Who reads a container.
enum Content {
    /// Framed only.
    Payload(Payload),
    /// Framed only, in the chunks of an MP4.
    Chunks(Chunks),
    /// Opus in Ogg.
    Opus,
    /// Everything else, with the sound track of an MP4.
    Library(Option<SoundTrack>),
}

impl Container {
    fn of(source: &mut impl MediaSource) -> Result<Container, AudioError> {
        let unreadable = |error: std::io::Error| AudioError::Unknown {
            reason: error.to_string(),
        };
        let file_bytes = source.seek(SeekFrom::End(0)).map_err(unreadable)?;
        if file_bytes == 0 {
            return Err(AudioError::Empty);
        }
        let (start, prefix) = after_tags(source, file_bytes).map_err(unreadable)?;
        if let Some(unread) = Unread::of_prefix(&prefix) {
            return Err(AudioError::Unread(unread));
        }
        let mut payload = riff::find(source, start, file_bytes)?;
        for find in [aiff::find, sun::find, caf::find] {
            if payload.is_none() {
                payload = find(source, start, file_bytes)?;
            }
        }
        let content = match payload {
            Some(payload) => Content::Payload(payload),
            None if opus::is_ogg_opus(&prefix) => Content::Opus,
            None if isomp4::is_mp4(&prefix) => Container::of_mp4(source, start, file_bytes)?,
            None => Content::Library(None),
        };
        let file_bytes = caf::end(source, start, file_bytes).map_err(unreadable)?;
        Ok(Container {
            file_bytes,
            start,
            prefix,
            content,
        })
    }

    fn of_mp4(
        source: &mut impl MediaSource,
        start: u64,
        file_bytes: u64,
    ) -> Result<Content, AudioError> {
        let index = isomp4::index(source, start, file_bytes);
        let index = index.map_err(|error| AudioError::Damaged {
            reason: error.to_string(),
        })?;
        let track = match index {
            // The demultiplexer finds none either.
            Index::Missing => return Ok(Content::Library(None)),
            Index::Packed => {
                let name = "QuickTime with a compressed index";
                return Err(AudioError::Unread(Unread::codec(name, "mov")));
            }
            Index::WithoutSound => return Err(AudioError::Unread(Unread::without_sound())),
            Index::Sound(track) => track,
        };
        let chunks = chunks::find(source, &track)?;
        Ok(chunks.map_or(Content::Library(Some(track)), Content::Chunks))
    }
}

fn read_into(mut source: impl MediaSource, mixer: &mut Mixer<'_>) -> Result<(), AudioError> {
    let Container {
        file_bytes,
        start,
        prefix,
        content,
    } = Container::of(&mut source)?;
    match content {
        Content::Payload(payload) => library::decode_payload(source, &payload, mixer),
        Content::Chunks(chunks) => library::decode_chunks(source, &chunks, mixer),
        Content::Opus => {
            let allowance = Allowance::default();
            allowance.set(u64::MAX);
            let length = file_bytes.saturating_sub(start);
            let source = Metered::new(source, start, length, &allowance);
            let source = source.map_err(|error| AudioError::Unknown {
                reason: error.to_string(),
            })?;
            opus::decode_ogg(source, mixer)
        }
        Content::Library(mp4) => library::decode(source, start, file_bytes, &prefix, mp4, mixer),
    }
}

/// Offset and first bytes of the recording behind any ID3 tags, which may hold pictures of
/// megabytes.
fn after_tags(source: &mut impl MediaSource, file_bytes: u64) -> std::io::Result<(u64, Vec<u8>)> {
    let mut start = 0;
    for _ in 0..TAGS_MAX {
        let prefix = header::read_at(source, start, PREFIX_BYTES)?;
        let Some(&[b'I', b'D', b'3', _, _, flags, a, b, c, d]) = prefix.get(..10) else {
            // A byte order mark, or the head of the answer that a download was saved with.
            let before = riff::header_place(&prefix).unwrap_or(0);
            let prefix = match before {
                0 => prefix,
                _ => header::read_at(source, start + before, PREFIX_BYTES)?,
            };
            return Ok((start + before, prefix));
        };
        // Seven bits per byte; a footer repeats the header.
        let size = [a, b, c, d]
            .iter()
            .fold(0, |size, byte| size << 7 | u64::from(byte & 0x7f));
        let footer = if flags & 0x10 != 0 { 10 } else { 0 };
        let next = start + 10 + size + footer;
        // The size of a tag that ends beyond the file is wrong; the audio is found by its frames.
        if next >= file_bytes {
            start += 10;
            break;
        }
        start = next;
    }
    let prefix = header::read_at(source, start, PREFIX_BYTES)?;
    Ok((start, prefix))
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
