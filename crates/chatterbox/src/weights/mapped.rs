//! Memory-mapped files: pages of which tensors are copied are released afterwards; tensors that are
//! used in place are mapped again, as memory with an owner.

use super::WeightSource;
use super::place::ALIGNMENT;
use memmap2::Mmap;
use sottovoce_memory::{Memory, Owner, SharedBlock};
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

/// The bytes of a weight file.
#[derive(Debug)]
pub(super) enum Bytes {
    Mapped(Mmap, File),
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
        Ok(Bytes::Mapped(unsafe { Mmap::map(&file)? }, file))
    }

    /// Lets the operating system reclaim the pages of a range; they are read from the file again if
    /// needed.
    #[cfg(unix)]
    pub(super) fn release(&self, range: Range<usize>) {
        let Bytes::Mapped(map, _) = self else { return };
        let advice = memmap2::UncheckedAdvice::DontNeed;
        // SAFETY: the map is a read-only view of a file, so a dropped page is read again with the
        // same contents. If the call fails, only memory use differs.
        let _ = unsafe { map.unchecked_advise_range(advice, range.start, range.len()) };
    }

    /// Does nothing: other systems reclaim such pages by themselves.
    #[cfg(not(unix))]
    pub(super) fn release(&self, _range: Range<usize>) {}
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map, _) => map,
            Bytes::Embedded(bytes) => bytes,
        }
    }
}

/// The tensors of a network, used where they lie in a mapped file.
pub(super) struct MappedTensors {
    /// The part of the file from the first tensor to the last one.
    block: SharedBlock,
    /// Where the part begins in the file.
    start: usize,
}

impl MappedTensors {
    /// Maps the tensors `names`, in place of `bytes` bytes of memory. `None` if they must be
    /// copied: not all of them are packed and aligned in one file that may be used in place, they
    /// lie too far apart, or `memory` maps no files.
    pub(super) fn of<'n>(
        source: &WeightSource,
        names: impl Iterator<Item = &'n str>,
        bytes: usize,
        memory: &Memory,
        owner: Owner,
    ) -> Option<MappedTensors> {
        let mut part: Option<Range<usize>> = None;
        let mut shared_file = None;
        for name in names {
            let (file, tensor) = source.tensor(name)?;
            let first = *shared_file.get_or_insert(file);
            let aligned = tensor.bytes.start.is_multiple_of(ALIGNMENT);
            if !file.used_in_place || !aligned || !std::ptr::eq(first, file) {
                return None;
            }
            file.packed.get(name)?;
            let so_far = part.unwrap_or_else(|| tensor.bytes.clone());
            part = Some(so_far.start.min(tensor.bytes.start)..so_far.end.max(tensor.bytes.end));
        }
        let part = part.filter(|part| part.len() <= bytes)?;
        let Bytes::Mapped(_, file) = &shared_file?.bytes else {
            return None;
        };
        // A refusal, whatever its reason, is reported where memory for copies is requested.
        let block = memory.map_file(file, part.start as u64..part.end as u64, owner);
        Some(MappedTensors {
            block: block.ok()?,
            start: part.start,
        })
    }

    /// The tensor that lies at `bytes` of the file.
    pub(super) fn tensor(&self, bytes: &Range<usize>) -> Option<SharedBlock> {
        let begin = bytes.start.checked_sub(self.start)?;
        self.block.slice(begin..begin + bytes.len())
    }
}
