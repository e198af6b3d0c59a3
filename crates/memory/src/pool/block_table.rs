//! Records of all blocks of a shard, allocated or free, linked to their neighbours in the segment.

/// No block, or no range.
pub const NONE: u32 = u32::MAX;

/// A block: a part of a segment, or a part of an expandable range, which may be unmapped.
#[derive(Clone, Debug)]
pub struct BlockRecord {
    /// First address.
    pub address: u64,
    /// Size in bytes.
    pub size: u64,
    /// Bytes requested by the current user.
    pub requested: u64,
    /// The neighbour below, or [`NONE`].
    pub previous: u32,
    /// The neighbour above, or [`NONE`].
    pub next: u32,
    /// The expandable range that contains the block, or [`NONE`] for a segment.
    pub range: u32,
    /// Number of pending events of other queues.
    pub event_count: u32,
    /// Searches of its pool half until the block became free: its age counts from here.
    pub searches_before: u64,
    /// Index of its queue in the shard.
    pub queue: u16,
    /// Whether it belongs to the large half.
    pub large: bool,
    /// Whether it is in use.
    pub allocated: bool,
    /// Whether memory is mapped.
    pub mapped: bool,
    /// Whether other queues used it, so that freeing it must wait for them.
    pub used_elsewhere: bool,
    /// Whether the record describes no block.
    pub vacant: bool,
}

impl BlockRecord {
    /// Whether it is a part of a larger segment.
    pub fn is_split(&self) -> bool {
        self.previous != NONE || self.next != NONE
    }

    /// Whether it can be allocated or merged.
    pub fn is_free(&self) -> bool {
        !self.allocated && self.event_count == 0 && !self.used_elsewhere
    }

    /// Whether it lies in an expandable range.
    pub fn is_expandable(&self) -> bool {
        self.range != NONE
    }
}

/// All records; vacant ones are reused.
#[derive(Default)]
pub struct BlockTable {
    records: Vec<BlockRecord>,
    vacant: Vec<u32>,
}

impl BlockTable {
    /// Adds a record and returns its index.
    #[inline]
    pub fn insert(&mut self, record: BlockRecord) -> u32 {
        match self.vacant.pop() {
            Some(index) => {
                self.records[index as usize] = record;
                index
            }
            None => {
                let index = u32::try_from(self.records.len()).unwrap_or(NONE);
                assert!(index != NONE, "a pool has fewer than 2^32 blocks");
                self.records.push(record);
                index
            }
        }
    }

    /// Removes a record.
    #[inline]
    pub fn remove(&mut self, index: u32) {
        self.records[index as usize].vacant = true;
        self.vacant.push(index);
    }

    /// All records with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &BlockRecord)> {
        (0..)
            .zip(&self.records)
            .filter(|(_, record)| !record.vacant)
    }
}

impl std::ops::Index<u32> for BlockTable {
    type Output = BlockRecord;

    #[inline]
    fn index(&self, index: u32) -> &BlockRecord {
        &self.records[index as usize]
    }
}

impl std::ops::IndexMut<u32> for BlockTable {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut BlockRecord {
        &mut self.records[index as usize]
    }
}
