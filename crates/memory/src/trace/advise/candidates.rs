//! Candidate settings.

/// Settings worth trying on any trace, in PyTorch's syntax: each option alone at common values, and
/// common combinations. `garbage_collection_threshold` alone has no effect, because it needs a
/// memory fraction.
pub(super) const CONFIGURATIONS: [&str; 13] = [
    "",
    "expandable_segments:True",
    "max_split_size_mb:32",
    "max_split_size_mb:64",
    "max_split_size_mb:128",
    "max_split_size_mb:256",
    "max_split_size_mb:512",
    "roundup_power2_divisions:4",
    "roundup_power2_divisions:8",
    "roundup_power2_divisions:16",
    "expandable_segments:True,roundup_power2_divisions:16",
    "expandable_segments:True,max_split_size_mb:128",
    "expandable_segments:True,max_split_size_mb:128,garbage_collection_threshold:0.8,roundup_power2_divisions:8",
];

/// Interval, in chunk marks, of the candidate that empties the cache.
pub(super) const CLEAR_EVERY_CHUNK: u32 = 1;
