//! Sun and NeXT audio (`.au`, `.snd`).

use super::AudioError;
use super::header::{Order, field, read_at};
use super::payload::{Blocks, Coding, Payload};
use super::unread::Unread;
use std::io::{Read, Seek};
use symphonia::core::codecs::audio::well_known::*;

/// Locates the audio data of an AU file; `None` if the file is not an AU.
pub(super) fn find(
    source: &mut (impl Read + Seek),
    start: u64,
    file_bytes: u64,
) -> Result<Option<Payload>, AudioError> {
    let header = read_at(source, start, 24).map_err(|error| AudioError::Damaged {
        reason: error.to_string(),
    })?;
    let order = match header.get(..4) {
        Some(b".snd") => Order::Big,
        Some(b"dns.") => Order::Little,
        _ => return Ok(None),
    };
    let short = || AudioError::Damaged {
        reason: "the AU file's header is cut short".into(),
    };
    let word = |offset| field(&header, offset).map(|bytes| order.u32(bytes));
    let offset = u64::from(word(4).ok_or_else(short)?);
    let encoding = word(12).ok_or_else(short)?;
    let sample_rate = word(16).ok_or_else(short)?;
    let channels = word(20).ok_or_else(short)?;
    let little = order == Order::Little;
    let either = |big, small| if little { small } else { big };
    let (codec, sample_bytes) = match encoding {
        1 => (CODEC_ID_PCM_MULAW, 1),
        2 => (CODEC_ID_PCM_S8, 1),
        3 => (either(CODEC_ID_PCM_S16BE, CODEC_ID_PCM_S16LE), 2),
        4 => (either(CODEC_ID_PCM_S24BE, CODEC_ID_PCM_S24LE), 3),
        5 => (either(CODEC_ID_PCM_S32BE, CODEC_ID_PCM_S32LE), 4),
        6 => (either(CODEC_ID_PCM_F32BE, CODEC_ID_PCM_F32LE), 4),
        7 => (either(CODEC_ID_PCM_F64BE, CODEC_ID_PCM_F64LE), 8),
        27 => (CODEC_ID_PCM_ALAW, 1),
        23..=26 => {
            return Err(AudioError::Unread(Unread::codec(
                "G.721 and G.723 in AU",
                "au",
            )));
        }
        other => {
            let name = format!("AU with encoding {other}");
            return Err(AudioError::Unread(Unread::codec(name, "au")));
        }
    };
    let content = start.saturating_add(offset.max(24));
    let there = file_bytes.saturating_sub(content);
    let payload = Payload {
        coding: Coding::Blocks(Blocks {
            codec,
            block_bytes: sample_bytes * channels.clamp(1, 1 << 10) as usize,
            block_frames: 1,
        }),
        channels: u16::try_from(channels).unwrap_or(u16::MAX),
        sample_rate,
        start: content,
        // Streaming writers leave the size zero, all ones or too small; nothing follows the sound.
        length: there,
    };
    payload.check()?;
    Ok(Some(payload))
}
