//! Conversion of traces to other formats.

mod snapshot;
mod text;

use super::{Reader, TraceError};
use sottovoce_formats::content;
use std::io::{self, Write};

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceFormat {
    /// One event a line.
    Text,
    /// PyTorch's memory snapshot, as the caching allocator would have recorded it under default
    /// settings: markers become `user_metadata`, tags become the only frame of a stack, and empty
    /// allocations are left out.
    Snapshot,
}

/// Writes the events of `reader`, with gzip if requested, and returns their number. The sink should
/// be buffered.
///
/// # Errors
/// The trace's first error, or the sink's.
pub fn write(
    reader: &mut Reader,
    format: TraceFormat,
    compressed: bool,
    mut sink: impl Write,
) -> Result<u64, WriteError> {
    let events = if compressed {
        let mut encoder = content::compress(&mut sink);
        let events = write_plain(reader, format, &mut encoder)?;
        encoder.finish()?;
        events
    } else {
        write_plain(reader, format, &mut sink)?
    };
    sink.flush()?;
    Ok(events)
}

fn write_plain(
    reader: &mut Reader,
    format: TraceFormat,
    sink: impl Write,
) -> Result<u64, WriteError> {
    match format {
        TraceFormat::Text => text::write(reader, sink),
        TraceFormat::Snapshot => snapshot::write(reader, sink),
    }
}

/// A conversion that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The trace could not be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The output could not be written.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
    /// The pool that assigns an address to each block of a snapshot ran out of addresses.
    #[error("an allocation of {bytes} bytes finds no room in an address space of 2^46 bytes")]
    NoAddress {
        /// Bytes requested.
        bytes: u64,
    },
}
