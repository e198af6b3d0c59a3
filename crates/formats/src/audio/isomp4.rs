//! Facts of an MP4, MOV or M4A that its demultiplexer does not report: the name of an unknown
//! codec, the frames that an edit list skips, whether its tables are small enough to walk, and
//! where they are.
//!
//! ISO/IEC 14496-12.

use super::header::{Order, field, read_at};
use std::io::{self, Read, Seek};

/// Limit of the number of boxes.
const BOXES_MAX: usize = 1 << 14;
/// Bytes of the user data that are searched.
const USER_DATA_BYTES: usize = 1 << 16;
/// Limit of the nesting depth of boxes.
const DEPTH_MAX: usize = 8;

/// Boxes that an MP4 or a QuickTime file may begin with; the oldest have no type.
const FIRST: [&[u8; 4]; 8] = [
    b"ftyp", b"moov", b"mdat", b"wide", b"pnot", b"free", b"skip", b"PICT",
];

/// The type that a file without one has: QuickTime's.
pub(super) const TYPE: &[u8] = b"\0\0\0\x14ftypqt  \0\0\0\0qt  ";

/// Whether a file's first bytes are those of an MP4 or a QuickTime file.
pub(super) fn is_mp4(prefix: &[u8]) -> bool {
    let name = prefix.get(4..8);
    // A size of a RIFF may spell anything.
    !prefix.starts_with(b"RIFF") && FIRST.iter().any(|first| name == Some(&first[..]))
}

/// Where a box's content is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub start: u64,
    pub end: u64,
}

/// The tables of a track.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tables {
    /// The descriptions of its codings (`stsd`).
    pub descriptions: Place,
    /// The durations of its samples (`stts`).
    pub durations: Place,
    /// The sizes of its samples (`stsz`).
    pub sizes: Place,
    /// The numbers of samples of its chunks (`stsc`).
    pub runs: Place,
    /// The offsets of its chunks (`stco`, `co64`), and the bytes of one.
    pub chunks: Place,
    pub offset_bytes: u64,
}

/// The first audio track.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SoundTrack {
    /// The codec's four-character code.
    pub codec: [u8; 4],
    /// Ticks per second of the track's clock.
    pub timescale: u32,
    /// Ticks skipped before playback: the encoder delay.
    pub skipped: u64,
    /// Number of runs of samples of equal duration, over all tracks.
    pub run_count: u64,
    /// Offset and length of a data box that states no size, because it reaches to the end, or one
    /// beyond the end.
    pub endless: Option<(u64, u64)>,
    /// Whether the file has a type (`ftyp`).
    pub is_typed: bool,
    /// Where its tables are.
    pub tables: Tables,
    is_sound: bool,
}

/// What the index of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Index {
    /// The file has none.
    Missing,
    /// It is compressed, as old editors wrote it.
    Packed,
    /// It has no audio track.
    WithoutSound,
    /// The first audio track.
    Sound(SoundTrack),
}

/// Reads the index of a file.
pub(super) fn index(
    source: &mut (impl Read + Seek),
    start: u64,
    file_bytes: u64,
) -> io::Result<Index> {
    let mut walk = Walk {
        source,
        boxes: 0,
        run_count: 0,
        gapless: None,
        endless: None,
        is_typed: false,
        is_indexed: false,
        is_packed: false,
        track: SoundTrack::default(),
        found: None,
    };
    walk.children(start, file_bytes, 0)?;
    let Some(mut track) = walk.found else {
        return Ok(match (walk.is_indexed, walk.is_packed) {
            (false, _) => Index::Missing,
            (true, true) => Index::Packed,
            (true, false) => Index::WithoutSound,
        });
    };
    track.run_count = walk.run_count;
    track.endless = walk.endless;
    track.is_typed = walk.is_typed;
    if let (0, Some(skipped)) = (track.skipped, walk.gapless) {
        track.skipped = skipped;
    }
    Ok(Index::Sound(track))
}

struct Walk<'s, S> {
    source: &'s mut S,
    boxes: usize,
    run_count: u64,
    /// Encoder delay in frames according to a tag.
    gapless: Option<u64>,
    endless: Option<(u64, u64)>,
    is_typed: bool,
    is_indexed: bool,
    is_packed: bool,
    /// The track being parsed.
    track: SoundTrack,
    found: Option<SoundTrack>,
}

