//! Queues and events. Work is deferred until somebody waits for it, so that a missing wait reads
//! stale bytes.

use super::{Capture, DEFAULT_QUEUE, Device, Event, Item, Queue, new_handle};
use crate::executor::Step;
use crate::status::{
    INVALID_VALUE, NOT_READY, Outcome, STREAM_CAPTURE_INVALIDATED, STREAM_CAPTURE_UNSUPPORTED,
    Status,
};
use std::sync::Arc;

impl Device {
    /// Creates a queue.
    pub fn create_queue(&mut self, blocking: bool) -> u64 {
        let handle = new_handle();
        let queue = Queue {
            blocking,
            ..Queue::default()
        };
        self.queues.insert(handle, queue);
        handle
    }

    /// Destroys a queue after its work is complete.
    pub fn destroy_queue(&mut self, handle: u64) -> Outcome {
        if handle == DEFAULT_QUEUE || !self.queues.contains_key(&handle) {
            return Err(self.unknown_handle());
        }
        self.finish(handle)?;
        self.queues.remove(&handle);
        Ok(())
    }

    fn queue(&mut self, handle: u64) -> Result<&mut Queue, Status> {
        if !self.queues.contains_key(&handle) {
            return Err(self.unknown_handle());
        }
        self.queues.get_mut(&handle).ok_or(INVALID_VALUE)
    }

    /// Appends a step to a queue, or to its capture.
    pub(super) fn submit(&mut self, handle: u64, step: Step) -> Outcome {
        let queue = self.queue(handle)?;
        match &mut queue.capture {
            Some(capture) if capture.broken => Err(STREAM_CAPTURE_INVALIDATED),
            Some(capture) => {
                capture.steps.push(step);
                Ok(())
            }
            None => {
                queue.push(Item::Step(step));
                Ok(())
            }
        }
    }

    /// Appends a graph's steps to a queue.
    pub(super) fn submit_all(&mut self, handle: u64, steps: Arc<[Step]>) -> Outcome {
        self.no_capture(handle)?;
        self.queue(handle)?.push(Item::Steps(steps));
        Ok(())
    }

    pub(super) fn is_capturing(&mut self, handle: u64) -> Result<bool, Status> {
        Ok(self.queue(handle)?.capture.is_some())
    }

    /// Refuses a call that cannot be captured, and invalidates the capture.
    pub(super) fn no_capture(&mut self, handle: u64) -> Outcome {
        match &mut self.queue(handle)?.capture {
            Some(capture) => {
                capture.broken = true;
                Err(STREAM_CAPTURE_UNSUPPORTED)
            }
            None => Ok(()),
        }
    }

    /// Collects a queue's steps up to a ticket, with the steps of other queues that they wait for,
    /// in a valid order.
    fn collect(&mut self, handle: u64, ticket: u64, steps: &mut Vec<Step>) {
        while let Some(queue) = self.queues.get_mut(&handle)
            && queue.done < ticket
        {
            queue.done += 1;
            match queue.items.pop_front() {
                Some(Item::Step(step)) => steps.push(step),
                Some(Item::Steps(graph)) => steps.extend(graph.iter().cloned()),
                Some(Item::Wait {
                    queue: other,
                    ticket,
                }) => self.collect(other, ticket, steps),
                Some(Item::Record) | None => {}
            }
        }
    }

    fn finish_to(&mut self, handle: u64, ticket: u64) -> Outcome {
        let mut steps = Vec::new();
        if handle != DEFAULT_QUEUE && self.queue(handle)?.blocking {
            let ticket = self.queue(DEFAULT_QUEUE)?.asked;
            self.collect(DEFAULT_QUEUE, ticket, &mut steps);
        }
        self.collect(handle, ticket, &mut steps);
        self.run(steps)
    }

    fn finish(&mut self, handle: u64) -> Outcome {
        let ticket = self.queue(handle)?.asked;
        self.finish_to(handle, ticket)
    }

    /// Runs all work of all queues.
    pub(super) fn finish_all(&mut self) -> Outcome {
        let handles: Vec<u64> = self.queues.keys().copied().collect();
        handles
            .into_iter()
            .try_for_each(|handle| self.finish(handle))
    }

