//! The block table of a forward: the pages and positions of its rows, made once per forward for all
//! layers.

use super::CacheLayout;
use bytemuck::{Pod, Zeroable};
use sottovoce_memory::driver::Address;
use sottovoce_memory::pages::PageTable;
use std::marker::PhantomData;
use std::ops::Range;

/// Layout of a page: `[layer][row][keys, values][position]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    /// Layout of one position's keys (or values).
    pub cache: CacheLayout,
    /// Number of layers.
    pub layers: usize,
    /// Rows of a state, each with its own keys and values.
    pub rows: usize,
    /// Positions per page.
    pub positions: usize,
}

impl PageLayout {
    /// Bytes of the keys (or values) of one layer and row in a page.
    pub fn run_bytes(&self) -> usize {
        self.positions * self.cache.row_bytes()
    }

    /// Bytes of one layer in a page.
    pub fn layer_bytes(&self) -> usize {
        self.rows * 2 * self.run_bytes()
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.layers * self.layer_bytes()
    }
}

/// Read-only pages: a prefix that several states share.
#[derive(Clone, Copy)]
pub struct CachedPages<'a> {
    /// The pages.
    pub table: &'a PageTable,
    /// The layout of the pages: with one row that all rows of a state share, or with one for each.
    pub layout: PageLayout,
    /// Number of positions.
    pub positions: usize,
}

/// One row's part of consecutive pages.
///
/// The keys of position `p` are at `pages[first_page + p ÷ positions_a_page] + layer · layer_bytes
/// + row_start + (p mod positions_a_page) · row bytes`, and its values `run_bytes` further on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CacheStretch {
    /// Index of its first page.
    pub first_page: u32,
    /// Positions in use, or the capacity.
    pub positions: u32,
    /// Positions per page.
    pub positions_a_page: u32,
    /// Byte offset of the row in a layer's part of a page.
    pub row_start: u32,
    /// Bytes of the keys (or values) of one layer and row in a page.
    pub run_bytes: u32,
    /// Bytes of one layer in a page.
    pub layer_bytes: u32,
}

/// The positions that one row of a state attends to: a shared prefix, then its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CacheSequence {
    /// Shared positions, read-only.
    pub prefix: CacheStretch,
    /// The row's own positions.
    pub own: CacheStretch,
}

/// Sequence and position of an input row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CacheRow {
    /// Index of the sequence.
    pub sequence: u32,
    /// Number of positions that it attends to; its own is the last.
    pub length: u32,
    /// The first position whose attention weights are recorded.
    pub watched_first: u32,
    /// Number of positions whose attention weights are recorded.
    pub watched_count: u32,
    /// Row of the record.
    pub watched_row: u32,
}

/// The block table of a forward: pages, sequences and input rows. It borrows the pages of growing
/// sequences exclusively, so that nobody else reads or writes them while it lives.
#[derive(Debug)]
pub struct CachePlaces<'a> {
    layout: CacheLayout,
    layers: usize,
    host_accessible: bool,
    pages: Vec<Address>,
    sequences: Vec<CacheSequence>,
    rows: Vec<CacheRow>,
    /// Number of positions that each input row attends to.
    seen: Vec<u32>,
    /// Whether any of them are more than the positions up to the row's own.
    has_blocks: bool,
    tables: PhantomData<&'a mut PageTable>,
}

