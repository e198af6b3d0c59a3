//! PyTorch's memory snapshots (`torch.cuda.memory._dump_snapshot`).
//!
//! A snapshot holds the allocator's segments at the end of the recording, and a ring of its last
//! events. Allocations from before the start of the ring show only in the segments and in later
//! frees. A file is therefore read three times: for the objects that are referenced again, for the
//! segments and the blocks that must have been live at the start of the ring, and for the events.
//! No pass holds the events in memory.

mod entry;
mod events;
mod prelude;
mod ranges;
mod segments;
mod survey;

pub(super) use events::SnapshotReader;
pub use prelude::Beginning;
pub use survey::{RecordedRefusal, SnapshotSummary};
