//! Blocks: the only access to bytes. A block returns its memory when it is dropped.

mod planned;

pub use planned::{PlanMismatch, PlannedArena, PlannedPiece};

use crate::driver::{Address, DriverError};
use crate::memory::{Handle, Memory, SplitParent};
use crate::owner::Owner;
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

/// How host bytes are copied to a device.
#[derive(Clone, Copy)]
enum Way {
    /// [`Driver::write`](crate::driver::Driver::write).
    Write,
    /// [`Driver::stage`](crate::driver::Driver::stage).
    Stage,
}

/// An exclusively held piece of memory, freed on drop.
///
/// Fresh memory is zero. Reused memory holds whatever its last user left there.
pub struct Block {
    memory: Memory,
    handle: Handle,
    address: Address,
    len: usize,
    owner: Owner,
    queue: u64,
}

impl Block {
    /// `address` must come from `memory` under `handle`, with room for `len` bytes.
    pub(crate) fn new(
        memory: Memory,
        handle: Handle,
        address: Address,
        len: usize,
        owner: Owner,
        queue: u64,
    ) -> Block {
        Block {
            memory,
            handle,
            address,
            len,
            owner,
            queue,
        }
    }

    /// Requested size in bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Address on the device.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The owner that the bytes are counted for.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The memory that the block came from.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The bytes.
    ///
    /// # Panics
    /// If this process cannot access the device's memory.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: see `pointer`; `&self` keeps the block alive and excludes writers.
        unsafe { std::slice::from_raw_parts(self.pointer().as_ptr(), self.len) }
    }

    /// The bytes, for writing.
    ///
    /// # Panics
    /// If this process cannot access the device's memory.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: see `pointer`; `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.pointer().as_ptr(), self.len) }
    }

    /// Whether this process can access the bytes.
    pub fn host_accessible(&self) -> bool {
        self.memory.host_accessible()
    }

    /// Copies bytes from `offset` on to the host, whichever device holds them.
    ///
    /// # Errors
    /// If the device refuses.
    ///
    /// # Panics
    /// If the block ends before `into` is full.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), DriverError> {
        // SAFETY: `&self` keeps the block alive and excludes writers.
        unsafe { self.copy_out(0..self.len, offset, into) }
    }

    /// Copies host bytes into the block from `offset` on, whichever device holds it.
    ///
    /// # Errors
    /// If the device refuses.
    ///
    /// # Panics
    /// If the block ends before all bytes are copied.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), DriverError> {
        // SAFETY: `&mut self` is the only access.
        unsafe { self.copy_in(0..self.len, offset, bytes, Way::Write) }
    }

    /// Copies bytes out of `part` of the block, from `offset` within the part on.
    ///
    /// # Safety
    /// Nobody may write to the part during the call.
    unsafe fn copy_out(
        &self,
        part: Range<usize>,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), DriverError> {
        let from = self.checked(part, offset, into.len());
        if into.is_empty() {
            return Ok(());
        }
        // SAFETY: the bytes are inside the live block, and the caller excludes writers.
        unsafe { self.memory.driver().read(from, into) }
    }

    /// Copies bytes into `part` of the block, from `offset` within the part on.
    ///
    /// # Safety
    /// Nobody may use the part during the call.
    unsafe fn copy_in(
        &self,
        part: Range<usize>,
        offset: usize,
        bytes: &[u8],
        way: Way,
    ) -> Result<(), DriverError> {
        let to = self.checked(part, offset, bytes.len());
        if bytes.is_empty() {
            return Ok(());
        }
        let driver = self.memory.driver();
        // SAFETY: the bytes are inside the live block, and the caller excludes all other users.
        unsafe {
            match way {
                Way::Write => driver.write(bytes, to),
                Way::Stage => driver.stage(bytes, to),
            }
        }
    }

    /// The address of `count` bytes of a part, after a bounds check.
    fn checked(&self, part: Range<usize>, offset: usize, count: usize) -> Address {
        assert!(
            part.end <= self.len && offset <= part.len() && count <= part.len() - offset,
            "{count} bytes from {offset} on of {}",
            part.len()
        );
        self.address.offset((part.start + offset) as u64)
    }

    /// Turns the block into shared, read-only bytes.
    pub fn into_shared(self) -> SharedBlock {
        let len = self.len;
        SharedBlock {
            block: Arc::new(self),
            offset: 0,
            len,
        }
    }

    /// Pointer to the first byte. The driver's contract makes `len` bytes from here valid and
    /// initialised while the block lives, and the pool never hands a byte out twice.
    fn pointer(&self) -> NonNull<u8> {
        assert!(
            self.memory.host_accessible(),
            "block of {} bytes on device {:?} cannot be read by the host: copy it through the device",
            self.len,
            self.memory.driver_name()
        );
        let address = self.address.0 as usize;
        NonNull::new(std::ptr::with_exposed_provenance_mut(address)).unwrap_or(NonNull::dangling())
    }
}

