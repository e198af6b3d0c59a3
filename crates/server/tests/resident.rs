//! Resident memory left by attacks. A separate file with one test, because the size is the whole
//! process's.

#![cfg(target_os = "linux")]

mod common;

use common::{Server, options, within};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sottovoce::{ModelConfig, ResidentMemory, Source, release_unused_heap};
use sottovoce_server::{Limits, ServerOptions};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

/// Tolerance after an attack, and during one.
const LEFT_BYTES_MAX: u64 = 10 << 20;
const DURING_BYTES_MAX: u64 = 48 << 20;

fn anonymous_bytes() -> u64 {
    let now = ResidentMemory::now();
    now.bytes - now.file_bytes
}

/// Waits until the process is as small as before, within the tolerance.
async fn comes_back_to(before: u64, attack: &str) {
    let mut least = u64::MAX;
    let comes = async {
        loop {
            least = least.min(anonymous_bytes());
            if least < before + LEFT_BYTES_MAX {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let came = tokio::time::timeout(common::PATIENCE, comes).await;
    assert!(came.is_ok(), "{attack} left {} KiB", (least - before) >> 10);
}

/// Bodies that are sent except for the last byte.
async fn half_sent(server: &Server, path: &str, kind: &str, bytes: usize, count: usize) {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut client = server.connect().await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            bytes + 1
        );
        let body = vec![b' '; bytes];
        // The server may have responded and closed the connection.
        let _ = client.send([head.as_bytes(), &body].concat()).await;
        held.push(client);
    }
    let bodies = server.memory().await["process"]["requests_bytes"]
        .as_u64()
        .unwrap();
    let most = server.memory().await["process"]["requests_bytes_max"]
        .as_u64()
        .unwrap();
    assert!(bodies <= most, "{bodies} of {most}");
}

async fn uploads_that_break_off(server: &Server, count: usize) {
    let head = "--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nann\r\n--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n";
    for _ in 0..count {
        let mut client = server.connect().await;
        let request = format!(
            "POST /v1/audio/voices HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 20000000\r\n\r\n{head}"
        );
        client.send(request).await.unwrap();
        let _ = client.send(vec![7; 4 << 20]).await;
    }
}

async fn refused_requests(server: &Server, count: usize) {
    let mut client = server.connect().await;
    for _ in 0..count {
        client
            .send_post("/v1/audio/speech", &json!({"input": 5}))
            .await;
        assert_eq!(client.answer().await.status, 400);
    }
}

/// Endless frames from a client that never reads.
async fn flood(server: &Server, frame: &[u8]) {
    let socket = TcpStream::connect(server.address).await.unwrap();
    let url = format!("ws://{}/v1/stream", server.address);
    let (mut socket, _) = client_async(url, socket).await.unwrap();
    let frames = frame.repeat(4096);
    within(async { while socket.get_mut().write_all(&frames).await.is_ok() {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attacks_stay_within_their_bounds_and_leave_nothing_in_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(ServerOptions {
        source: Source::Random(Box::new(ModelConfig::tiny_base())),
        voices_directory: Some(folder.path().to_owned()),
        limits: Limits {
            receive_time: Duration::from_secs(2),
            upload_time: Duration::from_secs(2),
            slow_reader_time: Duration::from_secs(1),
            requests_per_minute: 1_000_000,
            ..Limits::default()
        },
        ..options()
    })
    .await;
    // One-time allocations happen before anything is measured.
    refused_requests(&server, 100).await;
    uploads_that_break_off(&server, 2).await;
    release_unused_heap();
    let before = anonymous_bytes();
    let during = async move {
        let mut most: u64 = 0;
        loop {
            most = most.max(anonymous_bytes());
            assert!(
                most < before + DURING_BYTES_MAX,
                "{} KiB more",
                (most - before) >> 10
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let watch: tokio::task::JoinHandle<()> = tokio::spawn(during);
    half_sent(
        &server,
        "/v1/audio/speech",
        "application/json",
        200 << 10,
        200,
    )
    .await;
    comes_back_to(before, "half-sent bodies").await;
    uploads_that_break_off(&server, 30).await;
    comes_back_to(before, "uploads").await;
    refused_requests(&server, 2000).await;
    comes_back_to(before, "refusals").await;
    let ping = [0x89, 0x80, 0, 0, 0, 0];
    flood(&server, &ping).await;
    comes_back_to(before, "pings").await;
    // `{}` as a message: each gets an error in reply.
    let tiny = [0x81, 0x82, 0, 0, 0, 0, b'{', b'}'];
    flood(&server, &tiny).await;
    comes_back_to(before, "tiny messages").await;
    // Empty fragments of a message that never ends.
    let fragment = [0x00, 0x80, 0, 0, 0, 0];
    let start = [0x01, 0x80, 0, 0, 0, 0];
    let mut fragments = start.to_vec();
    fragments.extend(fragment.repeat(1000));
    let spoken = tokio::spawn({
        let address = server.address;
        async move {
            let socket = TcpStream::connect(address).await.unwrap();
            let (mut socket, _) = client_async(format!("ws://{address}/v1/stream"), socket)
                .await
                .unwrap();
            socket.get_mut().write_all(&fragments).await.unwrap();
            socket.get_mut().write_all(&fragments[6..]).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Close(_) = message {
                    return;
                }
                let _ = socket.send(Message::Close(None)).await;
            }
        }
    });
    within(spoken).await.unwrap();
    assert!(
        !watch.is_finished(),
        "memory stayed within its bound throughout"
    );
    watch.abort();
    let left: Value = server.memory().await;
    assert_eq!(left["process"]["requests_bytes"], 0);
    // Every byte has one owner; what of the ledger was never written is in nobody's memory.
    let bytes = |name: &str| left["process"][name].as_u64().unwrap();
    assert!(bytes("engine_resident_bytes") <= bytes("engine_bytes"));
    let owners = [
        "engine_resident_bytes",
        "program_bytes",
        "requests_bytes",
        "heap_and_stacks_bytes",
    ];
    let owned: u64 = owners.into_iter().map(bytes).sum();
    assert_eq!(owned, bytes("resident_bytes"), "{}", left["process"]);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "no upload stays on disk"
    );
}
