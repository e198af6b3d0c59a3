//! Small host arrays that kernels read: ids, positions, and the cache places of rows.
//!
//! Each kind has a slot of its own on the device, in one block that lives as long as the device. A
//! copy into it is queued between earlier kernels, which read the old contents, and later ones.
//! Contents that are already there are not copied again, so that the layers of a forward share one
//! copy.
//!
//! Arrays of a gathered forward are gathered too. Each gets a slot of its own, and one copy sends
//! all of them ahead of the launches.

use crate::cache::{CachePlaces, CacheRow, CacheSequence};
use bytemuck::Pod;
use sottovoce_memory::driver::Address;
use sottovoce_memory::driver::cuda::{CudaError, Staging};
use sottovoce_memory::{Block, Memory, OutOfMemory, Owner, Region};
use std::ops::Range;

/// Ids, positions or rows per copy; longer arrays are split.
pub(super) const PIECE: usize = 4096;
/// Most sequences of a forward.
pub(super) const SEQUENCES_MAX: usize = 1024;
/// Most pages of a forward.
pub(super) const PAGES_MAX: usize = 1 << 16;

/// Bytes of all arrays of a gathered forward, excluding its pages.
const GATHERED_BYTES: usize = 128 << 10;
/// Counters of completed parts of attentions; all are 0 between attentions.
pub(super) const DONE_MAX: usize = 1 << 14;
/// Alignment of gathered arrays.
const ALIGNMENT: usize = 16;

/// Bytes of all slots.
pub(super) const BYTES: usize = PIECE * (4 + 4 + 2 * size_of::<CacheRow>())
    + SEQUENCES_MAX * size_of::<CacheSequence>()
    + PAGES_MAX * 8
    + GATHERED_BYTES
    + PAGES_MAX * 8
    + DONE_MAX * 4;

/// Why an array is not on the device.
pub(super) enum UploadError {
    /// The array is longer than its slot.
    TooLong {
        what: &'static str,
        count: usize,
        most: usize,
    },
    /// The gathered arrays leave no room for it.
    NoRoom,
    /// The copy failed.
    Device(CudaError),
}

/// Device addresses of the parts of [`CachePlaces`].
pub(super) struct PlacesAddresses {
    pub pages: Address,
    pub sequences: Address,
    pub rows: Address,
}

/// Slots of all kinds.
pub(super) struct Uploads {
    ids: Slot<u32>,
    positions: Slot<u32>,
    rows: TwoSlots<CacheRow>,
    sequences: Slot<CacheSequence>,
    pages: Slot<u64>,
    gathered: Gathered,
    gathering: bool,
    block: Block,
}

impl Uploads {
    /// Allocates the block; nothing is allocated later.
    pub fn new(memory: &Memory) -> Result<Uploads, OutOfMemory> {
        let block = memory.reserve_exact(BYTES, Owner::new(Region::Staging, "arrays"))?;
        let mut next = block.address();
        Ok(Uploads {
            pages: Slot::new("pages of a cache", PAGES_MAX, &mut next),
            rows: TwoSlots::new("rows of a cache", PIECE, &mut next),
            sequences: Slot::new("sequences of a cache", SEQUENCES_MAX, &mut next),
            ids: Slot::new("ids", PIECE, &mut next),
            positions: Slot::new("positions", PIECE, &mut next),
            gathered: Gathered::new(next),
            gathering: false,
            block,
        })
    }

    /// Address of the [`DONE_MAX`] counters. They start uninitialised.
    pub fn done(&self) -> Address {
        self.block.address().offset((BYTES - DONE_MAX * 4) as u64)
    }

    /// Begins a forward whose arrays are gathered.
    pub fn begin(&mut self) {
        self.gathered.clear();
    }

    /// Switches gathering on or off.
    pub fn gather(&mut self, gathering: bool) {
        self.gathering = gathering;
    }

    /// Copies the gathered arrays.
    pub fn send_gathered(&mut self, staging: &mut Staging) -> Result<(), CudaError> {
        self.gathered.send(staging)
    }

    pub fn ids(&mut self, staging: &mut Staging, ids: &[u32]) -> Result<Address, UploadError> {
        match self.gathering {
            true => self.gathered.add(ids),
            false => self.ids.send(staging, ids.iter().copied()),
        }
    }

    pub fn positions(
        &mut self,
        staging: &mut Staging,
        positions: &[u32],
    ) -> Result<Address, UploadError> {
        match self.gathering {
            true => self.gathered.add(positions),
            false => self.positions.send(staging, positions.iter().copied()),
        }
    }

    /// Sends the cache places of a range of rows.
    pub fn places(
        &mut self,
        staging: &mut Staging,
        places: &CachePlaces<'_>,
        rows: &[CacheRow],
    ) -> Result<PlacesAddresses, UploadError> {
        let pages = places.pages().iter().map(|page| page.0);
        if self.gathering {
            return Ok(PlacesAddresses {
                pages: self.gathered.add_pages(pages)?,
                sequences: self.gathered.add_shared(places.sequences())?,
                rows: self.gathered.add_shared(rows)?,
            });
        }
        let sequences = places.sequences().iter().copied();
        Ok(PlacesAddresses {
            pages: self.pages.send(staging, pages)?,
            sequences: self.sequences.send(staging, sequences)?,
            rows: self.rows.send(staging, rows)?,
        })
    }
}

/// Arrays of a gathered forward. Pages, whose number grows from one forward to the next, lie at the
/// end; all other arrays are allocated downwards before them. Equal forwards thus have equal
/// addresses, and the bytes in use are contiguous.
struct Gathered {
    /// Address of the pages.
    middle: Address,
    /// Contents for the device, as whole words.
    words: Vec<u64>,
    /// All arrays but the pages, by descending address.
    arrays: Vec<Array>,
    page_count: usize,
}

