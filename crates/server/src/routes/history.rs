//! `GET /memory/history`: memory over time.

use crate::app::App;
use crate::error::{ErrorBody, ServerError};
use crate::history::{MINUTES_MAX, MemoryHistory};
use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Default number of minutes.
const MINUTES: u64 = 10;

/// The requested part of the history.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// How far back, in minutes; 10 by default. Up to 10 minutes there is one sample per second,
    /// beyond that one every six seconds.
    #[param(minimum = 1, maximum = 60)]
    minutes: Option<u64>,
    /// Only samples after this time, in seconds since 1970.
    since: Option<f64>,
}

/// Memory over the last minutes.
#[utoipa::path(get, path = "/memory/history", tag = "memory", operation_id = "memory_history", params(HistoryQuery),
    responses((status = 200, description = "The memory over time", body = MemoryHistory),
        (status = 400, description = "A parameter cannot be used", body = ErrorBody)))]
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    query: Result<Query<HistoryQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<MemoryHistory>, ServerError> {
    let refuse = |reason: String| ServerError::Parameter {
        parameter: "minutes",
        reason,
    };
    let Query(query) = query.map_err(|refusal| refuse(refusal.body_text()))?;
    let minutes = query.minutes.unwrap_or(MINUTES);
    if !(1..=MINUTES_MAX).contains(&minutes) {
        return Err(refuse(format!("use 1 to {MINUTES_MAX}")));
    }
    let since = query.since.unwrap_or(0.0);
    Ok(Json(app.history.window(minutes, since)))
}
