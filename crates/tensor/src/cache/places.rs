//! Where the rows of a forward stand in the pages of their caches: made once a forward, for all layers.

use super::CacheLayout;
use bytemuck::{Pod, Zeroable};
use sottovoce_memory::driver::Address;
use sottovoce_memory::pages::PageTable;
use std::marker::PhantomData;

/// How keys and values lie in a page: `[layer][row][keys, values][position]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    /// Of a position's keys (or values).
    pub cache: CacheLayout,
    /// Layers of the network.
    pub layers: usize,
    /// Rows of a state, each with keys and values of its own.
    pub rows: usize,
    /// Positions of a page.
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

/// Pages that are only read: what several states have before their own positions.
#[derive(Clone, Copy)]
pub struct CachedPages<'a> {
    /// The pages.
    pub table: &'a PageTable,
    /// How they are laid out, with one row.
    pub layout: PageLayout,
    /// Positions in them.
    pub positions: usize,
}

/// One row's part of some pages, one page after the other.
///
/// Position `p` of it has its keys at `pages[first_page + p ÷ positions_a_page] + layer · layer_bytes + row_start +
/// (p mod positions_a_page) · row bytes`, and its values `run_bytes` further on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CacheStretch {
    /// The first of its pages among all.
    pub first_page: u32,
    /// Positions that it has, or has room for.
    pub positions: u32,
    /// Positions of a page.
    pub positions_a_page: u32,
    /// Where the row begins in a layer's part of a page, in bytes.
    pub row_start: u32,
    /// Bytes of the keys (or values) of one layer and row in a page.
    pub run_bytes: u32,
    /// Bytes of one layer in a page.
    pub layer_bytes: u32,
}

/// What one row of a state sees: positions that it shares with others, then its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CacheSequence {
    /// Shared positions, read only.
    pub prefix: CacheStretch,
    /// Positions of its own.
    pub own: CacheStretch,
}

/// Where an input row stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct CacheRow {
    /// The sequence.
    pub sequence: u32,
    /// Positions that it sees, its own last.
    pub length: u32,
}

/// Where the rows of a forward stand in the pages of their caches. Holds the pages of the sequences that grow exclusively, so that nobody
/// else reads or writes them while it lives.
#[derive(Debug)]
pub struct CachePlaces<'a> {
    layout: CacheLayout,
    layers: usize,
    host_accessible: bool,
    pages: Vec<Address>,
    sequences: Vec<CacheSequence>,
    rows: Vec<CacheRow>,
    tables: PhantomData<&'a mut PageTable>,
}

impl<'a> CachePlaces<'a> {
    /// No rows yet.
    pub fn new(layout: CacheLayout) -> CachePlaces<'a> {
        CachePlaces {
            layout,
            layers: 0,
            host_accessible: true,
            pages: Vec::new(),
            sequences: Vec::new(),
            rows: Vec::new(),
            tables: PhantomData,
        }
    }

    /// `rows` rows that stand nowhere, for dry runs.
    pub fn dry(layout: CacheLayout, rows: usize) -> CachePlaces<'a> {
        CachePlaces {
            rows: vec![CacheRow::default(); rows],
            ..CachePlaces::new(layout)
        }
    }

    /// Adds a sequence for each row of a state, whose own positions are in `own`; the number of the first.
    ///
    /// # Panics
    /// If pages are smaller than their layout says, or of another memory than those before, or the prefix has fewer than its positions.
    pub fn add_sequences(
        &mut self,
        prefix: Option<CachedPages<'a>>,
        own: &'a mut PageTable,
        layout: PageLayout,
    ) -> usize {
        let first = self.sequences.len();
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
        for row in 0..layout.rows {
            let row_start = (row * 2 * layout.run_bytes()) as u32;
            let own = CacheStretch { row_start, ..own };
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

    /// Adds an input row that sees the first `length` positions of a sequence and is the last of them.
    ///
    /// # Panics
    /// If that is no position of the sequence's own.
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
        });
    }

    /// The same rows in other pages, which have one layer.
    ///
    /// # Safety
    /// Each page of a sequence must be memory of this process, as long as one layer's part of it, and
    /// nobody else may use it while the result lives.
    #[cfg(feature = "testing")]
    pub(crate) unsafe fn in_pages<'b>(&self, pages: Vec<Address>) -> CachePlaces<'b> {
        assert_eq!(pages.len(), self.pages.len(), "as many pages");
        CachePlaces {
            layout: self.layout,
            layers: 1,
            host_accessible: true,
            pages,
            sequences: self.sequences.clone(),
            rows: self.rows.clone(),
            tables: PhantomData,
        }
    }

    /// How a position's keys (or values) are stored.
    pub fn layout(&self) -> CacheLayout {
        self.layout
    }

    /// Where all pages lie.
    pub fn pages(&self) -> &[Address] {
        &self.pages
    }

    /// What rows stand in.
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

    /// The bytes in which an input row's own keys and values go.
    ///
    /// # Panics
    /// If the pages are not on the host, or there is no such row or layer.
    pub(crate) fn own_bytes(&mut self, row: usize, layer: usize) -> [&mut [u8]; 2] {
        let CacheRow { sequence, length } = self.rows[row];
        let CacheSequence { prefix, own } = self.sequences[sequence as usize];
        let position = (length - 1 - prefix.positions) as usize;
        let a_page = own.positions_a_page as usize;
        let row_bytes = self.layout.row_bytes();
        let keys = self.run(&own, layer, position / a_page) + position % a_page * row_bytes;
        [keys, keys + own.run_bytes as usize].map(|start| {
            let start = std::ptr::with_exposed_provenance_mut(start);
            // SAFETY: `run` and `add_row` have shown that the row is inside a page of the sequence's own, which this holds exclusively for
            // its lifetime; keys and values lie in different runs, and `&mut self` lets nobody else look.
            unsafe { std::slice::from_raw_parts_mut(start, row_bytes) }
        })
    }

    /// What an input row sees, page by page.
    ///
    /// # Panics
    /// If the pages are not on the host, or there is no such row or layer.
    pub(crate) fn parts(&self, row: usize, layer: usize) -> CachedParts<'_> {
        let CacheRow { sequence, length } = self.rows[row];
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

    /// The host address of the keys of a stretch in one of its pages.
    fn run(&self, stretch: &CacheStretch, layer: usize, page: usize) -> usize {
        assert!(
            self.host_accessible,
            "pages on a device: the host cannot look at them"
        );
        assert!(layer < self.layers, "layer {layer} of {}", self.layers);
        let page = self.pages[stretch.first_page as usize + page];
        page.0 as usize + layer * stretch.layer_bytes as usize + stretch.row_start as usize
    }
}

/// Keys and values of some positions, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CachedPart<'a> {
    /// `[positions][row bytes]`.
    pub keys: &'a [u8],
    /// `[positions][row bytes]`.
    pub values: &'a [u8],
    /// How many.
    pub positions: usize,
}

/// What an input row sees, page by page.
#[derive(Clone)]
pub(crate) struct CachedParts<'a> {
    places: &'a CachePlaces<'a>,
    stretches: [CacheStretch; 2],
    layer: usize,
    /// The next page of the first stretch that is not empty.
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
            // SAFETY: `run` and `add_row` have shown that the positions are inside a page that `places` holds, of which nothing is written
            // while it is borrowed.
            unsafe { std::slice::from_raw_parts(start, bytes) }
        });
        Some(CachedPart {
            keys,
            values,
            positions,
        })
    }
}
