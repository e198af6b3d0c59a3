//! Pinned host memory for copies to and from the device: a ring of parts. One part is filled while
//! earlier ones are being copied.

use super::context::count;
use super::error::CudaError;
use super::queue::Queue;
use super::symbols::Event;
use super::twice;
use crate::driver::Address;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Alignment of bytes read from the device within a part.
const ALIGNMENT: usize = 64;

/// A ring of pinned parts for one queue. It never grows.
pub struct Staging {
    queue: Arc<Queue>,
    start: *mut u8,
    part_bytes: usize,
    /// Bytes of the whole ring.
    whole: usize,
    parts: Vec<Part>,
    current: usize,
    /// Bytes in use in the current part.
    filled: usize,
    /// Whether a read may still write anywhere in the ring, because the wait for it failed.
    overwritten: bool,
}

#[derive(Debug)]
struct Part {
    event: Event,
    /// Whether the event was recorded since the last wait for the part.
    recorded: bool,
}

// SAFETY: the ring owns its pinned memory, and waits for the device's copies before reusing it.
unsafe impl Send for Staging {}

impl Staging {
    /// Allocates `part_count` parts of `part_bytes` bytes each. A ring has at least two parts.
    ///
    /// # Errors
    /// If the driver's library has no queue functions, or the system has no memory to pin.
    pub fn new(
        queue: &Arc<Queue>,
        part_count: usize,
        part_bytes: usize,
    ) -> Result<Staging, CudaError> {
        let (part_count, part_bytes) = (part_count.max(2), part_bytes.max(1));
        let part_bytes = part_bytes.next_multiple_of(ALIGNMENT);
        let whole = part_count.saturating_mul(part_bytes);
        let start = (queue.act(|library| library.allocate_pinned(whole))).map_err(|error| {
            match error {
                // The short memory is the host's, not the device's.
                CudaError::OutOfMemory { .. } => CudaError::NoPinnedMemory { bytes: whole },
                error => error,
            }
        })?;
        let mut staging = Staging {
            queue: Arc::clone(queue),
            start,
            part_bytes,
            whole,
            parts: Vec::with_capacity(part_count),
            current: 0,
            filled: 0,
            overwritten: false,
        };
        queue.context().add_pinned(whole);
        // SAFETY: the allocation has `whole` bytes and no other user; zeroing initialises it.
        unsafe { std::ptr::write_bytes(start, 0, whole) };
        for _ in 0..part_count {
            let event = queue.act(|library| library.create_event())?;
            staging.parts.push(Part {
                event,
                recorded: false,
            });
        }
        Ok(staging)
    }

    /// Bytes of a part: the most that one copy to the device takes.
    pub fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    /// Copies bytes to the device, part by part. Returns once the bytes are in the ring.
    ///
    /// # Errors
    /// If the memory is not allocated, or the device refuses.
    pub fn write(&mut self, bytes: &[u8], to: Address) -> Result<(), CudaError> {
        let mut at = to;
        for piece in bytes.chunks(self.part_bytes) {
            self.write_with(at, piece.len(), |place| place.copy_from_slice(piece))?;
            at = at.offset(piece.len() as u64);
        }
        Ok(())
    }

