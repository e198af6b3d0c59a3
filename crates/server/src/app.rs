//! The server's state and routes, without a socket.

use crate::bodies::BodyMemory;
use crate::callers::{CallerConnections, Rates};
use crate::error::ServerError;
use crate::guard::{Keys, guard};
use crate::history::History;
use crate::host::{Host, Loaded};
use crate::library::Library;
use crate::metrics::ServerMetrics;
use crate::nearest;
use crate::openapi;
use crate::options::ServerOptions;
use crate::record::{REQUEST_ID, record};
use crate::routes::compat;
use crate::routes::speech::{IGNORED, RATE, SEED, WARNINGS};
use crate::speaking::{Speaker, StreamLabels};
use crate::voices::{Voices, recorded_voice};
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware;
use sottovoce::Voice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, watch};
use tower_http::cors::{AllowHeaders, AllowOrigin, AllowPrivateNetwork, CorsLayer};

/// A server's state: model, voices, queue and metrics. Two apps in one process share nothing.
pub struct App {
    pub(crate) options: ServerOptions,
    pub(crate) host: Host,
    pub(crate) voices: Voices,
    /// Models that calls may choose.
    pub(crate) library: Arc<Library>,
    /// Memory over the last hour.
    pub(crate) history: History,
    pub(crate) keys: Keys,
    pub(crate) rates: Rates,
    /// Connections that may still be accepted.
    pub(crate) connection_places: Arc<Semaphore>,
    /// Connections per caller.
    pub(crate) connections: CallerConnections,
    /// Bytes of all request bodies.
    pub(crate) bodies: Arc<BodyMemory>,
    pub(crate) metrics: Arc<ServerMetrics>,
    pub(crate) labels: StreamLabels,
    /// Uploads that may still run.
    pub(crate) uploads: Arc<Semaphore>,
    /// Whether the server is stopping. Each open connection holds a receiver.
    stopping: watch::Sender<bool>,
    pub(crate) started_unix_seconds: u64,
    /// Number of ended requests and connections, whose memory can be returned to the system.
    ended: AtomicU64,
}

impl App {
    /// An app with these options. The model is loaded by [`App::load`] or by the first request.
    pub fn new(options: ServerOptions) -> Arc<App> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        let metrics = Arc::new(ServerMetrics::new());
        Arc::new(App {
            host: Host::new(&options, metrics.clone()),
            voices: Voices::new(&options),
            library: Arc::new(Library::new(&options)),
            history: History::default(),
            keys: Keys::new(&options),
            rates: Rates::new(options.limits.requests_per_minute),
            connection_places: Arc::new(Semaphore::new(options.limits.connections)),
            connections: CallerConnections::default(),
            bodies: BodyMemory::new(options.limits.bodies_bytes),
            metrics,
            labels: StreamLabels::default(),
            uploads: Arc::new(Semaphore::new(options.limits.uploads_max)),
            stopping: watch::Sender::new(false),
            started_unix_seconds: started.map_or(0, |since| since.as_secs()),
            ended: AtomicU64::new(0),
            options,
        })
    }

    /// Loads the model now, so that the first request does not wait for it.
    ///
    /// # Errors
    /// If the model cannot be loaded.
    pub async fn load(&self) -> Result<(), ServerError> {
        self.host.start().await
    }

    /// Announces that [`App::load`] follows: until it is done, requests that need the model are
    /// answered with 503 and `Retry-After`, and the server is not ready.
    pub fn expect_load(&self) {
        self.host.starts();
    }

    /// Most streams under way at once; `None` while the model is not loaded.
    pub fn streams_max(&self) -> Option<usize> {
        self.host.loaded().map(|loaded| loaded.engine.streams_max())
    }

    /// Refuses new work; running work goes on.
    pub fn stop(&self) {
        self.host.stop();
        self.stopping.send_replace(true);
    }

    /// Registers an open connection. The receiver tells it when the server stops.
    pub(crate) fn connection(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Completes when no connection is open.
    pub(crate) async fn connections_ended(&self) {
        self.stopping.closed().await;
    }

    /// Number of open connections.
    pub(crate) fn open_connections(&self) -> usize {
        let most = self.options.limits.connections;
        most.saturating_sub(self.connection_places.available_permits())
    }

    /// Counts an ended request or connection.
    pub(crate) fn request_ended(&self) {
        self.ended.fetch_add(1, Ordering::AcqRel);
    }

    /// Number of ended requests and connections.
    pub(crate) fn ended_requests(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    /// Unloads the model if it was idle for `idle`.
    pub(crate) async fn unload_when_idle(&self, idle: Duration) {
        // A stream that began in the meantime is no failure: the model stays loaded.
        if self.host.rests(idle) && self.host.unload(false).await.unwrap_or(false) {
            tracing::info!(idle_seconds = idle.as_secs(), "the model was unloaded");
        }
    }

    /// All routes, with their limits and guards.
    pub fn router(self: &Arc<App>) -> Router {
        let limits = &self.options.limits;
        let (routes, document) = openapi::routes(limits).split_for_parts();
        let paths: Arc<[String]> = document.paths.paths.into_keys().collect();
        let mut router = routes
            .merge(compat::routes(&self.options.compatibility, limits))
            .fallback(async move |State(app): State<Arc<App>>, uri: Uri| {
                nearest::refuse(&app.options, &paths, uri.path())
            })
            .method_not_allowed_fallback(|| async { ServerError::Method })
            .layer(DefaultBodyLimit::max(limits.body_bytes))
            .layer(middleware::from_fn_with_state(self.clone(), guard));
        if !self.options.allowed_origins.is_empty() {
            router = router.layer(cors(&self.options.allowed_origins));
        }
        router
            .layer(middleware::from_fn_with_state(self.clone(), record))
            .with_state(self.clone())
    }

    /// Prepares a voice, off the async threads.
    pub(crate) async fn voice(
        self: &Arc<App>,
        loaded: &Arc<Loaded>,
        speaker: &Speaker,
    ) -> Result<Voice, ServerError> {
        let (app, loaded, speaker) = (self.clone(), loaded.clone(), speaker.clone());
        tokio::task::spawn_blocking(move || match speaker {
            Speaker::Named(name) => app.voices.voice(&loaded, &name),
            Speaker::Recording(recording) => recorded_voice(&loaded, &recording.path, "recording"),
        })
        .await
        .map_err(|_| ServerError::Task)?
    }

    /// Adds the present memory figures to the history.
    pub(crate) fn sample_memory(&self) {
        let report = (self.host.loaded()).map(|loaded| loaded.engine.memory_report());
        let (loads, _) = self.host.load_counts();
        self.history.record(report.as_ref(), loads);
    }

    /// Metrics for Prometheus.
    pub(crate) fn figures(&self) -> String {
        self.metrics.render(self.host.loaded().as_deref())
    }
}

/// How long browsers may cache a permission.
const ALLOWED_FOR: Duration = Duration::from_secs(600);

/// CORS layer that admits pages of `origins`. OpenAI's clients send headers of their own, more with
/// each version, so every header is allowed: the origin is what is checked.
fn cors(origins: &[String]) -> CorsLayer {
    let allow = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(
            origins
                .iter()
                .filter_map(|origin| HeaderValue::from_str(origin).ok()),
        )
    };
    CorsLayer::new()
        .allow_origin(allow)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .allow_private_network(AllowPrivateNetwork::yes())
        .expose_headers([
            REQUEST_ID,
            IGNORED,
            WARNINGS,
            SEED,
            RATE,
            header::RETRY_AFTER,
        ])
        .max_age(ALLOWED_FOR)
}
