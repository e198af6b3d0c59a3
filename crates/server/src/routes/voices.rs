//! `/v1/audio/voices`: list, upload a clip, delete.

use crate::app::App;
use crate::error::{ErrorBody, ServerError};
use crate::routes::{PathName, within};
use crate::voices::VoiceEntry;
use axum::Json;
use axum::extract::multipart::MultipartError;
use axum::extract::{Multipart, State};
use axum::http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// The voices there are.
#[derive(Serialize, ToSchema)]
pub(crate) struct VoiceList {
    /// The model's own first.
    voices: Vec<VoiceEntry>,
}

/// A form with a recording.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes the form in the OpenAPI document")]
pub(crate) struct VoiceForm {
    /// What to call the voice.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^[\\p{L}\\p{N}._ -]*[\\p{L}\\p{N}][\\p{L}\\p{N}._ -]*$"
    )]
    name: String,
    /// wav, flac, mp3 or ogg.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
}

/// What a deletion answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Deleted {
    id: String,
    deleted: bool,
}

/// Lists the voices.
#[utoipa::path(get, path = "/v1/audio/voices", tag = "voices",
    responses((status = 200, description = "The voices", body = VoiceList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<VoiceList>, ServerError> {
    let voices = tokio::task::spawn_blocking(move || app.voices.list())
        .await
        .map_err(|_| ServerError::Task)?;
    Ok(Json(VoiceList { voices }))
}

/// Prepares a voice from a recording and keeps it.
#[utoipa::path(post, path = "/v1/audio/voices", tag = "voices",
    request_body(content = VoiceForm, content_type = "multipart/form-data"),
    responses((status = 201, description = "The voice", body = VoiceEntry),
        (status = 400, description = "The recording or the name cannot be used", body = ErrorBody),
        (status = 500, description = "The voice could not be prepared or kept", body = ErrorBody),
        (status = 503, description = "The server is stopping", body = ErrorBody)))]
pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Result<(StatusCode, Json<VoiceEntry>), ServerError> {
    let form = form.map_err(|refusal| ServerError::Body {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        reason: format!("send a form with 'name' and 'file': {refusal}"),
    })?;
    // Recordings are large: only few may be on their way, so that they cannot fill the memory.
    let _upload = app
        .uploads
        .try_acquire()
        .map_err(|_| ServerError::TooMany {
            reason: "as many recordings as may are on their way".into(),
            retry_after: Duration::from_secs(5),
        })?;
    let (name, clip) = within(app.options.limits.upload, read(form)).await?;
    crate::voices::check_name(&name)?;
    // Preparing a voice takes memory like a stream does, so it takes a place.
    let (loaded, place) = app.place().await?;
    let voices = app.clone();
    let entry = tokio::task::spawn_blocking(move || {
        let entry = voices.voices.add(&loaded, &name, clip);
        drop(place);
        entry
    })
    .await
    .map_err(|_| ServerError::Task)??;
    Ok((StatusCode::CREATED, Json(entry)))
}

/// The form's name and recording.
async fn read(mut form: Multipart) -> Result<(String, Vec<u8>), ServerError> {
    let (mut name, mut clip) = (None, None);
    while let Some(field) = form.next_field().await.map_err(broken)? {
        match field.name().unwrap_or_default() {
            "name" => name = Some(field.text().await.map_err(broken)?),
            "file" => clip = Some(field.bytes().await.map_err(broken)?),
            _ => {}
        }
    }
    let missing = |parameter| ServerError::Parameter {
        parameter,
        reason: "the form lacks it".into(),
    };
    let name = name.ok_or_else(|| missing("name"))?;
    let clip = clip.ok_or_else(|| missing("file"))?;
    Ok((name, clip.into()))
}

fn broken(error: MultipartError) -> ServerError {
    match error.status() {
        status @ StatusCode::PAYLOAD_TOO_LARGE => ServerError::Body {
            status,
            reason: "the recording is larger than this server takes".into(),
        },
        // Whatever else is wrong with a form is wrong with what was sent.
        _ => ServerError::Body {
            status: StatusCode::BAD_REQUEST,
            reason: format!("the form cannot be read: {error}"),
        },
    }
}

/// Deletes an uploaded voice.
#[utoipa::path(delete, path = "/v1/audio/voices/{id}", tag = "voices", params(("id" = String, Path, description = "Its name")),
    responses((status = 200, description = "It is gone", body = Deleted), (status = 404, description = "Unknown", body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    PathName(id): PathName,
) -> Result<Json<Deleted>, ServerError> {
    let name = id.clone();
    tokio::task::spawn_blocking(move || app.voices.remove(app.host.loaded().as_deref(), &name))
        .await
        .map_err(|_| ServerError::Task)??;
    Ok(Json(Deleted { id, deleted: true }))
}
