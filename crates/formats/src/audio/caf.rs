//! Companded samples in Apple's Core Audio Format (`.caf`); its other codings are Symphonia's.

use super::AudioError;
use super::header::{field, read_at};
use super::payload::{Coding, Payload};
use std::io::{self, Read, Seek};
use symphonia::core::codecs::audio::well_known::*;

/// Limit of the number of chunks before the data chunk.
const CHUNKS_MAX: usize = 1024;
/// Bytes of a chunk's header: its name and a 64-bit size.
const HEADER_BYTES: u64 = 12;
/// Bytes of the description's fields.
const DESCRIPTION_BYTES: usize = 32;
/// Bytes of the data chunk before its samples: the number of edits.
const EDIT_COUNT_BYTES: u64 = 4;

/// Locates the audio data of a CAF file with A-law or µ-law samples; `None` for any other file.
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
    let mut described = None;
    for _ in 0..CHUNKS_MAX {
        let header = read_at(source, position, HEADER_BYTES as usize).map_err(damaged)?;
        let (Some(name), Some(size)) = (field::<4>(&header, 0), field(&header, 4)) else {
            break;
        };
        let content = position.saturating_add(HEADER_BYTES);
        let there = file_bytes.saturating_sub(content);
        // All ones in the data chunk: as far as the file goes.
        let size = match u64::from_be_bytes(size) {
            u64::MAX => there,
            size => size.min(there),
        };
        if &name == b"desc" {
            let bytes = read_at(source, content, DESCRIPTION_BYTES).map_err(damaged)?;
            described = description(&bytes);
            if described.is_none() {
                return Ok(None);
            }
        }
        if let (b"data", Some((codec, sample_rate, channels))) = (&name, described) {
            let edits = EDIT_COUNT_BYTES.min(size);
            let payload = Payload {
                coding: Coding::Blocks {
                    codec,
                    block_bytes: usize::from(channels).clamp(1, 1 << 10),
                    block_frames: 1,
                },
                channels,
                sample_rate,
                start: content + edits,
                length: size - edits,
            };
            payload.check()?;
            return Ok(Some(payload));
        }
        position = content.saturating_add(size);
    }
    Ok(None)
}

/// Codec, sample rate and channels of a description, if its samples are companded.
fn description(bytes: &[u8]) -> Option<(symphonia::core::codecs::audio::AudioCodecId, u32, u16)> {
    let codec = match &field::<4>(bytes, 8)? {
        b"ulaw" => CODEC_ID_PCM_MULAW,
        b"alaw" => CODEC_ID_PCM_ALAW,
        _ => return None,
    };
    let sample_rate = f64::from_be_bytes(field(bytes, 0)?);
    let channels = u32::from_be_bytes(field(bytes, 24)?);
    // A cast saturates, and limits are checked afterwards.
    Some((
        codec,
        sample_rate as u32,
        u16::try_from(channels).unwrap_or(u16::MAX),
    ))
}
