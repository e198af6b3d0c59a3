//! The subset of ZIP that torch archives use: stored entries, located through the central
//! directory.

use super::TorchArchiveError;
use std::collections::BTreeMap;
use std::ops::Range;

const END_SIGNATURE: &[u8] = b"PK\x05\x06";
const END_BYTES: usize = 22;
const END64_SIGNATURE: &[u8] = b"PK\x06\x06";
const END64_LOCATOR_SIGNATURE: &[u8] = b"PK\x06\x07";
const END64_LOCATOR_BYTES: usize = 20;
const ENTRY_SIGNATURE: &[u8] = b"PK\x01\x02";
const ENTRY_BYTES: usize = 46;
const LOCAL_SIGNATURE: &[u8] = b"PK\x03\x04";
const LOCAL_BYTES: usize = 30;
/// Limit of the comment after the end record.
const COMMENT_BYTES_MAX: usize = 1 << 16;
/// Id of the extra field with 64-bit sizes.
const EXTRA_64: u16 = 1;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn cut_short() -> TorchArchiveError {
    TorchArchiveError::Zip {
        reason: "its directory is cut short".into(),
    }
}

/// Offset, size and entry count of the central directory.
fn directory(file: &[u8]) -> Option<(usize, u64)> {
    let tail = file.len().saturating_sub(END_BYTES + COMMENT_BYTES_MAX);
    let end = (tail..=file.len().checked_sub(END_BYTES)?)
        .rev()
        .find(|&at| file[at..].starts_with(END_SIGNATURE))?;
    let (entries, offset) = (u16_at(file, end + 10)?, u32_at(file, end + 16)?);
    if entries != u16::MAX && offset != u32::MAX {
        return Some((offset as usize, entries.into()));
    }
    let locator = end.checked_sub(END64_LOCATOR_BYTES)?;
    if !file[locator..].starts_with(END64_LOCATOR_SIGNATURE) {
        return Some((offset as usize, entries.into()));
    }
    let end64 = usize::try_from(u64_at(file, locator + 8)?).ok()?;
    if !file.get(end64..)?.starts_with(END64_SIGNATURE) {
        return None;
    }
    Some((
        usize::try_from(u64_at(file, end64 + 48)?).ok()?,
        u64_at(file, end64 + 32)?,
    ))
}

/// Names and byte ranges of all stored entries.
pub(super) fn entries(file: &[u8]) -> Result<BTreeMap<String, Range<usize>>, TorchArchiveError> {
    let (mut at, count) = directory(file).ok_or_else(|| TorchArchiveError::Zip {
        reason: "it has no directory at its end; is it cut short?".into(),
    })?;
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let (name, range, next) = entry(file, at)?;
        at = next;
        if entries.insert(name.clone(), range).is_some() {
            return Err(TorchArchiveError::Zip {
                reason: format!("{name} occurs twice"),
            });
        }
    }
    Ok(entries)
}

/// Parses one entry of the directory; also returns the start of the next one.
fn entry(file: &[u8], at: usize) -> Result<(String, Range<usize>, usize), TorchArchiveError> {
    let header = at
        .checked_add(ENTRY_BYTES)
        .and_then(|end| file.get(at..end))
        .ok_or_else(cut_short)?;
    if !header.starts_with(ENTRY_SIGNATURE) {
        return Err(TorchArchiveError::Zip {
            reason: "its directory is damaged".into(),
        });
    }
    let field16 = |at: usize| u16_at(header, at).map(usize::from).ok_or_else(cut_short);
    let field32 = |at: usize| u32_at(header, at).map(u64::from).ok_or_else(cut_short);
    let (name_bytes, extra_bytes, comment_bytes) = (field16(28)?, field16(30)?, field16(32)?);
    let extra_start = at + ENTRY_BYTES + name_bytes;
    let name = file
        .get(at + ENTRY_BYTES..extra_start)
        .ok_or_else(cut_short)?;
    let name = str::from_utf8(name)
        .map_err(|_| TorchArchiveError::Zip {
            reason: "an entry's name is not UTF-8".into(),
        })?
        .to_owned();
    let refuse = |reason: &str| TorchArchiveError::Zip {
        reason: format!("{name}: {reason}"),
    };
    if field16(10)? != 0 {
        return Err(refuse("it is compressed, which torch archives never are"));
    }
    let extra = file
        .get(extra_start..extra_start + extra_bytes)
        .ok_or_else(cut_short)?;
    let (mut stored, whole, mut local) = (field32(20)?, field32(24)?, field32(42)?);
    let mut wide = extra_64(extra);
    // The 64-bit field holds, in this order, only the values that did not fit above.
    if whole == u64::from(u32::MAX) {
        wide.next();
    }
    if stored == u64::from(u32::MAX) {
        stored = wide.next().ok_or_else(|| refuse("its size is missing"))?;
    }
    if local == u64::from(u32::MAX) {
        local = wide.next().ok_or_else(|| refuse("its offset is missing"))?;
    }
    let outside = || refuse("it lies outside the file; is the file cut short?");
    let local = usize::try_from(local).map_err(|_| outside())?;
    let local_end = local.checked_add(LOCAL_BYTES).ok_or_else(outside)?;
    let local_header = file.get(local..local_end).ok_or_else(outside)?;
    if !local_header.starts_with(LOCAL_SIGNATURE) {
        return Err(refuse("its header is damaged"));
    }
    let lengths = u16_at(local_header, 26)
        .zip(u16_at(local_header, 28))
        .ok_or_else(cut_short)?;
    let start = local_end + usize::from(lengths.0) + usize::from(lengths.1);
    let end = usize::try_from(stored)
        .ok()
        .and_then(|bytes| start.checked_add(bytes))
        .filter(|&end| end <= file.len())
        .ok_or_else(outside)?;
    Ok((name, start..end, extra_start + extra_bytes + comment_bytes))
}

/// Values of the 64-bit extra field.
fn extra_64(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut values = Vec::new();
    while let (Some(kind), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some(field) = extra.get(4..4 + usize::from(length)) else {
            break;
        };
        if kind == EXTRA_64 {
            values.extend(
                field
                    .as_chunks()
                    .0
                    .iter()
                    .map(|chunk| u64::from_le_bytes(*chunk)),
            );
        }
        extra = &extra[4 + usize::from(length)..];
    }
    values.into_iter()
}
