//! Plain, companded and IMA samples in MP4 and QuickTime files: what cameras and editors write.
//!
//! A track's samples lie in chunks, between those of other tracks. Its tables are read in windows
//! as the chunks come, so memory does not depend on what a file claims.
//!
//! QuickTime File Format Specification, "Sound Sample Descriptions"; ISO/IEC 14496-12, 23003-5.

use super::header::{field, read_at};
use super::isomp4::{Place, SoundTrack, Tables};
use super::payload::{self, Blocks, Coding, Payload};
use super::{AudioError, CHANNELS_MAX};
use std::io::{self, Read, Seek, SeekFrom};
use symphonia::core::codecs::audio::AudioCodecId;
use symphonia::core::codecs::audio::well_known::*;

/// Bytes of a description that are looked at.
const DESCRIPTION_BYTES: usize = 512;
/// Bytes of a table before its entries: version, flags and their number.
const TABLE_HEAD_BYTES: u64 = 8;
/// Bytes of an entry of `stsc`: first chunk, samples of each, description.
const RUN_BYTES: u64 = 12;
/// Bytes of a table that are in memory at a time; a multiple of every entry's size.
const WINDOW_BYTES: usize = 6144;

/// A track of samples that its container only frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunks {
    /// Coding, channels and sample rate; its place is not used.
    pub payload: Payload,
    /// The coding, as blocks.
    pub blocks: Blocks,
    /// Frames before the first that is heard.
    pub skipped: u64,
    tables: Tables,
    size: Size,
    sample_count: u64,
}

/// Bytes of a sample in the sense of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    /// So many samples have so many bytes.
    Constant { samples: u64, bytes: u64 },
    /// As the table says.
    Table,
}

/// The chunks of a sound track, or `None` if its codec is one of the demultiplexer's.
pub(super) fn find(
    source: &mut (impl Read + Seek),
    track: &SoundTrack,
) -> Result<Option<Chunks>, AudioError> {
    let damaged = |error: io::Error| AudioError::Damaged {
        reason: error.to_string(),
    };
    let tables = track.tables;
    // A fragmented file has its chunks elsewhere.
    if entries(tables.chunks, tables.offset_bytes) == 0 {
        return Ok(None);
    }
    let start = tables.descriptions.start.saturating_add(TABLE_HEAD_BYTES);
    let bytes = read_at(source, start, DESCRIPTION_BYTES).map_err(damaged)?;
    let Some(mut described) = Description::parse(&bytes, track.timescale) else {
        return Ok(None);
    };
    let durations = read_at(source, tables.durations.start, 16).map_err(damaged)?;
    let is_tick = field(&durations, 12).map(u32::from_be_bytes) == Some(1);
    // Of a rate that its field is too small for, some writers state a part.
    if is_tick && track.timescale > u32::from(u16::MAX) {
        described.sample_rate = track.timescale;
    }
    let Some(blocks) = described.blocks(&bytes) else {
        return Ok(None);
    };
    let payload = Payload {
        coding: Coding::Blocks(blocks),
        channels: described.channels,
        sample_rate: described.sample_rate,
        start: 0,
        length: 0,
    };
    payload.check()?;
    let sizes = read_at(source, tables.sizes.start, 12).map_err(damaged)?;
    let word = |offset| field(&sizes, offset).map_or(0, u32::from_be_bytes);
    let stated = u64::from(word(4));
    let (block_bytes, block_frames) = (blocks.block_bytes as u64, blocks.block_frames as u64);
    let size = match stated {
        0 => Size::Table,
        // A multiple of whole blocks; QuickTime's own programs state one byte and mean one frame.
        _ if stated.is_multiple_of(block_bytes) => Size::Constant {
            samples: 1,
            bytes: stated,
        },
        _ => Size::Constant {
            samples: block_frames,
            bytes: block_bytes,
        },
    };
    let rate = u64::from(described.sample_rate);
    let skipped = track.skipped.saturating_mul(rate) / u64::from(track.timescale.max(1));
    Ok(Some(Chunks {
        payload,
        blocks,
        skipped,
        tables,
        size,
        sample_count: u64::from(word(8)),
    }))
}

/// A description of sound samples.
struct Description {
    format: [u8; 4],
    version: u16,
    channels: u16,
    bits: u32,
    sample_rate: u32,
    /// Flags of version 2.
    flags: u32,
}

