//! What a trace would take under other allocator settings, and what no setting can change.
//!
//! The trace is read once through all candidate pools side by side, and once more up to its peak
//! for the owners of the bytes there: nothing grows with its length.

mod advice;
mod candidates;
mod owners;
mod timeline;

pub use advice::{Advice, AdviseOptions, CARD_BYTES, Recommendation, Tried, advise, device_bytes};
pub use owners::{OwnersAtPeak, Share};
pub use timeline::{Curve, Timeline};
