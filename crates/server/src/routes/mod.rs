//! One file a group of paths.

pub(crate) mod health;
pub(crate) mod memory;
pub(crate) mod models;
pub(crate) mod page;
pub(crate) mod speech;
pub(crate) mod stream;
pub(crate) mod voices;

use crate::error::ServerError;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

/// A JSON body whose refusal has OpenAI's shape. An empty body counts as `{}` where every field may be left out.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ServerError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ServerError> {
        let json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| {
                kind.trim_start()
                    .to_ascii_lowercase()
                    .starts_with("application/json")
            });
        let bytes = body(request, state).await?;
        if !json && !bytes.is_empty() {
            return Err(ServerError::Body {
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                reason: "send the request as JSON, with 'Content-Type: application/json'".into(),
            });
        }
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text)
            .map(JsonBody)
            .map_err(|error| ServerError::Body {
                status: StatusCode::BAD_REQUEST,
                reason: format!("the body is not what this call takes: {error}"),
            })
    }
}

/// The whole body, within the limit that the path has.
pub(crate) async fn body<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<Bytes, ServerError> {
    Bytes::from_request(request, state)
        .await
        .map_err(|refusal| {
            let status = refusal.status();
            let reason = match status {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    "the body is larger than this server takes".to_owned()
                }
                _ => "the body did not arrive whole".to_owned(),
            };
            ServerError::Body { status, reason }
        })
}
