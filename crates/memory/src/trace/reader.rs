//! The reader of traces in any format.

use super::error::{TraceError, TraceErrorKind as Kind};
use super::event::{Event, Tags};
use super::snapshot::{Beginning, SnapshotReader, SnapshotSummary};
use super::text::TextReader;
use crate::pool::PoolConfiguration;
use sottovoce_formats::content::{self, Content};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const BUFFER_BYTES: usize = 256 << 10;
/// Bytes of a text that are examined for another tool's format.
const TEXT_SNIFF_BYTES: usize = 4 << 10;
/// Maximum number of streams. PyTorch makes 32 streams per priority on a device; a pool searches
/// the streams that it has seen one by one.
const STREAMS_MAX: usize = 4096;

/// The events of a trace, in order, each checked against the earlier ones. The iterator ends after
/// an error.
pub struct Reader {
    file: Option<PathBuf>,
    source: FormatReader,
    progress: ReadProgress,
    streams: HashSet<u64>,
    ended: bool,
}

enum FormatReader {
    Text(TextReader),
    Snapshot(Box<SnapshotReader>),
}

/// Progress of reading; may be queried from another thread.
#[derive(Clone, Debug, Default)]
pub struct ReadProgress {
    read_bytes: Arc<AtomicU64>,
    total_bytes: Option<u64>,
}

impl ReadProgress {
    /// Bytes of the file read so far, before decompression.
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
    /// Opens a file: text or a PyTorch snapshot, plain or gzip, detected by content.
    ///
    /// # Errors
    /// If the file cannot be opened, or has another format.
    pub fn open(path: &Path) -> Result<Reader, TraceError> {
        Reader::open_file(path).map_err(|error| TraceError {
            file: Some(path.to_owned()),
            ..error
        })
    }

    fn open_file(path: &Path) -> Result<Reader, TraceError> {
        let io_error = |error| TraceError::whole(Kind::Io(error));
        let metadata = std::fs::metadata(path).map_err(io_error)?;
        if metadata.is_dir() {
            return Err(io_error(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        if metadata.is_file() && metadata.len() == 0 {
            return Err(TraceError::whole(Kind::UnknownContent("the file is empty")));
        }
        let read_bytes = Arc::default();
        let (content, source, compressed) = identify(open_counted(path, &read_bytes)?)?;
        let passes = if content == Content::Pickle { 3 } else { 1 };
        let source = match content {
            Content::Other => {
                let (prefix, source) = peek(source, TEXT_SNIFF_BYTES)?;
                if let Some(what) = other_tools_file(&prefix) {
                    return Err(TraceError::whole(Kind::UnknownContent(what)));
                }
                FormatReader::Text(TextReader::new(source, compressed))
            }
            Content::Pickle if !metadata.is_file() => {
                return Err(TraceError::whole(Kind::UnknownContent(
                    "a snapshot is read several times: give it as a file, not through a pipe",
                )));
            }
            Content::Pickle => {
                drop(source);
                read_bytes.store(0, Ordering::Relaxed);
                let (path, read_bytes) = (path.to_owned(), Arc::clone(&read_bytes));
                FormatReader::Snapshot(Box::new(SnapshotReader::new(Box::new(move || {
                    let (_, source, _) = open_counted(&path, &read_bytes)
                        .and_then(identify)
                        .map_err(io::Error::other)?;
                    Ok(Box::new(source))
                }))))
            }
            Content::Zip => {
                return Err(TraceError::whole(Kind::UnknownContent(
                    "this is a zip archive, not a trace; unpack it first",
                )));
            }
            Content::Gzip => {
                return Err(TraceError::whole(Kind::UnknownContent(
                    "this is gzip within gzip; unpack it once",
                )));
            }
        };
        Ok(Reader {
            file: Some(path.to_owned()),
            source,
            progress: ReadProgress {
                read_bytes,
                total_bytes: metadata.is_file().then(|| metadata.len() * passes),
            },
            streams: HashSet::new(),
            ended: false,
        })
    }

    /// Reads text, whatever its first bytes are.
    pub fn text(source: impl Read + Send + 'static) -> Reader {
        let source = Box::new(BufReader::with_capacity(BUFFER_BYTES, source));
        Reader {
            file: None,
            source: FormatReader::Text(TextReader::new(source, false)),
            progress: ReadProgress::default(),
            streams: HashSet::new(),
            ended: false,
        }
    }

    /// Reads a snapshot, plain or gzip. `open` opens it from the start on each call.
    pub fn snapshot_from<S: Read + Send + 'static>(
        open: impl Fn() -> io::Result<S> + Send + 'static,
    ) -> Reader {
        let open = move || {
            let source = Box::new(BufReader::with_capacity(BUFFER_BYTES, open()?));
            let (_, source, _) = identify(source).map_err(io::Error::other)?;
            Ok(Box::new(source) as Box<dyn Read + Send>)
        };
        Reader {
            file: None,
            source: FormatReader::Snapshot(Box::new(SnapshotReader::new(Box::new(open)))),
            progress: ReadProgress::default(),
            streams: HashSet::new(),
            ended: false,
        }
    }

    /// Selects the device of a snapshot of several devices; the default is the one with most
    /// memory. Must be called before anything else is read.
    ///
    /// # Errors
    /// For a text trace, which has no devices.
    pub fn choose_device(&mut self, device: u64) -> Result<(), TraceError> {
        match &mut self.source {
            FormatReader::Snapshot(snapshot) => {
                snapshot.choose_device(device);
                Ok(())
            }
            FormatReader::Text(_) => Err(TraceError {
                file: self.file.clone(),
                ..TraceError::whole(Kind::NoDevices)
            }),
        }
    }

    /// The summary of a snapshot, or `None` for a text trace. The first call reads the whole
    /// snapshot.
    ///
    /// # Errors
    /// If the snapshot is malformed.
    pub fn snapshot(&mut self) -> Result<Option<&SnapshotSummary>, TraceError> {
        match &mut self.source {
            FormatReader::Text(_) => Ok(None),
            FormatReader::Snapshot(snapshot) => match snapshot.summary() {
                Ok(summary) => Ok(Some(summary)),
                Err(error) => Err(TraceError {
                    file: self.file.clone(),
                    ..error
                }),
            },
        }
    }

    /// For a snapshot: the events that bring a fresh pool of this configuration into the state at
    /// the start of the recording, with the segments that it had. They replace the allocations with
    /// which the reader would otherwise begin. `None` for a text trace, and once reading has begun.
    ///
    /// # Errors
    /// If the snapshot is malformed.
    pub fn take_beginning(
        &mut self,
        configuration: &PoolConfiguration,
    ) -> Result<Option<Beginning>, TraceError> {
        match &mut self.source {
            FormatReader::Text(_) => Ok(None),
            FormatReader::Snapshot(snapshot) => {
                let beginning = snapshot.take_beginning(configuration);
                beginning.and_then(|beginning| {
                    let events = beginning.iter().flat_map(|beginning| &beginning.events);
                    for event in events {
                        notice_stream(&mut self.streams, event)?;
                    }
                    Ok(beginning)
                })
            }
        }
        .map_err(|error| TraceError {
            file: self.file.clone(),
            ..error
        })
    }

    /// The names of the tags of the events so far.
    pub fn tags(&self) -> &Tags {
        match &self.source {
            FormatReader::Text(text) => &text.tags,
            FormatReader::Snapshot(snapshot) => &snapshot.tags,
        }
    }

    /// Progress of reading.
    pub fn progress(&self) -> ReadProgress {
        self.progress.clone()
    }
}

impl Iterator for Reader {
    type Item = Result<Event, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let event = match &mut self.source {
            FormatReader::Text(text) => text.next_event(),
            FormatReader::Snapshot(snapshot) => snapshot.next_event(),
        };
        let event = event.and_then(|event| {
            if let Some(event) = &event {
                notice_stream(&mut self.streams, event)?;
            }
            Ok(event)
        });
        self.ended = !matches!(event, Ok(Some(_)));
        event
            .map_err(|error| TraceError {
                file: self.file.clone(),
                ..error
            })
            .transpose()
    }
}

fn notice_stream(streams: &mut HashSet<u64>, event: &Event) -> Result<(), TraceError> {
    if let Event::Allocate { stream, .. } = event
        && streams.insert(*stream)
        && streams.len() > STREAMS_MAX
    {
        return Err(TraceError::whole(Kind::TooManyStreams(STREAMS_MAX)));
    }
    Ok(())
}

fn open_counted(
    path: &Path,
    read_bytes: &Arc<AtomicU64>,
) -> Result<Box<dyn BufRead + Send>, TraceError> {
    let file = File::open(path).map_err(|error| TraceError::whole(Kind::Io(error)))?;
    let counted = Counted {
        source: file,
        read_bytes: Arc::clone(read_bytes),
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, counted)))
}

