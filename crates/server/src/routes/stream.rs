//! `/v1/stream`: text arrives in pieces over a WebSocket, sound leaves as it is made.

use crate::app::App;
use crate::error::{ErrorBody, ServerError};
use crate::listener::ConnectionShare;
use crate::openai::Knobs;
use crate::speaking::{Request, Speaking};
use crate::voices::DEFAULT_VOICE;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::response::Response;
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use sottovoce::{Chunk, SAMPLE_RATE};
use sottovoce_audio::{AudioFormat, Encoder};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Bytes of one message: far more than a language model's piece.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Between two pings; a peer that answers none of three is gone.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Without a message and with nothing to speak, the connection ends.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// A sentence is not cut off before this many characters, so that "Dr." is none.
const SENTENCE_CHARACTERS_MIN: usize = 12;
/// Text without an end of sentence is spoken from here on, cut at a space.
const SENTENCE_CHARACTERS_MAX: usize = 300;
/// Messages that may wait for the writer before no further command is read.
const UNSENT_MAX: usize = 16;
/// What the page and other browser clients name as the protocol beside the one that carries the key.
const PROTOCOL: &str = "sottovoce";

/// What the caller may send.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Command {
    Start {
        #[serde(default)]
        voice: Option<String>,
        #[serde(flatten)]
        knobs: Box<Knobs>,
    },
    Text {
        text: String,
    },
    Flush,
    Cancel,
    End,
}

/// Text on its way to be spoken, cut into sentences as they become whole.
#[derive(Default)]
struct SentenceBuffer {
    text: String,
}

impl SentenceBuffer {
    /// Adds a piece; what became whole by it.
    fn push(&mut self, piece: &str) -> Vec<String> {
        self.text.push_str(piece);
        let mut sentences = Vec::new();
        while let Some(end) = self.sentence_end() {
            let rest = self.text.split_off(end);
            sentences.extend(speakable(std::mem::replace(&mut self.text, rest)));
        }
        sentences
    }

    /// What is left, as a last sentence.
    fn flush(&mut self) -> Option<String> {
        speakable(std::mem::take(&mut self.text))
    }

    fn characters(&self) -> usize {
        self.text.chars().count()
    }

    /// Where the first whole sentence ends, in bytes.
    fn sentence_end(&self) -> Option<usize> {
        let mut ended = false;
        let mut space = None;
        for (count, (at, c)) in self.text.char_indices().enumerate() {
            if c == '\n' || (ended && c.is_whitespace() && count >= SENTENCE_CHARACTERS_MIN) {
                return Some(at + c.len_utf8());
            }
            if matches!(c, '。' | '！' | '？') {
                return Some(at + c.len_utf8());
            }
            if c.is_whitespace() {
                space = Some(at + c.len_utf8());
            }
            if count >= SENTENCE_CHARACTERS_MAX {
                return space.or(Some(at + c.len_utf8()));
            }
            // A closing quote or bracket belongs to the sentence that it ends.
            ended = matches!(c, '.' | '!' | '?' | '…')
                || (ended && matches!(c, '"' | '\'' | ')' | '”' | '’'));
        }
        None
    }
}

fn speakable(text: String) -> Option<String> {
    text.chars()
        .any(char::is_alphanumeric)
        .then(|| text.trim().to_owned())
}

/// Opens a WebSocket: text arrives in pieces, sound leaves as it is made.
///
/// Send JSON messages: `{"type":"start","voice":"default","speed":1}` with a voice and the knobs of the speech call (may be left out),
/// `{"type":"text","text":"a piece, cut anywhere"}`, `{"type":"flush"}` to speak what is there, `{"type":"cancel"}` to stop at once and
/// forget what waits, `{"type":"end"}` to speak what is there and close. Each sentence is spoken as soon as it is whole.
///
/// Binary messages are sound: 16-bit little-endian PCM, mono, 24 kHz. JSON messages are `ready`, `chunk` after each binary one (with
/// `metrics`), `idle` when all text so far was spoken, `cancelled`, `done` before the end, and `error` (with OpenAI's `error` object).
///
/// Browsers, which cannot set headers, send a key as the subprotocol `sottovoce-key.KEY` beside `sottovoce`.
#[utoipa::path(get, path = "/v1/stream", tag = "speech",
    responses((status = 101, description = "The WebSocket is open"),
        (status = 400, description = "The request asks for no WebSocket", body = ErrorBody),
        (status = 426, description = "The connection cannot become a WebSocket", body = ErrorBody),
        (status = 503, description = "The server is stopping", body = ErrorBody)))]
