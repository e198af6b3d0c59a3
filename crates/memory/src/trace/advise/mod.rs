//! The memory that a trace takes under other allocator settings, and the part that no setting can
//! change.
//!
//! The trace is read once through all candidate pools side by side, and once more up to its peak
//! for the owners of the bytes there. Memory use does not grow with the trace's length.

mod advice;
mod candidates;
mod owners;
mod timeline;

pub use advice::{Advice, AdviseOptions, CARD_BYTES, Recommendation, Tried, advise, device_bytes};
pub use owners::{OwnersAtPeak, Share};
pub use timeline::{Curve, ReplayTimeline};
