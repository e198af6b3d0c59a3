//! Liveness, readiness, and metrics for Prometheus.

use crate::app::App;
use crate::metrics::MEDIA_TYPE;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sottovoce::Engine;
use std::sync::Arc;
use utoipa::ToSchema;

/// State of the server.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`, `loading` while the server starts, `stopping`, or `broken` while a model that died is
    /// loaded again.
    status: &'static str,
    /// Whether the model is in memory; if not, the next request loads it.
    model_loaded: bool,
    /// Streams under way.
    streams_live: usize,
    /// Requests waiting for a place.
    queue_length: usize,
}

/// Liveness: fails once the model has been dead for longer than loading it again may take.
#[utoipa::path(get, path = "/health/live", tag = "health", operation_id = "live",
    responses((status = 200, description = "It can", body = String, content_type = "text/plain"),
        (status = 503, description = "Start it again", body = String, content_type = "text/plain")))]
pub(crate) async fn live(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    let grace = app.options.limits.broken_time;
    match app.host.broken_for() {
        Some(broken) if broken > grace => (StatusCode::SERVICE_UNAVAILABLE, "broken"),
        _ => (StatusCode::OK, "ok"),
    }
}

/// Readiness: whether requests are accepted.
#[utoipa::path(get, path = "/health/ready", tag = "health", operation_id = "ready",
    responses((status = 200, description = "They are", body = Health),
        (status = 503, description = "The server is starting or stopping, or its model died", body = Health)))]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    let loaded = app.host.loaded();
    let status = match () {
        () if app.host.is_stopping() => "stopping",
        () if app.host.is_starting() => "loading",
        () if app.host.is_broken() => "broken",
        () => "ok",
    };
    let count =
        |look: fn(&Engine) -> usize| loaded.as_ref().map_or(0, |loaded| look(&loaded.engine));
    let health = Health {
        status,
        model_loaded: loaded.is_some(),
        streams_live: count(Engine::streams_live),
        queue_length: count(Engine::streams_waiting),
    };
    let status = match status {
        "ok" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(health)).into_response()
}

/// Start-up: whether the model is loaded, or will be by the first request.
#[utoipa::path(get, path = "/health/startup", tag = "health", operation_id = "startup",
    responses((status = 200, description = "It has", body = String, content_type = "text/plain"),
        (status = 503, description = "The model is being loaded", body = String, content_type = "text/plain")))]
pub(crate) async fn startup(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    match app.host.is_starting() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "loading"),
        false => (StatusCode::OK, "ok"),
    }
}

/// The same as `/health/ready`.
#[utoipa::path(get, path = "/health", tag = "health",
    responses((status = 200, description = "Requests are taken", body = Health), (status = 503, description = "The server is starting or stopping", body = Health)))]
pub(crate) async fn health(state: State<Arc<App>>) -> Response {
    ready(state).await
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text")))]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kind = [(header::CONTENT_TYPE, MEDIA_TYPE)];
    (kind, app.figures()).into_response()
}
