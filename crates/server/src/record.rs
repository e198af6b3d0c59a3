//! Record of a request: its id, its log line, and its metrics.

use crate::app::App;
use crate::callers::CallerConnection;
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Header with a request's id, in requests and responses.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id accepted from a caller.
const ID_BYTES_MAX: usize = 128;
/// Proxies' status for a caller that left before the response began.
const CALLER_LEFT: u16 = 499;

/// A request from its headers to the last byte of its response, or to the end of its WebSocket.
/// Dropping the last reference writes its log line, which contains neither text nor key.
pub(crate) struct RequestRecord {
    app: Arc<App>,
    id: HeaderValue,
    method: Method,
    route: String,
    received: Instant,
    status: AtomicU16,
    first_audio: OnceLock<Duration>,
    whole: AtomicBool,
    /// The caller's share of the connections, if a proxy's connection does not identify the caller.
    connection: OnceLock<CallerConnection>,
}

impl RequestRecord {
    /// The id, as in the response header.
    pub(crate) fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// Records the first samples; later calls have no effect.
    pub(crate) fn first_audio(&self) {
        let _ = self.first_audio.set(self.received.elapsed());
    }

    /// Keeps the caller's share of the connections while the request lasts.
    pub(crate) fn hold(&self, connection: CallerConnection) {
        let _ = self.connection.set(connection);
    }

    /// Records that the response or conversation ended normally.
    pub(crate) fn finish(&self) {
        self.whole.store(true, Ordering::Release);
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        self.app.request_ended();
        let first_audio = self.first_audio.get().map(Duration::as_secs_f64);
        let status = *self.status.get_mut();
        let outcome = if *self.whole.get_mut() {
            "whole"
        } else {
            "cut off"
        };
        let seconds = self.received.elapsed().as_secs_f64();
        tracing::info!(
            id = self.id(),
            method = %self.method,
            route = self.route,
            status,
            outcome,
            first_audio,
            seconds,
            "request"
        );
    }
}

/// Gives each request an id, counts its answer by route, and keeps its record until the answer has
/// left. A path is the caller's choice and would make figures and log entries without end, so the
/// route stands for it.
pub(crate) async fn record(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get(&REQUEST_ID);
    let id = given
        .filter(|id| is_plain(id))
        .cloned()
        .unwrap_or_else(new_id);
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let record = Arc::new(RequestRecord {
        app: app.clone(),
        id: id.clone(),
        method: request.method().clone(),
        route,
        received: Instant::now(),
        status: AtomicU16::new(CALLER_LEFT),
        first_audio: OnceLock::new(),
        whole: AtomicBool::new(false),
        connection: OnceLock::new(),
    });
    request.extensions_mut().insert(record.clone());
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    record.status.store(status, Ordering::Release);
    app.metrics.request(&record.route, status);
    response.headers_mut().insert(REQUEST_ID, id);
    response.map(|body| Body::new(RecordedBody { body, record }))
}

fn is_plain(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    (1..=ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

fn new_id() -> HeaderValue {
    let id = format!("req_{:032x}", fastrand::u128(..));
    HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("req_unknown"))
}

/// A response body that keeps the request's record alive.
struct RecordedBody {
    body: Body,
    record: Arc<RequestRecord>,
}

impl HttpBody for RecordedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None) = frame {
            self.record.finish();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RecordedBody {
    fn drop(&mut self) {
        // An upgraded connection has no body; its end is the conversation's end.
        let switched = self.record.status.load(Ordering::Acquire) == 101;
        if self.body.is_end_stream() && !switched {
            self.record.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_when_it_is_short_and_plain() {
        for (id, taken) in [
            ("abc-123", true),
            ("", false),
            ("with space", false),
            ("käse", false),
            (&"x".repeat(ID_BYTES_MAX), true),
            (&"x".repeat(ID_BYTES_MAX + 1), false),
        ] {
            let value = HeaderValue::from_bytes(id.as_bytes()).unwrap();
            assert_eq!(is_plain(&value), taken, "{id:?}");
        }
    }

    #[test]
    fn two_requests_have_two_ids() {
        assert_ne!(new_id(), new_id());
        assert!(is_plain(&new_id()));
    }
}
