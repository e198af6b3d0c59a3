//! AIFF and AIFF-C, the formats of Apple's and of older audio programs. Sizes are hints, as in
//! [`riff`](super::riff).

use super::header::{Order, field, read_at};
use super::payload::{Blocks, Coding, Payload};
use super::unread::Unread;
use super::{AudioError, CHANNELS_MAX};
use std::io::{self, Read, Seek};
use symphonia::core::codecs::audio::well_known::*;

/// Limit of the number of chunks.
const CHUNKS_MAX: usize = 1024;

fn damaged(reason: impl ToString) -> AudioError {
    AudioError::Damaged {
        reason: reason.to_string(),
    }
}

/// Locates the audio data of an AIFF file; `None` if the file is not an AIFF.
pub(super) fn find(
    source: &mut (impl Read + Seek),
    start: u64,
    file_bytes: u64,
) -> Result<Option<Payload>, AudioError> {
    let io = |error: io::Error| damaged(error);
    let prefix = read_at(source, start, 12).map_err(io)?;
    let is_form = prefix.starts_with(b"FORM");
    if !is_form || !matches!(prefix.get(8..), Some(b"AIFF" | b"AIFC")) {
        return Ok(None);
    }
    let mut position = start + 12;
    let mut common = None;
    // The SSND chunk may come before COMM.
    let mut sound = None;
    for _ in 0..CHUNKS_MAX {
        if position >= file_bytes || common.is_some() && sound.is_some() {
            break;
        }
        let header = read_at(source, position, 16).map_err(io)?;
        let fields = (field::<4>(&header, 0), field(&header, 4));
        let (Some(name), Some(size)) = fields else {
            break;
        };
        let size = u64::from(u32::from_be_bytes(size));
        let content = position + 8;
        match &name {
            b"COMM" => {
                // The COMM chunk of an AIFF ends where that of an AIFF-C names the codec.
                let bytes = read_at(source, content, size.min(22) as usize).map_err(io)?;
                common = Some(Common::parse(&bytes)?);
            }
            b"SSND" => {
                // Padding that aligns the first block.
                let offset = field(&header, 8).map_or(0, u32::from_be_bytes);
                let first = content.saturating_add(8).saturating_add(offset.into());
                let there = file_bytes.saturating_sub(first);
                let said = size.saturating_sub(8).saturating_sub(offset.into());
                sound = Some((first, said, there));
            }
            _ => {}
        }
        position = next(source, content, size).map_err(io)?;
    }
    let common = common.ok_or_else(|| damaged("the AIFF has no COMM chunk"))?;
    let (first, said, there) = sound.ok_or_else(|| damaged("the AIFF has no SSND chunk"))?;
    let coding = common.coding()?;
    // Sizes that a recorder never filled in are zero or too small for the frames that there are.
    let length = match common.bytes(coding) {
        _ if said == 0 => there,
        frames => said.max(frames).min(there),
    };
    let payload = Payload {
        coding,
        channels: common.channels,
        sample_rate: common.sample_rate,
        start: first,
        length,
    };
    payload.check()?;
    Ok(Some(payload))
}

/// Start of the next chunk: behind the padding, or directly behind the content if a chunk that a
/// recording needs is there.
fn next(source: &mut (impl Read + Seek), content: u64, size: u64) -> io::Result<u64> {
    let unpadded = content.saturating_add(size);
    if size.is_multiple_of(2) {
        return Ok(unpadded);
    }
    let name = read_at(source, unpadded, 4)?;
    let is_needed = matches!(&name[..], b"SSND" | b"COMM");
    Ok(if is_needed {
        unpadded
    } else {
        unpadded.saturating_add(1)
    })
}

/// Contents of the COMM chunk.
struct Common {
    channels: u16,
    frames: u32,
    bits: u16,
    sample_rate: u32,
    compression: [u8; 4],
}

