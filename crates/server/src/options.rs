//! Options of the server.

use crate::aliases;
use crate::error::ServerError;
use crate::origins;
use crate::wyoming;
use ipnet::IpNet;
use sottovoce::options::Domain;
use sottovoce::{Engine, EngineOptions, Error, Source, TEXT_CHARACTERS_MAX};
use sottovoce_audio::AudioFormat;
use sottovoce_hub::HubSettings;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Options of a server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Address to listen on; the default is loopback.
    pub address: SocketAddr,
    /// Address at which the Wyoming protocol is served, which has no keys; the default is none.
    pub wyoming: Option<SocketAddr>,
    /// Name under which the Wyoming service is announced to the local network; the default is none.
    pub announce: Option<String>,
    /// Source of the model.
    pub source: Source,
    /// Name of the model in `/v1/models`.
    pub model_name: String,
    /// Hub for downloads of further models; `None` disables them.
    pub hub: Option<HubSettings>,
    /// Options with which the model is loaded.
    pub engine: EngineOptions,
    /// Function that loads the model.
    pub loader: EngineLoader,
    /// Folder of voices, both prepared on the command line and uploaded.
    pub voices_directory: Option<PathBuf>,
    /// Whether calls may upload and delete voices and set aliases.
    pub uploads: bool,
    /// Accepted API keys; if there are none, every request is accepted.
    pub api_keys: Vec<String>,
    /// Keys that may change settings and speak; if empty, every key may.
    pub admin_keys: Vec<String>,
    /// Whether calls may load, unload and reconfigure the model.
    pub remote_settings: bool,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Aliases of voices: alias → voice.
    pub voice_aliases: BTreeMap<String, String>,
    /// Other servers whose paths are answered too.
    pub compatibility: Vec<Compatibility>,
    /// Origins of foreign pages that may call; the default is none.
    pub allowed_origins: Vec<String>,
    /// Host names of this server in addition to addresses and localhost. Checked only if no key is
    /// required.
    pub allowed_hosts: Vec<String>,
    /// Whether metrics can be read without a key.
    pub open_metrics: bool,
    /// Whether the lists of models and voices can be read without a key.
    pub open_lists: bool,
    /// Idle time after which the model is unloaded.
    pub idle_unload: Option<Duration>,
    /// Limits on callers.
    pub limits: Limits,
}

/// Servers whose paths are answered in addition, so that their clients work unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// The two Chatterbox servers in use: `devnen/Chatterbox-TTS-Server` and
    /// `travisvn/chatterbox-tts-api`.
    Chatterbox,
}

impl FromStr for Compatibility {
    type Err = String;

    fn from_str(name: &str) -> Result<Compatibility, String> {
        match name {
            "chatterbox" => Ok(Compatibility::Chatterbox),
            _ => Err(format!("{name:?} is not known; use chatterbox")),
        }
    }
}

/// Loads an engine for a model. Programs with memory of their own replace it.
#[derive(Clone)]
pub struct EngineLoader(Arc<LoadEngine>);

type LoadEngine = dyn Fn(Source, EngineOptions) -> Result<Engine, Error> + Send + Sync;

impl EngineLoader {
    /// A loader that calls `load` off the async threads.
    pub fn new(
        load: impl Fn(Source, EngineOptions) -> Result<Engine, Error> + Send + Sync + 'static,
    ) -> EngineLoader {
        EngineLoader(Arc::new(load))
    }

    pub(crate) fn load(&self, source: Source, options: EngineOptions) -> Result<Engine, Error> {
        (self.0)(source, options)
    }
}

impl Default for EngineLoader {
    fn default() -> EngineLoader {
        EngineLoader::new(Engine::load)
    }
}

