//! `POST /v1/audio/speech`: text in, streamed sound out.

use crate::app::App;
use crate::bodies::{HeldBytes, JsonBody};
use crate::error::{ErrorBody, ServerError};
use crate::openai::{SpeechRequest, StreamFormat, check_text};
use crate::options::Compatibility;
use crate::record::RequestRecord;
use crate::routes::captions::Captions;
use crate::speaking::{Request, Speaker, Speaking};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::stream;
use serde_json::json;
use sottovoce::text::Warning;
use sottovoce::{Chunk, ChunkMetrics, SAMPLE_RATE, StreamOptions, WordTime};
use sottovoce_audio::{AudioFormat, Encoder};
use std::sync::Arc;
use std::time::Instant;

/// Response header: fields that were sent but have no effect.
pub(crate) const IGNORED: HeaderName = HeaderName::from_static("x-sottovoce-ignored");
/// Response header: the seed.
pub(crate) const SEED: HeaderName = HeaderName::from_static("x-sottovoce-seed");
/// Response header: text that was skipped, as a JSON array of line, character and message.
pub(crate) const WARNINGS: HeaderName = HeaderName::from_static("x-sottovoce-warnings");
/// Most warnings in a header.
const WARNINGS_MAX: usize = 10;
/// Response header: sample rate of headerless PCM.
pub(crate) const RATE: HeaderName = HeaderName::from_static("x-sample-rate");

/// Speaks `input`. The response begins with the first chunk.
#[utoipa::path(
    post, path = "/v1/audio/speech", tag = "speech",
    request_body = SpeechRequest,
    responses(
        (status = 200, description = "The sound, as it is made", content(
            (Vec<u8> = "audio/mpeg"), (Vec<u8> = "audio/wav"), (Vec<u8> = "audio/ogg"), (Vec<u8> = "audio/flac"),
            (Vec<u8> = "audio/aac"), (Vec<u8> = "audio/pcm"), (serde_json::Value = "text/event-stream"))),
        (status = 400, description = "A field cannot be used", body = ErrorBody),
        (status = 429, description = "The queue is full; `Retry-After` says when to try again", body = ErrorBody),
        (status = 500, description = "The engine failed", body = ErrorBody),
        (status = 503, description = "The server is stopping", body = ErrorBody),
    )
)]
pub(crate) async fn speak(
    State(app): State<Arc<App>>,
    record: Option<Extension<Arc<RequestRecord>>>,
    body: JsonBody<SpeechRequest>,
) -> Result<Response, ServerError> {
    let JsonBody {
        value: request,
        unread,
        held,
    } = body;
    let format = request.format(app.options.default_format())?;
    let ask = Ask {
        ignored: request.ignored().map(str::to_owned).into_iter().collect(),
        format,
        travel: request.stream_format()?,
        options: request.stream.options().clone(),
        voice: Speaker::Named(request.voice_name().to_owned()),
        text: request.input,
        unread,
        held,
    };
    answer(&app, record.map(|record| record.0), ask).await
}

/// A checked request for sound.
pub(crate) struct Ask {
    pub(crate) text: String,
    pub(crate) voice: Speaker,
    pub(crate) options: StreamOptions,
    pub(crate) format: AudioFormat,
    pub(crate) travel: StreamFormat,
    /// Known fields without an effect on this server.
    pub(crate) ignored: Vec<String>,
    /// Unknown fields.
    pub(crate) unread: Vec<String>,
    /// The body's bytes.
    pub(crate) held: HeldBytes,
}

