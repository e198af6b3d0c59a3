//! `/v1/audio/voices`: list, upload and delete voices.

use crate::app::App;
use crate::error::{ErrorBody, ServerError};
use crate::forms::{Folder, UploadedRecording, receive};
use crate::routes::PathName;
use crate::voices::VoiceEntry;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// All voices.
#[derive(Serialize, ToSchema)]
pub(crate) struct VoiceList {
    /// The voices, the model's own first.
    voices: Vec<VoiceEntry>,
    /// Whether calls may upload, rename and delete voices.
    uploads: bool,
}

/// A form with a recording.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes the form in the OpenAPI document")]
pub(crate) struct VoiceForm {
    /// Name of the voice.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^[\\w._ -]*[^\\W_][\\w._ -]*$"
    )]
    name: String,
    /// The recording.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
    /// The recording, in the field that OpenAI's clients use instead of `file`.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    audio_sample: Option<String>,
    /// Accepted and ignored: consent is between you and the speaker.
    consent: Option<String>,
    /// `audio_sample`, if it is given: voices are made of recordings only.
    #[schema(pattern = "^audio_sample$")]
    r#type: Option<String>,
}

/// Response to a deletion.
#[derive(Serialize, ToSchema)]
pub(crate) struct Deleted {
    id: String,
    /// Always `audio.voice.deleted`.
    object: &'static str,
    deleted: bool,
}

/// Lists the voices.
#[utoipa::path(get, path = "/v1/audio/voices", tag = "voices", operation_id = "list_voices",
    responses((status = 200, description = "The voices", body = VoiceList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<VoiceList>, ServerError> {
    blocking(move || {
        Ok(Json(VoiceList {
            voices: app.voices.list()?,
            uploads: app.voices.store().is_ok(),
        }))
    })
    .await
}

/// Prepares a voice from a recording and stores it.
#[utoipa::path(post, path = "/v1/audio/voices", tag = "voices", operation_id = "create_voice",
    request_body(content = VoiceForm, content_type = "multipart/form-data"),
    responses((status = 201, description = "The voice", body = VoiceEntry),
        (status = 400, description = "The recording or the name cannot be used", body = ErrorBody),
        (status = 500, description = "The voice could not be prepared or kept", body = ErrorBody),
        (status = 503, description = "The server is stopping", body = ErrorBody)))]
pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<(StatusCode, Json<VoiceEntry>), ServerError> {
    let mut form = receive(&app, request, Folder::OfVoices).await?;
    let missing = |parameter, reason: &str| ServerError::Parameter {
        parameter,
        reason: reason.into(),
    };
    let kind = form.fields.text("type")?;
    if kind.is_some_and(|kind| kind != "audio_sample") {
        let reason = "this server makes voices of recordings: send audio_sample";
        return Err(missing("type", reason));
    }
    let name = (form.fields.text("name")?)
        .ok_or_else(|| missing("name", "the form lacks the voice's name"))?;
    let recording = (form.recording(&["file", "audio_sample"]))
        .ok_or_else(|| missing("file", "the form lacks the recording"))?;
    let entry = add(&app, name, recording).await?;
    Ok((StatusCode::CREATED, Json(entry)))
}

/// Prepares a voice from a recording and stores it under `name`.
pub(crate) async fn add(
    app: &Arc<App>,
    name: String,
    recording: UploadedRecording,
) -> Result<VoiceEntry, ServerError> {
    let voices = app.clone();
    let name = blocking(move || voices.voices.free_name(&name)).await?;
    let loaded = app.host.load().await?;
    let app = app.clone();
    blocking(move || app.voices.add(&loaded, &name, &recording.path)).await
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ServerError::Task)?
}

/// Deletes an uploaded voice.
#[utoipa::path(delete, path = "/v1/audio/voices/{id}", tag = "voices", operation_id = "delete_voice", params(("id" = String, Path, description = "Its name")),
    responses((status = 200, description = "It is gone", body = Deleted), (status = 404, description = "Unknown", body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    PathName(id): PathName,
) -> Result<Json<Deleted>, ServerError> {
    let id = blocking(move || app.voices.remove(app.host.loaded().as_deref(), &id)).await?;
    Ok(Json(Deleted {
        id,
        object: "audio.voice.deleted",
        deleted: true,
    }))
}
