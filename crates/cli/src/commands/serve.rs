//! `sottovoce serve`: the HTTP and WebSocket server with its web page.

use super::Outcome;
use crate::environment;
use crate::options::{Chosen, EngineChoice, ForLimits, ForServer};
use crate::output::log::{LogFormat, LogLevel, start_log};
use crate::output::print::{note, output};
use sottovoce::Source;
use sottovoce_server::{
    Addresses, App, Compatibility, EngineLoader, IpNet, ServerOptions, openapi_document,
    parse_network, serve,
};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Timeout of a probe.
const PROBE_MAX: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Examples:
  sottovoce serve
  sottovoce serve --port 8880 --memory 1GiB --streams 8 --voices /srv/voices
  sottovoce serve --wyoming 0.0.0.0:10200 --announce kitchen
  sottovoce serve --compat chatterbox --port 8004
  sottovoce serve --model nano --address 0.0.0.0 --api-key-file /run/secrets/key
  curl localhost:8000/v1/audio/speech -H 'Content-Type: application/json' -d '{\"input\":\"Hello.\"}' -o hello.mp3";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Address to listen on; any other than loopback can be reached from the network.
    #[arg(long, default_value = "127.0.0.1")]
    address: IpAddr,
    /// Port to listen on; 0 chooses a free one.
    #[arg(long, default_value_t = 8000, value_parser = parse_port, allow_negative_numbers = true)]
    port: u16,
    /// Also serve Wyoming, the protocol of Home Assistant's voice services, at this port or address
    /// and port, such as 10200 or 0.0.0.0:10200. It has no authentication.
    #[arg(long, value_name = "[ADDRESS:]PORT", allow_negative_numbers = true, value_parser = parse_listener)]
    wyoming: Option<Listener>,
    /// Announce the Wyoming service to the local network under this name (mDNS), so that Home
    /// Assistant finds it.
    #[arg(long, value_name = "NAME", requires = "wyoming")]
    announce: Option<String>,
    #[command(flatten)]
    engine: EngineChoice<ForServer>,
    /// Folder for uploaded voices; replicas may share it. Without it, voices prepared with `voice
    /// prepare` can be used, and uploads are refused.
    #[arg(long, value_name = "FOLDER")]
    voices: Option<PathBuf>,
    /// File with one API key per line; requests must then send one of them.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// File with one key per line that may also load, unload and reconfigure the model; other keys
    /// may then only speak.
    #[arg(long, value_name = "FILE")]
    admin_key_file: Option<PathBuf>,
    /// Refuse calls that load, unload or reconfigure the model.
    #[arg(long)]
    no_remote_settings: bool,
    /// Address or network of a proxy whose X-Forwarded-For is trusted, such as 10.0.0.0/8; may be
    /// repeated.
    #[arg(long = "trusted-proxy", value_name = "NETWORK", value_parser = parse_network)]
    trusted_proxies: Vec<IpNet>,
    /// Further name of a voice, for clients with a fixed list of names, such as alloy=me; may be
    /// repeated.
    #[arg(long = "voice-alias", value_name = "ALIAS=VOICE", value_parser = parse_alias)]
    voice_aliases: Vec<(String, String)>,
    /// Also answer the paths of other servers, so that their clients work unchanged: `chatterbox`
    /// for devnen/Chatterbox-TTS-Server and travisvn/chatterbox-tts-api.
    #[arg(long = "compat", value_name = "SERVERS")]
    compatibility: Vec<Compatibility>,
    /// Origin of a foreign page that may call, such as https://app.example; may be repeated.
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    allowed_origins: Vec<String>,
    /// Host name under which clients may call this server, beside addresses and localhost; needed
    /// only without keys; may be repeated.
    #[arg(long = "allow-host", value_name = "NAME")]
    allowed_hosts: Vec<String>,
    /// Allow reading the metrics for Prometheus without a key.
    #[arg(long)]
    open_metrics: bool,
    /// Allow reading the lists of models and voices without a key.
    #[arg(long)]
    open_lists: bool,
    /// Minutes without a request after which the model is unloaded.
    #[arg(long, value_name = "MINUTES", allow_negative_numbers = true)]
    idle_unload: Option<f64>,
    #[command(flatten)]
    limits: Chosen<ForLimits>,
    /// Level of the log on standard error. With info, one line per request, never with a text or a
    /// key.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LogLevel,
    /// Format of the log.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Load the model with the first request instead of at the start.
    #[arg(long)]
    lazy: bool,
    /// Print one JSON object with the address once the server accepts requests.
    #[arg(long)]
    json: bool,
    /// Probe a running server at this address, such as http://127.0.0.1:8000/health/ready; for
    /// images without curl.
    #[arg(long, value_name = "URL")]
    probe: Option<String>,
    /// Print the OpenAPI document and exit.
    #[arg(long)]
    openapi: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    if arguments.openapi {
        let limits = arguments.limits.options();
        writeln!(output(), "{}", openapi_document(&limits).to_pretty_json()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(url) = &arguments.probe {
        return probe(url);
    }
    start_log(arguments.log_level, arguments.log_format);
    let json = arguments.json;
    let lazy = arguments.lazy;
    let options = options(arguments)?;
    options.check()?;
    let model = options.model_name.clone();
    let app = App::new(options);
    if !lazy {
        app.expect_load();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let address = Cell::new(None);
        let listening = |bound| {
            address.set(Some(bound));
            match (json, lazy) {
                (true, true) => announce_ready(bound, None, json),
                (true, false) => {}
                (false, true) => announce(bound, "the model loads with the first request"),
                (false, false) => announce(bound, &format!("{model} is being loaded")),
            }
        };
        let serving = serve(app.clone(), listening, stopped());
        tokio::pin!(serving);
        if !lazy {
            // The port is open from the first poll on, and the model is loaded meanwhile.
            tokio::select! {
                biased;
                served = &mut serving => return served,
                loaded = app.load() => loaded?,
            }
            if let Some(address) = address.get() {
                announce_ready(address, app.streams_max(), json);
            }
        }
        serving.await
    });
    // A reader thread that is blocked in the system must not delay the exit.
    runtime.shutdown_timeout(Duration::from_secs(5));
    served?;
    Ok(ExitCode::SUCCESS)
}

