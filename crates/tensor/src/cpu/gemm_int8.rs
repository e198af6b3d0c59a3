//! GEMM of activations in 8-bit integers with `Int8` weights. A dot product instruction multiplies
//! four at once, a quarter of the instructions of 32-bit arithmetic, which pays off where many rows
//! make arithmetic the bottleneck.
//!
//! Each row has one scale per group of inputs, so that a large value coarsens only its neighbours.
//! A row's result does not depend on other rows.

use super::gemm::{self, MC, MR, OutputTile, SharedOutput};
use super::instruction_set::InstructionSet;
use super::lanes::{Lanes, Vectors, largest_magnitude, on_lanes, with_counts};
use super::rows;
use crate::matrix::{Int8Parts, Matrix, NARROW_PANEL, PANEL};
use crate::operations::{Activation, Store};
use crate::threads::Threads;
use crate::view::{View, ViewMut};
use std::ops::Range;

/// Inputs that share a scale: 32 products between two conversions to f32.
pub(crate) const GROUP_INPUTS: usize = 128;
/// Inputs of a row's last group, if they are not as many.
const HALF_GROUP: usize = 64;
/// KC: inputs whose weights of a wide panel stay in the L1 cache (16 KiB) during all rows of a
/// task.
const KC: usize = 4 * GROUP_INPUTS;
/// Largest level.
const LEVEL_MAX: f32 = 127.0;

/// Layout of a quantised row in scratch, in f32 units: levels as signed bytes, then for each group
/// the initial value of its sums and its scale.
#[derive(Clone, Copy)]
pub(crate) struct RowLayout {
    /// Inputs, padded with zeros to a multiple of 64.
    inputs: usize,
}

impl RowLayout {
    pub(crate) fn of(inputs: usize) -> RowLayout {
        RowLayout {
            inputs: inputs.next_multiple_of(64),
        }
    }

    /// A whole number of cache lines.
    pub(crate) fn len(self) -> usize {
        (self.inputs / 4 + 2 * self.groups()).next_multiple_of(16)
    }

    fn groups(self) -> usize {
        self.inputs.div_ceil(GROUP_INPUTS)
    }
}

/// f32 elements of scratch for `rows` rows of `inputs`.
pub(crate) fn scratch(rows: usize, inputs: usize) -> usize {
    rows * RowLayout::of(inputs).len()
}

on_lanes! {
    /// Quantises a row.
    pub(crate) fn round_row<L>(row: &[f32], layout: RowLayout, out: &mut [f32]) {
        assert!(row.len() <= layout.inputs && out.len() == layout.len());
        let (bytes, groups) = out.split_at_mut(layout.inputs / 4);
        let groups = groups.as_chunks_mut::<2>().0;
        for (group, out) in groups.iter_mut().enumerate().take(layout.groups()) {
            let first = group * GROUP_INPUTS;
            let count = GROUP_INPUTS.min(layout.inputs - first);
            let bytes = &mut bytes[first / 4..(first + count) / 4];
            let place: *mut u8 = bytes.as_mut_ptr().cast();
            let values = row.get(first..).unwrap_or_default();
            // SAFETY: the caller has the instructions. A group is 128 or 64 inputs, of which
            // `values` has all or a padded copy has them; as many bytes are written.
            *out = unsafe {
                match count {
                    GROUP_INPUTS if values.len() >= GROUP_INPUTS => {
                        round_group::<L>(values.as_ptr(), GROUP_INPUTS, place)
                    }
                    HALF_GROUP if values.len() >= HALF_GROUP => {
                        round_group::<L>(values.as_ptr(), HALF_GROUP, place)
                    }
                    _ => {
                        let mut last = [0.0; GROUP_INPUTS];
                        let values = rows::zero_padded(row, first, &mut last);
                        round_group::<L>(values.as_ptr(), count, place)
                    }
                }
            };
        }
    }

    /// Products of up to [`MR`] rows with one or two panels.
    pub(crate) fn accumulate<L>(rows: Rows<'_>, panels: Panels<'_>, sums: Sums<'_>) {
        let width = panels.scales.len();
        let count = rows.count;
        if count == 0 || rows.quads == 0 {
            return;
        }
        assert!(count <= MR && (width == NARROW_PANEL || width == PANEL));
        assert!(rows.data.len() >= count * rows.layout.len());
        assert!(rows.first_input.is_multiple_of(GROUP_INPUTS));
        assert!(rows.first_input + 4 * rows.quads <= rows.layout.inputs);
        let last_panel = (width / NARROW_PANEL - 1) * panels.panel_bytes;
        assert!(panels.weights.len() >= last_panel + rows.quads * 64);
        assert!(sums.data.len() >= (count - 1) * sums.stride + width && sums.stride >= width);
        let vectors = L::VECTORS.min(width / L::Vectors::WIDTH);
        for output in (0..width).step_by(vectors * L::Vectors::WIDTH) {
            for first in (0..count).step_by(L::ROWS) {
                let count = (count - first).min(L::ROWS);
                let place = Tile { first, output };
                // SAFETY: the caller has the instructions; the lengths were checked.
                unsafe {
                    with_counts!(count, vectors, [1 2 3 4 5 6 7 8 9 10 11 12],
                        tile::<L>(&rows, &panels, sums.data, sums.stride, sums.add, place));
                }
            }
        }
    }
}

