//! Attention in integers. Queries and keys are quantised to 8 bits with one scale per row and head,
//! softmax weights to 8 bits with one scale per query and block of keys, and values to 8 bits with
//! one scale per channel.
//!
//! The keys' mean is subtracted first: it adds the same to all scores of a query, which does not
//! change the softmax, and the rest is quantised more finely (Zhang et al., "SageAttention", 2024).
//!
//! Scores exist for one block of keys at a time, in the L1 cache. The sums of all blocks are in
//! units of a weight that is near the query's largest so far (Dao et al., "FlashAttention", 2022).

use super::attention::{AttentionKernel, Sizes};
use super::gemm::InitialSum;
use super::gemm_f32::MR;
use super::gemm_int8::{
    self, GROUP_INPUTS, Panels, RowLayout, Rows, Sums, inverse_of, round_group, round_rows,
};
use super::instruction_set::InstructionSet;
use super::lanes::{Floats, Lanes, Vectors, on_lanes, unknown_zero, with_counts};
use super::shared_output::SharedOutput;
use super::{maths, rows};
use crate::matrix::{NARROW_PANEL, PANEL};
use crate::operations::Attention;
use crate::view::View;
use std::ops::Range;

/// Queries per task: four tiles, which find a block's keys and values in the caches.
const QUERIES: usize = 4 * MR;
/// Keys per block: 8 KiB of keys, as much of values, and 6 KiB of a tile's scores.
const KEYS: usize = 128;
/// Largest level of a softmax weight.
const LEVEL_MAX: f32 = 255.0;
/// Lanes of a query's sums of levels, and room for the numbers of a tile's queries.
const LANES: usize = 16;

/// Whether attention over `keys` keys can use this path.
pub(crate) fn applies(keys: usize, columns: usize, options: &Attention<'_>) -> bool {
    let size = columns / options.heads;
    options.relative.is_none() && size <= GROUP_INPUTS && keys > 0
}

/// Parts of scratch, in f32 units.
#[derive(Clone, Copy)]
struct Layout {
    /// Channels per head.
    size: usize,
    /// Channels in groups of four, and padded to whole vectors.
    quads: usize,
    wide: usize,
    /// Keys padded to whole panels, and in groups of four.
    keys: usize,
    key_quads: usize,
    /// Layout of one quantised row.
    row: RowLayout,
}

impl Layout {
    fn of(keys: usize, size: usize) -> Layout {
        Layout {
            size,
            quads: size.div_ceil(4),
            wide: size.next_multiple_of(NARROW_PANEL),
            keys: keys.next_multiple_of(NARROW_PANEL),
            key_quads: keys.next_multiple_of(NARROW_PANEL) / 4,
            row: RowLayout::of(size),
        }
    }

    /// Floats of one head: keys and their scales, values and their scales, a scratch row.
    fn head(self) -> usize {
        self.keys * (self.quads + 1) + self.wide * (self.key_quads + 2)
    }

    /// Floats of one task: quantised queries, their sums, and the scores of a tile.
    fn task(self) -> usize {
        QUERIES * (self.row.len() + self.wide) + MR * KEYS
    }
}

/// Packed keys and values of one head.
#[derive(Clone, Copy)]
struct Head<'a> {
    /// Panels of 16 keys, `[panel][channel / 4][key][channel % 4]`.
    keys: &'a [f32],
    key_scales: &'a [f32],
    /// Panels of 16 channels, `[panel][key / 4][channel][key % 4]`.
    values: &'a [f32],
    value_scales: &'a [f32],
}

/// Attention in integers.
pub(crate) struct Int8Attention {
    set: InstructionSet,
    sizes: Sizes,
    /// Factor of the scores.
    scale: f32,
    layout: Layout,
}

impl Int8Attention {
    pub(crate) fn new(set: InstructionSet, sizes: Sizes, scale: f32) -> Int8Attention {
        Int8Attention {
            set,
            sizes,
            scale,
            layout: Layout::of(sizes.keys, sizes.size),
        }
    }
}

impl AttentionKernel for Int8Attention {
    const QUERIES: usize = QUERIES;

    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn head_len(&self) -> usize {
        self.layout.head()
    }

