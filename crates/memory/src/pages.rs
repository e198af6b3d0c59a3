//! Fixed-size pages, for data that grows position by position: the KV cache.
//!
//! A stream holds a [`PageTable`]. Dropping the table frees exactly its pages, which the pool
//! caches for the next stream until it is trimmed.
//!
//! A table that has [reserved](PageTable::reserve) its worst case at admission already holds its
//! pages. From then on a new page is a look-up, which cannot fail and needs no driver call; the
//! driver may be sealed.
//!
//! Pages of one slab stay with one table as far as possible, so that the slab can be returned to
//! the driver when that table's stream ends, no matter which other streams are live.
//!
//! ```
//! use sottovoce_memory::{Memory, Owner, Region, StreamId, pages::PagePool};
//!
//! let memory = Memory::host(1 << 20);
//! let pages = PagePool::new(&memory, 4096, 16);
//! let mut table = pages.table(Owner::new(Region::KeyValue, "example").for_stream(StreamId(1)));
//! table.reserve(3)?;
//! memory.seal();
//! table.push_page()?;
//! table.page_mut(0)[..5].copy_from_slice(b"hello");
//! drop(table);
//! assert_eq!((pages.used_count(), pages.free_count()), (0, 3));
//! memory.unseal();
//! assert_eq!(pages.trim(), 3 * 4096);
//! # Ok::<(), sottovoce_memory::OutOfMemory>(())
//! ```

use crate::block::Block;
use crate::driver::Address;
use crate::memory::Memory;
use crate::out_of_memory::{OutOfMemory, OutOfMemoryKind};
use crate::owner::{Owner, Region};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use std::sync::Arc;

/// Owner of the free pages.
const FREE: Owner = Owner::new(Region::KeyValue, "free pages");
/// Alignment of pages in a slab: no two pages share a cache line.
const ALIGNMENT: usize = 64;

/// A pool of fixed-size pages. Cheap to clone; all clones are the same pool.
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
    /// Slabs by index; `None` where a slab was freed.
    slabs: Vec<Option<Slab>>,
    free: usize,
    used: usize,
    /// Number of free pages that tables have reserved.
    promised: usize,
}

/// Pages allocated with one driver call.
struct Slab {
    free: Vec<Block>,
    page_count: usize,
}

/// A page in use, and its slab.
struct Page {
    block: Block,
    slab: usize,
}

impl PagePool {
    /// A pool without pages yet. At most `page_count_max` pages of `page_bytes` bytes may be in use
    /// or reserved.
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

    /// Number of pages in use by tables.
    pub fn used_count(&self) -> usize {
        self.state().used
    }

    /// Number of free pages in the pool, reserved ones included.
    pub fn free_count(&self) -> usize {
        self.state().free
    }

    /// Number of free pages that tables have reserved.
    pub fn reserved_count(&self) -> usize {
        self.state().promised
    }

    /// Bytes of free pages that no table has reserved.
    pub fn spare_bytes(&self) -> u64 {
        let state = self.state();
        (state.free - state.promised) as u64 * self.stride() as u64
    }

    /// An empty table, whose pages will be counted for `owner`.
    pub fn table(&self, owner: Owner) -> PageTable {
        PageTable {
            pool: self.clone(),
            owner,
            pages: Vec::new(),
            held: Vec::new(),
            reserved: 0,
        }
    }

    /// Returns every slab without pages in use or reserved to the driver, and says how many bytes
    /// of pages.
    pub fn trim(&self) -> u64 {
        let mut state = self.state();
        let mut gone = Vec::new();
        for place in 0..state.slabs.len() {
            if let Some(slab) = &state.slabs[place]
                && slab.free.len() == slab.page_count
            {
                state.free -= slab.page_count;
                gone.extend(state.slabs[place].take());
            }
        }
        while state.slabs.last().is_some_and(Option::is_none) {
            state.slabs.pop();
        }
        drop(state);
        let pages: usize = gone.iter().map(|slab| slab.page_count).sum();
        (pages * self.0.page_bytes) as u64
    }