/// The kind of content, a source of the decompressed bytes, and whether they were compressed.
fn identify(
    source: Box<dyn BufRead + Send>,
) -> Result<(Content, Box<dyn BufRead + Send>, bool), TraceError> {
    let (prefix, source) = peek(source, content::SNIFF_BYTES)?;
    let content = Content::of(&prefix);
    if content != Content::Gzip {
        return Ok((content, source, false));
    }
    let inner = content::decompress(source);
    let inner = Box::new(BufReader::with_capacity(BUFFER_BYTES, inner));
    let (prefix, source) = peek(inner, content::SNIFF_BYTES)?;
    Ok((Content::of(&prefix), source, true))
}

/// Recognises another tool's file by its first bytes, and says how to make one that can be read.
fn other_tools_file(prefix: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(prefix);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with('<') {
        return Some(
            "this is an HTML page, such as torch.profiler's memory timeline or a plot of a snapshot; give the snapshot \
             itself: torch.cuda.memory._dump_snapshot(\"run.pickle\")",
        );
    }
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let has = |key: &str| text.contains(key);
    Some(
        if has("\"traceEvents\"") || has("\"schemaVersion\"") || has("\"deviceProperties\"") {
            "this is a trace of torch.profiler (Chrome's format), which times operators; for memory record a snapshot: \
         torch.cuda.memory._record_memory_history() and _dump_snapshot(\"run.pickle\")"
        } else if has("\"device_traces\"") || has("\"segments\"") || has("\"total_size\"") {
            "this is a memory snapshot written as JSON; give the pickle that torch.cuda.memory._dump_snapshot(\"run.pickle\") \
         writes"
        } else if text.starts_with("[[") {
            "this is a memory timeline of torch.profiler (export_memory_timeline), which has sums over time and no \
         allocations; record a snapshot: torch.cuda.memory._record_memory_history() and _dump_snapshot(\"run.pickle\")"
        } else {
            "this is JSON; a trace is text, one event a line, or a snapshot as torch.cuda.memory._dump_snapshot(\"run.pickle\") \
         writes it"
        },
    )
}

/// The first bytes, up to `count`, without consuming them.
fn peek(
    mut source: Box<dyn BufRead + Send>,
    count: usize,
) -> Result<(Vec<u8>, Box<dyn BufRead + Send>), TraceError> {
    let mut prefix = Vec::with_capacity(count);
    (&mut source)
        .take(count as u64)
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
    let whole = io::Cursor::new(prefix.clone()).chain(source);
    Ok((prefix, Box::new(whole)))
}
