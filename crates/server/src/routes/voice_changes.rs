//! `POST /v1/audio/voice-changes`: recorded speech in, the same speech in another voice out.

use crate::app::App;
use crate::bodies::{refuse_packed, within};
use crate::error::{ErrorBody, ServerError};
use crate::fields::{Fields, FromFields};
use crate::openai::{ChangeFields, StreamFormat, format_of};
use crate::record::RequestRecord;
use crate::routes::speech::respond;
use crate::routes::voices::{broken, permit, text, write};
use crate::speaking::{Request, Speaking};
use crate::voices::DEFAULT_VOICE;
use axum::extract::multipart::MultipartRejection;
use axum::extract::{Extension, Multipart, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use utoipa::ToSchema;

/// Most text fields of a form.
const TEXTS_MAX: usize = 64;

/// A form with a recording, and how it shall sound. Numbers are sent as text.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes the form in the OpenAPI document")]
pub(crate) struct VoiceChangeForm {
    /// The recording.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
    /// Any name: this server has one model.
    model: Option<String>,
    /// Who speaks: a name.
    voice: Option<String>,
    /// `mp3` (unless told otherwise), `wav`, `opus`, `flac`, `aac` or `pcm`.
    #[schema(pattern = "^(mp3|wav|opus|flac|aac|pcm)$")]
    response_format: Option<String>,
    /// `audio` (unless told otherwise) or `sse`.
    #[schema(pattern = "^(audio|sse)$")]
    stream_format: Option<String>,
    #[serde(flatten)]
    stream: ChangeFields,
}

/// Speaks a recording again in another voice. The first bytes leave when the first chunk is ready.
#[utoipa::path(
    post, path = "/v1/audio/voice-changes", tag = "speech", operation_id = "change_voice",
    request_body(content = VoiceChangeForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The sound, as it is made", content(
            (Vec<u8> = "audio/mpeg"), (Vec<u8> = "audio/wav"), (Vec<u8> = "audio/ogg"), (Vec<u8> = "audio/flac"),
            (Vec<u8> = "audio/aac"), (Vec<u8> = "audio/pcm"), (String = "text/event-stream"))),
        (status = 400, description = "The recording or a field cannot be used", body = ErrorBody),
        (status = 429, description = "The queue is full; `Retry-After` says when to try again", body = ErrorBody),
        (status = 500, description = "The engine failed", body = ErrorBody),
        (status = 503, description = "The server is stopping", body = ErrorBody),
    )
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    record: Option<Extension<Arc<RequestRecord>>>,
    headers: HeaderMap,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Response, ServerError> {
    let asked = Instant::now();
    let form = form.map_err(|refusal| ServerError::Body {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        reason: format!("send a form with 'file' and 'voice': {refusal}"),
    })?;
    // Held until the stream has begun: a recording lies on the disk while its stream waits.
    let _upload = permit(&app)?;
    refuse_packed(&headers)?;
    let stored = app.voices.store().ok();
    let folder = stored.map_or_else(std::env::temp_dir, |store| store.folder().to_owned());
    let (recording, mut fields) =
        within(app.options.limits.upload_time, read(form, &folder)).await?;
    let _model = fields.text("model")?;
    let voice = fields.text("voice")?;
    let format = format_of(fields.text("response_format")?.as_deref())?;
    let travel = StreamFormat::of(fields.text("stream_format")?.as_deref())?;
    let ChangeFields(options) = ChangeFields::from_fields(&mut fields)?;
    let seed = options.seed;
    let work = Request {
        text: String::new(),
        voice: voice.unwrap_or_else(|| DEFAULT_VOICE.to_owned()),
        options,
        asked,
        record: record.map(|record| record.0),
    };
    let speaking = Speaking::start_change(&app, recording, work).await?;
    let without_effect = speaking.without_effect().iter();
    let mut ignored: Vec<String> = without_effect.map(|name| (*name).to_owned()).collect();
    ignored.extend(fields.unread());
    respond(speaking, format, travel, seed, &ignored).await
}

/// Reads the form: an unnamed temporary file in `folder` with the recording, and the text fields.
async fn read(mut form: Multipart, folder: &Path) -> Result<(File, Fields), ServerError> {
    let failed = |source| sottovoce::Error::File {
        path: folder.to_owned(),
        source,
    };
    let (mut recording, mut texts) = (None, Vec::new());
    while let Some(mut field) = form.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            let file = tempfile::tempfile_in(folder).map_err(failed)?;
            write(&mut field, file.try_clone().map_err(failed)?, folder).await?;
            recording = Some(file);
            continue;
        }
        if texts.len() == TEXTS_MAX {
            return Err(ServerError::Body {
                status: StatusCode::BAD_REQUEST,
                reason: format!("the form has more than {TEXTS_MAX} fields"),
            });
        }
        let value = text(&mut field, "form").await?;
        texts.push((name, value));
    }
    let recording = recording.ok_or_else(|| ServerError::Parameter {
        parameter: "file",
        reason: "the form lacks the recording".into(),
    })?;
    Ok((recording, Fields::of_form(texts)))
}
