//! A stream of the engine, read by a thread and passed to async code chunk by chunk.

use crate::app::App;
use crate::error::ServerError;
use crate::forms::UploadedRecording;
use crate::host::Loaded;
use crate::record::RequestRecord;
use serde::Serialize;
use sottovoce::text::is_blank;
use sottovoce::{
    Canceller, Chunk, ChunkMetrics, Engine, Error, RecordedSpeech, Stream, StreamOptions,
    StreamReport, TextWriter, Voice,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc;
use utoipa::ToSchema;

/// Chunks between the reader thread and the network. With the engine's own bound, this is all that
/// a slow reader can accumulate.
const CHUNKS_AHEAD: usize = 1;
/// Replacement for a text of white space; spoken as a short silence.
pub(crate) const MARKS: &str = "…";

/// A recording's name in messages.
const RECORDING: &str = "the recording";

/// Most attempts to start with a model that is unloaded or dies meanwhile.
const TRIES_MAX: usize = 3;

/// A stream under way.
#[derive(Serialize, ToSchema)]
pub(crate) struct LiveStream {
    /// Its number in the engine's memory report.
    id: u64,
    /// Name of its voice.
    voice: String,
    /// Characters of its text.
    characters: usize,
    /// Chunks generated so far.
    chunks: u64,
    /// Seconds of speech generated so far.
    audio_seconds: f64,
    /// Seconds since it was admitted.
    age_seconds: f64,
    /// Real-time factor: seconds of work per second of speech.
    rtf: f64,
    /// Bytes that it holds, excluding what all streams share.
    held_bytes: u64,
}

/// Identifies a stream across loads: each engine numbers its own from 1.
type StreamKey = (u64, u64);

/// What the engine cannot know of a stream: what its caller calls the voice, and how long the text
/// of the request is. Everything else of the list of streams is the engine's report.
struct StreamLabel {
    voice: String,
    characters: usize,
}

/// Labels of the streams under way, by the load of the model and the engine's number.
#[derive(Default)]
pub(crate) struct StreamLabels(Mutex<BTreeMap<StreamKey, StreamLabel>>);

impl StreamLabels {
    fn table(&self) -> MutexGuard<'_, BTreeMap<StreamKey, StreamLabel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, key: StreamKey, label: StreamLabel) {
        self.table().insert(key, label);
    }

    fn remove(&self, key: StreamKey) {
        self.table().remove(&key);
    }

    /// The streams of the engine's report, which is of the `load`th engine.
    pub(crate) fn list(&self, load: u64, streams: &[StreamReport]) -> Vec<LiveStream> {
        let table = self.table();
        let live = |stream: &StreamReport| {
            let label = table.get(&(load, stream.stream));
            LiveStream {
                id: stream.stream,
                voice: label.map_or_else(String::new, |label| label.voice.clone()),
                characters: label.map_or(0, |label| label.characters),
                chunks: stream.chunks,
                audio_seconds: stream.audio_seconds,
                age_seconds: stream.age_seconds,
                rtf: stream.rtf,
                held_bytes: stream.bytes,
            }
        };
        streams.iter().map(live).collect()
    }
}

/// Who speaks.
#[derive(Clone)]
pub(crate) enum Speaker {
    /// The caller's name for a voice.
    Named(String),
    /// A voice of an uploaded recording, for this request only.
    Recording(Arc<UploadedRecording>),
}

impl Speaker {
    /// Name in the list of streams.
    fn label(&self) -> &str {
        match self {
            Speaker::Named(name) => name,
            Speaker::Recording(_) => "recording",
        }
    }
}

/// A request to speak.
pub(crate) struct Request {
    /// The text; if empty, it is written later.
    pub(crate) text: String,
    /// Who speaks.
    pub(crate) voice: Speaker,
    pub(crate) options: StreamOptions,
    /// Time of the call, from which first audio is measured.
    pub(crate) asked: Instant,
    /// The call's record, which notes the first audio.
    pub(crate) record: Option<Arc<RequestRecord>>,
}

/// A running stream. Dropping it ends the stream and frees its place within a chunk.
pub(crate) struct Speaking {
    chunks: mpsc::Receiver<Result<Chunk, Error>>,
    /// Cancels the engine's stream.
    canceller: Canceller,
    /// Options that were sent but have no effect with the model.
    without_effect: Vec<&'static str>,
    /// Writer of an open text.
    text: TextWriter,
    /// Whether a program changes the text, for which its writer waits.
    filtered: bool,
    /// Whether the reader was too slow, so that its sound is incomplete.
    too_slow: Arc<AtomicBool>,
}

impl Speaking {
    /// Starts to speak: loads the model if necessary, and waits in the engine's queue. Dropping the
    /// future leaves the queue.
    ///
    /// # Errors
    /// Errors of the engine, or a wait beyond the limit.
    pub(crate) async fn start(app: &Arc<App>, request: Request) -> Result<Speaking, ServerError> {
        Speaking::start_with(app, request, |engine, request, voice| {
            let text = match &*request.text {
                blank if !blank.is_empty() && is_blank(blank) => MARKS,
                text => text,
            };
            let options = request.options.clone();
            match text.is_empty() {
                true => engine.open_stream(voice, options),
                false => engine.stream(text, voice, options),
            }
        })
        .await
    }

