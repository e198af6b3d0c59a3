//! One utterance under way, as its reader sees it.

use crate::engine::Shared;
use crate::error::Error;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

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
    /// From the call to this chunk.
    pub total_generation_time: f64,
    /// Seconds of speech so far.
    pub total_audio_duration: f64,
    /// Seconds of work a second of speech.
    pub rtf: f64,
    /// Speech tokens so far.
    pub tokens: u64,
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
}

/// An utterance under way: an iterator of chunks. Dropping it ends the utterance and gives back what it holds.
pub struct Stream {
    pub(crate) chunks: Receiver<Result<Chunk, Error>>,
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) shared: Arc<Shared>,
}

impl Stream {
    /// A handle with which another thread can end the utterance.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            cancelled: self.cancelled.clone(),
            shared: self.shared.clone(),
        }
    }
}

impl Iterator for Stream {
    type Item = Result<Chunk, Error>;

    /// Waits for the next chunk; `None` after the last. After an error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        let item = self.chunks.recv().ok();
        // A place in the buffer is free again, for which the worker may be waiting.
        self.shared.wake();
        item
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
        self.shared.wake();
    }
}

/// Ends a stream from outside: no further chunk comes after at most one more.
#[derive(Clone)]
pub struct Canceller {
    cancelled: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

impl Canceller {
    /// Ends the stream.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.shared.wake();
    }
}
