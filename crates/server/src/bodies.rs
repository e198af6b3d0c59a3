//! Request bodies. They are received and decompressed within a bound that all requests share, and
//! freed with their request.

use crate::app::App;
use crate::error::ServerError;
use crate::fields::{Fields, FromFields};
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use flate2::bufread::GzDecoder;
use flate2::read::{DeflateDecoder, ZlibDecoder};
use http_body_util::BodyExt;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Read size of decompression.
const PIECE_BYTES: usize = 16 << 10;

/// Bytes of all request bodies at present, and their limit.
pub(crate) struct BodyMemory {
    bytes_max: usize,
    bytes: AtomicUsize,
}

/// Bytes of one body, counted while they are held.
pub(crate) struct HeldBytes {
    memory: Arc<BodyMemory>,
    bytes: usize,
}

impl BodyMemory {
    pub(crate) fn new(bytes_max: usize) -> Arc<BodyMemory> {
        Arc::new(BodyMemory {
            bytes_max,
            bytes: AtomicUsize::new(0),
        })
    }

    /// Bytes held at present.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Limit on the bytes held.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Starts counting a body without bytes.
    pub(crate) fn hold(self: &Arc<BodyMemory>) -> HeldBytes {
        HeldBytes {
            memory: self.clone(),
            bytes: 0,
        }
    }
}

impl HeldBytes {
    /// Adds `more` bytes.
    ///
    /// # Errors
    /// If all bodies together would exceed the limit.
    pub(crate) fn add(&mut self, more: usize) -> Result<(), ServerError> {
        let memory = &self.memory;
        let within = |bytes: usize| {
            let sum = bytes.checked_add(more)?;
            (sum <= memory.bytes_max).then_some(sum)
        };
        let added = (memory.bytes).fetch_update(Ordering::AcqRel, Ordering::Acquire, within);
        match added {
            Ok(_) => {
                self.bytes += more;
                Ok(())
            }
            Err(_) => Err(ServerError::TooMany {
                reason: format!(
                    "as many bytes of requests as may be held ({}) are",
                    memory.bytes_max
                ),
                retry_after: Duration::from_secs(1),
            }),
        }
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.memory.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Content encoding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Deflate,
}

fn packing(headers: &HeaderMap) -> Result<Packing, ServerError> {
    let named = headers
        .get(header::CONTENT_ENCODING)
        .map(|name| name.as_bytes().to_ascii_lowercase());
    match named.as_deref() {
        None | Some(b"identity" | b"") => Ok(Packing::Plain),
        Some(b"gzip" | b"x-gzip") => Ok(Packing::Gzip),
        Some(b"deflate") => Ok(Packing::Deflate),
        Some(_) => Err(ServerError::Body {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            reason: "the body is packed in a way that this server does not unpack; send it as gzip, deflate or not packed".into(),
        }),
    }
}

/// Refuses a compressed body, for handlers that read it in pieces.
pub(crate) fn refuse_packed(headers: &HeaderMap) -> Result<(), ServerError> {
    match packing(headers)? {
        Packing::Plain => Ok(()),
        _ => Err(ServerError::Body {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            reason: "send the form not packed: recordings gain nothing by it".into(),
        }),
    }
}

fn packed_wrongly() -> ServerError {
    ServerError::Body {
        status: StatusCode::BAD_REQUEST,
        reason: "the body cannot be unpacked as its Content-Encoding says".into(),
    }
}

fn too_large(bytes_max: usize) -> ServerError {
    ServerError::Body {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        reason: format!("the body is larger than the {bytes_max} bytes that this server takes"),
    }
}

/// Collects the whole body: at most `bytes_max`, both compressed and decompressed.
async fn collect(
    mut body: Body,
    packing: Packing,
    bytes_max: usize,
    memory: &Arc<BodyMemory>,
) -> Result<(Vec<u8>, HeldBytes), ServerError> {
    let mut packed = HeldBody::new(bytes_max, memory);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ServerError::Body {
            status: StatusCode::BAD_REQUEST,
            reason: "the body did not arrive whole".into(),
        })?;
        if let Ok(piece) = frame.into_data() {
            packed.append(&piece)?;
        }
    }
    let bytes = &packed.bytes;
    let mut unpacked = HeldBody::new(bytes_max, memory);
    match packing {
        Packing::Plain => return Ok((packed.bytes, packed.held)),
        Packing::Gzip => {
            // A packer that works in pieces leaves several members. What follows the last is
            // ignored, as gzip itself does.
            let mut rest = bytes.as_slice();
            for members in 0.. {
                if members == GZIP_MEMBERS_MAX {
                    return Err(packed_wrongly());
                }
                let mut member = GzDecoder::new(rest);
                unpacked.read(&mut member)?;
                rest = member.into_inner();
                if !rest.starts_with(GZIP) {
                    break;
                }
            }
        }
        // HTTP's `deflate` means the zlib format; some clients leave out its frame.
        Packing::Deflate if is_zlib(bytes) => {
            unpacked.read(&mut ZlibDecoder::new(bytes.as_slice()))?;
        }
        Packing::Deflate => unpacked.read(&mut DeflateDecoder::new(bytes.as_slice()))?,
    }
    Ok((unpacked.bytes, unpacked.held))
}

