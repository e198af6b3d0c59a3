//! PyTorch's memory snapshots (`torch.cuda.memory._dump_snapshot`).
//!
//! A snapshot holds the allocator's segments as they were in the end, and a ring of its last
//! events. What was allocated before the ring began shows only in the segments and in later frees,
//! so a file is read three times: for which of its objects are referred to again, for the segments
//! and for what must have been live at the ring's start, and for the events. No pass holds them.

mod entry;
mod events;
mod prelude;
mod ranges;
mod segments;
mod survey;

pub(super) use events::SnapshotReader;
pub use prelude::Beginning;
pub use survey::{RecordedRefusal, SnapshotSummary};
