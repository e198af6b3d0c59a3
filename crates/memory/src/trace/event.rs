//! Events of a trace.

use std::collections::HashMap;

/// One step of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An allocation.
    Allocate {
        /// Identifies the allocation until it is freed.
        id: u64,
        /// Bytes requested, before any rounding; below 2^63.
        bytes: u64,
        /// The allocating code; [`Reader::tags`](super::Reader::tags) has the name.
        tag: TagId,
        /// The device's queue that the allocation belongs to.
        stream: u64,
    },
    /// An allocation was freed.
    Free {
        /// The allocation's id.
        id: u64,
    },
    /// A phase begins.
    Marker(Box<str>),
}

/// Number of a tag in [`Tags`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagId(pub(super) u32);

impl TagId {
    /// The tag's index in [`Tags::names`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The names of all tags so far.
#[derive(Clone, Debug, Default)]
pub struct Tags {
    names: Vec<Box<str>>,
    ids: HashMap<Box<str>, TagId>,
}

/// Further names are lumped together, so that a hostile trace cannot fill the memory with names.
const TAG_COUNT_MAX: usize = 1 << 16;
const REST: &str = "(other tags)";

impl Tags {
    /// The id of a name, new or known.
    pub fn intern(&mut self, name: &str) -> TagId {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        if self.names.len() >= TAG_COUNT_MAX && name != REST {
            return self.intern(REST);
        }
        let id = TagId(self.names.len() as u32);
        self.names.push(name.into());
        self.ids.insert(name.into(), id);
        id
    }

    /// The name of a tag; empty for an id of other tags.
    pub fn name(&self, id: TagId) -> &str {
        self.names.get(id.index()).map_or("", |name| name)
    }

    /// All names, in the order of their ids.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }
}