    fn task_len(&self) -> usize {
        self.layout.task()
    }

    fn pack(&self, _: usize, k: View<'_>, v: View<'_>, packed: &mut [f32]) {
        // Scores are powers of two.
        let scale = self.scale * std::f32::consts::LOG2_E;
        pack_head(self.set, k, v, scale, self.layout, packed);
    }

    fn attend(
        &self,
        _: usize,
        queries: Range<usize>,
        q: View<'_>,
        packed: &[f32],
        scratch: &mut [f32],
        out: &SharedOutput<'_>,
    ) {
        let Int8Attention { set, layout, .. } = *self;
        let (count, wide) = (queries.len(), layout.wide);
        let (rounded, rest) = scratch.split_at_mut(QUERIES * layout.row.len());
        let (sums, scores) = rest.split_at_mut(QUERIES * wide);
        let head = head_parts(packed, layout);
        round_rows(set, q, layout.row, rounded);
        sums.fill(0.0);
        let mut weights = [Weights::NONE; QUERIES];
        let seen = queries.clone().map(|query| self.sizes.visible(query)).max();
        for first_key in (0..seen.unwrap_or(0)).step_by(KEYS) {
            let block = head.block(first_key, layout);
            for first in (0..count).step_by(MR) {
                let tile = first..count.min(first + MR);
                let rounded = &rounded[first * layout.row.len()..];
                score(set, rounded, tile.len(), &block, layout, scores);
                for (query, row) in tile.clone().zip(scores.chunks_exact_mut(KEYS)) {
                    let visible = self.sizes.visible(queries.start + query);
                    let visible = visible.saturating_sub(first_key).min(block.keys);
                    row[visible..block.keys].fill(f32::NEG_INFINITY);
                }
                let sums = &mut sums[first * wide..tile.end * wide];
                let weights = &mut weights[tile];
                let factors = weigh(set, scores, block.keys, weights, sums);
                add_values(set, scores, &factors, &block, weights.len(), sums);
            }
        }
        let rows = sums.chunks_exact(wide).zip(&weights).take(count);
        for (row, (sums, weights)) in rows.enumerate() {
            // SAFETY: the caller has these rows and columns to itself.
            let out = unsafe { out.row(row, 0, layout.size) };
            let total = weights.total();
            let factor = if total > 0.0 { 1.0 / total } else { 0.0 };
            for ((out, sum), scale) in out.iter_mut().zip(sums).zip(head.value_scales) {
                *out = sum * (scale * factor);
            }
        }
    }
}

/// The softmax weights of a query so far.
#[derive(Clone, Copy)]
struct Weights {
    /// The score whose weight is the unit of all sums.
    unit: f32,
    /// Sums of the weights.
    totals: [f32; LANES],
}

impl Weights {
    const NONE: Weights = Weights {
        unit: f32::NEG_INFINITY,
        totals: [0.0; LANES],
    };

    /// The sum of all weights, by halves.
    fn total(&self) -> f32 {
        let mut totals = self.totals;
        for width in [8, 4, 2, 1] {
            for lane in 0..width {
                totals[lane] += totals[lane + width];
            }
        }
        totals[0]
    }
}

/// Keys and values of one block.
struct Block<'a> {
    /// Number of keys, padded to whole panels.
    keys: usize,
    /// Panels of 16 keys.
    panels: &'a [f32],
    key_scales: &'a [f32],
    /// Panels of 16 channels from the block's first key on, and floats from one to the next.
    values: &'a [f32],
    value_panel: usize,
}

impl<'a> Head<'a> {
    fn block(&self, first: usize, layout: Layout) -> Block<'a> {
        let keys = KEYS.min(layout.keys - first);
        Block {
            keys,
            panels: &self.keys[first * layout.quads..(first + keys) * layout.quads],
            key_scales: &self.key_scales[first..first + keys],
            values: &self.values[first / 4 * NARROW_PANEL..],
            value_panel: layout.key_quads * NARROW_PANEL,
        }
    }
}

fn head_parts(packed: &[f32], layout: Layout) -> Head<'_> {
    let (keys, rest) = packed.split_at(layout.keys * layout.quads);
    let (key_scales, rest) = rest.split_at(layout.keys);
    let (values, rest) = rest.split_at(layout.wide * layout.key_quads);
    Head {
        keys,
        key_scales,
        values,
        value_scales: &rest[..layout.wide],
    }
}

