//! Plain, companded and IMA samples in Apple's Core Audio Format (`.caf`); its packed codings are
//! Symphonia's. The size of the data chunk is a hint, as in [`riff`](super::riff).

use super::AudioError;
use super::header::{field, read_at};
use super::payload::{self, Blocks, Coding, Payload};
use super::unread::Unread;
use std::io::{self, Read, Seek};
use symphonia::core::codecs::audio::AudioCodecId;
use symphonia::core::codecs::audio::well_known::*;

/// Limit of the number of chunks before the data chunk.
const CHUNKS_MAX: usize = 1024;
/// Bytes of a chunk's header: its name and a 64-bit size.
const HEADER_BYTES: u64 = 12;
/// Bytes of the description's fields.
const DESCRIPTION_BYTES: usize = 32;
/// Bytes of the data chunk before its samples: the number of edits.
const EDIT_COUNT_BYTES: u64 = 4;
/// Formats that Symphonia reads.
const PACKED: [&[u8; 4]; 6] = [b"aac ", b"alac", b".mp1", b".mp2", b".mp3", b"opus"];
/// Names of formats without a decoder.
const NAMES: [(&[u8; 4], &str); 8] = [
    (b"ac-3", "Dolby Digital (AC-3)"),
    (b"ec-3", "Dolby Digital Plus (E-AC-3)"),
    (b"flac", "FLAC in CAF"),
    (b"ilbc", "iLBC"),
    (b"samr", "AMR"),
    (b"agsm", "GSM 6.10"),
    (b"QDM2", "QDesign"),
    (b"Qclp", "Qualcomm PureVoice"),
];

/// Where the chunks of a CAF file end; the end of the file for any other. Something may stand
/// behind the last chunk, and Symphonia would take it for one.
pub(super) fn end(source: &mut (impl Read + Seek), start: u64, file_bytes: u64) -> io::Result<u64> {
    if !read_at(source, start, 4)?.starts_with(b"caff") {
        return Ok(file_bytes);
    }
    let mut position = start + 8;
    for _ in 0..CHUNKS_MAX {
        let header = read_at(source, position, HEADER_BYTES as usize)?;
        let (Some(name), Some(size)) = (field::<4>(&header, 0), field(&header, 4)) else {
            return Ok(position);
        };
        let stated = u64::try_from(i64::from_be_bytes(size)).ok();
        let next = stated.and_then(|size| (position + HEADER_BYTES).checked_add(size));
        match next.filter(|next| *next <= file_bytes) {
            // Samples may go on to the end of the file, or be cut short there.
            None if &name == b"data" => return Ok(file_bytes),
            Some(next) if name.iter().all(|byte| matches!(byte, b' '..=b'~')) => position = next,
            _ => return Ok(position),
        }
    }
    Ok(file_bytes)
}

/// Locates the audio data of a CAF file with samples in blocks; `None` for any other file.
pub(super) fn find(
    source: &mut (impl Read + Seek),
    start: u64,
    file_bytes: u64,
) -> Result<Option<Payload>, AudioError> {
    let damaged = |error: io::Error| AudioError::Damaged {
        reason: error.to_string(),
    };
    let header = read_at(source, start, 8).map_err(damaged)?;
    if !header.starts_with(b"caff") {
        return Ok(None);
    }
    let mut position = start + 8;
    let mut described: Option<Description> = None;
    for _ in 0..CHUNKS_MAX {
        let header = read_at(source, position, HEADER_BYTES as usize).map_err(damaged)?;
        let (Some(name), Some(size)) = (field::<4>(&header, 0), field(&header, 4)) else {
            break;
        };
        let content = position.saturating_add(HEADER_BYTES);
        let there = file_bytes.saturating_sub(content);
        let stated = i64::from_be_bytes(size);
        let size = u64::try_from(stated).map_or(there, |size| size.min(there));
        if &name == b"desc" {
            let bytes = read_at(source, content, DESCRIPTION_BYTES).map_err(damaged)?;
            described = Description::parse(&bytes);
            match &described {
                Some(described) if PACKED.contains(&&described.format) => return Ok(None),
                Some(_) => {}
                None => return Ok(None),
            }
        }
        if let (b"data", Some(described)) = (&name, &described) {
            // A recorder that was stopped leaves the size at zero; all ones is as far as the file
            // goes.
            let size = if stated == 0 { there } else { size };
            let edits = EDIT_COUNT_BYTES.min(size);
            let payload = Payload {
                coding: described.coding()?,
                channels: described.channels,
                sample_rate: described.sample_rate,
                start: content + edits,
                length: size - edits,
            };
            payload.check()?;
            return Ok(Some(payload));
        }
        position = content.saturating_add(size);
    }
    let missing = if described.is_some() { "data" } else { "desc" };
    Err(AudioError::Damaged {
        reason: format!("the CAF has no {missing} chunk"),
    })
}

/// An audio description chunk.
struct Description {
    format: [u8; 4],
    is_float: bool,
    is_little: bool,
    sample_rate: u32,
    packet_bytes: u32,
    channels: u16,
    bits: u32,
}

impl Description {
    /// `None` if it is cut short.
    fn parse(bytes: &[u8]) -> Option<Description> {
        let word = |offset| field(bytes, offset).map(u32::from_be_bytes);
        let flags = word(12)?;
        // A cast saturates, and limits are checked afterwards.
        let sample_rate = f64::from_be_bytes(field(bytes, 0)?) as u32;
        Some(Description {
            format: field(bytes, 8)?,
            is_float: flags & 1 != 0,
            is_little: flags & 2 != 0,
            sample_rate,
            packet_bytes: word(16)?,
            channels: u16::try_from(word(24)?).unwrap_or(u16::MAX),
            bits: word(28)?,
        })
    }

    fn coding(&self) -> Result<Coding, AudioError> {
        let channels = usize::from(self.channels).clamp(1, super::CHANNELS_MAX);
        let unread = |name: String| Err(AudioError::Unread(Unread::codec(name, "caf")));
        let (codec, sample_bytes): (AudioCodecId, usize) = match &self.format {
            b"ulaw" => (CODEC_ID_PCM_MULAW, 1),
            b"alaw" => (CODEC_ID_PCM_ALAW, 1),
            b"ima4" if channels <= 2 => return Ok(Coding::Blocks(Blocks::ima(channels))),
            b"lpcm" => match self.plain(channels) {
                Some(plain) => plain,
                None => return unread(format!("CAF (samples of {} bits)", self.bits)),
            },
            format => {
                let known = NAMES.iter().find(|(known, _)| *known == format);
                return unread(match known {
                    Some((_, name)) => (*name).to_owned(),
                    None => format!("CAF with codec \"{}\"", format.escape_ascii()),
                });
            }
        };
        Ok(Coding::Blocks(Blocks {
            codec,
            block_bytes: sample_bytes * channels,
            block_frames: 1,
        }))
    }

    /// Codec and bytes of plain samples; the block size gives their width in memory, and the bit
    /// depth where there is no usable one.
    fn plain(&self, channels: usize) -> Option<(AudioCodecId, usize)> {
        let by_bits = self.bits.div_ceil(8) as usize;
        let block = self.packet_bytes as usize;
        let by_block = block.is_multiple_of(channels).then_some(block / channels);
        let sample_bytes = by_block
            .filter(|&bytes| bytes >= by_bits.max(1))
            .unwrap_or(by_bits);
        let codec = payload::plain(self.is_float, self.is_little, sample_bytes)?;
        Some((codec, sample_bytes))
    }
}
