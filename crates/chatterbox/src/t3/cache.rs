//! Keys and values in pages: a prefix for each voice, and what grows with each utterance.
//!
//! A page holds some positions of all layers: `[layer][row][keys, values][position]`. The prefix
//! has one row, whatever guidance needs, and so the more positions a page.

use crate::config::T3Config;
use sottovoce_memory::pages::{PagePool, PageTable};
use sottovoce_memory::{Memory, OutOfMemory, Owner};
use sottovoce_tensor::{CacheLayout, CachePlaces, CachePrecision, CachedPages, PageLayout};
use std::sync::Arc;

/// Positions of a state in a page: small enough that the last, partly used page wastes little.
const POSITIONS_A_PAGE: usize = 16;

/// The pages of one model, shared by all voices and streams.
#[derive(Clone)]
pub struct KeyValueStore {
    pages: PagePool,
    /// Of a state's pages.
    layout: PageLayout,
}

impl KeyValueStore {
    pub(super) fn new(
        memory: &Memory,
        config: &T3Config,
        precision: CachePrecision,
        page_count_max: usize,
    ) -> KeyValueStore {
        let layout = page_layout(config, precision);
        KeyValueStore {
            pages: PagePool::new(memory, layout.page_bytes(), page_count_max),
            layout,
        }
    }

    /// Bytes of a page.
    pub fn page_bytes_for(config: &T3Config, precision: CachePrecision) -> usize {
        page_layout(config, precision).page_bytes()
    }

    /// Pages that `positions` of a state take, the prefix not counted.
    pub fn pages_for_state(positions: usize) -> usize {
        positions.div_ceil(POSITIONS_A_PAGE)
    }

    /// Pages that a prefix of `positions` takes.
    pub fn pages_for_prefix(&self, positions: usize) -> usize {
        positions.div_ceil(POSITIONS_A_PAGE * self.layout.rows)
    }

    /// The pool of pages.
    pub fn pages(&self) -> &PagePool {
        &self.pages
    }

    pub(super) fn prefix(&self, owner: Owner) -> Prefix {
        Prefix(Paged::new(self, owner, 1))
    }

    pub(super) fn state(&self, owner: Owner, prefix: Arc<Prefix>, rows: usize) -> T3State {
        T3State {
            prefix,
            own: Paged::new(self, owner, rows),
            speech_position: 0,
        }
    }
}

fn page_layout(config: &T3Config, precision: CachePrecision) -> PageLayout {
    let backbone = &config.backbone;
    PageLayout {
        cache: CacheLayout {
            heads: backbone.heads,
            size: backbone.head_size,
            precision,
        },
        layers: backbone.layers,
        rows: match config.classifier_free_guidance {
            true => 2,
            false => 1,
        },
        positions: POSITIONS_A_PAGE,
    }
}

/// Positions of all layers in pages.
struct Paged {
    table: PageTable,
    layout: PageLayout,
    positions: usize,
}

impl Paged {
    fn new(store: &KeyValueStore, owner: Owner, rows: usize) -> Paged {
        let layout = PageLayout {
            rows,
            positions: POSITIONS_A_PAGE * store.layout.rows / rows,
            ..store.layout
        };
        Paged {
            table: store.pages.table(owner),
            layout,
            positions: 0,
        }
    }

    fn grow(&mut self, count: usize) -> Result<(), OutOfMemory> {
        let pages = (self.positions + count).div_ceil(self.layout.positions);
        let before = self.table.page_count();
        while self.table.page_count() < pages {
            if let Err(error) = self.table.push_page() {
                self.table.truncate(before);
                return Err(error);
            }
        }
        self.positions += count;
        Ok(())
    }

    fn shrink(&mut self, count: usize) {
        self.positions -= count;
        let pages = self.positions.div_ceil(self.layout.positions);
        self.table.truncate(pages);
    }
}

/// Keys and values of a voice's conditioning.
pub struct Prefix(Paged);

impl Prefix {
    pub(super) fn grow(&mut self, count: usize) -> Result<(), OutOfMemory> {
        self.0.grow(count)
    }

    /// Where its positions stand, while it is being made.
    pub(super) fn places(&mut self) -> CachePlaces<'_> {
        let Paged {
            table,
            layout,
            positions,
        } = &mut self.0;
        let mut places = CachePlaces::new(layout.cache);
        let sequence = places.add_sequences(None, table, *layout);
        for position in 0..*positions {
            places.add_row(sequence, position + 1);
        }
        places
    }

    /// Its length.
    pub fn positions(&self) -> usize {
        self.0.positions
    }

    /// Bytes of its pages.
    pub fn bytes(&self) -> usize {
        self.0.table.page_count() * self.0.table.page_bytes()
    }
}

/// One utterance's keys and values.
pub struct T3State {
    prefix: Arc<Prefix>,
    own: Paged,
    /// Speech position of the last token taken.
    pub(super) speech_position: usize,
}

impl T3State {
    /// Positions taken, the prefix included.
    pub fn position(&self) -> usize {
        self.prefix.positions() + self.own.positions
    }

    /// Positions taken, the prefix not counted.
    pub fn own_positions(&self) -> usize {
        self.own.positions
    }

    /// Bytes of its own pages.
    pub fn bytes(&self) -> usize {
        self.own.table.page_count() * self.own.table.page_bytes()
    }

    /// Bytes of the pages that it has or has reserved.
    pub fn reserved_bytes(&self) -> usize {
        self.own.table.reserved_count() * self.own.table.page_bytes()
    }

    /// Sees to it that the utterance can go on to `positions` of its own (the prefix not counted)
    /// without a call to the driver and without running out: for the worst case, when a stream is
    /// let in.
    ///
    /// # Errors
    /// If there is too little left for that many.
    pub fn reserve(&mut self, positions: usize) -> Result<(), OutOfMemory> {
        let pages = positions.div_ceil(self.own.layout.positions);
        self.own.table.reserve(pages)
    }

    /// Positions of its own (the prefix not counted) for which it has reserved pages.
    pub fn reserved_positions(&self) -> usize {
        self.own.table.reserved_count() * self.own.layout.positions
    }

    /// Forgets what it took, for another text in the same voice; what was reserved stays reserved.
    pub fn clear(&mut self) {
        self.own.positions = 0;
        self.own.table.truncate(0);
        self.speech_position = 0;
    }

    /// Takes the pages for `count` more positions ahead of time.
    pub(super) fn grow(&mut self, count: usize) -> Result<(), OutOfMemory> {
        self.own.grow(count)
    }

    /// How a position's keys (or values) are stored.
    pub(super) fn layout(&self) -> CacheLayout {
        self.own.layout.cache
    }

    /// Adds a sequence for each of its rows to a forward's places; the number of the first.
    pub(super) fn add_to<'a>(&'a mut self, places: &mut CachePlaces<'a>) -> usize {
        let prefix = CachedPages {
            table: &self.prefix.0.table,
            layout: self.prefix.0.layout,
            positions: self.prefix.0.positions,
        };
        places.add_sequences(Some(prefix), &mut self.own.table, self.own.layout)
    }

    /// Undoes a `grow` of a step that did not happen.
    pub(super) fn shrink(&mut self, count: usize) {
        self.own.shrink(count);
        self.speech_position -= count;
    }
}
