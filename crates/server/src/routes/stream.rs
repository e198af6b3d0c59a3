//! `/v1/stream`: a WebSocket that takes text in pieces and sends sound as it is generated.

use crate::app::App;
use crate::error::{ErrorBody, ServerError};
use crate::fields::{Fields, FromFields};
use crate::openai::StreamFields;
use crate::record::RequestRecord;
use crate::speaking::{MARKS, Request, Speaking};
use crate::voices::DEFAULT_VOICE;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, FromRequestParts, MatchedPath, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sottovoce::text::is_blank;
use sottovoce::{Chunk, SAMPLE_RATE};
use sottovoce_audio::{AudioFormat, Encoder};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite;

/// The path of the WebSocket.
const ROUTE: &str = "/v1/stream";
/// Largest incoming message: far more than a piece of text from a language model.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Largest sound message: one second. A longer chunk is split.
const SOUND_BYTES_MAX: usize = 2 * SAMPLE_RATE as usize;
/// Read buffer of a connection.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Buffered bytes from which on the connection is written to.
const WRITE_BUFFER_BYTES: usize = 4 << 10;
/// Most buffered bytes: a sound message with its metrics, and replies to pings. A peer that pings
/// without reading gets only the latest reply.
const WRITE_BUFFER_BYTES_MAX: usize = SOUND_BYTES_MAX + (32 << 10);
/// Interval between pings. A peer that misses three replies is considered gone.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Idle time, without a message and with nothing to speak, after which the connection is closed.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// Deadline for sending a refusal.
const CLOSING_MAX: Duration = Duration::from_secs(1);
/// Pause after a sentence end mark, after which the text so far is spoken. The next letter would
/// show whether the sentence continues, but may never come.
const PAUSE: Duration = Duration::from_millis(400);
/// How long an utterance that has been spoken so far waits for more text. Its last tenth of a
/// second is held back meanwhile, so the wait must be shorter than the listener's buffer.
const REST_MAX: Duration = Duration::from_millis(300);
/// How long an utterance keeps its place while no text comes.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// Sentence end marks.
const END_MARKS: [char; 9] = ['.', '!', '?', '…', '。', '！', '？', '।', '؟'];
/// Unsent messages beyond which no further command is read.
const UNSENT_MAX: usize = 16;
/// Subprotocol of the page and other browser clients, next to the one that carries the key.
const PROTOCOL: &str = "sottovoce";

/// Commands of the caller.
enum Command {
    Start(Result<Box<Start>, ServerError>),
    Text { text: String },
    Flush,
    Cancel,
    End,
}

impl Command {
    fn read(message: &str) -> Result<Command, ServerError> {
        let refuse = |parameter, reason: &str| ServerError::Parameter {
            parameter,
            reason: reason.into(),
        };
        let fields = Fields::parse(message.as_bytes());
        let mut fields =
            fields.map_err(|reason| refuse("message", &reason.replace("body", "message")))?;
        const KINDS: &str = "send start, text, flush, cancel or end";
        let kind = fields.text("type")?.ok_or_else(|| refuse("type", KINDS))?;
        Ok(match kind.as_str() {
            "start" => Command::Start(Start::read(&mut fields).map(Box::new)),
            "text" => Command::Text {
                text: (fields.text("text")?)
                    .ok_or_else(|| refuse("text", "send the text to speak"))?,
            },
            "flush" => Command::Flush,
            "cancel" => Command::Cancel,
            "end" => Command::End,
            _ => return Err(refuse("type", KINDS)),
        })
    }
}

/// Voice and options until the next start.
struct Start {
    voice: String,
    stream: StreamFields,
}

impl Default for Start {
    fn default() -> Start {
        Start {
            voice: DEFAULT_VOICE.into(),
            stream: StreamFields::default(),
        }
    }
}

