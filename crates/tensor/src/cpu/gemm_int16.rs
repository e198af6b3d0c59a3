//! GEMM of activations in 16-bit integers with `Int8` and `Q4` weights, on machines with dot
//! product instructions.
//!
//! Each row is scaled so that its largest magnitude is 127 · 256 + 127, and split into two signed
//! bytes, high and low. The products are exact, and the rounding error of a row is far below that
//! of the weights. A row's result does not depend on other rows.

use super::gemm::{InitialSum, TileKernel};
use super::instruction_set::InstructionSet;
use super::lanes::{
    Floats, Integers, Lanes, Vectors, on_lanes, prefetch, split_four, unknown_zero, with_counts,
};
use super::rows;
use crate::matrix::{GROUP, Int8Parts, Matrix, NARROW_PANEL, Precision, Q4_BLOCK};
use crate::threads::Threads;
use crate::view::{View, ViewMut};
use std::ops::Range;

/// MR: rows that are multiplied with a panel before the next panel: one pass over it serves as many
/// rows as fit the registers.
const MR: usize = 8;
/// Prefetch distance with fewer rows than fit the registers, whose time is that of reading weights;
/// with all of them the next panel is fetched during this one.
const BYTES_AHEAD: usize = 4096;
/// Most rows for which even and odd steps have sums of their own: a product waits for the last one
/// of its sum, and fewer sums than that takes would leave the multipliers idle.
const CHAINED_ROWS_MAX: usize = 2;
/// Largest 16-bit level: its high byte is 127 after rounding.
const LEVEL_MAX: f32 = 32_512.0;

/// Layout of a quantised row in scratch, in f32 units: bytes (four high ones, then the four low
/// ones of the same inputs, and so on), sums of 32 levels each, then the scale and the sums of the
/// high and of the low bytes.
#[derive(Clone, Copy)]
struct RowLayoutInt16 {
    /// Inputs, padded with zeros to a multiple of 64.
    inputs: usize,
}

impl RowLayoutInt16 {
    fn of(inputs: usize) -> RowLayoutInt16 {
        RowLayoutInt16 {
            inputs: inputs.next_multiple_of(64),
        }
    }

    fn len(self) -> usize {
        // A whole number of cache lines.
        (self.inputs / 2 + self.inputs / 32 + 3).next_multiple_of(16)
    }
}

/// f32 elements of scratch for `rows` rows of `inputs`.
pub(crate) fn scratch(rows: usize, inputs: usize) -> usize {
    rows * RowLayoutInt16::of(inputs).len()
}

/// Quantised rows, one after the other.
#[derive(Clone, Copy)]
struct Quantised<'a> {
    data: &'a [f32],
    layout: RowLayoutInt16,
}

impl<'a> Quantised<'a> {
    /// The rows from `first` on.
    fn from(self, first: usize) -> Quantised<'a> {
        Quantised {
            data: &self.data[first * self.layout.len()..],
            ..self
        }
    }

    fn row(&self, index: usize) -> &'a [f32] {
        &self.data[index * self.layout.len()..][..self.layout.len()]
    }

    /// Sums of 32 levels each.
    fn sums(&self, index: usize) -> &'a [i32] {
        let sums = &self.row(index)[self.layout.inputs / 2..][..self.layout.inputs / 32];
        bytemuck::cast_slice(sums)
    }

    fn scale(&self, index: usize) -> f32 {
        self.row(index)[self.layout.inputs / 2 + self.layout.inputs / 32]
    }

    /// Sums of the high and low bytes.
    fn totals(&self, index: usize) -> [i32; 2] {
        let place = self.layout.inputs / 2 + self.layout.inputs / 32 + 1;
        let row = self.row(index);
        [row[place], row[place + 1]].map(|bits| bits.to_bits() as i32)
    }
}

/// A product of quantised rows with an `Int8` or `Q4` matrix.
pub(crate) struct Int16Kernel<'a> {
    set: InstructionSet,
    rows: Quantised<'a>,
    count: usize,
    weight: &'a Matrix,
}

impl<'a> Int16Kernel<'a> {
    /// Quantises rows in scratch first.
    pub(crate) fn quantise(
        set: InstructionSet,
        threads: &Threads,
        x: View<'_>,
        weight: &'a Matrix,
        scratch: &'a mut [f32],
    ) -> Self {
        let (count, layout) = (x.row_count(), RowLayoutInt16::of(weight.columns()));
        let mut quantised = ViewMut::new(scratch, count, layout.len());
        rows::for_each(threads, &mut quantised, |row, out| {
            quantise(set, x.row(row), layout, out);
        });
        Int16Kernel {
            set,
            rows: Quantised {
                data: scratch,
                layout,
            },
            count,
            weight,
        }
    }
}

