//! Wyoming, the protocol of Home Assistant's voice services, over a socket of its own.
//!
//! A client asks for the service's description (`describe` → `info`), has a text spoken
//! (`synthesize`), or sends it in pieces (`synthesize-start`, `-chunk`, `-stop`). Sound leaves as
//! it is made: `audio-start`, `audio-chunk`, `audio-stop`, and after a text in pieces
//! `synthesize-stopped`. An error is the event `error`, after which the connection closes, because
//! clients wait for the end of the sound otherwise. The protocol has no keys.
//!
//! Formats: `wyoming/tts.py`, `info.py`, `audio.py` of the reference implementation.

mod announce;
mod event;

use crate::app::App;
use crate::conversation::{Conversation, Heard, Manner, Sound};
use crate::error::ServerError;
use crate::fields::{Fields, base_language};
use crate::listener::{ACCEPT_PAUSE, ConnectionShare, Refusal, listen, share};
use crate::openai::{StreamFields, check_text};
use crate::socket::ImpatientSocket;
use crate::speaking::Speaker;
use crate::voices::DEFAULT_VOICE;
pub(crate) use announce::{Announcement, check as check_name};
#[cfg(fuzzing)]
pub(crate) use event::read_events;
use event::{Event, EventReader, encode};
use serde_json::{Value, json};
use sottovoce::SAMPLE_RATE;
use sottovoce::text::Warning;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Largest payload of an `audio-chunk`: half a second.
const SOUND_BYTES_MAX: usize = SAMPLE_RATE as usize;
/// Idle time after which a connection is closed.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// Where the program comes from, as the description has it.
const HOME: &str = "https://github.com/sottovoce/sottovoce";

/// Listens at `address`.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, ServerError> {
    listen(address).map_err(|source| ServerError::Listen { address, source })
}

