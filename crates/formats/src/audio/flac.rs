//! Metadata of FLAC that nobody hears: pictures of megabytes between the stream's description and
//! its first frame.

use super::header::read_at;
use std::io::{self, Read, Seek};

const MARK: &[u8; 4] = b"fLaC";
/// Bytes of the mark and of the first block, which describes the stream.
const HEAD_BYTES: usize = 42;
/// Metadata up to this length is left to the demultiplexer.
const SHORT_BYTES: u64 = 1 << 16;
/// Limit of the number of blocks.
const BLOCKS_MAX: usize = 1 << 12;
/// Flag of the last metadata block.
const LAST: u8 = 0x80;

/// A FLAC file without its long metadata: the offset from which on it is read, and the bytes that
/// stand there in place of the metadata's end. `None` for short metadata, and for any other file.
pub(super) fn without_metadata(
    source: &mut (impl Read + Seek),
    start: u64,
    file_bytes: u64,
) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut head = read_at(source, start, HEAD_BYTES)?;
    let describes = |head: &[u8]| head.len() == HEAD_BYTES && head[4] & !LAST == 0 && head[7] == 34;
    if !head.starts_with(MARK) || !describes(&head) || head[4] & LAST != 0 {
        return Ok(None);
    }
    let mut position = start + HEAD_BYTES as u64;
    for _ in 0..BLOCKS_MAX {
        let header = read_at(source, position, 4)?;
        let &[kind, a, b, c] = header.as_slice() else {
            return Ok(None);
        };
        position += 4 + u64::from(u32::from_be_bytes([0, a, b, c]));
        if position >= file_bytes {
            return Ok(None);
        }
        if kind & LAST != 0 {
            head[4] |= LAST;
            let frames = position - HEAD_BYTES as u64;
            return Ok((position - start > SHORT_BYTES).then_some((frames, head)));
        }
    }
    Ok(None)
}