/// Speaks; the response begins with the first chunk.
///
/// # Errors
/// Errors before the first chunk. Later ones end the response early.
pub(crate) async fn answer(
    app: &Arc<App>,
    record: Option<Arc<RequestRecord>>,
    ask: Ask,
) -> Result<Response, ServerError> {
    let Ask {
        text,
        voice,
        options,
        format,
        travel,
        mut ignored,
        unread,
        held,
    } = ask;
    // Clients of the Chatterbox servers expect raw samples in events, and a description of them.
    let compatible = app.options.answers_like(Compatibility::Chatterbox);
    let (format, travel) = match (format, travel) {
        (AudioFormat::Wav, StreamFormat::Events) if compatible => {
            (AudioFormat::Pcm, StreamFormat::DescribedEvents)
        }
        as_asked => as_asked,
    };
    let asked = Instant::now();
    check_text(&text, &app.options.limits)?;
    let seed = options.seed;
    let work = Request {
        voice,
        text,
        options,
        asked,
        record,
    };
    let speaking = Speaking::start(app, work).await?;
    let without_effect = speaking.without_effect().iter();
    ignored.extend(without_effect.map(|name| (*name).to_owned()));
    ignored.extend(unread);
    // The engine has its own copy of the text by now.
    drop(held);
    respond(speaking, format, travel, seed, &ignored).await
}

