//! Whether the server lives, whether it can speak, and its figures for Prometheus.

use crate::app::App;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// How the server stands.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok` or `stopping`.
    status: &'static str,
    /// Whether the model is in memory; if not, the next request loads it.
    model_loaded: bool,
    /// Streams under way.
    streams_live: usize,
    /// Requests waiting for a place.
    queue_length: usize,
}

/// Whether the process lives.
#[utoipa::path(get, path = "/health/live", tag = "health", responses((status = 200, description = "It does")))]
pub(crate) async fn live() -> &'static str {
    "ok"
}

/// Whether requests are taken.
#[utoipa::path(get, path = "/health/ready", tag = "health",
    responses((status = 200, description = "They are", body = Health), (status = 503, description = "The server is stopping", body = Health)))]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    let stopping = app.host.is_stopping();
    let loaded = app.host.loaded();
    let health = Health {
        status: if stopping { "stopping" } else { "ok" },
        model_loaded: loaded.is_some(),
        streams_live: loaded.as_ref().map_or(0, |loaded| loaded.admission.live()),
        queue_length: loaded
            .as_ref()
            .map_or(0, |loaded| loaded.admission.waiting()),
    };
    let status = if stopping {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    (status, Json(health)).into_response()
}

/// The same as `/health/ready`.
#[utoipa::path(get, path = "/health", tag = "health",
    responses((status = 200, description = "Requests are taken", body = Health), (status = 503, description = "The server is stopping", body = Health)))]
pub(crate) async fn health(state: State<Arc<App>>) -> Response {
    ready(state).await
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "Prometheus text", body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    app.sample_gauges();
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, app.measures.render()).into_response()
}
