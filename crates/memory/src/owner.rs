//! Owners of bytes: a region, a tag, and the stream (utterance) served.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The purpose of a block of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// Model weights, shared by all streams.
    Weights,
    /// Keys and values of attention.
    KeyValue,
    /// Activations and scratch.
    Workspace,
    /// Prepared voices and the networks that prepare them.
    Voice,
    /// Bytes in transit to or from a device or a peer.
    Staging,
    /// Bytes that a device's driver holds for itself: its context, modules, graphs.
    Driver,
}

impl Region {
    /// All regions, in the order of their discriminants.
    pub const ALL: [Region; 6] = [
        Region::Weights,
        Region::KeyValue,
        Region::Workspace,
        Region::Voice,
        Region::Staging,
        Region::Driver,
    ];

    /// The name used in reports and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Region::Weights => "weights",
            Region::KeyValue => "key_value",
            Region::Workspace => "workspace",
            Region::Voice => "voice",
            Region::Staging => "staging",
            Region::Driver => "driver",
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// One utterance under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u64);

/// The owner of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Owner {
    /// What the bytes are for.
    pub region: Region,
    /// The part of the program that allocated, such as `"t3.prefill"`.
    pub tag: &'static str,
    /// The stream served, or `None` for bytes that all streams share.
    pub stream: Option<StreamId>,
}

impl Owner {
    /// An owner that serves no stream in particular.
    pub const fn new(region: Region, tag: &'static str) -> Owner {
        Owner {
            region,
            tag,
            stream: None,
        }
    }

    /// The same owner on behalf of `stream`.
    pub const fn for_stream(self, stream: StreamId) -> Owner {
        Owner {
            stream: Some(stream),
            ..self
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.region, self.tag)?;
        match self.stream {
            Some(StreamId(stream)) => write!(formatter, " (stream {stream})"),
            None => Ok(()),
        }
    }
}

/// Current and peak usage of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OwnerUsage {
    /// The owner.
    pub owner: Owner,
    /// Bytes held now, before rounding.
    pub live_bytes: u64,
    /// The most bytes held at once.
    pub peak_bytes: u64,
    /// Blocks held now.
    pub live_blocks: u64,
}