/// A gathered array.
struct Array {
    /// Byte range.
    range: Range<usize>,
    element_bytes: usize,
    /// Whether every layer uses it.
    shared: bool,
}

impl Gathered {
    fn new(start: Address) -> Gathered {
        Gathered {
            middle: start.offset(GATHERED_BYTES as u64),
            words: vec![0; GATHERED_BYTES / 8 + PAGES_MAX],
            arrays: Vec::new(),
            page_count: 0,
        }
    }

    fn clear(&mut self) {
        self.arrays.clear();
        self.page_count = 0;
    }

    fn bytes(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.words)
    }

    /// Offset of the first array.
    fn start(&self) -> usize {
        let last = self.arrays.last();
        last.map_or(GATHERED_BYTES, |last| last.range.start)
    }

    fn address(&self, place: usize) -> Address {
        Address(self.middle.0 - (GATHERED_BYTES - place) as u64)
    }

    /// Adds an array. Equal arrays are not merged: those of the next forward may differ.
    fn add<T: Pod>(&mut self, values: &[T]) -> Result<Address, UploadError> {
        let values: &[u8] = bytemuck::cast_slice(values);
        let room = self.start().checked_sub(values.len());
        let start = room.ok_or(UploadError::NoRoom)? / ALIGNMENT * ALIGNMENT;
        let range = start..start + values.len();
        self.bytes()[range.clone()].copy_from_slice(values);
        self.arrays.push(Array {
            range,
            element_bytes: size_of::<T>(),
            shared: false,
        });
        Ok(self.address(start))
    }

    /// Adds an array that every layer uses, once.
    fn add_shared<T: Pod>(&mut self, values: &[T]) -> Result<Address, UploadError> {
        let wanted: &[u8] = bytemuck::cast_slice(values);
        let bytes: &[u8] = bytemuck::cast_slice(&self.words);
        let holds = |array: &&Array| {
            array.shared
                && array.element_bytes == size_of::<T>()
                && bytes[array.range.clone()] == *wanted
        };
        if let Some(array) = self.arrays.iter().find(holds) {
            return Ok(self.address(array.range.start));
        }
        let address = self.add(values)?;
        if let Some(added) = self.arrays.last_mut() {
            added.shared = true;
        }
        Ok(address)
    }

    /// Adds the pages, which are the same for all layers of a forward.
    fn add_pages(
        &mut self,
        pages: impl ExactSizeIterator<Item = u64> + Clone,
    ) -> Result<Address, UploadError> {
        let count = pages.len();
        let room = self.words[GATHERED_BYTES / 8..].get_mut(..count);
        let room = room.ok_or(UploadError::NoRoom)?;
        if self.page_count > 0 {
            let same = self.page_count == count && pages.eq(room.iter().copied());
            return same.then_some(self.middle).ok_or(UploadError::NoRoom);
        }
        room.iter_mut()
            .zip(pages)
            .for_each(|(word, page)| *word = page);
        self.page_count = count;
        Ok(self.middle)
    }

    fn send(&mut self, staging: &mut Staging) -> Result<(), CudaError> {
        let (start, end) = (self.start(), GATHERED_BYTES + 8 * self.page_count);
        let to = self.address(start);
        staging.write(&self.bytes()[start..end], to)
    }
}

/// Slot of one kind of array.
struct Slot<T> {
    what: &'static str,
    address: Address,
    most: usize,
    /// Contents of the slot once the queue is past the last copy.
    sent: Vec<T>,
}

impl<T: Pod + PartialEq> Slot<T> {
    fn new(what: &'static str, most: usize, next: &mut Address) -> Slot<T> {
        let address = *next;
        *next = address.offset((most * size_of::<T>()) as u64);
        Slot {
            what,
            address,
            most,
            sent: Vec::with_capacity(most),
        }
    }

    fn holds(&self, values: impl Iterator<Item = T>) -> bool {
        self.sent.iter().copied().eq(values)
    }

    fn send(
        &mut self,
        staging: &mut Staging,
        values: impl ExactSizeIterator<Item = T> + Clone,
    ) -> Result<Address, UploadError> {
        let count = values.len();
        if count > self.most {
            return Err(UploadError::TooLong {
                what: self.what,
                count,
                most: self.most,
            });
        }
        if !self.holds(values.clone()) {
            self.sent.clear();
            self.sent.extend(values);
            let sent = staging.write(bytemuck::cast_slice(&self.sent), self.address);
            if let Err(error) = sent {
                self.sent.clear();
                return Err(UploadError::Device(error));
            }
        }
        Ok(self.address)
    }
}

/// Two slots of one kind of array, for layers that use two such arrays in turn: rows of a block are
/// stored at their own positions and attend to the whole block.
struct TwoSlots<T> {
    slots: [Slot<T>; 2],
    /// The slot that was written first.
    older: usize,
}

impl<T: Pod + PartialEq> TwoSlots<T> {
    fn new(what: &'static str, most: usize, next: &mut Address) -> TwoSlots<T> {
        TwoSlots {
            slots: std::array::from_fn(|_| Slot::new(what, most, next)),
            older: 0,
        }
    }

    fn send(&mut self, staging: &mut Staging, values: &[T]) -> Result<Address, UploadError> {
        let values = values.iter().copied();
        let known = (self.slots.iter()).position(|slot| slot.holds(values.clone()));
        let index = known.unwrap_or(self.older);
        if known.is_none() {
            self.older = 1 - index;
        }
        self.slots[index].send(staging, values)
    }
}
