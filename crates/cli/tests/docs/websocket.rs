//! Runs the pages' WebSocket transcripts.
//!
//! A ```` ```websocket ```` block holds one connection: `> ` is sent; `< ` must come, with at least
//! the fields that are shown. `(sound)` is a binary message, `(close CODE)` the end. Sound, `ready`
//! and `chunk` may come in between.

use crate::page::{CodeBlock, pages};
use crate::server::Server;
use serde_json::Value;
use std::time::Duration;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket, connect};

/// Time limit for an expected message.
const WAIT_MAX: Duration = Duration::from_secs(60);

type Socket = WebSocket<MaybeTlsStream<std::net::TcpStream>>;

/// Whether `found` includes everything in `expected`.
fn holds(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => (expected.iter())
            .all(|(name, value)| found.get(name).is_some_and(|found| holds(found, value))),
        _ => found == expected,
    }
}

/// Reads until a message that matches `expected`.
fn receive(socket: &mut Socket, expected: &str, place: &str) {
    loop {
        let message = socket
            .read()
            .unwrap_or_else(|error| panic!("{place}: {expected} did not come: {error}"));
        match message {
            Message::Binary(_) if expected == "(sound)" => return,
            Message::Close(Some(frame)) => {
                let close = format!("(close {})", u16::from(frame.code));
                assert_eq!(close, expected, "{place}: {}", frame.reason);
                return;
            }
            Message::Text(text) => {
                let found: Value = serde_json::from_str(text.as_str()).unwrap();
                let wanted: Value = serde_json::from_str(expected).unwrap_or_default();
                if found["type"] == wanted["type"] {
                    assert!(holds(&found, &wanted), "{place}: {expected}: {found}");
                    return;
                }
                let passed_over = found["type"] == "ready" || found["type"] == "chunk";
                assert!(passed_over, "{place}: {expected} was to come: {found}");
            }
            _ => {}
        }
    }
}

fn run(block: &CodeBlock, server: &Server, place: &str) {
    let url = format!("ws://{}/v1/stream", server.address);
    let (mut socket, _) = connect(url).unwrap();
    if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    }
    for line in block.text.lines() {
        if let Some(message) = line.strip_prefix("> ") {
            socket.send(Message::text(message)).unwrap();
        } else if let Some(expected) = line.strip_prefix("< ") {
            receive(&mut socket, expected, place);
        } else {
            panic!("{place}: a line begins with `> ` or `< `: {line}");
        }
    }
}

#[test]
fn the_websocket_says_what_the_pages_show() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let mut count = 0;
    for page in pages() {
        for block in page.blocks() {
            if block.language == "websocket" {
                count += 1;
                run(&block, &server, &format!("{}:{}", page.name, block.line));
            }
        }
    }
    assert!(count >= 5, "only {count} transcripts were found");
}
