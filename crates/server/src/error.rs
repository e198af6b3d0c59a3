//! Errors: one table that maps each to a status and to OpenAI's error format.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// Errors of a request, or of the server's start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] sottovoce::Error),
    /// The recording could not be encoded.
    #[error(transparent)]
    Encoding(#[from] sottovoce_audio::Error),
    /// A model could not be downloaded.
    #[error(transparent)]
    Hub(#[from] sottovoce_hub::Error),
    /// A request field has an invalid value.
    #[error("{parameter}: {reason}")]
    Parameter {
        /// The field's name.
        parameter: &'static str,
        /// The values allowed.
        reason: String,
    },
    /// The request has an unknown field.
    #[error("{field}: {reason}")]
    Field {
        /// The field's name, as sent.
        field: String,
        /// The reason.
        reason: String,
    },
    /// The body cannot be read.
    #[error("{reason}")]
    Body {
        /// The response status: 400, 408, 413, 415 or 426.
        status: StatusCode,
        /// The reason.
        reason: String,
    },
    /// The request has no valid API key.
    #[error("this server needs an API key: send it as 'Authorization: Bearer KEY'")]
    Unauthorized,
    /// The key may speak, but the call changes settings.
    #[error("this call changes how the server runs: it needs an administrator's key")]
    NotAdministrator,
    /// The server was started with locked settings.
    #[error("this server lets no call change how it runs")]
    SettingsLocked,
    /// Too many connections are open.
    #[error("{reason}; try again in 1 s")]
    Overloaded {
        /// 429 if the caller has too many, 503 if the server has.
        status: StatusCode,
        /// The exhausted limit.
        reason: &'static str,
    },
    /// An option of the server is invalid.
    #[error("{option} {value}: {reason}")]
    Setting {
        /// The option's name.
        option: &'static str,
        /// The value given.
        value: String,
        /// The values allowed.
        reason: String,
    },
    /// A page of a foreign origin sent the request.
    #[error(
        "pages of {origin} may not call this server; allow the origin {origin} as it is started"
    )]
    ForeignOrigin {
        /// The page's origin.
        origin: String,
    },
    /// The request's host name is unknown to the server, as in DNS rebinding.
    #[error(
        "this server is not known as {host}; allow the host {host} as it is started, or ask for API keys"
    )]
    ForeignHost {
        /// The name.
        host: String,
    },
    /// The requested object does not exist.
    #[error("{what} is not known here")]
    NotFound {
        /// The object.
        what: String,
    },
    /// The path does not exist, but a similar one does.
    #[error("there is no such path here; did you mean {meant}?")]
    NearMiss {
        /// The similar path.
        meant: String,
    },
    /// The path is another server's, and the server was not told to answer it.
    #[error(
        "this path is another Chatterbox server's; the option compat answers it with the value chatterbox"
    )]
    OtherServersPath,
    /// The path exists, but not with this method.
    #[error("this path does not take that method")]
    Method,
    /// The queue is full, the wait for a place timed out, or the caller exceeds its rate.
    #[error("{reason}; try again in {} s", retry_after.as_secs().max(1))]
    TooMany {
        /// The exhausted limit.
        reason: String,
        /// When to retry.
        retry_after: Duration,
    },
    /// The model does not fit the requested budget.
    #[error(transparent)]
    DoesNotFit(sottovoce::Error),
    /// The call would end running streams.
    #[error("{live} streams are under way; wait for them or send \"force\": true")]
    InUse {
        /// Number of running streams.
        live: usize,
    },
    /// A model is being fetched, and another one was asked for.
    #[error("{name} is on its way; wait for it, or cancel it")]
    Fetching {
        /// The model under way.
        name: &'static str,
    },
    /// A WebSocket was idle for too long.
    #[error("nothing was said for {seconds} s")]
    Idle {
        /// The limit.
        seconds: u64,
    },
    /// The reader was too slow to take a chunk.
    #[error("the sound was not read in time; its stream was ended")]
    SlowReader,
    /// The server has started, and its model is still being loaded.
    #[error("the model is being loaded; try again in 2 s")]
    Loading,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// The server cannot listen on the address.
    #[error("cannot listen on {address}: {source}; choose another address or port")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// A background task ended without a result.
    #[error("a task of the server ended early; the request was not carried out")]
    Task,
}

/// OpenAI's error shape.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    pub(crate) error: ErrorDetail,
}

/// An error in OpenAI's format.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorDetail {
    /// The message.
    message: String,
    /// A class of errors, such as `invalid_request_error`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The invalid field.
    param: Option<String>,
    /// A machine-readable code.
    pub(crate) code: Option<&'static str>,
}