impl Start {
    fn read(fields: &mut Fields) -> Result<Start, ServerError> {
        let voice = fields.voice("voice")?;
        Ok(Start {
            voice: voice.unwrap_or_else(|| DEFAULT_VOICE.into()),
            // One seed for all speech until the next start.
            stream: StreamFields::from_fields(fields)?,
        })
    }
}

/// Text of an utterance that has no stream yet.
#[derive(Default)]
struct Waiting {
    text: String,
    /// Whether it was flushed.
    finished: bool,
}

impl Waiting {
    /// Whether a stream can begin with it.
    fn is_speakable(&self) -> bool {
        let words = self.text.chars().any(char::is_alphanumeric);
        words || (self.finished && !self.text.is_empty())
    }
}

/// The utterance under way.
struct Utterance {
    speaking: Speaking,
    encoder: Encoder,
    /// Whether its text is complete; further text starts another utterance.
    finished: bool,
    /// Whether the text so far ends with a sentence end mark.
    ended: bool,
    /// Time of the last text.
    written: Instant,
    /// Whether the engine was told not to wait for the next letter.
    hurried: bool,
    /// Time at which all of its text had been spoken.
    rests: Option<Instant>,
}

impl Utterance {
    fn new(speaking: Speaking) -> Result<Utterance, ServerError> {
        Ok(Utterance {
            speaking,
            encoder: Encoder::new(AudioFormat::Pcm, SAMPLE_RATE)?,
            finished: false,
            ended: false,
            written: Instant::now(),
            hurried: false,
            rests: None,
        })
    }

    fn write(&mut self, text: &str) -> Result<(), ServerError> {
        self.speaking.write(text)?;
        let end = text.trim_end().trim_end_matches(['"', '\'', '”', '’', ')']);
        self.ended = match end.chars().next_back() {
            Some(last) => END_MARKS.contains(&last),
            // Spaces and closing quotes do not change the state.
            None => self.ended,
        };
        self.written = Instant::now();
        self.hurried = false;
        self.rests = None;
        Ok(())
    }

    /// Marks the text as complete.
    fn finish(&mut self) {
        self.finished = true;
        self.speaking.finish();
    }

    /// Time of the next check without an event.
    fn deadline(&self) -> Option<Instant> {
        if self.finished {
            return None;
        }
        let silent = self.written + SILENT_MAX;
        Some(match self.rests {
            Some(since) => since + REST_MAX,
            None if self.ended && !self.hurried => self.written + PAUSE,
            None => silent,
        })
    }
}

/// Opens a WebSocket: text arrives in pieces, sound leaves as it is made.
///
/// Send JSON messages: `{"type":"start","voice":"default","speed":1}` with a voice and the options
/// of the speech call (may be left out), `{"type":"text","text":"a piece, cut anywhere"}`,
/// `{"type":"flush"}` to speak what is there, `{"type":"cancel"}` to stop at once and forget what
/// waits, `{"type":"end"}` to speak what is there and close. The text up to a flush is one
/// utterance: each sentence is spoken as soon as it is whole, and sounds as in the same text at
/// once.
///
/// Binary messages are sound: 16-bit little-endian PCM, mono, 24 kHz, at most a second each. JSON
/// messages are `ready`, `chunk` after the sound of each chunk (with its `metrics`, the `seed`,
/// and as `ignored` the options that change nothing with this model),
/// `idle` when all text so far was spoken, `cancelled`, `done` before the end, and `error` (with
/// OpenAI's `error` object). Text without words is a short silence.
///
/// The connection ends with a close code: 1000 after `done`, 1001 when the server stops or nobody
/// said anything for ten minutes, 1002, 1007 and 1009 for what is no message, 1013 when the server
/// is full, 3000 without a valid key and 3003 for what is not allowed. An `error` message before it
/// says why.
///
/// Browsers, which cannot set headers, send a key as the subprotocol `sottovoce-key.KEY` beside
/// `sottovoce`.
#[utoipa::path(get, path = "/v1/stream", tag = "speech", operation_id = "stream",
    responses((status = 101, description = "The WebSocket is open"),
        (status = 400, description = "The request asks for no WebSocket", body = ErrorBody),
        (status = 426, description = "The connection cannot become a WebSocket", body = ErrorBody),
        (status = 503, description = "The server is stopping", body = ErrorBody)))]
