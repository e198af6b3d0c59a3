//! `/memory`: the report, release of cached memory, and the profile.

use crate::app::App;
use crate::bodies::JsonBody;
use crate::error::{ErrorBody, ServerError};
use crate::fields::{ChosenOption, Fields, FromFields, set_all};
use crate::metrics::LatencySummary;
use crate::option_schema;
use crate::process::ProcessMemory;
use crate::speaking::LiveStream;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sottovoce::options::OptionDescription;
use sottovoce::{Engine, EngineOptions, MemoryReport, Resident};
use std::sync::Arc;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Response of `GET /memory`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Memory {
    /// Name of the model in use.
    model: String,
    /// Name of the device; null while the model is not loaded.
    device: Option<String>,
    /// Whether the model is loaded.
    model_loaded: bool,
    /// Times the model was loaded.
    loads: u64,
    /// Times the model was unloaded.
    unloads: u64,
    /// The engine's ledger, counters and timeline; null while the model is not loaded.
    #[schema(value_type = Option<Object>)]
    engine: Option<MemoryReport>,
    /// The memory of the whole process, by owner.
    process: ProcessMemory,
    /// The requested precision.
    precision: String,
    /// The requested budget, in bytes; null: the system's available memory.
    memory_bytes: Option<u64>,
    /// The memory profile.
    profile: String,
    /// Chunks between two checks of the cache, if it is not the profile's own number.
    cache_interval: Option<u32>,
    /// Whether the timeline is recorded.
    enable_monitoring: bool,
    /// Most streams at once.
    streams_max: usize,
    /// Streams under way.
    streams_live: usize,
    /// Requests waiting for a place.
    queue_length: usize,
    /// Each stream under way.
    streams: Vec<LiveStream>,
    /// Time to first audio of the streams so far.
    first_audio: LatencySummary,
}

/// Response to a trim.
#[derive(Serialize, ToSchema)]
pub(crate) struct Trimmed {
    /// Bytes returned to the system or device.
    freed_bytes: u64,
}

/// The body of `POST /memory/profile`: options of the engine. Absent options stay unchanged.
#[derive(Default)]
pub(crate) struct ProfileRequest(Vec<ChosenOption>);

fn manages_memory(option: &OptionDescription) -> bool {
    ["profile", "cache_interval", "enable_monitoring"].contains(&option.name)
}

impl FromFields for ProfileRequest {
    fn from_fields(fields: &mut Fields) -> Result<ProfileRequest, ServerError> {
        let chosen = fields.chosen::<EngineOptions>(manages_memory)?;
        fields.refuse_unread()?;
        Ok(ProfileRequest(chosen))
    }
}

impl PartialSchema for ProfileRequest {
    fn schema() -> RefOr<Schema> {
        option_schema::closed(option_schema::object::<EngineOptions>(manages_memory)).into()
    }
}

impl ToSchema for ProfileRequest {}

/// The options of memory management.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProfileState {
    profile: String,
    cache_interval: Option<u32>,
    enable_monitoring: bool,
}

/// The memory report.
#[utoipa::path(get, path = "/memory", tag = "memory", responses((status = 200, description = "The memory", body = Memory)))]
pub(crate) async fn report(State(app): State<Arc<App>>) -> Json<Memory> {
    let loaded = app.host.loaded();
    let options = app.host.change_options(|_| {});
    let (loads, unloads) = app.host.load_counts();
    let engine = loaded.as_ref().map(|loaded| loaded.engine.memory_report());
    let streams = match (&loaded, &engine) {
        (Some(loaded), Some(report)) => app.labels.list(loaded.number, &report.streams),
        _ => Vec::new(),
    };
    let count =
        |look: fn(&Engine) -> usize| loaded.as_ref().map_or(0, |loaded| look(&loaded.engine));
    let engine_bytes = engine.as_ref().map_or(0, |report| {
        let host = report.host.as_ref();
        host.map_or(report.reserved_bytes, |host| host.reserved_bytes)
    });
    let resident = match &loaded {
        Some(loaded) => loaded.engine.resident_ledger(),
        None => Some(Resident::default()),
    };
    Json(Memory {
        process: ProcessMemory::now(&app, engine_bytes, resident),
        model: app.host.model().name,
        device: (loaded.as_ref()).map(|loaded| loaded.engine.device_name().to_owned()),
        model_loaded: loaded.is_some(),
        loads,
        unloads,
        engine,
        precision: options.precision.to_string(),
        memory_bytes: options.memory,
        profile: options.profile.to_string(),
        cache_interval: options.cache_interval,
        enable_monitoring: options.enable_monitoring,
        streams_max: count(Engine::streams_max),
        streams_live: count(Engine::streams_live),
        queue_length: count(Engine::streams_waiting),
        streams,
        first_audio: app.metrics.latency(loaded.as_deref()),
    })
}

/// Returns cached memory to the system or device.
#[utoipa::path(post, path = "/memory/trim", tag = "memory", responses((status = 200, description = "What it gave back", body = Trimmed)))]
pub(crate) async fn trim(State(app): State<Arc<App>>) -> Result<Json<Trimmed>, ServerError> {
    let Some(loaded) = app.host.loaded() else {
        return Ok(Json(Trimmed { freed_bytes: 0 }));
    };
    let freed_bytes = tokio::task::spawn_blocking(move || loaded.engine.trim())
        .await
        .map_err(|_| ServerError::Task)?;
    Ok(Json(Trimmed { freed_bytes }))
}

/// Changes how eagerly cached memory is released, at run time.
#[utoipa::path(post, path = "/memory/profile", tag = "memory", request_body = Option<ProfileRequest>,
    responses((status = 200, description = "How it stands now", body = ProfileState),
        (status = 400, description = "A field cannot be used", body = ErrorBody)))]
pub(crate) async fn profile(
    State(app): State<Arc<App>>,
    body: JsonBody<ProfileRequest>,
) -> Result<Json<ProfileState>, ServerError> {
    let ProfileRequest(chosen) = body.value;
    let options = app.host.change_options(|options| set_all(options, &chosen));
    if let Some(loaded) = app.host.loaded() {
        loaded.engine.configure_memory_management(
            options.profile,
            options.enable_monitoring,
            options.cache_interval,
        );
    }
    Ok(Json(ProfileState {
        profile: options.profile.to_string(),
        cache_interval: options.cache_interval,
        enable_monitoring: options.enable_monitoring,
    }))
}
