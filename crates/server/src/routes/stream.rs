//! `/v1/stream`: a WebSocket that takes text in pieces and sends sound as it is generated.

use crate::app::App;
use crate::error::{ErrorBody, ServerError};
use crate::fields::{Fields, FromFields};
use crate::listener::ConnectionShare;
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
/// Bytes of one message that is taken: far more than a language model's piece.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Bytes of one message of sound: a second. A longer chunk leaves in several.
const SOUND_BYTES_MAX: usize = 2 * SAMPLE_RATE as usize;
/// Bytes that are read at once from the connection.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Bytes that may wait for the connection before it is written to.
const WRITE_BUFFER_BYTES: usize = 4 << 10;
/// Bytes that may wait for the connection at all: a message of sound with its figures, and answers
/// to pings. A peer that pings and does not read gets only the latest of those answers.
const WRITE_BUFFER_BYTES_MAX: usize = SOUND_BYTES_MAX + (32 << 10);
/// Between two pings; a peer that answers none of three is gone.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Without a message and with nothing to speak, the connection ends.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// How long the peer may take to answer a close, and a refusal to leave.
const CLOSING_MAX: Duration = Duration::from_secs(1);
/// After an end of sentence and so long without text, what is there is spoken: the next letter,
/// which would tell whether the sentence goes on, may never come.
const PAUSE: Duration = Duration::from_millis(400);
/// How long an utterance that was spoken as far as it goes waits for further text. Its last tenth
/// of a second is held back meanwhile, so it must end before the listener comes to it.
const REST_MAX: Duration = Duration::from_millis(300);
/// How long an utterance keeps its place for text that does not come.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// Marks that end a sentence.
const END_MARKS: [char; 9] = ['.', '!', '?', '…', '。', '！', '？', '।', '؟'];
/// Messages that may wait for the writer before no further command is read.
const UNSENT_MAX: usize = 16;
/// What the page and other browser clients name as the protocol beside the one that carries the
/// key.
const PROTOCOL: &str = "sottovoce";

/// What the caller may send.
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

/// Who speaks, and how, until the next start.
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

/// Text that waits for the utterance before it to end, or that no stream has yet.
#[derive(Default)]
struct Waiting {
    text: String,
    /// A flush came after it.
    finished: bool,
}

impl Waiting {
    /// Whether a stream can begin on it.
    fn is_speakable(&self) -> bool {
        let words = self.text.chars().any(char::is_alphanumeric);
        words || (self.finished && !self.text.is_empty())
    }
}

/// The utterance that is being spoken.
struct Utterance {
    speaking: Speaking,
    encoder: Encoder,
    /// Its text is whole: what comes next is another utterance.
    finished: bool,
    /// The text so far ends with a sentence's end mark.
    ended: bool,
    /// When text came last.
    written: Instant,
    /// The engine was told not to wait for the next letter.
    hurried: bool,
    /// Since when all of it was spoken.
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

    /// No more text comes.
    fn finish(&mut self) {
        self.finished = true;
        self.speaking.finish();
    }

    /// When it must be looked at although nothing happens.
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
    share: Option<Extension<ConnectionShare>>,
    record: Option<Extension<Arc<RequestRecord>>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ServerError> {
    let upgrade = upgrade.map_err(|refusal| ServerError::Body {
        status: refusal.status(),
        reason: format!("open a WebSocket here: {refusal}"),
    })?;
    let record = record.map(|record| record.0);
    if app.host.is_stopping() {
        return Ok(told(upgrade, &ServerError::Stopping, (share, record)));
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
        // Closing a connection with unread input would discard what the peer has not read yet.
        let _ = tokio::time::timeout(CLOSING_MAX, async {
            while let Some(Ok(_)) = source.next().await {}
        })
        .await;
        drop((share, stopping, record));
    }))
}

/// A WebSocket whose buffers have bounds.
fn bounded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
}

/// Tells a refusal over the WebSocket that was asked for; nothing where none was.
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
    let share = parts.extensions.remove::<ConnectionShare>();
    let record = parts.extensions.remove::<Arc<RequestRecord>>();
    Some(told(upgrade, error, (share, record)))
}

/// A WebSocket that says why it is refused and closes; `kept` goes with it.
fn told<T: Send + 'static>(upgrade: WebSocketUpgrade, error: &ServerError, kept: T) -> Response {
    let messages = [
        text(&complaint(error)),
        close(close_code_of(error), error.to_string()),
    ];
    bounded(upgrade).on_upgrade(move |mut socket| async move {
        let _ = tokio::time::timeout(CLOSING_MAX, async {
            for message in messages {
                socket.send(message).await?;
            }
            while let Some(Ok(_)) = socket.recv().await {}
            Ok::<(), axum::Error>(())
        })
        .await;
        drop(kept);
    })
}

/// The code with which a WebSocket closes for an error.
fn close_code_of(error: &ServerError) -> u16 {
    /// As the registry of close codes has them.
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
    /// A control frame takes 125 bytes, the code among them.
    const REASON_BYTES_MAX: usize = 123;
    let mut reason = reason.into();
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }))
}

/// Why what came was no message.
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

/// One connection.
struct Conversation {
    app: Arc<App>,
    outgoing: mpsc::Sender<Message>,
    /// Messages that the writer has not taken yet: at most one chunk's.
    unsent: VecDeque<Message>,
    /// None after a start that was refused: nothing is spoken before the next one.
    start: Option<Box<Start>>,
    /// Text that no stream has yet, an entry for each utterance.
    waiting: VecDeque<Waiting>,
    record: Option<Arc<RequestRecord>>,
    starting: Option<Starting>,
    utterance: Option<Utterance>,
    ending: bool,
    /// Whether something was spoken since the last `idle`.
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

    /// The utterance's deadline came: its text is taken as whole as far as it goes, or altogether.
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

    /// The server stops: what is being said is said to its end, and nothing more.
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

    /// Begins the next utterance where none is under way.
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

    /// The next utterance got its place, or was refused; then its text is dropped.
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

    /// Takes text: the utterance that is being spoken goes on with it, or the last that waits.
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

    /// Ends the utterance that text was last added to.
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

    /// Tells that all text so far was spoken, once.
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
