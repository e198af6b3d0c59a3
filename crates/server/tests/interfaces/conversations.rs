//! `/v1/stream` over real sockets: text in pieces, sound out, interruption, and failures along the
//! way.

use crate::common::{Client, Server, long_story, options, within};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sottovoce::EngineOptions;
use sottovoce_server::{Limits, ServerOptions};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Many empty pings with a zero mask.
const PINGS: [u8; 6 * 1024] = {
    let mut pings = [0; 6 * 1024];
    let mut at = 0;
    while at < pings.len() {
        pings[at] = 0x89;
        pings[at + 1] = 0x80;
        at += 6;
    }
    pings
};

/// A WebSocket from the client's view.
struct Conversation(WebSocketStream<TcpStream>);

impl Conversation {
    async fn open(server: &Server) -> Conversation {
        Conversation::open_as(server, None).await.unwrap()
    }

    async fn open_as(server: &Server, key: Option<&str>) -> Result<Conversation, Error> {
        let mut conversation = Conversation::connect(server, key).await?;
        assert_eq!(conversation.words().await["type"], "ready");
        Ok(conversation)
    }

    /// Connects; the server may refuse.
    async fn connect(server: &Server, key: Option<&str>) -> Result<Conversation, Error> {
        let socket = TcpStream::connect(server.address).await.unwrap();
        let mut request = format!("ws://{}/v1/stream", server.address)
            .into_client_request()
            .unwrap();
        if let Some(key) = key {
            let protocols = format!("sottovoce, sottovoce-key.{key}");
            request
                .headers_mut()
                .insert("sec-websocket-protocol", protocols.parse().unwrap());
        }
        let (socket, _) = within(tokio_tungstenite::client_async(request, socket)).await?;
        Ok(Conversation(socket))
    }

