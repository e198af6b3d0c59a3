//! Recorded allocations: read, converted, replayed.
//!
//! A trace is text, one event a line, plain or gzip:
//!
//! ```text
//! a ID BYTES TAG [stream=N]   allocated by TAG, on stream N of the device (0 if not said)
//! f ID                        freed
//! m TEXT                      a marker: a phase begins
//! m oom BYTES [stream=N] TEXT a request of so many bytes was refused here
//! # TEXT                      ignored
//! ```
//!
//! [`Reader`] also takes PyTorch's memory snapshots and tells the kinds apart by content. It holds
//! the ids that are live and nothing else, so that a trace of any length passes through.
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
pub use reader::{Progress, Reader};
pub use snapshot::{Beginning, RecordedRefusal, SnapshotSummary};
pub use write::{TraceFormat, WriteError, write};