impl<'a> CachePlaces<'a> {
    /// A table without rows.
    pub fn new(layout: CacheLayout) -> CachePlaces<'a> {
        CachePlaces {
            layout,
            layers: 0,
            host_accessible: true,
            pages: Vec::new(),
            sequences: Vec::new(),
            rows: Vec::new(),
            seen: Vec::new(),
            has_blocks: false,
            tables: PhantomData,
        }
    }

    /// `rows` rows without pages, each in a sequence of its own, for dry runs and for
    /// [`crate::Device::record`].
    pub fn dry(layout: CacheLayout, rows: usize) -> CachePlaces<'a> {
        CachePlaces {
            sequences: vec![CacheSequence::default(); rows],
            rows: vec![CacheRow::default(); rows],
            ..CachePlaces::new(layout)
        }
    }

    /// As [`CachePlaces::dry`], for `rows` rows in blocks of `sequences` sequences.
    pub fn dry_blocks(layout: CacheLayout, sequences: usize, rows: usize) -> CachePlaces<'a> {
        CachePlaces {
            sequences: vec![CacheSequence::default(); sequences],
            // Other than the rows' own lengths, as those of all blocks with several rows are.
            seen: vec![1; rows],
            has_blocks: true,
            ..CachePlaces::dry(layout, rows)
        }
    }

    /// Adds a sequence for each row of a state whose own positions are in `own`, and returns the
    /// index of the first.
    ///
    /// # Panics
    /// If pages are smaller than their layout, or belong to another memory than the earlier ones,
    /// or if the prefix has too few positions, or neither one row nor as many as the state.
    pub fn add_sequences(
        &mut self,
        prefix: Option<CachedPages<'a>>,
        own: &'a mut PageTable,
        layout: PageLayout,
    ) -> usize {
        let first = self.sequences.len();
        let prefix_rows = prefix.map_or(1, |prefix| prefix.layout.rows);
        assert!(
            prefix_rows == 1 || prefix_rows == layout.rows,
            "a prefix of {prefix_rows} rows before {} rows",
            layout.rows
        );
        let prefix_layout = prefix.map(|prefix| prefix.layout);
        let prefix = prefix.map_or(CacheStretch::default(), |prefix| {
            let shared = self.add_pages(prefix.table, prefix.layout);
            assert!(
                prefix.positions <= shared.positions as usize,
                "{} positions in {} pages",
                prefix.positions,
                prefix.table.page_count()
            );
            CacheStretch {
                positions: prefix.positions as u32,
                ..shared
            }
        });
        let own = self.add_pages(own, layout);
        let start = |row: usize, layout: PageLayout| (row * 2 * layout.run_bytes()) as u32;
        for row in 0..layout.rows {
            let own = CacheStretch {
                row_start: start(row, layout),
                ..own
            };
            let prefix = CacheStretch {
                row_start: prefix_layout
                    .filter(|prefix| prefix.rows > 1)
                    .map_or(0, |prefix| start(row, prefix)),
                ..prefix
            };
            self.sequences.push(CacheSequence { prefix, own });
        }
        first
    }

    fn add_pages(&mut self, table: &PageTable, layout: PageLayout) -> CacheStretch {
        assert!(
            layout.cache == self.layout
                && layout.page_bytes() <= table.page_bytes()
                && u32::try_from(layout.page_bytes()).is_ok(),
            "pages of {} bytes laid out as {layout:?} among {:?}",
            table.page_bytes(),
            self.layout
        );
        let found = (layout.layers, table.host_accessible());
        assert!(
            self.pages.is_empty() || found == (self.layers, self.host_accessible),
            "pages of two models or memories in one forward"
        );
        (self.layers, self.host_accessible) = found;
        let first_page = self.pages.len() as u32;
        self.pages.extend(table.addresses());
        CacheStretch {
            first_page,
            positions: (table.page_count() * layout.positions) as u32,
            positions_a_page: layout.positions as u32,
            row_start: 0,
            run_bytes: layout.run_bytes() as u32,
            layer_bytes: layout.layer_bytes() as u32,
        }
    }

    /// Adds an input row that attends to the first `length` positions of a sequence, of which it is
    /// the last.
    ///
    /// # Panics
    /// If that is not one of the sequence's own positions.
    pub fn add_row(&mut self, sequence: usize, length: usize) {
        let CacheSequence { prefix, own } = self.sequences[sequence];
        let room = prefix.positions as usize + own.positions as usize;
        assert!(
            length > prefix.positions as usize && length <= room,
            "position {length} after {} shared ones, with room for {room}",
            prefix.positions
        );
        self.rows.push(CacheRow {
            sequence: sequence as u32,
            length: length as u32,
            ..CacheRow::default()
        });
        self.seen.push(length as u32);
    }

    /// Adds the input rows of a block: the last `count` of the first `length` positions of a
    /// sequence, each of which attends to all of these.
    ///
    /// # Panics
    /// As [`CachePlaces::add_row`].
    pub fn add_block(&mut self, sequence: usize, length: usize, count: usize) {
        for own in length - count..length {
            self.add_row(sequence, own + 1);
        }
        let first = self.seen.len() - count;
        self.seen[first..].fill(length as u32);
        self.has_blocks = true;
    }

    /// Lets `attend` see, for each input row, all positions that it attends to. Otherwise a row's
    /// last position is its own.
    pub fn attending<R>(&mut self, attend: impl FnOnce(&CachePlaces<'_>) -> R) -> R {
        self.swap_lengths();
        let outcome = attend(self);
        self.swap_lengths();
        outcome
    }

    fn swap_lengths(&mut self) {
        if self.has_blocks {
            for (row, seen) in self.rows.iter_mut().zip(&mut self.seen) {
                std::mem::swap(&mut row.length, seen);
            }
        }
    }

    /// Lets watched heads record the weights of the last row at `positions`, in row `row` of their
    /// record.
    ///
    /// # Panics
    /// If there is no row, or it does not attend to all of them.
    pub fn watch(&mut self, row: usize, positions: Range<usize>) {
        let last = self.rows.last_mut();
        let last = last.filter(|last| positions.end <= last.length as usize);
        let Some(last) = last else {
            panic!("positions {positions:?} are not in the last row's past");
        };
        last.watched_first = positions.start as u32;
        last.watched_count = positions.len() as u32;
        last.watched_row = row as u32;
    }

    /// The same rows in other pages, which have one layer.
    ///
    /// # Safety
    /// Each page of a sequence must be host memory as long as one layer's part of it, and nobody
    /// else may use it while the result lives.
    pub(crate) unsafe fn in_pages<'b>(&self, pages: Vec<Address>) -> CachePlaces<'b> {
        assert_eq!(pages.len(), self.pages.len(), "as many pages");
        CachePlaces {
            layout: self.layout,
            layers: 1,
            host_accessible: true,
            pages,
            sequences: self.sequences.clone(),
            rows: self.rows.clone(),
            seen: Vec::new(),
            has_blocks: false,
            tables: PhantomData,
        }
    }

    /// Layout of a position's keys (or values).
    pub fn layout(&self) -> CacheLayout {
        self.layout
    }

    /// The addresses of all pages.
    pub fn pages(&self) -> &[Address] {
        &self.pages
    }

    /// The sequences.
    pub fn sequences(&self) -> &[CacheSequence] {
        &self.sequences
    }

    /// The input rows.
    pub fn rows(&self) -> &[CacheRow] {
        &self.rows
    }

    /// The position of each input row in its sequence.
    pub fn positions(&self) -> Vec<u32> {
        let last = |row: &CacheRow| row.length.saturating_sub(1);
        self.rows.iter().map(last).collect()
    }

    /// The bytes for an input row's own keys and values.
    ///
    /// # Panics
    /// If the pages are not on the host, or there is no such row or layer.
    pub(crate) fn own_bytes(&mut self, row: usize, layer: usize) -> [&mut [u8]; 2] {
        let CacheRow {
            sequence, length, ..
        } = self.rows[row];
        let CacheSequence { prefix, own } = self.sequences[sequence as usize];
        let position = (length - 1 - prefix.positions) as usize;
        let a_page = own.positions_a_page as usize;
        let row_bytes = self.layout.row_bytes();
        let keys = self.run(&own, layer, position / a_page) + position % a_page * row_bytes;
        [keys, keys + own.run_bytes as usize].map(|start| {
            let start = std::ptr::with_exposed_provenance_mut(start);
            // SAFETY: `run` and `add_row` have checked that the row is inside a page of the
            // sequence's own, which `self` borrows exclusively. Keys and values lie in different
            // runs, and `&mut self` excludes other readers.
            unsafe { std::slice::from_raw_parts_mut(start, row_bytes) }
        })
    }

    /// The keys and values that an input row attends to, page by page.
    ///
    /// # Panics
    /// If the pages are not on the host, or there is no such row or layer.
    pub(crate) fn parts(&self, row: usize, layer: usize) -> CachedParts<'_> {
        let CacheRow {
            sequence, length, ..
        } = self.rows[row];
        let CacheSequence { prefix, own } = self.sequences[sequence as usize];
        let own = CacheStretch {
            positions: length - prefix.positions,
            ..own
        };
        CachedParts {
            places: self,
            stretches: [prefix, own],
            layer,
            page: 0,
        }
    }

    /// Host address of a span's keys in one of its pages.
    fn run(&self, stretch: &CacheStretch, layer: usize, page: usize) -> usize {
        assert!(
            self.host_accessible,
            "pages on a device: the host cannot access them"
        );
        assert!(layer < self.layers, "layer {layer} of {}", self.layers);
        let page = self.pages[stretch.first_page as usize + page];
        page.0 as usize + layer * stretch.layer_bytes as usize + stretch.row_start as usize
    }
}