/// Most members of gzip data: each costs time, even an empty one. Packers that work in pieces make
/// one for 64 KiB.
const GZIP_MEMBERS_MAX: usize = 1000;
/// The first bytes of a member of gzip data.
const GZIP: &[u8] = b"\x1f\x8b";

/// Whether data begins with the header of the zlib format.
fn is_zlib(bytes: &[u8]) -> bool {
    let Some(&[method, flags]) = bytes.get(..2) else {
        return false;
    };
    method & 0xf == 8 && u16::from_be_bytes([method, flags]).is_multiple_of(31)
}

/// A body as far as it is known, and the memory that it takes.
struct HeldBody {
    bytes: Vec<u8>,
    bytes_max: usize,
    held: HeldBytes,
}

impl HeldBody {
    fn new(bytes_max: usize, memory: &Arc<BodyMemory>) -> HeldBody {
        HeldBody {
            bytes: Vec::new(),
            bytes_max,
            held: memory.hold(),
        }
    }

    /// Appends a piece. Room grows by an eighth: doubling would take up to twice what a body has.
    fn append(&mut self, piece: &[u8]) -> Result<(), ServerError> {
        let (length, capacity) = (self.bytes.len(), self.bytes.capacity());
        let left = self.bytes_max - length;
        if piece.len() > left {
            return Err(too_large(self.bytes_max));
        }
        if piece.len() > capacity - length {
            let more = piece.len().max(length / 8).min(left);
            self.held.add(length + more - capacity)?;
            self.bytes.reserve_exact(more);
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Appends what `packed` holds.
    fn read(&mut self, packed: &mut impl Read) -> Result<(), ServerError> {
        let mut piece = [0; PIECE_BYTES];
        loop {
            let count = packed.read(&mut piece).map_err(|_| packed_wrongly())?;
            if count == 0 {
                return Ok(());
            }
            self.append(&piece[..count])?;
        }
    }
}

/// A JSON body. Its errors have OpenAI's format.
pub(crate) struct JsonBody<T> {
    /// The parsed value.
    pub(crate) value: T,
    /// Names of unknown fields.
    pub(crate) unread: Vec<String>,
    /// Counts the body's bytes while the parsed value lives.
    pub(crate) held: HeldBytes,
}

impl<T: FromFields> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = ServerError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ServerError> {
        let (parts, body) = request.into_parts();
        let kind = parts.headers.get(header::CONTENT_TYPE);
        let json = kind
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| {
                let kind = kind.trim_start().to_ascii_lowercase();
                kind.starts_with("application/json")
            });
        let packing = packing(&parts.headers)?;
        let limits = &app.options.limits;
        let body = collect(body, packing, limits.body_bytes, &app.bodies);
        let (bytes, held) = within(limits.receive_time, body).await?;
        if !json && !bytes.is_empty() {
            return Err(ServerError::Body {
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                reason: "send the request as JSON, with 'Content-Type: application/json'".into(),
            });
        }
        let mut fields = Fields::parse(&bytes).map_err(|reason| ServerError::Body {
            status: StatusCode::BAD_REQUEST,
            reason,
        })?;
        Ok(JsonBody {
            value: T::from_fields(&mut fields)?,
            unread: fields.unread(),
            held,
        })
    }
}

