//! `/v1/audio/voices`: list, upload and delete voices.

use crate::app::App;
use crate::bodies::{refuse_packed, within};
use crate::error::{ErrorBody, ServerError};
use crate::routes::PathName;
use crate::voices::VoiceEntry;
use axum::Json;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{Multipart, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempPath;
use tokio::io::AsyncWriteExt;
use tokio::sync::SemaphorePermit;
use utoipa::ToSchema;

/// Largest text field of a form; names of voices are far shorter.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// Prefix of temporary recordings; no voice can have such a name.
const WAITING_PREFIX: &str = ".upload-";

/// The voices there are.
#[derive(Serialize, ToSchema)]
pub(crate) struct VoiceList {
    /// The model's own first.
    voices: Vec<VoiceEntry>,
    /// Whether calls may bring voices, rename and delete them.
    uploads: bool,
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
    /// The recording.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
    /// The recording, as OpenAI's clients name it; stands for `file`.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    audio_sample: Option<String>,
    /// Taken, and not used: the consent is between you and the speaker.
    consent: Option<String>,
    /// `audio_sample`, if it is given: voices are made of recordings only.
    #[schema(pattern = "^audio_sample$")]
    r#type: Option<String>,
}

/// What a deletion answers.
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

/// Prepares a voice from a recording and keeps it.
#[utoipa::path(post, path = "/v1/audio/voices", tag = "voices", operation_id = "create_voice",
    request_body(content = VoiceForm, content_type = "multipart/form-data"),
    responses((status = 201, description = "The voice", body = VoiceEntry),
        (status = 400, description = "The recording or the name cannot be used", body = ErrorBody),
        (status = 500, description = "The voice could not be prepared or kept", body = ErrorBody),
        (status = 503, description = "The server is stopping", body = ErrorBody)))]
pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Result<(StatusCode, Json<VoiceEntry>), ServerError> {
    let form = form.map_err(|refusal| ServerError::Body {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        reason: format!("send a form with 'name' and 'file': {refusal}"),
    })?;
    let _upload = permit(&app)?;
    refuse_packed(&headers)?;
    let folder = app.voices.store()?.folder();
    let (name, clip) = within(app.options.limits.upload_time, read(form, folder)).await?;
    let voices = app.clone();
    let name = blocking(move || voices.voices.free_name(&name)).await?;
    let loaded = app.host.load().await?;
    let voices = app.clone();
    let entry = blocking(move || voices.voices.add(&loaded, &name, &clip));
    Ok((StatusCode::CREATED, Json(entry.await?)))
}

/// Runs blocking work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ServerError::Task)?
}

/// Recordings are large: only a few uploads may run at once, so that they cannot exhaust memory.
pub(crate) fn permit(app: &App) -> Result<SemaphorePermit<'_>, ServerError> {
    let permit = app.uploads.try_acquire();
    permit.map_err(|_| ServerError::TooMany {
        reason: "as many recordings as may are on their way".into(),
        retry_after: Duration::from_secs(5),
    })
}

/// Reads the form: the name, and a temporary file in `folder` with the recording, which is deleted
/// when the path is dropped. Only a piece of the recording is in memory at a time.
async fn read(mut form: Multipart, folder: &Path) -> Result<(String, TempPath), ServerError> {
    let (mut name, mut clip) = (None, None);
    while let Some(mut field) = form.next_field().await.map_err(broken)? {
        match field.name().unwrap_or_default() {
            "name" => name = Some(text(&mut field, "name").await?),
            "file" | "audio_sample" => clip = Some(keep(&mut field, folder).await?),
            "type" => {
                let kind = text(&mut field, "type").await?;
                if kind != "audio_sample" {
                    return Err(ServerError::Parameter {
                        parameter: "type",
                        reason: "this server makes voices of recordings: send audio_sample".into(),
                    });
                }
            }
            _ => {}
        }
    }
    let missing = |parameter, reason: &str| ServerError::Parameter {
        parameter,
        reason: reason.into(),
    };
    let name = name.ok_or_else(|| missing("name", "the form lacks the voice's name"))?;
    let clip = clip.ok_or_else(|| missing("file", "the form lacks the recording"))?;
    Ok((name, clip))
}

pub(crate) async fn text(
    field: &mut Field<'_>,
    parameter: &'static str,
) -> Result<String, ServerError> {
    let refuse = |reason: &str| ServerError::Parameter {
        parameter,
        reason: reason.into(),
    };
    let mut bytes = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(broken)? {
        if bytes.len() + piece.len() > TEXT_BYTES_MAX {
            return Err(refuse("it is too long"));
        }
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8(bytes).map_err(|_| refuse("send it in UTF-8"))
}

/// Writes a field to a temporary file.
async fn keep(field: &mut Field<'_>, folder: &Path) -> Result<TempPath, ServerError> {
    let failed = |source| sottovoce::Error::File {
        path: folder.to_owned(),
        source,
    };
    let mut builder = tempfile::Builder::new();
    let file = builder
        .prefix(WAITING_PREFIX)
        .tempfile_in(folder)
        .map_err(failed)?;
    let (file, path) = file.into_parts();
    write(field, file, folder).await?;
    Ok(path)
}

/// Writes a field to a temporary file in `folder`, piece by piece.
pub(crate) async fn write(
    field: &mut Field<'_>,
    file: std::fs::File,
    folder: &Path,
) -> Result<(), ServerError> {
    let failed = |source| sottovoce::Error::File {
        path: folder.to_owned(),
        source,
    };
    let mut file = tokio::fs::File::from_std(file);
    while let Some(piece) = field.chunk().await.map_err(broken)? {
        file.write_all(&piece).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    Ok(())
}

pub(crate) fn broken(error: MultipartError) -> ServerError {
    match error.status() {
        status @ StatusCode::PAYLOAD_TOO_LARGE => ServerError::Body {
            status,
            reason: "the recording is larger than this server takes".into(),
        },
        // Any other error in a form is the client's.
        _ => ServerError::Body {
            status: StatusCode::BAD_REQUEST,
            reason: format!("the form cannot be read: {error}"),
        },
    }
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
