//! Small arrays of the host that kernels read: ids, positions, where the rows of a cache stand.
//!
//! Each kind has a place of its own on the device, in one block that lives as long as the device. A
//! copy to it takes its turn between the kernels before, which read what was there, and those
//! after. What is there already is not copied again, so that the layers of a forward share one
//! copy.

use crate::cache::{CachePlaces, CacheRow, CacheSequence};
use bytemuck::Pod;
use sottovoce_memory::driver::Address;
use sottovoce_memory::driver::cuda::{CudaError, Staging};
use sottovoce_memory::{Block, Memory, OutOfMemory, Owner, Region};

/// Ids, positions or rows at a time; longer arrays go in pieces.
pub(super) const PIECE: usize = 4096;
/// Sequences of a forward at most.
const SEQUENCES_MAX: usize = 1024;
/// Pages of a forward at most.
const PAGES_MAX: usize = 1 << 16;

/// Bytes of all places.
pub(super) const BYTES: usize = PIECE * (4 + 4 + size_of::<CacheRow>())
    + SEQUENCES_MAX * size_of::<CacheSequence>()
    + PAGES_MAX * 8;

/// Why an array is not on the device.
pub(super) enum UploadError {
    /// It is longer than its place.
    TooLong {
        what: &'static str,
        count: usize,
        most: usize,
    },
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
            block,
        })
    }

    /// Where they begin.
    pub fn address(&self) -> Address {
        self.block.address()
    }

    pub fn ids(&mut self, staging: &mut Staging, ids: &[u32]) -> Result<Address, UploadError> {
        self.ids.send(staging, ids.iter().copied())
    }

    pub fn positions(
        &mut self,
        staging: &mut Staging,
        positions: &[u32],
    ) -> Result<Address, UploadError> {
        self.positions.send(staging, positions.iter().copied())
    }

    /// Sends where some of the rows stand.
    pub fn places(
        &mut self,
        staging: &mut Staging,
        places: &CachePlaces<'_>,
        rows: &[CacheRow],
    ) -> Result<PlacesAddresses, UploadError> {
        let pages = places.pages().iter().map(|page| page.0);
        let sequences = places.sequences().iter().copied();
        Ok(PlacesAddresses {
            pages: self.pages.send(staging, pages)?,
            sequences: self.sequences.send(staging, sequences)?,
            rows: self.rows.send(staging, rows.iter().copied())?,
        })
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
