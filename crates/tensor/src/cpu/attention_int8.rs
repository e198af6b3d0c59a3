//! Attention in integers. Queries and keys are quantised to 8 bits with one scale per row and head,
//! softmax weights to 16 bits in two bytes, and values to 8 bits with one scale per channel.
//!
//! The keys' mean is subtracted first: it adds the same to all scores of a query, which does not
//! change the softmax, and the rest is quantised more finely (Zhang et al., "SageAttention", 2024).

use super::attention::{AttentionKernel, Sizes};
use super::gemm::InitialSum;
use super::gemm_f32::MR;
use super::gemm_int8::{
    self, GROUP_INPUTS, PanelsInt8, RowLayoutInt8, RowsInt8, Sums, inverse_of, round_row,
};
use super::instruction_set::InstructionSet;
use super::lanes::{Lanes, Vectors, on_lanes, split_four, unknown_zero, with_counts};
use super::output::OutputPart;
use super::{maths, rows};
use crate::matrix::{NARROW_PANEL, PANEL};
use crate::operations::Attention;
use crate::view::View;
use std::ops::Range;

/// Queries per task: whole tiles, few enough that the scores of a long sequence stay in the L2
/// cache.
const QUERIES: usize = 4 * MR;
/// MR of the product with the values: with two accumulators and two vectors each, it uses 24 of
/// AVX-512's registers.
const VALUES_MR: usize = 6;
/// Largest level of a softmax weight.
const WEIGHT_MAX: f32 = 65_535.0;
/// Number of products of an unsigned and a signed byte whose sum fits 32 bits.
const KEYS_MAX: usize = 1 << 16;

/// Whether attention over `keys` keys can use this path.
pub(crate) fn applies(keys: usize, columns: usize, options: &Attention<'_>) -> bool {
    let size = columns / options.heads;
    options.relative.is_none() && size <= GROUP_INPUTS && (1..=KEYS_MAX).contains(&keys)
}

/// Parts of scratch, in f32 units.
#[derive(Clone, Copy)]
struct ScratchLayout {
    /// Channels per head.
    size: usize,
    /// Channels in groups of four, and padded to whole vectors.
    quads: usize,
    wide: usize,
    /// Keys padded to whole panels, and in groups of four.
    keys: usize,
    key_quads: usize,
    /// Layout of one quantised row.
    row: RowLayoutInt8,
}

impl ScratchLayout {
    fn of(keys: usize, size: usize) -> ScratchLayout {
        ScratchLayout {
            size,
            quads: size.div_ceil(4),
            wide: size.next_multiple_of(NARROW_PANEL),
            keys: keys.next_multiple_of(NARROW_PANEL),
            key_quads: keys.next_multiple_of(NARROW_PANEL) / 4,
            row: RowLayoutInt8::of(size),
        }
    }

    /// Floats of one head: keys and their scales, values and their scales, a scratch row and a
    /// quantised scratch row.
    fn head(self) -> usize {
        self.keys * (self.quads + 1) + self.wide * (self.key_quads + 2) + self.row.len()
    }

    /// Floats of one task: quantised queries, and scores.
    fn task(self) -> usize {
        QUERIES * (self.row.len() + self.keys)
    }
}

/// Packed keys and values of one head.
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
    layout: ScratchLayout,
}

