//! Pinned memory of the host through which bytes go to the device and come from it: a ring of
//! parts, of which one is filled while those before it are copied.

use super::context::count;
use super::error::CudaError;
use super::queue::Queue;
use super::symbols::Event;
use super::twice;
use crate::driver::Address;
use std::fmt;
use std::sync::Arc;

/// What comes from the device begins at a multiple of this in a part.
const ALIGNMENT: usize = 64;

/// A ring of pinned parts for one queue. Its size is all that it ever takes.
pub struct Staging {
    queue: Arc<Queue>,
    start: *mut u8,
    part_bytes: usize,
    /// Bytes of all parts.
    whole: usize,
    parts: Vec<Part>,
    current: usize,
    /// Bytes of the current part that are in use.
    filled: usize,
}

#[derive(Debug)]
struct Part {
    event: Event,
    /// Whether the event was recorded since the part was last waited for.
    recorded: bool,
}

// SAFETY: the pinned memory is the ring's alone; what the device does with it is over before it is
// used again.
unsafe impl Send for Staging {}

impl Staging {
    /// `part_count` parts of `part_bytes` bytes each; at least two.
    ///
    /// # Errors
    /// If the driver's library has no queues, or the system has no memory to pin.
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
                // It is the host's memory that is short.
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
        };
        queue.context().add_pinned(whole);
        // SAFETY: the memory is that large, and nobody else's; what it holds is not known yet.
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

    /// The most bytes that go at once.
    pub fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    /// Copies bytes to the device, in as many parts as it takes. The host goes on as soon as they
    /// are in the ring.
    ///
    /// # Errors
    /// If the memory is not held, or the device refuses.
    pub fn write(&mut self, bytes: &[u8], to: Address) -> Result<(), CudaError> {
        let mut at = to;
        for piece in bytes.chunks(self.part_bytes) {
            self.write_with(at, piece.len(), |place| place.copy_from_slice(piece))?;
            at = at.offset(piece.len() as u64);
        }
        Ok(())
    }

    /// Copies `bytes` bytes to the device that `fill` writes into the ring itself. They hold
    /// anything before.
    ///
    /// # Errors
    /// If they are more than a part, the memory is not held, or the device refuses.
    pub fn write_with<T>(
        &mut self,
        to: Address,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, CudaError> {
        let context = Arc::clone(self.queue.context());
        context.check_held("a write", to, bytes as u64)?;
        let place = self.take(bytes)?;
        // SAFETY: the place is within the ring, and no copy from it is under way: `take` waited for
        // it.
        let filled = fill(unsafe { std::slice::from_raw_parts_mut(place, bytes) });
        if bytes > 0 {
            let stream = self.queue.stream();
            self.queue.act(|library| {
                // SAFETY: the place is not written again before the part's event is done.
                unsafe { library.write_on(stream, to.0, place, bytes) }
            })?;
        }
        count(&context.counters.writes, 1);
        count(&context.counters.bytes_written, bytes);
        Ok(filled)
    }

    /// Copies bytes from the device, after all work that the queue has been given, and waits for
    /// them: once for each part.
    ///
    /// # Errors
    /// If the memory is not held, the device refuses, or work before it failed.
    pub fn read(&mut self, from: Address, into: &mut [u8]) -> Result<(), CudaError> {
        let context = Arc::clone(self.queue.context());
        context.check_held("a read", from, into.len() as u64)?;
        let stream = self.queue.stream();
        let mut at = from;
        for piece in into.chunks_mut(self.part_bytes) {
            let place = self.take(piece.len())?;
            self.queue.act(|library| {
                // SAFETY: nobody touches the place before the wait below is over; if that fails, it
                // stays in use.
                unsafe { library.read_on(stream, place, at.0, piece.len()) }
            })?;
            self.queue.synchronize()?;
            // SAFETY: the copy is done.
            piece.copy_from_slice(unsafe { std::slice::from_raw_parts(place, piece.len()) });
            self.forget_copies();
            at = at.offset(piece.len() as u64);
            count(&context.counters.reads, 1);
            count(&context.counters.bytes_read, piece.len());
        }
        Ok(())
    }

    /// Waits until nothing of the ring is in use.
    ///
    /// # Errors
    /// If the work before failed.
    pub fn finish(&mut self) -> Result<(), CudaError> {
        self.queue.synchronize()?;
        self.forget_copies();
        Ok(())
    }

    /// All copies are done: nothing of the ring is in use.
    fn forget_copies(&mut self) {
        self.filled = 0;
        for part in &mut self.parts {
            part.recorded = false;
        }
    }

    /// A place for `bytes` bytes that no copy uses.
    fn take(&mut self, bytes: usize) -> Result<*mut u8, CudaError> {
        // A graph would copy from the ring whenever it runs.
        self.queue.refuse_in_capture("a copy through staging")?;
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
            // Nothing runs any more, and the context's end gives the memory back.
            return;
        };
        let done = twice(|| library.synchronize_stream(self.queue.stream()));
        for part in &self.parts {
            let _ = twice(|| library.destroy_event(part.event));
        }
        // What a copy may still use stays until the context ends.
        if done.is_ok() {
            // SAFETY: it came from the library, and no copy from it is under way.
            let _ = twice(|| unsafe { library.free_pinned(self.start) });
        }
    }
}