impl Block {
    /// Splits the block into blocks of `part` bytes (at least 1); the last one may be shorter. The
    /// memory is freed with the last of them.
    pub fn split(mut self, part: usize) -> Vec<Block> {
        let part = part.max(1);
        let handle = std::mem::replace(&mut self.handle, Handle::Empty);
        (self.memory).count_parts(self.len, part, self.owner, self.queue);
        let whole = Arc::new(SplitParent::new(self.memory.clone(), handle));
        (0..self.len)
            .step_by(part)
            .map(|start| Block {
                memory: self.memory.clone(),
                handle: Handle::Part(Arc::clone(&whole)),
                address: self.address.offset(start as u64),
                len: part.min(self.len - start),
                owner: self.owner,
                queue: self.queue,
            })
            .collect()
    }

    /// Shrinks a block that came from [`Memory::reserve_exact`] to its first `bytes` bytes and
    /// frees the rest.
    ///
    /// # Errors
    /// If the block is shorter than `bytes`, if its driver is sealed, or if the driver frees whole
    /// pieces only. The block is unchanged then.
    pub fn shrink(&mut self, bytes: usize) -> Result<(), DriverError> {
        if bytes > self.len {
            return Err(DriverError::Misuse {
                call: "shrink",
                address: self.address,
                bytes: bytes as u64,
                reason: "the block is shorter than the requested size",
            });
        }
        if bytes < self.len {
            (self.memory).shrink(&mut self.handle, bytes, self.len, self.owner)?;
            self.len = bytes;
        }
        Ok(())
    }

    /// Advises the driver that a block from [`Memory::reserve_exact`] is used in parts: what is
    /// never written should take no memory.
    pub fn prefer_small_pages(&self) {
        if let Handle::Exact(address, bytes) = self.handle {
            self.memory.driver().prefer_small_pages(address, bytes);
        }
    }

    /// Advises the driver that the contents of a block from [`Memory::reserve_exact`] are of no use
    /// any more: it should take no memory until it is written again.
    ///
    /// # Safety
    /// Nobody accesses the bytes meanwhile, or counts on them later.
    pub(crate) unsafe fn discard(&self) {
        if let Handle::Exact(address, bytes) = self.handle {
            // SAFETY: the handle stands for this piece of the driver; otherwise the caller's
            // contract.
            unsafe { self.memory.driver().discard(address, bytes) };
        }
    }

    /// Records that work on another queue of the device uses the block: after it is dropped, its
    /// bytes are reused only once that work is complete. Only for blocks of the pool; other blocks
    /// wait for the whole device.
    pub fn record_use(&self, queue: u64) {
        if let Handle::Pooled(block) = &self.handle {
            self.memory.pool().record_use(block, queue);
        }
    }

    /// Transfers the block to another owner, without freeing and allocating again.
    pub fn set_owner(&mut self, owner: Owner) {
        self.memory
            .change_owner(self.len, self.owner, owner, self.queue);
        self.owner = owner;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let handle = std::mem::replace(&mut self.handle, Handle::Empty);
        self.memory
            .give_back(handle, self.len, self.owner, self.queue);
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Block({} bytes at {}, {})",
            self.len, self.address, self.owner
        )
    }
}

/// Read-only bytes of a block with several holders. The block is freed with its last holder.
#[derive(Clone)]
pub struct SharedBlock {
    block: Arc<Block>,
    offset: usize,
    len: usize,
}

impl SharedBlock {
    /// Number of bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The bytes.
    ///
    /// # Panics
    /// If this process cannot access the device's memory.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: offset and length were checked against the block when this part was made, and no
        // exclusive part overlaps a shared one.
        unsafe {
            std::slice::from_raw_parts(self.block.pointer().add(self.offset).as_ptr(), self.len)
        }
    }

    /// Address on the device.
    pub fn address(&self) -> Address {
        self.block.address.offset(self.offset as u64)
    }

    /// Whether this process can access the bytes.
    pub fn host_accessible(&self) -> bool {
        self.block.host_accessible()
    }

    /// Copies bytes from `offset` on to the host, whichever device holds them.
    ///
    /// # Errors
    /// If the device refuses.
    ///
    /// # Panics
    /// If the part ends before `into` is full.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), DriverError> {
        let part = self.offset..self.offset + self.len;
        // SAFETY: no exclusive part overlaps a shared one.
        unsafe { self.block.copy_out(part, offset, into) }
    }

    /// A sub-range, or `None` if the range reaches past the end.
    pub fn slice(&self, range: Range<usize>) -> Option<SharedBlock> {
        let len = range.end.checked_sub(range.start)?;
        if range.end > self.len {
            return None;
        }
        Some(SharedBlock {
            block: Arc::clone(&self.block),
            offset: self.offset + range.start,
            len,
        })
    }

    /// The owner of the whole block.
    pub fn owner(&self) -> Owner {
        self.block.owner
    }
}