pub(crate) async fn connect(
    State(app): State<Arc<App>>,
    record: Option<Extension<Arc<RequestRecord>>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ServerError> {
    let upgrade = upgrade.map_err(|refusal| ServerError::Body {
        status: refusal.status(),
        reason: format!("open a WebSocket here: {refusal}"),
    })?;
    let record = record.map(|record| record.0);
    if app.host.is_stopping() {
        return Ok(told(upgrade, &ServerError::Stopping, record));
    }
    Ok(bounded(upgrade).on_upgrade(move |socket| async move {
        let (sink, mut source) = socket.split();
        let (outgoing, messages) = mpsc::channel(1);
        let stopping = app.connection();
        let writer = tokio::spawn(write(sink, messages, app.options.limits.slow_reader_time));
        let conversation = Conversation::new(app, outgoing, record.clone());
        conversation.run(&mut source, stopping.clone()).await;
        // The conversation dropped its sender; queued messages are still sent.
        let _ = writer.await;
        drop((stopping, record));
    }))
}

/// Bounds the buffers of a WebSocket.
fn bounded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
}

/// Sends a refusal over the requested WebSocket; `None` if the request was not for one.
pub(crate) async fn refuse(
    app: &Arc<App>,
    request: axum::extract::Request,
    error: &ServerError,
) -> Option<Response> {
    let route = request.extensions().get::<MatchedPath>();
    if route.is_none_or(|route| route.as_str() != ROUTE) {
        return None;
    }
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, app)
        .await
        .ok()?;
    let record = parts.extensions.remove::<Arc<RequestRecord>>();
    Some(told(upgrade, error, record))
}

/// A WebSocket that reports an error and closes; `record` lives as long.
fn told(
    upgrade: WebSocketUpgrade,
    error: &ServerError,
    record: Option<Arc<RequestRecord>>,
) -> Response {
    let messages = [
        text(&complaint(error)),
        close(close_code_of(error), error.to_string()),
    ];
    bounded(upgrade).on_upgrade(move |mut socket| async move {
        let _ = tokio::time::timeout(CLOSING_MAX, async {
            for message in messages {
                socket.send(message).await?;
            }
            Ok::<(), axum::Error>(())
        })
        .await;
        drop(record);
    })
}

/// Close code of an error.
fn close_code_of(error: &ServerError) -> u16 {
    /// From the registry of close codes.
    const UNAUTHORIZED: u16 = 3000;
    const FORBIDDEN: u16 = 3003;
    match error.status().as_u16() {
        _ if matches!(error, ServerError::Stopping) => close_code::AWAY,
        401 => UNAUTHORIZED,
        403 => FORBIDDEN,
        429 | 503 => close_code::AGAIN,
        500.. => close_code::ERROR,
        _ => close_code::POLICY,
    }
}

fn close(code: u16, reason: impl Into<String>) -> Message {
    /// A control frame carries 125 bytes, including the code.
    const REASON_BYTES_MAX: usize = 123;
    let mut reason = reason.into();
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }))
}

/// The close message for an invalid frame.
fn broken(error: axum::Error) -> Message {
    let inner = error.into_inner();
    match inner.downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => close(
            close_code::SIZE,
            format!("a message has at most {MESSAGE_BYTES_MAX} bytes"),
        ),
        Some(tungstenite::Error::Utf8(_)) => close(close_code::INVALID, "text is UTF-8"),
        _ => close(close_code::PROTOCOL, "this is no WebSocket frame"),
    }
}

