//! One utterance under way, from its reader's view.

use crate::engine::Handle;
use crate::error::Error;
use crate::text_input::{TextInput, TextWriter};
use crate::word_times::WordTime;
use serde::Serialize;
use sottovoce_chatterbox::text::Warning;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Most warnings kept per stream.
const WARNINGS_MAX: usize = 200;

/// A piece of speech.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Mono samples at [`SAMPLE_RATE`](crate::SAMPLE_RATE), nominally in −1..1.
    pub samples: Vec<f32>,
    /// Words that begin in these samples, if [`StreamOptions::word_times`] asks for them. A word
    /// whose end is not known yet comes with a later chunk.
    ///
    /// [`StreamOptions::word_times`]: crate::StreamOptions::word_times
    pub words: Vec<WordTime>,
    /// Metrics at the time the chunk was finished.
    pub metrics: ChunkMetrics,
}

/// Metrics of a stream up to a chunk. Seconds are wall-clock seconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChunkMetrics {
    /// Chunks so far, including this one.
    pub chunk_count: u64,
    /// From the call to the first samples.
    pub latency_to_first_chunk: f64,
    /// From the call to the earliest time at which playback can begin without interruption up to
    /// here.
    pub uninterrupted_after: f64,
    /// From the call to this chunk.
    pub total_generation_time: f64,
    /// Seconds of speech so far.
    pub total_audio_duration: f64,
    /// Seconds of work per second of speech.
    pub rtf: f64,
    /// Text tokens of all sentences.
    pub text_tokens: u64,
    /// Speech tokens so far.
    pub tokens: u64,
    /// Sentences cut off because speech looped or ran on after the text.
    pub run_ons: u64,
    /// Bytes in use.
    pub memory_allocated: u64,
    /// Bytes held from the system.
    pub memory_reserved: u64,
    /// Peak of the bytes held from the system.
    pub memory_reserved_peak: u64,
    /// (reserved − allocated) ÷ reserved.
    pub fragmentation: f64,
    /// Actions of the memory policy since the previous chunk.
    pub actions: Vec<String>,
    /// Text that was skipped or changed since the previous chunk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// Bounded queue of at most `room` chunks between the worker and a reader.
pub(crate) struct Delivery {
    room: usize,
    state: Mutex<DeliveryState>,
    changed: Condvar,
}

#[derive(Default)]
struct DeliveryState {
    chunks: VecDeque<Chunk>,
    /// Set when the worker is done, with its error if there is one.
    ended: Option<Option<Error>>,
    cancelled: bool,
    /// Whether the stream was admitted.
    admitted: bool,
    /// Since when its reader has waited, if that is before the call.
    asked: Option<Instant>,
    /// Waker of the task that waits for admission or for a chunk.
    waker: Option<Waker>,
    warnings: Vec<Warning>,
}

impl DeliveryState {
    /// Wakes the waiting reader.
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The reader's next item, if there is one.
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

    /// Records that the stream was admitted.
    pub fn admit(&self) {
        let mut state = self.state();
        state.admitted = true;
        state.wake();
    }

    pub fn asked(&self) -> Option<Instant> {
        self.state().asked
    }

    /// Ready once the stream was admitted or has ended.
    fn poll_admitted(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.admitted || state.cancelled || state.ended.is_some() {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Adds warnings about the text, ahead of its sound.
    pub fn warn(&self, warnings: &[Warning]) {
        let mut state = self.state();
        let room = WARNINGS_MAX.saturating_sub(state.warnings.len());
        state.warnings.extend(warnings.iter().take(room).cloned());
    }

    /// Adds warnings about a piece of an open text and returns those that are new: what holds for a
    /// language, say, holds for every piece.
    pub fn warn_once(&self, mut warnings: Vec<Warning>) -> Vec<Warning> {
        let mut state = self.state();
        warnings.retain(|warning| {
            let told = &mut state.warnings;
            let is_new =
                told.len() < WARNINGS_MAX && !told.iter().any(|told| told.is_alike(warning));
            if is_new {
                told.push(warning.clone());
            }
            is_new
        });
        warnings
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

    /// Waits for the next chunk. Returns the error, if there is one, after the last chunk; then
    /// `None`.
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

    /// As `receive`, without waiting; wakes `context` when there may be something.
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

/// The worker's end of a delivery. Dropping it ends the delivery, so that no reader waits for a
/// worker that is gone.
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

/// An utterance under way: an iterator of chunks. Dropping it ends the utterance and releases its
/// memory.
pub struct Stream {
    pub(crate) id: u64,
    pub(crate) without_effect: Vec<&'static str>,
    pub(crate) text: Arc<TextInput>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) handle: Arc<Handle>,
}

impl Stream {
    /// The stream's number, as in [`StreamReport::stream`](crate::StreamReport).
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Measures [`ChunkMetrics`] and the engine's latencies from an earlier moment than the call:
    /// for a program that was asked to speak, and first loaded the model or prepared the voice. Has
    /// to be called before the first chunk.
    pub fn asked_at(&self, asked: Instant) {
        self.delivery.state().asked = Some(asked);
    }

    /// Options given to the stream that have no effect with its model, device, voice and other
    /// options.
    pub fn options_without_effect(&self) -> &[&'static str] {
        &self.without_effect
    }

    /// Completes when the stream is admitted. Completes at once if the stream has ended before; the
    /// iterator then returns the error.
    pub fn admitted(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|context| self.delivery.poll_admitted(context))
    }

    /// As [`next`](Iterator::next), without waiting. If nothing is available, the task of `context`
    /// is woken when there may be.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Chunk, Error>>> {
        let item = self.delivery.poll_receive(context);
        if item.is_ready() {
            // The worker may be waiting for room.
            self.handle.shared.wake();
        }
        item
    }

    /// The writer of the text of an open stream.
    pub fn text(&self) -> TextWriter {
        TextWriter {
            input: self.text.clone(),
            handle: Arc::downgrade(&self.handle),
        }
    }

    /// Text that was skipped or changed, as far as it has been read. For a text given whole, the
    /// list is complete from the first chunk on. Only the first warnings are kept.
    pub fn warnings(&self) -> Vec<Warning> {
        self.delivery.state().warnings.clone()
    }

    /// A handle that lets another thread end the utterance.
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

    /// Waits for the next chunk. `None` after the last chunk, after an error and after a
    /// cancellation.
    fn next(&mut self) -> Option<Self::Item> {
        let item = self.delivery.receive();
        // The worker may be waiting for room.
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

/// Reads streams to their ends, one chunk of each in turn. Returns the samples of each, and its
/// error if it could not begin or ended early.
pub fn read_in_turn(
    streams: impl IntoIterator<Item = Result<Stream, Error>>,
) -> Vec<(Vec<f32>, Result<(), Error>)> {
    let mut heard = Vec::new();
    let mut open = Vec::new();
    for stream in streams {
        let (stream, ending) = match stream {
            Ok(stream) => (Some(stream), Ok(())),
            Err(error) => (None, Err(error)),
        };
        heard.push((Vec::new(), ending));
        open.push(stream);
    }
    while open.iter().any(Option::is_some) {
        for (stream, (samples, ending)) in open.iter_mut().zip(&mut heard) {
            match stream.as_mut().and_then(Iterator::next) {
                Some(Ok(chunk)) => samples.extend(chunk.samples),
                Some(Err(error)) => {
                    *ending = Err(error);
                    *stream = None;
                }
                None => *stream = None,
            }
        }
    }
    heard
}

/// Ends a stream from another thread. The iterator ends at once; the worker finishes its current
/// unit of work.
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
                words: Vec::new(),
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
