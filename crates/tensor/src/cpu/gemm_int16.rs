//! GEMM of activations in 16-bit integers with `Int8` and `Q4` weights, on machines with dot
//! product instructions.
//!
//! Each row is scaled so that its largest magnitude is 127 · 256 + 127, and split into two signed
//! bytes, high and low. The products are exact, and the rounding error of a row is far below that
//! of the weights. A row's result does not depend on other rows.

use super::gemm::{self, SharedOutput, finish};
use super::gemm_int8::Panels;
use super::lanes::{
    Floats, Integers, LaneSet, Lanes, Vectors, on_lanes, prefetch, split_four, unknown_zero,
    with_counts,
};
use super::rows;
use crate::matrix::{GROUP, Int8Parts, Matrix, NARROW_PANEL, PANEL, Precision, Q4_BLOCK};
use crate::operations::{Activation, Store};
use crate::threads::Threads;
use crate::view::{View, ViewMut};

/// Rows that are multiplied with a panel before the next panel: one pass over it serves as many
/// rows as fit the registers.
const ROWS: usize = 8;
/// Rows per task.
const MC: usize = 64;
/// Prefetch distance with fewer rows than fit the registers, whose time is that of reading weights;
/// with all of them the next panel is fetched during this one.
const BYTES_AHEAD: usize = 4096;
/// Largest 16-bit level: its high byte is 127 after rounding.
const LEVEL_MAX: f32 = 32_512.0;

/// Layout of a quantised row in scratch, in f32 units: bytes (four high ones, then the four low
/// ones of the same inputs, and so on), the initial values of the sums over 32 inputs each with
/// `Q4` weights, then the scale and the sums of the high and of the low bytes.
#[derive(Clone, Copy)]
struct RowLayout {
    /// Inputs, padded with zeros to a multiple of 64.
    inputs: usize,
}

impl RowLayout {
    fn of(inputs: usize) -> RowLayout {
        RowLayout {
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
    rows * RowLayout::of(inputs).len()
}

/// Quantised rows, one after the other.
#[derive(Clone, Copy)]
struct Quantised<'a> {
    data: &'a [f32],
    layout: RowLayout,
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

    /// Initial values of the sums over 32 inputs each.
    fn starts(&self, index: usize) -> &'a [i32] {
        let starts = &self.row(index)[self.layout.inputs / 2..][..self.layout.inputs / 32];
        bytemuck::cast_slice(starts)
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

/// `out = activation(x Wᵀ + bias)`, or added to its contents, for an `Int8` or `Q4` matrix.
#[allow(
    clippy::too_many_arguments,
    reason = "one fused product: operands, epilogue, output, scratch"
)]
pub(crate) fn multiply(
    set: LaneSet,
    threads: &Threads,
    x: View<'_>,
    weight: &Matrix,
    bias: Option<&[f32]>,
    activation: Activation,
    store: Store,
    out: ViewMut<'_>,
    scratch: &mut [f32],
) {
    let layout = RowLayout::of(weight.columns());
    let count = x.row_count();
    let mut quantised = ViewMut::new(scratch, count, layout.len());
    rows::for_each(threads, &mut quantised, |row, out| {
        quantise(set, x.row(row), layout, out);
    });
    let scratch = &*scratch;
    let panels = weight.rows().div_ceil(NARROW_PANEL);
    let out = SharedOutput::of(out);
    gemm::for_each_part(threads, count, MC, panels, |rows, panels| {
        // With one row two panels would only make memory's streams shorter.
        let together = match weight.precision() {
            Precision::Int8 if rows.len() > 1 => 2,
            _ => 1,
        };
        for panel in panels.clone().step_by(together) {
            let width = NARROW_PANEL * together.min(panels.end - panel);
            let column = NARROW_PANEL * panel;
            let valid = width.min(weight.rows() - column);
            for first in rows.clone().step_by(ROWS) {
                let count = ROWS.min(rows.end - first);
                let mut tile = [[0.0; PANEL]; ROWS];
                let rows = Quantised {
                    data: &scratch[first * layout.len()..(first + count) * layout.len()],
                    layout,
                };
                panel_product(set, weight, panel, width, rows, count, &mut tile);
                for (index, tile) in tile.iter_mut().take(count).enumerate() {
                    // SAFETY: each task has its own rows and panels.
                    let out = unsafe { out.row(first + index, column, valid) };
                    let bias = bias.map(|bias| &bias[column..column + valid]);
                    finish(&mut tile[..valid], bias, activation, store, out);
                }
            }
        }
    });
}