pub(crate) async fn connect(
    State(app): State<Arc<App>>,
    share: Option<Extension<ConnectionShare>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ServerError> {
    let upgrade = upgrade.map_err(|refusal| ServerError::Body {
        status: refusal.status(),
        reason: format!("open a WebSocket here: {refusal}"),
    })?;
    if app.host.is_stopping() {
        return Err(ServerError::Stopping);
    }
    Ok(upgrade
        .protocols([PROTOCOL])
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .on_upgrade(move |socket| async move {
            let (sink, source) = socket.split();
            let (outgoing, messages) = mpsc::channel(1);
            let stopping = app.connection();
            let writer = tokio::spawn(write(sink, messages, app.options.limits.slow_reader));
            Conversation::new(app, outgoing)
                .run(source, stopping.clone())
                .await;
            // The conversation dropped its sender; what was sent before still leaves.
            let _ = writer.await;
            drop((share, stopping));
        }))
}

/// Sends messages until the conversation ends or the reader is too slow.
async fn write(
    mut sink: futures_util::stream::SplitSink<WebSocket, Message>,
    mut messages: mpsc::Receiver<Message>,
    slow_reader: Duration,
) {
    while let Some(message) = messages.recv().await {
        match tokio::time::timeout(slow_reader, sink.send(message)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
    let _ = tokio::time::timeout(slow_reader, sink.close()).await;
}

type Starting = BoxFuture<'static, Result<Speaking, ServerError>>;

/// One connection.
struct Conversation {
    app: Arc<App>,
    outgoing: mpsc::Sender<Message>,
    /// Messages that the writer has not taken yet: at most one chunk's.
    unsent: VecDeque<Message>,
    voice: String,
    knobs: Knobs,
    buffer: SentenceBuffer,
    sentences: VecDeque<String>,
    starting: Option<Starting>,
    speaking: Option<(Speaking, Encoder)>,
    ending: bool,
    /// Whether something was spoken since the last `idle`.
    spoke: bool,
}

impl Conversation {
    fn new(app: Arc<App>, outgoing: mpsc::Sender<Message>) -> Conversation {
        let mut conversation = Conversation {
            app,
            outgoing,
            unsent: VecDeque::new(),
            voice: DEFAULT_VOICE.into(),
            knobs: Knobs::default(),
            buffer: SentenceBuffer::default(),
            sentences: VecDeque::new(),
            starting: None,
            speaking: None,
            ending: false,
            spoke: false,
        };
        conversation.tell(json!({"type": "ready", "format": "pcm_s16le", "sample_rate": SAMPLE_RATE, "channels": 1}));
        conversation
    }

    async fn run(
        mut self,
        mut source: futures_util::stream::SplitStream<WebSocket>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut ping = tokio::time::interval(PING_EVERY);
        let mut heard = Instant::now();
        let mut busy_at = Instant::now();
        loop {
            self.start_next();
            if self.ending && self.is_idle() && self.unsent.is_empty() {
                let _ = self.outgoing.send(text(&json!({"type": "done"}))).await;
                return;
            }
            tokio::select! {
                // Commands that bring only errors must not pile up answers that nobody reads.
                message = source.next(), if self.unsent.len() < UNSENT_MAX => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => { busy_at = heard; self.command(&text); }
                        Some(Ok(Message::Binary(_))) => self.complain(&ServerError::Parameter {
                            parameter: "message", reason: "send JSON text".into(),
                        }),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    }
                }
                _ = stopping.wait_for(|stopping| *stopping), if !self.ending => self.stop(),
                permit = self.outgoing.clone().reserve_owned(), if !self.unsent.is_empty() => match permit {
                    Ok(permit) => if let Some(message) = self.unsent.pop_front() { let _ = permit.send(message); },
                    // The writer gave up: the reader is gone or too slow.
                    Err(_) => return,
                },
                started = started(&mut self.starting), if self.starting.is_some() => {
                    self.starting = None;
                    match started.and_then(|speaking| {
                        Ok((speaking, Encoder::new(AudioFormat::Pcm, SAMPLE_RATE)?))
                    }) {
                        Ok(speaking) => self.speaking = Some(speaking),
                        Err(error) => self.complain(&error),
                    }
                }
                item = next_chunk(&mut self.speaking), if self.speaking.is_some() && self.unsent.is_empty() => {
                    busy_at = Instant::now();
                    self.chunk(item);
                }
                _ = ping.tick() => {
                    if heard.elapsed() > 3 * PING_EVERY || (self.is_idle() && busy_at.elapsed() > IDLE_MAX) {
                        return;
                    }
                    self.unsent.push_back(Message::Ping(Default::default()));
                }
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.starting.is_none() && self.speaking.is_none() && self.sentences.is_empty()
    }

    /// The server stops: what is being said is said to its end, and nothing more.
    fn stop(&mut self) {
        self.ending = true;
        self.sentences.clear();
        self.buffer = SentenceBuffer::default();
        self.complain(&ServerError::Stopping);
    }

    fn tell(&mut self, value: Value) {
        self.unsent.push_back(text(&value));
    }

    fn complain(&mut self, error: &ServerError) {
        let body = json!(error.body());
        self.tell(json!({"type": "error", "error": body["error"]}));
    }

    /// Begins the next sentence where none is under way.
    fn start_next(&mut self) {
        if self.starting.is_some() || self.speaking.is_some() {
            return;
        }
        let Some(sentence) = self.sentences.pop_front() else {
            if std::mem::take(&mut self.spoke) {
                self.tell(json!({"type": "idle"}));
            }
            return;
        };
        self.spoke = true;
        match self.knobs.options() {
            Ok(options) => {
                let (app, voice, asked) = (self.app.clone(), self.voice.clone(), Instant::now());
                self.starting = Some(Box::pin(async move {
                    let (loaded, place) = app.place().await?;
                    let voice = app.voice(&loaded, &voice).await?;
                    Speaking::start(
                        &app,
                        loaded,
                        place,
                        Request {
                            text: sentence,
                            voice,
                            options,
                            asked,
                        },
                    )
                }));
            }
            Err(error) => self.complain(&error),
        }
    }

    fn command(&mut self, message: &str) {
        match serde_json::from_str(message) {
            Ok(Command::Start { voice, knobs }) => {
                self.voice = voice.unwrap_or_else(|| DEFAULT_VOICE.into());
                self.knobs = *knobs;
            }
            Ok(Command::Text { text }) => {
                let waiting: usize = self
                    .sentences
                    .iter()
                    .map(|sentence| sentence.chars().count())
                    .sum();
                let most = self.app.options.limits.text_characters;
                if waiting + self.buffer.characters() + text.chars().count() > most {
                    return self.complain(&ServerError::Parameter {
                        parameter: "text",
                        reason: format!(
                            "more than {most} characters wait to be spoken; this piece was dropped"
                        ),
                    });
                }
                self.sentences.extend(self.buffer.push(&text));
            }
            Ok(Command::Flush) => self.sentences.extend(self.buffer.flush()),
            Ok(Command::Cancel) => {
                // Dropping the stream ends it and frees its place; sound that has not left is not sent any more.
                self.starting = None;
                self.speaking = None;
                self.sentences.clear();
                self.buffer = SentenceBuffer::default();
                self.unsent
                    .retain(|message| !matches!(message, Message::Binary(_)));
                self.spoke = false;
                self.tell(json!({"type": "cancelled"}));
            }
            Ok(Command::End) => {
                self.sentences.extend(self.buffer.flush());
                self.ending = true;
            }
            Err(error) => self.complain(&ServerError::Parameter {
                parameter: "message",
                reason: format!("it is none of start, text, flush, cancel and end: {error}"),
            }),
        }
    }

    fn chunk(&mut self, item: Option<Result<Chunk, ServerError>>) {
        let Some((_, encoder)) = &mut self.speaking else {
            return;
        };
        let mut bytes = Vec::new();
        match item {
            Some(Ok(chunk)) => match encoder.encode(&chunk.samples, &mut bytes) {
                Ok(()) => {
                    self.unsent.push_back(Message::Binary(bytes.into()));
                    self.tell(json!({"type": "chunk", "metrics": chunk.metrics}));
                }
                Err(error) => {
                    self.speaking = None;
                    self.complain(&error.into());
                }
            },
            Some(Err(error)) => {
                self.speaking = None;
                self.complain(&error);
            }
            None => self.speaking = None,
        }
    }
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

async fn next_chunk(
    speaking: &mut Option<(Speaking, Encoder)>,
) -> Option<Result<Chunk, ServerError>> {
    match speaking {
        Some((speaking, _)) => speaking.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_leaves_when_its_end_is_sure() {
        let mut buffer = SentenceBuffer::default();
        assert!(buffer.push("It is half past").is_empty());
        assert!(buffer.push(" three.").is_empty(), "it could go on as 3.5");
        assert_eq!(buffer.push(" Shall").as_slice(), ["It is half past three."]);
        assert_eq!(buffer.flush().as_deref(), Some("Shall"));
        assert_eq!(buffer.flush(), None);
    }

    #[test]
    fn short_abbreviations_are_no_sentences() {
        let mut buffer = SentenceBuffer::default();
        assert!(buffer.push("Dr. Who is in. ").len() == 1);
        assert_eq!(buffer.flush(), None);
    }

    #[test]
    fn quotes_stay_with_their_sentence_and_lines_end_one() {
        let mut buffer = SentenceBuffer::default();
        let sentences = buffer.push("He said \"come in.\" They came\nat once");
        assert_eq!(sentences, ["He said \"come in.\"", "They came"]);
    }

    #[test]
    fn text_without_an_end_is_cut_at_a_space_and_nothing_is_lost() {
        let mut buffer = SentenceBuffer::default();
        let words = "word ".repeat(200);
        let mut all = buffer.push(&words).join(" ");
        all.push(' ');
        all.push_str(&buffer.flush().unwrap_or_default());
        assert_eq!(all.split_whitespace().count(), 200);
    }

    #[test]
    fn pieces_without_letters_are_not_spoken() {
        let mut buffer = SentenceBuffer::default();
        assert!(buffer.push("\n\n . . . \n").is_empty());
    }
}