fn options(arguments: Arguments) -> Result<ServerOptions, Box<dyn std::error::Error>> {
    let keys = |file: &Option<PathBuf>| file.as_deref().map_or(Ok(Vec::new()), read_keys);
    let api_keys = keys(&arguments.api_key_file)?;
    let admin_keys = keys(&arguments.admin_key_file)?;
    if let Some(folder) = &arguments.voices {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let idle_unload = match arguments.idle_unload {
        None => None,
        Some(minutes) => Some(
            Duration::try_from_secs_f64(minutes * 60.0)
                .ok()
                .filter(|idle| !idle.is_zero())
                .ok_or("--idle-unload: give a number of minutes above 0")?,
        ),
    };
    let source = arguments.engine.source()?;
    let named_folder = match &source {
        Source::Directory(folder) if folder == Path::new(&arguments.engine.model) => {
            folder.file_name()
        }
        _ => None,
    };
    let model_name = named_folder.map(|name| name.to_string_lossy().into_owned());
    Ok(ServerOptions {
        address: SocketAddr::new(arguments.address, arguments.port),
        wyoming: arguments.wyoming.map(|listener| match listener {
            Listener::Port(port) => SocketAddr::new(arguments.address, port),
            Listener::Address(address) => address,
        }),
        announce: arguments.announce,
        source,
        model_name: model_name.unwrap_or_else(|| arguments.engine.model.clone()),
        hub: Some(environment::hub_settings()),
        engine: arguments.engine.options(),
        loader: EngineLoader::default(),
        uploads: arguments.voices.is_some(),
        voices_directory: Some(arguments.voices.unwrap_or_else(environment::voices_folder)),
        api_keys,
        admin_keys,
        remote_settings: !arguments.no_remote_settings,
        trusted_proxies: arguments.trusted_proxies,
        compatibility: arguments.compatibility,
        voice_aliases: arguments.voice_aliases.into_iter().collect(),
        allowed_origins: arguments.allowed_origins,
        allowed_hosts: arguments.allowed_hosts,
        open_metrics: arguments.open_metrics,
        open_lists: arguments.open_lists,
        idle_unload,
        limits: arguments.limits.options(),
    })
}

/// The keys in a file, one per line. Empty lines, lines that begin with `#` and a byte order mark
/// are skipped.
fn read_keys(path: &Path) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let failed = |reason: String| format!("{}: {reason}", path.display());
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| failed("it is not UTF-8; write it again in UTF-8".into()))?;
    let keys: Vec<String> = text
        .trim_start_matches('\u{feff}')
        .lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    if keys.is_empty() {
        return Err(failed("there is no key in it; write one a line".into()).into());
    }
    // A key that is not valid in a header could never match.
    let sendable = |key: &String| key.bytes().all(|byte| byte.is_ascii_graphic());
    match keys.iter().position(|key| !sendable(key)) {
        None => Ok(keys),
        Some(index) => {
            let reason = format!(
                "key {} of it has a space or a sign beyond ASCII, which no request can carry",
                index + 1
            );
            Err(failed(reason).into())
        }
    }
}

