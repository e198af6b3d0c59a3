//! `/models`: available models, and their download.

use crate::app::App;
use crate::error::{ErrorBody, ServerError};
use crate::library::{DownloadOffer, DownloadState, LibraryModel, ModelTag, budget_bytes};
use crate::routes::PathName;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use sottovoce::Source;
use std::sync::Arc;
use utoipa::ToSchema;

/// Capabilities of the model in use.
#[derive(Serialize, ToSchema)]
pub(crate) struct Speaking {
    /// Languages that it speaks.
    languages: Vec<String>,
    /// Tags that it supports.
    tags: Vec<ModelTag>,
    /// Whether it can prepare voices from recordings.
    takes_recordings: bool,
}

/// Response of `GET /models`. Sizes are bytes.
#[derive(Serialize, ToSchema)]
pub(crate) struct LibraryList {
    /// Name of the model in use.
    model: String,
    /// Its capabilities.
    speaking: Speaking,
    /// The server's memory budget, or the system's available memory.
    budget_bytes: Option<u64>,
    /// Whether calls may download models.
    downloads: bool,
    /// The models, smallest first.
    models: Vec<LibraryModel>,
}

/// Lists the models that can be chosen or downloaded, with the memory that each needs.
#[utoipa::path(get, path = "/models", tag = "models", operation_id = "list_library",
    responses((status = 200, description = "The models", body = LibraryList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<LibraryList>, ServerError> {
    blocking(move || {
        let loaded = app.host.loaded();
        let reserved = loaded.map_or(0, |loaded| loaded.engine.memory_report().reserved_bytes);
        let options = app.host.change_options(|_| {});
        let budget_bytes = budget_bytes(&options, reserved);
        let model = app.host.model();
        let spoken = app.library.spoken(&model);
        Ok(Json(LibraryList {
            speaking: Speaking {
                languages: spoken.languages,
                tags: spoken.tags,
                takes_recordings: !matches!(model.source, Source::Embedded),
            },
            budget_bytes,
            downloads: app.library.fetches() && app.options.remote_settings,
            models: (app.library).models(&model.name, budget_bytes, options.streams_max),
            model: model.name,
        }))
    })
    .await
}

/// Size of a model's download.
#[utoipa::path(get, path = "/models/{name}/download", tag = "models", operation_id = "offer_download",
    params(("name" = String, Path, description = "A name that `GET /models` lists")),
    responses((status = 200, description = "What would come", body = DownloadOffer),
        (status = 400, description = "This server fetches no models", body = ErrorBody),
        (status = 404, description = "Unknown", body = ErrorBody),
        (status = 502, description = "The hub does not say", body = ErrorBody)))]
pub(crate) async fn offer(
    State(app): State<Arc<App>>,
    PathName(name): PathName,
) -> Result<Json<DownloadOffer>, ServerError> {
    blocking(move || app.library.offer(&name).map(Json)).await
}

/// Downloads a model in the background; `GET /models` reports its state.
#[utoipa::path(post, path = "/models/{name}/download", tag = "models", operation_id = "download_model",
    params(("name" = String, Path, description = "A name that `GET /models` lists")),
    responses((status = 202, description = "It is on its way", body = DownloadState),
        (status = 400, description = "This server fetches no models", body = ErrorBody),
        (status = 404, description = "Unknown", body = ErrorBody),
        (status = 409, description = "Another is on its way", body = ErrorBody)))]
pub(crate) async fn download(
    State(app): State<Arc<App>>,
    PathName(name): PathName,
) -> Result<(StatusCode, Json<DownloadState>), ServerError> {
    let state = app.library.download(&name)?;
    Ok((StatusCode::ACCEPTED, Json(state)))
}

/// Cancels a download; received files are kept.
#[utoipa::path(delete, path = "/models/{name}/download", tag = "models", operation_id = "cancel_download",
    params(("name" = String, Path, description = "A name that `GET /models` lists")),
    responses((status = 200, description = "It ends", body = DownloadState),
        (status = 404, description = "None is under way", body = ErrorBody)))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    PathName(name): PathName,
) -> Result<Json<DownloadState>, ServerError> {
    app.library.cancel(&name).map(Json)
}

/// Runs blocking work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ServerError::Task)?
}