/// A panel's weights for all inputs.
pub(crate) enum Panel<'b> {
    /// Levels in whole steps of 64 bytes, and 16 scales.
    Int8 {
        weights: &'b [u8],
        scales: &'b [f32],
    },
    /// Blocks of levels and scales.
    Q4(&'b [u8]),
}

impl TileKernel for Int16Kernel<'_> {
    const MR: usize = MR;
    const MC: usize = 8 * MR;
    const NR: usize = NARROW_PANEL;
    type Buffer = ();
    type PanelBlock<'b>
        = Panel<'b>
    where
        Self: 'b;

    fn rows(&self) -> usize {
        self.count
    }

    fn outputs(&self) -> usize {
        self.weight.rows()
    }

    fn blocks(&self) -> usize {
        1
    }

    fn buffer(&self, _: usize) {}

    fn block<'b>(&'b self, panel: usize, _: usize, (): &'b mut ()) -> Panel<'b> {
        let (weight, data) = (self.weight, self.weight.packed_bytes());
        match weight.precision() {
            Precision::Int8 => {
                let parts = Int8Parts::of(data, weight.padded_rows());
                let bytes = weight.columns().next_multiple_of(4) * NARROW_PANEL;
                Panel::Int8 {
                    weights: &parts.weights[panel * bytes..][..bytes],
                    scales: &parts.scales[panel * NARROW_PANEL..][..NARROW_PANEL],
                }
            }
            Precision::Q4 => {
                let bytes = weight.columns().div_ceil(GROUP) * Q4_BLOCK;
                Panel::Q4(&data[panel * bytes..][..bytes])
            }
            other => unreachable!("{other} has no integer product"),
        }
    }

    fn multiply_tile(
        &self,
        panel: &Panel<'_>,
        rows: Range<usize>,
        _: InitialSum,
        tile: &mut [f32],
    ) {
        let (quantised, count) = (self.rows.from(rows.start), rows.len());
        let (tile, _) = tile.as_chunks_mut();
        match panel {
            Panel::Int8 { weights, scales } => {
                int8_panel(self.set, weights, scales, quantised, count, tile);
            }
            Panel::Q4(blocks) => q4_panel(self.set, blocks, quantised, count, tile),
        }
    }
}

