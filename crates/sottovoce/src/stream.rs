//! One utterance under way, as its reader sees it.

use crate::engine::Handle;
use crate::error::Error;
use crate::text_input::{TextInput, TextWriter};
use serde::Serialize;
use sottovoce_chatterbox::text::Warning;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Warnings that are kept of a stream's text.
const WARNINGS_MAX: usize = 200;

/// A piece of speech.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Mono samples at [`SAMPLE_RATE`](crate::SAMPLE_RATE), nominally in −1..1.
    pub samples: Vec<f32>,
    /// How things stood when the piece was done.
    pub metrics: ChunkMetrics,
}

/// How a stream stands after a chunk. Seconds are wall-clock seconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChunkMetrics {
    /// Chunks so far, this one included.
    pub chunk_count: u64,
    /// From the call to the first samples.
    pub latency_to_first_chunk: f64,
    /// From the call to when playback can begin that is not interrupted up to here.
    pub uninterrupted_after: f64,
    /// From the call to this chunk.
    pub total_generation_time: f64,
    /// Seconds of speech so far.
    pub total_audio_duration: f64,
    /// Seconds of work a second of speech.
    pub rtf: f64,
    /// Tokens of the text, all sentences together.
    pub text_tokens: u64,
    /// Speech tokens so far.
    pub tokens: u64,
    /// Sentences so far that were ended because speech looped or ran on after their text.
    pub run_ons: u64,
    /// Bytes in use now.
    pub memory_allocated: u64,
    /// Bytes held from the system now.
    pub memory_reserved: u64,
    /// The most bytes ever held from the system.
    pub memory_reserved_peak: u64,
    /// (reserved − allocated) ÷ reserved.
    pub fragmentation: f64,
    /// What the memory policy did since the chunk before.
    pub actions: Vec<String>,
    /// What was passed over or changed in the text that was read since the chunk before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// Where the worker leaves chunks for a reader, at most `room` of them.
pub(crate) struct Delivery {
    room: usize,
    state: Mutex<DeliveryState>,
    changed: Condvar,
}

#[derive(Default)]
struct DeliveryState {
    chunks: VecDeque<Chunk>,
    /// The worker is done; with its error, if it has one.
    ended: Option<Option<Error>>,
    cancelled: bool,
    /// Whether the stream left the line for its place.
    admitted: bool,
    /// Who waits for the place, or for a chunk.
    waker: Option<Waker>,
    warnings: Vec<Warning>,
}

impl DeliveryState {
    /// Lets whoever waits look again.
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// What a reader gets now, if there is anything.
    fn next(&mut self) -> Poll<Option<Result<Chunk, Error>>> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        if self.cancelled {
            return Poll::Ready(None);
        }
        match &mut self.ended {
            Some(error) => Poll::Ready(error.take().map(Err)),
            None => Poll::Pending,
        }
    }
}