    /// Connects as soon as earlier connections are gone.
    async fn open_when_there_is_room(server: &Server) -> Conversation {
        within(async {
            loop {
                let mut conversation = Conversation::connect(server, None).await.unwrap();
                if conversation.words().await["type"] == "ready" {
                    return conversation;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    /// Close code and reason from the server.
    async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.message().await.expect("there must be a close") {
                Message::Close(Some(frame)) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Message::Close(None) => panic!("a close has a code"),
                _ => {}
            }
        }
    }

    async fn say(&mut self, command: Value) {
        self.0
            .send(Message::text(command.to_string()))
            .await
            .unwrap();
    }

    /// The next message that is not a ping.
    async fn message(&mut self) -> Option<Message> {
        within(async {
            loop {
                match self.0.next().await? {
                    Ok(Message::Ping(_) | Message::Pong(_)) => {}
                    Ok(message) => return Some(message),
                    Err(_) => return None,
                }
            }
        })
        .await
    }

    /// The next JSON message; sound before it is skipped.
    async fn words(&mut self) -> Value {
        loop {
            match self.message().await.expect("there must be words") {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Binary(_) => {}
                other => panic!("{other:?} is neither words nor sound"),
            }
        }
    }

    /// Waits for a JSON message of this type; returns the bytes of sound before it.
    async fn until(&mut self, kind: &str) -> usize {
        let mut sound = 0;
        loop {
            match self.message().await.expect("there must be words") {
                Message::Binary(bytes) => sound += bytes.len(),
                Message::Text(text) => {
                    let words: Value = serde_json::from_str(&text).unwrap();
                    match words["type"].as_str() {
                        Some(found) if found == kind => return sound,
                        Some("chunk" | "idle") => {}
                        _ => panic!("{words} before {kind}"),
                    }
                }
                other => panic!("{other:?} is neither words nor sound"),
            }
        }
    }
}

fn one_stream() -> ServerOptions {
    ServerOptions {
        engine: EngineOptions {
            streams_max: 1,
            ..EngineOptions::default()
        },
        ..options()
    }
}

/// Bytes of sound of a text that is sent in pieces of three letters.
async fn sound_in_pieces(server: &Server, text: &str) -> usize {
    let mut conversation = Conversation::open(server).await;
    conversation
        .say(json!({"type": "start", "voice": "default", "seed": 4}))
        .await;
    let letters: Vec<char> = text.chars().collect();
    for piece in letters.chunks(3) {
        let piece: String = piece.iter().collect();
        conversation
            .say(json!({"type": "text", "text": piece}))
            .await;
    }
    conversation.say(json!({"type": "end"})).await;
    let sound = conversation.until("done").await;
    assert!(matches!(
        conversation.message().await,
        Some(Message::Close(_)) | None
    ));
    sound
}

#[tokio::test(flavor = "multi_thread")]
async fn text_in_pieces_sounds_as_long_as_the_same_text_at_once() {
    let server = Server::start(options()).await;
    for text in [
        "Good day to you. How do you do?",
        "We asked them and then Dr. Smith came to help.",
        "Use simple tools, e.g. a hammer and a saw.",
        "The quick brown fox\njumps over the lazy dog.",
        "It was half past three. Nobody had come so far! Should we wait for them?",
    ] {
        let body = json!({"input": text, "response_format": "pcm", "seed": 4});
        let whole = server.post("/v1/audio/speech", &body).await.body.len();
        let pieces = sound_in_pieces(&server, text).await;
        let tenth_of_a_second = 4800;
        assert!(
            whole.abs_diff(pieces) <= tenth_of_a_second,
            "{text:?}: {pieces} bytes in pieces, {whole} at once"
        );
        assert_eq!(pieces % 2, 0, "samples have two bytes");
    }
    server.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentence_is_spoken_when_nothing_follows_it_and_its_place_comes_free() {
    let server = Server::start(one_stream()).await;
    let mut conversation = Conversation::open(&server).await;
    let text = |text: &str| json!({"type": "text", "text": text});
    conversation.say(text("It was half past three. ")).await;
    let first = conversation.until("idle").await;
    assert!(first > 10_000, "no flush came, and no further letter");
    conversation.say(text("Nobody had come.")).await;
    let second = conversation.until("idle").await;
    assert!(second > 10_000, "the same utterance goes on, or the next");
    // Another caller gets the only place while the conversation stays open.
    let body = json!({"input": "Good day.", "response_format": "pcm"});
    assert_eq!(server.post("/v1/audio/speech", &body).await.status, 200);
    conversation.say(text("Half a sentence without")).await;
    conversation.say(json!({"type": "flush"})).await;
    assert!(conversation.until("idle").await > 10_000);
    conversation.say(json!({"type": "end"})).await;
    assert_eq!(conversation.until("done").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_ends_the_sound_and_frees_the_stream_for_the_next_words() {
    let server = Server::start(one_stream()).await;
    let mut conversation = Conversation::open(&server).await;
    conversation
        .say(json!({"type": "text", "text": "Good day. "}))
        .await;
    conversation.say(json!({"type": "flush"})).await;
    conversation.until("idle").await;
    let before = server.at_rest().await;
    conversation
        .say(json!({"type": "text", "text": long_story()}))
        .await;
    loop {
        if let Some(Message::Binary(_)) = conversation.message().await {
            break;
        }
    }
    conversation.say(json!({"type": "cancel"})).await;
    conversation.until("cancelled").await;
    server.at_rest().await;
    server.comes_back_to(before).await;
    conversation
        .say(json!({"type": "text", "text": "Good day. "}))
        .await;
    conversation.say(json!({"type": "end"})).await;
    assert!(conversation.until("done").await > 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_make_no_sense_are_answered_and_the_conversation_goes_on() {
    let server = Server::start(options()).await;
    let mut conversation = Conversation::open(&server).await;
    for nonsense in [
        Message::text("no JSON"),
        Message::text(r#"{"type":"dance"}"#),
        Message::text(r#"{"type":"text"}"#),
        Message::text(r#"{"type":"text","text":7}"#),
        Message::text(r#"{"type":"start","speed":"fast"}"#),
        Message::binary(vec![1, 2, 3]),
    ] {
        conversation.0.send(nonsense.clone()).await.unwrap();
        let words = conversation.words().await;
        assert_eq!(words["type"], "error", "{nonsense:?}");
        assert!(words["error"]["message"].is_string());
    }
    for wrong in [
        json!({"type": "start", "speed": 40}),
        json!({"type": "start", "voice": "../../etc/passwd"}),
    ] {
        conversation.say(wrong).await;
        conversation
            .say(json!({"type": "text", "text": "Good day."}))
            .await;
        conversation.say(json!({"type": "flush"})).await;
        assert_eq!(conversation.words().await["type"], "error");
        assert_eq!(conversation.words().await["type"], "idle");
    }
    let words = "word ".repeat(10_000);
    conversation
        .say(json!({"type": "text", "text": words}))
        .await;
    let refused = conversation.words().await;
    assert_eq!(refused["type"], "error", "more than may wait");
    conversation.say(json!({"type": "start"})).await;
    conversation
        .say(json!({"type": "text", "text": "Good day."}))
        .await;
    conversation.say(json!({"type": "end"})).await;
    assert!(conversation.until("done").await > 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_waits_is_spoken_as_it_was_asked_for_whatever_start_follows() {
    let server = Server::start(options()).await;
    let mut conversation = Conversation::open(&server).await;
    let start = |seed: u64| json!({"type": "start", "seed": seed});
    let text = |text: &str| json!({"type": "text", "text": text});
    // The first text is long enough to be under way when the last command has come.
    for command in [
        start(1),
        text(&"A first sentence of some length. ".repeat(8)),
        start(2),
        text("A second."),
        json!({"type": "flush"}),
        json!({"type": "start", "speed": 40}),
        text("One that is lost."),
        json!({"type": "flush"}),
        start(3),
        text("And a third."),
        json!({"type": "end"}),
    ] {
        conversation.say(command).await;
    }
    let (mut seeds, mut errors) = (Vec::new(), 0);
    loop {
        let words = conversation.words().await;
        match words["type"].as_str().unwrap() {
            "chunk" => seeds.push(words["seed"].as_u64().unwrap()),
            "error" => errors += 1,
            "done" => break,
            _ => {}
        }
    }
    seeds.dedup();
    assert_eq!((seeds, errors), (vec![1, 2, 3], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_start_that_are_not_known_are_told() {
    let server = Server::start(options()).await;
    let mut conversation = Conversation::open(&server).await;
    let start = json!({"type": "start", "seed": 1, "response_format": "mp3", "memory_bytes": 1});
    conversation.say(start).await;
    let text = json!({"type": "text", "text": "Good day."});
    conversation.say(text.clone()).await;
    conversation.say(json!({"type": "flush"})).await;
    let chunk = conversation.words().await;
    assert_eq!(chunk["ignored"], json!(["memory_bytes", "response_format"]));
    conversation.until("idle").await;
    conversation.say(json!({"type": "start", "seed": 1})).await;
    conversation.say(text).await;
    conversation.say(json!({"type": "end"})).await;
    assert!(conversation.words().await.get("ignored").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_senseless_words_from_one_who_does_not_read_are_not_piled_up() {
    let server = Server::start(ServerOptions {
        limits: Limits {
            slow_reader_time: Duration::from_secs(1),
            connections: 2,
            ..Limits::default()
        },
        ..options()
    })
    .await;
    let mut conversation = Conversation::open(&server).await;
    // The server stops reading while its replies are not read, and closes the connection.
    within(async {
        while conversation
            .0
            .send(Message::text("x".repeat(1000)))
            .await
            .is_ok()
        {}
    })
    .await;
    assert_eq!(server.get("/health/live").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_the_protocol_end_the_conversation_alone() {
    let server = Server::start(options()).await;
    let head = "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    for frame in [
        // Reserved bits, an unmasked text, a length of 2^63, an oversized control frame, text that
        // is not UTF-8.
        vec![0xff, 0x80, 0, 0, 0, 0],
        vec![0x81, 0x02, b'h', b'i'],
        [vec![0x82, 0xff, 0x7f], vec![0xff; 7], vec![0; 4]].concat(),
        [vec![0x89, 0xfe, 0x01, 0x00], vec![0; 260]].concat(),
        vec![0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28],
    ] {
        let mut client: Client = server.connect().await;
        client.send(head).await.unwrap();
        let (status, _) = client.head().await.unwrap();
        assert_eq!(status, 101);
        client.send(&frame).await.unwrap();
        client.closed().await;
    }
    let mut conversation = Conversation::open(&server).await;
    // Longer than a message may be.
    let _ = conversation
        .0
        .send(Message::text("x".repeat(1 << 20)))
        .await;
    while conversation.message().await.is_some() {}
    assert_eq!(server.get("/health/live").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_frees_its_stream_to_the_last_byte() {
    let server = Server::start(options()).await;
    let body = json!({"input": "Good day.", "response_format": "pcm"});
    server.post("/v1/audio/speech", &body).await;
    let before = server.at_rest().await;
    for _ in 0..4 {
        let mut conversation = Conversation::open(&server).await;
        conversation
            .say(json!({"type": "text", "text": long_story()}))
            .await;
        conversation.until("chunk").await;
        drop(conversation);
        server.at_rest().await;
        server.comes_back_to(before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_conversation_counts_as_a_connection() {
    let server = Server::start(ServerOptions {
        limits: Limits {
            connections: 1,
            ..Limits::default()
        },
        ..options()
    })
    .await;
    let mut conversation = Conversation::open(&server).await;
    assert_eq!(
        server.get("/v1/models").await.status,
        503,
        "the one connection is taken"
    );
    assert_eq!(server.get("/health/live").await.status, 200);
    conversation.say(json!({"type": "end"})).await;
    conversation.until("done").await;
    drop(conversation);
    within(async {
        while server.get("/v1/models").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_can_come_as_a_subprotocol() {
    let server = Server::start(ServerOptions {
        api_keys: vec!["secret".into()],
        ..options()
    })
    .await;
    assert!(Conversation::open_as(&server, Some("secret")).await.is_ok());
    for key in [None, Some("wrong")] {
        let mut refused = Conversation::connect(&server, key).await.unwrap();
        let words = refused.words().await;
        assert_eq!(words["type"], "error", "{key:?}");
        assert_eq!(words["error"]["code"], "invalid_api_key");
        let (code, reason) = refused.closed().await;
        assert_eq!(code, 3000);
        assert!(reason.contains("API key"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_is_refused_or_ended_says_why_and_with_which_code() {
    let mut server = Server::start(ServerOptions {
        limits: Limits {
            connections_per_caller: 1,
            ..Limits::default()
        },
        ..options()
    })
    .await;
    let mut first = Conversation::open(&server).await;
    let mut second = Conversation::connect(&server, None).await.unwrap();
    assert_eq!(
        second.words().await["error"]["code"],
        "too_many_connections"
    );
    assert_eq!(second.closed().await.0, 1013);
    first.say(json!({"type": "end"})).await;
    first.until("done").await;
    assert_eq!(first.closed().await.0, 1000);
    drop(first);
    let mut third = Conversation::open_when_there_is_room(&server).await;
    let _ = third.0.send(Message::text("x".repeat(70_000))).await;
    assert_eq!(third.closed().await.0, 1009);
    drop(third);
    let mut fourth = Conversation::open_when_there_is_room(&server).await;
    server.stop();
    assert_eq!(fourth.words().await["error"]["code"], "stopping");
    fourth.until("done").await;
    assert_eq!(fourth.closed().await.0, 1001);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_without_words_is_a_short_silence_and_no_error() {
    let server = Server::start(options()).await;
    let mut conversation = Conversation::open(&server).await;
    for marks in ["👍", "…", "-", " ", "\n. . .\n"] {
        conversation
            .say(json!({"type": "text", "text": marks}))
            .await;
        conversation.say(json!({"type": "flush"})).await;
        let sound = conversation.until("idle").await;
        assert_eq!(sound, 19_200, "{marks:?} is 0.4 s");
    }
    conversation.say(json!({"type": "flush"})).await;
    conversation.say(json!({"type": "end"})).await;
    assert_eq!(conversation.until("done").await, 0, "nothing came since");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drawn_seed_is_told_and_gives_the_same_sound_again() {
    let server = Server::start(options()).await;
    let mut spoken = Vec::new();
    let mut seed = json!(-1);
    for _ in 0..2 {
        let mut conversation = Conversation::open(&server).await;
        let voice = json!({"id": "Default"});
        conversation
            .say(json!({"type": "start", "voice": voice, "seed": seed, "speed": "1.0"}))
            .await;
        conversation
            .say(json!({"type": "text", "text": "Good day."}))
            .await;
        conversation.say(json!({"type": "end"})).await;
        let mut sound = Vec::new();
        loop {
            match conversation.message().await.unwrap() {
                Message::Binary(bytes) => {
                    assert!(bytes.len() <= 48_000, "a message has a second at most");
                    sound.extend(bytes);
                }
                Message::Text(text) => {
                    let words: Value = serde_json::from_str(&text).unwrap();
                    match words["type"].as_str() {
                        Some("chunk") => seed = words["seed"].clone(),
                        Some("done") => break,
                        _ => {}
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        spoken.push(sound);
    }
    assert!(seed.as_u64().unwrap() > 0);
    assert!(spoken[0].len() > 10_000 && spoken[0] == spoken[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pings_and_never_reads_is_ended_while_others_speak() {
    let server = Server::start(ServerOptions {
        limits: Limits {
            slow_reader_time: Duration::from_secs(1),
            ..Limits::default()
        },
        ..options()
    })
    .await;
    let mut flood = Conversation::open(&server).await;
    let pings =
        tokio::spawn(async move { while flood.0.get_mut().write_all(&PINGS).await.is_ok() {} });
    let body = json!({"input": "Good day.", "response_format": "pcm"});
    let spoken = server.post("/v1/audio/speech", &body).await;
    assert!(spoken.whole && spoken.body.len() > 10_000);
    within(pings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_gets_its_close_back() {
    let server = Server::start(options()).await;
    for (begins, code) in [(false, 1000_u16), (true, 1001)] {
        let mut client = Conversation::open(&server).await;
        if begins {
            client
                .say(json!({"type": "text", "text": "Nobody hears this."}))
                .await;
        }
        let frame = CloseFrame {
            code: code.into(),
            reason: "enough".into(),
        };
        let close = Message::Close(Some(frame));
        client.0.send(close).await.unwrap();
        assert_eq!(client.closed().await.0, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_says_its_sentence_to_the_end_and_closes() {
    let mut server = Server::start(options()).await;
    let mut conversation = Conversation::open(&server).await;
    conversation
        .say(json!({"type": "text", "text": "This sentence is said to its end. This one is not said any more. "}))
        .await;
    conversation.until("chunk").await;
    server.stop();
    let mut stopping = false;
    loop {
        let words = conversation.words().await;
        match words["type"].as_str() {
            Some("error") => stopping = words["error"]["code"] == "stopping",
            Some("done") => break,
            Some("chunk" | "idle") => {}
            _ => panic!("{words}"),
        }
    }
    assert!(stopping, "the client is told why");
    server.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_websocket_is_told_so_in_openai_s_shape() {
    let server = Server::start(options()).await;
    let answer = server.get("/v1/stream").await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["error"]["message"].is_string());
}