    /// Reserves `count` free pages for a table.
    fn promise(&self, count: usize) -> Result<Vec<Page>, OutOfMemory> {
        let mut state = self.state();
        self.grow(&mut state, count)?;
        state.promised += count;
        Ok(state.take(count))
    }

    /// Takes a page into use: `held`, or a free one beyond the reservations.
    fn take(&self, owner: Owner, held: Option<Page>) -> Result<Page, OutOfMemory> {
        let mut state = self.state();
        let mut page = match held {
            Some(page) => {
                state.promised -= 1;
                page
            }
            None => {
                self.grow(&mut state, 1)?;
                state.take(1).pop().expect("one page was requested")
            }
        };
        state.free -= 1;
        state.used += 1;
        drop(state);
        page.block.set_owner(owner);
        Ok(page)
    }

    /// Returns reserved pages that are not needed to the free ones.
    fn give_up(&self, held: impl Iterator<Item = Page>) {
        let mut state = self.state();
        for page in held {
            state.promised -= 1;
            state.put(page);
        }
    }

    /// Allocates the shortfall of `count` pages beyond the reservations as one slab.
    fn grow(&self, state: &mut State, count: usize) -> Result<(), OutOfMemory> {
        let taken = state.used + state.promised;
        if count > self.0.page_count_max - taken.min(self.0.page_count_max) {
            return Err(self.over_account(taken, count));
        }
        let missing = count.saturating_sub(state.free - state.promised);
        if missing == 0 {
            return Ok(());
        }
        let stride = self.stride();
        let bytes = stride.saturating_mul(missing);
        let pages = self.0.memory.reserve_exact(bytes, FREE)?.split(stride);
        state.add(pages);
        Ok(())
    }

    /// Frees pages: the first `keep` of them stay reserved, the others become available.
    fn give_back(&self, pages: impl Iterator<Item = Page>, keep: usize) -> Vec<Page> {
        let mut state = self.state();
        let mut kept = Vec::with_capacity(keep);
        for mut page in pages {
            page.block.set_owner(FREE);
            state.used -= 1;
            state.free += 1;
            if kept.len() < keep {
                state.promised += 1;
                kept.push(page);
            } else {
                state.put(page);
            }
        }
        kept
    }

    /// Bytes from one page of a slab to the next.
    fn stride(&self) -> usize {
        self.0.page_bytes.max(1).next_multiple_of(ALIGNMENT)
    }

    fn over_account(&self, taken: usize, count: usize) -> OutOfMemory {
        let left = self.0.page_count_max.saturating_sub(taken);
        let page = self.0.page_bytes as u64;
        OutOfMemory::new(
            OutOfMemoryKind::OverAccount,
            page.saturating_mul(count as u64),
            page.saturating_mul(left as u64),
            format!(
                "{count} more pages of {page} bytes are too many: {taken} of {} are in use or reserved",
                self.0.page_count_max
            ),
        )
        .with_owners(self.0.memory.statistics().owners)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, pages: Vec<Block>) {
        self.free += pages.len();
        let slab = Some(Slab {
            page_count: pages.len(),
            free: pages,
        });
        match self.slabs.iter().position(Option::is_none) {
            Some(place) => self.slabs[place] = slab,
            None => self.slabs.push(slab),
        }
    }

    /// Takes `count` free pages that are not reserved; the caller has checked that so many exist.
    /// Partly used slabs come first, then whole slabs, the largest that is used up, so that few
    /// slabs are shared between tables.
    fn take(&mut self, count: usize) -> Vec<Page> {
        let mut pages = Vec::with_capacity(count);
        while pages.len() < count {
            let missing = count - pages.len();
            let candidates = self.slabs.iter().enumerate().filter_map(|(place, slab)| {
                let slab = slab.as_ref()?;
                let (free, whole) = (slab.free.len(), slab.free.len() == slab.page_count);
                let fits = free <= missing;
                // A whole slab that is too large is split only as a last resort, the smallest one
                // first.
                let rank = if whole && !fits {
                    usize::MAX - free
                } else {
                    free.min(missing)
                };
                (free > 0).then_some(((!whole, fits, rank), place))
            });
            let (_, place) = candidates.max().expect("a free page lies in a slab");
            let slab = self.slabs[place].as_mut().expect("the slab was seen");
            let start = slab.free.len().saturating_sub(missing);
            pages.extend(
                slab.free
                    .drain(start..)
                    .map(|block| Page { block, slab: place }),
            );
        }
        pages
    }

