//! Events on a connection: a line of JSON, then data as JSON, then a payload of bytes.
//!
//! Format: `wyoming/event.py` of the reference implementation. The line has the event's `type`, and
//! `data_length` and `payload_length` of what follows it; older clients put `data` into the line.

use crate::bodies::{BodyMemory, HeldBytes};
use crate::error::ServerError;
use crate::fields::Fields;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

/// Longest header line.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Longest payload: none of the events that speech needs has one, and it is passed over.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Read size.
const READ_BYTES: usize = 4 << 10;

/// A received event.
pub(super) struct Event {
    pub(super) kind: String,
    pub(super) data: Fields,
}

/// Lengths that a header line claims.
struct Header {
    kind: String,
    data: Map<String, Value>,
    line_bytes: usize,
    data_bytes: usize,
    payload_bytes: usize,
}

/// Reads events. At most one event's line and data are in memory, counted with the bodies of all
/// requests; payloads are not kept.
pub(super) struct EventReader<R> {
    input: R,
    memory: Arc<BodyMemory>,
    /// Most bytes of an event's data.
    data_bytes_max: usize,
    /// How long an event may take from its first byte to its last.
    receive_time: Duration,
    buffer: Vec<u8>,
    held: HeldBytes,
    /// Bytes of a payload that are still to be passed over.
    payload_left: usize,
    /// When the first byte of an incomplete event came.
    begun: Option<Instant>,
}

impl<R: AsyncRead + Unpin> EventReader<R> {
    pub(super) fn new(
        input: R,
        memory: &Arc<BodyMemory>,
        data_bytes_max: usize,
        receive_time: Duration,
    ) -> EventReader<R> {
        EventReader {
            input,
            memory: memory.clone(),
            data_bytes_max,
            receive_time,
            buffer: Vec::new(),
            held: memory.hold(),
            payload_left: 0,
            begun: None,
        }
    }

    /// The next event; `None` at the end of the connection. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the bytes are no event, an event is too large or too slow, or the requests of all callers
    /// hold as much memory as they may.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, ServerError> {
        loop {
            self.pass_payload();
            if self.payload_left == 0
                && let Some(event) = self.parse()?
            {
                return Ok(Some(event));
            }
            let incomplete = self.payload_left > 0 || !self.buffer.is_empty();
            let mut piece = [0; READ_BYTES];
            let read = self.input.read(&mut piece);
            let count = match incomplete {
                false => read.await,
                true => {
                    let begun = *self.begun.get_or_insert_with(Instant::now);
                    let limit = self.receive_time;
                    match tokio::time::timeout_at(begun + limit, read).await {
                        Ok(count) => count,
                        Err(_) => {
                            return Err(ServerError::Body {
                                status: StatusCode::REQUEST_TIMEOUT,
                                reason: format!(
                                    "the event did not arrive within {} s",
                                    limit.as_secs()
                                ),
                            });
                        }
                    }
                }
            };
            match count {
                // A reset is an end as well.
                Ok(0) | Err(_) => return Ok(None),
                Ok(count) => {
                    self.held.add(count)?;
                    self.buffer.extend_from_slice(&piece[..count]);
                }
            }
        }
    }

    fn pass_payload(&mut self) {
        let passed = self.payload_left.min(self.buffer.len());
        if passed > 0 {
            self.consume(passed);
            self.payload_left -= passed;
        }
    }

    /// Removes the first bytes of the buffer, and its memory when nothing is left.
    fn consume(&mut self, count: usize) {
        self.buffer.drain(..count);
        self.buffer.shrink_to(READ_BYTES);
        self.held = self.memory.hold();
        // The rest was counted before; it cannot exceed the bound that held more.
        let _ = self.held.add(self.buffer.len());
        self.begun = None;
    }

    /// The first event of the buffer, if it is there whole.
    fn parse(&mut self) -> Result<Option<Event>, ServerError> {
        let Some(header) = self.header()? else {
            return Ok(None);
        };
        let end = header.line_bytes + header.data_bytes;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let mut data = header.data;
        if header.data_bytes > 0 {
            let separate = serde_json::from_slice(&self.buffer[header.line_bytes..end]);
            let Ok(Value::Object(separate)) = separate else {
                return Err(broken("its data is no JSON object"));
            };
            data.extend(separate);
        }
        self.consume(end);
        self.payload_left = header.payload_bytes;
        Ok(Some(Event {
            kind: header.kind,
            data: Fields::of(data),
        }))
    }

    /// The header of the buffer's first event, if its line is there whole.
    fn header(&self) -> Result<Option<Header>, ServerError> {
        let head = &self.buffer[..self.buffer.len().min(LINE_BYTES_MAX)];
        let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
            // Another protocol's first bytes are refused before its line ends.
            let foreign = head.first().is_some_and(|byte| *byte != b'{');
            return match foreign || head.len() == LINE_BYTES_MAX {
                true => Err(broken("it begins with a line of JSON")),
                false => Ok(None),
            };
        };
        let Ok(Value::Object(mut line)) = serde_json::from_slice(&head[..end]) else {
            return Err(broken("it begins with a line of JSON"));
        };
        let Some(Value::String(kind)) = line.remove("type") else {
            return Err(broken("its line names its type"));
        };
        let data = match line.remove("data") {
            Some(Value::Object(data)) => data,
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err(broken("its data is no JSON object")),
        };
        let length = |name: &str, most: usize| {
            let length = match line.get(name) {
                None | Some(Value::Null) => Some(0),
                Some(value) => value
                    .as_u64()
                    .and_then(|length| usize::try_from(length).ok()),
            };
            let length = length.ok_or_else(|| broken("its lengths are whole numbers"))?;
            match length <= most {
                true => Ok(length),
                false => Err(ServerError::Body {
                    status: StatusCode::PAYLOAD_TOO_LARGE,
                    reason: format!("{name}: at most {most} bytes are taken"),
                }),
            }
        };
        Ok(Some(Header {
            kind,
            data,
            line_bytes: end + 1,
            data_bytes: length("data_length", self.data_bytes_max)?,
            payload_bytes: length("payload_length", PAYLOAD_BYTES_MAX)?,
        }))
    }
}