/// Reads `ALIAS=VOICE`.
fn parse_alias(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((alias, voice)) if !alias.is_empty() && !voice.is_empty() => {
            Ok((alias.to_owned(), voice.to_owned()))
        }
        _ => Err("write ALIAS=VOICE, such as alloy=me".into()),
    }
}

/// Prints a note that the ports are open.
fn announce(addresses: Addresses, loads: &str) {
    let Addresses { http, wyoming } = addresses;
    note!("listening on http://{http}; {loads}");
    if !http.ip().is_loopback() {
        note!("others can reach this address: give --api-key-file where not everyone may speak");
    }
    if let Some(wyoming) = wyoming {
        note!("listening for Wyoming on tcp://{wyoming}, where no key is asked for");
    }
}

/// Prints a note that requests are accepted.
fn announce_ready(addresses: Addresses, streams: Option<usize>, json: bool) {
    if json {
        let Addresses { http, wyoming } = addresses;
        let mut line = serde_json::json!({"address": http.to_string(), "streams_max": streams});
        if let Some(wyoming) = wyoming {
            line["wyoming_address"] = wyoming.to_string().into();
        }
        // The server keeps running after the program that started it has closed the pipe.
        let _ = writeln!(output(), "{line}");
    } else if let Some(streams) = streams {
        note!("ready; streams that fit: {streams}");
    }
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    text.parse().map_err(|_| "use a port from 0 to 65535")
}

/// Reads `PORT` or `ADDRESS:PORT`.
fn parse_listener(text: &str) -> Result<Listener, String> {
    let port = text.parse().map(Listener::Port);
    port.or_else(|_| text.parse().map(Listener::Address))
        .map_err(|_| {
            "write a port, such as 10200, or an address and a port, such as 0.0.0.0:10200".into()
        })
}

/// Where a further service listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    /// At the port, on the server's own address.
    Port(u16),
    Address(SocketAddr),
}

/// Succeeds if the server answers with status 200.
fn probe(url: &str) -> Outcome {
    let authority_and_path = url
        .strip_prefix("http://")
        .ok_or("--probe: give an http:// address")?;
    let (authority, path) = authority_and_path
        .split_once('/')
        .unwrap_or((authority_and_path, ""));
    let mut socket =
        TcpStream::connect(authority).map_err(|error| format!("{authority}: {error}"))?;
    socket.set_read_timeout(Some(PROBE_MAX))?;
    write!(
        socket,
        "GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    )?;
    let mut head = [0; 12];
    socket.read_exact(&mut head)?;
    let well = &head[..] == b"HTTP/1.1 200";
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Completes on Ctrl-C or a request to terminate.
async fn stopped() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Result<Vec<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read_keys(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_file_may_have_a_mark_comments_and_empty_lines() {
        let file = b"\xef\xbb\xbf# for the office\r\n one \r\n\r\n#two\nthree";
        assert_eq!(keys(file).unwrap(), ["one", "three"]);
    }

    #[test]
    fn a_key_file_without_a_usable_key_is_refused_and_shows_none() {
        for (bytes, words) in [
            (&b""[..], "no key"),
            (b"# only this\n", "no key"),
            (b"\xff\xfeo\0n\0e\0", "UTF-8"),
            (b"fine\nmy secret\n", "key 2"),
            ("schl\u{fc}ssel".as_bytes(), "key 1"),
        ] {
            let refusal = keys(bytes).unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
            assert!(!refusal.contains("secret"), "{refusal}");
        }
    }

    #[test]
    fn a_further_service_has_a_port_or_an_address_and_a_port() {
        let address = "[::1]:10200".parse().unwrap();
        assert_eq!(parse_listener("10200"), Ok(Listener::Port(10_200)));
        assert_eq!(
            parse_listener("[::1]:10200"),
            Ok(Listener::Address(address))
        );
        for wrong in ["", "0.0.0.0", "70000", "localhost:10200"] {
            assert!(parse_listener(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_alias_is_two_names() {
        assert_eq!(
            parse_alias("alloy=me"),
            Ok(("alloy".to_owned(), "me".to_owned()))
        );
        for wrong in ["alloy", "=me", "alloy=", ""] {
            assert!(parse_alias(wrong).is_err(), "{wrong:?}");
        }
    }
}
