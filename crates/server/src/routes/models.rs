//! `/v1/models`, and loading and unloading of the model.

use crate::app::App;
use crate::bodies::JsonBody;
use crate::error::{ErrorBody, ServerError};
use crate::fields::{ChosenOption, Fields, FromFields, set_all};
use crate::option_schema;
use crate::routes::PathName;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sottovoce::options::OptionDescription;
use sottovoce::{EngineOptions, OptionTable};
use std::sync::Arc;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// A model as OpenAI lists it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Model {
    id: String,
    /// Always `model`.
    object: &'static str,
    /// Seconds since 1970 at which the server started.
    created: u64,
    owned_by: &'static str,
    /// Whether it is loaded.
    loaded: bool,
}

/// A list in OpenAI's format.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// Always `list`.
    object: &'static str,
    data: Vec<Model>,
}

/// Response of `/models/load` and `/models/unload`.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelState {
    /// Whether the model is loaded now.
    loaded: bool,
    /// Whether this call changed that.
    changed: bool,
}

/// The body of `/models/unload`; optional.
#[derive(Default, ToSchema)]
pub(crate) struct UnloadRequest {
    /// End running streams.
    #[schema(value_type = Option<bool>, default = false, required = false)]
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

/// The models, in the form that some web interfaces expect.
#[derive(Serialize, ToSchema)]
pub(crate) struct SpeechModels {
    models: Vec<SpeechModel>,
}

/// A model.
#[derive(Serialize, ToSchema)]
pub(crate) struct SpeechModel {
    id: String,
    name: String,
}

/// Lists the model in use, under the path that some web interfaces call.
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

/// Lists the model in use.
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

/// Unloads the model and frees its memory; the next request loads it again.
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

/// The body of `/models/load`: another model, options of the engine; optional.
#[derive(Default)]
pub(crate) struct LoadRequest {
    model: Option<String>,
    chosen: Vec<ChosenOption>,
}

fn loads_anew(option: &OptionDescription) -> bool {
    ["precision", "memory"].contains(&option.name)
}

impl FromFields for LoadRequest {
    fn from_fields(fields: &mut Fields) -> Result<LoadRequest, ServerError> {
        let model = fields.text("model")?;
        let mut chosen = fields.chosen::<EngineOptions>(loads_anew)?;
        if let Some(bytes) = fields.count("memory_bytes")? {
            // 0 stands for all memory that the system grants.
            let value = Some(bytes).filter(|bytes| *bytes > 0).into();
            (EngineOptions::default().set("memory", &value)).map_err(|error| {
                ServerError::Parameter {
                    parameter: "memory_bytes",
                    reason: error.to_string(),
                }
            })?;
            chosen.push(("memory", value));
        }
        fields.refuse_unread()?;
        Ok(LoadRequest { model, chosen })
    }
}

impl PartialSchema for LoadRequest {
    fn schema() -> RefOr<Schema> {
        let mut object = option_schema::object::<EngineOptions>(loads_anew);
        let bytes = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
            .description(Some("The memory in bytes; 0 for what the system has."))
            .minimum(Some(0));
        let model = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .description(Some(
                "The model that is to speak: one that `GET /models` lists as here.",
            ));
        let properties = &mut object.properties;
        properties.insert("memory_bytes".into(), bytes.into());
        properties.insert("model".into(), model.into());
        option_schema::closed(object).into()
    }
}

impl ToSchema for LoadRequest {}

/// Loads the model if it is not loaded, or if its options change.
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
    let LoadRequest { model, chosen } = body.value;
    let before = app.host.change_options(|_| {});
    let mut wanted = before.clone();
    set_all(&mut wanted, &chosen);
    let spoke = app.host.model();
    let model = match model {
        Some(name) if name != spoke.name => {
            let library = app.library.clone();
            let found = tokio::task::spawn_blocking(move || library.find(&name));
            Some(found.await.map_err(|_| ServerError::Task)??)
        }
        _ => None,
    };
    if model.is_some() || wanted != before {
        app.host.unload(false).await?;
        if let Some(model) = model {
            app.host.choose(model);
        }
        app.host.change_options(|options| set_all(options, &chosen));
    }
    let changed = app.host.loaded().is_none();
    if let Err(error) = app.host.load().await {
        // A choice that does not fit must not persist for the next request.
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
