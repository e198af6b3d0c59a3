//! What a file holds, told by its first bytes and not by its name; gzip in and out.

use std::io::{BufRead, Read, Write};

/// How many bytes [`Content::of`] looks at.
pub const SNIFF_BYTES: usize = 4;

/// A kind of content that the first bytes give away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A gzip stream.
    Gzip,
    /// A pickle.
    Pickle,
    /// A zip archive, such as a `.pt` file.
    Zip,
    /// None of these; perhaps text.
    Other,
}

impl Content {
    /// The content that begins with `prefix`.
    pub fn of(prefix: &[u8]) -> Content {
        match prefix {
            [0x1f, 0x8b, ..] => Content::Gzip,
            [0x80, 0..=9, ..] => Content::Pickle,
            // Protocols 0 and 1 have no header: an empty or marked container.
            [b'(' | b'}' | b']', ..] => Content::Pickle,
            [b'P', b'K', 3, 4, ..] => Content::Zip,
            _ => Content::Other,
        }
    }
}

/// The decompressed bytes of a gzip stream, which may be several in a row. A stream that ends early is an error of kind
/// [`std::io::ErrorKind::UnexpectedEof`].
pub fn decompress(source: impl BufRead) -> impl Read {
    flate2::bufread::MultiGzDecoder::new(source)
}

/// A sink that compresses; [`flate2::write::GzEncoder::finish`] writes the end.
pub fn compress<W: Write>(sink: W) -> flate2::write::GzEncoder<W> {
    flate2::write::GzEncoder::new(sink, flate2::Compression::default())
}