/// The inverse of a scale; 0 for values so small that it would be infinite.
pub(crate) fn inverse_of(scale: f32) -> f32 {
    if scale.is_normal() { 1.0 / scale } else { 0.0 }
}

/// Quantises `count` inputs to bytes at `place`. Returns the initial value of their sums and their
/// scale.
///
/// # Safety
/// The machine must have the instructions. `count` values, a multiple of 16, must lie at `values`,
/// and as many bytes at `place`.
#[inline(always)]
unsafe fn round_group<L: Lanes>(values: *const f32, count: usize, place: *mut u8) -> [f32; 2] {
    // SAFETY: the caller's contract.
    unsafe {
        let scale = largest_magnitude::<L::Vectors>(values, count) / LEVEL_MAX;
        let inverse = L::Vectors::splat_float(inverse_of(scale));
        let mut total = L::Vectors::splat(0);
        for input in (0..count).step_by(L::Vectors::WIDTH) {
            let values = L::Vectors::load_floats(values.add(input));
            // NaN becomes 0: no weight could turn it into a number.
            let levels = L::Vectors::round_or_zero(L::Vectors::multiply(values, inverse));
            total = L::Vectors::add(total, levels);
            L::Vectors::store_bytes(place.add(input), levels);
        }
        // Stored weights are offset by 128.
        let start = L::Vectors::sum(total).wrapping_mul(-L::OFFSET);
        [f32::from_bits(start as u32), scale]
    }
}

/// The scale of a row with a single group, and its levels in groups of four.
pub(crate) fn parts(rounded: &[f32], layout: RowLayout) -> (f32, &[u32]) {
    let (levels, groups) = rounded.split_at(layout.inputs / 4);
    (groups[1], bytemuck::cast_slice(levels))
}

/// Weights of one or two neighbouring panels of 16 outputs, `[panel][input / 4][output][input %
/// 4]`, as levels offset by 128.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    /// Weights from the first panel on.
    pub(crate) weights: &'a [u8],
    /// Bytes from one panel to the next.
    pub(crate) panel_bytes: usize,
    /// One scale per output, as many as the panels are wide.
    pub(crate) scales: &'a [f32],
}

/// Quantised rows, and the range of inputs to multiply, in groups of four; the range starts at a
/// multiple of [`GROUP_INPUTS`].
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) layout: RowLayout,
    pub(crate) count: usize,
    pub(crate) first_input: usize,
    pub(crate) quads: usize,
}

/// Rows of sums, as wide as the panels; with `add`, the products are added to their contents.
pub(crate) struct Sums<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) add: bool,
}

/// Origin of a tile.
#[derive(Clone, Copy)]
struct Tile {
    first: usize,
    output: usize,
}

/// Micro-kernel: `ROWS` rows by `VECTORS` vectors of outputs.
///
/// # Safety
/// The machine must have the instructions, and lengths must be as [`accumulate`] checks them.
#[inline(always)]
unsafe fn tile<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    rows: &Rows<'_>,
    panels: &Panels<'_>,
    sums: &mut [f32],
    sums_stride: usize,
    mut add: bool,
    Tile { first, output }: Tile,
) {
    let width = L::Vectors::WIDTH;
    let layout = rows.layout;
    let stride = layout.len();
    let group_quads = GROUP_INPUTS / 4;
    let first_group = rows.first_input / GROUP_INPUTS;
    // SAFETY: all addresses are inside the slices, by the caller's contract.
    unsafe {
        let data = rows.data.as_ptr().add(first * stride);
        let starts = data.add(layout.inputs / 4);
        let levels = data.add(rows.first_input / 4);
        let out = sums.as_mut_ptr().add(first * sums_stride + output);
        let mut places = [panels.weights.as_ptr(); VECTORS];
        for (vector, place) in places.iter_mut().enumerate() {
            let output = output + width * vector;
            let (panel, lane) = (output / NARROW_PANEL, output % NARROW_PANEL);
            *place = place.add(panel * panels.panel_bytes + 4 * lane);
        }
        for group in 0..rows.quads.div_ceil(group_quads) {
            let first = group * group_quads;
            let numbers = starts.add(2 * (first_group + group));
            let mut totals = [[L::begin(0); VECTORS]; ROWS];
            for (row, totals) in totals.iter_mut().enumerate() {
                let start = numbers.add(row * stride).cast::<i32>().read();
                *totals = [L::begin(start); VECTORS];
            }
            for quad in first..rows.quads.min(first + group_quads) {
                let mut weights = [L::load_unsigned(places[0].add(64 * quad)); VECTORS];
                for (weights, place) in weights.iter_mut().zip(places) {
                    *weights = L::load_unsigned(place.add(64 * quad));
                }
                for (row, totals) in totals.iter_mut().enumerate() {
                    let four = levels.add(row * stride + quad).cast::<i32>().read();
                    let four = L::four_signed(four);
                    for (total, &weights) in totals.iter_mut().zip(&weights) {
                        *total = L::add_products(*total, weights, four);
                    }
                }
            }
            for (row, totals) in totals.iter().enumerate() {
                let scale = L::Vectors::splat_float(numbers.add(row * stride + 1).read());
                for (vector, &total) in totals.iter().enumerate() {
                    let place = out.add(row * sums_stride + width * vector);
                    let scales = panels.scales.as_ptr().add(output + width * vector);
                    let total = L::Vectors::to_floats(L::end(total));
                    let value = L::Vectors::multiply(total, L::Vectors::load_floats(scales));
                    let before = match add {
                        true => L::Vectors::load_floats(place),
                        false => L::Vectors::splat_float(0.0),
                    };
                    let sum = L::Vectors::multiply_add(value, scale, before);
                    L::Vectors::store_floats(place, sum);
                }
            }
            add = true;
        }
    }
}

