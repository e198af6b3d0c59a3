//! The KV cache in pages: one prefix per voice, and growing pages per utterance.
//!
//! A page holds a number of positions of all layers: `[layer][row][keys, values][position]`. A
//! prefix never grows: it is one page of its own size. It has one row, with or without guidance, or
//! two where the unconditional row does not attend to the voice.

use super::alignment::AlignmentRows;
use crate::config::T3Config;
use sottovoce_memory::pages::{PagePool, PageTable};
use sottovoce_memory::{Memory, OutOfMemory, Owner};
use sottovoce_tensor::{CacheLayout, CachePlaces, CachePrecision, CachedPages, PageLayout};
use std::ops::Range;
use std::sync::Arc;

/// Positions of a state per page: few, so that the last, partly used page wastes little.
const POSITIONS_A_PAGE: usize = 16;

/// Keys and values of one model: the pages that all streams share, and prefixes.
#[derive(Clone)]
pub struct KeyValueStore {
    memory: Memory,
    pages: PagePool,
    /// Layout of a state's pages.
    layout: PageLayout,
    /// Rows of a prefix.
    prefix_rows: usize,
}

impl KeyValueStore {
    /// A store in `memory` of at most `page_count_max` pages; none is allocated yet.
    pub fn new(
        memory: &Memory,
        config: &T3Config,
        precision: CachePrecision,
        page_count_max: usize,
    ) -> KeyValueStore {
        let layout = page_layout(config, precision);
        KeyValueStore {
            memory: memory.clone(),
            pages: PagePool::new(memory, layout.page_bytes(), page_count_max),
            layout,
            prefix_rows: config.prefix_rows(),
        }
    }

    /// Bytes of a page.
    pub fn page_bytes_for(config: &T3Config, precision: CachePrecision) -> usize {
        page_layout(config, precision).page_bytes()
    }

    /// Pages that `positions` of a state need, excluding the prefix.
    pub fn pages_for_state(positions: usize) -> usize {
        positions.div_ceil(POSITIONS_A_PAGE)
    }

    /// Sequences of a state: one, or two with guidance.
    pub fn sequences_for_state(config: &T3Config) -> usize {
        match config.classifier_free_guidance {
            true => 2,
            false => 1,
        }
    }

    /// Bytes of a prefix of `positions`.
    pub fn prefix_bytes(&self, positions: usize) -> usize {
        self.prefix_layout(positions).page_bytes()
    }

    fn prefix_layout(&self, positions: usize) -> PageLayout {
        PageLayout {
            rows: self.prefix_rows,
            positions: positions.max(1),
            ..self.layout
        }
    }

    /// Layout of one position's keys (or values).
    pub(super) fn layout(&self) -> CacheLayout {
        self.layout.cache
    }

    /// The pool of pages.
    pub fn pages(&self) -> &PagePool {
        &self.pages
    }

    /// A prefix of `positions` positions, which are computed next.
    ///
    /// # Errors
    /// If memory runs out.
    pub(super) fn prefix(&self, owner: Owner, positions: usize) -> Result<Prefix, OutOfMemory> {
        let layout = self.prefix_layout(positions);
        let page = PagePool::new(&self.memory, layout.page_bytes(), 1);
        let mut paged = Paged::new(&page, owner, layout);
        paged.grow(positions)?;
        Ok(Prefix(paged))
    }

