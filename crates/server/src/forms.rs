//! Forms (`multipart/form-data`): text fields, and recordings in temporary files.

use crate::app::App;
use crate::bodies::{HeldBytes, refuse_packed, within};
use crate::error::ServerError;
use crate::fields::Fields;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::StatusCode;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempPath;
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;

/// Prefix of temporary recordings; no voice can have such a name.
const WAITING_PREFIX: &str = ".upload-";
/// Most recordings in a form.
const RECORDINGS_MAX: usize = 16;
/// Most text fields in a form.
const FIELDS_MAX: usize = 64;

/// A received form.
pub(crate) struct Form {
    /// Its text fields.
    pub(crate) fields: Fields,
    /// Its files, in the order of arrival.
    pub(crate) recordings: Vec<UploadedRecording>,
    /// Counts the text fields' bytes while they live.
    pub(crate) held: HeldBytes,
    /// The place among the uploads under way.
    _upload: OwnedSemaphorePermit,
}

/// An uploaded file. Dropping it deletes the file.
pub(crate) struct UploadedRecording {
    /// Name of the form's field.
    pub(crate) field: String,
    /// File name that the caller gave; never used as a path.
    pub(crate) file_name: Option<String>,
    /// The temporary file.
    pub(crate) path: TempPath,
}

impl Form {
    /// The first recording of a field with one of these names.
    pub(crate) fn recording(&mut self, fields: &[&str]) -> Option<UploadedRecording> {
        let wanted = |recording: &UploadedRecording| fields.contains(&recording.field.as_str());
        let index = self.recordings.iter().position(wanted)?;
        Some(self.recordings.swap_remove(index))
    }
}

/// Folder of temporary recordings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    /// The folder of voices: for a server that takes none, recordings are refused.
    OfVoices,
    /// The folder of voices, or else that of the system's temporary files.
    Any,
}

/// Receives a form, and writes its recordings to temporary files in `folder`.
///
/// # Errors
/// If the server takes no voices and a recording is sent, the body is no form, a part is too large,
/// or as many recordings as may are on their way.
pub(crate) async fn receive(
    app: &Arc<App>,
    request: Request,
    folder: Folder,
) -> Result<Form, ServerError> {
    refuse_packed(request.headers())?;
    let multipart = Multipart::from_request(request, app).await;
    let multipart = multipart.map_err(|refusal| ServerError::Body {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        reason: format!("send a form (multipart/form-data) with the recording: {refusal}"),
    })?;
    // Recordings are large: only a few uploads may run at once, so that they cannot exhaust memory.
    let upload = app.uploads.clone().try_acquire_owned();
    let upload = upload.map_err(|_| ServerError::TooMany {
        reason: "as many recordings as may are on their way".into(),
        retry_after: Duration::from_secs(5),
    })?;
    let form = read(app, multipart, upload, folder);
    within(app.options.limits.upload_time, form).await
}

async fn read(
    app: &Arc<App>,
    mut multipart: Multipart,
    upload: OwnedSemaphorePermit,
    folder: Folder,
) -> Result<Form, ServerError> {
    let text_bytes_max = app.options.limits.body_bytes;
    let mut form = Form {
        fields: Fields::default(),
        recordings: Vec::new(),
        held: app.bodies.hold(),
        _upload: upload,
    };
    let (mut fields, mut text_bytes) = (0, 0);
    while let Some(mut field) = multipart.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default().to_owned();
        let file_name = field.file_name().map(str::to_owned);
        let is_recording =
            file_name.is_some() || matches!(name.as_str(), "file" | "audio_sample" | "voice_file");
        if is_recording {
            if form.recordings.len() >= RECORDINGS_MAX {
                return Err(ServerError::Field {
                    field: name,
                    reason: format!("send at most {RECORDINGS_MAX} recordings at once"),
                });
            }
            let folder = match (app.voices.store(), folder) {
                // It may be missing, or removed while the server runs.
                (Ok(store), _) => {
                    store.create_folder()?;
                    store.folder().to_owned()
                }
                (Err(_), Folder::Any) => std::env::temp_dir(),
                (Err(error), Folder::OfVoices) => return Err(error),
            };
            let bytes_max = app.options.limits.clip_bytes;
            let path = keep(&mut field, &folder, bytes_max).await?;
            form.recordings.push(UploadedRecording {
                field: name,
                file_name,
                path,
            });
        } else {
            fields += 1;
            if fields > FIELDS_MAX {
                return Err(ServerError::Body {
                    status: StatusCode::BAD_REQUEST,
                    reason: format!("the form has more than {FIELDS_MAX} text fields"),
                });
            }
            let mut bytes = Vec::new();
            text_bytes += name.len();
            while let Some(piece) = field.chunk().await.map_err(broken)? {
                text_bytes += piece.len();
                if text_bytes > text_bytes_max {
                    return Err(ServerError::Body {
                        status: StatusCode::PAYLOAD_TOO_LARGE,
                        reason: format!(
                            "the form's text has more than the {text_bytes_max} bytes that this server takes"
                        ),
                    });
                }
                form.held.add(piece.len())?;
                bytes.extend_from_slice(&piece);
            }
            let Ok(text) = String::from_utf8(bytes) else {
                return Err(ServerError::Field {
                    field: name,
                    reason: "send it in UTF-8".into(),
                });
            };
            form.fields.insert(name, text);
        }
    }
    Ok(form)
}

/// Writes a field of at most `bytes_max` to a temporary file in `folder`. Only a piece of the
/// recording is in memory at a time.
async fn keep(
    field: &mut Field<'_>,
    folder: &Path,
    bytes_max: usize,
) -> Result<TempPath, ServerError> {
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
    let mut file = tokio::fs::File::from_std(file);
    let mut bytes = 0;
    while let Some(piece) = field.chunk().await.map_err(broken)? {
        bytes += piece.len();
        if bytes > bytes_max {
            return Err(too_large());
        }
        file.write_all(&piece).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    Ok(path)
}

fn too_large() -> ServerError {
    ServerError::Body {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        reason: "the recording is larger than this server takes".into(),
    }
}

fn broken(error: MultipartError) -> ServerError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        // Any other error in a form is the client's.
        _ => ServerError::Body {
            status: StatusCode::BAD_REQUEST,
            reason: format!("the form cannot be read: {error}"),
        },
    }
}
