//! Memory-mapped files, whose pages are released after they were read.

use memmap2::{Mmap, UncheckedAdvice};
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

/// The bytes of a weight file.
#[derive(Debug)]
pub(super) enum Bytes {
    Mapped(Mmap),
    Embedded(&'static [u8]),
}

impl Bytes {
    /// Maps a whole file, read-only.
    #[allow(clippy::disallowed_methods, reason = "the one place that maps a file")]
    pub(super) fn map(path: &Path) -> io::Result<Bytes> {
        let file = sottovoce_formats::file::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Bytes::Embedded(&[]));
        }
        // SAFETY: the map is read-only and accessed as plain bytes, for which every bit pattern is
        // valid. If another process truncates the file meanwhile, this process ends with a bus
        // error, like every program that maps files; weight files are written once and renamed into
        // place.
        Ok(Bytes::Mapped(unsafe { Mmap::map(&file)? }))
    }

    /// Lets the operating system reclaim the pages of a range; they are read from the file again if
    /// needed.
    pub(super) fn release(&self, range: Range<usize>) {
        let Bytes::Mapped(map) = self else { return };
        // SAFETY: the map is a read-only view of a file, so a dropped page is read again with the
        // same contents. If the call fails, only memory use differs.
        let _ = unsafe {
            map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
        };
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Embedded(bytes) => bytes,
        }
    }
}
