//! Tests of `sottovoce model download` against a hub that behaves like the real one: small files
//! from another address of its own, large ones from a store on another host.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "89abcdef";
const SIZE: usize = 100_000;
/// Bytes that an interrupted download sends.
const PIECE: usize = 10_000;
/// SHA-256 of the large files, which are all zeros.
const DIGEST: &str = "9192c25b734fcbadbe32dadc28089c60db0e39f90cc20ce2e5733f57261acc0c";

/// The first line of a request, and its header lines in lower case.
struct Request {
    line: String,
    headers: Vec<String>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|header| header.strip_prefix(name)?.strip_prefix(": "))
    }

    fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// Serves what `answer` writes for each request, and records the requests.
fn server(
    answer: impl Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + 'static,
) -> (String, Arc<Mutex<Vec<Request>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&seen);
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut lines = BufReader::new(connection.try_clone().unwrap())
                .lines()
                .map_while(Result::ok);
            let Some(line) = lines.next() else { continue };
            let headers = lines
                .take_while(|line| !line.is_empty())
                .map(|line| line.to_lowercase())
                .collect();
            let request = Request { line, headers };
            // The client may have disconnected.
            let _ = answer(&request, &mut connection);
            requests.lock().unwrap().push(request);
        }
    });
    (address, seen)
}

fn head(status: &str, headers: &[(&str, &str)]) -> String {
    let headers = headers.iter();
    let lines: String = headers
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{lines}\r\n")
}

fn download(hub: &str, home: &Path, offline: bool) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sottovoce"));
    command
        .args(["model", "download", "nano"])
        .env("HF_ENDPOINT", hub)
        .env("HF_HOME", home)
        .env("HF_TOKEN", "secret")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE");
    if offline {
        command.env("HF_HUB_OFFLINE", "1");
    }
    command.output().unwrap()
}

#[test]
fn a_download_from_hub_and_store_breaks_off_goes_on_and_serves_offline() {
    let breaks = Arc::new(AtomicBool::new(true));
    let is_breaking = Arc::clone(&breaks);
    let (store, stored) = server(move |request, connection| {
        let range = request.header("range").unwrap_or_default();
        let start = range
            .trim_start_matches("bytes=")
            .trim_end_matches('-')
            .parse()
            .unwrap_or(0);
        let rest = SIZE - start;
        let length = rest.to_string();
        let answer = head("206 Partial Content", &[("content-length", &length)]);
        connection.write_all(answer.as_bytes())?;
        let sent = match is_breaking.load(Ordering::SeqCst) {
            true => rest.min(PIECE),
            false => rest,
        };
        connection.write_all(&vec![0; sent])
    });
    let (hub, _) = server(move |request, connection| {
        let file = request.path().rsplit('/').next().unwrap_or_default();
        let size = SIZE.to_string();
        let answer = if file.ends_with(".safetensors") {
            let location = format!("{store}/objects/{file}");
            head(
                "302 Found",
                &[
                    ("location", &location),
                    ("x-repo-commit", COMMIT),
                    ("x-linked-etag", &format!("\"{DIGEST}\"")),
                    ("x-linked-size", &size),
                    ("etag", "\"message\""),
                    ("content-length", "0"),
                ],
            )
        } else if request.path().starts_with("/api/") {
            let headers = [
                ("x-repo-commit", COMMIT),
                ("etag", "\"5e1f\""),
                ("content-length", "2"),
            ];
            head("200 OK", &headers)
        } else {
            let location = format!("/api/resolve-cache/{file}");
            head(
                "307 Temporary Redirect",
                &[("location", &location), ("content-length", "0")],
            )
        };
        connection.write_all(answer.as_bytes())?;
        if request.line.starts_with("GET /api/") {
            connection.write_all(b"{}")?;
        }
        Ok(())
    });
    let home = tempfile::tempdir().unwrap();

    let broken = download(&hub, home.path(), false);
    let message = String::from_utf8(broken.stderr).unwrap();
    assert!(!broken.status.success());
    assert!(
        message.contains("ve.safetensors") && message.contains("interrupted"),
        "{message}"
    );
    let asked = stored.lock().unwrap().len();

    breaks.store(false, Ordering::SeqCst);
    let resumed = download(&hub, home.path(), false);
    assert!(resumed.status.success(), "{resumed:?}");
    {
        let stored = stored.lock().unwrap();
        let range = stored[asked].header("range").unwrap();
        assert_eq!(
            range,
            format!("bytes={}-", PIECE * asked),
            "the second run goes on where the first interrupted"
        );
        let told = |request: &Request| request.header("authorization").is_some();
        assert!(
            !stored.iter().any(told),
            "the token is the hub's, not the store's"
        );
    }

    let offline = download("http://127.0.0.1:1", home.path(), true);
    assert!(offline.status.success(), "{offline:?}");
    let snapshot = home
        .path()
        .join("hub/models--ResembleAI--chatterbox-nano/snapshots")
        .join(COMMIT);
    let folder = String::from_utf8(offline.stdout).unwrap();
    assert_eq!(Path::new(folder.trim()), snapshot);
    let weights = std::fs::read(snapshot.join("ve.safetensors")).unwrap();
    assert_eq!(weights, vec![0; SIZE]);
    let text = std::fs::read_dir(&snapshot)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|kind| kind == "json"))
        .unwrap();
    assert_eq!(std::fs::read(text).unwrap(), b"{}");
}