/// The response of a stream, which begins with its first chunk: only until then can the status
/// report errors.
pub(crate) async fn respond(
    mut speaking: Speaking,
    format: AudioFormat,
    travel: StreamFormat,
    seed: u64,
    ignored: &[String],
) -> Result<Response, ServerError> {
    let first = speaking.next().await.ok_or(ServerError::Task)??;
    let warnings = header_of(&first.metrics.warnings);
    let mut kind = format.media_type();
    let captions = match travel {
        StreamFormat::Captioned | StreamFormat::CaptionedLines => {
            let lines = travel == StreamFormat::CaptionedLines;
            let told = !ignored.iter().any(|option| option == "word_times");
            Some(Captions::new(
                lines,
                std::mem::replace(&mut kind, "application/json"),
                told,
            ))
        }
        StreamFormat::Events | StreamFormat::DescribedEvents => {
            kind = "text/event-stream";
            None
        }
        StreamFormat::Audio => None,
    };
    let sound = Sound {
        speaking,
        first: Some(first),
        encoder: Encoder::new(format, SAMPLE_RATE)?,
        travel,
        captions,
        described: travel == StreamFormat::DescribedEvents,
        seed,
        last: ChunkMetrics::default(),
        warnings: Vec::new(),
        words: Vec::new(),
        ended: false,
    };
    let mut response = Response::new(Body::from_stream(stream::unfold(sound, Sound::piece)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if format == AudioFormat::Pcm {
        headers.insert(RATE, HeaderValue::from(SAMPLE_RATE));
    }
    headers.insert(SEED, HeaderValue::from(seed));
    if let Some(warnings) = warnings {
        headers.insert(WARNINGS, warnings);
    }
    // Includes only names that are valid in a header.
    if let Ok(ignored) = HeaderValue::from_str(&ignored.join(", "))
        && !ignored.is_empty()
    {
        headers.insert(IGNORED, ignored);
    }
    Ok(response.into_response())
}

/// The first warnings as a header value: JSON in ASCII.
fn header_of(warnings: &[Warning]) -> Option<HeaderValue> {
    let shown = &warnings[..warnings.len().min(WARNINGS_MAX)];
    if shown.is_empty() {
        return None;
    }
    let mut ascii = String::new();
    for character in json!(shown).to_string().chars() {
        if character.is_ascii() {
            ascii.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    HeaderValue::try_from(ascii).ok()
}

/// A response in progress.
struct Sound {
    speaking: Speaking,
    first: Option<Chunk>,
    encoder: Encoder,
    travel: StreamFormat,
    captions: Option<Captions>,
    /// Whether the first event is to describe the samples.
    described: bool,
    seed: u64,
    last: ChunkMetrics,
    warnings: Vec<Warning>,
    /// Words that no event has reported.
    words: Vec<WordTime>,
    ended: bool,
}

impl Sound {
    /// The next bytes of the response, or its end.
    async fn piece(mut self) -> Option<(Result<Bytes, std::io::Error>, Sound)> {
        while !self.ended {
            let item = match self.first.take() {
                Some(first) => Some(Ok(first)),
                None => self.speaking.next().await,
            };
            let mut bytes = Vec::new();
            let done = match item {
                Some(Ok(chunk)) => {
                    self.warnings.extend_from_slice(&chunk.metrics.warnings);
                    self.last = chunk.metrics;
                    match &mut self.captions {
                        Some(captions) => captions.add(chunk.words),
                        None if self.travel == StreamFormat::Events => {
                            self.words.extend(chunk.words);
                        }
                        None => {}
                    }
                    self.encoder
                        .encode(&chunk.samples, &mut bytes)
                        .map_err(ServerError::from)
                }
                Some(Err(error)) => Err(error),
                None => {
                    self.ended = true;
                    self.encoder.finish(&mut bytes).map_err(ServerError::from)
                }
            };
            let piece = match done {
                Ok(()) => self.wrap(bytes),
                Err(error) => {
                    self.ended = true;
                    tracing::warn!(%error, "a stream ended early");
                    match self.travel {
                        StreamFormat::Events | StreamFormat::DescribedEvents => event(&json!({
                            "type": "error", "error": error.body().error
                        })),
                        // The status is sent already. In HTTP, an aborted transfer signals that
                        // something is missing.
                        StreamFormat::Audio
                        | StreamFormat::Captioned
                        | StreamFormat::CaptionedLines => {
                            return Some((Err(std::io::Error::other(error)), self));
                        }
                    }
                }
            };
            if !piece.is_empty() {
                return Some((Ok(piece.into()), self));
            }
        }
        None
    }

    fn wrap(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        match self.travel {
            StreamFormat::Audio => bytes,
            StreamFormat::Captioned | StreamFormat::CaptionedLines => {
                let ended = self.ended;
                let captions = self.captions.as_mut();
                captions.map_or_else(Vec::new, |captions| captions.piece(bytes, ended))
            }
            StreamFormat::Events | StreamFormat::DescribedEvents => {
                let mut text = Vec::new();
                if std::mem::take(&mut self.described) {
                    text.extend(event(&json!({
                        "type": "speech.audio.info",
                        "sample_rate": SAMPLE_RATE, "channels": 1, "bits_per_sample": 16,
                    })));
                }
                if !bytes.is_empty() {
                    let mut delta =
                        json!({"type": "speech.audio.delta", "audio": BASE64.encode(bytes)});
                    if !self.words.is_empty() {
                        delta["words"] = json!(std::mem::take(&mut self.words));
                    }
                    text.extend(event(&delta));
                }
                if self.ended {
                    let (read, spoken) = (self.last.text_tokens, self.last.tokens);
                    let mut done = json!({
                        "type": "speech.audio.done",
                        "usage": {"input_tokens": read, "output_tokens": spoken, "total_tokens": read + spoken},
                        "seed": self.seed,
                        "metrics": self.last,
                        "warnings": self.warnings,
                    });
                    if !self.words.is_empty() {
                        done["words"] = json!(std::mem::take(&mut self.words));
                    }
                    text.extend(event(&done));
                }
                text
            }
        }
    }
}

/// One server-sent event.
fn event(value: &serde_json::Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_in_a_header_are_json_of_ascii_characters_and_few() {
        assert_eq!(header_of(&[]), None);
        let warning = Warning {
            line: 3,
            character: "漢 🦀\n".into(),
            message: "nothing says it".into(),
        };
        let header = header_of(&vec![warning.clone(); 50]).unwrap();
        let shown: serde_json::Value = serde_json::from_slice(header.as_bytes()).unwrap();
        assert_eq!(shown.as_array().unwrap().len(), WARNINGS_MAX);
        assert_eq!(shown[0], json!(warning));
    }
}
