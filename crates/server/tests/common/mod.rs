//! A server on its own socket.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod calls;
mod client;

pub use client::*;
use serde_json::{Value, json};
use sottovoce::{EngineOptions, ModelConfig, Source};
use sottovoce_server::{Addresses, App, ServerError, ServerOptions, serve};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A text long enough that no test reaches its end by accident.
pub fn long_story() -> String {
    "This is a long story about nothing at all. ".repeat(400)
}

/// Two streams, any free port.
pub fn options() -> ServerOptions {
    ServerOptions {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        engine: EngineOptions {
            streams_max: 2,
            ..EngineOptions::default()
        },
        ..ServerOptions::default()
    }
}

/// One thread for a random model of this config, whose voices lie in `folder`.
pub fn options_with_voices(config: ModelConfig, folder: &Path) -> ServerOptions {
    ServerOptions {
        source: Source::Random(Box::new(config)),
        engine: EngineOptions {
            threads: Some(1),
            ..EngineOptions::default()
        },
        voices_directory: Some(folder.to_owned()),
        ..options()
    }
}

pub struct Server {
    pub address: SocketAddr,
    /// Address of the Wyoming service, if it is served.
    pub wyoming: Option<SocketAddr>,
    pub app: Arc<App>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Server {
    pub async fn start(options: ServerOptions) -> Server {
        let app = App::new(options);
        app.load().await.unwrap();
        let (say, addresses) = oneshot::channel::<Addresses>();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn({
            let app = app.clone();
            async move {
                serve(
                    app,
                    move |addresses| say.send(addresses).unwrap(),
                    async move {
                        let _ = stopped.await;
                    },
                )
                .await
            }
        });
        let addresses = addresses.await.unwrap();
        Server {
            address: addresses.http,
            wyoming: addresses.wyoming,
            app,
            stop: Some(stop),
            task,
        }
    }

    /// Tells the server to stop; running streams go on.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).unwrap();
        }
    }

    /// Waits for the server's end.
    pub async fn ended(self) -> Result<(), ServerError> {
        within(self.task).await.unwrap()
    }

    pub async fn connect(&self) -> Client {
        Client::over(TcpStream::connect(self.address).await.unwrap())
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.connect().await.get(path).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let mut client = self.connect().await;
        client.send_post(path, body).await;
        client.answer().await
    }

    pub async fn memory(&self) -> Value {
        self.get("/memory").await.json()
    }

    /// Waits until no stream is running or queued; returns the bytes in use after a trim.
    pub async fn at_rest(&self) -> u64 {
        within(async {
            loop {
                let memory = self.memory().await;
                if memory["streams_live"] == 0
                    && memory["queue_length"] == 0
                    && memory["streams"] == json!([])
                    && memory["engine"]["streams"] == json!([])
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        self.trimmed().await
    }

    async fn trimmed(&self) -> u64 {
        let trimmed = self.post("/memory/trim", &json!({})).await;
        assert_eq!(trimmed.status, 200);
        let memory = self.memory().await;
        memory["engine"]["allocated_bytes"].as_u64().unwrap()
    }

    /// Waits until exactly `bytes` bytes are in use: the engine ends a stream only after its
    /// current unit of work.
    pub async fn comes_back_to(&self, bytes: u64) {
        let started = Instant::now();
        loop {
            let now = self.trimmed().await;
            if now == bytes {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{now} bytes instead of {bytes}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