impl Common {
    fn parse(bytes: &[u8]) -> Result<Common, AudioError> {
        let short = || damaged("the AIFF's COMM chunk is cut short");
        let half = |offset| field(bytes, offset).map(|bytes| Order::Big.u16(bytes));
        Ok(Common {
            channels: half(0).ok_or_else(short)?,
            frames: field(bytes, 2).map_or(0, u32::from_be_bytes),
            bits: half(6).ok_or_else(short)?,
            sample_rate: extended(field(bytes, 8).ok_or_else(short)?),
            compression: field(bytes, 18).unwrap_or(*b"NONE"),
        })
    }

    /// Bytes of the frames that the chunk states.
    fn bytes(&self, coding: Coding) -> u64 {
        match coding {
            Coding::Blocks(Blocks {
                block_bytes,
                block_frames,
                ..
            }) => u64::from(self.frames / block_frames as u32) * block_bytes as u64,
            Coding::SelfDescribed => 0,
        }
    }

    fn coding(&self) -> Result<Coding, AudioError> {
        let channels = usize::from(self.channels).clamp(1, CHANNELS_MAX);
        let (codec, sample_bytes) = match (&self.compression, self.bits.div_ceil(8)) {
            (b"NONE" | b"twos", 1) => (CODEC_ID_PCM_S8, 1),
            (b"NONE" | b"twos", 2) => (CODEC_ID_PCM_S16BE, 2),
            (b"NONE" | b"twos", 3) | (b"in24", _) => (CODEC_ID_PCM_S24BE, 3),
            (b"NONE" | b"twos", 4) | (b"in32", _) => (CODEC_ID_PCM_S32BE, 4),
            (b"sowt", 1) => (CODEC_ID_PCM_S8, 1),
            (b"sowt", 2) => (CODEC_ID_PCM_S16LE, 2),
            (b"sowt", 3) | (b"42ni", _) => (CODEC_ID_PCM_S24LE, 3),
            (b"sowt", 4) | (b"23ni", _) => (CODEC_ID_PCM_S32LE, 4),
            (b"raw ", _) => (CODEC_ID_PCM_U8, 1),
            (b"fl32" | b"FL32", _) => (CODEC_ID_PCM_F32BE, 4),
            (b"fl64" | b"FL64", _) => (CODEC_ID_PCM_F64BE, 8),
            (b"alaw" | b"ALAW", _) => (CODEC_ID_PCM_ALAW, 1),
            (b"ulaw" | b"ULAW", _) => (CODEC_ID_PCM_MULAW, 1),
            (b"ima4", _) if channels <= 2 => return Ok(Coding::Blocks(Blocks::ima(channels))),
            (other, _) => {
                let name = format!("AIFF-C with codec \"{}\"", other.escape_ascii());
                return Err(AudioError::Unread(Unread::codec(name, "aiff")));
            }
        };
        Ok(Coding::Blocks(Blocks {
            codec,
            block_bytes: sample_bytes * channels,
            block_frames: 1,
        }))
    }
}

/// An 80-bit IEEE 754 extended number as an integer; 0 if it is not one.
fn extended(bytes: [u8; 10]) -> u32 {
    let exponent = i32::from(u16::from_be_bytes([bytes[0] & 0x7f, bytes[1]])) - 16_383;
    let mantissa = field(&bytes, 2).map_or(0, u64::from_be_bytes);
    let is_negative = bytes[0] & 0x80 != 0;
    if is_negative || !(0..32).contains(&exponent) {
        return 0;
    }
    // At least 63 − 31 = 32 bits are shifted out, so the rest fits 32 bits.
    (mantissa >> (63 - exponent)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_rates_of_80_bits_are_whole_numbers() {
        let rate = |exponent: u16, mantissa: u64| {
            let mut bytes = [0; 10];
            bytes[..2].copy_from_slice(&exponent.to_be_bytes());
            bytes[2..].copy_from_slice(&mantissa.to_be_bytes());
            extended(bytes)
        };
        assert_eq!(rate(0x400e, 0xac44 << 48), 44_100);
        assert_eq!(rate(0x400b, 0xfa00 << 48), 8_000);
        assert_eq!(rate(0x401e, u64::MAX), u32::MAX);
        assert_eq!(rate(0x401f, u64::MAX), 0);
        assert_eq!(rate(0xc00e, 0xac44 << 48), 0);
        assert_eq!(rate(0, 0), 0);
    }
}