on_lanes! {
    /// Quantises a row and splits its levels into bytes.
    fn quantise<L>(row: &[f32], layout: RowLayoutInt16, out: &mut [f32]) {
        assert!(row.len() <= layout.inputs && out.len() == layout.len());
        let mut end = [0.0; 32];
        // SAFETY: the caller has the instructions. Whole vectors lie in the padded part of the row,
        // and the destination was sliced.
        unsafe {
            let mut largest = L::Vectors::splat_float(0.0);
            for first in (0..row.len()).step_by(32) {
                let values = rows::zero_padded(row, first, &mut end).as_ptr();
                for input in (0..32).step_by(L::Vectors::WIDTH) {
                    let values = L::Vectors::load_floats(values.add(input));
                    largest = L::Vectors::larger(L::Vectors::magnitude(values), largest);
                }
            }
            let scale = L::Vectors::largest(largest) / LEVEL_MAX;
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let (bytes, rest) = out.split_at_mut(layout.inputs / 2);
            let (sums, last) = rest.split_at_mut(layout.inputs / 32);
            let (mut all, mut high_total) = (0_i32, L::Vectors::splat(0));
            for (group, sum) in sums.iter_mut().enumerate() {
                let mut total = L::Vectors::splat(0);
                let values = rows::zero_padded(row, 32 * group, &mut end).as_ptr();
                let place = bytes[16 * group..][..16].as_mut_ptr();
                for input in (0..32).step_by(2 * L::Vectors::WIDTH) {
                    let mut bytes = [L::Vectors::splat(0); 2];
                    for (half, bytes) in bytes.iter_mut().enumerate() {
                        let input = input + L::Vectors::WIDTH * half;
                        let values = L::Vectors::load_floats(values.add(input));
                        let scaled = L::Vectors::multiply(values, L::Vectors::splat_float(inverse));
                        // NaN becomes 0: no weight could turn it into a number.
                        let levels = L::Vectors::round_or_zero(scaled);
                        let nearest = L::Vectors::add(levels, L::Vectors::splat(128));
                        let upper = L::Vectors::shift_right_signed(nearest, 8);
                        total = L::Vectors::add(total, levels);
                        high_total = L::Vectors::add(high_total, upper);
                        // The low byte without the 128 that were added to round.
                        *bytes = L::Vectors::exclusive_or(nearest, L::Vectors::splat(128));
                    }
                    L::Vectors::store_split(place.add(input / 2).cast(), bytes);
                }
                let total = L::Vectors::sum(total);
                all = all.wrapping_add(total);
                *sum = f32::from_bits(total as u32);
            }
            let high = L::Vectors::sum(high_total);
            let low = all.wrapping_sub(high.wrapping_mul(256));
            last[0] = scale;
            last[1] = f32::from_bits(high as u32);
            last[2] = f32::from_bits(low as u32);
        }
    }

    /// Products of rows with an `Int8` panel: whole steps of 64 bytes, and 16 scales.
    fn int8_panel<L>(
        weights: &[u8],
        scales: &[f32],
        rows: Quantised<'_>,
        count: usize,
        tile: &mut [[f32; 16]],
    ) {
        assert!(scales.len() == 16 && rows.data.len() >= count * rows.layout.len());
        assert!(weights.len().is_multiple_of(64) && rows.layout.inputs >= weights.len() / 16);
        let vectors = L::VECTORS.min(16 / L::Vectors::WIDTH);
        for first in (0..count).step_by(L::SPLIT_ROWS) {
            let count = (count - first).min(L::SPLIT_ROWS);
            for output in (0..16).step_by(vectors * L::Vectors::WIDTH) {
                let (rows, tile) = (rows.from(first), &mut tile[first..first + count]);
                // SAFETY: the caller has the instructions; the lengths were checked.
                unsafe {
                    with_counts!(count, vectors, [1 2 3 4 5 6 7 8],
                        int8_tile::<L>(weights, scales, rows, output, tile));
                }
            }
        }
    }

    /// Products of rows with a `Q4` panel, in whole blocks.
    fn q4_panel<L>(
        blocks: &[u8],
        rows: Quantised<'_>,
        count: usize,
        tile: &mut [[f32; 16]],
    ) {
        assert!(count <= MR && tile.len() >= count);
        assert!(rows.data.len() >= count * rows.layout.len());
        assert!(rows.layout.inputs >= blocks.len() / Q4_BLOCK * GROUP);
        for output in (0..16).step_by(L::Vectors::WIDTH) {
            // SAFETY: the caller has the instructions; the lengths were checked.
            unsafe {
                with_counts!(count, 1, [1 2 3 4 5 6 7 8],
                    q4_tile::<L>(blocks, rows, output, tile));
            }
        }
    }
}

/// Micro-kernel: `N` rows by the outputs `output..output + VECTORS · WIDTH` of a panel.
///
/// # Safety
/// The machine must have the instructions, and lengths must be as [`int8_panel`] checks them.
#[inline(always)]
unsafe fn int8_tile<L: Lanes, const N: usize, const VECTORS: usize>(
    weights: &[u8],
    scales: &[f32],
    rows: Quantised<'_>,
    output: usize,
    tile: &mut [[f32; 16]],
) {
    let width = L::Vectors::WIDTH;
    // SAFETY: inside the panel and inside the rows, by the caller's contract; a row of the tile is
    // 16 long.
    unsafe {
        let mut sums = [[[L::begin(unknown_zero()); 2]; VECTORS]; N];
        let mut odd_sums = sums;
        let steps = weights.len() / 64;
        let mut step = 0;
        while step < steps {
            int8_step::<L, N, VECTORS>(weights, rows, output, step, &mut sums);
            step += 1;
            if N <= CHAINED_ROWS_MAX && step < steps {
                int8_step::<L, N, VECTORS>(weights, rows, output, step, &mut odd_sums);
                step += 1;
            }
        }
        for (index, sums) in sums.into_iter().enumerate() {
            let totals = rows.totals(index);
            for (vector, sums) in sums.into_iter().enumerate() {
                let mut parts = sums.map(|sum| L::end(sum));
                if N <= CHAINED_ROWS_MAX {
                    for (part, odd) in parts.iter_mut().zip(odd_sums[index][vector]) {
                        *part = L::Vectors::add(*part, L::end(odd));
                    }
                }
                let high = without_offset::<L>(parts[0], totals[0]);
                let low = without_offset::<L>(parts[1], totals[1]);
                let sum = L::Vectors::multiply_add(high, L::Vectors::splat_float(256.0), low);
                let place = output + width * vector;
                let scales = L::Vectors::load_floats(scales.as_ptr().add(place));
                let row_scale = L::Vectors::splat_float(rows.scale(index));
                let scale = L::Vectors::multiply(scales, row_scale);
                let scaled = L::Vectors::multiply(sum, scale);
                L::Vectors::store_floats(tile[index].as_mut_ptr().add(place), scaled);
            }
        }
    }
}