    /// Waits for all work. While any queue captures, in whichever thread, a wait for the whole
    /// context is refused, and invalidates every capture.
    pub fn synchronize(&mut self) -> Outcome {
        self.counts.waits += 1;
        self.invalidate_captures(|_| true)?;
        self.finish_all()
    }

    /// Waits for a queue.
    pub fn synchronize_queue(&mut self, handle: u64) -> Outcome {
        self.counts.waits += 1;
        self.no_capture(handle)?;
        self.finish(handle)
    }

    /// Whether a queue's work is complete. If not, it will be at the next query.
    pub fn query_queue(&mut self, handle: u64) -> Outcome {
        self.no_capture(handle)?;
        let queue = self.queue(handle)?;
        let idle = queue.done == queue.asked;
        self.finish(handle)?;
        if idle { Ok(()) } else { Err(NOT_READY) }
    }

    /// Creates an event.
    pub fn create_event(&mut self) -> u64 {
        let handle = new_handle();
        self.events.insert(handle, Event::default());
        handle
    }

    /// Destroys an event.
    pub fn destroy_event(&mut self, handle: u64) -> Outcome {
        match self.events.remove(&handle) {
            Some(_) => Ok(()),
            None => Err(self.unknown_handle()),
        }
    }

    fn event(&mut self, handle: u64) -> Result<Option<(u64, u64)>, Status> {
        match self.events.get(&handle) {
            Some(event) => Ok(event.recorded),
            None => Err(self.unknown_handle()),
        }
    }

    /// Records an event at the end of a queue's current work.
    pub fn record_event(&mut self, handle: u64, queue: u64) -> Outcome {
        self.event(handle)?;
        self.no_capture(queue)?;
        let end = self.queue(queue)?;
        end.push(Item::Record);
        let ticket = end.asked;
        if let Some(event) = self.events.get_mut(&handle) {
            event.recorded = Some((queue, ticket));
        }
        Ok(())
    }

    /// Whether the work before an event is complete. If not, it will be at the next query.
    pub fn query_event(&mut self, handle: u64) -> Outcome {
        self.refuse_in_capture()?;
        let Some((queue, ticket)) = self.event(handle)? else {
            return Ok(());
        };
        let done = (self.queues.get(&queue)).is_none_or(|queue| queue.done >= ticket);
        self.finish_to(queue, ticket)?;
        if done { Ok(()) } else { Err(NOT_READY) }
    }

    /// Waits for an event.
    pub fn synchronize_event(&mut self, handle: u64) -> Outcome {
        self.counts.waits += 1;
        self.refuse_in_capture()?;
        match self.event(handle)? {
            Some((queue, ticket)) => self.finish_to(queue, ticket),
            None => Ok(()),
        }
    }

    /// Makes a queue wait for an event.
    pub fn wait_for_event(&mut self, queue: u64, handle: u64) -> Outcome {
        self.no_capture(queue)?;
        if let Some((other, ticket)) = self.event(handle)? {
            let item = Item::Wait {
                queue: other,
                ticket,
            };
            self.queue(queue)?.push(item);
        }
        Ok(())
    }

    /// A synchronous copy to the device on the default queue, which waits for all blocking queues.
    /// Memory that is not pinned has been read on return, but may not have reached the device:
    /// other queues than blocking ones have to wait for the default queue.
    pub fn write(&mut self, to: u64, from: u64, bytes: u64) -> Outcome {
        self.refuse_in_capture()?;
        if !self.is_accessible(to, bytes) {
            return Err(self.misuse());
        }
        self.counts.bytes_to_device += bytes;
        if self.is_pinned(from, bytes) {
            return self.copy_now(to, from, bytes);
        }
        self.counts.waits += 1;
        self.finish_blocking()?;
        // SAFETY: the caller vouches for the memory as for any copy, until the call returns.
        let bytes = unsafe { std::slice::from_raw_parts(from as *const u8, bytes as usize) };
        let bytes = bytes.into();
        self.submit(DEFAULT_QUEUE, Step::Write { to, bytes })
    }

