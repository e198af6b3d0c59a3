//! `POST /v1/audio/voice-changes`: recorded speech in, the same speech in another voice out.

use crate::app::App;
use crate::error::{ErrorBody, ServerError};
use crate::fields::FromFields;
use crate::forms::{Folder, receive};
use crate::openai::{ChangeFields, StreamFormat, format_named};
use crate::record::RequestRecord;
use crate::routes::speech::respond;
use crate::speaking::{self, Speaker, Speaking};
use crate::voices::DEFAULT_VOICE;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use std::fs::File;
use std::sync::Arc;
use std::time::Instant;
use utoipa::ToSchema;

/// A form with a recording and options of the sound. Numbers are sent as text.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes the form in the OpenAPI document")]
pub(crate) struct VoiceChangeForm {
    /// The recording.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
    /// Any name: this server has one model.
    model: Option<String>,
    /// Name of the voice.
    voice: Option<String>,
    /// `mp3` (the default), `wav`, `opus`, `flac`, `aac` or `pcm`.
    #[schema(pattern = "^(mp3|wav|opus|flac|aac|pcm)$")]
    response_format: Option<String>,
    /// `audio` (the default) or `sse`.
    #[schema(pattern = "^(audio|sse)$")]
    stream_format: Option<String>,
    #[serde(flatten)]
    stream: ChangeFields,
}

/// Speaks a recording again in another voice. The response begins with the first chunk.
#[utoipa::path(
    post, path = "/v1/audio/voice-changes", tag = "speech", operation_id = "change_voice",
    request_body(content = VoiceChangeForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The sound, as it is made", content(
            (Vec<u8> = "audio/mpeg"), (Vec<u8> = "audio/wav"), (Vec<u8> = "audio/ogg"), (Vec<u8> = "audio/flac"),
            (Vec<u8> = "audio/aac"), (Vec<u8> = "audio/pcm"), (serde_json::Value = "text/event-stream"))),
        (status = 400, description = "The recording or a field cannot be used", body = ErrorBody),
        (status = 429, description = "The queue is full; `Retry-After` says when to try again", body = ErrorBody),
        (status = 500, description = "The engine failed", body = ErrorBody),
        (status = 503, description = "The server is stopping", body = ErrorBody),
    )
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    record: Option<Extension<Arc<RequestRecord>>>,
    request: Request,
) -> Result<Response, ServerError> {
    let asked = Instant::now();
    // Held until the stream has begun: a recording lies on the disk while its stream waits.
    let mut form = receive(&app, request, Folder::Any).await?;
    let recording = form.recording(&["file"]).ok_or(ServerError::Parameter {
        parameter: "file",
        reason: "the form lacks the recording".into(),
    })?;
    let failed = |source| sottovoce::Error::File {
        path: recording.path.to_path_buf(),
        source,
    };
    let file = File::open(&recording.path).map_err(failed)?;
    let fields = &mut form.fields;
    let _model = fields.text("model")?;
    let voice = fields.text("voice")?;
    let format = fields.text("response_format")?;
    let unset = app.options.default_format();
    let format = format_named("response_format", format.as_deref(), unset)?;
    let travel = StreamFormat::named(fields.text("stream_format")?.as_deref())?;
    let ChangeFields(options) = ChangeFields::from_fields(fields)?;
    let seed = options.seed;
    let work = speaking::Request {
        text: String::new(),
        voice: Speaker::Named(voice.unwrap_or_else(|| DEFAULT_VOICE.to_owned())),
        options,
        asked,
        record: record.map(|record| record.0),
    };
    let speaking = Speaking::start_change(&app, file, work).await?;
    let without_effect = speaking.without_effect().iter();
    let mut ignored: Vec<String> = without_effect.map(|name| (*name).to_owned()).collect();
    ignored.extend(fields.unread());
    respond(speaking, format, travel, seed, &ignored).await
}