impl Int8Attention {
    pub(crate) fn new(set: InstructionSet, sizes: Sizes, scale: f32) -> Int8Attention {
        Int8Attention {
            set,
            sizes,
            scale,
            layout: ScratchLayout::of(sizes.keys, sizes.size),
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
        pack_head(self.set, k, v, self.scale, self.layout, packed);
    }

    fn attend(
        &self,
        _: usize,
        queries: Range<usize>,
        q: View<'_>,
        packed: &[f32],
        scratch: &mut [f32],
        out: &mut OutputPart<'_>,
    ) {
        let Int8Attention { set, layout, .. } = *self;
        let (count, size) = (queries.len(), layout.size);
        let (rounded, scores) = scratch.split_at_mut(QUERIES * layout.row.len());
        let head = head_parts(packed, layout);
        for (row, out) in (0..count).zip(rounded.chunks_exact_mut(layout.row.len())) {
            round_row(set, q.row(row), layout.row, out);
        }
        score(set, rounded, count, &head, layout, scores);
        let mut factors = [0.0; QUERIES];
        let rows = scores.chunks_exact_mut(layout.keys).zip(queries);
        for ((row, query), factor) in rows.zip(&mut factors) {
            row[self.sizes.visible(query)..].fill(f32::NEG_INFINITY);
            let total = softmax_levels(set, row);
            *factor = if total > 0.0 { 1.0 / total } else { 0.0 };
        }
        out.prefetch(0..count, 0..size);
        let mut tile = [[0.0; PANEL]; VALUES_MR];
        for first in (0..count).step_by(VALUES_MR) {
            let count = VALUES_MR.min(count - first);
            for column in (0..size).step_by(PANEL) {
                let weights = &scores[first * layout.keys..(first + count) * layout.keys];
                let width = PANEL.min(layout.wide - column);
                weighted_values(
                    set,
                    weights,
                    &factors[first..first + count],
                    &head.values[column * layout.key_quads..],
                    &head.value_scales[column..column + width],
                    layout.key_quads,
                    &mut tile,
                );
                let width = PANEL.min(size - column);
                for (index, tile) in tile.iter().take(count).enumerate() {
                    let out = out.row_columns(first + index, column..column + width);
                    rows::copy::<PANEL>(&tile[..width], out);
                }
            }
        }
    }
}

fn head_parts(packed: &[f32], layout: ScratchLayout) -> Head<'_> {
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
    layout: ScratchLayout,
    packed: &mut [f32],
) {
    let count = k.row_count();
    let (keys, rest) = packed.split_at_mut(layout.keys * layout.quads);
    let (key_scales, rest) = rest.split_at_mut(layout.keys);
    let (values, rest) = rest.split_at_mut(layout.wide * layout.key_quads);
    let (value_scales, rest) = rest.split_at_mut(layout.wide);
    let (inverses, rounded) = rest.split_at_mut(layout.wide);
    let centred = &mut inverses[..layout.size];

    // The mean is kept temporarily among the values' scales.
    let mean = &mut value_scales[..layout.size];
    mean.fill(0.0);
    for row in 0..count {
        maths::add(mean, k.row(row));
    }
    maths::scale(mean, -1.0 / count.max(1) as f32);
    let levels: &mut [u32] = bytemuck::cast_slice_mut(keys);
    levels.fill(0);
    key_scales.fill(0.0);
    for (row, key_scale) in key_scales.iter_mut().enumerate().take(count) {
        centred.copy_from_slice(k.row(row));
        maths::add(centred, mean);
        round_row(set, centred, layout.row, rounded);
        let panel = row / NARROW_PANEL * NARROW_PANEL * layout.quads + row % NARROW_PANEL;
        let (row_scale, row_levels) = gemm_int8::parts(rounded, layout.row);
        for (quad, &four) in row_levels.iter().take(layout.quads).enumerate() {
            // Adds 128 to each of the four bytes.
            levels[panel + quad * NARROW_PANEL] = four ^ 0x8080_8080;
        }
        *key_scale = row_scale * scale;
    }

    value_scales.fill(0.0);
    for row in 0..count {
        maths::largest_magnitudes(value_scales, v.row(row));
    }
    let levels: &mut [u32] = bytemuck::cast_slice_mut(values);
    levels.fill(0);
    maths::scale(value_scales, 1.0 / 127.0);
    // The scratch row is free from here on.
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

/// Scores of quantised queries with all keys.
fn score(
    set: InstructionSet,
    rounded: &[f32],
    count: usize,
    head: &Head<'_>,
    layout: ScratchLayout,
    scores: &mut [f32],
) {
    // A few queries with all keys before the next: where a store went from tile to tile instead,
    // the processor fetched ahead what another thread was writing.
    for first in (0..count).step_by(MR) {
        let rows = RowsInt8 {
            data: &rounded[first * layout.row.len()..],
            layout: layout.row,
            count: MR.min(count - first),
            first_input: 0,
            quads: layout.quads,
        };
        let panels = PanelsInt8 {
            weights: bytemuck::cast_slice(head.keys),
            panel_bytes: layout.quads * 4 * NARROW_PANEL,
            scales: head.key_scales,
        };
        let sums = Sums {
            data: &mut scores[first * layout.keys..],
            stride: layout.keys,
            initial: InitialSum::Zero,
        };
        gemm_int8::accumulate(set, rows, panels, sums);
    }
}

/// 2ˣ for x within ±½, times the largest level: the minimax polynomial of degree four, with an
/// error below 3e-6.
const POWERS: [f32; 5] = [
    WEIGHT_MAX,
    WEIGHT_MAX * 0.693_124_2,
    WEIGHT_MAX * 0.240_241,
    WEIGHT_MAX * 0.055_906_43,
    WEIGHT_MAX * 0.009_582_85,
];
/// Exponent below which a level is zero.
const POWER_MIN: f32 = -40.0;

on_lanes! {
    /// Softmax of a row of scores, in place, as 16-bit levels. The first half of the row holds the
    /// high bytes of four levels, then their low bytes, and so on. Returns the sum of the levels; a
    /// row of −∞ becomes zeros.
    fn softmax_levels<L>(row: &mut [f32]) -> f32 {
        assert!(row.len().is_multiple_of(16));
        let width = L::Vectors::WIDTH;
        let start = row.as_mut_ptr();
        // SAFETY: the caller has the instructions. Whole vectors lie in the row, and every write is
        // before the part still to be read.
        unsafe {
            // Four maxima, because each has to wait for the one before it.
            let mut largest = [L::Vectors::splat_float(f32::NEG_INFINITY); 4];
            let whole = row.len() / 64 * 64;
            for first in (0..whole).step_by(4 * width) {
                for (part, largest) in largest.iter_mut().enumerate() {
                    let scores = L::Vectors::load_floats(start.add(first + width * part));
                    *largest = L::Vectors::larger(scores, *largest);
                }
            }
            for first in (whole..row.len()).step_by(width) {
                let scores = L::Vectors::load_floats(start.add(first));
                largest[0] = L::Vectors::larger(scores, largest[0]);
            }
            let largest = L::Vectors::largest(L::Vectors::larger(
                L::Vectors::larger(largest[0], largest[1]),
                L::Vectors::larger(largest[2], largest[3]),
            ));
            let largest = L::Vectors::splat_float(largest);
            let scale = L::Vectors::splat_float(std::f32::consts::LOG2_E);
            // As many as the narrowest vectors need for 16 lanes.
            let mut totals = [L::Vectors::splat(0); 4];
            for block in (0..row.len()).step_by(32) {
                for pair in 0..16 / width {
                    let first = block + 2 * width * pair;
                    let mut levels = [L::Vectors::splat(0); 2];
                    for (half, levels) in levels.iter_mut().enumerate() {
                        let first = first + width * half;
                        // The last block may have 16 scores.
                        if first >= row.len() {
                            break;
                        }
                        let scores = L::Vectors::load_floats(start.add(first));
                        let below = L::Vectors::subtract_floats(scores, largest);
                        // Also here, so that NaN has weight zero.
                        let power = L::Vectors::larger(
                            L::Vectors::multiply(below, scale),
                            L::Vectors::splat_float(POWER_MIN),
                        );
                        let whole = L::Vectors::whole(power);
                        let rest = L::Vectors::subtract_floats(power, whole);
                        let mut value = L::Vectors::splat_float(POWERS[4]);
                        for &coefficient in POWERS[..4].iter().rev() {
                            let coefficient = L::Vectors::splat_float(coefficient);
                            value = L::Vectors::multiply_add(value, rest, coefficient);
                        }
                        *levels = L::Vectors::round(L::Vectors::scale_by_powers(value, whole));
                        let total = &mut totals[(2 * pair + half) % (16 / width)];
                        *total = L::Vectors::add(*total, *levels);
                    }
                    if first < row.len() {
                        L::Vectors::store_split(start.add(first / 2).cast(), levels);
                    }
                }
            }
            // No lane's sum reaches 2³¹: its keys are at most a sixteenth of all.
            L::Vectors::sum_of_sixteen(totals)
        }
    }

    /// Weighted means of the values, scaled by `factors`, for as many channels as there are scales:
    /// 32 or 16.
    fn weighted_values<L>(
        weights: &[f32],
        factors: &[f32],
        values: &[f32],
        scales: &[f32],
        quads: usize,
        tile: &mut [[f32; PANEL]; VALUES_MR],
    ) {
        let (width, count) = (scales.len(), factors.len());
        assert!(count <= VALUES_MR && weights.len() >= count * 4 * quads);
        assert!((width == NARROW_PANEL || width == PANEL) && values.len() >= width * quads);
        let rows = L::SPLIT_ROWS.min(VALUES_MR);
        let vectors = L::VECTORS.min(width / L::Vectors::WIDTH);
        for first in (0..count).step_by(rows) {
            let count = (count - first).min(rows);
            for channel in (0..width).step_by(vectors * L::Vectors::WIDTH) {
                let (weights, factors) = (&weights[first * 4 * quads..], &factors[first..]);
                let tile = &mut tile[first..];
                // SAFETY: the caller has the instructions; the lengths were checked.
                unsafe {
                    with_counts!(count, vectors, [1 2 3 4 5 6],
                        weighted_values_tile::<L>(weights, factors, values, scales, quads, channel, tile));
                }
            }
        }
    }
}

/// `ROWS` queries by `VECTORS` vectors of channels from `channel` on.
///
/// # Safety
/// The machine must have the instructions, and lengths must be as [`weighted_values`] checks them.
#[inline(always)]
unsafe fn weighted_values_tile<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    weights: &[f32],
    factors: &[f32],
    values: &[f32],
    scales: &[f32],
    quads: usize,
    channel: usize,
    tile: &mut [[f32; PANEL]],
) {
    let width = L::Vectors::WIDTH;
    // Each row is as long as its scores.
    let (weights, stride) = (weights.as_ptr().cast::<u8>(), 16 * quads);
    // SAFETY: inside the panels, and inside the first half of each row, by the caller's contract; a
    // row of the tile is two panels long.
    unsafe {
        let mut places = [values.as_ptr().cast::<u8>(); VECTORS];
        for (vector, place) in places.iter_mut().enumerate() {
            let channel = channel + width * vector;
            let (panel, lane) = (channel / NARROW_PANEL, channel % NARROW_PANEL);
            *place = place.add(panel * quads * 64 + 4 * lane);
        }
        let mut totals = [[[L::begin(unknown_zero()); 2]; VECTORS]; ROWS];
        for quad in 0..quads {
            let mut levels = [L::load_signed(places[0].add(64 * quad)); VECTORS];
            for (levels, place) in levels.iter_mut().zip(places) {
                *levels = L::load_signed(place.add(64 * quad));
            }
            for (row, totals) in totals.iter_mut().enumerate() {
                let [upper, lower] = split_four(weights.add(row * stride + 8 * quad));
                let [upper, lower] = [L::four_unsigned(upper), L::four_unsigned(lower)];
                for ([high, low], &levels) in totals.iter_mut().zip(&levels) {
                    *high = L::add_products_of_signed(*high, levels, upper);
                    *low = L::add_products_of_signed(*low, levels, lower);
                }
            }
        }
        for ((totals, &factor), tile) in totals.iter().zip(factors).zip(tile) {
            for (vector, &[high, low]) in totals.iter().enumerate() {
                let place = channel + width * vector;
                let high = L::Vectors::to_floats(L::end(high));
                let low = L::Vectors::to_floats(L::end(low));
                let sum = L::Vectors::multiply_add(high, L::Vectors::splat_float(256.0), low);
                let scales = L::Vectors::load_floats(scales.as_ptr().add(place));
                let scale = L::Vectors::multiply(scales, L::Vectors::splat_float(factor));
                let value = L::Vectors::multiply(sum, scale);
                L::Vectors::store_floats(tile.as_mut_ptr().add(place), value);
            }
        }
    }
}
