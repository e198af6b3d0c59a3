//! GEMM of activations in 8-bit integers with `Int8` weights. A dot product instruction multiplies
//! four at once, a quarter of the instructions of 32-bit arithmetic, which pays off where many rows
//! make arithmetic the bottleneck.
//!
//! Each row has one scale per group of inputs, so that a large value coarsens only its neighbours.
//! A row's result does not depend on other rows.

use super::gemm::{InitialSum, TileKernel};
use super::gemm_f32::MR;
use super::instruction_set::InstructionSet;
use super::lanes::{Lanes, Vectors, largest_magnitude, on_lanes, with_counts};
use super::rows;
use crate::matrix::{Int8Parts, Matrix, NARROW_PANEL, PANEL};
use crate::threads::Threads;
use crate::view::{View, ViewMut};
use std::ops::Range;

/// Inputs that share a scale: 32 products between two conversions to f32.
pub(crate) const GROUP_INPUTS: usize = 128;
/// Inputs of a row's last group, if they are not as many.
const HALF_GROUP: usize = 64;
/// MC: rows of a task.
pub(crate) const MC: usize = 8 * MR;
/// KC: inputs whose weights of a wide panel stay in the L1 cache (16 KiB) during all rows of a
/// task.
const KC: usize = 4 * GROUP_INPUTS;
/// Largest level.
const LEVEL_MAX: f32 = 127.0;

/// Layout of a quantised row in scratch, in f32 units: levels as signed bytes, then for each group
/// the initial value of its sums and its scale.
#[derive(Clone, Copy)]
pub(crate) struct RowLayoutInt8 {
    /// Inputs, padded with zeros to a multiple of 64.
    inputs: usize,
}

impl RowLayoutInt8 {
    pub(crate) fn of(inputs: usize) -> RowLayoutInt8 {
        RowLayoutInt8 {
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
    rows * RowLayoutInt8::of(inputs).len()
}

on_lanes! {
    /// Quantises a row.
    pub(crate) fn round_row<L>(row: &[f32], layout: RowLayoutInt8, out: &mut [f32]) {
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

    /// Products of up to [`MR`] rows with panels.
    pub(crate) fn accumulate<L>(rows: RowsInt8<'_>, panels: PanelsInt8<'_>, sums: Sums<'_>) {
        let width = panels.scales.len();
        let count = rows.count;
        if count == 0 || rows.quads == 0 {
            return;
        }
        assert!(count <= MR && width > 0 && width.is_multiple_of(NARROW_PANEL));
        assert!(rows.data.len() >= count * rows.layout.len());
        assert!(rows.first_input.is_multiple_of(GROUP_INPUTS));
        assert!(rows.first_input + 4 * rows.quads <= rows.layout.inputs);
        let last_panel = (width / NARROW_PANEL - 1) * panels.panel_bytes;
        assert!(panels.weights.len() >= last_panel + rows.quads * 64);
        assert!(sums.data.len() >= (count - 1) * sums.stride + width && sums.stride >= width);
        for output in (0..width).step_by(L::VECTORS * L::Vectors::WIDTH) {
            let vectors = L::VECTORS.min((width - output) / L::Vectors::WIDTH);
            for first in (0..count).step_by(L::ROWS) {
                let count = (count - first).min(L::ROWS);
                let place = Tile { first, output };
                // SAFETY: the caller has the instructions; the lengths were checked.
                unsafe {
                    with_counts!(count, vectors, [1 2 3 4 5 6 7 8 9 10 11 12],
                        tile::<L>(&rows, &panels, sums.data, sums.stride, sums.initial, place));
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
pub(crate) fn parts(rounded: &[f32], layout: RowLayoutInt8) -> (f32, &[u32]) {
    let (levels, groups) = rounded.split_at(layout.inputs / 4);
    (groups[1], bytemuck::cast_slice(levels))
}

/// Weights of neighbouring panels of 16 outputs, `[panel][input / 4][output][input % 4]`, as levels
/// offset by 128.
#[derive(Clone, Copy)]
pub(crate) struct PanelsInt8<'a> {
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
pub(crate) struct RowsInt8<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) layout: RowLayoutInt8,
    pub(crate) count: usize,
    pub(crate) first_input: usize,
    pub(crate) quads: usize,
}

/// Rows of sums, as wide as the panels.
pub(crate) struct Sums<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) initial: InitialSum,
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
    rows: &RowsInt8<'_>,
    panels: &PanelsInt8<'_>,
    sums: &mut [f32],
    sums_stride: usize,
    mut initial: InitialSum,
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
                    let before = match initial {
                        InitialSum::Tile => L::Vectors::load_floats(place),
                        InitialSum::Zero => L::Vectors::splat_float(0.0),
                    };
                    let sum = L::Vectors::multiply_add(value, scale, before);
                    L::Vectors::store_floats(place, sum);
                }
            }
            initial = InitialSum::Tile;
        }
    }
}

