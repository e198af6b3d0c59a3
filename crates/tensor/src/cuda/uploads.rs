//! Small arrays of the host that kernels read: ids, positions, where the rows of a cache stand.
//!
//! Each kind has a place of its own on the device, in one block that lives as long as the device. A
//! copy to it takes its turn between the kernels before, which read what was there, and those
//! after. What is there already is not copied again, so that the layers of a forward share one
//! copy.
//!
//! While a forward's launches are gathered, its arrays are too: each gets a place of its own, and
//! one copy takes all of them to the device before the launches.

use crate::cache::{CachePlaces, CacheRow, CacheSequence};
use bytemuck::Pod;
use sottovoce_memory::driver::Address;
use sottovoce_memory::driver::cuda::{CudaError, Staging};
use sottovoce_memory::{Block, Memory, OutOfMemory, Owner, Region};
use std::ops::Range;

/// Ids, positions or rows at a time; longer arrays go in pieces.
pub(super) const PIECE: usize = 4096;
/// Sequences of a forward at most.
const SEQUENCES_MAX: usize = 1024;
/// Pages of a forward at most.
const PAGES_MAX: usize = 1 << 16;

/// Bytes of all arrays of a forward that is gathered, but for its pages.
const GATHERED_BYTES: usize = 128 << 10;
/// Counts of parts of attentions that are done: zeros whenever no attention is under way.
pub(super) const DONE_MAX: usize = 1 << 14;
/// Gathered arrays begin at multiples of this.
const ALIGNMENT: usize = 16;

/// Bytes of all places.
pub(super) const BYTES: usize = PIECE * (4 + 4 + size_of::<CacheRow>())
    + SEQUENCES_MAX * size_of::<CacheSequence>()
    + PAGES_MAX * 8
    + GATHERED_BYTES
    + PAGES_MAX * 8
    + DONE_MAX * 4;

/// Why an array is not on the device.
pub(super) enum UploadError {
    /// It is longer than its place.
    TooLong {
        what: &'static str,
        count: usize,
        most: usize,
    },
    /// The arrays that were gathered leave it no room.
    NoRoom,
    /// The device did not take it.
    Device(CudaError),
}

/// Where the parts of [`CachePlaces`] are.
pub(super) struct PlacesAddresses {
    pub pages: Address,
    pub sequences: Address,
    pub rows: Address,
}

/// The places of all kinds.
pub(super) struct Uploads {
    ids: Slot<u32>,
    positions: Slot<u32>,
    rows: Slot<CacheRow>,
    sequences: Slot<CacheSequence>,
    pages: Slot<u64>,
    gathered: Gathered,
    gathering: bool,
    block: Block,
}

impl Uploads {
    /// Takes the block; nothing is taken later.
    pub fn new(memory: &Memory) -> Result<Uploads, OutOfMemory> {
        let block = memory.reserve_exact(BYTES, Owner::new(Region::Staging, "arrays"))?;
        let mut next = block.address();
        Ok(Uploads {
            pages: Slot::new("pages of a cache", PAGES_MAX, &mut next),
            rows: Slot::new("rows of a cache", PIECE, &mut next),
            sequences: Slot::new("sequences of a cache", SEQUENCES_MAX, &mut next),
            ids: Slot::new("ids", PIECE, &mut next),
            positions: Slot::new("positions", PIECE, &mut next),
            gathered: Gathered::new(next),
            gathering: false,
            block,
        })
    }

    /// Where the [`DONE_MAX`] counts are. They hold anything at first.
    pub fn done(&self) -> Address {
        self.block.address().offset((BYTES - DONE_MAX * 4) as u64)
    }

    /// A forward begins whose arrays are gathered.
    pub fn begin(&mut self) {
        self.gathered.clear();
    }

    /// Whether arrays are gathered from now on.
    pub fn gather(&mut self, gathering: bool) {
        self.gathering = gathering;
    }

    /// Copies what was gathered.
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

    /// Sends where some of the rows stand.
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
            rows: self.rows.send(staging, rows.iter().copied())?,
        })
    }
}

/// The arrays of a forward whose launches are gathered. Pages, whose number grows from one forward
/// to the next, lie at the end; all others before them, the later the nearer to the beginning. So
/// equal forwards have equal places, and what is in use is one piece.
struct Gathered {
    /// Where the pages begin.
    middle: Address,
    /// What the device is to hold, as whole words.
    words: Vec<u64>,
    /// Each array but the pages; the last one begins first.
    arrays: Vec<Array>,
    page_count: usize,
}

/// An array that was gathered.
struct Array {
    /// Its bytes.
    range: Range<usize>,
    element_bytes: usize,
    /// Whether it was asked for by what every layer has.
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

    /// Where the first array begins.
    fn start(&self) -> usize {
        let last = self.arrays.last();
        last.map_or(GATHERED_BYTES, |last| last.range.start)
    }

    fn address(&self, place: usize) -> Address {
        Address(self.middle.0 - (GATHERED_BYTES - place) as u64)
    }

    /// Adds an array. Equal ones are not joined: the next forward's may differ.
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

    /// Adds an array that every layer has, once.
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

    /// Adds the pages; a forward has the same ones everywhere.
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

/// One kind's place.
struct Slot<T> {
    what: &'static str,
    address: Address,
    most: usize,
    /// What is there once the device has come so far.
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
        if !self.sent.iter().copied().eq(values.clone()) {
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
