//! Load and attack generator for a running server. Reports the server's responses, and the memory
//! that it holds before and after.
//!
//! ```console
//! $ sottovoce serve --queue 256 --requests-per-minute 1000000 &
//! $ cargo run --release -p sottovoce-server --example load -- http --clients 64 --seconds 30
//! ```

#[path = "../tests/common/client.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod client;

use clap::{Parser, ValueEnum};
use client::{Answer, Client, malformed};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

const SENTENCES: [&str; 4] = [
    "Good day.",
    "How much memory does it use?",
    "It speaks within that, from the first word to the last.",
    "The budget is a promise, and every byte has an owner.",
];
/// How long an attack keeps its connections open.
const ATTACK: Duration = Duration::from_secs(40);

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Way {
    /// Speech over HTTP, one request after another.
    Http,
    /// Speech over one WebSocket per client.
    Websocket,
    /// Processes of such clients, killed while they listen, in rounds.
    Kill,
    /// Clients that request speech and never read it.
    Silent,
    /// Clients that send one byte of a request every second.
    Trickle,
    /// Malformed requests: a hundred times the number of clients.
    Malformed,
}

#[derive(Clone, Parser)]
struct Arguments {
    way: Way,
    /// Address of the server.
    #[arg(long, default_value = "127.0.0.1:8000")]
    address: SocketAddr,
    #[arg(long, default_value_t = 64)]
    clients: usize,
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Generate load only, without requests before or after it.
    #[arg(long)]
    bare: bool,
}

/// Results of all clients.
#[derive(Default)]
struct Tally {
    spoken: usize,
    refused: usize,
    failed: Vec<String>,
    samples: usize,
    first_audio: Vec<f64>,
}

type Shared = Arc<Mutex<Tally>>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments = Arguments::parse();
    let before = match arguments.bare {
        true => None,
        false => Some(settled(arguments.address).await),
    };
    let started = Instant::now();
    let tally = Shared::default();
    match arguments.way {
        Way::Kill => kill(&arguments).await,
        Way::Malformed => send_malformed(&arguments, &tally).await,
        _ => everyone(&arguments, &tally).await,
    }
    let seconds = started.elapsed().as_secs_f64();
    report(&arguments, &mut tally.lock().unwrap(), seconds);
    if let Some(before) = before {
        let after = settled(arguments.address).await;
        for what in ["allocated_bytes", "reserved_bytes", "resident_bytes"] {
            println!("{what}: {} before, {} after", before[what], after[what]);
        }
    }
}

