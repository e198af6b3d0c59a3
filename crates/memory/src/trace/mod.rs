//! Recorded allocations: reading, conversion, replay.
//!
//! A trace is text with one event per line, plain or gzip:
//!
//! ```text
//! a ID BYTES TAG [stream=N]   allocated by TAG, on stream N of the device (0 by default)
//! f ID                        freed
//! m TEXT                      a marker: a phase begins
//! m oom BYTES [stream=N] TEXT a request of BYTES bytes failed here
//! # TEXT                      ignored
//! ```
//!
//! [`Reader`] also reads PyTorch's memory snapshots and detects the format by content. It holds
//! only the live ids, so a trace of any length can be read.
//!
//! ```
//! use sottovoce_memory::trace::{Event, Reader};
//!
//! let mut live_bytes = 0;
//! for event in Reader::text(&b"m load\na 0 4096 weight\na 1 512 mul\nf 1\n"[..]) {
//!     if let Event::Allocate { bytes, .. } = event? {
//!         live_bytes += bytes;
//!     }
//! }
//! assert_eq!(live_bytes, 4608);
//! # Ok::<(), sottovoce_memory::trace::TraceError>(())
//! ```

pub mod advise;
mod error;
mod event;
mod lifetimes;
mod reader;
pub mod replay;
mod snapshot;
mod text;
mod write;

pub use error::{TraceError, TraceErrorKind, TracePosition};
pub use event::{Event, TagId, Tags};
pub use lifetimes::Lifetimes;
pub use reader::{ReadProgress, Reader};
pub use snapshot::{Beginning, RecordedRefusal, SnapshotSummary};
pub use write::{TraceFormat, WriteError, write};
