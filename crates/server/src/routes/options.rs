//! `/v1/options`: the options of a call, and their effect with the loaded model.

use crate::app::App;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sottovoce::options::{Capabilities, OptionDescription, OptionTable, Scope, Value};
use sottovoce::{EngineOptions, StreamOptions};
use std::sync::Arc;
use utoipa::ToSchema;

/// Response of `GET /v1/options`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Options {
    /// Most characters of one text.
    text_characters: usize,
    /// Options of the speech call and of a WebSocket's start.
    stream: Vec<ShownOption>,
    /// Options with which the model is loaded.
    engine: Vec<ShownOption>,
}

/// One option.
#[derive(Serialize, ToSchema)]
pub(crate) struct ShownOption {
    #[serde(flatten)]
    #[schema(value_type = Object)]
    description: &'static OptionDescription,
    /// The JSON type of its values.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The default value; the model's own while one is loaded.
    #[schema(value_type = Value)]
    default: Value,
    /// Whether it has an effect with the loaded model; null while none is loaded.
    has_effect: Option<bool>,
}

/// Lists the options, with their ranges, their defaults and their effect on the loaded model.
#[utoipa::path(get, path = "/v1/options", tag = "speech", operation_id = "list_options",
    responses((status = 200, description = "The options", body = Options)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Options> {
    let loaded = app.host.loaded();
    let engine = loaded.as_ref().map(|loaded| &loaded.engine);
    let capabilities = engine.map(|engine| engine.capabilities());
    let stream = engine.map_or_else(StreamOptions::default, |engine| engine.stream_defaults());
    let is_engines = |scope| matches!(scope, Scope::Engine | Scope::Server);
    Json(Options {
        text_characters: app.options.limits.text_characters,
        stream: shown(&stream, capabilities, |scope| scope == Scope::Stream),
        engine: shown(&EngineOptions::default(), capabilities, is_engines),
    })
}

fn shown<T: OptionTable>(
    defaults: &T,
    capabilities: Option<&Capabilities>,
    takes: impl Fn(Scope) -> bool,
) -> Vec<ShownOption> {
    let options = T::DESCRIPTIONS.iter().filter(|option| takes(option.scope));
    options
        .map(|option| ShownOption {
            description: option,
            kind: option.domain.json_type(),
            default: defaults.get(option.name).unwrap_or_default(),
            has_effect: capabilities.map(|capabilities| option.has_effect(capabilities)),
        })
        .collect()
}
