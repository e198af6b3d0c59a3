//! WAV in all its forms: RIFF, RIFX, RF64, BW64 and Wave64.
//!
//! Sizes are hints. Streaming recorders write zero or all ones, interrupted recorders leave the
//! initial value, and editors forget the padding, but the samples are there. The size of the data
//! chunk is therefore trusted only if a chunk or the end of the file follows; otherwise the data
//! reaches to the end of the file.

use super::header::{Order, field, read_at};
use super::payload::{self, Blocks, Coding, Payload};
use super::unread::Unread;
use super::{AudioError, CHANNELS_MAX};
use std::io::{self, Read, Seek};
use symphonia::core::codecs::audio::AudioCodecId;
use symphonia::core::codecs::audio::well_known::*;

/// Limit of the number of chunks before the data chunk.
const CHUNKS_MAX: usize = 1024;
/// Bytes of a format chunk that are parsed.
const FORMAT_BYTES: usize = 40;
/// Bytes that are searched for a lost data chunk.
const SEARCHED_BYTES: usize = 1 << 20;
/// Names of chunks that may follow an odd-sized chunk; any other name means that the padding is
/// missing.
const NAMES: &[&[u8; 4]] = &[
    b"data", b"fmt ", b"LIST", b"list", b"fact", b"bext", b"cue ", b"smpl", b"inst", b"iXML",
    b"JUNK", b"junk", b"FLLR", b"PAD ", b"PEAK", b"id3 ", b"ID3 ", b"DISP", b"cart", b"chna",
    b"axml", b"_PMX", b"minf", b"elm1", b"umid", b"acid", b"plst", b"ltxt", b"note", b"labl",
    b"ds64", b"levl", b"afsp", b"LGWV", b"SAUR", b"MEXT", b"link", b"wavl", b"slnt", b"INFO",
];
const WAVE64_RIFF: &[u8; 16] = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00";
/// The last twelve bytes of Wave64 chunk identifiers.
const WAVE64_TAIL: &[u8; 12] = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a";

/// Locates the audio data of a WAV file; `None` if the file is not a WAV.
pub(super) fn find(
    source: &mut (impl Read + Seek),
    start: u64,
    file_bytes: u64,
) -> Result<Option<Payload>, AudioError> {
    let prefix = read_at(source, start, 40).map_err(damaged)?;
    let is_wave = field(&prefix, 8) == Some(*b"WAVE");
    let kind = match prefix.get(..4).filter(|_| is_wave) {
        Some(b"RIFF" | b"RF64" | b"BW64") => Some(Order::Little),
        Some(b"RIFX") => Some(Order::Big),
        _ => None,
    };
    let chunks = if let Some(order) = kind {
        Chunks::Riff(order)
    } else if prefix.starts_with(WAVE64_RIFF) && field::<4>(&prefix, 24) == Some(*b"wave") {
        Chunks::Wave64
    } else {
        return Ok(None);
    };
    Walk {
        source,
        chunks,
        file_bytes,
    }
    .payload(start)
    .map(Some)
}

/// Offset of a RIFF header that stands behind text or zeros within the first bytes of a file.
pub(super) fn header_place(prefix: &[u8]) -> Option<u64> {
    let place = prefix.windows(12).position(|bytes| {
        matches!(&bytes[..4], b"RIFF" | b"RIFX" | b"RF64" | b"BW64") && bytes[8..] == *b"WAVE"
    })?;
    // Other containers may hold a WAV's header too.
    let before = prefix[..place].strip_prefix(b"\xef\xbb\xbf");
    let before = before.unwrap_or(&prefix[..place]);
    let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
    let is_passed = before.iter().all(is_text) || before.iter().all(|byte| *byte == 0);
    u64::try_from(place).ok().filter(|_| is_passed)
}

fn damaged(error: io::Error) -> AudioError {
    AudioError::Damaged {
        reason: error.to_string(),
    }
}

fn missing(what: &str) -> AudioError {
    AudioError::Damaged {
        reason: format!("the WAV has no {what} chunk"),
    }
}

/// Layout of chunk headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunks {
    /// Four-character name, 32-bit size without the header, padded to two bytes.
    Riff(Order),
    /// 16-byte identifier, 64-bit size including the header, padded to eight bytes.
    Wave64,
}