    /// As [`Speaking::start`], for a change of the voice of a recording.
    ///
    /// # Errors
    /// As [`Speaking::start`].
    pub(crate) async fn start_change(
        app: &Arc<App>,
        recording: File,
        request: Request,
    ) -> Result<Speaking, ServerError> {
        Speaking::start_with(app, request, move |engine, request, voice| {
            let name = RECORDING.to_owned();
            let file = recording.try_clone().map_err(|source| Error::File {
                path: RECORDING.into(),
                source,
            })?;
            let speech = RecordedSpeech::Opened { name, file };
            engine.change_voice(speech, voice, request.options.clone())
        })
        .await
    }

    async fn start_with(
        app: &Arc<App>,
        request: Request,
        begin: impl Fn(&Engine, &Request, &Voice) -> Result<Stream, Error>,
    ) -> Result<Speaking, ServerError> {
        let waited = Instant::now();
        let mut tries = 0;
        let (loaded, stream) = loop {
            tries += 1;
            let loaded = app.host.load().await?;
            let voice = app.voice(&loaded, &request.voice).await?;
            let filtered = loaded.engine.options().text_filter.is_some();
            match beside_others(filtered, || begin(&loaded.engine, &request, &voice)) {
                Ok(stream) => {
                    stream.asked_at(request.asked);
                    break (loaded, stream);
                }
                // The engine was unloaded or died in the meantime; the next attempt loads another
                // one.
                Err(Error::Stopped) if tries < TRIES_MAX => {}
                Err(error) => return Err(error.into()),
            }
        };
        let wait_max = app.options.limits.queue_wait;
        let admitted = tokio::time::timeout(wait_max, stream.admitted()).await;
        if admitted.is_err() {
            return Err(ServerError::TooMany {
                reason: format!("no place came free in {} s", wait_max.as_secs()),
                retry_after: loaded.engine.retry_after(),
            });
        }
        app.metrics.queue_wait(waited.elapsed().as_secs_f64());
        app.host.touch();
        Ok(Speaking::read(app, loaded, stream, request))
    }

    /// Reads a stream on a thread.
    fn read(app: &Arc<App>, loaded: Arc<Loaded>, mut stream: Stream, request: Request) -> Speaking {
        let Request {
            text,
            voice,
            record,
            ..
        } = request;
        let (canceller, writer) = (stream.canceller(), stream.text());
        let filtered = loaded.engine.options().text_filter.is_some();
        let without_effect = stream.options_without_effect().to_vec();
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let id = (loaded.number, stream.id());
        app.labels.insert(
            id,
            StreamLabel {
                voice: voice.label().to_owned(),
                characters: text.chars().count(),
            },
        );
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
                        if last.chunk_count == 0
                            && !chunk.samples.is_empty()
                            && let Some(record) = &record
                        {
                            record.first_audio();
                        }
                        last = chunk.metrics.clone();
                    }
                    Err(_) => outcome = "failed",
                }
                // A reader that does not take its chunks must not keep its place forever.
                let sent = runtime.block_on(tokio::time::timeout(
                    app.options.limits.slow_reader_time,
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
            drop(loaded);
            drop(record);
            app.labels.remove(id);
            app.host.touch();
            app.metrics.stream_ended(outcome, &last);
        });
        Speaking {
            chunks,
            canceller,
            without_effect,
            text: writer,
            filtered,
            too_slow,
        }
    }

    /// Options that were sent but have no effect with the model.
    pub(crate) fn without_effect(&self) -> &[&'static str] {
        &self.without_effect
    }

    /// Appends to an open text.
    pub(crate) fn write(&self, text: &str) -> Result<(), ServerError> {
        Ok(beside_others(self.filtered, || self.text.push(text))?)
    }

    /// Speaks the text so far without waiting for the end of its sentence.
    pub(crate) fn flush(&self) {
        beside_others(self.filtered, || self.text.flush());
    }

    /// Ends the text.
    pub(crate) fn finish(&self) {
        beside_others(self.filtered, || self.text.finish());
    }

    /// Characters of an open text that the engine has not taken yet.
    pub(crate) fn unspoken(&self) -> usize {
        self.text.waiting()
    }

    /// The next chunk; `None` after the last one and after an error. A chunk without samples means
    /// that all text so far has been spoken.
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
        self.canceller.cancel();
    }
}
/// Does work that may wait for a text filter without holding up the other tasks of its thread.
fn beside_others<T>(filtered: bool, work: impl FnOnce() -> T) -> T {
    let flavor = tokio::runtime::Handle::current().runtime_flavor();
    match filtered && flavor == tokio::runtime::RuntimeFlavor::MultiThread {
        true => tokio::task::block_in_place(work),
        false => work(),
    }
}
