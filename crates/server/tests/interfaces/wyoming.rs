//! The Wyoming protocol over a socket.

use crate::common::{Server, long_story, options, within};
use serde_json::{Value, json};
use sottovoce_server::{Limits, ServerOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

fn wyoming() -> ServerOptions {
    ServerOptions {
        wyoming: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        ..options()
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(server: &Server) -> Client {
        let address = server.wyoming.unwrap();
        Client(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.unwrap();
    }

    /// Sends an event as the reference's client does: its data follow the line.
    async fn send(&mut self, kind: &str, data: Value) {
        let data = data.to_string();
        let line = json!({"type": kind, "version": "1.8.0", "data_length": data.len()});
        self.write(format!("{line}\n{data}").as_bytes()).await;
    }

    /// The next event: type, data, bytes of its payload. `None` at the end of the connection.
    async fn next(&mut self) -> Option<(String, Value, Vec<u8>)> {
        within(async {
            let mut line = String::new();
            if self.0.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let line: Value = serde_json::from_str(&line).unwrap();
            let mut data = vec![0; line["data_length"].as_u64().unwrap_or(0) as usize];
            self.0.read_exact(&mut data).await.ok()?;
            let mut payload = vec![0; line["payload_length"].as_u64().unwrap_or(0) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            let data = serde_json::from_slice(&data).unwrap_or(Value::Null);
            Some((line["type"].as_str().unwrap().to_owned(), data, payload))
        })
        .await
    }

    /// The sound up to `last`, from `audio-start` to `audio-stop`.
    async fn sound(&mut self, last: &str) -> Vec<u8> {
        let mut sound = Vec::new();
        let (mut started, mut stopped) = (false, false);
        loop {
            let (kind, data, payload) = self.next().await.expect("the sound must end");
            match kind.as_str() {
                "audio-start" => {
                    assert!(!started, "one start");
                    assert_eq!(data["rate"], 24_000);
                    assert_eq!((&data["width"], &data["channels"]), (&json!(2), &json!(1)));
                    started = true;
                }
                "audio-chunk" => {
                    assert!(started && !stopped);
                    let milliseconds = sound.len() / 2 / 24;
                    assert_eq!(data["timestamp"].as_u64().unwrap() as usize, milliseconds);
                    sound.extend(payload);
                }
                "audio-stop" => stopped = true,
                "synthesize-stopped" => assert_eq!(last, "synthesize-stopped"),
                other => panic!("{other}: {data}"),
            }
            if kind == last {
                assert_eq!(started, stopped);
                return sound;
            }
        }
    }

    /// The error that the server ends the connection with.
    async fn refusal(&mut self) -> Value {
        loop {
            match self.next().await {
                Some((kind, data, _)) if kind == "error" => {
                    assert_eq!(self.next().await, None, "the connection ends");
                    return data;
                }
                Some(_) => {}
                None => panic!("no error was told"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_describes_itself_and_answers_pings() {
    let server = Server::start(wyoming()).await;
    let mut client = Client::connect(&server).await;
    client.write(b"{\"type\": \"describe\"}\n").await;
    let (kind, info, _) = client.next().await.unwrap();
    assert_eq!(kind, "info");
    let program = &info["tts"][0];
    assert_eq!(program["supports_synthesize_streaming"], true);
    let voice = &program["voices"][0];
    assert_eq!(
        (&voice["name"], &voice["installed"]),
        (&json!("default"), &json!(true))
    );
    assert_eq!(voice["languages"][0], "en");
    assert!(voice["attribution"]["url"].is_string());
    client
        .write(b"{\"type\": \"ping\", \"data\": {\"text\": \"x\"}}\n")
        .await;
    let (kind, data, _) = client.next().await.unwrap();
    assert_eq!((kind.as_str(), &data["text"]), ("pong", &json!("x")));
    client.send("transcribe", json!({"language": "en"})).await;
    client.send("ping", json!({"text": null})).await;
    assert_eq!(
        client.next().await.unwrap().0,
        "pong",
        "what is not for speech is passed over"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn text_at_once_and_in_pieces_gives_the_same_speech() {
    let server = Server::start(wyoming()).await;
    let mut client = Client::connect(&server).await;
    // Two sentences that the model does not say in one breath, however they arrive.
    let text = "We counted forty two boats before it got dark, and nobody was late. \
                My neighbour plays the piano on Sunday afternoons.";
    client
        .send(
            "synthesize",
            json!({"text": text, "voice": {"name": "default"}}),
        )
        .await;
    let whole = client.sound("audio-stop").await;
    assert!(whole.len() > 48_000, "{}", whole.len());
    client
        .send("synthesize-start", json!({"voice": {"language": "en"}}))
        .await;
    for start in (0..text.len()).step_by(20) {
        let piece = &text[start..text.len().min(start + 20)];
        client
            .send("synthesize-chunk", json!({"text": piece}))
            .await;
    }
    // Home Assistant repeats the text for servers that take no pieces.
    client.send("synthesize", json!({"text": text})).await;
    client.send("synthesize-stop", json!({})).await;
    let pieces = client.sound("synthesize-stopped").await;
    assert_eq!(whole.len(), pieces.len(), "the same speech");
    client.send("synthesize-start", json!({})).await;
    client.send("synthesize-stop", json!({})).await;
    assert_eq!(
        client.sound("synthesize-stopped").await.len(),
        0,
        "no text, no sound"
    );
    client.send("synthesize", json!({"text": "👍"})).await;
    let silence = client.sound("audio-stop").await;
    assert!(silence.iter().all(|byte| *byte == 0), "no words, a silence");
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_begins_before_the_text_ends() {
    let server = Server::start(wyoming()).await;
    let mut client = Client::connect(&server).await;
    client.send("synthesize-start", json!({})).await;
    client
        .send(
            "synthesize-chunk",
            json!({"text": "The first sentence is whole. And"}),
        )
        .await;
    assert_eq!(client.next().await.unwrap().0, "audio-start");
    client
        .send("synthesize-chunk", json!({"text": " so it ends."}))
        .await;
    client.send("synthesize-stop", json!({})).await;
    loop {
        let (kind, ..) = client.next().await.unwrap();
        if kind == "synthesize-stopped" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_told_and_ends_the_connection() {
    let server = Server::start(ServerOptions {
        limits: Limits {
            text_characters: 100,
            receive_time: Duration::from_millis(200),
            ..Limits::default()
        },
        ..wyoming()
    })
    .await;
    let long = "word ".repeat(30);
    for (bytes, words) in [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "no event"),
        (b"{\"type\": \"desc".to_vec(), "did not arrive"),
        (b"{\"type\": \"synthesize\"}\n".to_vec(), "text"),
        (b"{\"type\": \"synthesize\", \"data\": {\"text\": \"\"}}\n".to_vec(), "nothing"),
        (b"{\"type\": \"synthesize\", \"data\": {\"text\": 3}}\n".to_vec(), "text"),
        (b"{\"type\": \"synthesize-chunk\", \"data\": {\"text\": \"x\"}}\n".to_vec(), "synthesize-start"),
        (b"{\"type\": \"x\", \"data_length\": 999999999}\n".to_vec(), "at most"),
        (
            format!("{{\"type\": \"synthesize\", \"data\": {{\"text\": \"{long}\"}}}}\n").into_bytes(),
            "more than the 100",
        ),
        (
            b"{\"type\": \"synthesize\", \"data\": {\"text\": \"x\", \"voice\": {\"name\": \"nobody\"}}}\n".to_vec(),
            "nobody",
        ),
        (
            b"{\"type\": \"synthesize\", \"data\": {\"text\": \"x\", \"voice\": 3}}\n".to_vec(),
            "voice",
        ),
    ] {
        let mut client = Client::connect(&server).await;
        client.write(&bytes).await;
        let refusal = client.refusal().await;
        let told = refusal["text"].as_str().unwrap();
        assert!(told.contains(words), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_or_turns_to_another_text_frees_its_place() {
    let server = Server::start(wyoming()).await;
    // The first speech makes the voice ready, which stays.
    let mut client = Client::connect(&server).await;
    client.send("synthesize", json!({"text": "Hi."})).await;
    client.sound("audio-stop").await;
    drop(client);
    let before = server.at_rest().await;
    for leaves in [true, false] {
        let mut client = Client::connect(&server).await;
        client
            .send("synthesize", json!({"text": long_story()}))
            .await;
        assert_eq!(client.next().await.unwrap().0, "audio-start");
        if !leaves {
            client.send("synthesize", json!({"text": "Hi."})).await;
            // The end of the second text comes although the first has minutes left.
            while client.next().await.unwrap().0 != "audio-stop" {}
        }
        drop(client);
    }
    server.comes_back_to(before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_take_all_connections() {
    let server = Server::start(ServerOptions {
        limits: Limits {
            connections_per_caller: 3,
            ..Limits::default()
        },
        ..wyoming()
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(&server).await;
        client.send("ping", json!({})).await;
        assert_eq!(client.next().await.unwrap().0, "pong");
        held.push(client);
    }
    let mut further = Client::connect(&server).await;
    let refusal = further.refusal().await;
    assert_eq!(refusal["code"], "too_many_connections");
    drop(held);
    within(async {
        loop {
            let mut client = Client::connect(&server).await;
            client.send("ping", json!({})).await;
            if client.next().await.is_some_and(|(kind, ..)| kind == "pong") {
                break;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_finishes_the_sentence_and_says_so() {
    let mut server = Server::start(wyoming()).await;
    let mut client = Client::connect(&server).await;
    client
        .send("synthesize", json!({"text": "This sentence is finished."}))
        .await;
    assert_eq!(client.next().await.unwrap().0, "audio-start");
    server.stop();
    let mut kinds = Vec::new();
    while let Some((kind, ..)) = client.next().await {
        kinds.push(kind);
    }
    let end = &kinds[kinds.len() - 2..];
    assert_eq!(end, ["audio-stop", "error"]);
    server.ended().await.unwrap();
}