/// Adds the products of `N` rows with the four inputs of one step.
///
/// # Safety
/// As [`int8_tile`], and the panel must have the step.
#[inline(always)]
unsafe fn int8_step<L: Lanes, const N: usize, const VECTORS: usize>(
    weights: &[u8],
    rows: Quantised<'_>,
    output: usize,
    step: usize,
    sums: &mut [[[L::Sums; 2]; VECTORS]; N],
) {
    let stride = rows.layout.len() * 4;
    let bytes: *const u8 = rows.data.as_ptr().cast();
    // SAFETY: inside the panel and inside the rows, by the caller's contract.
    unsafe {
        let place = weights.as_ptr().add(64 * step + 4 * output);
        // Even past the end: there the next panel begins.
        prefetch(place.wrapping_add(match N == L::SPLIT_ROWS {
            true => weights.len(),
            false => BYTES_AHEAD,
        }));
        let mut levels = [L::load_unsigned(place); VECTORS];
        for (vector, levels) in levels.iter_mut().enumerate() {
            *levels = L::load_unsigned(place.add(4 * L::Vectors::WIDTH * vector));
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            let [upper, lower] = split_four(bytes.add(row * stride + 8 * step));
            let [upper, lower] = [L::four_signed(upper), L::four_signed(lower)];
            for ([high, low], &levels) in sums.iter_mut().zip(&levels) {
                *high = L::add_products(*high, levels, upper);
                *low = L::add_products(*low, levels, lower);
            }
        }
    }
}

/// Subtracts the offset of 128 of the stored levels.
///
/// # Safety
/// The machine must have the instructions.
#[inline(always)]
unsafe fn without_offset<L: Lanes>(sum: Integers<L>, row_total: i32) -> Floats<L> {
    // SAFETY: the caller's contract.
    unsafe {
        let extra = L::Vectors::splat(row_total.wrapping_mul(L::OFFSET));
        L::Vectors::to_floats(L::Vectors::subtract(sum, extra))
    }
}

/// Micro-kernel: `N` rows by one vector (`VECTORS` is 1) of outputs from `output` on.
///
/// # Safety
/// The machine must have the instructions, and lengths must be as [`q4_panel`] checks them.
#[inline(always)]
unsafe fn q4_tile<L: Lanes, const N: usize, const VECTORS: usize>(
    blocks: &[u8],
    rows: Quantised<'_>,
    output: usize,
    tile: &mut [[f32; 16]],
) {
    let stride = rows.layout.len() * 4;
    let bytes: *const u8 = rows.data.as_ptr().cast();
    let group_sums: [&[i32]; N] = std::array::from_fn(|index| rows.sums(index));
    // SAFETY: a block is four lines of 64 bytes and 16 half-precision scales. Rows reach every
    // group, by the caller's contract; a row of the tile is 16 long.
    unsafe {
        let mask = L::Vectors::splat(0x0f0f_0f0f);
        let mut sums = [L::Vectors::splat_float(0.0); N];
        for (group, block) in blocks.chunks_exact(Q4_BLOCK).enumerate() {
            let ahead = match N == MR {
                true => blocks.len(),
                false => BYTES_AHEAD,
            };
            for line in 0..5 {
                prefetch(block.as_ptr().wrapping_add(ahead + 64 * line));
            }
            let mut levels = [L::Vectors::splat(0); 8];
            for line in 0..4 {
                let packed = L::Vectors::load(block.as_ptr().add(64 * line + 4 * output));
                levels[2 * line] = L::Vectors::and(packed, mask);
                levels[2 * line + 1] = L::Vectors::and(L::Vectors::shift_right(packed, 4), mask);
            }
            let scales = L::Vectors::load_halves(block.as_ptr().add(256 + 2 * output));
            for (index, sum) in sums.iter_mut().enumerate() {
                let row = bytes.add(index * stride + 64 * group);
                let both = L::products_of_small(&levels, row);
                // Stored levels are offset by 8.
                let extra = L::Vectors::splat(8 * group_sums[index][group]);
                let value = L::Vectors::to_floats(L::Vectors::subtract(both, extra));
                *sum = L::Vectors::add_floats(*sum, L::Vectors::multiply(value, scales));
            }
        }
        for (index, sum) in sums.into_iter().enumerate() {
            let scale = L::Vectors::splat_float(rows.scale(index));
            let place = tile[index].as_mut_ptr().add(output);
            L::Vectors::store_floats(place, L::Vectors::multiply(sum, scale));
        }
    }
}
