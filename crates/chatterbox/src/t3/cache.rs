//! Keys and values in pages: a prefix for each voice, and what grows with each utterance.
//!
//! A page holds some positions of all layers: `[layer][row][keys, values][position]`. The prefix has one row, whatever guidance needs,
//! and so the more positions a page.

use super::backbone::Place;
use crate::config::T3Config;
use sottovoce_memory::pages::{PagePool, PageTable};
use sottovoce_memory::{Memory, OutOfMemory, Owner};
use sottovoce_tensor::{CacheLayout, CachePrecision, CachedPart, Context};
use std::sync::Arc;

/// Positions of a state in a page: small enough that the last, partly used page wastes little.
const POSITIONS_A_PAGE: usize = 16;

/// The pages of one model, shared by all voices and streams.
#[derive(Clone)]
pub struct KeyValueStore {
    pages: PagePool,
    layout: CacheLayout,
    layers: usize,
    /// Rows of a state.
    rows: usize,
}

impl KeyValueStore {
    pub(super) fn new(
        memory: &Memory,
        config: &T3Config,
        precision: CachePrecision,
        page_count_max: usize,
    ) -> KeyValueStore {
        let rows = if config.classifier_free_guidance {
            2
        } else {
            1
        };
        let bytes = KeyValueStore::page_bytes_for(config, precision);
        KeyValueStore {
            pages: PagePool::new(memory, bytes, page_count_max),
            layout: CacheLayout {
                heads: config.backbone.heads,
                size: config.backbone.head_size,
                precision,
            },
            layers: config.backbone.layers,
            rows,
        }
    }

    /// Bytes of a page.
    pub fn page_bytes_for(config: &T3Config, precision: CachePrecision) -> usize {
        let rows = if config.classifier_free_guidance {
            2
        } else {
            1
        };
        let backbone = &config.backbone;
        let row_bytes = precision.row_bytes(backbone.heads * backbone.head_size, backbone.heads);
        backbone.layers * rows * 2 * POSITIONS_A_PAGE * row_bytes
    }

    /// Pages that `positions` of a state take, the prefix not counted.
    pub fn pages_for_state(positions: usize) -> usize {
        positions.div_ceil(POSITIONS_A_PAGE)
    }

