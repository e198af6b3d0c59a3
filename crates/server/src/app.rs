//! The server's state and routes, without a socket.

use crate::bodies::BodyMemory;
use crate::callers::{CallerConnections, Rates};
use crate::error::ServerError;
use crate::guard::{Keys, guard};
use crate::history::History;
use crate::host::{Host, Loaded};
use crate::library::Library;
use crate::measures::Measures;
use crate::openapi;
use crate::options::ServerOptions;
use crate::record::{REQUEST_ID, record};
use crate::routes::speech::{IGNORED, RATE, SEED};
use crate::speaking::LiveStreams;
use crate::voices::Voices;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Method, header};
use axum::middleware;
use sottovoce::Voice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, watch};
use tower_http::cors::{AllowHeaders, AllowOrigin, AllowPrivateNetwork, CorsLayer};

/// A server's state: the model, the voices, the queue and the figures. Two apps in one process
/// share nothing.
pub struct App {
    pub(crate) options: ServerOptions,
    pub(crate) host: Host,
    pub(crate) voices: Voices,
    /// The models that calls may choose.
    pub(crate) library: Arc<Library>,
    /// The memory of the last hour.
    pub(crate) history: History,
    pub(crate) keys: Keys,
    pub(crate) rates: Rates,
    /// Connections that may still be opened.
    pub(crate) connection_places: Arc<Semaphore>,
    /// Connections that each caller holds.
    pub(crate) connections: CallerConnections,
    /// Bytes of the bodies that are held.
    pub(crate) bodies: Arc<BodyMemory>,
    pub(crate) measures: Measures,
    pub(crate) streams: LiveStreams,
    /// Recordings that may still be taken in together.
    pub(crate) uploads: Semaphore,
    /// Whether the server stops; each connection holds a receiver as long as it is open.
    stopping: watch::Sender<bool>,
    pub(crate) started_unix_seconds: u64,
    /// Requests and connections that have ended; what they needed can go back to the system.
    ended: AtomicU64,
}

impl App {
    /// An app for these options; the model is loaded by the first request, or by [`App::load`].
    pub fn new(options: ServerOptions) -> Arc<App> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        Arc::new(App {
            host: Host::new(&options),
            voices: Voices::new(&options),
            library: Arc::new(Library::new(&options)),
            history: History::default(),
            keys: Keys::new(&options),
            rates: Rates::new(options.limits.requests_per_minute),
            connection_places: Arc::new(Semaphore::new(options.limits.connections)),
            connections: CallerConnections::default(),
            bodies: BodyMemory::new(options.limits.bodies_bytes),
            measures: Measures::new(),
            streams: LiveStreams::default(),
            uploads: Semaphore::new(options.limits.uploads_max),
            stopping: watch::Sender::new(false),
            started_unix_seconds: started.map_or(0, |since| since.as_secs()),
            ended: AtomicU64::new(0),
            options,
        })
    }

    /// Loads the model now, so that the first request need not wait.
    pub async fn load(&self) -> Result<(), ServerError> {
        self.host.load().await.map(|_| ())
    }

    /// Streams that may be under way together; none while the model is not loaded.
    pub fn streams_max(&self) -> Option<usize> {
        self.host.loaded().map(|loaded| loaded.engine.streams_max())
    }

    /// Refuses new work from now on; what is under way goes on.
    pub fn stop(&self) {
        self.host.stop();
        self.stopping.send_replace(true);
    }

    /// Tells a connection when the server stops, and the server that the connection is open.
    pub(crate) fn connection(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Completes when no connection is open.
    pub(crate) async fn connections_ended(&self) {
        self.stopping.closed().await;
    }

    /// Connections that are open.
    pub(crate) fn open_connections(&self) -> usize {
        let most = self.options.limits.connections;
        most.saturating_sub(self.connection_places.available_permits())
    }

    /// A request or a connection has ended.
    pub(crate) fn request_ended(&self) {
        self.ended.fetch_add(1, Ordering::AcqRel);
    }

    /// Requests and connections that have ended so far.
    pub(crate) fn ended_requests(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    /// Unloads a model that nobody has used for `idle`.
    pub(crate) async fn unload_when_idle(&self, idle: Duration) {
        // A stream that began in the meantime is no failure: the model stays loaded.
        if self.host.rests(idle) && self.host.unload(false).await.unwrap_or(false) {
            tracing::info!(idle_seconds = idle.as_secs(), "the model was unloaded");
        }
    }

    /// Every path, with its limits and guards.
    pub fn router(self: &Arc<App>) -> Router {
        let limits = &self.options.limits;
        let (routes, _) = openapi::routes(limits).split_for_parts();
        let mut router = routes
            .fallback(|| async {
                ServerError::NotFound {
                    what: "this path".into(),
                }
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

    /// The voice of that name, made ready off the asynchronous threads.
    pub(crate) async fn voice(
        self: &Arc<App>,
        loaded: &Arc<Loaded>,
        name: &str,
    ) -> Result<Voice, ServerError> {
        let (app, loaded, name) = (self.clone(), loaded.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || app.voices.voice(&loaded, &name))
            .await
            .map_err(|_| ServerError::Task)?
    }

    /// Notes how the memory stands now, for the history.
    pub(crate) fn sample_memory(&self) {
        let report = (self.host.loaded()).map(|loaded| loaded.engine.memory_report());
        let (loads, _) = self.host.load_counts();
        self.history.record(report.as_ref(), loads);
    }

    /// The figures for Prometheus.
    pub(crate) fn figures(&self) -> String {
        let loaded = self.host.loaded();
        let (loads, _) = self.host.load_counts();
        let engine = loaded.as_ref().map(|loaded| &loaded.engine);
        self.measures.render(loads, engine)
    }
}

/// How long a browser may keep what it was allowed.
const ALLOWED_FOR: Duration = Duration::from_secs(600);

/// Lets pages of `origins` call. OpenAI's clients send headers of their own, more with each
/// version, so every header may come: the origin is what is checked.
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
        .expose_headers([REQUEST_ID, IGNORED, SEED, RATE, header::RETRY_AFTER])
        .max_age(ALLOWED_FOR)
}
