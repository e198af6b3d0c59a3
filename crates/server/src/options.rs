//! What whoever starts the server may choose.

use crate::aliases;
use crate::error::ServerError;
use crate::origins;
use ipnet::IpNet;
use sottovoce::{Engine, EngineOptions, Error, Source};
use sottovoce_hub::HubSettings;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Choices for a whole server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen; loopback unless told otherwise.
    pub address: SocketAddr,
    /// The model that speaks.
    pub source: Source,
    /// The name that `/v1/models` lists.
    pub model_name: String,
    /// Where calls may fetch further models from; none: nowhere.
    pub hub: Option<HubSettings>,
    /// How the model is loaded.
    pub engine: EngineOptions,
    /// What loads it.
    pub loader: Loader,
    /// Where voices are kept: those prepared on the command line, and those that calls bring.
    pub voices_directory: Option<PathBuf>,
    /// Whether calls may bring voices, take them away and set aliases.
    pub uploads: bool,
    /// Keys of which a request must carry one; none: every request is let in.
    pub api_keys: Vec<String>,
    /// Keys that may change how the server runs, and speak; none: every key may.
    pub admin_keys: Vec<String>,
    /// Whether calls may load, unload and reconfigure at all.
    pub remote_settings: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Further names of voices: an alias, and the voice that it stands for.
    pub voice_aliases: BTreeMap<String, String>,
    /// Origins of foreign pages that may call; none unless told otherwise.
    pub allowed_origins: Vec<String>,
    /// Names by which this server may be called, beside addresses and localhost; looked at only
    /// where no key is asked for.
    pub allowed_hosts: Vec<String>,
    /// Whether the figures for Prometheus can be read without a key.
    pub open_metrics: bool,
    /// Whether the lists of models and voices can be read without a key.
    pub open_lists: bool,
    /// Unload the model after so long without a request.
    pub idle_unload: Option<Duration>,
    /// Bounds on what callers may take.
    pub limits: Limits,
}

/// What makes an engine of a model. Programs that bring memory of their own replace it.
#[derive(Clone)]
pub struct Loader(Arc<LoadEngine>);

type LoadEngine = dyn Fn(Source, EngineOptions) -> Result<Engine, Error> + Send + Sync;

impl Loader {
    /// One that calls `load`, off the asynchronous threads.
    pub fn new(
        load: impl Fn(Source, EngineOptions) -> Result<Engine, Error> + Send + Sync + 'static,
    ) -> Loader {
        Loader(Arc::new(load))
    }

    pub(crate) fn load(&self, source: Source, options: EngineOptions) -> Result<Engine, Error> {
        (self.0)(source, options)
    }
}

impl Default for Loader {
    fn default() -> Loader {
        Loader::new(Engine::load)
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Loader")
    }
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            source: Source::Embedded,
            model_name: "pico".into(),
            hub: None,
            engine: EngineOptions::default(),
            loader: Loader::default(),
            voices_directory: None,
            uploads: true,
            api_keys: Vec::new(),
            admin_keys: Vec::new(),
            remote_settings: true,
            trusted_proxies: Vec::new(),
            voice_aliases: BTreeMap::new(),
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            open_metrics: false,
            open_lists: false,
            idle_unload: None,
            limits: Limits::default(),
        }
    }
}

impl ServerOptions {
    /// Refuses what can never work, before anything is loaded.
    ///
    /// # Errors
    /// An origin that no browser sends, or an alias that is no voice's name.
    pub fn check(&self) -> Result<(), ServerError> {
        for origin in &self.allowed_origins {
            origins::check(origin)?;
        }
        aliases::check(&self.voice_aliases)
    }
}

/// Bounds on what callers may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes in a request's body, uploads aside.
    pub body_bytes: usize,
    /// Bytes in an uploaded recording.
    pub clip_bytes: usize,
    /// Recordings that may be on their way together.
    pub uploads: usize,
    /// Characters in one text. OpenAI's own limit is 4,096; long reading needs more.
    pub text_characters: usize,
    /// Voices that may be kept.
    pub voices: usize,
    /// Bytes of request bodies held together, uploads aside.
    pub bodies_bytes: usize,
    /// Connections open together.
    pub connections: usize,
    /// Connections that one caller may hold.
    pub connections_per_caller: usize,
    /// Requests a minute from one caller.
    pub requests_per_minute: u32,
    /// Requests that may wait for a place.
    pub queue: usize,
    /// How long one may wait.
    pub queue_wait: Duration,
    /// How long a caller may take to send its head, and again its body.
    pub receive: Duration,
    /// How long it may take to send a recording.
    pub upload: Duration,
    /// How long a reader may leave a chunk untaken before its stream ends.
    pub slow_reader: Duration,
    /// How long a model that died may be missing before `/health/live` asks for a new process.
    pub broken: Duration,
    /// How long streams under way may go on after the server was told to stop.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes: 256 << 10,
            clip_bytes: 25 << 20,
            uploads: 2,
            text_characters: 20_000,
            voices: 1_000,
            bodies_bytes: 16 << 20,
            connections: 512,
            connections_per_caller: 256,
            requests_per_minute: 6_000,
            queue: 128,
            queue_wait: Duration::from_secs(60),
            receive: Duration::from_secs(10),
            upload: Duration::from_secs(60),
            slow_reader: Duration::from_secs(30),
            broken: Duration::from_secs(30),
            shutdown: Duration::from_secs(20),
        }
    }
}