/// Result of `receive` within a deadline. The deadline covers the whole body: a slow peer can send
/// each piece in time and still never finish.
pub(crate) async fn within<T>(
    limit: Duration,
    receive: impl Future<Output = Result<T, ServerError>>,
) -> Result<T, ServerError> {
    tokio::time::timeout(limit, receive)
        .await
        .unwrap_or_else(|_| {
            Err(ServerError::Body {
                status: StatusCode::REQUEST_TIMEOUT,
                reason: format!("the body did not arrive within {} s", limit.as_secs()),
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use std::io::Write;

    const BYTES_MAX: usize = 30_000;

    async fn collected(
        body: Vec<u8>,
        packing: Packing,
        memory: &Arc<BodyMemory>,
    ) -> Result<Vec<u8>, u16> {
        let collected = collect(Body::from(body), packing, BYTES_MAX, memory).await;
        let (bytes, held) = collected.map_err(|error| error.status().as_u16())?;
        assert_eq!(memory.bytes(), bytes.capacity(), "what is held is counted");
        drop(held);
        Ok(bytes)
    }

    #[tokio::test]
    async fn packed_bodies_are_unpacked_within_the_bound_and_counted_while_held() {
        let memory = BodyMemory::new(100_000);
        let text = b"word ".repeat(100);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let members = [&gzip[..], &gzip].concat();
        let followed = [&gzip[..], &[0; 7]].concat();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&text).unwrap();
        let zlib = zlib.finish().unwrap();
        let raw = zlib[2..zlib.len() - 4].to_vec();
        // Many empty members are read on, and unpack to nothing.
        let nothing = GzEncoder::new(Vec::new(), Compression::fast());
        let nothing = nothing.finish().unwrap();
        let endless = nothing.repeat(GZIP_MEMBERS_MAX + 1);
        let nothing = nothing.repeat(400);
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        bomb.write_all(&vec![b' '; 1 << 20]).unwrap();
        for (body, packing, outcome) in [
            (text.clone(), Packing::Plain, Ok(text.clone())),
            (gzip, Packing::Gzip, Ok(text.clone())),
            (members, Packing::Gzip, Ok(text.repeat(2))),
            (nothing, Packing::Gzip, Ok(Vec::new())),
            (endless, Packing::Gzip, Err(400)),
            (followed, Packing::Gzip, Ok(text.clone())),
            (raw, Packing::Deflate, Ok(text.clone())),
            (Vec::new(), Packing::Gzip, Err(400)),
            (zlib, Packing::Deflate, Ok(text.clone())),
            (text.clone(), Packing::Gzip, Err(400)),
            (vec![0; BYTES_MAX], Packing::Plain, Ok(vec![0; BYTES_MAX])),
            (vec![0; BYTES_MAX + 1], Packing::Plain, Err(413)),
            (bomb.finish().unwrap(), Packing::Gzip, Err(413)),
        ] {
            assert_eq!(
                collected(body, packing, &memory).await,
                outcome,
                "{packing:?}"
            );
            assert_eq!(memory.bytes(), 0, "nothing is held afterwards");
        }
    }

    #[test]
    fn a_body_in_pieces_holds_little_more_than_it_has_and_never_more_than_its_bound() {
        let memory = BodyMemory::new(100_000);
        let mut body = HeldBody::new(BYTES_MAX, &memory);
        for _ in 0..BYTES_MAX {
            body.append(b"x").unwrap();
            let (length, capacity) = (body.bytes.len(), body.bytes.capacity());
            assert!(capacity <= (length + length / 8).min(BYTES_MAX));
            assert_eq!(memory.bytes(), capacity);
        }
        assert!(body.append(b"x").is_err());
    }

    #[tokio::test]
    async fn bodies_together_stay_within_their_bound() {
        let memory = BodyMemory::new(1000);
        let first = collect(Body::from(vec![0; 800]), Packing::Plain, 10_000, &memory).await;
        let second = collect(Body::from(vec![0; 800]), Packing::Plain, 10_000, &memory).await;
        assert!(matches!(second, Err(ServerError::TooMany { .. })));
        assert_eq!(memory.bytes(), 800);
        drop(first);
        assert_eq!(memory.bytes(), 0);
        assert!(
            collect(Body::from(vec![0; 800]), Packing::Plain, 10_000, &memory)
                .await
                .is_ok()
        );
    }

    #[test]
    fn a_packing_that_is_not_known_is_refused_by_its_status() {
        let mut headers = HeaderMap::new();
        for (name, outcome) in [
            ("gzip", Ok(Packing::Gzip)),
            ("GZIP", Ok(Packing::Gzip)),
            ("identity", Ok(Packing::Plain)),
            ("br", Err(415)),
            ("gzip, br", Err(415)),
        ] {
            headers.insert(header::CONTENT_ENCODING, name.parse().unwrap());
            let found = packing(&headers).map_err(|error| error.status().as_u16());
            assert_eq!(found, outcome, "{name}");
        }
        assert!(refuse_packed(&HeaderMap::new()).is_ok());
    }
}