/// Keys and values of consecutive positions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CachedPart<'a> {
    /// `[positions][row bytes]`.
    pub keys: &'a [u8],
    /// `[positions][row bytes]`.
    pub values: &'a [u8],
    /// Number of positions.
    pub positions: usize,
}

/// Iterator over the keys and values of an input row, page by page.
#[derive(Clone)]
pub(crate) struct CachedParts<'a> {
    places: &'a CachePlaces<'a>,
    stretches: [CacheStretch; 2],
    layer: usize,
    /// The next page of the first non-empty span.
    page: usize,
}

impl<'a> Iterator for CachedParts<'a> {
    type Item = CachedPart<'a>;

    fn next(&mut self) -> Option<CachedPart<'a>> {
        let [first, second] = self.stretches;
        let a_page = first.positions_a_page as usize;
        let done = self.page * a_page;
        if done >= first.positions as usize {
            if second.positions == 0 {
                return None;
            }
            self.stretches = [second, CacheStretch::default()];
            self.page = 0;
            return self.next();
        }
        let positions = a_page.min(first.positions as usize - done);
        let keys = self.places.run(&first, self.layer, self.page);
        self.page += 1;
        let bytes = positions * self.places.layout.row_bytes();
        let [keys, values] = [keys, keys + first.run_bytes as usize].map(|start| {
            let start = std::ptr::with_exposed_provenance(start);
            // SAFETY: `run` and `add_row` have checked that the positions are inside a page of
            // `places`, which is not written while borrowed.
            unsafe { std::slice::from_raw_parts(start, bytes) }
        });
        Some(CachedPart {
            keys,
            values,
            positions,
        })
    }
}