/// Quantises the keys of a head, with `scale` folded into their scales, and its values.
fn pack_head(
    set: InstructionSet,
    k: View<'_>,
    v: View<'_>,
    scale: f32,
    layout: Layout,
    packed: &mut [f32],
) {
    let count = k.row_count();
    let (keys, rest) = packed.split_at_mut(layout.keys * layout.quads);
    let (key_scales, rest) = rest.split_at_mut(layout.keys);
    let (values, rest) = rest.split_at_mut(layout.wide * layout.key_quads);
    let (value_scales, rest) = rest.split_at_mut(layout.wide);
    let inverses = &mut rest[..layout.wide];

    // The mean is kept temporarily among the values' scales.
    let mean = &mut value_scales[..layout.size];
    maths::sum_rows(k, mean);
    maths::scale(mean, -1.0 / count.max(1) as f32);
    let levels: &mut [u32] = bytemuck::cast_slice_mut(keys);
    levels.fill(0);
    key_scales.fill(0.0);
    pack_keys(set, k, mean, layout, levels, key_scales);
    maths::scale(key_scales, scale);

    value_scales.fill(0.0);
    maths::largest_magnitudes(value_scales, v);
    let levels: &mut [u32] = bytemuck::cast_slice_mut(values);
    levels.fill(0);
    maths::scale(value_scales, 1.0 / 127.0);
    for (inverse, &scale) in inverses.iter_mut().zip(&*value_scales) {
        *inverse = inverse_of(scale);
    }
    for quad in 0..count.div_ceil(4) {
        let rows = [0, 1, 2, 3].map(|row| match 4 * quad + row {
            row if row < count => v.row(row),
            _ => &ZERO_ROW[..layout.size],
        });
        interleave_levels(set, rows, inverses, quad, layout.key_quads, levels);
    }
}

/// Padding of the last group of four keys.
const ZERO_ROW: [f32; GROUP_INPUTS] = [0.0; GROUP_INPUTS];

on_lanes! {
    /// Quantises keys after `shift` was added to each, and packs them into panels.
    fn pack_keys<L>(
        k: View<'_>,
        shift: &[f32],
        layout: Layout,
        levels: &mut [u32],
        scales: &mut [f32],
    ) {
        let padded = layout.size.next_multiple_of(64);
        assert!(padded <= GROUP_INPUTS && shift.len() == layout.size);
        let mut shifted = [0.0; GROUP_INPUTS];
        let mut rounded = [0_u32; GROUP_INPUTS / 4];
        for (row, row_scale) in scales.iter_mut().enumerate().take(k.row_count()) {
            for ((shifted, &value), &shift) in shifted.iter_mut().zip(k.row(row)).zip(shift) {
                *shifted = value + shift;
            }
            let place: *mut u8 = rounded.as_mut_ptr().cast();
            // SAFETY: the caller has the instructions; both arrays are a whole group.
            [_, *row_scale] = unsafe { round_group::<L>(shifted.as_ptr(), padded, place) };
            let panel = row / NARROW_PANEL * NARROW_PANEL * layout.quads;
            let panel = &mut levels[panel..][..NARROW_PANEL * layout.quads];
            let lane = panel.iter_mut().skip(row % NARROW_PANEL).step_by(NARROW_PANEL);
            for (level, four) in lane.zip(rounded) {
                // Adds 128 to each of the four bytes.
                *level = four ^ 0x8080_8080;
            }
        }
    }

    /// Quantises the values of four keys to signed bytes, and interleaves them by channel.
    fn interleave_levels<L>(
        rows: [&[f32]; 4],
        inverses: &[f32],
        quad: usize,
        quads: usize,
        levels: &mut [u32],
    ) {
        for panel in 0..inverses.len() / NARROW_PANEL {
            let first = panel * NARROW_PANEL;
            let inverses = inverses[first..first + NARROW_PANEL].as_ptr();
            let words = &mut levels[(panel * quads + quad) * NARROW_PANEL..][..NARROW_PANEL];
            let last: [[f32; NARROW_PANEL]; 4];
            let places = match rows.map(|row| row.get(first..first + NARROW_PANEL)) {
                [Some(a), Some(b), Some(c), Some(d)] => [a, b, c, d].map(<[f32]>::as_ptr),
                _ => {
                    last = rows.map(|row| *rows::zero_padded(row, first, &mut [0.0; NARROW_PANEL]));
                    last.each_ref().map(|values| values.as_ptr())
                }
            };
            // SAFETY: the caller has the instructions; a panel's length lies at all places.
            unsafe {
                for lane in (0..NARROW_PANEL).step_by(L::Vectors::WIDTH) {
                    let inverse = L::Vectors::load_floats(inverses.add(lane));
                    let mut word = L::Vectors::splat(0);
                    for (key, values) in places.into_iter().enumerate() {
                        let value = L::Vectors::load_floats(values.add(lane));
                        let level = L::Vectors::round_or_zero(L::Vectors::multiply(value, inverse));
                        let byte = L::Vectors::and(level, L::Vectors::splat(255));
                        let byte = L::Vectors::shift_left(byte, 8 * key as i32);
                        word = L::Vectors::add(word, byte);
                    }
                    L::Vectors::store(words.as_mut_ptr().add(lane).cast(), word);
                }
            }
        }
    }
}

