//! `/v1/audio/aliases`: aliases of voices.

use crate::aliases::Alias;
use crate::app::App;
use crate::bodies::JsonBody;
use crate::error::{ErrorBody, ServerError};
use crate::fields::{Fields, FromFields};
use crate::routes::PathName;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// All aliases.
#[derive(Serialize, ToSchema)]
pub(crate) struct AliasList {
    aliases: Vec<Alias>,
}

/// The body of `PUT /v1/audio/aliases/{alias}`.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AliasRequest {
    /// The voice that the alias stands for from now on.
    voice: String,
}

impl FromFields for AliasRequest {
    fn from_fields(fields: &mut Fields) -> Result<AliasRequest, ServerError> {
        let voice = fields.voice("voice")?.ok_or(ServerError::Parameter {
            parameter: "voice",
            reason: "name the voice that the alias stands for".into(),
        })?;
        fields.refuse_unread()?;
        Ok(AliasRequest { voice })
    }
}

/// Response to a deletion.
#[derive(Serialize, ToSchema)]
pub(crate) struct AliasDeleted {
    alias: String,
    deleted: bool,
}

/// Lists the aliases.
#[utoipa::path(get, path = "/v1/audio/aliases", tag = "voices", operation_id = "list_aliases",
    responses((status = 200, description = "The aliases", body = AliasList),
        (status = 500, description = "Their file cannot be read", body = ErrorBody)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<AliasList>, ServerError> {
    let aliases = tokio::task::spawn_blocking(move || app.voices.aliases.list())
        .await
        .map_err(|_| ServerError::Task)??;
    Ok(Json(AliasList { aliases }))
}

/// Sets an alias of a voice.
#[utoipa::path(put, path = "/v1/audio/aliases/{alias}", tag = "voices", operation_id = "set_alias", request_body = AliasRequest,
    params(("alias" = String, Path, description = "The further name")),
    responses((status = 200, description = "The alias", body = Alias),
        (status = 400, description = "There is no such voice, or the name is taken", body = ErrorBody),
        (status = 500, description = "Their file cannot be written", body = ErrorBody)))]
pub(crate) async fn set(
    State(app): State<Arc<App>>,
    PathName(alias): PathName,
    body: JsonBody<AliasRequest>,
) -> Result<Json<Alias>, ServerError> {
    let set = tokio::task::spawn_blocking(move || app.voices.set_alias(&alias, &body.value.voice));
    Ok(Json(set.await.map_err(|_| ServerError::Task)??))
}

/// Deletes an alias.
#[utoipa::path(delete, path = "/v1/audio/aliases/{alias}", tag = "voices", operation_id = "delete_alias",
    params(("alias" = String, Path, description = "The further name")),
    responses((status = 200, description = "It is forgotten", body = AliasDeleted),
        (status = 400, description = "It was given at the start", body = ErrorBody),
        (status = 404, description = "Unknown", body = ErrorBody),
        (status = 500, description = "Their file cannot be written", body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    PathName(alias): PathName,
) -> Result<Json<AliasDeleted>, ServerError> {
    let name = alias.clone();
    tokio::task::spawn_blocking(move || app.voices.aliases.remove(&name))
        .await
        .map_err(|_| ServerError::Task)??;
    Ok(Json(AliasDeleted {
        alias,
        deleted: true,
    }))
}
