//! Python's pickle format, read as data: nothing that a file names is looked up or called.
//!
//! The reader is the format's stack machine over an arena of nodes. Classes, calls and persistent
//! ids become inert nodes or an error, as [`Globals`] chooses. Memory grows with the bytes read, up
//! to [`PickleLimits`]; a length that the file merely claims allocates nothing.
//!
//! ```
//! use sottovoce_formats::pickle::{self, PickleLimits};
//!
//! // What Python writes for {'bytes': 512}.
//! let file = b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x05bytes\x94M\x00\x02s.";
//! let document = pickle::read(&file[..], &PickleLimits::default())?;
//! assert_eq!(document.root().entry("bytes").and_then(|value| value.integer()), Some(512));
//! # Ok::<(), pickle::PickleError>(())
//! ```

mod document;
mod error;
mod input;
mod listener;
mod machine;
mod memo;
mod numpy;
mod opcode;
mod text;
mod writer;

pub use document::{Document, Node, NodeId, PickleCall, Value, ValueRef};
pub use error::{PickleError, PickleErrorKind};
pub use listener::{Disposition, LISTEN_DEPTH_MAX, PickleListener, PickleStep};
pub use machine::{Globals, Parser, PickleLimits, read};
pub use memo::MemoUse;
pub use writer::PickleWriter;
