//! Routes, one file per group of paths.

pub(crate) mod aliases;
pub(crate) mod captions;
pub(crate) mod compat;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod library;
pub(crate) mod memory;
pub(crate) mod models;
pub(crate) mod options;
pub(crate) mod page;
pub(crate) mod rename;
pub(crate) mod speech;
pub(crate) mod stream;
pub(crate) mod voice_changes;
pub(crate) mod voices;

use crate::error::ServerError;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

/// The variable segment of a path. Invalid UTF-8 matches nothing.
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