impl ServerError {
    /// Status, and OpenAI's type and code.
    fn row(&self) -> (StatusCode, &'static str, Option<&'static str>) {
        const INVALID: &str = "invalid_request_error";
        match self {
            Self::Engine(error) if error.retry_after().is_some() => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                Some("streams_full"),
            ),
            Self::Engine(error) if error.is_input() => (StatusCode::BAD_REQUEST, INVALID, None),
            Self::Encoding(error) if error.is_input() => (StatusCode::BAD_REQUEST, INVALID, None),
            Self::Engine(sottovoce::Error::Stopped) | Self::Stopping => (
                StatusCode::SERVICE_UNAVAILABLE,
                "server_error",
                Some("stopping"),
            ),
            Self::Loading => (
                StatusCode::SERVICE_UNAVAILABLE,
                "server_error",
                Some("loading"),
            ),
            Self::Parameter { .. } | Self::Field { .. } => (StatusCode::BAD_REQUEST, INVALID, None),
            Self::Body { status, .. } => (*status, INVALID, None),
            Self::Hub(_) => (StatusCode::BAD_GATEWAY, "server_error", Some("hub")),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, INVALID, Some("invalid_api_key")),
            Self::NotAdministrator | Self::SettingsLocked => (
                StatusCode::FORBIDDEN,
                INVALID,
                Some("insufficient_permissions"),
            ),
            Self::Overloaded { status, .. } => {
                (*status, "rate_limit_error", Some("too_many_connections"))
            }
            Self::ForeignOrigin { .. } => (StatusCode::FORBIDDEN, INVALID, Some("foreign_origin")),
            Self::ForeignHost { .. } => (StatusCode::FORBIDDEN, INVALID, Some("foreign_host")),
            Self::Idle { .. } => (StatusCode::REQUEST_TIMEOUT, INVALID, Some("idle")),
            Self::SlowReader => (StatusCode::REQUEST_TIMEOUT, INVALID, Some("slow_reader")),
            Self::NotFound { .. } | Self::NearMiss { .. } | Self::OtherServersPath => {
                (StatusCode::NOT_FOUND, INVALID, Some("not_found"))
            }
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, INVALID, None),
            Self::TooMany { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                Some("rate_limit_exceeded"),
            ),
            Self::DoesNotFit(_) => (StatusCode::CONFLICT, INVALID, Some("does_not_fit")),
            Self::InUse { .. } => (StatusCode::CONFLICT, INVALID, Some("in_use")),
            Self::Fetching { .. } => (StatusCode::CONFLICT, INVALID, Some("fetching")),
            Self::Engine(_)
            | Self::Encoding(_)
            | Self::Listen { .. }
            | Self::Setting { .. }
            | Self::Task => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", None),
        }
    }

    /// The response status.
    pub(crate) fn status(&self) -> StatusCode {
        self.row().0
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooMany { retry_after, .. } => Some(*retry_after),
            Self::Overloaded { .. } => Some(Duration::from_secs(1)),
            Self::Loading => Some(Duration::from_secs(2)),
            Self::Engine(error) => error.retry_after(),
            _ => None,
        }
    }

    fn parameter(&self) -> Option<String> {
        match self {
            Self::Parameter { parameter, .. } => Some((*parameter).to_owned()),
            Self::Field { field, .. } => Some(field.clone()),
            Self::Engine(sottovoce::Error::Option { option, .. }) => Some((*option).to_owned()),
            Self::Encoding(error) if error.is_input() => Some("response_format".into()),
            Self::Engine(sottovoce::Error::Text { .. }) => Some("input".into()),
            Self::Engine(sottovoce::Error::Recording { .. }) => Some("file".into()),
            Self::Engine(sottovoce::Error::Voice { .. }) => Some("voice".into()),
            _ => None,
        }
    }

    /// The message for a caller, who is not told where files of the server are.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Engine(sottovoce::Error::File { source, .. }) => format!(
                "a file or folder of this server cannot be used: {}; the server's log names it",
                source.kind()
            ),
            error => error.to_string(),
        }
    }

    /// The error in OpenAI's format.
    pub(crate) fn body(&self) -> ErrorBody {
        let (_, kind, code) = self.row();
        ErrorBody {
            error: ErrorDetail {
                message: self.message(),
                kind,
                param: self.parameter(),
                code,
            },
        }
    }
}

impl IntoResponse for ServerError {
    fn into_response(self) -> Response {
        let (status, _, _) = self.row();
        let retry_after = self.retry_after();
        if status.is_server_error() {
            tracing::warn!(%status, error = %self, "a request failed");
        }
        let mut response = (status, Json(self.body())).into_response();
        if let Some(wait) = retry_after {
            let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_not_told_where_files_of_the_server_are() {
        let error = ServerError::Engine(sottovoce::Error::File {
            path: "/srv/secret/voices".into(),
            source: std::io::ErrorKind::PermissionDenied.into(),
        });
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let told = serde_json::to_string(&error.body()).unwrap();
        assert!(
            !told.contains("secret") && told.contains("permission denied"),
            "{told}"
        );
        assert!(error.to_string().contains("secret"), "the log names it");
    }
}