impl Description {
    /// `None` if it is cut short.
    fn parse(bytes: &[u8], timescale: u32) -> Option<Description> {
        let half = |offset| field(bytes, offset).map(u16::from_be_bytes);
        let word = |offset| field(bytes, offset).map(u32::from_be_bytes);
        let format = field(bytes, 4)?;
        let version = half(16)?;
        if version == 2 {
            return Some(Description {
                format,
                version,
                channels: u16::try_from(word(48)?).unwrap_or(u16::MAX),
                bits: word(56)?,
                // A cast saturates, and limits are checked afterwards.
                sample_rate: f64::from_be_bytes(field(bytes, 40)?) as u32,
                flags: word(60)?,
            });
        }
        // Rates that 16 bits do not hold are left out.
        let sample_rate = match half(32)? {
            0 => timescale,
            rate => u32::from(rate),
        };
        Some(Description {
            format,
            version,
            channels: half(24)?,
            bits: u32::from(half(26)?),
            sample_rate,
            flags: 0,
        })
    }

    /// `None` for a codec that is not plain, or a width that no decoder here reads.
    fn blocks(&self, bytes: &[u8]) -> Option<Blocks> {
        let channels = usize::from(self.channels).clamp(1, CHANNELS_MAX);
        // Version 1 keeps the bits of compressed samples at 16.
        let is_little = after(bytes, b"enda", 0) == Some(1);
        let width = self.bits.div_ceil(8);
        let (codec, sample_bytes) = match &self.format {
            b"lpcm" if self.version == 2 => {
                let (is_float, is_big) = (self.flags & 1 != 0, self.flags & 2 != 0);
                match (is_float, self.flags & 4 != 0, width) {
                    (false, false, 1) => (CODEC_ID_PCM_U8, 1),
                    (is_float, _, width) => plain(is_float, !is_big, width)?,
                }
            }
            b"sowt" => plain(false, true, width)?,
            b"twos" | b"lpcm" => plain(false, is_little, width)?,
            b"raw " | b"NONE" | b"\0\0\0\0" if width <= 1 => (CODEC_ID_PCM_U8, 1),
            b"raw " | b"NONE" | b"\0\0\0\0" => plain(false, is_little, width)?,
            b"in24" => plain(false, is_little, 3)?,
            b"42ni" => plain(false, true, 3)?,
            b"in32" => plain(false, is_little, 4)?,
            b"23ni" => plain(false, true, 4)?,
            b"fl32" | b"FL32" => plain(true, is_little, 4)?,
            b"fl64" | b"FL64" => plain(true, is_little, 8)?,
            // MPEG-4's, with a box of its own for order and width.
            b"ipcm" | b"fpcm" => {
                let stated = after(bytes, b"pcmC", 4).map(u16::to_be_bytes);
                let [flags, bits] = stated.unwrap_or([0, self.bits as u8]);
                plain(
                    self.format == *b"fpcm",
                    flags & 1 == 1,
                    u32::from(bits).div_ceil(8),
                )?
            }
            b"alaw" => (CODEC_ID_PCM_ALAW, 1),
            b"ulaw" => (CODEC_ID_PCM_MULAW, 1),
            b"ima4" if channels <= 2 => return Some(Blocks::ima(channels)),
            _ => return None,
        };
        Some(Blocks {
            codec,
            block_bytes: sample_bytes * channels,
            block_frames: 1,
        })
    }
}

/// The two bytes `offset` behind a box's name within a description.
fn after(description: &[u8], name: &[u8; 4], offset: usize) -> Option<u16> {
    let place = (description.windows(4)).position(|bytes| bytes == name)?;
    field(description, place + 4 + offset).map(u16::from_be_bytes)
}

/// Codec and bytes of plain samples of `width` bytes.
fn plain(is_float: bool, is_little: bool, width: u32) -> Option<(AudioCodecId, usize)> {
    let bytes = width as usize;
    payload::plain(is_float, is_little, bytes).map(|codec| (codec, bytes))
}

/// Number of whole entries of a table that is there.
fn entries(table: Place, entry_bytes: u64) -> u64 {
    let bytes = (table.end).saturating_sub(table.start.saturating_add(TABLE_HEAD_BYTES));
    bytes.checked_div(entry_bytes).unwrap_or(0)
}

/// Entries of a table, a window at a time.
#[derive(Debug, Default)]
struct Window {
    first: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// Entry `index` of a table whose entries begin at `start`; `None` past the file's end.
    fn entry<const N: usize>(
        &mut self,
        source: &mut (impl Read + Seek),
        start: u64,
        index: u64,
    ) -> io::Result<Option<[u8; N]>> {
        let held = (self.bytes.len() / N) as u64;
        if !(self.first..self.first + held).contains(&index) {
            let position = start.saturating_add(index.saturating_mul(N as u64));
            self.bytes = read_at(source, position, WINDOW_BYTES)?;
            self.first = index;
        }
        // Within the window, which is a `usize` long.
        Ok(field(&self.bytes, (index - self.first) as usize * N))
    }
}

