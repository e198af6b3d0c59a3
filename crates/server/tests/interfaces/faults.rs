//! Faults of clients over real sockets: nothing is lost, and memory returns to the same byte.

use crate::common::{Client, Server, long_story, malformed, options, within};
use serde_json::{Value, json};
use sottovoce::EngineOptions;
use sottovoce_server::{Limits, ServerOptions, parse_network};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

fn limits(limits: Limits) -> ServerOptions {
    ServerOptions {
        limits,
        ..options()
    }
}

fn story() -> Value {
    json!({"input": long_story(), "response_format": "pcm"})
}

/// Speaks once, so that one-time allocations are made; returns the bytes in use.
async fn warmed_up(server: &Server) -> u64 {
    let body = json!({"input": "Good day.", "response_format": "pcm"});
    let answer = server.post("/v1/audio/speech", &body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.whole && answer.body.len() > 10_000);
    server.at_rest().await
}

#[tokio::test(flavor = "multi_thread")]
async fn first_bytes_leave_while_the_stream_goes_on() {
    let server = Server::start(options()).await;
    let mut client = server.connect().await;
    client.send_post("/v1/audio/speech", &story()).await;
    let (status, _) = client.head().await.unwrap();
    assert_eq!(status, 200);
    assert!(!client.piece().await.unwrap().is_empty());
    let memory = server.memory().await;
    assert_eq!(memory["streams_live"], 1, "the rest is still to come");
    assert!(memory["streams"][0]["held_bytes"].as_u64().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_leave_free_their_streams_to_the_last_byte() {
    let server = Server::start(options()).await;
    let before = warmed_up(&server).await;
    for pieces in [0, 0, 1, 2, 3] {
        let mut client = server.connect().await;
        client.send_post("/v1/audio/speech", &story()).await;
        if pieces > 0 {
            client.head().await.unwrap();
        }
        for _ in 0..pieces {
            client.piece().await.unwrap();
        }
        drop(client);
    }
    server.at_rest().await;
    server.comes_back_to(before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_the_queue_is_not_served() {
    let server = Server::start(ServerOptions {
        engine: EngineOptions {
            streams_max: 1,
            ..EngineOptions::default()
        },
        ..options()
    })
    .await;
    let mut first = server.connect().await;
    first.send_post("/v1/audio/speech", &story()).await;
    first.head().await.unwrap();
    let mut second = server.connect().await;
    second.send_post("/v1/audio/speech", &story()).await;
    within(async {
        while server.memory().await["queue_length"] != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    drop(second);
    within(async {
        while server.memory().await["queue_length"] != 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(server.memory().await["streams_live"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_does_not_read_is_bounded_and_ended() {
    let server = Server::start(limits(Limits {
        slow_reader_time: Duration::from_secs(1),
        ..Limits::default()
    }))
    .await;
    let before = warmed_up(&server).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    let mut client = Client::over(socket.connect(server.address).await.unwrap());
    client.send_post("/v1/audio/speech", &story()).await;
    client.head().await.unwrap();
    // The client stays connected but reads nothing more; the stream must end.
    server.at_rest().await;
    server.comes_back_to(before).await;
    let mut sound = 0;
    while let Some(piece) = client.piece().await {
        assert!(!piece.is_empty(), "what was cut off must not look whole");
        sound += piece.len();
    }
    assert!(
        sound < 2 << 20,
        "{sound} bytes were kept for who does not read"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_its_head_too_slowly_or_nothing_at_all_is_cut_off() {
    let server = Server::start(limits(Limits {
        receive_time: Duration::from_millis(300),
        ..Limits::default()
    }))
    .await;
    for beginning in [
        "",
        "G",
        "POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\nX-A: ",
    ] {
        let mut client = server.connect().await;
        client.send(beginning).await.unwrap();
        client.closed().await;
    }
    // Sending byte by byte does not extend the deadline.
    let mut client = server.connect().await;
    let trickle = async {
        while client.send("G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(trickle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_its_body_too_slowly_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(ServerOptions {
        voices_directory: Some(folder.path().to_owned()),
        ..limits(Limits {
            receive_time: Duration::from_millis(300),
            upload_time: Duration::from_millis(300),
            ..Limits::default()
        })
    })
    .await;
    for (path, kind) in [
        ("/v1/audio/speech", "application/json"),
        ("/memory/profile", "application/json"),
        ("/v1/audio/voices", "multipart/form-data; boundary=b"),
    ] {
        let mut client = server.connect().await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 1000\r\n\r\n"
        );
        client.send(head).await.unwrap();
        let (mut reader, mut writer) = {
            let socket = client.socket.into_inner();
            let (reader, writer) = socket.into_split();
            (reader, writer)
        };
        let trickle = tokio::spawn(async move {
            while writer.write_all(b"-").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut answer = Vec::new();
        let _ = within(tokio::io::AsyncReadExt::read_to_end(
            &mut reader,
            &mut answer,
        ))
        .await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 408"), "{path}: {answer}");
        assert!(answer.contains("\"error\""), "{path}: {answer}");
        within(trickle).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connections_are_served_than_may_be_open_but_probes_are_answered() {
    let server = Server::start(limits(Limits {
        connections: 2,
        ..Limits::default()
    }))
    .await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        assert_eq!(client.get("/v1/models").await.status, 200);
        open.push(client);
    }
    let refused = server.get("/v1/models").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.json()["error"]["code"], "too_many_connections");
    for probe in ["/health/live", "/health/ready", "/health"] {
        assert_eq!(server.get(probe).await.status, 200, "{probe}");
    }
    open.pop();
    within(async {
        while server.get("/v1/models").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_beyond_the_limit_do_not_keep_probes_out() {
    let server = Server::start(limits(Limits {
        connections: 4,
        ..Limits::default()
    }))
    .await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(server.connect().await);
    }
    for _ in 0..20 {
        assert_eq!(server.get("/health/live").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_take_all_connections() {
    let server = Server::start(limits(Limits {
        connections: 8,
        connections_per_caller: 3,
        ..Limits::default()
    }))
    .await;
    let mut greedy = Vec::new();
    for _ in 0..3 {
        let mut client = server.connect().await;
        assert_eq!(client.get("/v1/models").await.status, 200);
        greedy.push(client);
    }
    assert_eq!(server.get("/v1/models").await.status, 429);
    assert_eq!(server.get("/health/live").await.status, 200);
    let mut other = Client::from_address("127.0.0.2", server.address).await;
    assert_eq!(other.get("/v1/models").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_behind_a_trusted_proxy_are_told_apart_and_others_are_not_believed() {
    let limits = Limits {
        requests_per_minute: 3,
        ..Limits::default()
    };
    let server = Server::start(ServerOptions {
        trusted_proxies: vec![parse_network("127.0.0.1").unwrap()],
        limits,
        ..options()
    })
    .await;
    let ask = async |from: &str, forwarded: &str| {
        let mut client = Client::from_address(from, server.address).await;
        let head = format!(
            "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {forwarded}\r\n\r\n"
        );
        client.send(head).await.unwrap();
        client.answer().await.status
    };
    for caller in ["203.0.113.1", "203.0.113.2"] {
        for _ in 0..3 {
            assert_eq!(ask("127.0.0.1", caller).await, 200, "{caller}");
        }
        assert_eq!(ask("127.0.0.1", caller).await, 429, "{caller}");
    }
    // A caller that is not a proxy cannot pass for another caller with each request.
    let statuses = [
        ask("127.0.0.3", "203.0.113.3").await,
        ask("127.0.0.3", "203.0.113.4").await,
        ask("127.0.0.3", "203.0.113.5").await,
        ask("127.0.0.3", "203.0.113.6").await,
    ];
    assert_eq!(statuses, [200, 200, 200, 429]);
    for _ in 0..10 {
        assert_eq!(
            server.get("/health/ready").await.status,
            200,
            "probes are not counted"
        );
    }
}

async fn send_malformed(server: &Server, count: usize) {
    for request in malformed(count) {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        // The server may have closed the connection.
        let _ = socket.write_all(&request).await;
        let _ = socket.shutdown().await;
        let answer = Client::over(socket).closed().await;
        let text = String::from_utf8_lossy(&answer);
        assert!(
            !text.starts_with("HTTP/1.1 5") || text.starts_with("HTTP/1.1 505"),
            "{:?} was answered with {text}",
            String::from_utf8_lossy(&request)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_refused_and_leave_nothing_behind() {
    let server = Server::start(options()).await;
    let before = warmed_up(&server).await;
    send_malformed(&server, 400).await;
    warmed_up(&server).await;
    server.comes_back_to(before).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute; run with --ignored"]
async fn ten_thousand_malformed_requests_leave_nothing_behind() {
    let server = Server::start(limits(Limits {
        requests_per_minute: 1_000_000,
        ..Limits::default()
    }))
    .await;
    let before = warmed_up(&server).await;
    send_malformed(&server, 10_000).await;
    warmed_up(&server).await;
    server.comes_back_to(before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_finishes_what_is_under_way() {
    let mut server = Server::start(options()).await;
    let body = json!({"input": "Good day. How do you do?", "response_format": "pcm"});
    let whole = server.post("/v1/audio/speech", &body).await.body;
    let mut client = server.connect().await;
    client.send_post("/v1/audio/speech", &body).await;
    let (_, _) = client.head().await.unwrap();
    server.stop();
    let mut sound = Vec::new();
    loop {
        let piece = client
            .piece()
            .await
            .expect("the sound must come to its end");
        if piece.is_empty() {
            break;
        }
        sound.extend(piece);
    }
    assert_eq!(sound, whole);
    let address = server.address;
    server.ended().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_tells_whoever_comes_that_it_stops() {
    let mut server = Server::start(options()).await;
    let mut client = server.connect().await;
    client.send_post("/v1/audio/speech", &story()).await;
    // What is not read stays under way.
    client.head().await.unwrap();
    let mut earlier = server.connect().await;
    assert_eq!(earlier.get("/health/live").await.status, 200);
    server.stop();
    // An open connection without a request is closed by the stop.
    while earlier.piece().await.is_some() {}
    let ready = server.get("/health/ready").await;
    assert_eq!(
        (ready.status, &ready.json()["status"]),
        (503, &json!("stopping"))
    );
    let body = json!({"input": "Good day."});
    let refused = server.post("/v1/audio/speech", &body).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["error"]["code"], "stopping");
    assert_eq!(refused.header("connection"), Some("close"));
    // Whoever comes and stays does not hold up the stop.
    let _silent = server.connect().await;
    drop(client);
    server.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_ends_what_takes_too_long() {
    let mut server = Server::start(limits(Limits {
        shutdown_time: Duration::from_millis(100),
        ..Limits::default()
    }))
    .await;
    let mut client = server.connect().await;
    client.send_post("/v1/audio/speech", &story()).await;
    client.head().await.unwrap();
    server.stop();
    let reading = async {
        while let Some(piece) = client.piece().await {
            assert!(!piece.is_empty(), "what was cut off must not look whole");
        }
    };
    let ((), ended) = tokio::join!(reading, server.ended());
    ended.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn unloading_is_refused_while_someone_speaks_unless_it_is_forced() {
    let server = Server::start(options()).await;
    let mut client = server.connect().await;
    client.send_post("/v1/audio/speech", &story()).await;
    client.head().await.unwrap();
    let refused = server.post("/models/unload", &json!({})).await;
    assert_eq!(refused.status, 409);
    let forced = server.post("/models/unload", &json!({"force": true})).await;
    assert_eq!(forced.json(), json!({"loaded": false, "changed": true}));
    while let Some(piece) = client.piece().await {
        assert!(!piece.is_empty(), "what was cut off must not look whole");
    }
    assert_eq!(server.memory().await["engine"], Value::Null);
    warmed_up(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_nobody_uses_goes_and_comes_back_with_the_next_words() {
    let server = Server::start(ServerOptions {
        idle_unload: Some(Duration::from_millis(100)),
        ..options()
    })
    .await;
    for _ in 0..2 {
        let body = json!({"input": "Good day.", "response_format": "pcm"});
        assert!(server.post("/v1/audio/speech", &body).await.whole);
        within(async {
            while server.memory().await["model_loaded"] == true {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert_eq!(server.get("/health/ready").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_name_was_changed_to_this_address_is_refused() {
    let server = Server::start(options()).await;
    for (headers, status) in [
        ("Host: localhost:1\r\n", 200),
        ("Host: evil.example\r\n", 403),
        (
            "Host: evil.example:80\r\nOrigin: http://evil.example:80\r\n",
            403,
        ),
        ("Host: localhost:1\r\nOrigin: http://localhost:1\r\n", 200),
        ("Host: localhost:1\r\nOrigin: null\r\n", 403),
    ] {
        let mut client = server.connect().await;
        client
            .send(format!("GET /memory HTTP/1.1\r\n{headers}\r\n"))
            .await
            .unwrap();
        assert_eq!(client.answer().await.status, status, "{headers}");
    }
}
