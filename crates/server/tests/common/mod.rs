//! A server on a socket of its own, and a client that can be as rude as a test wants.

#![allow(dead_code, reason = "each test file uses its part")]

use serde_json::Value;
use sottovoce::EngineOptions;
use sottovoce_server::{App, ServerError, ServerOptions, serve};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longer than anything that ends by itself may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Enough words that no test sees their end by accident.
pub fn long_story() -> String {
    "This is a long story about nothing at all. ".repeat(400)
}

/// Two streams, any port.
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

pub struct Server {
    pub address: SocketAddr,
    pub app: Arc<App>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Server {
    pub async fn start(options: ServerOptions) -> Server {
        let app = App::new(options);
        app.load().await.unwrap();
        let (say, address) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn({
            let app = app.clone();
            async move {
                serve(app, move |address| say.send(address).unwrap(), async move {
                    let _ = stopped.await;
                })
                .await
            }
        });
        Server {
            address: address.await.unwrap(),
            app,
            stop: Some(stop),
            task,
        }
    }

    /// Tells the server to stop; it goes on with what is under way.
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

    /// Waits until no stream is under way and nobody waits; the bytes in use then, what is kept for the next given back.
    pub async fn at_rest(&self) -> u64 {
        within(async {
            loop {
                let memory = self.memory().await;
                if memory["streams_live"] == 0
                    && memory["queue_length"] == 0
                    && memory["streams"] == Value::Array(Vec::new())
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let trimmed = self.post("/memory/trim", &Value::Null).await;
        assert_eq!(trimmed.status, 200);
        self.memory().await["engine"]["allocated_bytes"]
            .as_u64()
            .unwrap()
    }
}

/// Fails instead of hanging.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it must come to an end")
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Whether the body came to its announced end.
    pub whole: bool,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// One connection, read and written by hand.
pub struct Client {
    pub socket: BufReader<TcpStream>,
}

impl Client {
    pub fn over(socket: TcpStream) -> Client {
        Client {
            socket: BufReader::new(socket),
        }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.socket.get_mut().write_all(bytes.as_ref()).await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.send(head).await.unwrap();
        self.answer().await
    }

    pub async fn send_post(&mut self, path: &str, body: &Value) {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(request).await.unwrap();
    }

    /// The whole answer.
    pub async fn answer(&mut self) -> Answer {
        within(async {
            let (status, head) = self.head().await.expect("there must be an answer");
            let (mut body, mut whole) = (Vec::new(), true);
            if header(&head, "transfer-encoding") == Some("chunked") {
                loop {
                    match self.piece().await {
                        Some(piece) if piece.is_empty() => break,
                        Some(piece) => body.extend(piece),
                        None => {
                            whole = false;
                            break;
                        }
                    }
                }
            } else if let Some(length) = header(&head, "content-length") {
                body.resize(length.parse().unwrap(), 0);
                whole = self.socket.read_exact(&mut body).await.is_ok();
            }
            Answer {
                status,
                head,
                body,
                whole,
            }
        })
        .await
    }

    /// Status and head; nothing if the connection ended before.
    pub async fn head(&mut self) -> Option<(u16, String)> {
        within(async {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                match self.socket.read_line(&mut head).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
            let status = head.split(' ').nth(1)?.parse().ok()?;
            Some((status, head))
        })
        .await
    }

    /// The next piece of a chunked body, empty at its end; nothing if the connection broke.
    pub async fn piece(&mut self) -> Option<Vec<u8>> {
        within(async {
            let mut size = String::new();
            self.socket.read_line(&mut size).await.ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut piece = vec![0; size + 2];
            self.socket.read_exact(&mut piece).await.ok()?;
            piece.truncate(size);
            Some(piece)
        })
        .await
    }

    /// Waits until the server closes the connection; what it said before.
    pub async fn closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = within(self.socket.read_to_end(&mut rest)).await;
        rest
    }
}