impl fmt::Debug for SharedBlock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "SharedBlock({} bytes at {})",
            self.len,
            self.address()
        )
    }
}

/// A block that is cut into consecutive exclusive parts: weights are loaded part by part and shared
/// afterwards.
#[derive(Debug)]
pub struct Arena {
    block: Arc<Block>,
    used: usize,
}

impl Arena {
    /// An arena over the whole block.
    pub fn new(block: Block) -> Arena {
        Arena {
            block: Arc::new(block),
            used: 0,
        }
    }

    /// The next `len` bytes from an offset that is a multiple of `align` (a power of two), or
    /// `None` if too few bytes are left.
    pub fn take(&mut self, len: usize, align: usize) -> Option<ArenaSlice> {
        let offset = self.used.checked_next_multiple_of(align.max(1))?;
        let end = offset.checked_add(len)?;
        if end > self.block.len {
            return None;
        }
        self.used = end;
        Some(ArenaSlice {
            block: Arc::clone(&self.block),
            offset,
            len,
        })
    }

    /// Bytes that are not cut off yet.
    pub fn remaining(&self) -> usize {
        self.block.len - self.used
    }
}

/// An exclusive part of an [`Arena`]'s block. No other part overlaps it.
pub struct ArenaSlice {
    block: Arc<Block>,
    offset: usize,
    len: usize,
}

impl ArenaSlice {
    /// Number of bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Address on the device.
    pub fn address(&self) -> Address {
        self.block.address.offset(self.offset as u64)
    }

    /// The bytes.
    ///
    /// # Panics
    /// If this process cannot access the device's memory.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the arena cut this part within the block's bounds and gave it to nobody else.
        unsafe {
            std::slice::from_raw_parts(self.block.pointer().add(self.offset).as_ptr(), self.len)
        }
    }

    /// The bytes, for writing.
    ///
    /// # Panics
    /// If this process cannot access the device's memory.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the arena cut this part within the block's bounds, and `&mut self` is the only
        // access.
        unsafe {
            std::slice::from_raw_parts_mut(self.block.pointer().add(self.offset).as_ptr(), self.len)
        }
    }

    /// Whether this process can access the bytes.
    pub fn host_accessible(&self) -> bool {
        self.block.host_accessible()
    }

    /// Copies bytes from `offset` on to the host, whichever device holds them.
    ///
    /// # Errors
    /// If the device refuses.
    ///
    /// # Panics
    /// If the part ends before `into` is full.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), DriverError> {
        let part = self.offset..self.offset + self.len;
        // SAFETY: the arena gave this part to nobody else, and `&self` excludes writers.
        unsafe { self.block.copy_out(part, offset, into) }
    }

    /// Copies host bytes into the part from `offset` on, whichever device holds it.
    ///
    /// # Errors
    /// If the device refuses.
    ///
    /// # Panics
    /// If the part ends before all bytes are copied.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), DriverError> {
        let part = self.offset..self.offset + self.len;
        // SAFETY: `&mut self` is the only access to this part.
        unsafe { self.block.copy_in(part, offset, bytes, Way::Write) }
    }

    /// As [`ArenaSlice::write`], for loading many bytes in a row
    /// ([`Driver::stage`](crate::driver::Driver::stage)): the copy may still be in progress when
    /// the call returns. [`Memory::finish_staging`](crate::Memory::finish_staging) waits for it.
    ///
    /// # Errors
    /// If the device refuses.
    ///
    /// # Panics
    /// If the part ends before all bytes are copied.
    pub fn stage(&mut self, offset: usize, bytes: &[u8]) -> Result<(), DriverError> {
        let part = self.offset..self.offset + self.len;
        // SAFETY: `&mut self` is the only access to this part.
        unsafe { self.block.copy_in(part, offset, bytes, Way::Stage) }
    }

    /// Ends exclusive access; the part can be shared from now on.
    pub fn into_shared(self) -> SharedBlock {
        SharedBlock {
            block: self.block,
            offset: self.offset,
            len: self.len,
        }
    }
}

impl fmt::Debug for ArenaSlice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "ArenaSlice({} bytes at {})",
            self.len,
            self.address()
        )
    }
}