async fn everyone(arguments: &Arguments, tally: &Shared) {
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let clients = (0..arguments.clients).map(|number| {
        let (arguments, tally) = (arguments.clone(), tally.clone());
        tokio::spawn(async move {
            let outcome = match arguments.way {
                Way::Http => over_http(arguments.address, number, end, &tally).await,
                Way::Websocket => over_websocket(arguments.address, number, end, &tally).await,
                Way::Silent => silent(arguments.address).await,
                _ => trickle(arguments.address).await,
            };
            if let Err(reason) = outcome {
                tally.lock().unwrap().failed.push(reason);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        let _ = client.await;
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address)
        .await
        .map_err(|error| format!("no connection: {error}"))
}

async fn over_http(
    address: SocketAddr,
    number: usize,
    end: Instant,
    tally: &Shared,
) -> Result<(), String> {
    for turn in number.. {
        if Instant::now() > end {
            break;
        }
        let mut client = Client::over(connect(address).await?);
        let asked = Instant::now();
        let body = json!({"input": SENTENCES[turn % SENTENCES.len()], "response_format": "pcm", "seed": turn});
        client.send_post("/v1/audio/speech", &body).await;
        let (status, _) = client.head().await.ok_or("no answer")?;
        if status == 429 {
            tally.lock().unwrap().refused += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        if status != 200 {
            return Err(format!("status {status}"));
        }
        let mut bytes = 0;
        let mut first = None;
        loop {
            let piece = client.piece().await.ok_or("the sound broke off")?;
            first.get_or_insert(asked.elapsed());
            if piece.is_empty() {
                break;
            }
            bytes += piece.len();
        }
        spoken(tally, bytes, first);
    }
    Ok(())
}

async fn over_websocket(
    address: SocketAddr,
    number: usize,
    end: Instant,
    tally: &Shared,
) -> Result<(), String> {
    let socket = connect(address).await?;
    let (mut socket, _) =
        tokio_tungstenite::client_async(format!("ws://{address}/v1/stream"), socket)
            .await
            .map_err(|error| error.to_string())?;
    for turn in number.. {
        if Instant::now() > end {
            break;
        }
        let asked = Instant::now();
        let commands = [
            json!({"type": "start", "seed": turn}),
            json!({"type": "text", "text": SENTENCES[turn % SENTENCES.len()]}),
            json!({"type": "flush"}),
        ];
        for command in commands {
            let sent = socket.send(Message::text(command.to_string())).await;
            sent.map_err(|error| error.to_string())?;
        }
        let (mut bytes, mut first, mut refused) = (0, None, false);
        loop {
            let message = socket.next().await.ok_or("the conversation broke off")?;
            match message.map_err(|error| error.to_string())? {
                Message::Binary(sound) => {
                    first.get_or_insert(asked.elapsed());
                    bytes += sound.len();
                }
                Message::Text(text) => {
                    let words: Value = serde_json::from_str(&text).unwrap_or_default();
                    match words["type"].as_str() {
                        Some("idle") => break,
                        Some("error") if words["error"]["type"] == "rate_limit_error" => {
                            refused = true;
                        }
                        Some("error") => return Err(words.to_string()),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        if refused {
            tally.lock().unwrap().refused += 1;
        } else {
            spoken(tally, bytes, first);
        }
    }
    Ok(())
}

fn spoken(tally: &Shared, bytes: usize, first: Option<Duration>) {
    let mut tally = tally.lock().unwrap();
    tally.spoken += 1;
    tally.samples += bytes / 2;
    tally
        .first_audio
        .extend(first.map(|first| first.as_secs_f64()));
}

/// Requests a long speech and never reads it.
async fn silent(address: SocketAddr) -> Result<(), String> {
    let mut client = Client::over(connect(address).await?);
    let body = json!({"input": SENTENCES.join(" ").repeat(50), "response_format": "pcm"});
    client.send_post("/v1/audio/speech", &body).await;
    tokio::time::sleep(ATTACK).await;
    Ok(())
}

async fn trickle(address: SocketAddr) -> Result<(), String> {
    let mut socket = connect(address).await?;
    let end = Instant::now() + ATTACK;
    while Instant::now() < end && socket.write_all(b"G").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

async fn send_malformed(arguments: &Arguments, tally: &Shared) {
    for request in malformed(100 * arguments.clients) {
        match connect(arguments.address).await {
            Err(reason) => tally.lock().unwrap().failed.push(reason),
            Ok(mut socket) => {
                // The server may have closed the connection.
                let _ = socket.write_all(&request).await;
                let _ = socket.shutdown().await;
                let answer = Client::over(socket).closed().await;
                let mut tally = tally.lock().unwrap();
                match answer.starts_with(b"HTTP/1.1 500") {
                    true => tally
                        .failed
                        .push(String::from_utf8_lossy(&request).into_owned()),
                    false => tally.refused += 1,
                }
            }
        }
    }
}

/// Starts processes of clients, lets them listen for a while, and kills them.
async fn kill(arguments: &Arguments) {
    let program = std::env::current_exe().expect("the system knows its own program");
    for _ in 0..5 {
        let children: Vec<_> = ["http", "websocket"]
            .into_iter()
            .map(|way| {
                std::process::Command::new(&program)
                    .args([way, "--bare", "--address"])
                    .arg(arguments.address.to_string())
                    .arg("--clients")
                    .arg((arguments.clients / 2).to_string())
                    .spawn()
                    .expect("a process must start")
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(4)).await;
        for mut child in children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn ask(address: SocketAddr, path: &str, body: Option<Value>) -> Answer {
    let socket = connect(address).await.expect("the server must run");
    let mut client = Client::over(socket);
    match body {
        None => client.get(path).await,
        Some(body) => {
            client.send_post(path, &body).await;
            client.answer().await
        }
    }
}

/// The engine's memory once no stream is running and caches are trimmed.
async fn settled(address: SocketAddr) -> Value {
    let body = json!({"input": SENTENCES[0], "response_format": "pcm"});
    let spoken = ask(address, "/v1/audio/speech", Some(body)).await;
    assert_eq!(spoken.status, 200, "the server must still speak");
    loop {
        let memory = ask(address, "/memory", None).await.json();
        let streams = memory["streams"].as_array().map_or(0, Vec::len);
        if memory["streams_live"] == 0 && memory["queue_length"] == 0 && streams == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ask(address, "/memory/trim", Some(json!({}))).await;
    ask(address, "/memory", None).await.json()["engine"].take()
}

fn report(arguments: &Arguments, tally: &mut Tally, seconds: f64) {
    println!(
        "{:?}, {} clients, {seconds:.1} s: {} spoken, {} refused, {} failed",
        arguments.way,
        arguments.clients,
        tally.spoken,
        tally.refused,
        tally.failed.len()
    );
    for reason in tally.failed.iter().take(5) {
        println!("failed: {reason}");
    }
    if tally.first_audio.is_empty() {
        return;
    }
    tally.first_audio.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let last = tally.first_audio.len() - 1;
        tally.first_audio[(last as f64 * share).round() as usize]
    };
    println!(
        "{:.2} a second, {:.2} s of speech a second; first audio {:.3} s (p50), {:.3} s (p95), {:.3} s (longest)",
        tally.spoken as f64 / seconds,
        tally.samples as f64 / 24_000.0 / seconds,
        at(0.5),
        at(0.95),
        at(1.0)
    );
}
