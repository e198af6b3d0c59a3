//! Where every byte is, for people and programs: what `GET /memory`, `--stats` and the page show.

use serde::Serialize;

/// The engine's memory at one moment. Sizes are bytes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MemoryReport {
    /// What the engine may use in all; none where no budget was set.
    pub budget_bytes: Option<u64>,
    /// Bytes handed out.
    pub allocated_bytes: u64,
    /// Bytes held from the system or device.
    pub reserved_bytes: u64,
    /// The most bytes ever handed out.
    pub allocated_peak_bytes: u64,
    /// The most bytes ever held.
    pub reserved_peak_bytes: u64,
    /// (reserved − allocated) ÷ reserved.
    pub fragmentation: f64,
    /// The process's resident size.
    pub resident_bytes: u64,
    /// What the process uses beyond what the engine holds.
    pub other_bytes: u64,
    /// Bytes in use by region and tag, largest first.
    pub owners: Vec<OwnerBytes>,
    /// Bytes in use by stream.
    pub streams: Vec<StreamBytes>,
    /// Times memory was given back, by reason.
    pub clears: Vec<ReasonCount>,
    /// Allocations that failed at first.
    pub out_of_memory_count: u64,
    /// Allocations that were tried again.
    pub retry_count: u64,
    /// Calls to the system or driver for memory.
    pub driver_calls: u64,
    /// How it went, oldest first; empty without monitoring.
    pub timeline: Vec<TimelineEntry>,
}

/// What one owner has.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OwnerBytes {
    /// Weights, KeyValue, Workspace, Voice or Staging.
    pub region: String,
    /// The part of the engine.
    pub tag: String,
    /// Bytes in use.
    pub bytes: u64,
    /// The most bytes ever in use.
    pub peak_bytes: u64,
}

/// What one stream holds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StreamBytes {
    /// The stream's number, counted up from the engine's start.
    pub stream: u64,
    /// Bytes in use.
    pub bytes: u64,
}

/// How often something was done for a reason.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReasonCount {
    /// The reason, in words.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// One moment of the timeline.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TimelineEntry {
    /// Seconds since the engine was loaded.
    pub seconds: f64,
    /// Bytes handed out.
    pub allocated_bytes: u64,
    /// Bytes held from the system or device.
    pub reserved_bytes: u64,
    /// (reserved − allocated) ÷ reserved.
    pub fragmentation: f64,
}