/// Reads all events of `bytes`, for fuzzing; returns their number.
#[cfg(fuzzing)]
pub(crate) async fn read_events(
    bytes: &[u8],
    memory: &Arc<BodyMemory>,
    data_bytes_max: usize,
    receive_time: Duration,
) -> Result<usize, ServerError> {
    let mut reader = EventReader::new(bytes, memory, data_bytes_max, receive_time);
    let mut count = 0;
    while reader.next().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

fn broken(reason: &str) -> ServerError {
    ServerError::Body {
        status: StatusCode::BAD_REQUEST,
        reason: format!("this is no event of the Wyoming protocol: {reason}"),
    }
}

/// The bytes of an event.
pub(super) fn encode(kind: &str, data: &Value, payload: &[u8]) -> io::Result<Vec<u8>> {
    let data = match data.is_null() {
        true => Vec::new(),
        false => serde_json::to_vec(data)?,
    };
    let mut line = json!({"type": kind});
    if !data.is_empty() {
        line["data_length"] = data.len().into();
    }
    if !payload.is_empty() {
        line["payload_length"] = payload.len().into();
    }
    let mut bytes = serde_json::to_vec(&line)?;
    bytes.push(b'\n');
    bytes.extend(data);
    bytes.extend(payload);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8], piece_bytes: usize) -> Result<Vec<(String, Vec<String>)>, u16> {
        let memory = BodyMemory::new(1 << 20);
        let (near, mut far) = tokio::io::duplex(piece_bytes);
        let limit = Duration::from_secs(1);
        let mut reader = EventReader::new(near, &memory, 1000, limit);
        let sent = bytes.to_vec();
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let _ = far.write_all(&sent).await;
        });
        let mut events = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some(event)) => events.push((event.kind, event.data.unread())),
                Ok(None) => break,
                Err(error) => return Err(error.status().as_u16()),
            }
        }
        assert!(reader.buffer.capacity() <= 2 * READ_BYTES);
        drop(reader);
        assert_eq!(memory.bytes(), 0, "nothing is held afterwards");
        Ok(events)
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_read_however_they_are_cut_and_their_payloads_passed_over() {
        let mut bytes = encode("describe", &Value::Null, &[]).unwrap();
        bytes.extend(encode("synthesize", &json!({"text": "Hi.\nYou."}), &[]).unwrap());
        bytes.extend(encode("audio-chunk", &json!({"rate": 16_000}), &[b'{'; 9000]).unwrap());
        bytes.extend(b"{\"type\": \"ping\", \"data\": {\"text\": \"x\"}}\n");
        for piece_bytes in [1, 7, 100_000] {
            let events = read(&bytes, piece_bytes).await.unwrap();
            let kinds: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
            assert_eq!(kinds, ["describe", "synthesize", "audio-chunk", "ping"]);
            assert_eq!(events[1].1, ["text"]);
            assert_eq!(events[3].1, ["text"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_event_or_too_large_is_refused() {
        let long = format!("{{\"type\": \"{}", "x".repeat(LINE_BYTES_MAX));
        for (bytes, status) in [
            (&b"POST / HTTP/1.1"[..], 400),
            (b"[]\n", 400),
            (b"{}\n", 400),
            (b"{\"type\": 3}\n", 400),
            (b"{\"type\": \"x\", \"data\": 3}\n", 400),
            (b"{\"type\": \"x\", \"data_length\": -1}\n", 400),
            (b"{\"type\": \"x\", \"data_length\": 1.5}\n", 400),
            (b"{\"type\": \"x\", \"data_length\": 3}\n[1]", 400),
            (b"{\"type\": \"x\", \"data_length\": 1001}\n", 413),
            (b"{\"type\": \"x\", \"payload_length\": 99999999999}\n", 413),
            (long.as_bytes(), 400),
        ] {
            assert_eq!(
                read(bytes, 100_000).await,
                Err(status),
                "{:?}",
                bytes.get(..40)
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_does_not_end_is_given_up() {
        let memory = BodyMemory::new(1 << 20);
        let (near, mut far) = tokio::io::duplex(100);
        let mut reader = EventReader::new(near, &memory, 1000, Duration::from_secs(1));
        use tokio::io::AsyncWriteExt;
        far.write_all(b"{\"type\": \"des").await.unwrap();
        let refusal = reader.next().await.err().unwrap();
        assert_eq!(refusal.status(), StatusCode::REQUEST_TIMEOUT);
    }
}