impl<S: Read + Seek> Walk<'_, S> {
    /// Visits the boxes in a range.
    fn children(&mut self, mut position: u64, end: u64, depth: usize) -> io::Result<()> {
        while position.saturating_add(8) <= end {
            self.boxes += 1;
            if self.boxes > BOXES_MAX {
                return Ok(());
            }
            let header = read_at(self.source, position, 16)?;
            let (Some(size), Some(name)) = (word(&header, 0), field::<4>(&header, 4)) else {
                return Ok(());
            };
            let is_endless = size == 0;
            let (content, size) = match size {
                0 => (8, end - position),
                1 => match field(&header, 8).map(u64::from_be_bytes) {
                    Some(size) => (16, size),
                    None => return Ok(()),
                },
                size => (8, u64::from(size)),
            };
            let next = position.saturating_add(size);
            if depth == 0 && name == *b"mdat" && (next > end || is_endless) {
                self.endless = Some((position, end - position));
            }
            if size < content || next > end {
                return Ok(());
            }
            self.visit(&name, position + content, next, depth)?;
            position = next;
        }
        Ok(())
    }

    fn visit(&mut self, name: &[u8; 4], start: u64, end: u64, depth: usize) -> io::Result<()> {
        match name {
            b"moov" | b"mdia" | b"minf" | b"stbl" | b"edts" if depth < DEPTH_MAX => {
                self.is_indexed |= name == b"moov";
                self.children(start, end, depth + 1)?;
            }
            b"cmov" => self.is_packed = true,
            b"trak" if depth < DEPTH_MAX => {
                self.track = SoundTrack::default();
                self.children(start, end, depth + 1)?;
                if self.track.is_sound && self.found.is_none() {
                    self.found = Some(self.track);
                }
            }
            b"hdlr" => {
                let bytes = read_at(self.source, start, 12)?;
                self.track.is_sound |= field(&bytes, 8) == Some(*b"soun");
            }
            b"mdhd" => {
                let bytes = read_at(self.source, start, 24)?;
                let offset = if bytes.first() == Some(&1) { 20 } else { 12 };
                self.track.timescale = word(&bytes, offset).unwrap_or(0);
            }
            b"udta" => self.gapless = gapless(&read_at(self.source, start, USER_DATA_BYTES)?),
            b"elst" => self.track.skipped = self.skipped(start, end)?,
            b"ftyp" if depth == 0 => self.is_typed = true,
            b"stsd" => {
                let bytes = read_at(self.source, start, 16)?;
                self.track.codec = field(&bytes, 12).unwrap_or_default();
                self.track.tables.descriptions = Place { start, end };
            }
            b"stsz" => self.track.tables.sizes = Place { start, end },
            b"stsc" => self.track.tables.runs = Place { start, end },
            b"stco" | b"co64" => {
                self.track.tables.chunks = Place { start, end };
                self.track.tables.offset_bytes = if name == b"co64" { 8 } else { 4 };
            }
            b"stts" => {
                let bytes = read_at(self.source, start, 8)?;
                self.run_count += u64::from(word(&bytes, 4).unwrap_or(0));
                self.track.tables.durations = Place { start, end };
            }
            _ => {}
        }
        Ok(())
    }

    /// Start of the first edit that is not empty.
    fn skipped(&mut self, start: u64, end: u64) -> io::Result<u64> {
        let long = read_at(self.source, start, 1)?.first() == Some(&1);
        let (entry_bytes, offset) = if long { (20, 8) } else { (12, 4) };
        let mut entry = start.saturating_add(8);
        // An empty edit (a pause) may come first.
        for _ in 0..2 {
            if entry.saturating_add(entry_bytes) > end {
                break;
            }
            let bytes = read_at(self.source, entry, 20)?;
            let time = if long {
                field(&bytes, offset).map(i64::from_be_bytes)
            } else {
                field(&bytes, offset).map(|bytes| i64::from(i32::from_be_bytes(bytes)))
            };
            if let Some(Ok(time)) = time.map(u64::try_from) {
                return Ok(time);
            }
            entry = entry.saturating_add(entry_bytes);
        }
        Ok(0)
    }
}

/// The encoder delay that iTunes writes in place of an edit list: the second hexadecimal number of
/// the tag `iTunSMPB`.
fn gapless(user_data: &[u8]) -> Option<u64> {
    let mark = b"iTunSMPB";
    let place = user_data
        .windows(mark.len())
        .position(|bytes| bytes == mark)?;
    let value = user_data.get(place + mark.len()..)?;
    let value = value.get(..value.len().min(64))?;
    let text = String::from_utf8_lossy(value);
    let (_, numbers) = text.split_once(" 00000000 ")?;
    u64::from_str_radix(numbers.get(..8)?, 16).ok()
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    field(bytes, offset).map(|bytes| Order::Big.u32(bytes))
}

impl SoundTrack {
    /// The codec's name, for an error.
    pub(super) fn codec_name(&self) -> String {
        let name = match &self.codec {
            b"samr" => "AMR",
            b"sawb" => "AMR wideband",
            b"sawp" => "AMR wideband plus",
            b"ac-3" => "Dolby Digital (AC-3)",
            b"ec-3" => "Dolby Digital Plus (E-AC-3)",
            b"ac-4" => "Dolby AC-4",
            b"dtsc" | b"dtse" | b"dtsh" | b"dtsl" => "DTS",
            b"QDM2" | b"QDMC" => "QDesign",
            b"Qclp" | b"sqcp" => "Qualcomm PureVoice",
            b"agsm" => "GSM 6.10",
            b"MAC3" | b"MAC6" => "MACE",
            b"sevc" => "EVRC",
            b"ssmv" => "SMV",
            b"mhm1" | b"mha1" => "MPEG-H",
            b"apac" => "Apple Positional Audio",
            b"ipcm" | b"fpcm" => "PCM in fragments of an MP4",
            codec => return format!("\"{}\" in MP4", codec.escape_ascii()),
        };
        name.into()
    }

    /// Name of the copy protection, if the track is protected.
    pub(super) fn protection(&self) -> Option<&'static str> {
        match &self.codec {
            b"drms" | b"drmi" | b"p608" => Some("FairPlay (DRM)"),
            b"enca" => Some("Common Encryption (DRM)"),
            b"aavd" => Some("Audible (DRM)"),
            _ => None,
        }
    }
}