/// Scores of a tile of quantised queries with a block of keys, in rows of [`KEYS`].
fn score(
    set: InstructionSet,
    rounded: &[f32],
    count: usize,
    block: &Block<'_>,
    layout: Layout,
    scores: &mut [f32],
) {
    let weights: &[u8] = bytemuck::cast_slice(block.panels);
    let panel_bytes = layout.quads * 4 * NARROW_PANEL;
    for first_key in (0..block.keys).step_by(PANEL) {
        let width = PANEL.min(block.keys - first_key);
        let panels = Panels {
            weights: &weights[first_key / NARROW_PANEL * panel_bytes..],
            panel_bytes,
            scales: &block.key_scales[first_key..first_key + width],
        };
        let rows = Rows {
            data: rounded,
            layout: layout.row,
            count,
            first_input: 0,
            quads: layout.quads,
        };
        let sums = Sums {
            data: &mut scores[first_key..],
            stride: KEYS,
            initial: InitialSum::Zero,
        };
        gemm_int8::accumulate(set, rows, panels, sums);
    }
}

/// 2ˣ for x within ±½: the minimax polynomial of degree three, with an error below 8e-5.
const POWERS: [f32; 4] = [0.999_928_1, 0.693_261, 0.242_611_12, 0.055_171_67];
/// Exponent below which a level is zero.
const LEVEL_MIN: f32 = -10.0;
/// Exponent below which a block's weights count as nothing.
const BLOCK_MIN: f32 = -40.0;
/// Exponent above which the unit of a query's sums is exceeded by too much.
const BLOCK_MAX: f32 = 16.0;

/// `factor` · 2ˣ for x from `least` to [`BLOCK_MAX`]; NaN and smaller x count as `least`.
///
/// # Safety
/// The machine must have the instructions.
#[inline(always)]
unsafe fn power<V: Vectors>(x: V::Floats, least: f32, factor: f32) -> V::Floats {
    // SAFETY: the caller's contract.
    unsafe {
        let x = V::larger(x, V::splat_float(least));
        let whole = V::whole(x);
        let rest = V::subtract_floats(x, whole);
        let mut value = V::splat_float(factor * POWERS[3]);
        for &coefficient in POWERS[..3].iter().rev() {
            value = V::multiply_add(value, rest, V::splat_float(factor * coefficient));
        }
        V::scale_by_powers(value, whole)
    }
}

/// The largest of `count` values, a multiple of 16; NaN counts as nothing. Four maxima are kept,
/// because each has to wait for the one before it.
///
/// # Safety
/// The machine must have the instructions, and `count` values must lie at `values`.
#[inline(always)]
unsafe fn largest<V: Vectors>(values: *const f32, count: usize) -> f32 {
    // SAFETY: the caller's contract.
    unsafe {
        let mut most = [V::splat_float(f32::NEG_INFINITY); 4];
        for (turn, place) in (0..count).step_by(V::WIDTH).enumerate() {
            most[turn % 4] = V::larger(V::load_floats(values.add(place)), most[turn % 4]);
        }
        V::largest(V::larger(
            V::larger(most[0], most[1]),
            V::larger(most[2], most[3]),
        ))
    }
}

