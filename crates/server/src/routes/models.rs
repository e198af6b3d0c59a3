//! `/v1/models` and the model's coming and going.

use crate::app::App;
use crate::bodies::JsonBody;
use crate::error::{ErrorBody, ServerError};
use crate::fields::{Fields, FromFields};
use crate::routes::PathName;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sottovoce::PrecisionChoice;
use std::sync::Arc;
use utoipa::ToSchema;

/// A model as OpenAI lists it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Model {
    id: String,
    /// Always `model`.
    object: &'static str,
    /// Seconds since 1970 at which the server started.
    created: u64,
    owned_by: &'static str,
    /// Whether it is in memory now.
    loaded: bool,
}

/// OpenAI's list.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// Always `list`.
    object: &'static str,
    data: Vec<Model>,
}

/// What `/models/load` and `/models/unload` answer.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelState {
    /// Whether the model is in memory now.
    loaded: bool,
    /// Whether this call changed that.
    changed: bool,
}

/// The body of `/models/unload`; may be left out.
#[derive(Default, ToSchema)]
pub(crate) struct UnloadRequest {
    /// End the streams under way.
    #[schema(default = false, required = false)]
    force: bool,
}

impl FromFields for UnloadRequest {
    fn from_fields(fields: &mut Fields) -> Result<UnloadRequest, ServerError> {
        Ok(UnloadRequest {
            force: fields.flag("force")?.unwrap_or(false),
        })
    }
}

fn model(app: &App) -> Model {
    Model {
        id: app.host.model().name,
        object: "model",
        created: app.started_unix_seconds,
        owned_by: "sottovoce",
        loaded: app.host.loaded().is_some(),
    }
}

/// The models that can speak, as web interfaces ask for them.
#[derive(Serialize, ToSchema)]
pub(crate) struct SpeechModels {
    models: Vec<SpeechModel>,
}

/// One of them.
#[derive(Serialize, ToSchema)]
pub(crate) struct SpeechModel {
    id: String,
    name: String,
}

/// Lists the one model under the path at which some web interfaces look for it.
#[utoipa::path(get, path = "/v1/audio/models", tag = "models", operation_id = "list_speech_models",
    responses((status = 200, description = "The models", body = SpeechModels)))]
pub(crate) async fn list_speech_models(State(app): State<Arc<App>>) -> Json<SpeechModels> {
    let name = app.host.model().name;
    let model = SpeechModel {
        id: name.clone(),
        name,
    };
    Json(SpeechModels {
        models: vec![model],
    })
}

/// Lists the one model.
#[utoipa::path(get, path = "/v1/models", tag = "models", operation_id = "list_models",
    responses((status = 200, description = "The models", body = ModelList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<ModelList> {
    Json(ModelList {
        object: "list",
        data: vec![model(&app)],
    })
}

/// Shows a model.
#[utoipa::path(get, path = "/v1/models/{id}", tag = "models", operation_id = "show_model", params(("id" = String, Path, description = "Its name")),
    responses((status = 200, description = "The model", body = Model), (status = 404, description = "Unknown", body = ErrorBody)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    PathName(id): PathName,
) -> Result<Json<Model>, ServerError> {
    if id == app.host.model().name {
        Ok(Json(model(&app)))
    } else {
        Err(ServerError::NotFound {
            what: format!("a model {id:?}"),
        })
    }
}

/// Gives the model's memory back; the next request loads it again.
#[utoipa::path(post, path = "/models/unload", tag = "models", operation_id = "unload_model", request_body = Option<UnloadRequest>,
    responses((status = 200, description = "How it stands now", body = ModelState),
        (status = 409, description = "Streams are under way", body = ErrorBody)))]
pub(crate) async fn unload(
    State(app): State<Arc<App>>,
    body: JsonBody<UnloadRequest>,
) -> Result<Json<ModelState>, ServerError> {
    let changed = app.host.unload(body.value.force).await?;
    Ok(Json(ModelState {
        loaded: app.host.loaded().is_some(),
        changed,
    }))
}

/// The body of `/models/load`; may be left out.
#[derive(Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadRequest {
    /// The model that is to speak: one that `GET /models` lists as here.
    model: Option<String>,
    /// `auto`, `f32`, `f16`, `int8` or `q4`.
    #[schema(pattern = "^(auto|f32|f16|int8|q4)$")]
    precision: Option<String>,
    /// Bytes that the engine may use in all; 0 for what the system has.
    #[schema(maximum = 281_474_976_710_656_u64)]
    memory_bytes: Option<u64>,
}

impl FromFields for LoadRequest {
    fn from_fields(fields: &mut Fields) -> Result<LoadRequest, ServerError> {
        let request = LoadRequest {
            model: fields.text("model")?,
            precision: fields.text("precision")?,
            memory_bytes: fields.count("memory_bytes")?,
        };
        fields.refuse_unread()?;
        Ok(request)
    }
}

/// More than processors can address.
const MEMORY_BYTES_MAX: u64 = 1 << 48;

/// Loads the model if it is not; with other options than before, loads it anew.
#[utoipa::path(post, path = "/models/load", tag = "models", operation_id = "load_model", request_body = Option<LoadRequest>,
    responses((status = 200, description = "How it stands now", body = ModelState),
        (status = 400, description = "An option cannot be used", body = ErrorBody),
        (status = 409, description = "Streams are under way, or the model does not fit", body = ErrorBody),
        (status = 500, description = "It cannot be loaded", body = ErrorBody),
        (status = 503, description = "The server is stopping", body = ErrorBody)))]
pub(crate) async fn load(
    State(app): State<Arc<App>>,
    body: JsonBody<LoadRequest>,
) -> Result<Json<ModelState>, ServerError> {
    let request = body.value;
    let precision: Option<PrecisionChoice> =
        request.precision.as_deref().map(str::parse).transpose()?;
    if request
        .memory_bytes
        .is_some_and(|bytes| bytes > MEMORY_BYTES_MAX)
    {
        return Err(ServerError::Parameter {
            parameter: "memory_bytes",
            reason: format!("use 0 to {MEMORY_BYTES_MAX}"),
        });
    }
    let before = app.host.change_options(|_| {});
    let spoke = app.host.model();
    let wanted = match request.model {
        Some(name) if name != spoke.name => {
            let library = app.library.clone();
            let found = tokio::task::spawn_blocking(move || library.find(&name));
            Some(found.await.map_err(|_| ServerError::Task)??)
        }
        _ => None,
    };
    let other = wanted.is_some()
        || precision.is_some_and(|precision| precision != before.precision)
        || request
            .memory_bytes
            .is_some_and(|bytes| bytes != before.memory.unwrap_or(0));
    if other {
        app.host.unload(false).await?;
        if let Some(model) = wanted {
            app.host.choose(model);
        }
        app.host.change_options(|options| {
            options.precision = precision.unwrap_or(options.precision);
            if let Some(bytes) = request.memory_bytes {
                options.memory = Some(bytes).filter(|bytes| *bytes > 0);
            }
        });
    }
    let changed = app.host.loaded().is_none();
    if let Err(error) = app.host.load().await {
        // What does not fit must not stay in force for the next request.
        app.host.choose(spoke);
        app.host.change_options(|options| {
            options.precision = before.precision;
            options.memory = before.memory;
        });
        return Err(match error {
            ServerError::Engine(error @ sottovoce::Error::Budget { .. }) => {
                ServerError::DoesNotFit(error)
            }
            error => error,
        });
    }
    Ok(Json(ModelState {
        loaded: true,
        changed,
    }))
}