    /// Copies `bytes` bytes to the device that `fill` writes into the ring. Before `fill` runs,
    /// their contents are unspecified.
    ///
    /// # Errors
    /// If they exceed one part, the memory is not allocated, or the device refuses.
    pub fn write_with<T>(
        &mut self,
        to: Address,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, CudaError> {
        let context = Arc::clone(self.queue.context());
        context.check_held("a write", to, bytes as u64)?;
        let place = self.take(bytes)?;
        // SAFETY: the slice is within the ring, and `take` waited for earlier copies from it.
        let filled = fill(unsafe { std::slice::from_raw_parts_mut(place, bytes) });
        if bytes > 0 {
            let stream = self.queue.stream();
            self.queue.act(|library| {
                // SAFETY: the slice is not written again before the part's event is complete.
                unsafe { library.write_on(stream, to.0, place, bytes) }
            })?;
        }
        count(&context.counters.writes, 1);
        count(&context.counters.bytes_written, bytes);
        Ok(filled)
    }

    /// Copies bytes from the device after all work submitted to the queue, and waits once for as
    /// much as the ring holds.
    ///
    /// # Errors
    /// If the memory is not allocated, the device refuses, or earlier work failed.
    pub fn read(&mut self, from: Address, into: &mut [u8]) -> Result<(), CudaError> {
        self.read_all(&mut [(from, into)])
    }

    /// As [`Staging::read`], of several places.
    ///
    /// # Errors
    /// As [`Staging::read`].
    pub fn read_all(&mut self, places: &mut [(Address, &mut [u8])]) -> Result<(), CudaError> {
        let context = Arc::clone(self.queue.context());
        for (from, into) in places.iter() {
            context.check_held("a read", *from, into.len() as u64)?;
        }
        let bytes: usize = places.iter().map(|(_, into)| into.len()).sum();
        for first in (0..bytes).step_by(self.whole) {
            self.read_at_once(places, first..bytes.min(first + self.whole))?;
        }
        Ok(())
    }

    /// Reads the bytes `range` of places that lie one behind the other. They may have the whole
    /// ring: the queue copies them after what it has still to copy from there.
    fn read_at_once(
        &mut self,
        places: &mut [(Address, &mut [u8])],
        range: Range<usize>,
    ) -> Result<(), CudaError> {
        self.queue.refuse_in_capture("a copy through staging")?;
        self.overwritten = true;
        each_piece(places, range.clone(), |start, from, into| {
            let (stream, length) = (self.queue.stream(), into.len());
            self.queue.act(|library| {
                // SAFETY: the range is no longer than the ring. Nobody accesses the ring before the
                // wait below, or one that succeeds.
                unsafe { library.read_on(stream, self.start.add(start), from.0, length) }
            })
        })?;
        self.finish()?;
        each_piece(places, range.clone(), |start, _, into| {
            // SAFETY: the copies are complete, and wrote the ring up to the end of the range.
            let copied = unsafe { std::slice::from_raw_parts(self.start.add(start), into.len()) };
            into.copy_from_slice(copied);
            Ok(())
        })?;
        let context = self.queue.context();
        count(&context.counters.reads, 1);
        count(&context.counters.bytes_read, range.len());
        Ok(())
    }

    /// Waits until no part of the ring is in use.
    ///
    /// # Errors
    /// If earlier work failed.
    pub fn finish(&mut self) -> Result<(), CudaError> {
        self.queue.synchronize()?;
        self.overwritten = false;
        self.filled = 0;
        for part in &mut self.parts {
            part.recorded = false;
        }
        Ok(())
    }

    /// A slice of `bytes` bytes that no copy uses.
    fn take(&mut self, bytes: usize) -> Result<*mut u8, CudaError> {
        // A captured copy would read the ring at every replay.
        self.queue.refuse_in_capture("a copy through staging")?;
        if self.overwritten {
            self.finish()?;
        }
        if bytes > self.part_bytes {
            return Err(CudaError::TooMuchAtOnce {
                bytes,
                most: self.part_bytes,
            });
        }
        if self.filled + bytes > self.part_bytes {
            let stream = self.queue.stream();
            let part = &mut self.parts[self.current];
            self.queue
                .act(|library| library.record_event(part.event, stream))?;
            part.recorded = true;
            let next = (self.current + 1) % self.parts.len();
            let part = &mut self.parts[next];
            if part.recorded {
                count(&self.queue.context().counters.waits, 1);
                self.queue
                    .act(|library| library.synchronize_event(part.event))?;
                part.recorded = false;
            }
            self.current = next;
            self.filled = 0;
        }
        let offset = self.current * self.part_bytes + self.filled;
        self.filled = (self.filled + bytes).next_multiple_of(ALIGNMENT);
        // SAFETY: the offset and the bytes are within the current part.
        Ok(unsafe { self.start.add(offset) })
    }
}

/// Calls `work` with each piece of the bytes `range` of places that lie one behind the other: where
/// it begins in the range, its address, and its bytes.
fn each_piece(
    places: &mut [(Address, &mut [u8])],
    range: Range<usize>,
    mut work: impl FnMut(usize, Address, &mut [u8]) -> Result<(), CudaError>,
) -> Result<(), CudaError> {
    let mut first = 0;
    for (from, into) in places {
        let end = first + into.len();
        let (low, high) = (range.start.max(first), range.end.min(end));
        if low < high {
            let from = from.offset((low - first) as u64);
            work(
                low - range.start,
                from,
                &mut into[low - first..high - first],
            )?;
        }
        first = end;
    }
    Ok(())
}

impl fmt::Debug for Staging {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, bytes) = (self.parts.len(), self.part_bytes);
        write!(formatter, "Staging({count} × {bytes} bytes)")
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.queue.context().remove_pinned(self.whole);
        let Ok(library) = self.queue.context().enter_to_give_back() else {
            // The context is dead; releasing it frees the memory.
            return;
        };
        let done = twice(|| library.synchronize_stream(self.queue.stream()));
        for part in &self.parts {
            let _ = twice(|| library.destroy_event(part.event));
        }
        // Memory that a copy may still use is kept until the context is released.
        if done.is_ok() {
            // SAFETY: the memory came from the library, and no copy from it is under way.
            let _ = twice(|| unsafe { library.free_pinned(self.start) });
        }
    }
}