/// Accepts connections until the task is aborted.
pub(crate) async fn serve(app: Arc<App>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let _ = socket.set_nodelay(true);
                let share = share(&app, peer.ip());
                tokio::spawn(converse(app.clone(), socket, peer, share));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

type Socket = ImpatientSocket<TcpStream, ConnectionShare>;

/// Serves one connection.
async fn converse(
    app: Arc<App>,
    socket: TcpStream,
    peer: SocketAddr,
    share: Result<ConnectionShare, Refusal>,
) {
    let mut stopping = app.connection();
    let limits = &app.options.limits;
    let refusal = share.as_ref().err().copied();
    let socket = ImpatientSocket::new(socket, share.ok(), limits.slow_reader_time);
    let (input, output) = tokio::io::split(socket);
    let input = EventReader::new(input, &app.bodies, limits.body_bytes, limits.receive_time);
    let mut connection = Connection::new(app.clone(), input, output, peer);
    let ended = match refusal {
        Some(refusal) => Err(refusal.error()),
        None => connection.run(&mut stopping).await,
    };
    if let Err(error) = ended {
        tracing::info!(%error, %peer, "a Wyoming connection ended early");
        // Who does not read is told nothing.
        if !matches!(error, ServerError::SlowReader) {
            let code = error.body().error.code;
            let data = json!({"text": error.message(), "code": code});
            let _ = connection.send("error", &data, &[]).await;
        }
    }
    let _ = connection.output.shutdown().await;
    drop(connection);
    app.request_ended();
}

/// The speech that is under way.
struct Speech {
    conversation: Conversation,
    /// Whether the text comes in pieces, and `synthesize-stopped` follows the sound.
    streamed: bool,
    /// Whether the text is complete.
    complete: bool,
    /// Samples sent; `None` before `audio-start`.
    samples: Option<u64>,
    begun: Instant,
}

/// What a connection has to do next.
enum Step {
    /// Answer an event; `None` at the end of the connection.
    Event(Option<Event>),
    Heard(Heard),
    /// The server is stopping.
    Stop,
}

struct Connection {
    app: Arc<App>,
    input: EventReader<ReadHalf<Socket>>,
    output: WriteHalf<Socket>,
    peer: SocketAddr,
    speech: Option<Speech>,
}

impl Connection {
    fn new(
        app: Arc<App>,
        input: EventReader<ReadHalf<Socket>>,
        output: WriteHalf<Socket>,
        peer: SocketAddr,
    ) -> Connection {
        Connection {
            app,
            input,
            output,
            peer,
            speech: None,
        }
    }

    /// Answers events until the client leaves. When the server stops, the utterance under way is
    /// finished, and no other begins.
    async fn run(&mut self, stopping: &mut watch::Receiver<bool>) -> Result<(), ServerError> {
        let mut last = Instant::now();
        let mut ending = false;
        loop {
            if let Some(speech) = &mut self.speech {
                speech.conversation.start_next();
                if speech.complete && speech.conversation.is_idle() {
                    self.finish().await?;
                }
            }
            if ending && self.speech.is_none() {
                return Err(ServerError::Stopping);
            }
            let step = tokio::select! {
                event = self.input.next() => Step::Event(event?),
                heard = heard(&mut self.speech) => Step::Heard(heard),
                _ = stopping.wait_for(|stopping| *stopping), if !ending => Step::Stop,
                () = tokio::time::sleep_until((last + IDLE_MAX).into()) => {
                    return Err(ServerError::Idle { seconds: IDLE_MAX.as_secs() });
                }
            };
            match step {
                Step::Event(Some(event)) => self.answer(event).await?,
                Step::Event(None) => return Ok(()),
                Step::Heard(heard) => self.pass_on(heard).await?,
                Step::Stop => {
                    ending = true;
                    if let Some(speech) = &mut self.speech {
                        speech.conversation.stop();
                        speech.complete = true;
                    }
                }
            }
            last = Instant::now();
        }
    }

    async fn send(&mut self, kind: &str, data: &Value, payload: &[u8]) -> io::Result<()> {
        self.output.write_all(&encode(kind, data, payload)?).await?;
        self.output.flush().await
    }

    /// Sends an event; a client that is gone or does not read ends the connection.
    async fn tell(&mut self, kind: &str, data: &Value, payload: &[u8]) -> Result<(), ServerError> {
        let sent = self.send(kind, data, payload).await;
        sent.map_err(|_| ServerError::SlowReader)
    }

    async fn answer(&mut self, event: Event) -> Result<(), ServerError> {
        let Event { kind, mut data } = event;
        match kind.as_str() {
            "describe" => {
                let app = self.app.clone();
                let info = tokio::task::spawn_blocking(move || describe(&app)).await;
                let info = info.map_err(|_| ServerError::Task)??;
                self.tell("info", &info, &[]).await
            }
            "ping" => {
                let text = data.text("text")?;
                self.tell("pong", &json!({"text": text}), &[]).await
            }
            // Within a text in pieces it repeats that text, for servers that take no pieces.
            "synthesize" if self.speech.as_ref().is_some_and(|speech| speech.streamed) => Ok(()),
            "synthesize" => {
                let text = data.required_text("text", "send the text to speak")?;
                check_text(&text, &self.app.options.limits)?;
                let mut speech = self.begin(&mut data, false)?;
                speech.conversation.write(&text)?;
                speech.conversation.flush();
                speech.complete = true;
                self.speech = Some(speech);
                Ok(())
            }
            "synthesize-start" => {
                self.speech = Some(self.begin(&mut data, true)?);
                Ok(())
            }
            "synthesize-chunk" => {
                let text = data.text("text")?.unwrap_or_default();
                match self.open_text() {
                    Some(speech) => speech.conversation.write(&text),
                    None => Err(ServerError::Parameter {
                        parameter: "type",
                        reason: "synthesize-start comes before synthesize-chunk".into(),
                    }),
                }
            }
            "synthesize-stop" => {
                if let Some(speech) = self.open_text() {
                    speech.conversation.flush();
                    speech.complete = true;
                }
                Ok(())
            }
            // Other services' events; clients expect no answer to them here.
            _ => Ok(()),
        }
    }

    /// The text in pieces that is not complete.
    fn open_text(&mut self) -> Option<&mut Speech> {
        let speech = self.speech.as_mut();
        speech.filter(|speech| speech.streamed && !speech.complete)
    }

    /// A new speech. One that is under way ends: its client has turned to another.
    fn begin(&mut self, data: &mut Fields, streamed: bool) -> Result<Speech, ServerError> {
        self.speech = None;
        self.app.rates.check(self.peer.ip())?;
        let mut voice = data.object("voice")?;
        let mut options = StreamFields::default().options().clone();
        if let Some(language) = voice.text("language")? {
            options.language = Some(base_language(&language));
        }
        let name = voice.text("name")?.unwrap_or_else(|| DEFAULT_VOICE.into());
        let manner = Manner {
            voice: Speaker::Named(name),
            options,
            unknown: Vec::new(),
        };
        Ok(Speech {
            conversation: Conversation::new(self.app.clone(), None, manner),
            streamed,
            complete: false,
            samples: None,
            begun: Instant::now(),
        })
    }

    async fn pass_on(&mut self, heard: Heard) -> Result<(), ServerError> {
        let sound = match heard {
            Heard::Sound(sound) => sound,
            Heard::Failed(error) => return Err(error),
            Heard::Ended => return Ok(()),
        };
        let Some(speech) = &self.speech else {
            return Ok(());
        };
        self.log_warnings(speech, &sound);
        let mut pcm = sound.pcm;
        let mut sent = match speech.samples {
            Some(sent) => sent,
            None => {
                self.tell("audio-start", &sound_format(0), &[]).await?;
                0
            }
        };
        while !pcm.is_empty() {
            let piece = pcm.split_to(pcm.len().min(SOUND_BYTES_MAX));
            self.tell("audio-chunk", &sound_format(sent), &piece)
                .await?;
            sent += piece.len() as u64 / 2;
        }
        if let Some(speech) = &mut self.speech {
            speech.samples = Some(sent);
        }
        Ok(())
    }

    /// Logs what was asked for in vain, such as a language that the model does not speak: the
    /// protocol has no event for it. Warnings about the text's own words are not logged.
    fn log_warnings(&self, speech: &Speech, sound: &Sound) {
        let peer = self.peer;
        let first = speech.samples.is_none();
        for option in sound.without_effect.iter().filter(|_| first) {
            tracing::warn!(%peer, option, "an option has no effect with this model");
        }
        let language = sound.manner.options.language.as_deref();
        let of_language = |warning: &&Warning| Some(&*warning.character) == language;
        for warning in sound.metrics.warnings.iter().filter(of_language) {
            let Warning {
                character, message, ..
            } = warning;
            tracing::warn!(%peer, language = character, "{message}");
        }
    }

    /// Tells the end of a speech.
    async fn finish(&mut self) -> Result<(), ServerError> {
        let Some(speech) = self.speech.take() else {
            return Ok(());
        };
        if let Some(samples) = speech.samples {
            let stop = json!({"timestamp": milliseconds(samples)});
            self.tell("audio-stop", &stop, &[]).await?;
        }
        if speech.streamed {
            self.tell("synthesize-stopped", &Value::Null, &[]).await?;
        }
        let seconds = speech.begun.elapsed().as_secs_f64();
        let speech_seconds = speech.samples.unwrap_or(0) as f64 / f64::from(SAMPLE_RATE);
        tracing::info!(peer = %self.peer, streamed = speech.streamed, speech_seconds, seconds, "spoken over Wyoming");
        Ok(())
    }
}

async fn heard(speech: &mut Option<Speech>) -> Heard {
    match speech {
        Some(speech) => speech.conversation.next(true).await,
        None => std::future::pending().await,
    }
}

fn milliseconds(samples: u64) -> u64 {
    samples * 1000 / u64::from(SAMPLE_RATE)
}

/// Data of `audio-start` and `audio-chunk` after so many samples.
fn sound_format(samples: u64) -> Value {
    json!({"rate": SAMPLE_RATE, "width": 2, "channels": 1, "timestamp": milliseconds(samples)})
}

/// Data of `info`. Blocks while voices are listed.
fn describe(app: &App) -> Result<Value, ServerError> {
    let source = json!({"name": "sottovoce", "url": HOME});
    let version = env!("CARGO_PKG_VERSION");
    let model = app.host.model();
    let languages = app.library.spoken(&model).languages;
    let voice = |name: String| {
        json!({
            "name": name, "description": name, "attribution": source, "installed": true,
            "version": version, "languages": languages, "speakers": null,
        })
    };
    let voices = app
        .voices
        .list()?
        .into_iter()
        .map(|entry| voice(entry.name));
    Ok(json!({
        "tts": [{
            "name": "sottovoce",
            "description": format!("{}, streamed within a budget of memory", model.name),
            "attribution": source, "installed": true, "version": version,
            "voices": voices.collect::<Vec<_>>(),
            "supports_synthesize_streaming": true,
        }],
        "asr": [], "handle": [], "intent": [], "wake": [], "mic": [], "snd": [],
    }))
}
