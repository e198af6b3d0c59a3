//! One file a group of paths.

pub(crate) mod health;
pub(crate) mod memory;
pub(crate) mod models;
pub(crate) mod page;
pub(crate) mod speech;
pub(crate) mod stream;
pub(crate) mod voices;

use crate::app::App;
use crate::error::ServerError;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

/// The one variable part of a path. What is no text names nothing.
pub(crate) struct PathName(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathName {
    type Rejection = ServerError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ServerError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(PathName(name)),
            Err(_) => Err(ServerError::NotFound {
                what: "this path".into(),
            }),
        }
    }
}

/// A JSON object whose refusal has OpenAI's shape. No body and `null` count as `{}`, for calls whose fields may all be left out.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = ServerError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ServerError> {
        let json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| {
                kind.trim_start()
                    .to_ascii_lowercase()
                    .starts_with("application/json")
            });
        let bytes = within(app.options.limits.receive, body(request, app)).await?;
        if !json && !bytes.is_empty() {
            return Err(ServerError::Body {
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                reason: "send the request as JSON, with 'Content-Type: application/json'".into(),
            });
        }
        let refuse = |reason| ServerError::Body {
            status: StatusCode::BAD_REQUEST,
            reason,
        };
        let foreign = |error| refuse(format!("the body is not what this call takes: {error}"));
        let fields = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).map_err(foreign)?
        };
        let mut fields = match fields {
            Value::Null => Map::new(),
            Value::Object(fields) => fields,
            // An array would be taken for the fields in their order.
            _ => return Err(refuse("the body is no JSON object".into())),
        };
        fields.values_mut().for_each(whole_number);
        T::deserialize(Value::Object(fields))
            .map(JsonBody)
            .map_err(foreign)
    }
}

/// JSON knows one kind of number: `2.0` is as whole as `2`.
fn whole_number(value: &mut Value) {
    const EXACT_MAX: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
    if let Some(number) = value.as_f64()
        && !(value.is_i64() || value.is_u64())
        && number.fract() == 0.0
        && number.abs() <= EXACT_MAX
    {
        *value = Value::from(number as i64);
    }
}

/// The whole body, within the limit that the path has.
async fn body(request: Request, app: &Arc<App>) -> Result<Bytes, ServerError> {
    Bytes::from_request(request, app).await.map_err(|refusal| {
        let status = refusal.status();
        let reason = match status {
            StatusCode::PAYLOAD_TOO_LARGE => "the body is larger than this server takes",
            _ => "the body did not arrive whole",
        };
        ServerError::Body {
            status,
            reason: reason.into(),
        }
    })
}

/// What `receive` brings, if it brings it in time: each piece alone may come soon, and the whole never.
pub(crate) async fn within<T>(
    limit: Duration,
    receive: impl Future<Output = Result<T, ServerError>>,
) -> Result<T, ServerError> {
    tokio::time::timeout(limit, receive)
        .await
        .unwrap_or_else(|_| {
            Err(ServerError::Body {
                status: StatusCode::REQUEST_TIMEOUT,
                reason: format!("the body did not arrive within {} s", limit.as_secs()),
            })
        })
}