    /// A synchronous copy from the device on the default queue.
    pub fn read(&mut self, to: u64, from: u64, bytes: u64) -> Outcome {
        self.refuse_in_capture()?;
        if !self.is_accessible(from, bytes) {
            return Err(self.misuse());
        }
        self.counts.bytes_from_device += bytes;
        self.copy_now(to, from, bytes)
    }

    fn copy_now(&mut self, to: u64, from: u64, bytes: u64) -> Outcome {
        self.counts.waits += 1;
        self.finish_blocking()?;
        self.run(vec![Step::Copy { to, from, bytes }])
    }

    fn finish_blocking(&mut self) -> Outcome {
        let blocking = (self.queues.iter()).filter(|(_, queue)| queue.blocking);
        let handles: Vec<u64> = blocking.map(|(&handle, _)| handle).collect();
        (handles.into_iter()).try_for_each(|handle| self.finish(handle))
    }

    /// An asynchronous copy to the device. Pinned memory is read when the copy runs, other memory
    /// at once.
    pub fn write_on(&mut self, queue: u64, to: u64, from: u64, bytes: u64) -> Outcome {
        if !self.is_accessible(to, bytes) {
            return Err(self.misuse());
        }
        let step = if self.is_pinned(from, bytes) {
            Step::Copy { to, from, bytes }
        } else if self.is_capturing(queue)? {
            // A graph would read the caller's memory at every replay.
            self.no_capture(queue)?;
            return Err(self.misuse());
        } else {
            // SAFETY: the caller vouches for the memory as for any copy, until the call returns.
            let bytes = unsafe { std::slice::from_raw_parts(from as *const u8, bytes as usize) };
            let bytes = bytes.into();
            Step::Write { to, bytes }
        };
        self.counts.bytes_to_device += bytes;
        self.submit(queue, step)
    }

    /// An asynchronous copy from the device. A copy to memory that is not pinned is complete on
    /// return.
    pub fn read_on(&mut self, queue: u64, to: u64, from: u64, bytes: u64) -> Outcome {
        if !self.is_accessible(from, bytes) {
            return Err(self.misuse());
        }
        let pinned = self.is_pinned(to, bytes);
        if !pinned {
            self.no_capture(queue)?;
        }
        self.counts.bytes_from_device += bytes;
        self.submit(queue, Step::Copy { to, from, bytes })?;
        if pinned {
            return Ok(());
        }
        self.counts.waits += 1;
        self.finish(queue)
    }

    /// An asynchronous copy within the device.
    pub fn copy_on(&mut self, queue: u64, to: u64, from: u64, bytes: u64) -> Outcome {
        if !self.is_accessible(from, bytes) || !self.is_accessible(to, bytes) {
            return Err(self.misuse());
        }
        self.submit(queue, Step::Copy { to, from, bytes })
    }

    /// An asynchronous fill with one byte value.
    pub fn fill_on(&mut self, queue: u64, to: u64, byte: u8, bytes: u64) -> Outcome {
        if !self.is_accessible(to, bytes) {
            return Err(self.misuse());
        }
        self.submit(queue, Step::Fill { to, byte, bytes })
    }

    /// Begins to capture a queue's work.
    pub fn begin_capture(&mut self, handle: u64) -> Outcome {
        self.no_capture(handle)?;
        if handle == DEFAULT_QUEUE {
            return Err(STREAM_CAPTURE_UNSUPPORTED);
        }
        self.queue(handle)?.capture = Some(Capture {
            steps: Vec::new(),
            thread: std::thread::current().id(),
            broken: false,
        });
        Ok(())
    }

    /// Ends a capture; returns its steps unless the capture was invalidated.
    pub fn end_capture(&mut self, handle: u64) -> Result<Arc<[Step]>, Status> {
        match self.queue(handle)?.capture.take() {
            Some(capture) if capture.broken => Err(STREAM_CAPTURE_INVALIDATED),
            Some(capture) => Ok(capture.steps.into()),
            None => Err(self.misuse()),
        }
    }
}

impl Queue {
    fn push(&mut self, item: Item) {
        self.items.push_back(item);
        self.asked += 1;
    }
}