/// Levels of a vector of scores relative to the largest.
///
/// # Safety
/// The machine must have the instructions, and a vector of scores must lie at `scores`.
#[inline(always)]
unsafe fn levels_of<V: Vectors>(scores: *const f32, largest: V::Floats) -> V::Integers {
    // SAFETY: the caller's contract.
    unsafe {
        let below = V::subtract_floats(V::load_floats(scores), largest);
        V::round(power::<V>(below, LEVEL_MIN, LEVEL_MAX))
    }
}

on_lanes! {
    /// Softmax weights of a tile's scores with a block of `keys` keys, as levels relative to each
    /// query's largest in the block. Levels are bytes at the start of their row of scores. Returns
    /// the value of a level in units of each query's sums; where a query's unit changes, its
    /// `sums` follow.
    fn weigh<L>(
        scores: &mut [f32],
        keys: usize,
        weights: &mut [Weights],
        sums: &mut [f32],
    ) -> [f32; LANES] {
        let count = weights.len();
        assert!(count <= LANES && keys.is_multiple_of(LANES) && keys <= KEYS);
        assert!(scores.len() >= count * KEYS && sums.len().is_multiple_of(count.max(1)));
        let width = L::Vectors::WIDTH;
        let mut most = [f32::NEG_INFINITY; LANES];
        let mut factors = [f32::NEG_INFINITY; LANES];
        // SAFETY: the caller has the instructions. Whole vectors lie in a row of scores, and every
        // write is before the part still to be read; other arrays are [`LANES`] long.
        unsafe {
            for (row, most) in most.iter_mut().enumerate().take(count) {
                *most = largest::<L::Vectors>(scores.as_ptr().add(row * KEYS), keys);
            }
            let rows = weights.iter_mut().zip(sums.chunks_exact_mut(sums.len() / count.max(1)));
            for (((weights, sums), &most), factor) in rows.zip(&most).zip(&mut factors) {
                if most > weights.unit + BLOCK_MAX {
                    let change = L::Vectors::splat_float(weights.unit - most);
                    let change = L::Vectors::largest(power::<L::Vectors>(change, BLOCK_MIN, 1.0));
                    let values = sums.iter_mut().chain(&mut weights.totals);
                    values.for_each(|value| *value *= change);
                    weights.unit = most;
                }
                *factor = most - weights.unit;
            }
            for lane in (0..LANES).step_by(width) {
                let place = factors.as_mut_ptr().add(lane);
                let value = power::<L::Vectors>(L::Vectors::load_floats(place), BLOCK_MIN, 1.0);
                L::Vectors::store_floats(place, value);
            }
            for (row, weights) in weights.iter_mut().enumerate() {
                let start = scores.as_mut_ptr().add(row * KEYS);
                let most = L::Vectors::splat_float(most[row]);
                // As many as the narrowest vectors need for 16 lanes.
                let mut totals = [L::Vectors::splat(0); 4];
                let whole = keys / (4 * width) * (4 * width);
                for first in (0..whole).step_by(4 * width) {
                    let mut four = [L::Vectors::splat(0); 4];
                    for (part, levels) in four.iter_mut().enumerate() {
                        *levels = levels_of::<L::Vectors>(start.add(first + width * part), most);
                        let total = &mut totals[part % (LANES / width)];
                        *total = L::Vectors::add(*total, *levels);
                    }
                    L::Vectors::store_four_unsigned(start.cast::<u8>().add(first), four);
                }
                for (part, place) in (whole..keys).step_by(width).enumerate() {
                    let levels = levels_of::<L::Vectors>(start.add(place), most);
                    let total = &mut totals[part % (LANES / width)];
                    *total = L::Vectors::add(*total, levels);
                    L::Vectors::store_bytes(start.cast::<u8>().add(place), levels);
                }
                let factor = L::Vectors::splat_float(factors[row]);
                for (part, &total) in totals.iter().enumerate().take(LANES / width) {
                    let place = weights.totals.as_mut_ptr().add(width * part);
                    let total = L::Vectors::to_floats(total);
                    let before = L::Vectors::load_floats(place);
                    let sum = L::Vectors::multiply_add(total, factor, before);
                    L::Vectors::store_floats(place, sum);
                }
            }
        }
        factors
    }

    /// Adds the values of a block to the sums of `count` queries, weighted by the bytes at the
    /// start of each row of scores and by the query's factor.
    fn add_values<L>(
        scores: &[f32],
        factors: &[f32; LANES],
        block: &Block<'_>,
        count: usize,
        sums: &mut [f32],
    ) {
        let wide = sums.len() / count.max(1);
        assert!(count <= LANES && scores.len() >= count * KEYS && block.keys <= KEYS);
        assert!(wide.is_multiple_of(NARROW_PANEL) && sums.len() == count * wide);
        let last_panel = (wide / NARROW_PANEL).saturating_sub(1) * block.value_panel;
        assert!(block.values.len() >= last_panel + block.keys / 4 * NARROW_PANEL);
        for channel in (0..wide).step_by(PANEL) {
            let width = PANEL.min(wide - channel);
            let vectors = L::VECTORS.min(width / L::Vectors::WIDTH);
            for channel in (channel..channel + width).step_by(vectors * L::Vectors::WIDTH) {
                for first in (0..count).step_by(L::ROWS) {
                    let count = (count - first).min(L::ROWS);
                    let (scores, factors) = (&scores[first * KEYS..], &factors[first..]);
                    let sums = &mut sums[first * wide..];
                    // SAFETY: the caller has the instructions; the lengths were checked.
                    unsafe {
                        with_counts!(count, vectors, [1 2 3 4 5 6 7 8 9 10 11 12],
                            add_values_tile::<L>(scores, factors, block, channel, sums, wide));
                    }
                }
            }
        }
    }
}

