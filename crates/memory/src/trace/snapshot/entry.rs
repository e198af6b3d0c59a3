//! One entry of a snapshot's ring of events.

use sottovoce_formats::pickle::ValueRef;

/// Kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Allocate,
    FreeRequested,
    FreeCompleted,
    /// A segment, or a part of an expandable one, was allocated from the driver.
    SegmentTaken,
    /// A segment, or a part of an expandable one, was freed.
    SegmentGivenBack,
    OutOfMemory,
    /// An entry that does not concern memory.
    Other,
}

/// An entry without its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) action: Action,
    pub(super) address: u64,
    /// Bytes; requested bytes for an allocation.
    pub(super) bytes: u64,
    pub(super) stream: u64,
    /// For segments: whether a part of an expandable one was mapped or unmapped.
    pub(super) mapped: bool,
    /// For a failed request: free bytes of the device.
    pub(super) free_bytes: Option<u64>,
}

impl Entry {
    /// Parses an entry.
    ///
    /// # Errors
    /// A description of what is missing or out of range.
    pub(super) fn read(view: ValueRef<'_>) -> Result<Entry, String> {
        let action = view
            .entry("action")
            .and_then(ValueRef::text)
            .ok_or("an event has no `action`")?;
        let mapped = matches!(action, "segment_map" | "segment_unmap");
        let action = match action {
            "alloc" => Action::Allocate,
            "free_requested" => Action::FreeRequested,
            "free_completed" => Action::FreeCompleted,
            "segment_alloc" | "segment_map" => Action::SegmentTaken,
            "segment_free" | "segment_unmap" => Action::SegmentGivenBack,
            "oom" => Action::OutOfMemory,
            _ => Action::Other,
        };
        if action == Action::Other {
            return Ok(Entry {
                action,
                address: 0,
                bytes: 0,
                stream: 0,
                mapped,
                free_bytes: None,
            });
        }
        let address = match action {
            // The entry has the device's free bytes in place of an address.
            Action::OutOfMemory => 0,
            _ => number(view, "addr")?,
        };
        let free_bytes = (action == Action::OutOfMemory)
            .then(|| {
                number(view, "device_free")
                    .or_else(|_| number(view, "addr"))
                    .ok()
            })
            .flatten()
            .filter(|&bytes| bytes <= i64::MAX as u64);
        let bytes = number(view, "size")?;
        if bytes > i64::MAX as u64 {
            return Err(format!("an event has a `size` of {bytes}"));
        }
        Ok(Entry {
            action,
            address,
            bytes,
            stream: number(view, "stream").unwrap_or(0),
            mapped,
            free_bytes,
        })
    }
}

/// A non-negative number under a key.
pub(super) fn number(view: ValueRef<'_>, key: &str) -> Result<u64, String> {
    match view.entry(key) {
        None => Err(format!("`{key}` is missing")),
        Some(value) => value.unsigned().ok_or_else(|| match value.integer() {
            Some(negative) => format!("`{key}` is {negative}"),
            None => format!("`{key}` is {}", value.kind()),
        }),
    }
}

/// The allocating code in a few words: the innermost Python function outside of PyTorch, or else
/// the innermost function. Empty if no stack was recorded.
pub(super) fn tag(view: ValueRef<'_>) -> String {
    let Some(frames) = view.entry("frames").and_then(ValueRef::items) else {
        return String::new();
    };
    let mut fallback = None;
    // Deeper frames say no more about the allocating code.
    for frame in frames.take(256) {
        let name = frame.entry("name").and_then(ValueRef::text).unwrap_or("");
        let file = frame
            .entry("filename")
            .and_then(ValueRef::text)
            .unwrap_or("");
        if !file.ends_with(".py") {
            // An operator's public name says more than its implementation.
            if fallback.is_none_or(|(_, known): (&str, &str)| known.is_empty())
                && name.starts_with("at::_ops::")
            {
                fallback = Some((name, "operator"));
            }
            fallback = fallback.or(Some((name, "")));
            continue;
        }
        let short = file.rsplit(['/', '\\']).next().unwrap_or(file);
        if file.contains("/torch/") || file.contains("\\torch\\") {
            if fallback.is_none_or(|(_, known)| known.is_empty() || known == "operator") {
                fallback = Some((name, short));
            }
            continue;
        }
        let line = frame.entry("line").and_then(ValueRef::integer).unwrap_or(0);
        return format!("{name} ({short}:{line})");
    }
    match fallback {
        Some((name, "operator")) => name.split("::").nth(2).unwrap_or(name).to_owned(),
        Some((name, "")) => name.chars().take(80).collect(),
        Some((name, file)) => format!("{name} ({file})"),
        None => String::new(),
    }
}

/// The text that the program set with `torch.cuda.memory._set_memory_metadata`: a phase's name.
pub(super) fn metadata<'a>(view: ValueRef<'a>) -> &'a str {
    view.entry("user_metadata")
        .and_then(ValueRef::text)
        .unwrap_or("")
}
