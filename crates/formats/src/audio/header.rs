//! Fixed fields of headers.

use std::io::{self, Read, Seek, SeekFrom};

/// Byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub(super) fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Order::Little => u16::from_le_bytes(bytes),
            Order::Big => u16::from_be_bytes(bytes),
        }
    }

    pub(super) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        }
    }
}

/// `N` bytes at `offset` of a header in memory, or `None` past its end.
pub(super) fn field<const N: usize>(header: &[u8], offset: usize) -> Option<[u8; N]> {
    let bytes = header.get(offset..)?.get(..N)?;
    bytes.try_into().ok()
}

/// Up to `count` bytes at `position`; fewer at the end.
pub(super) fn read_at(
    source: &mut (impl Read + Seek),
    position: u64,
    count: usize,
) -> io::Result<Vec<u8>> {
    source.seek(SeekFrom::Start(position))?;
    let mut bytes = Vec::new();
    source.take(count as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
