//! `/v1/stream`: a WebSocket that takes text in pieces and sends sound as it is generated.

use crate::app::App;
use crate::conversation::{Conversation, Heard, Manner};
use crate::error::{ErrorBody, ServerError};
use crate::fields::{Fields, FromFields};
use crate::openai::StreamFields;
use crate::record::RequestRecord;
use crate::speaking::Speaker;
use crate::voices::DEFAULT_VOICE;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, FromRequestParts, MatchedPath, State};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sottovoce::SAMPLE_RATE;
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
/// Unsent messages beyond which no further command is read.
const UNSENT_MAX: usize = 16;
/// Subprotocol of the page and other browser clients, next to the one that carries the key.
const PROTOCOL: &str = "sottovoce";

/// Commands of the caller.
enum Command {
    Start(Result<Box<Manner>, ServerError>),
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
        let kind = fields.required_text("type", KINDS)?;
        Ok(match kind.as_str() {
            "start" => Command::Start(Manner::read(&mut fields).map(Box::new)),
            "text" => Command::Text {
                text: fields.required_text("text", "send the text to speak")?,
            },
            "flush" => Command::Flush,
            "cancel" => Command::Cancel,
            "end" => Command::End,
            _ => return Err(refuse("type", KINDS)),
        })
    }
}

/// Reads a message of the caller, for fuzzing.
#[cfg(fuzzing)]
pub(crate) fn read_message(message: &str) -> Result<(), ServerError> {
    Command::read(message).map(drop)
}

impl Manner {
    /// The default voice and options.
    fn unset() -> Manner {
        Manner {
            voice: Speaker::Named(DEFAULT_VOICE.into()),
            options: StreamFields::default().options().clone(),
            unknown: Vec::new(),
        }
    }

    fn read(fields: &mut Fields) -> Result<Manner, ServerError> {
        let voice = fields.voice("voice")?;
        Ok(Manner {
            voice: Speaker::Named(voice.unwrap_or_else(|| DEFAULT_VOICE.into())),
            // One seed for all speech until the next start.
            options: StreamFields::from_fields(fields)?.options().clone(),
            unknown: fields.unread(),
        })
    }
}

/// Opens a WebSocket: text arrives in pieces, sound leaves as it is made.
///
/// Send JSON messages: `{"type":"start","voice":"default","speed":1}` with a voice and the options
/// of the speech call for the text that follows (may be left out),
/// `{"type":"text","text":"a piece, cut anywhere"}`, `{"type":"flush"}` to speak what is there,
/// `{"type":"cancel"}` to stop at once and forget what waits, `{"type":"end"}` to speak what is
/// there and close. The text up to a flush is one utterance: each sentence is spoken as soon as it
/// is whole, and sounds as in the same text at once.
///
/// Binary messages are sound: 16-bit little-endian PCM, mono, 24 kHz, at most a second each. JSON
/// messages are `ready`, `chunk` after the sound of each chunk (with its `metrics`, the `seed`,
/// and as `ignored` the fields of its `start` that change nothing with this model or are unknown),
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
        let connection = Connection::new(app, outgoing, record.clone());
        connection.run(&mut source, stopping.clone()).await;
        // The connection dropped its sender; queued messages are still sent.
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
        close(close_code_of(error), error.message()),
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
    // A peer that closes waits for the answer to its close; without it, it reports a failure.
    let _ = tokio::time::timeout(CLOSING_MAX, sink.close()).await;
}

/// State of one connection.
struct Connection {
    app: Arc<App>,
    outgoing: mpsc::Sender<Message>,
    /// Messages that the writer has not taken yet: at most one chunk's.
    unsent: VecDeque<Message>,
    conversation: Conversation,
    record: Option<Arc<RequestRecord>>,
    ending: bool,
}

impl Connection {
    fn new(
        app: Arc<App>,
        outgoing: mpsc::Sender<Message>,
        record: Option<Arc<RequestRecord>>,
    ) -> Connection {
        let id = record.as_ref().map(|record| record.id().to_owned());
        let mut connection = Connection {
            conversation: Conversation::new(app.clone(), record.clone(), Manner::unset()),
            app,
            outgoing,
            unsent: VecDeque::new(),
            record,
            ending: false,
        };
        connection.tell(json!({
            "type": "ready", "format": "pcm_s16le", "sample_rate": SAMPLE_RATE, "channels": 1, "request_id": id,
        }));
        connection
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
            self.conversation.start_next();
            if self.conversation.is_idle() && self.conversation.take_spoke() {
                self.tell(json!({"type": "idle"}));
            }
            if self.ending && self.conversation.is_idle() && self.unsent.is_empty() {
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
                event = self.conversation.next(self.unsent.is_empty()) => {
                    busy_at = Instant::now();
                    self.event(event);
                }
                _ = ping.tick() => {
                    if heard.elapsed() > 3 * PING_EVERY {
                        break vec![close(close_code::AWAY, "no ping was answered")];
                    }
                    if self.conversation.is_idle() && busy_at.elapsed() > IDLE_MAX {
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

    /// The server is stopping: the utterance under way is finished, and no other begins.
    fn stop(&mut self) {
        self.ending = true;
        self.conversation.stop();
        self.complain(&ServerError::Stopping);
    }

    fn tell(&mut self, value: Value) {
        self.unsent.push_back(text(&value));
    }

    fn complain(&mut self, error: &ServerError) {
        self.tell(complaint(error));
    }

    fn command(&mut self, message: &str) {
        match Command::read(message) {
            Ok(Command::Start(Ok(manner))) => self.conversation.speak_as(Some(*manner)),
            Ok(Command::Start(Err(error))) => {
                self.conversation.speak_as(None);
                self.complain(&error);
            }
            Ok(Command::Text { text }) => {
                if let Err(error) = self.conversation.write(&text) {
                    self.complain(&error);
                }
            }
            Ok(Command::Flush) => self.conversation.flush(),
            Ok(Command::Cancel) => {
                self.conversation.cancel();
                // Unsent sound is discarded.
                self.unsent
                    .retain(|message| !matches!(message, Message::Binary(_)));
                self.tell(json!({"type": "cancelled"}));
            }
            Ok(Command::End) => {
                self.conversation.flush();
                self.ending = true;
            }
            Err(error) => self.complain(&error),
        }
    }

    fn event(&mut self, event: Heard) {
        match event {
            Heard::Sound(sound) => {
                let mut pcm = sound.pcm;
                while !pcm.is_empty() {
                    let piece = pcm.split_to(pcm.len().min(SOUND_BYTES_MAX));
                    self.unsent.push_back(Message::Binary(piece));
                }
                let seed = sound.manner.options.seed;
                let mut told = json!({"type": "chunk", "seed": seed, "metrics": sound.metrics});
                if !sound.words.is_empty() {
                    told["words"] = json!(sound.words);
                }
                let unknown = sound.manner.unknown.iter().map(String::as_str);
                let ignored: Vec<&str> = unknown.chain(sound.without_effect).collect();
                if !ignored.is_empty() {
                    told["ignored"] = json!(ignored);
                }
                self.tell(told);
            }
            Heard::Failed(error) => self.complain(&error),
            Heard::Ended => {}
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
