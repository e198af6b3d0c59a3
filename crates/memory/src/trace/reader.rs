//! Opens a trace, whatever it is.

use super::error::{TraceError, TraceErrorKind as Kind};
use super::event::{Event, Tags};
use super::text::TextReader;
use sottovoce_formats::content::{self, Content};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const BUFFER_BYTES: usize = 256 << 10;

/// The events of a trace, in order, each checked against those before. After an error there are no more.
pub struct Reader {
    file: Option<PathBuf>,
    text: TextReader,
    progress: Progress,
    ended: bool,
}

/// How far a trace has been read; may be asked from another thread.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    read_bytes: Arc<AtomicU64>,
    total_bytes: Option<u64>,
}

impl Progress {
    /// Bytes of the file taken so far, before decompression.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// The file's size, if known.
    pub fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }
}

struct Counted<R> {
    source: R,
    read_bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.read_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Reader {
    /// Opens a file: text or a PyTorch snapshot, plain or gzip, told apart by content.
    ///
    /// # Errors
    /// If the file cannot be opened, or holds something else.
    pub fn open(path: &Path) -> Result<Reader, TraceError> {
        let with_file = |error: TraceError| TraceError {
            file: Some(path.to_owned()),
            ..error
        };
        let open = || -> io::Result<(File, Option<u64>)> {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::Error::from(io::ErrorKind::IsADirectory));
            }
            Ok((file, metadata.is_file().then_some(metadata.len())))
        };
        let (file, total_bytes) =
            open().map_err(|error| with_file(TraceError::whole(Kind::Io(error))))?;
        let progress = Progress {
            read_bytes: Arc::default(),
            total_bytes,
        };
        let counted = Counted {
            source: file,
            read_bytes: Arc::clone(&progress.read_bytes),
        };
        let mut reader = Reader::new(Box::new(BufReader::with_capacity(BUFFER_BYTES, counted)))
            .map_err(with_file)?;
        reader.file = Some(path.to_owned());
        reader.progress = progress;
        Ok(reader)
    }

    /// Reads text, whatever it begins with.
    pub fn text(source: impl Read + Send + 'static) -> Reader {
        Reader::from_text(
            Box::new(BufReader::with_capacity(BUFFER_BYTES, source)),
            false,
        )
    }

    fn from_text(source: Box<dyn BufRead + Send>, compressed: bool) -> Reader {
        Reader {
            file: None,
            text: TextReader::new(source, compressed),
            progress: Progress::default(),
            ended: false,
        }
    }

    fn new(source: Box<dyn BufRead + Send>) -> Result<Reader, TraceError> {
        let (content, source) = peek(source)?;
        let (content, source, compressed): (_, Box<dyn BufRead + Send>, _) = match content {
            Content::Gzip => {
                let inner = content::decompress(source);
                let inner = Box::new(BufReader::with_capacity(BUFFER_BYTES, inner));
                let (content, source) = peek(inner)?;
                (content, source, true)
            }
            content => (content, source, false),
        };
        match content {
            Content::Other => Ok(Reader::from_text(source, compressed)),
            Content::Pickle => Err(TraceError::whole(Kind::UnknownContent(
                "snapshots are not read yet",
            ))),
            Content::Zip => Err(TraceError::whole(Kind::UnknownContent(
                "this is a zip archive, not a trace; unpack it first",
            ))),
            Content::Gzip => Err(TraceError::whole(Kind::UnknownContent(
                "this is gzip within gzip; unpack it once",
            ))),
        }
    }

    /// The names behind the tags of the events so far.
    pub fn tags(&self) -> &Tags {
        &self.text.tags
    }

    /// How far the file has been read.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl Iterator for Reader {
    type Item = Result<Event, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let event = self.text.next_event().map_err(|error| TraceError {
            file: self.file.clone(),
            ..error
        });
        self.ended = !matches!(event, Ok(Some(_)));
        event.transpose()
    }
}

/// Looks at the first bytes without taking them.
fn peek(
    mut source: Box<dyn BufRead + Send>,
) -> Result<(Content, Box<dyn BufRead + Send>), TraceError> {
    let mut prefix = Vec::with_capacity(content::SNIFF_BYTES);
    (&mut source)
        .take(content::SNIFF_BYTES as u64)
        .read_to_end(&mut prefix)
        .map_err(|error| {
            TraceError::whole(match error.kind() {
                io::ErrorKind::UnexpectedEof => Kind::TruncatedGzip,
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                    Kind::DamagedGzip(error)
                }
                _ => Kind::Io(error),
            })
        })?;
    let content = Content::of(&prefix);
    let whole = io::Cursor::new(prefix).chain(source);
    Ok((content, Box::new(whole)))
}