    /// A prefix of `positions` positions that was computed before: `fill` writes its page, as
    /// [`Prefix::page`] returned it.
    ///
    /// # Errors
    /// If memory runs out, or `fill` fails.
    ///
    /// # Panics
    /// If the host cannot access the memory of the pages.
    pub fn kept_prefix<E: From<OutOfMemory>>(
        &self,
        owner: Owner,
        positions: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Prefix, E> {
        let mut prefix = self.prefix(owner, positions)?;
        if positions > 0 {
            fill(prefix.0.table.page_mut(0))?;
        }
        Ok(prefix)
    }

    pub(super) fn state(&self, owner: Owner, prefix: Arc<Prefix>, rows: usize) -> T3State {
        T3State {
            prefix,
            own: Paged::new(
                &self.pages,
                owner,
                PageLayout {
                    rows,
                    ..self.layout
                },
            ),
            speech_position: 0,
            text: 0..0,
            alignment: None,
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
        rows: KeyValueStore::sequences_for_state(config),
        positions: POSITIONS_A_PAGE,
    }
}

/// Paged positions of all layers.
struct Paged {
    table: PageTable,
    layout: PageLayout,
    positions: usize,
}

impl Paged {
    fn new(pages: &PagePool, owner: Owner, layout: PageLayout) -> Paged {
        Paged {
            table: pages.table(owner),
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
    /// Cache places of its positions, while it is being computed.
    pub(super) fn places(&mut self) -> CachePlaces<'_> {
        let Paged {
            table,
            layout,
            positions,
        } = &mut self.0;
        let mut places = CachePlaces::new(layout.cache);
        let sequence = places.add_sequences(None, table, *layout);
        for row in 0..layout.rows {
            for position in 0..*positions {
                places.add_row(sequence + row, position + 1);
            }
        }
        places
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.0.positions
    }

    /// The bytes of its page; none without positions.
    ///
    /// # Panics
    /// If the host cannot access the memory of the page.
    pub fn page(&self) -> &[u8] {
        match self.positions() {
            0 => &[],
            _ => self.0.table.page(0),
        }
    }

    /// Bytes of its page.
    pub fn bytes(&self) -> usize {
        self.0.table.page_count() * self.0.table.page_bytes()
    }
}

/// One utterance's keys and values.
pub struct T3State {
    prefix: Arc<Prefix>,
    own: Paged,
    /// Speech position of the last token consumed.
    pub(super) speech_position: usize,
    /// Positions of the text tokens.
    pub(super) text: Range<usize>,
    /// Attention of the newest speech positions, if it is watched.
    pub(super) alignment: Option<AlignmentRows>,
}

impl T3State {
    /// Positions used, including the prefix.
    pub fn position(&self) -> usize {
        self.prefix.positions() + self.own.positions
    }

    /// Positions used, excluding the prefix.
    pub fn own_positions(&self) -> usize {
        self.own.positions
    }

    /// Bytes of its own pages, excluding the prefix.
    pub fn bytes(&self) -> usize {
        self.own.table.page_count() * self.own.table.page_bytes()
    }

    /// Bytes of its pages and reserved pages.
    pub fn reserved_bytes(&self) -> usize {
        self.own.table.reserved_count() * self.own.table.page_bytes()
    }

    /// Reserves pages for `positions` positions of the utterance, excluding the prefix. Up to there
    /// it can neither run out of memory nor call the driver. An admitted stream reserves its worst
    /// case.
    ///
    /// # Errors
    /// If fewer pages are available.
    pub fn reserve(&mut self, positions: usize) -> Result<(), OutOfMemory> {
        let pages = positions.div_ceil(self.own.layout.positions);
        self.own.table.reserve(pages)
    }

    /// Positions, excluding the prefix, for which it has reserved pages.
    pub fn reserved_positions(&self) -> usize {
        self.own.table.reserved_count() * self.own.layout.positions
    }

    /// Whether the attention of its speech positions to the text is recorded; see
    /// [`T3State::alignment`].
    pub fn watch_alignment(&mut self, on: bool) {
        self.alignment = on.then(AlignmentRows::default);
    }

    /// Attention of the speech positions of the latest prefill or step to the text; `None` if it is
    /// not watched.
    pub fn alignment(&self) -> Option<&AlignmentRows> {
        self.alignment.as_ref()
    }

    /// Clears the state for another text in the same voice; reservations are kept.
    pub fn clear(&mut self) {
        self.own.positions = 0;
        self.own.table.truncate(0);
        self.speech_position = 0;
        self.text = 0..0;
    }

    /// Allocates the pages for `count` more positions.
    pub(super) fn grow(&mut self, count: usize) -> Result<(), OutOfMemory> {
        self.own.grow(count)
    }

    /// Layout of a position's keys or values.
    pub(super) fn layout(&self) -> CacheLayout {
        self.own.layout.cache
    }

    /// Adds one sequence per row to a forward's places; returns the index of the first.
    pub(super) fn add_to<'a>(&'a mut self, places: &mut CachePlaces<'a>) -> usize {
        let prefix = CachedPages {
            table: &self.prefix.0.table,
            layout: self.prefix.0.layout,
            positions: self.prefix.0.positions,
        };
        places.add_sequences(Some(prefix), &mut self.own.table, self.own.layout)
    }

    /// Drops the last `count` positions; the next ones reuse their pages.
    pub(super) fn rewind(&mut self, count: usize) {
        self.own.positions -= count;
    }

    /// Reverts `grow` after a step that failed.
    pub(super) fn shrink(&mut self, count: usize) {
        self.own.shrink(count);
        self.speech_position -= count;
    }
}
