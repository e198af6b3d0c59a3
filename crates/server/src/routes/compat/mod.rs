//! Paths of other servers, so that their clients work unchanged. They are not part of the OpenAPI
//! document: their own servers' documentation describes them.

mod kokoro;
mod tts_api;
mod tts_server;

use crate::app::App;
use crate::bodies::{HeldBytes, JsonBody};
use crate::error::{ErrorBody, ServerError};
use crate::fields::{Fields, FromFields, base_language};
use crate::forms::UploadedRecording;
use crate::openai::{StreamFields, StreamFormat, format_named};
use crate::options::{Compatibility, Limits};
use crate::record::RequestRecord;
use crate::routes::speech::{Ask, answer};
use crate::speaking::Speaker;
use crate::voices::DEFAULT_VOICE;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use serde::Serialize;
use serde_json::Value;
use sottovoce::StreamOptions;
use sottovoce::text::LANGUAGES;
use sottovoce_audio::AudioFormat;
use std::marker::PhantomData;
use std::sync::Arc;

/// The record of a request in the log, if it has one.
type Record = Option<Extension<Arc<RequestRecord>>>;

/// Routes of these servers.
pub(crate) fn routes(servers: &[Compatibility], limits: &Limits) -> Router<Arc<App>> {
    let mut router = Router::new();
    if servers.contains(&Compatibility::Chatterbox) {
        let form = DefaultBodyLimit::max(limits.form_bytes());
        router = router.merge(tts_server::routes(form));
        router = router.merge(tts_api::routes(form));
        router = router.merge(kokoro::routes());
    }
    router
}

/// Paths of these servers, for a hint where they are not answered.
pub(crate) fn paths<'a>() -> impl Iterator<Item = &'a str> {
    let groups = (tts_server::PATHS.iter())
        .chain(&tts_api::PATHS)
        .chain(&kokoro::PATHS);
    groups.flat_map(|paths| paths.iter().copied())
}

/// Paths that list voices, languages and models, for callers without a key where lists are open.
pub(crate) fn lists() -> impl Iterator<Item = &'static str> {
    let groups = tts_server::LISTS.iter().chain(&tts_api::LISTS);
    groups.flat_map(|paths| paths.iter().copied())
}

/// Whether the path is a health check of theirs.
pub(crate) fn is_probe(path: &str) -> bool {
    let probes = [tts_api::HEALTH, tts_api::PING];
    probes.iter().any(|paths| paths.contains(&path))
}

/// Paths with one handler.
type Paths = [&'static str];

/// An error in the format of FastAPI, in which these servers are written, and in OpenAI's.
pub(crate) struct Refusal(ServerError);

impl From<ServerError> for Refusal {
    fn from(error: ServerError) -> Refusal {
        Refusal(error)
    }
}

#[derive(Serialize)]
struct RefusalBody {
    /// The message.
    detail: String,
    #[serde(flatten)]
    openai: ErrorBody,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = RefusalBody {
            detail: self.0.message(),
            openai: self.0.body(),
        };
        let (mut parts, _) = self.0.into_response().into_parts();
        // The other body has another length.
        parts.headers.remove(axum::http::header::CONTENT_LENGTH);
        (parts.status, parts.headers, Json(body)).into_response()
    }
}

/// A request for speech, whatever the server's fields are called.
struct SpeechRequest {
    text: String,
    voice: String,
    format: AudioFormat,
    travel: StreamFormat,
    options: StreamOptions,
    /// Known fields without an effect here.
    ignored: Vec<String>,
}

impl SpeechRequest {
    /// Takes the fields that these servers share; the one that names the format is called
    /// `format_name`.
    fn read(
        fields: &mut Fields,
        text: String,
        voice: Option<String>,
        format_name: &'static str,
    ) -> Result<SpeechRequest, ServerError> {
        let format = fields.text(format_name)?;
        let stream_format = fields.text("stream_format")?;
        let (stream, ignored) = stream_options(fields)?;
        Ok(SpeechRequest {
            text,
            voice: voice.unwrap_or_else(|| DEFAULT_VOICE.into()),
            travel: StreamFormat::named(stream_format.as_deref())?,
            format: format_named(format_name, format.as_deref(), AudioFormat::Wav)?,
            options: stream.options().clone(),
            ignored,
        })
    }

    /// Speaks, with the voice of a recording if there is one; `unread` are unknown fields.
    async fn answer(
        self,
        app: &Arc<App>,
        record: Record,
        recording: Option<UploadedRecording>,
        unread: Vec<String>,
        held: HeldBytes,
    ) -> Result<Response, Refusal> {
        let ask = Ask {
            text: self.text,
            voice: match recording {
                Some(recording) => Speaker::Recording(Arc::new(recording)),
                None => Speaker::Named(self.voice),
            },
            options: self.options,
            format: self.format,
            travel: self.travel,
            ignored: self.ignored,
            unread,
            held,
        };
        Ok(answer(app, record.map(|record| record.0), ask).await?)
    }
}

/// A server's own names of a request's fields.
trait Dialect {
    /// Takes the fields of a request for speech.
    fn read(fields: &mut Fields) -> Result<SpeechRequest, ServerError>;
}

/// A request for speech in a dialect.
struct Said<D> {
    request: SpeechRequest,
    dialect: PhantomData<D>,
}

impl<D: Dialect> FromFields for Said<D> {
    fn from_fields(fields: &mut Fields) -> Result<Said<D>, ServerError> {
        Ok(Said {
            request: D::read(fields)?,
            dialect: PhantomData,
        })
    }
}

/// Speaks what a JSON body asks for.
async fn speak<D: Dialect>(
    State(app): State<Arc<App>>,
    record: Record,
    body: Result<JsonBody<Said<D>>, ServerError>,
) -> Result<Response, Refusal> {
    let body = body?;
    let request = body.value.request;
    (request.answer(&app, record, None, body.unread, body.held)).await
}

/// The options of a stream, as these servers' clients send them, and the names of fields that
/// belong to the reference's way of working and have no effect here.
fn stream_options(fields: &mut Fields) -> Result<(StreamFields, Vec<String>), ServerError> {
    // Their chunk is a number of characters after which the text is cut; here, sentences are.
    let ignored = fields.drop_all(&[
        "split_text",
        "chunk_size",
        "streaming_chunk_size",
        "streaming_strategy",
        "streaming_buffer_size",
        "streaming_quality",
        "enable_pauses",
        "custom_pauses",
        "instructions",
    ]);
    fields.rename("speed_factor", "speed");
    fields.change("language", |tag| match tag.as_str() {
        Some(tag) => base_language(tag).into(),
        None => tag,
    });
    fields.change("seed", draw_for_zero);
    Ok((StreamFields::from_fields(fields)?, ignored))
}

/// There, seed 0 draws one.
fn draw_for_zero(value: Value) -> Value {
    let zero = value.as_f64() == Some(0.0) || value.as_str().map(str::trim) == Some("0");
    if zero { (-1).into() } else { value }
}

/// English name of a language that the Chatterbox family speaks.
fn language_name(code: &str) -> &str {
    let named = LANGUAGES.iter().find(|(known, _)| *known == code);
    named.map_or(code, |(_, name)| name)
}

/// The name of the file from which these servers would have made the voice.
fn file_name(voice: &str) -> String {
    format!("{voice}.wav")
}