    fn put(&mut self, page: Page) {
        if let Some(slab) = &mut self.slabs[page.slab] {
            slab.free.push(page.block);
        }
    }
}

/// One stream's pages, in the order of their positions.
pub struct PageTable {
    pool: PagePool,
    owner: Owner,
    pages: Vec<Page>,
    /// Reserved pages that are not in use yet.
    held: Vec<Page>,
    /// Number of reserved pages, those in use included.
    reserved: usize,
}

impl PageTable {
    /// Reserves `count` pages in all, those in use included. Up to that count, a new page needs no
    /// driver call and cannot fail. A smaller count than before returns the difference.
    ///
    /// # Errors
    /// If the pool may not have so many pages, or the driver has too little memory. The previous
    /// reservation stays.
    pub fn reserve(&mut self, count: usize) -> Result<(), OutOfMemory> {
        let (before, after) = (self.held.len(), count.saturating_sub(self.pages.len()));
        if after > before {
            self.held.extend(self.pool.promise(after - before)?);
        } else {
            self.pool.give_up(self.held.drain(after..));
        }
        self.reserved = count;
        Ok(())
    }

    /// Adds a page. Its contents are undefined.
    ///
    /// # Errors
    /// Beyond the reservation: if the pool is used up, or the driver has too little memory.
    pub fn push_page(&mut self) -> Result<(), OutOfMemory> {
        let page = self.pool.take(self.owner, self.held.pop())?;
        self.pages.push(page);
        Ok(())
    }

    /// Frees all pages from `count` on; reserved pages stay reserved.
    pub fn truncate(&mut self, count: usize) {
        let count = count.min(self.pages.len());
        let keep = self.reserved.saturating_sub(count) - self.held.len();
        let kept = (self.pool).give_back(self.pages.drain(count..), keep);
        self.held.extend(kept);
    }

    /// Number of reserved pages, those in use included.
    pub fn reserved_count(&self) -> usize {
        self.reserved.max(self.pages.len())
    }

    /// Number of pages.
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.pool.page_bytes()
    }

    /// Whether this process can access the pages.
    pub fn host_accessible(&self) -> bool {
        self.pool.0.memory.host_accessible()
    }

    /// Device address of each page, in the order of the positions.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = Address> {
        self.pages.iter().map(|page| page.block.address())
    }

    /// Page `index`.
    ///
    /// # Panics
    /// If there is no such page.
    pub fn page(&self, index: usize) -> &[u8] {
        &self.pages[index].block.bytes()[..self.page_bytes()]
    }

    /// Page `index`, for writing.
    ///
    /// # Panics
    /// If there is no such page.
    pub fn page_mut(&mut self, index: usize) -> &mut [u8] {
        let bytes = self.page_bytes();
        &mut self.pages[index].block.bytes_mut()[..bytes]
    }
}