impl Chunks {
    fn header_bytes(self) -> usize {
        match self {
            Chunks::Riff(_) => 8,
            Chunks::Wave64 => 24,
        }
    }

    fn order(self) -> Order {
        match self {
            Chunks::Riff(order) => order,
            Chunks::Wave64 => Order::Little,
        }
    }

    /// Name of a chunk and size of its content.
    fn read(self, header: &[u8]) -> Option<(Name, u64)> {
        let name = Name(field(header, 0)?);
        let size = match self {
            Chunks::Riff(order) => u64::from(order.u32(field(header, 4)?)),
            Chunks::Wave64 => {
                if field::<12>(header, 4)? != *WAVE64_TAIL {
                    return None;
                }
                u64::from_le_bytes(field(header, 16)?).saturating_sub(24)
            }
        };
        Some((name, size))
    }

    /// End of a chunk including its padding.
    fn padded(self, content: u64, size: u64) -> u64 {
        let boundary = match self {
            Chunks::Riff(_) => 2,
            Chunks::Wave64 => 8,
        };
        let rest = size % boundary;
        let padding = if rest == 0 { 0 } else { boundary - rest };
        content.saturating_add(size).saturating_add(padding)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name([u8; 4]);

impl Name {
    fn is_known(self) -> bool {
        NAMES.iter().any(|name| **name == self.0)
    }

    fn is_plausible(self) -> bool {
        self.0.iter().all(|&byte| matches!(byte, b' '..=b'~'))
    }
}

/// A walk over the chunks.
struct Walk<'s, S> {
    source: &'s mut S,
    chunks: Chunks,
    file_bytes: u64,
}

impl<S: Read + Seek> Walk<'_, S> {
    fn payload(&mut self, start: u64) -> Result<Payload, AudioError> {
        let mut position = start
            + match self.chunks {
                Chunks::Riff(_) => 12,
                Chunks::Wave64 => 40,
            };
        let mut format = None;
        let mut data = None;
        for _ in 0..CHUNKS_MAX {
            if let (Some(format), Some((content, length @ 1..))) = (&format, data) {
                return Format::payload(format, content, length);
            }
            let Some((name, size)) = self.chunk(position)? else {
                break;
            };
            let content = position + self.chunks.header_bytes() as u64;
            match &name.0 {
                b"fmt " if format.is_none() => {
                    let bytes =
                        usize::try_from(size).map_or(FORMAT_BYTES, |size| size.min(FORMAT_BYTES));
                    let bytes = read_at(self.source, content, bytes).map_err(damaged)?;
                    format = Some(Format::parse(&bytes, self.chunks.order())?);
                    position = self.next(content, size)?;
                }
                b"data" => {
                    let length = self.data_bytes(content, size)?;
                    // An empty chunk may stand before the samples, and these before their format.
                    data = data.filter(|&(_, length)| length > 0);
                    data = data.or(Some((content, length)));
                    position = self.next(content, length)?;
                }
                _ if name.is_plausible() => position = self.next(content, size)?,
                _ => break,
            }
        }
        // Where one is missing, the size of an earlier chunk is wrong.
        let format = match format {
            Some(format) => format,
            None => {
                let content = self.search(start, b"fmt ")?.ok_or_else(|| missing("fmt"))?;
                let bytes = read_at(self.source, content, FORMAT_BYTES).map_err(damaged)?;
                Format::parse(&bytes, self.chunks.order())?
            }
        };
        if let Some((content, length)) = data {
            return format.payload(content, length);
        }
        let content = self
            .search(start, b"data")?
            .ok_or_else(|| missing("data"))?;
        let length = self.file_bytes.saturating_sub(content);
        format.payload(content, length)
    }

    /// The chunk at `position`, if its header fits there.
    fn chunk(&mut self, position: u64) -> Result<Option<(Name, u64)>, AudioError> {
        if position >= self.file_bytes {
            return Ok(None);
        }
        let header = read_at(self.source, position, self.chunks.header_bytes());
        Ok(self.chunks.read(&header.map_err(damaged)?))
    }