/// Sends messages until the conversation ends or the reader is too slow.
async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut messages: mpsc::Receiver<Message>,
    slow_reader: Duration,
) {
    while let Some(message) = messages.recv().await {
        match tokio::time::timeout(slow_reader, sink.send(message)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

type Starting = BoxFuture<'static, Result<Speaking, ServerError>>;

/// State of one connection.
struct Conversation {
    app: Arc<App>,
    outgoing: mpsc::Sender<Message>,
    /// Messages that the writer has not taken yet: at most one chunk's.
    unsent: VecDeque<Message>,
    /// `None` after a refused start: nothing is spoken before the next one.
    start: Option<Box<Start>>,
    /// Text without a stream, one entry per utterance.
    waiting: VecDeque<Waiting>,
    record: Option<Arc<RequestRecord>>,
    starting: Option<Starting>,
    utterance: Option<Utterance>,
    ending: bool,
    /// Whether anything was spoken since the last `idle`.
    spoke: bool,
}

impl Conversation {
    fn new(
        app: Arc<App>,
        outgoing: mpsc::Sender<Message>,
        record: Option<Arc<RequestRecord>>,
    ) -> Conversation {
        let id = record.as_ref().map(|record| record.id().to_owned());
        let mut conversation = Conversation {
            app,
            outgoing,
            unsent: VecDeque::new(),
            start: Some(Box::default()),
            waiting: VecDeque::new(),
            record,
            starting: None,
            utterance: None,
            ending: false,
            spoke: false,
        };
        conversation.tell(json!({
            "type": "ready", "format": "pcm_s16le", "sample_rate": SAMPLE_RATE, "channels": 1, "request_id": id,
        }));
        conversation
    }

    async fn run(
        mut self,
        source: &mut SplitStream<WebSocket>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut ping = tokio::time::interval(PING_EVERY);
        let mut heard = Instant::now();
        let mut busy_at = Instant::now();
        let last = loop {
            self.start_next();
            if self.ending && self.is_idle() && self.unsent.is_empty() {
                let stopping = self.app.host.is_stopping();
                let close = match stopping {
                    true => close(close_code::AWAY, "the server is stopping"),
                    false => close(close_code::NORMAL, ""),
                };
                if let Some(record) = &self.record {
                    record.finish();
                }
                break vec![text(&json!({"type": "done"})), close];
            }
            let deadline = self.deadline();
            tokio::select! {
                // Commands that only cause errors must not pile up unread replies.
                message = source.next(), if self.unsent.len() < UNSENT_MAX => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => { busy_at = heard; self.command(&text); }
                        Some(Ok(Message::Binary(_))) => self.complain(&ServerError::Parameter {
                            parameter: "message", reason: "send JSON text".into(),
                        }),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_))) => {
                            if let Some(record) = &self.record {
                                record.finish();
                            }
                            return;
                        }
                        Some(Err(error)) => break vec![broken(error)],
                        None => return,
                    }
                }
                _ = stopping.wait_for(|stopping| *stopping), if !self.ending => self.stop(),
                permit = self.outgoing.clone().reserve_owned(), if !self.unsent.is_empty() => match permit {
                    Ok(permit) => if let Some(message) = self.unsent.pop_front() { let _ = permit.send(message); },
                    // The writer stopped: the reader is gone or too slow.
                    Err(_) => return,
                },
                started = started(&mut self.starting), if self.starting.is_some() => {
                    self.starting = None;
                    self.began(started);
                }
                item = next_chunk(&mut self.utterance), if self.utterance.is_some() && self.unsent.is_empty() => {
                    busy_at = Instant::now();
                    self.chunk(item);
                }
                () = sleep_until(deadline), if deadline.is_some() => self.pause(),
                _ = ping.tick() => {
                    if heard.elapsed() > 3 * PING_EVERY {
                        break vec![close(close_code::AWAY, "no ping was answered")];
                    }
                    if self.is_idle() && busy_at.elapsed() > IDLE_MAX {
                        let error = complaint(&ServerError::Idle { seconds: IDLE_MAX.as_secs() });
                        let reason = "nothing was said for too long";
                        break vec![text(&error), close(close_code::AWAY, reason)];
                    }
                    self.unsent.push_back(Message::Ping(Default::default()));
                }
            }
        };
        for message in last {
            // A stopped writer accepts no messages.
            if self.outgoing.send(message).await.is_err() {
                return;
            }
        }
    }

    fn is_idle(&self) -> bool {
        let speakable = self.waiting.front().is_some_and(Waiting::is_speakable);
        self.starting.is_none() && self.utterance.is_none() && !speakable
    }

    fn deadline(&self) -> Option<Instant> {
        self.utterance.as_ref().and_then(Utterance::deadline)
    }

    /// Handles the utterance's deadline: speaks the text so far, or ends the utterance.
    fn pause(&mut self) {
        let Some(utterance) = &mut self.utterance else {
            return;
        };
        if utterance.rests.is_none() && utterance.ended && !utterance.hurried {
            utterance.hurried = true;
            utterance.speaking.flush();
        } else {
            utterance.finish();
        }
    }

    /// The server is stopping: the utterance under way is finished, and no other begins.
    fn stop(&mut self) {
        self.ending = true;
        self.waiting.clear();
        if let Some(utterance) = &mut self.utterance {
            utterance.finish();
        }
        self.complain(&ServerError::Stopping);
    }

    fn tell(&mut self, value: Value) {
        self.unsent.push_back(text(&value));
    }

    fn complain(&mut self, error: &ServerError) {
        self.tell(complaint(error));
    }

    /// Starts the next utterance if none is under way.
    fn start_next(&mut self) {
        if self.starting.is_some() || self.utterance.is_some() {
            return;
        }
        if self.start.is_none() {
            self.spoke |= self.waiting.iter().any(Waiting::is_speakable);
            self.waiting.clear();
        }
        let speakable = self.waiting.front().is_some_and(Waiting::is_speakable);
        let Some(start) = self.start.as_ref().filter(|_| speakable) else {
            self.tell_idle();
            return;
        };
        self.spoke = true;
        let request = Request {
            text: String::new(),
            voice: start.voice.clone(),
            options: start.stream.options().clone(),
            asked: Instant::now(),
            record: self.record.clone(),
        };
        let app = self.app.clone();
        self.starting = Some(Box::pin(
            async move { Speaking::start(&app, request).await },
        ));
    }

    /// Handles the start of an utterance. If it was refused, its text is dropped.
    fn began(&mut self, started: Result<Speaking, ServerError>) {
        let Some(Waiting { text, finished }) = self.waiting.pop_front() else {
            return;
        };
        let begun = started.and_then(|speaking| {
            let mut utterance = Utterance::new(speaking)?;
            utterance.write(if is_blank(&text) { MARKS } else { &text })?;
            if finished {
                utterance.finish();
            }
            Ok(utterance)
        });
        match begun {
            Ok(utterance) => self.utterance = Some(utterance),
            Err(error) => self.complain(&error),
        }
    }

    /// Adds text to the utterance under way, or to the last waiting one.
    fn write(&mut self, text: &str) {
        let most = self.app.options.limits.text_characters;
        let waiting = self
            .waiting
            .iter()
            .map(|waiting| waiting.text.chars().count());
        let unspoken = self
            .utterance
            .as_ref()
            .map_or(0, |utterance| utterance.speaking.unspoken());
        if waiting.sum::<usize>() + unspoken + text.chars().count() > most {
            return self.complain(&ServerError::Parameter {
                parameter: "text",
                reason: format!(
                    "more than {most} characters wait to be spoken; this piece was dropped"
                ),
            });
        }
        if self.waiting.is_empty()
            && let Some(utterance) = self
                .utterance
                .as_mut()
                .filter(|utterance| !utterance.finished)
        {
            if let Err(error) = utterance.write(text) {
                self.complain(&error);
            }
            return;
        }
        match self.waiting.back_mut().filter(|waiting| !waiting.finished) {
            Some(waiting) => waiting.text.push_str(text),
            None => self.waiting.push_back(Waiting {
                text: text.to_owned(),
                finished: false,
            }),
        }
    }

    /// Ends the utterance to which text was last added.
    fn flush(&mut self) {
        if let Some(waiting) = self.waiting.back_mut() {
            waiting.finished = true;
            if !waiting.is_speakable() {
                self.waiting.pop_back();
            }
        } else if let Some(utterance) = self
            .utterance
            .as_mut()
            .filter(|utterance| !utterance.finished)
        {
            utterance.finish();
        }
    }

    /// Reports once that all text so far has been spoken.
    fn tell_idle(&mut self) {
        if std::mem::take(&mut self.spoke) {
            self.tell(json!({"type": "idle"}));
        }
    }

    fn command(&mut self, message: &str) {
        match Command::read(message) {
            Ok(Command::Start(Ok(start))) => self.start = Some(start),
            Ok(Command::Start(Err(error))) => {
                self.start = None;
                self.complain(&error);
            }
            Ok(Command::Text { text }) => self.write(&text),
            Ok(Command::Flush) => self.flush(),
            Ok(Command::Cancel) => {
                // Dropping the stream ends it and frees its place; unsent sound is discarded.
                self.starting = None;
                self.utterance = None;
                self.waiting.clear();
                self.unsent
                    .retain(|message| !matches!(message, Message::Binary(_)));
                self.spoke = false;
                self.tell(json!({"type": "cancelled"}));
            }
            Ok(Command::End) => {
                self.flush();
                self.ending = true;
            }
            Err(error) => self.complain(&error),
        }
    }

    fn chunk(&mut self, item: Option<Result<Chunk, ServerError>>) {
        let Some(utterance) = &mut self.utterance else {
            return;
        };
        let mut bytes = Vec::new();
        match item {
            // All text so far has been spoken.
            Some(Ok(chunk)) if chunk.samples.is_empty() => {
                utterance.rests = Some(Instant::now());
            }
            Some(Ok(chunk)) => match utterance.encoder.encode(&chunk.samples, &mut bytes) {
                Ok(()) => {
                    let mut sound = Bytes::from(bytes);
                    while !sound.is_empty() {
                        let piece = sound.split_to(sound.len().min(SOUND_BYTES_MAX));
                        self.unsent.push_back(Message::Binary(piece));
                    }
                    let seed = self
                        .start
                        .as_ref()
                        .map_or(0, |start| start.stream.options().seed);
                    let mut told = json!({"type": "chunk", "seed": seed, "metrics": chunk.metrics});
                    if !chunk.words.is_empty() {
                        told["words"] = json!(chunk.words);
                    }
                    if !utterance.speaking.without_effect().is_empty() {
                        told["ignored"] = json!(utterance.speaking.without_effect());
                    }
                    self.tell(told);
                }
                Err(error) => {
                    self.utterance = None;
                    self.complain(&error.into());
                }
            },
            Some(Err(error)) => {
                self.utterance = None;
                self.complain(&error);
            }
            None => self.utterance = None,
        }
    }
}

fn complaint(error: &ServerError) -> Value {
    let body = json!(error.body());
    json!({"type": "error", "error": body["error"]})
}

fn text(value: &Value) -> Message {
    Message::Text(value.to_string().into())
}

async fn started(starting: &mut Option<Starting>) -> Result<Speaking, ServerError> {
    match starting {
        Some(starting) => starting.await,
        None => std::future::pending().await,
    }
}

async fn next_chunk(utterance: &mut Option<Utterance>) -> Option<Result<Chunk, ServerError>> {
    match utterance {
        Some(utterance) => utterance.speaking.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_its_frame_whatever_it_is_written_in() {
        let Message::Close(Some(frame)) = close(1000, "日".repeat(100)) else {
            panic!("it must be a close");
        };
        assert_eq!(frame.reason.len(), 123);
    }
}
