//! Errors of traces.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A trace that could not be read or written, with its position.
#[derive(Debug)]
pub struct TraceError {
    /// The file, if the trace came from one.
    pub file: Option<PathBuf>,
    /// Position in the trace.
    pub position: TracePosition,
    /// The problem.
    pub kind: TraceErrorKind,
}

/// A position in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TracePosition {
    /// The trace as a whole.
    Whole,
    /// A line of a text trace, from 1.
    Line(u64),
    /// A byte of a snapshot, after decompression.
    Byte(u64),
    /// An event of a snapshot's trace, from 0.
    Event(u64),
}

/// The kinds of problems.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceErrorKind {
    /// The file could not be read or written.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// The compressed data is truncated.
    #[error("the gzip data ends early: the file is incomplete")]
    TruncatedGzip,
    /// The compressed data is malformed.
    #[error("the gzip data is damaged: {0}")]
    DamagedGzip(#[source] io::Error),
    /// Neither text nor a snapshot.
    #[error("{0}")]
    UnknownContent(&'static str),
    /// A line that is not an event.
    #[error("expected `a ID BYTES TAG`, `f ID` or `m TEXT`, found `{0}`")]
    UnknownLine(String),
    /// A line far longer than any recorder writes.
    #[error("the line is longer than {0} bytes")]
    LineTooLong(usize),
    /// An id that is not a number from 0 to 2^64 − 1.
    #[error("`{0}` is not an id (a number from 0 to 2^64 − 1)")]
    BadId(String),
    /// A size that is not a number below 2^63.
    #[error("`{0}` is not a size (bytes from 0 to 2^63 − 1)")]
    BadSize(String),
    /// A stream that is not a number from 0 to 2^64 − 1.
    #[error("`{0}` is not a stream (stream= and a number from 0 to 2^64 − 1)")]
    BadStream(String),
    /// A live id is allocated again.
    #[error("id {0} is allocated again while it is live")]
    DoubledId(u64),
    /// An id is freed while it is not live.
    #[error("id {0} is freed but not live")]
    UnknownFree(u64),
    /// The sum of live bytes exceeds 2^63.
    #[error("the live bytes exceed 2^63 − 1")]
    TooManyBytes,
    /// More streams than the reader supports.
    #[error("allocations on more than {0} streams, which is the limit")]
    TooManyStreams(usize),
    /// A device was selected in a trace that has none.
    #[error("only snapshots have devices, and this is a text trace")]
    NoDevices,
    /// A malformed snapshot.
    #[error("{0}")]
    Snapshot(String),
}

impl TraceError {
    pub(super) fn at_line(line: u64, kind: TraceErrorKind) -> TraceError {
        TraceError {
            file: None,
            position: TracePosition::Line(line),
            kind,
        }
    }

    pub(super) fn whole(kind: TraceErrorKind) -> TraceError {
        TraceError {
            file: None,
            position: TracePosition::Whole,
            kind,
        }
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(formatter, "{}: ", file.display())?;
        }
        match self.position {
            TracePosition::Whole => {}
            TracePosition::Line(line) => write!(formatter, "line {line}: ")?,
            TracePosition::Byte(offset) => write!(formatter, "byte {offset}: ")?,
            TracePosition::Event(index) => write!(formatter, "event {index}: ")?,
        }
        write!(formatter, "{}", self.kind)
    }
}

impl std::error::Error for TraceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.kind)
    }
}
