//! A low-level client that can violate the protocol.

use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

/// Longer than anything takes that ends by itself, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Fails the test instead of hanging.
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
    /// Whether the body is complete.
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

/// One connection, read and written byte by byte.
pub struct Client {
    pub socket: BufReader<TcpStream>,
}

impl Client {
    pub fn over(socket: TcpStream) -> Client {
        Client {
            socket: BufReader::new(socket),
        }
    }

    /// A connection from another address of this machine.
    pub async fn from_address(address: &str, server: SocketAddr) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::new(address.parse().unwrap(), 0))
            .unwrap();
        Client::over(socket.connect(server).await.unwrap())
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

    /// The whole response.
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

    /// Status and headers; `None` if the connection ended before them.
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

    /// The next piece of a chunked body, empty at its end; `None` if the connection broke.
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

    /// Waits until the server closes the connection; returns what it sent before.
    pub async fn closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = within(self.socket.read_to_end(&mut rest)).await;
        rest
    }
}

/// Malformed requests from a seeded generator.
pub fn malformed(count: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let heads = [
        "GET / HTTP/9.9\r\n\r\n",
        "BREW /coffee HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900000000\r\n\r\n{",
        "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\nFFFFFFFFFFFFFFFF\r\n{",
        "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 22\r\n\r\n{\"input\":\"\\ud800\"}     ",
        "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
        "POST /v1/audio/voices HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=\r\nContent-Length: 4\r\n\r\n----",
        "DELETE /v1/audio/voices/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /v1/models/%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}",
    ];
    (0..count).map(move |_| {
        let mut request = heads[next(heads.len())].as_bytes().to_vec();
        for _ in 0..next(4) {
            let at = next(request.len());
            request[at] = next(256) as u8;
        }
        let end = request.len() - next(3) * next(request.len()) / 3;
        request.truncate(end);
        request
    })
}