    /// Start of the next chunk: behind the padding, or directly behind the content if a known chunk
    /// is there.
    fn next(&mut self, content: u64, size: u64) -> Result<u64, AudioError> {
        let padded = self.chunks.padded(content, size);
        let unpadded = content.saturating_add(size);
        if padded == unpadded {
            return Ok(padded);
        }
        for place in [padded, unpadded] {
            if self.chunk(place)?.is_some_and(|(name, _)| name.is_known()) {
                return Ok(place);
            }
        }
        Ok(padded)
    }

    /// Bytes of the data chunk that are in the file.
    fn data_bytes(&mut self, content: u64, size: u64) -> Result<u64, AudioError> {
        let there = self.file_bytes.saturating_sub(content);
        // Size zero followed by chunks is an empty recording; size zero followed by samples was
        // never filled in.
        if size < there && self.ends_with_chunks(content, size)? {
            return Ok(size);
        }
        Ok(there)
    }

    /// Whether only chunks follow, up to the end of the file.
    fn ends_with_chunks(&mut self, content: u64, size: u64) -> Result<bool, AudioError> {
        let mut position = self.next(content, size)?;
        for _ in 0..CHUNKS_MAX {
            if position >= self.file_bytes {
                return Ok(true);
            }
            let Some((name, size)) = self.chunk(position)? else {
                // Too few bytes for a header are padding; any others are samples.
                let left = self.file_bytes - position;
                return Ok(left < self.chunks.header_bytes() as u64);
            };
            if !name.is_plausible() {
                return Ok(false);
            }
            let next = self.next(position + self.chunks.header_bytes() as u64, size)?;
            // Editors truncate the last chunk; an invalid name is sample data.
            if next > self.file_bytes.saturating_add(8) {
                return Ok(name.is_known());
            }
            position = next;
        }
        Ok(false)
    }

    /// Searches for the content of a chunk behind the header.
    fn search(&mut self, start: u64, name: &[u8; 4]) -> Result<Option<u64>, AudioError> {
        let bytes = read_at(self.source, start, SEARCHED_BYTES).map_err(damaged)?;
        let mut found = bytes.windows(4).enumerate().skip(12);
        let place = found.find(|(_, found)| *found == name);
        Ok(place.map(|(place, _)| start + (place + self.chunks.header_bytes()) as u64))
    }
}

/// A `WAVEFORMATEX` with its extension resolved.
#[derive(Debug, Clone, Copy)]
struct Format {
    tag: u16,
    channels: u16,
    sample_rate: u32,
    block_bytes: u16,
    bits: u16,
    /// Frames per block of an ADPCM header.
    block_frames: Option<u16>,
    order: Order,
}

impl Format {
    fn parse(bytes: &[u8], order: Order) -> Result<Format, AudioError> {
        let short = || AudioError::Damaged {
            reason: "the WAV's fmt chunk is cut short".into(),
        };
        let half = |offset| field(bytes, offset).map(|bytes| order.u16(bytes));
        let mut tag = half(0).ok_or_else(short)?;
        let channels = half(2).ok_or_else(short)?;
        let sample_rate = field(bytes, 4).map(|bytes| order.u32(bytes));
        let block_bytes = half(12).ok_or_else(short)?;
        // The oldest headers end here.
        let bits = half(14).unwrap_or(8);
        const EXTENSIBLE: u16 = 0xfffe;
        const INTEGERS: u16 = 1;
        if tag == EXTENSIBLE {
            // Without its extension, or with an empty one, the bits alone describe the samples.
            tag = half(24).filter(|&inner| inner != 0).unwrap_or(INTEGERS);
        }
        Ok(Format {
            tag,
            channels,
            sample_rate: sample_rate.ok_or_else(short)?,
            block_bytes,
            bits,
            block_frames: half(18),
            order,
        })
    }

    fn payload(&self, start: u64, length: u64) -> Result<Payload, AudioError> {
        let payload = Payload {
            coding: self.coding()?,
            channels: self.channels,
            sample_rate: self.sample_rate,
            start,
            length,
        };
        payload.check()?;
        Ok(payload)
    }

