//! A stream of the engine, read by a thread and handed to asynchronous code chunk by chunk.

use crate::admission::Place;
use crate::app::App;
use crate::error::ServerError;
use crate::host::Loaded;
use crate::record::RequestRecord;
use serde::Serialize;
use sottovoce::{
    Canceller, Chunk, ChunkMetrics, Error, SAMPLE_RATE, StreamBytes, StreamOptions, Voice, WhenFull,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc;
use utoipa::ToSchema;

/// Chunks between the reading thread and the network: with the engine's own bound, all that a slow reader can pile up.
const CHUNKS_AHEAD: usize = 1;
/// Samples of the silence that stands for a text without words: a fifth of a second, more than any codec's frame.
const SILENCE_SAMPLES: usize = SAMPLE_RATE as usize / 5;

/// What is known about a stream under way.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct LiveStream {
    /// Counts up from 1.
    id: u64,
    /// Who speaks.
    voice: String,
    /// Characters to speak.
    characters: usize,
    /// Chunks made so far.
    chunks: u64,
    /// Seconds of speech made so far.
    audio_seconds: f64,
    /// Seconds since it got its place.
    age_seconds: f64,
    /// Seconds of work a second of speech.
    rtf: f64,
    /// Bytes that it holds, beside what all streams share.
    held_bytes: u64,
    /// The engine's number for it.
    #[serde(skip)]
    engine_stream: u64,
    #[serde(skip)]
    since: Option<Instant>,
}

/// The streams under way.
#[derive(Default)]
pub(crate) struct LiveStreams {
    next: AtomicU64,
    streams: Mutex<BTreeMap<u64, LiveStream>>,
}

impl LiveStreams {
    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, LiveStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, engine_stream: u64, voice: &str, characters: usize) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let stream = LiveStream {
            id,
            voice: voice.to_owned(),
            characters,
            chunks: 0,
            audio_seconds: 0.0,
            age_seconds: 0.0,
            rtf: 0.0,
            held_bytes: 0,
            engine_stream,
            since: Some(Instant::now()),
        };
        self.table().insert(id, stream);
        id
    }

    fn update(&self, id: u64, metrics: &ChunkMetrics) {
        if let Some(stream) = self.table().get_mut(&id) {
            stream.chunks = metrics.chunk_count;
            stream.audio_seconds = metrics.total_audio_duration;
            stream.rtf = metrics.rtf;
        }
    }

    fn end(&self, id: u64) {
        self.table().remove(&id);
    }

    /// All of them, oldest first, with what the engine says each holds.
    pub(crate) fn list(&self, held: &[StreamBytes]) -> Vec<LiveStream> {
        let mut list: Vec<LiveStream> = self.table().values().cloned().collect();
        for stream in &mut list {
            stream.age_seconds = stream
                .since
                .map_or(0.0, |since| since.elapsed().as_secs_f64());
            stream.held_bytes = held
                .iter()
                .find(|held| held.stream == stream.engine_stream)
                .map_or(0, |held| held.bytes);
        }
        list
    }
}

/// What to speak.
pub(crate) struct Request {
    pub(crate) text: String,
    /// The voice's name, as the caller has it.
    pub(crate) voice_name: String,
    pub(crate) voice: Voice,
    pub(crate) options: StreamOptions,
    /// When the caller asked: first audio counts from here.
    pub(crate) asked: Instant,
    /// The call's record, which notes the first audio.
    pub(crate) record: Option<Arc<RequestRecord>>,
}

/// Whether a text has anything to pronounce. Agents also send marks and pictures alone; those are a short silence.
pub(crate) fn has_words(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric)
}

/// A stream under way. Dropping it ends the stream and frees its place within a chunk.
pub(crate) struct Speaking {
    chunks: mpsc::Receiver<Result<Chunk, Error>>,
    /// Ends the engine's stream; a silence has none.
    canceller: Option<Canceller>,
    /// Whether the reading thread gave up on the reader; what was sent is not all then.
    too_slow: Arc<AtomicBool>,
}

impl Speaking {
    /// A short silence: what a text without words sounds like. It takes no place.
    pub(crate) fn silence() -> Speaking {
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        // There is room for the only chunk.
        let _ = sender.try_send(Ok(Chunk {
            samples: vec![0.0; SILENCE_SAMPLES],
            metrics: ChunkMetrics {
                chunk_count: 1,
                total_audio_duration: SILENCE_SAMPLES as f64 / f64::from(SAMPLE_RATE),
                ..ChunkMetrics::default()
            },
        }));
        Speaking {
            chunks,
            canceller: None,
            too_slow: Arc::default(),
        }
    }

    /// Starts to speak in a place that was handed out.
    pub(crate) fn start(
        app: &Arc<App>,
        loaded: Arc<Loaded>,
        place: Place,
        request: Request,
    ) -> Result<Speaking, ServerError> {
        let Request {
            text,
            voice_name,
            voice,
            options,
            asked,
            record,
        } = request;
        // The place is ours; the engine may need a moment to see the one before us go.
        let options = StreamOptions {
            when_full: WhenFull::Wait,
            ..options
        };
        let mut stream = loaded.engine.stream(&text, &voice, options)?;
        let canceller = stream.canceller();
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let id = app
            .streams
            .begin(stream.id(), &voice_name, text.chars().count());
        let too_slow = Arc::new(AtomicBool::new(false));
        let gave_up = too_slow.clone();
        let app = app.clone();
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            let mut last = ChunkMetrics::default();
            let mut outcome = "finished";
            for item in &mut stream {
                match &item {
                    Ok(chunk) => {
                        if last.chunk_count == 0 {
                            app.measures.first_audio(asked.elapsed().as_secs_f64());
                            if let Some(record) = &record {
                                record.first_audio();
                            }
                        }
                        last = chunk.metrics.clone();
                        app.streams.update(id, &last);
                        let seconds = chunk.samples.len() as f64 / f64::from(SAMPLE_RATE);
                        app.audio_made(seconds);
                    }
                    Err(_) => outcome = "failed",
                }
                // A reader that leaves chunks untaken must not hold its place for ever.
                let sent = runtime.block_on(tokio::time::timeout(
                    app.options.limits.slow_reader,
                    sender.send(item),
                ));
                match sent {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => outcome = "cancelled",
                    Err(_) => {
                        gave_up.store(true, Ordering::Release);
                        outcome = "reader_too_slow";
                    }
                }
                if outcome != "finished" {
                    break;
                }
            }
            if outcome == "finished" && sender.is_closed() {
                outcome = "cancelled";
            }
            drop(stream);
            drop(place);
            drop(loaded);
            drop(record);
            app.streams.end(id);
            app.host.touch();
            app.measures.stream_ended(outcome, &last);
        });
        Ok(Speaking {
            chunks,
            canceller: Some(canceller),
            too_slow,
        })
    }

    /// The next chunk; `None` after the last, and after an error.
    pub(crate) async fn next(&mut self) -> Option<Result<Chunk, ServerError>> {
        match self.chunks.recv().await {
            Some(item) => Some(item.map_err(ServerError::from)),
            None if self.too_slow.swap(false, Ordering::AcqRel) => {
                Some(Err(ServerError::SlowReader))
            }
            None => None,
        }
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        if let Some(canceller) = &self.canceller {
            canceller.cancel();
        }
    }
}
