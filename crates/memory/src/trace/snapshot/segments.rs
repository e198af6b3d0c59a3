//! The segments, blocks and settings of a snapshot.

use super::entry::{number, tag};
use sottovoce_formats::pickle::ValueRef;

/// A segment at the end of the recording.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) device: u64,
    pub(super) address: u64,
    pub(super) bytes: u64,
    pub(super) stream: u64,
    pub(super) small: bool,
    pub(super) expandable: bool,
    pub(super) blocks: Vec<SegmentBlock>,
}

/// A block in use, or waiting for other streams.
#[derive(Clone, Debug)]
pub(super) struct SegmentBlock {
    pub(super) address: u64,
    pub(super) bytes: u64,
    pub(super) requested_bytes: u64,
    /// Whether it is in use, and not merely waiting for another stream.
    pub(super) allocated: bool,
    pub(super) tag: String,
}

/// The segments that the document still holds.
///
/// # Errors
/// If there is no list of them.
pub(super) fn list(root: ValueRef<'_>) -> Result<impl Iterator<Item = ValueRef<'_>>, String> {
    // The result of `torch.cuda.memory_snapshot()` is the bare list of segments.
    let list = root.entry("segments").unwrap_or(root);
    list.items().ok_or_else(|| {
        "this pickle is not a memory snapshot: it has no list of `segments`".to_owned()
    })
}

/// Parses a segment. Free blocks are left out: they are the gaps between the others.
///
/// # Errors
/// A description of what is missing or inconsistent.
pub(super) fn segment(view: ValueRef<'_>) -> Result<Segment, String> {
    let problem = |problem: String| format!("a segment is malformed: {problem}");
    let address = number(view, "address").map_err(problem)?;
    let bytes = number(view, "total_size").map_err(problem)?;
    let end = address
        .checked_add(bytes)
        .filter(|_| bytes <= i64::MAX as u64)
        .ok_or_else(|| problem(format!("`total_size` is {bytes}")))?;
    let mut blocks = Vec::new();
    let mut next_address = address;
    for block in view
        .entry("blocks")
        .and_then(ValueRef::items)
        .into_iter()
        .flatten()
    {
        let bytes = number(block, "size").map_err(problem)?;
        // Older versions do not record the address: it is the end of the previous block.
        let block_address = number(block, "address").unwrap_or(next_address);
        next_address = block_address.saturating_add(bytes);
        if block_address < address || next_address > end {
            return Err(problem(format!(
                "its block at {block_address} lies outside of it"
            )));
        }
        let state = block.entry("state").and_then(ValueRef::text).unwrap_or("");
        if state.starts_with("active") {
            let requested = number(block, "requested_size").unwrap_or(bytes);
            blocks.push(SegmentBlock {
                address: block_address,
                bytes,
                requested_bytes: requested.min(bytes),
                allocated: state == "active_allocated",
                tag: tag(block),
            });
        }
    }
    blocks.sort_by_key(|block| block.address);
    Ok(Segment {
        device: number(view, "device").unwrap_or(0),
        address,
        bytes,
        stream: number(view, "stream").unwrap_or(0),
        small: view.entry("segment_type").and_then(ValueRef::text) == Some("small"),
        expandable: view
            .entry("is_expandable")
            .and_then(ValueRef::boolean)
            .unwrap_or(false),
        blocks,
    })
}

/// The allocator's settings in PyTorch's syntax; empty for the defaults.
pub(super) fn configuration(root: ValueRef<'_>) -> String {
    let Some(settings) = root.entry("allocator_settings") else {
        return String::new();
    };
    for name in ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"] {
        if let Some(text) = settings.entry(name).and_then(ValueRef::text)
            && !text.is_empty()
        {
            return text.to_owned();
        }
    }
    // Options set by the program itself.
    let mut options = Vec::new();
    if settings
        .entry("expandable_segments")
        .and_then(ValueRef::boolean)
        == Some(true)
    {
        options.push("expandable_segments:True".to_owned());
    }
    if let Some(bytes) = settings.entry("max_split_size").and_then(ValueRef::integer)
        && bytes > 0
    {
        options.push(format!("max_split_size_mb:{}", bytes >> 20));
    }
    if let Some(threshold) = settings
        .entry("garbage_collection_threshold")
        .and_then(ValueRef::float)
        && threshold > 0.0
    {
        options.push(format!("garbage_collection_threshold:{threshold}"));
    }
    let divisions: Vec<(u64, u64)> = settings
        .entry("roundup_power2_divisions")
        .and_then(ValueRef::entries)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.text()?.parse().ok()?, value.unsigned()?)))
        .collect();
    if divisions.iter().any(|&(_, count)| count > 1) {
        let list: Vec<String> = divisions
            .iter()
            .map(|(mebibytes, count)| format!("{mebibytes}:{}", count.max(&1)))
            .collect();
        options.push(format!("roundup_power2_divisions:[{}]", list.join(",")));
    }
    options.join(",")
}