impl fmt::Debug for EngineLoader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EngineLoader")
    }
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            wyoming: None,
            announce: None,
            source: Source::Embedded,
            model_name: "pico".into(),
            hub: None,
            engine: EngineOptions::default(),
            loader: EngineLoader::default(),
            voices_directory: None,
            uploads: true,
            api_keys: Vec::new(),
            admin_keys: Vec::new(),
            remote_settings: true,
            trusted_proxies: Vec::new(),
            voice_aliases: BTreeMap::new(),
            compatibility: Vec::new(),
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
    /// Refuses options that cannot work, before anything is loaded.
    ///
    /// # Errors
    /// An origin that no browser sends, an alias that is no valid voice name, or an announcement of
    /// a service that is not served.
    pub fn check(&self) -> Result<(), ServerError> {
        for origin in &self.allowed_origins {
            origins::check(origin)?;
        }
        if let Some(name) = &self.announce {
            wyoming::check_name(name)?;
            if self.wyoming.is_none() {
                return Err(ServerError::Setting {
                    option: "announce",
                    value: format!("{name:?}"),
                    reason: "what is announced is the Wyoming service: serve it too".into(),
                });
            }
        }
        aliases::check(&self.voice_aliases)
    }

    /// Whether the paths of `other` are answered.
    pub(crate) fn answers_like(&self, other: Compatibility) -> bool {
        self.compatibility.contains(&other)
    }

    /// Format of speech whose request names none: OpenAI's, or that of the Chatterbox servers.
    pub(crate) fn default_format(&self) -> AudioFormat {
        match self.answers_like(Compatibility::Chatterbox) {
            true => AudioFormat::Wav,
            false => AudioFormat::Mp3,
        }
    }
}

impl Limits {
    /// Most bytes of a form with recordings.
    pub(crate) fn form_bytes(&self) -> usize {
        /// Bytes allowed in addition to the recordings and the texts.
        const FRAME_BYTES: usize = 64 << 10;
        let parts = self.clip_bytes.saturating_add(self.body_bytes);
        parts.saturating_add(FRAME_BYTES)
    }
}

/// One day: the longest time of any limit.
const DAY_SECONDS: f32 = 86_400.0;
/// Any time up to a day.
const TIME: Domain = Domain::number(0.0, DAY_SECONDS);
/// Any positive number.
const SOME: Domain = Domain::count(1, 1 << 20);

sottovoce::options! {
    /// Limits on what callers may use.
    pub struct Limits {
        /// Requests that may wait for a place.
        queue: usize = 128, domain Domain::count(0, 1 << 20), scope Server, unit "requests";
        /// How long a request may wait for a place.
        queue_wait: Duration = Duration::from_secs(60), domain TIME, scope Server, unit "seconds";
        /// Longest text of a request. OpenAI's own limit is 4096; long reading needs more.
        text_characters: usize = 20_000,
            domain Domain::count(1, TEXT_CHARACTERS_MAX as u64), scope Server, unit "characters";
        /// Requests a minute from one address.
        requests_per_minute: u32 = 6_000,
            domain Domain::count(1, u32::MAX as u64), scope Server, unit "requests";
        /// Connections open together.
        connections: usize = 512, domain SOME, scope Server, unit "connections";
        /// Connections that one address may hold.
        connections_per_caller: usize = 256, domain SOME, scope Server, unit "connections";
        /// Largest body of a request, recordings aside.
        body_bytes: usize = 256 << 10, domain Domain::Bytes, scope Server;
        /// Bodies of all requests together, recordings aside.
        bodies_bytes: usize = 16 << 20, domain Domain::Bytes, scope Server;
        /// Largest recording that is taken.
        clip_bytes: usize = 25 << 20, domain Domain::Bytes, scope Server;
        /// Recordings that may be on their way together.
        uploads_max: usize = 2, domain SOME, scope Server, unit "recordings";
        /// Voices that are kept.
        voices_max: usize = 1_000, domain Domain::count(0, 1 << 20), scope Server, unit "voices";
        /// How long a caller may take to send a request's head, and again its body.
        receive_time: Duration = Duration::from_secs(10),
            domain TIME, scope Server, unit "seconds";
        /// How long a caller may take to send a recording.
        upload_time: Duration = Duration::from_secs(60), domain TIME, scope Server, unit "seconds";
        /// How long a reader may leave a chunk untaken before its stream ends.
        slow_reader_time: Duration = Duration::from_secs(30),
            domain TIME, scope Server, unit "seconds";
        /// How long a model that died may be missing before `/health/live` asks for a new process.
        broken_time: Duration = Duration::from_secs(30),
            domain TIME, scope Server, unit "seconds";
        /// How long streams under way may go on after the server was told to stop.
        shutdown_time: Duration = Duration::from_secs(20),
            domain TIME, scope Server, unit "seconds";
    }
}
