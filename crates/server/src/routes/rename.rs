//! `POST /v1/audio/voices/{id}`: renames an uploaded voice.

use crate::app::App;
use crate::bodies::JsonBody;
use crate::error::{ErrorBody, ServerError};
use crate::fields::{Fields, FromFields};
use crate::routes::PathName;
use crate::voices::VoiceEntry;
use axum::Json;
use axum::extract::State;
use std::sync::Arc;
use utoipa::ToSchema;

/// The body of `POST /v1/audio/voices/{id}`.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenameRequest {
    /// The new name.
    #[schema(min_length = 1, max_length = 64)]
    name: String,
}

impl FromFields for RenameRequest {
    fn from_fields(fields: &mut Fields) -> Result<RenameRequest, ServerError> {
        let name = fields.required_text("name", "send the voice's new name")?;
        fields.refuse_unread()?;
        Ok(RenameRequest { name })
    }
}

/// Renames an uploaded voice and updates its aliases.
#[utoipa::path(post, path = "/v1/audio/voices/{id}", tag = "voices", operation_id = "rename_voice", request_body = RenameRequest,
    params(("id" = String, Path, description = "Its name so far")),
    responses((status = 200, description = "The voice", body = VoiceEntry),
        (status = 400, description = "The name cannot be used", body = ErrorBody),
        (status = 404, description = "Unknown", body = ErrorBody),
        (status = 500, description = "Its file could not be renamed", body = ErrorBody)))]
pub(crate) async fn rename(
    State(app): State<Arc<App>>,
    PathName(id): PathName,
    body: JsonBody<RenameRequest>,
) -> Result<Json<VoiceEntry>, ServerError> {
    let name = body.value.name;
    let renamed = tokio::task::spawn_blocking(move || {
        let loaded = app.host.loaded();
        app.voices.rename(loaded.as_deref(), &id, &name)
    });
    Ok(Json(renamed.await.map_err(|_| ServerError::Task)??))
}
