//! Detection of file contents by the first bytes, and gzip compression.

use std::io::{BufRead, Read, Write};

/// Number of bytes that [`Content::of`] examines.
pub const SNIFF_BYTES: usize = 4;

/// A kind of content with recognisable first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A gzip stream.
    Gzip,
    /// A pickle.
    Pickle,
    /// A zip archive, such as a `.pt` file.
    Zip,
    /// Anything else, such as text.
    Other,
}

impl Content {
    /// The kind of content that begins with `prefix`.
    pub fn of(prefix: &[u8]) -> Content {
        match prefix {
            [0x1f, 0x8b, ..] => Content::Gzip,
            [0x80, 0..=9, ..] => Content::Pickle,
            // Protocols 0 and 1 have no header; they begin with an empty or marked container.
            [b'(' | b'}' | b']', ..] => Content::Pickle,
            [b'P', b'K', 3, 4, ..] => Content::Zip,
            _ => Content::Other,
        }
    }
}

/// Decompresses a gzip stream, which may have several members. A truncated stream is an error of
/// kind [`std::io::ErrorKind::UnexpectedEof`].
pub fn decompress(source: impl BufRead) -> impl Read {
    flate2::bufread::MultiGzDecoder::new(source)
}

/// A compressing sink; [`flate2::write::GzEncoder::finish`] writes the trailer.
pub fn compress<W: Write>(sink: W) -> flate2::write::GzEncoder<W> {
    flate2::write::GzEncoder::new(sink, flate2::Compression::default())
}