/// A product of quantised rows with an `Int8` matrix.
pub(crate) struct Int8Kernel<'a> {
    set: InstructionSet,
    quantised: &'a [f32],
    count: usize,
    layout: RowLayoutInt8,
    weight: &'a Matrix,
}

impl<'a> Int8Kernel<'a> {
    /// A product of `count` rows that are quantised already, one after the other.
    pub(crate) fn new(
        set: InstructionSet,
        quantised: &'a [f32],
        count: usize,
        weight: &'a Matrix,
    ) -> Self {
        Int8Kernel {
            set,
            quantised,
            count,
            layout: RowLayoutInt8::of(weight.columns()),
            weight,
        }
    }

    /// Quantises rows in scratch first.
    pub(crate) fn quantise(
        set: InstructionSet,
        threads: &Threads,
        x: View<'_>,
        weight: &'a Matrix,
        scratch: &'a mut [f32],
    ) -> Self {
        let (count, layout) = (x.row_count(), RowLayoutInt8::of(weight.columns()));
        let mut quantised = ViewMut::new(scratch, count, layout.len());
        rows::for_each(threads, &mut quantised, |row, out| {
            round_row(set, x.row(row), layout, out);
        });
        Int8Kernel::new(set, scratch, count, weight)
    }

    /// Inputs, padded to whole groups of four.
    fn inputs(&self) -> usize {
        self.weight.columns().next_multiple_of(4)
    }
}

/// Weights of a wide panel for one KC block of inputs.
pub(crate) struct BlockInt8<'b> {
    panels: PanelsInt8<'b>,
    first_input: usize,
}

impl TileKernel for Int8Kernel<'_> {
    const MR: usize = MR;
    const MC: usize = MC;
    const NR: usize = PANEL;
    type Buffer = ();
    type PanelBlock<'b>
        = BlockInt8<'b>
    where
        Self: 'b;

    fn rows(&self) -> usize {
        self.count
    }

    fn outputs(&self) -> usize {
        self.weight.rows()
    }

    fn blocks(&self) -> usize {
        self.inputs().div_ceil(KC)
    }

    fn buffer(&self, _: usize) {}

    fn block<'b>(&'b self, panel: usize, block: usize, (): &'b mut ()) -> BlockInt8<'b> {
        let (inputs, padded) = (self.inputs(), self.weight.padded_rows());
        let parts = Int8Parts::of(self.weight.packed_bytes(), padded);
        let (first_output, first_input) = (panel * PANEL, block * KC);
        let width = PANEL.min(padded - first_output);
        let panels = PanelsInt8 {
            weights: &parts.weights[first_output * inputs + first_input * NARROW_PANEL..],
            panel_bytes: NARROW_PANEL * inputs,
            scales: &parts.scales[first_output..first_output + width],
        };
        BlockInt8 {
            panels,
            first_input,
        }
    }

    fn multiply_tile(
        &self,
        block: &BlockInt8<'_>,
        rows: Range<usize>,
        initial: InitialSum,
        tile: &mut [f32],
    ) {
        let BlockInt8 {
            panels,
            first_input,
        } = *block;
        let rows = RowsInt8 {
            data: &self.quantised[rows.start * self.layout.len()..],
            layout: self.layout,
            count: rows.len(),
            first_input,
            quads: KC.min(self.inputs() - first_input) / 4,
        };
        let sums = Sums {
            data: tile,
            stride: PANEL,
            initial,
        };
        accumulate(self.set, rows, panels, sums);
    }
}