/// Products of rows with `width` outputs: those of a panel, or with `Int8` of two.
fn panel_product(
    set: LaneSet,
    weight: &Matrix,
    panel: usize,
    width: usize,
    rows: Quantised<'_>,
    count: usize,
    tile: &mut [[f32; PANEL]; ROWS],
) {
    let data = weight.packed_bytes();
    match weight.precision() {
        Precision::Int8 => {
            let parts = Int8Parts::of(data, weight.padded_rows());
            let panel_bytes = weight.columns().next_multiple_of(4) * NARROW_PANEL;
            let panels = Panels {
                weights: &parts.weights[panel * panel_bytes..],
                panel_bytes,
                scales: &parts.scales[panel * NARROW_PANEL..][..width],
            };
            int8_panels(set, panels, rows, count, tile);
        }
        Precision::Q4 => {
            let bytes = weight.columns().div_ceil(GROUP) * Q4_BLOCK;
            let blocks = &data[panel * bytes..][..bytes];
            q4_panel(set, blocks, rows, count, tile);
        }
        other => unreachable!("{other} has no integer product"),
    }
}

on_lanes! {
    /// Quantises a row and splits its levels into bytes.
    fn quantise<L>(row: &[f32], layout: RowLayout, out: &mut [f32]) {
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
            let (starts, last) = rest.split_at_mut(layout.inputs / 32);
            let (mut all, mut high_total) = (0_i32, L::Vectors::splat(0));
            for (group, start) in starts.iter_mut().enumerate() {
                let mut total = L::Vectors::splat(0);
                let values = rows::zero_padded(row, 32 * group, &mut end).as_ptr();
                let place = bytes[16 * group..][..16].as_mut_ptr();
                for input in (0..32).step_by(L::Vectors::WIDTH) {
                    let values = L::Vectors::load_floats(values.add(input));
                    let scaled = L::Vectors::multiply(values, L::Vectors::splat_float(inverse));
                    // NaN becomes 0: no weight could turn it into a number.
                    let levels = L::Vectors::round_or_zero(scaled);
                    let nearest = L::Vectors::add(levels, L::Vectors::splat(128));
                    let upper = L::Vectors::shift_right_signed(nearest, 8);
                    total = L::Vectors::add(total, levels);
                    high_total = L::Vectors::add(high_total, upper);
                    // The low byte without the 128 that were added to round.
                    let bytes = L::Vectors::exclusive_or(nearest, L::Vectors::splat(128));
                    L::Vectors::store_split(place.add(input / 2).cast(), bytes);
                }
                let total = L::Vectors::sum(total);
                all = all.wrapping_add(total);
                // Stored levels are offset by 8.
                *start = f32::from_bits((total * -8) as u32);
            }
            let high = L::Vectors::sum(high_total);
            let low = all.wrapping_sub(high.wrapping_mul(256));
            last[0] = scale;
            last[1] = f32::from_bits(high as u32);
            last[2] = f32::from_bits(low as u32);
        }
    }

    /// Products of rows with one or two `Int8` panels in whole steps of 64 bytes.
    fn int8_panels<L>(
        panels: Panels<'_>,
        rows: Quantised<'_>,
        count: usize,
        tile: &mut [[f32; PANEL]; ROWS],
    ) {
        let width = panels.scales.len();
        assert!(width == NARROW_PANEL || width == PANEL);
        assert!(count <= ROWS && rows.data.len() >= count * rows.layout.len());
        assert!(panels.panel_bytes.is_multiple_of(64));
        assert!(panels.weights.len() >= width / NARROW_PANEL * panels.panel_bytes);
        assert!(rows.layout.inputs >= panels.panel_bytes / 16);
        let vectors = L::VECTORS.min(width / L::Vectors::WIDTH);
        let outputs = vectors * L::Vectors::WIDTH;
        let most = match outputs > NARROW_PANEL {
            true => L::WIDE_SPLIT_ROWS,
            false => L::SPLIT_ROWS,
        };
        // Passes of equal height, of which each fetches its share of what comes next.
        let passes = count.div_ceil(most).max(1);
        let height = count.div_ceil(passes).max(1);
        for output in (0..width).step_by(outputs) {
            for (pass, first) in (0..count).step_by(height).enumerate() {
                let count = (count - first).min(height);
                let fetch = match passes {
                    1 => Fetch { ahead: BYTES_AHEAD, mask: 0, turn: 0 },
                    _ => Fetch {
                        ahead: panels.panel_bytes * outputs.div_ceil(NARROW_PANEL),
                        mask: passes.next_power_of_two() - 1,
                        turn: pass,
                    },
                };
                let (rows, tile) = (rows.from(first), &mut tile[first..first + count]);
                // SAFETY: the caller has the instructions; the lengths were checked.
                unsafe {
                    with_counts!(count, vectors, [1 2 3 4 5 6 7 8],
                        int8_tile::<L>(&panels, rows, output, fetch, tile));
                }
            }
        }
    }

    /// Products of rows with a `Q4` panel, in whole blocks.
    fn q4_panel<L>(
        blocks: &[u8],
        rows: Quantised<'_>,
        count: usize,
        tile: &mut [[f32; PANEL]; ROWS],
    ) {
        assert!(count <= ROWS && rows.data.len() >= count * rows.layout.len());
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

/// Prefetching during a pass over weights: `ahead` bytes from each step whose number, masked, is
/// `turn`.
#[derive(Clone, Copy)]
struct Fetch {
    ahead: usize,
    mask: usize,
    turn: usize,
}

/// Micro-kernel: `N` rows by the outputs `output..output + VECTORS · WIDTH` of the panels.
///
/// # Safety
/// The machine must have the instructions, and lengths must be as [`int8_panels`] checks them.
#[inline(always)]
unsafe fn int8_tile<L: Lanes, const N: usize, const VECTORS: usize>(
    panels: &Panels<'_>,
    rows: Quantised<'_>,
    output: usize,
    fetch: Fetch,
    tile: &mut [[f32; PANEL]],
) {
    let stride = rows.layout.len() * 4;
    let bytes: *const u8 = rows.data.as_ptr().cast();
    let width = L::Vectors::WIDTH;
    // SAFETY: inside the panels and inside the rows, by the caller's contract; a row of the tile is
    // as long as two panels are wide.
    unsafe {
        let mut places = [panels.weights.as_ptr(); VECTORS];
        for (vector, place) in places.iter_mut().enumerate() {
            let output = output + width * vector;
            let (panel, lane) = (output / NARROW_PANEL, output % NARROW_PANEL);
            *place = place.add(panel * panels.panel_bytes + 4 * lane);
        }
        let mut sums = [[[L::begin(unknown_zero()); 2]; VECTORS]; N];
        for step in 0..panels.panel_bytes / 64 {
            if step & fetch.mask == fetch.turn {
                // Even past the end: there the next panels begin. A line holds a panel's step.
                for place in places.iter().step_by(NARROW_PANEL.div_ceil(width)) {
                    prefetch(place.wrapping_add(64 * step + fetch.ahead));
                }
            }
            let mut levels = [L::load_unsigned(places[0].add(64 * step)); VECTORS];
            for (levels, place) in levels.iter_mut().zip(places) {
                *levels = L::load_unsigned(place.add(64 * step));
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
        for (index, sums) in sums.into_iter().enumerate() {
            let totals = rows.totals(index);
            for (vector, [high, low]) in sums.into_iter().enumerate() {
                let high = without_offset::<L>(L::end(high), totals[0]);
                let low = without_offset::<L>(L::end(low), totals[1]);
                let sum = L::Vectors::multiply_add(high, L::Vectors::splat_float(256.0), low);
                let place = output + width * vector;
                let scales = L::Vectors::load_floats(panels.scales.as_ptr().add(place));
                let row_scale = L::Vectors::splat_float(rows.scale(index));
                let scale = L::Vectors::multiply(scales, row_scale);
                let scaled = L::Vectors::multiply(sum, scale);
                L::Vectors::store_floats(tile[index].as_mut_ptr().add(place), scaled);
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
    tile: &mut [[f32; PANEL]; ROWS],
) {
    let stride = rows.layout.len() * 4;
    let bytes: *const u8 = rows.data.as_ptr().cast();
    let starts: [&[i32]; N] = std::array::from_fn(|index| rows.starts(index));
    // SAFETY: a block is four lines of 64 bytes and 16 half-precision scales. Rows reach every
    // group, by the caller's contract; a row of the tile is longer than a panel is wide.
    unsafe {
        let mask = L::Vectors::splat(0x0f0f_0f0f);
        let mut sums = [L::Vectors::splat_float(0.0); N];
        for (group, block) in blocks.chunks_exact(Q4_BLOCK).enumerate() {
            let ahead = match N == ROWS {
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
                let start = L::Vectors::splat(starts[index][group]);
                let value = L::Vectors::to_floats(L::products_of_small(start, &levels, row));
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