/// The bytes of a track's chunks, one after the other.
#[derive(Debug)]
pub(super) struct ChunkReader<S> {
    source: S,
    tables: Tables,
    size: Size,
    chunk_count: u64,
    run_count: u64,
    samples_left: u64,
    /// The next chunk, and the first of its samples.
    chunk: u64,
    sample: u64,
    /// The run of the next chunk, from 0 on.
    run: u64,
    /// Where in the source, and how many bytes, the rest of the chunk is.
    position: u64,
    left: u64,
    /// Whether the source has been moved to read a table.
    is_away: bool,
    windows: [Window; 3],
}

impl<S: Read + Seek> ChunkReader<S> {
    pub(super) fn new(source: S, chunks: &Chunks) -> ChunkReader<S> {
        let tables = chunks.tables;
        ChunkReader {
            source,
            tables,
            size: chunks.size,
            chunk_count: entries(tables.chunks, tables.offset_bytes),
            run_count: entries(tables.runs, RUN_BYTES),
            samples_left: chunks.sample_count,
            chunk: 0,
            sample: 0,
            run: 0,
            position: 0,
            left: 0,
            is_away: true,
            windows: Default::default(),
        }
    }

    /// Finds the next chunk; `false` at the end.
    fn next_chunk(&mut self) -> io::Result<bool> {
        if self.chunk >= self.chunk_count || self.samples_left == 0 {
            return Ok(false);
        }
        let [offsets, runs, sizes] = &mut self.windows;
        let (source, tables) = (&mut self.source, self.tables);
        self.is_away = true;
        let start = |table: Place| table.start.saturating_add(TABLE_HEAD_BYTES);
        let offset = match tables.offset_bytes {
            8 => {
                let entry = offsets.entry(source, start(tables.chunks), self.chunk)?;
                entry.map(u64::from_be_bytes)
            }
            _ => {
                let entry = offsets.entry(source, start(tables.chunks), self.chunk)?;
                entry.map(|entry| u64::from(u32::from_be_bytes(entry)))
            }
        };
        let mut run = |index| runs.entry::<12>(source, start(tables.runs), index);
        while self.run + 1 < self.run_count {
            let next = run(self.run + 1)?.and_then(|entry| field(&entry, 0));
            // Chunks are numbered from 1 on.
            if next.map_or(u64::MAX, |first| u64::from(u32::from_be_bytes(first))) > self.chunk + 1
            {
                break;
            }
            self.run += 1;
        }
        let samples = run(self.run)?.and_then(|entry| field(&entry, 4));
        let (Some(offset), Some(samples)) = (offset, samples.map(u32::from_be_bytes)) else {
            return Ok(false);
        };
        let samples = u64::from(samples).min(self.samples_left);
        self.left = match self.size {
            Size::Constant {
                samples: each,
                bytes,
            } => samples.div_ceil(each).saturating_mul(bytes),
            Size::Table => {
                // The table begins behind two numbers more than its own length.
                let start = tables.sizes.start.saturating_add(TABLE_HEAD_BYTES + 4);
                let mut sum = 0u64;
                for index in self.sample..self.sample + samples {
                    let Some(size) = sizes.entry(source, start, index)? else {
                        self.samples_left = 0;
                        break;
                    };
                    sum = sum.saturating_add(u32::from_be_bytes(size).into());
                }
                sum
            }
        };
        self.position = offset;
        self.sample += samples;
        self.samples_left = self.samples_left.saturating_sub(samples);
        self.chunk += 1;
        Ok(true)
    }
}

impl<S: Read + Seek> Read for ChunkReader<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            if !self.next_chunk()? {
                return Ok(0);
            }
        }
        if self.is_away {
            self.source.seek(SeekFrom::Start(self.position))?;
            self.is_away = false;
        }
        let wanted = self.left.min(buffer.len() as u64);
        // At most the buffer's length, which is a `usize`.
        let count = self.source.read(&mut buffer[..wanted as usize])?;
        self.position = self.position.saturating_add(count as u64);
        self.left -= count as u64;
        if count == 0 && wanted > 0 {
            // The file is cut short here; what follows lies behind.
            (self.left, self.chunk) = (0, self.chunk_count);
        }
        Ok(count)
    }
}