/// `out = activation(x Wᵀ + bias)`, or added to its contents, for an `Int8` matrix.
#[allow(
    clippy::too_many_arguments,
    reason = "one fused product: operands, epilogue, output, scratch"
)]
pub(crate) fn multiply(
    set: InstructionSet,
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
    let mut rounded = ViewMut::new(scratch, x.row_count(), layout.len());
    rows::for_each(threads, &mut rounded, |row, out| {
        round_row(set, x.row(row), layout, out);
    });
    let product = RoundedProduct {
        set,
        rounded: scratch,
        layout,
        weight,
        bias,
        activation,
        store,
    };
    product.multiply(threads, out);
}

/// `activation(A Wᵀ + bias)` of quantised rows A.
pub(crate) struct RoundedProduct<'a> {
    pub(crate) set: InstructionSet,
    pub(crate) rounded: &'a [f32],
    pub(crate) layout: RowLayout,
    pub(crate) weight: &'a Matrix,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) activation: Activation,
    pub(crate) store: Store,
}

impl RoundedProduct<'_> {
    /// All rows of `out`, on all threads.
    pub(crate) fn multiply(&self, threads: &Threads, out: ViewMut<'_>) {
        let (count, panels) = (out.row_count(), self.weight.rows().div_ceil(PANEL));
        let out = SharedOutput::of(out);
        gemm::for_each_part(threads, count, MC, panels, |rows, panels| {
            self.multiply_part(rows, panels, &out);
        });
    }

    /// Up to [`MC`] rows by some panels, on the calling thread.
    pub(crate) fn multiply_part(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        out: &SharedOutput<'_>,
    ) {
        let mut tiles = [0.0; MC * PANEL];
        for panel in panels {
            self.multiply_panel(panel, rows.clone(), &mut tiles, out);
            let column = panel * PANEL;
            let columns = PANEL.min(self.weight.rows() - column);
            let bias = (self.bias).map(|bias| &bias[column..column + columns]);
            let place = OutputTile {
                rows: rows.clone(),
                column,
                columns,
            };
            gemm::finish_rows(&mut tiles, bias, self.activation, self.store, out, place);
        }
    }

    /// Products of rows with one wide panel, in tiles; meanwhile the output's lines are fetched.
    fn multiply_panel(
        &self,
        panel: usize,
        rows: Range<usize>,
        tiles: &mut [f32],
        out: &SharedOutput<'_>,
    ) {
        let (weight, layout) = (self.weight, self.layout);
        let parts = Int8Parts::of(weight.packed_bytes(), weight.padded_rows());
        let inputs = weight.columns().next_multiple_of(4);
        let first_output = panel * PANEL;
        let width = PANEL.min(weight.padded_rows() - first_output);
        // Tiles of equal height: a short last tile would wait for its weights.
        let tile_rows = rows.len().div_ceil(rows.len().div_ceil(MR).max(1)).max(1);
        for first_input in (0..inputs).step_by(KC) {
            let panels = Panels {
                weights: &parts.weights[first_output * inputs + first_input * NARROW_PANEL..],
                panel_bytes: NARROW_PANEL * inputs,
                scales: &parts.scales[first_output..first_output + width],
            };
            for (tile, row) in rows.clone().step_by(tile_rows).enumerate() {
                if first_input == 0 {
                    out.prefetch(row..rows.end.min(row + tile_rows), first_output);
                }
                let rows = Rows {
                    data: &self.rounded[row * layout.len()..],
                    layout,
                    count: tile_rows.min(rows.end - row),
                    first_input,
                    quads: KC.min(inputs - first_input) / 4,
                };
                let sums = Sums {
                    data: &mut tiles[tile * tile_rows * PANEL..],
                    stride: PANEL,
                    add: first_input > 0,
                };
                accumulate(self.set, rows, panels, sums);
            }
        }
    }
}
