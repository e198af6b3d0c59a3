//! Pages of one size, for what grows position by position: keys and values.
//!
//! A stream holds a [`PageTable`]. Dropping it gives back exactly its pages, which the pool keeps for the next stream until it is
//! trimmed: in steady state a page costs no driver call.
//!
//! ```
//! use sottovoce_memory::{Memory, Owner, Region, StreamId, pages::PagePool};
//!
//! let memory = Memory::host(1 << 20);
//! let pages = PagePool::new(&memory, 4096, 16);
//! let mut table = pages.table(Owner::new(Region::KeyValue, "example").for_stream(StreamId(1)));
//! table.push_page()?;
//! table.page_mut(0)[..5].copy_from_slice(b"hello");
//! drop(table);
//! assert_eq!((pages.used_count(), pages.free_count()), (0, 1));
//! assert_eq!(pages.trim(), 4096);
//! # Ok::<(), sottovoce_memory::OutOfMemory>(())
//! ```

use crate::block::Block;
use crate::memory::Memory;
use crate::out_of_memory::{OutOfMemory, OutOfMemoryKind, OutOfMemoryReport};
use crate::owner::{Owner, Region};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use std::sync::Arc;

/// Who has the pages that no stream has.
const FREE: Owner = Owner::new(Region::KeyValue, "free pages");

/// Pages of one size. Cheap to clone; all clones are the same pool.
#[derive(Clone)]
pub struct PagePool(Arc<Inner>);

struct Inner {
    memory: Memory,
    page_bytes: usize,
    page_count_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: Vec<Block>,
    used: usize,
}

impl PagePool {
    /// A pool without pages yet, which may have up to `page_count_max` of `page_bytes` bytes in use.
    pub fn new(memory: &Memory, page_bytes: usize, page_count_max: usize) -> PagePool {
        PagePool(Arc::new(Inner {
            memory: memory.clone(),
            page_bytes,
            page_count_max,
            state: Mutex::default(),
        }))
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.0.page_bytes
    }

    /// Pages that tables hold.
    pub fn used_count(&self) -> usize {
        self.state().used
    }

    /// Pages kept for the next table.
    pub fn free_count(&self) -> usize {
        self.state().free.len()
    }

    /// An empty table; its pages will be `owner`'s.
    pub fn table(&self, owner: Owner) -> PageTable {
        PageTable {
            pool: self.clone(),
            owner,
            pages: Vec::new(),
        }
    }

    /// Gives the kept pages back to the driver; their bytes.
    pub fn trim(&self) -> u64 {
        let free = std::mem::take(&mut self.state().free);
        (free.len() * self.0.page_bytes) as u64
    }

    fn take(&self, owner: Owner) -> Result<Block, OutOfMemory> {
        let mut state = self.state();
        if state.used >= self.0.page_count_max {
            return Err(self.over_account(state.used));
        }
        let page = match state.free.pop() {
            Some(mut page) => {
                page.set_owner(owner);
                page
            }
            None => self.0.memory.reserve_exact(self.0.page_bytes, owner)?,
        };
        state.used += 1;
        Ok(page)
    }

    fn give_back(&self, pages: impl Iterator<Item = Block>) {
        let mut state = self.state();
        for mut page in pages {
            page.set_owner(FREE);
            state.used -= 1;
            state.free.push(page);
        }
    }

    fn over_account(&self, used: usize) -> OutOfMemory {
        OutOfMemory {
            kind: OutOfMemoryKind::OverAccount,
            requested: self.0.page_bytes as u64,
            available: 0,
            report: Box::new(OutOfMemoryReport {
                message: format!("all {used} pages of {} bytes are in use", self.0.page_bytes),
                owners: self.0.memory.statistics().owners,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's pages, in the order of its positions.
pub struct PageTable {
    pool: PagePool,
    owner: Owner,
    pages: Vec<Block>,
}

impl PageTable {
    /// Adds a page; its contents are whatever was there.
    ///
    /// # Errors
    /// If the pool is used up or the driver has no more.
    pub fn push_page(&mut self) -> Result<(), OutOfMemory> {
        let page = self.pool.take(self.owner)?;
        self.pages.push(page);
        Ok(())
    }

    /// Gives back all pages from `count` on.
    pub fn truncate(&mut self, count: usize) {
        let count = count.min(self.pages.len());
        self.pool.give_back(self.pages.drain(count..));
    }

    /// Number of pages.
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.pool.page_bytes()
    }

    /// Page `index`.
    ///
    /// # Panics
    /// If there is no such page.
    pub fn page(&self, index: usize) -> &[u8] {
        self.pages[index].bytes()
    }

    /// Page `index`, to write.
    ///
    /// # Panics
    /// If there is no such page.
    pub fn page_mut(&mut self, index: usize) -> &mut [u8] {
        self.pages[index].bytes_mut()
    }
}

impl Drop for PageTable {
    fn drop(&mut self) {
        self.truncate(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::StreamId;

    const PAGE: usize = 4096;

    fn owner(stream: u64) -> Owner {
        Owner::new(Region::KeyValue, "test").for_stream(StreamId(stream))
    }

    fn table(pool: &PagePool, stream: u64, pages: usize) -> PageTable {
        let mut table = pool.table(owner(stream));
        for _ in 0..pages {
            table.push_page().expect("room");
        }
        table
    }

    #[test]
    fn a_dropped_table_gives_back_exactly_its_pages() {
        let memory = Memory::host(1 << 20);
        let pool = PagePool::new(&memory, PAGE, 8);
        let first = table(&pool, 1, 3);
        let second = table(&pool, 2, 2);
        let streams = memory.statistics().streams;
        assert_eq!(streams[&StreamId(1)].live_bytes, 3 * PAGE as u64);
        drop(first);
        assert_eq!((pool.used_count(), pool.free_count()), (2, 3));
        drop(second);
        assert_eq!(pool.trim(), 5 * PAGE as u64);
        assert_eq!(memory.statistics().held_bytes(), 0);
    }

    #[test]
    fn kept_pages_are_used_again_without_a_driver_call() {
        let memory = Memory::host(1 << 20);
        let pool = PagePool::new(&memory, PAGE, 8);
        drop(table(&pool, 1, 4));
        memory.seal();
        let mut again = table(&pool, 2, 4);
        assert!(again.push_page().is_err(), "a fifth would need the driver");
        memory.unseal();
        again.push_page().expect("room");
    }

    #[test]
    fn a_pool_that_is_used_up_says_so_and_works_on() {
        let memory = Memory::host(1 << 20);
        let pool = PagePool::new(&memory, PAGE, 2);
        let mut table = table(&pool, 1, 2);
        let error = table.push_page().expect_err("the third of two");
        assert_eq!(error.kind, OutOfMemoryKind::OverAccount);
        table.truncate(1);
        table.push_page().expect("one is free again");
    }
}