impl Delivery {
    pub fn new(room: usize) -> Delivery {
        Delivery {
            room,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub fn has_room(&self) -> bool {
        self.state().chunks.len() < self.room
    }

    pub fn cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// The stream has its place.
    pub fn admit(&self) {
        let mut state = self.state();
        state.admitted = true;
        state.wake();
    }

    /// Ready when the stream has its place, or will never have one.
    fn poll_admitted(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.admitted || state.cancelled || state.ended.is_some() {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Tells of what was passed over in the text, before the sound of it.
    pub fn warn(&self, warnings: &[Warning]) {
        let mut state = self.state();
        let room = WARNINGS_MAX.saturating_sub(state.warnings.len());
        state.warnings.extend(warnings.iter().take(room).cloned());
    }

    pub fn send(&self, chunk: Chunk) {
        let mut state = self.state();
        state.chunks.push_back(chunk);
        state.wake();
        drop(state);
        self.changed.notify_all();
    }

    pub fn finish(&self) {
        self.end(None);
    }

    pub fn fail(&self, error: Error) {
        self.end(Some(error));
    }

    fn end(&self, error: Option<Error>) {
        let mut state = self.state();
        if state.ended.is_none() {
            state.ended = Some(error);
        }
        state.wake();
        self.changed.notify_all();
    }

    fn cancel(&self) {
        let mut state = self.state();
        state.cancelled = true;
        state.chunks.clear();
        state.wake();
        self.changed.notify_all();
    }

    /// The next chunk, then the error if there is one, then nothing.
    fn receive(&self) -> Option<Result<Chunk, Error>> {
        let mut state = self.state();
        loop {
            if let Poll::Ready(item) = state.next() {
                return item;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The same without waiting; `context` is woken when there may be something.
    fn poll_receive(&self, context: &mut Context<'_>) -> Poll<Option<Result<Chunk, Error>>> {
        let mut state = self.state();
        let item = state.next();
        if item.is_pending() {
            state.waker = Some(context.waker().clone());
        }
        item
    }

    fn state(&self) -> MutexGuard<'_, DeliveryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker's end of a delivery. Whatever becomes of the worker, nobody waits for a chunk that
/// will never come.
pub(crate) struct Sender(pub Arc<Delivery>);

impl Deref for Sender {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        &self.0
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.fail(Error::Stopped);
    }
}

/// An utterance under way: an iterator of chunks. Dropping it ends the utterance and gives back
/// what it holds.
pub struct Stream {
    pub(crate) id: u64,
    pub(crate) without_effect: Vec<&'static str>,
    pub(crate) text: Arc<TextInput>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) handle: Arc<Handle>,
}

impl Stream {
    /// The stream's number, as [`StreamBytes::stream`](crate::StreamBytes) has it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Options that the stream was given and that change nothing with this model.
    pub fn options_without_effect(&self) -> &[&'static str] {
        &self.without_effect
    }

    /// Completes when the stream left the line for its place; at once if it ended before, of which
    /// the iterator then tells.
    pub fn admitted(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|context| self.delivery.poll_admitted(context))
    }

    /// As [`next`](Iterator::next), without waiting: where nothing is there yet, the task of
    /// `context` is woken when there may be.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Chunk, Error>>> {
        let item = self.delivery.poll_receive(context);
        if item.is_ready() {
            // The worker may have been waiting for room.
            self.handle.shared.wake();
        }
        item
    }

    /// What writes the text of a stream that was opened without one.
    pub fn text(&self) -> TextWriter {
        TextWriter {
            input: self.text.clone(),
            handle: Arc::downgrade(&self.handle),
        }
    }

    /// What was passed over or changed in the text, as far as it was read: all of it from the first
    /// chunk on, where the text was whole. Of very many, the first.
    pub fn warnings(&self) -> Vec<Warning> {
        self.delivery.state().warnings.clone()
    }

    /// A handle with which another thread can end the utterance.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            id: self.id,
            delivery: self.delivery.clone(),
            handle: Arc::downgrade(&self.handle),
        }
    }
}

impl Iterator for Stream {
    type Item = Result<Chunk, Error>;

    /// Waits for the next chunk; `None` after the last one, after an error, and after a
    /// cancellation.
    fn next(&mut self) -> Option<Self::Item> {
        let item = self.delivery.receive();
        // The worker may have been waiting for room.
        self.handle.shared.wake();
        item
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.delivery.cancel();
        self.handle.shared.withdraw(self.id);
    }
}

/// Ends a stream from outside: its iterator ends at once, and the worker stops after the work it is
/// at.
#[derive(Clone)]
pub struct Canceller {
    id: u64,
    delivery: Arc<Delivery>,
    handle: std::sync::Weak<Handle>,
}

impl Canceller {
    /// Ends the stream.
    pub fn cancel(&self) {
        self.delivery.cancel();
        if let Some(handle) = self.handle.upgrade() {
            handle.shared.withdraw(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_whose_sender_is_lost_ends_with_an_error_and_one_that_finished_does_not() {
        for finished in [false, true] {
            let delivery = Arc::new(Delivery::new(2));
            let sender = Sender(delivery.clone());
            sender.send(Chunk {
                samples: vec![0.0],
                metrics: ChunkMetrics::default(),
            });
            if finished {
                sender.finish();
            }
            drop(sender);
            assert!(matches!(delivery.receive(), Some(Ok(_))), "what was sent");
            match delivery.receive() {
                Some(Err(Error::Stopped)) => assert!(!finished),
                None => assert!(finished),
                _ => panic!("neither lost nor finished"),
            }
            assert!(delivery.receive().is_none());
        }
    }
}