    /// Pages that a prefix of `positions` takes.
    pub fn pages_for_prefix(&self, positions: usize) -> usize {
        positions.div_ceil(POSITIONS_A_PAGE * self.rows)
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

/// Positions of all layers in pages.
struct Paged {
    table: PageTable,
    layout: CacheLayout,
    layers: usize,
    rows: usize,
    positions: usize,
    positions_a_page: usize,
}

impl Paged {
    fn new(store: &KeyValueStore, owner: Owner, rows: usize) -> Paged {
        Paged {
            table: store.pages.table(owner),
            layout: store.layout,
            layers: store.layers,
            rows,
            positions: 0,
            positions_a_page: POSITIONS_A_PAGE * store.rows / rows,
        }
    }

    fn grow(&mut self, count: usize) -> Result<(), OutOfMemory> {
        let pages = (self.positions + count).div_ceil(self.positions_a_page);
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
        let pages = self.positions.div_ceil(self.positions_a_page);
        self.table.truncate(pages);
    }

    /// Where keys of a layer and row begin in a page; values follow.
    fn start(&self, layer: usize, row: usize) -> usize {
        debug_assert!(
            layer < self.layers && row < self.rows,
            "layer {layer}, row {row}"
        );
        (layer * self.rows + row) * 2 * self.run_bytes()
    }

    /// Bytes of the keys (or values) of one layer and row in a page.
    fn run_bytes(&self) -> usize {
        self.positions_a_page * self.layout.row_bytes()
    }

    fn store(
        &mut self,
        ctx: &Context<'_>,
        layer: usize,
        row: usize,
        position: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        let (run, row_bytes) = (self.run_bytes(), self.layout.row_bytes());
        let start = self.start(layer, row) + position % self.positions_a_page * row_bytes;
        let layout = self.layout;
        let page = self.table.page_mut(position / self.positions_a_page);
        (ctx.operations).cache_row(keys, layout, &mut page[start..start + row_bytes]);
        let start = start + run;
        (ctx.operations).cache_row(values, layout, &mut page[start..start + row_bytes]);
    }

    /// Positions up to `end`, page by page.
    fn parts<'a>(&'a self, layer: usize, row: usize, end: usize, out: &mut Vec<CachedPart<'a>>) {
        let (start, run) = (self.start(layer, row), self.run_bytes());
        for first in (0..end).step_by(self.positions_a_page) {
            let page = &self.table.page(first / self.positions_a_page)[start..start + 2 * run];
            let (keys, values) = page.split_at(run);
            out.push(CachedPart {
                keys,
                values,
                positions: self.positions_a_page.min(end - first),
            });
        }
    }
}

/// Keys and values of a voice's conditioning.
pub struct Prefix(Paged);

impl Prefix {
    pub(super) fn grow(&mut self, count: usize) -> Result<(), OutOfMemory> {
        self.0.grow(count)
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

    /// Sees to it that the utterance can go on to `positions` of its own (the prefix not counted) without a call to the driver and
    /// without running out: for the worst case, when a stream is let in.
    ///
    /// # Errors
    /// If there is too little left for that many.
    pub fn reserve(&mut self, positions: usize) -> Result<(), OutOfMemory> {
        let pages = positions.div_ceil(self.own.positions_a_page);
        self.own.table.reserve(pages)
    }

    /// Positions of its own (the prefix not counted) for which it has reserved pages.
    pub fn reserved_positions(&self) -> usize {
        self.own.table.reserved_count() * self.own.positions_a_page
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

    /// Undoes a `grow` of a step that did not happen.
    pub(super) fn shrink(&mut self, count: usize) {
        self.own.shrink(count);
        self.speech_position -= count;
    }
}

/// The caches of a forward.
pub(super) enum Caches<'a, 's> {
    /// A dry run has none.
    None,
    /// A prefix being made.
    Prefix(&'a mut Prefix),
    /// States, by number.
    States(&'a mut [&'s mut T3State]),
}

impl Caches<'_, '_> {
    pub(super) fn store(
        &mut self,
        ctx: &Context<'_>,
        layer: usize,
        place: Place,
        keys: &[f32],
        values: &[f32],
    ) {
        match self {
            Caches::None => {}
            Caches::Prefix(prefix) => {
                prefix
                    .0
                    .store(ctx, layer, place.row, place.position, keys, values);
            }
            Caches::States(states) => {
                let state = &mut states[place.state];
                let position = place.position - state.prefix.positions();
                state
                    .own
                    .store(ctx, layer, place.row, position, keys, values);
            }
        }
    }

    /// For each place, its past and itself.
    pub(super) fn read(
        &self,
        layer: usize,
        places: &[Place],
        heads: usize,
        size: usize,
    ) -> (Vec<Vec<CachedPart<'_>>>, CacheLayout) {
        let layout = match self {
            Caches::None => CacheLayout {
                heads,
                size,
                precision: CachePrecision::F32,
            },
            Caches::Prefix(prefix) => prefix.0.layout,
            Caches::States(states) => states.first().map_or(
                CacheLayout {
                    heads,
                    size,
                    precision: CachePrecision::F32,
                },
                |state| state.own.layout,
            ),
        };
        let parts = places
            .iter()
            .map(|place| {
                let mut parts = Vec::new();
                match self {
                    Caches::None => {}
                    Caches::Prefix(prefix) => {
                        prefix.0.parts(layer, 0, place.position + 1, &mut parts);
                    }
                    Caches::States(states) => {
                        let state = &states[place.state];
                        let prefix = state.prefix.positions();
                        state.prefix.0.parts(layer, 0, prefix, &mut parts);
                        let end = place.position + 1 - prefix;
                        state.own.parts(layer, place.row, end, &mut parts);
                    }
                }
                parts
            })
            .collect();
        (parts, layout)
    }
}
