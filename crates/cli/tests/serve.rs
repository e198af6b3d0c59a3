//! End-to-end tests of `sottovoce serve`: its log, and what it refuses at start-up.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

struct Serve {
    child: Child,
    address: String,
    wyoming: Option<String>,
}

impl Serve {
    fn start(arguments: &[&str]) -> Serve {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sottovoce"))
            .args(["serve", "--port", "0", "--json", "--threads", "1"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let announced: Value = serde_json::from_str(&line).unwrap();
        let address = |name: &str| announced[name].as_str().map(str::to_owned);
        Serve {
            child,
            address: address("address").unwrap(),
            wyoming: address("wyoming_address"),
        }
    }

    /// Sends a request; returns the whole response.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        )
        .unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Stops the server; returns its standard error.
    fn end(mut self) -> String {
        self.child.kill().unwrap();
        let mut log = String::new();
        let stderr = self.child.stderr.take();
        stderr.unwrap().read_to_string(&mut log).unwrap();
        self.child.wait().unwrap();
        log
    }
}

fn key_file(text: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// Request lines of a log.
fn requests(log: &str) -> Vec<Value> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["message"] == "request")
        .collect()
}

#[test]
fn each_request_is_a_line_of_the_log_without_its_text_or_key() {
    let keys = key_file(b"\xef\xbb\xbf# the office\r\nopen-sesame\r\n");
    let path = keys.path().to_str().unwrap();
    for level in ["info", "trace"] {
        let serve = Serve::start(&[
            "--api-key-file",
            path,
            "--log-format",
            "json",
            "--log-level",
            level,
        ]);
        let key = "Authorization: Bearer open-sesame\r\nX-Request-Id: call-7\r\n";
        let body = r#"{"input":"Xylophone zebra.","response_format":"pcm"}"#;
        let spoken = serve.ask("POST", "/v1/audio/speech", key, body);
        assert!(spoken.starts_with("HTTP/1.1 200"), "{}", &spoken[..200]);
        assert!(spoken.contains("x-request-id: call-7"));
        let wrong = "Authorization: Bearer guess-word\r\n";
        let refused = serve.ask("GET", "/v1/models", wrong, "");
        assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
        serve.ask("GET", "/secret-path?secret-query", "", "");
        let log = serve.end();
        let lines = requests(&log);
        assert_eq!(lines.len(), 3, "{log}");
        let line = &lines[0];
        assert_eq!(line["id"], "call-7");
        assert_eq!(line["method"], "POST");
        assert_eq!(line["route"], "/v1/audio/speech");
        assert_eq!(line["status"], 200);
        assert_eq!(line["outcome"], "whole");
        let (first, whole) = (&line["first_audio"], &line["seconds"]);
        assert!(
            first.as_f64().unwrap() > 0.0 && first.as_f64() <= whole.as_f64(),
            "{line}"
        );
        assert_eq!(lines[1]["status"], 401);
        assert!(lines[1]["id"].as_str().unwrap().starts_with("req_"));
        assert_eq!(lines[2]["route"], "other");
        for secret in ["sesame", "guess-word", "Xylophone", "zebra", "secret"] {
            assert!(!log.contains(secret), "{secret} is in\n{log}");
        }
    }
}

#[test]
fn a_language_in_vain_over_wyoming_is_a_line_of_the_log_without_the_text() {
    let serve = Serve::start(&["--wyoming", "127.0.0.1:0"]);
    let mut socket = TcpStream::connect(serve.wyoming.as_ref().unwrap()).unwrap();
    let data = serde_json::json!({"text": "Xylophone zebra.", "voice": {"language": "de"}});
    let event = serde_json::json!({"type": "synthesize", "data": data});
    writeln!(socket, "{event}").unwrap();
    let mut events = BufReader::new(socket);
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"audio-stop\"") {
        assert_ne!(events.read_until(b'"', &mut bytes).unwrap(), 0, "it speaks");
    }
    let log = serve.end();
    let warnings: Vec<&str> = (log.lines())
        .filter(|line| line.contains("this model speaks English alone"))
        .collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("language=\"de\""), "{log}");
    assert!(
        !log.contains("Xylophone") && !log.contains("zebra"),
        "{log}"
    );
}

#[test]
fn a_log_can_be_text_or_nothing() {
    for (level, lines) in [("info", 1), ("warn", 0), ("off", 0)] {
        let serve = Serve::start(&["--log-level", level]);
        serve.ask("GET", "/health/live", "", "");
        let log = serve.end();
        let found = log
            .lines()
            .filter(|line| line.contains("route=\"/health/live\""))
            .count();
        assert_eq!(found, lines, "{level}: {log}");
    }
}

#[test]
fn what_can_never_work_is_refused_at_the_start() {
    let none = key_file(b"# nothing but this\n");
    let path = none.path().to_str().unwrap();
    for (arguments, words) in [
        (
            &["--allow-origin", "https://app.example/"][..],
            "https://app.example",
        ),
        (&["--allow-origin", "app.example"], "https://app.example"),
        (&["--voice-alias", "default=me"], "default"),
        (&["--voice-alias", "alloy"], "ALIAS=VOICE"),
        (&["--trusted-proxy", "proxy.example"], "10.0.0.0/8"),
        (&["--admin-key-file", path], "no key"),
        (&["--log-level", "loud"], "info"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_sottovoce"))
            .args(["serve", "--port", "0"])
            .args(arguments)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(told.contains(words), "{arguments:?}: {told}");
    }
}

#[test]
fn the_openapi_document_has_the_limits_that_the_server_would_have() {
    let output = Command::new(env!("CARGO_BIN_EXE_sottovoce"))
        .args(["serve", "--openapi", "--text-characters", "777"])
        .output()
        .unwrap();
    let document = String::from_utf8(output.stdout).unwrap();
    assert!(document.contains("\"maxLength\": 777"));
}
