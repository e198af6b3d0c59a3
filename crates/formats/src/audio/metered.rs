//! A source with a read allowance, which bounds the memory of a library that keeps what it reads.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use symphonia::core::io::MediaSource;

/// Bytes that may still be read from a [`Metered`] source; shared with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowance {
    bytes: Arc<AtomicU64>,
    exceeded: Arc<AtomicBool>,
}

impl Allowance {
    /// Allows `bytes` bytes from now on.
    pub(super) fn set(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.exceeded.store(false, Ordering::Relaxed);
    }

    /// Whether a read exceeded the allowance since the last [`Allowance::set`].
    pub(super) fn is_exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }
}

/// A part of a source, read within an [`Allowance`].
#[derive(Debug)]
pub(super) struct Metered<S> {
    source: S,
    start: u64,
    length: u64,
    position: u64,
    allowance: Allowance,
    is_cut: bool,
    /// Bytes that stand in place of the source's own, from a position on.
    overlay: Option<(u64, Vec<u8>)>,
    /// Bytes that follow the source's own.
    tail: &'static [u8],
}

impl<S: MediaSource> Metered<S> {
    /// The `length` bytes from `start` on.
    pub(super) fn new(
        mut source: S,
        start: u64,
        length: u64,
        allowance: &Allowance,
    ) -> io::Result<Metered<S>> {
        source.seek(SeekFrom::Start(start))?;
        Ok(Metered {
            source,
            start,
            length,
            position: 0,
            allowance: allowance.clone(),
            is_cut: false,
            overlay: None,
            tail: &[],
        })
    }

    /// Has `tail` read behind the source's own bytes.
    pub(super) fn followed(mut self, tail: &'static [u8]) -> Metered<S> {
        self.tail = tail;
        self
    }

    /// Bytes in all.
    fn whole_length(&self) -> u64 {
        self.length.saturating_add(self.tail.len() as u64)
    }

    /// Has `bytes` read at `position` in place of the source's own.
    pub(super) fn overlaid(mut self, overlay: Option<(u64, Vec<u8>)>) -> Metered<S> {
        self.overlay = overlay;
        self
    }

    /// Lays the overlay over what was read at the current position.
    fn lay_over(&self, read: &mut [u8]) {
        let Some((position, bytes)) = &self.overlay else {
            return;
        };
        for (offset, byte) in (*position..).zip(bytes) {
            let place = offset.checked_sub(self.position);
            let place = place.and_then(|place| usize::try_from(place).ok());
            if let Some(place) = place.and_then(|place| read.get_mut(place)) {
                *place = *byte;
            }
        }
    }

    /// Hides where the source ends, for a container that goes on beyond it: the library refuses
    /// what does not fit, but reads a stream as far as it comes.
    pub(super) fn cut(mut self, is_cut: bool) -> Metered<S> {
        self.is_cut = is_cut;
        self
    }
}

impl<S: MediaSource> Read for Metered<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let wanted = left.min(buffer.len() as u64);
        if wanted == 0 {
            let passed = usize::try_from(self.position.saturating_sub(self.length)).ok();
            let mut rest = passed
                .and_then(|passed| self.tail.get(passed..))
                .unwrap_or(&[]);
            let count = rest.read(buffer)?;
            self.position += count as u64;
            return Ok(count);
        }
        let allowed = self.allowance.bytes.load(Ordering::Relaxed);
        if allowed == 0 {
            self.allowance.exceeded.store(true, Ordering::Relaxed);
            return Err(io::Error::other("a read exceeded the allowance"));
        }
        // At most the buffer's length, which is a `usize`.
        let wanted = wanted.min(allowed) as usize;
        let count = self.source.read(&mut buffer[..wanted])?;
        self.lay_over(&mut buffer[..count]);
        self.position += count as u64;
        (self.allowance.bytes).store(allowed.saturating_sub(count as u64), Ordering::Relaxed);
        Ok(count)
    }
}

impl<S: MediaSource> Seek for Metered<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.whole_length().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        let place = position.and_then(|position| position.checked_add(self.start));
        let (Some(position), Some(place)) = (position, place) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        self.source.seek(SeekFrom::Start(place))?;
        self.position = position;
        Ok(position)
    }
}

impl<S: MediaSource> MediaSource for Metered<S> {
    fn is_seekable(&self) -> bool {
        !self.is_cut
    }

    fn byte_len(&self) -> Option<u64> {
        (!self.is_cut).then(|| self.whole_length())
    }
}