/// `ROWS` queries by `VECTORS` vectors of channels from `channel` on.
///
/// # Safety
/// The machine must have the instructions, and lengths must be as [`add_values`] checks them.
#[inline(always)]
unsafe fn add_values_tile<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    scores: &[f32],
    factors: &[f32],
    block: &Block<'_>,
    channel: usize,
    sums: &mut [f32],
    wide: usize,
) {
    let width = L::Vectors::WIDTH;
    let levels = scores.as_ptr().cast::<u8>();
    // SAFETY: inside the panels, the first quarter of each row of scores and the rows of sums, by
    // the caller's contract.
    unsafe {
        let mut places = [block.values.as_ptr().cast::<u8>(); VECTORS];
        for (vector, place) in places.iter_mut().enumerate() {
            let channel = channel + width * vector;
            let (panel, lane) = (channel / NARROW_PANEL, channel % NARROW_PANEL);
            *place = place.add(4 * (panel * block.value_panel + lane));
        }
        let mut totals = [[L::begin(0); VECTORS]; ROWS];
        for totals in &mut totals {
            *totals = [L::begin(unknown_zero()); VECTORS];
        }
        for quad in 0..block.keys / 4 {
            let mut values = [L::load_signed(places[0].add(64 * quad)); VECTORS];
            for (values, place) in values.iter_mut().zip(places) {
                *values = L::load_signed(place.add(64 * quad));
            }
            for (row, totals) in totals.iter_mut().enumerate() {
                let four = levels.add(4 * (row * KEYS + quad)).cast::<i32>().read();
                let four = L::four_unsigned(four);
                for (total, &values) in totals.iter_mut().zip(&values) {
                    *total = L::add_products_of_signed(*total, values, four);
                }
            }
        }
        for (row, totals) in totals.iter().enumerate() {
            let factor: Floats<L> = L::Vectors::splat_float(factors.as_ptr().add(row).read());
            for (vector, &total) in totals.iter().enumerate() {
                let place = sums.as_mut_ptr().add(row * wide + channel + width * vector);
                let total = L::Vectors::to_floats(L::end(total));
                let sum = L::Vectors::multiply_add(total, factor, L::Vectors::load_floats(place));
                L::Vectors::store_floats(place, sum);
            }
        }
    }
}