impl Drop for PageTable {
    fn drop(&mut self) {
        self.truncate(0);
        self.pool.give_up(self.held.drain(..));
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
    fn dropping_a_table_frees_exactly_its_pages() {
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
    fn cached_pages_are_reused_without_a_driver_call() {
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
    fn a_reserved_table_gets_its_worst_case_without_the_driver_whatever_others_do() {
        let memory = Memory::host(64 << 10);
        let pool = PagePool::new(&memory, PAGE, 16);
        let mut first = pool.table(owner(1));
        first.reserve(6).expect("room");
        assert_eq!(memory.statistics().exact_blocks.current, 1, "one piece");
        let mut second = pool.table(owner(2));
        let error = second.reserve(11).expect_err("sixteen in all");
        assert_eq!(
            (error.kind, error.requested, error.available),
            (
                OutOfMemoryKind::OverAccount,
                11 * PAGE as u64,
                10 * PAGE as u64
            )
        );
        second.reserve(10).expect("the rest");
        memory.seal();
        for table in [&mut first, &mut second] {
            while table.page_count() < table.reserved {
                table.push_page().expect("reserved");
            }
            assert!(table.push_page().is_err(), "one more than was reserved");
        }
        first.truncate(2);
        assert!(
            second.push_page().is_err(),
            "given back, and still reserved"
        );
        for _ in 0..4 {
            first.push_page().expect("still reserved");
        }
        memory.unseal();
        first.truncate(0);
        assert_eq!(pool.trim(), 0, "reserved pages are kept");
        drop((first, second));
        assert_eq!((pool.used_count(), pool.reserved_count()), (0, 0));
        assert_eq!(pool.trim(), 16 * PAGE as u64);
        assert_eq!(memory.statistics().held_bytes(), 0);
    }

    #[test]
    fn a_refused_reservation_changes_nothing_and_a_smaller_one_returns_the_rest() {
        let memory = Memory::host(8 * PAGE as u64);
        let pool = PagePool::new(&memory, PAGE, 100);
        let mut first = pool.table(owner(1));
        first.reserve(5).expect("room");
        let mut second = pool.table(owner(2));
        let error = second.reserve(4).expect_err("eight in all");
        assert_eq!(error.kind, OutOfMemoryKind::NotNow);
        assert_eq!(pool.reserved_count(), 5);
        first.reserve(3).expect("fewer");
        second
            .reserve(4)
            .expect("two that were given up and two more");
        assert_eq!((pool.free_count(), pool.reserved_count()), (7, 7));
    }

    #[test]
    fn a_streams_pages_return_to_the_driver_when_it_ends_whichever_streams_are_live() {
        let memory = Memory::host(1 << 20);
        let pool = PagePool::new(&memory, PAGE, 100);
        let mut tables = [1, 2, 3].map(|stream| pool.table(owner(stream)));
        for table in &mut tables {
            table.reserve(4).expect("room");
        }
        for _ in 0..4 {
            for table in &mut tables {
                table.push_page().expect("reserved");
            }
        }
        for (ended, table) in tables.into_iter().enumerate() {
            drop(table);
            assert_eq!(pool.trim(), 4 * PAGE as u64);
            let left = (2 - ended) * 4 * PAGE;
            assert_eq!(memory.statistics().held_bytes(), left as u64);
        }
    }

    #[test]
    fn slabs_are_shared_only_as_a_last_resort() {
        let memory = Memory::host(1 << 20);
        let pool = PagePool::new(&memory, PAGE, 100);
        let slabs = |pool: &PagePool, sizes: &[usize]| {
            let reserve = |&size: &usize| {
                let mut table = pool.table(owner(9));
                table.reserve(size).expect("room");
                table
            };
            sizes.iter().map(reserve).collect::<Vec<_>>()
        };
        drop(slabs(&pool, &[6, 2, 5]));
        memory.seal();
        let mut first = pool.table(owner(1));
        first.reserve(8).expect("six and two");
        let mut second = pool.table(owner(2));
        second.reserve(3).expect("a part of the five");
        let mut third = pool.table(owner(3));
        third.reserve(2).expect("the rest");
        memory.unseal();
        drop((first, second));
        assert_eq!(pool.trim(), 8 * PAGE as u64);
        drop(third);
        assert_eq!(pool.trim(), 5 * PAGE as u64);
    }

    #[test]
    fn an_exhausted_pool_says_so_and_keeps_working() {
        let memory = Memory::host(1 << 20);
        let pool = PagePool::new(&memory, PAGE, 2);
        let mut table = table(&pool, 1, 2);
        let error = table.push_page().expect_err("the third of two");
        assert_eq!(error.kind, OutOfMemoryKind::OverAccount);
        table.truncate(1);
        table.push_page().expect("one is free again");
    }
}