    fn coding(&self) -> Result<Coding, AudioError> {
        let channels = usize::from(self.channels).clamp(1, CHANNELS_MAX);
        let unread = |name: &str| Err(AudioError::Unread(Unread::codec(name, "wav")));
        match self.tag {
            1 | 3 | 6 | 7 => self.plain(channels),
            2 => self.adpcm(CODEC_ID_ADPCM_MS, channels, 7, 2),
            0x11 => self.adpcm(CODEC_ID_ADPCM_IMA_WAV, channels, 4, 1),
            0x50 | 0x55 | 0x1600 | 0x1610 => Ok(Coding::SelfDescribed),
            0x160..=0x163 | 0x0a => unread("Windows Media (WMA)"),
            0x31 | 0x1500 => unread("GSM 6.10"),
            0x14 | 0x40 | 0x45 | 0x64 | 0x65 => unread("G.726 and G.721"),
            0x22 => unread("TrueSpeech"),
            0x28 | 0x83 => unread("G.729"),
            0x42 | 0x111 => unread("G.723.1"),
            0x57 | 0x7361 => unread("AMR"),
            0x92 | 0x2000 => unread("Dolby Digital (AC-3)"),
            0x08 | 0x2001 => unread("DTS"),
            0xa109 => unread("Speex"),
            0x270 => unread("ATRAC3"),
            0xff | 0x1601 | 0x1602 | 0x706d => unread("AAC in WAV"),
            0x704f => unread("Opus in WAV"),
            0x566f | 0x674f..=0x6751 | 0x676f..=0x6771 => unread("Vorbis in WAV"),
            0x20 => unread("Yamaha ADPCM"),
            0xf1ac => unread("FLAC in WAV"),
            tag => Err(AudioError::Unread(Unread::codec(
                format!("WAV with codec {tag:#06x}"),
                "wav",
            ))),
        }
    }

    /// Plain samples: integers (1), floats (3), A-law (6) or µ-law (7).
    fn plain(&self, channels: usize) -> Result<Coding, AudioError> {
        let by_bits = usize::from(self.bits).div_ceil(8);
        let by_block = usize::from(self.block_bytes) / channels;
        // The block size gives the sample width in memory; without it, the bit depth does.
        let whole = usize::from(self.block_bytes) % channels == 0 && by_block >= by_bits;
        let sample_bytes = if whole && by_block > 0 {
            by_block
        } else {
            by_bits
        };
        let little = self.order == Order::Little;
        let codec = match (self.tag, sample_bytes) {
            (1, 1) => Some(CODEC_ID_PCM_U8),
            (1 | 3, _) => payload::plain(self.tag == 3, little, sample_bytes),
            (6, 1) => Some(CODEC_ID_PCM_ALAW),
            (7, 1) => Some(CODEC_ID_PCM_MULAW),
            _ => None,
        };
        let codec = codec.ok_or_else(|| {
            let kind = if self.tag == 3 {
                "floating-point"
            } else {
                "whole-number"
            };
            let name = format!("WAV ({kind} samples of {} bits)", 8 * sample_bytes);
            AudioError::Unread(Unread::codec(name, "wav"))
        })?;
        Ok(Coding::Blocks(Blocks {
            codec,
            block_bytes: sample_bytes * channels,
            block_frames: 1,
        }))
    }

    /// Blocks with a header per channel and two samples per byte.
    fn adpcm(
        &self,
        codec: AudioCodecId,
        channels: usize,
        head_bytes: usize,
        head_frames: usize,
    ) -> Result<Coding, AudioError> {
        let block_bytes = usize::from(self.block_bytes);
        let coded = block_bytes.checked_sub(head_bytes * channels);
        let frames = coded.map(|coded| coded * 2 / channels + head_frames);
        let frames = frames.filter(|_| self.bits == 4 || self.bits == 0);
        let block_frames = frames.ok_or_else(|| AudioError::Damaged {
            reason: format!("the WAV has ADPCM blocks of {block_bytes} bytes"),
        })?;
        if channels > 2 {
            let name = format!("ADPCM of {channels} channels in WAV");
            return Err(AudioError::Unread(Unread::codec(name, "wav")));
        }
        let stated = self.block_frames.map_or(block_frames, usize::from);
        Ok(Coding::Blocks(Blocks {
            codec,
            block_bytes,
            block_frames: if stated == 0 {
                block_frames
            } else {
                block_frames.min(stated)
            },
        }))
    }
}
