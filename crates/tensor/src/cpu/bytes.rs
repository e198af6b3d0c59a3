//! Products of rows in 8-bit integers with 8-bit weights, four at once: a quarter of the instructions of 32-bit arithmetic, where many rows
//! make arithmetic what takes time. On AVX-512 with VNNI.
//!
//! Each row is scaled by groups of inputs, so that a large value coarsens only its neighbours. A row's result depends on no other row.

use super::gemm::{self, CHUNK_ROWS, Place, SharedOutput, TILE_ROWS};
use super::{integer, rows};
use crate::matrix::{Int8Parts, Matrix, NARROW_PANEL, PANEL};
use crate::operations::{Activation, Store};
use crate::tensor::{View, ViewMut};
use crate::threads::Threads;

/// Inputs that share a scale: 32 products between two conversions.
pub(crate) const GROUP_INPUTS: usize = 128;
/// Inputs whose weights of a wide panel stay in the first cache (16 KiB) while all rows of a task meet them.
const STRETCH: usize = 4 * GROUP_INPUTS;
/// Largest level.
const LEVEL_MAX: f32 = 127.0;

/// How a rounded row lies in scratch, in f32 units: levels as signed bytes, then for each group what its sums start with and its scale.
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

/// Scales and rounds a row.
pub(crate) fn round_row(row: &[f32], layout: RowLayout, out: &mut [f32]) {
    assert!(row.len() <= layout.inputs && out.len() == layout.len() && integer::available());
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instructions are there, and the lengths were checked.
    unsafe {
        x86::round_row(row, layout, out);
    }
}

/// The scale of a row of a single group, and its levels by fours.
pub(crate) fn parts(rounded: &[f32], layout: RowLayout) -> (f32, &[u32]) {
    let (levels, groups) = rounded.split_at(layout.inputs / 4);
    (groups[1], bytemuck::cast_slice(levels))
}

/// Weights of one or two neighbouring panels of 16 outputs, `[panel][input / 4][output][input % 4]`, levels with 128 added.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    /// From the first panel on.
    pub(crate) weights: &'a [u8],
    /// Bytes from panel to panel.
    pub(crate) panel_bytes: usize,
    /// A scale an output, as many as the panels are wide.
    pub(crate) scales: &'a [f32],
}

/// Rounded rows, one after the other, and the inputs that are to be multiplied: a multiple of [`GROUP_INPUTS`] to begin with, quads in number.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) layout: RowLayout,
    pub(crate) count: usize,
    pub(crate) first_input: usize,
    pub(crate) quads: usize,
}

/// Rows of sums, as wide as the panels; with `add`, on top of what they hold.
pub(crate) struct Sums<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) add: bool,
}

/// Products of up to [`TILE_ROWS`] rows with one or two panels.
pub(crate) fn accumulate(rows: Rows<'_>, panels: Panels<'_>, sums: Sums<'_>) {
    let width = panels.scales.len();
    let count = rows.count;
    if count == 0 || rows.quads == 0 {
        return;
    }
    assert!(
        count <= TILE_ROWS && (width == NARROW_PANEL || width == PANEL) && integer::available()
    );
    assert!(rows.data.len() >= count * rows.layout.len());
    assert!(rows.first_input.is_multiple_of(GROUP_INPUTS));
    assert!(rows.first_input + 4 * rows.quads <= rows.layout.inputs);
    let last_panel = (width / NARROW_PANEL - 1) * panels.panel_bytes;
    assert!(panels.weights.len() >= last_panel + rows.quads * 64);
    assert!(sums.data.len() >= (count - 1) * sums.stride + width && sums.stride >= width);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instructions are there, and the lengths were checked.
    unsafe {
        x86::accumulate(rows, panels, sums);
    }
}

/// `out = activation(x Wᵀ + bias)` or added to what it held, for an `Int8` matrix.
#[allow(
    clippy::too_many_arguments,
    reason = "one fused product: operands, epilogue, output, scratch"
)]
pub(crate) fn multiply(
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
    let mut rounded = ViewMut::new(scratch, count, layout.len());
    rows::for_each(threads, &mut rounded, |row, out| {
        round_row(x.row(row), layout, out);
    });
    let scratch = &*scratch;
    let panels = weight.rows().div_ceil(PANEL);
    let out = SharedOutput::of(out);
    gemm::for_each_part(threads, count, CHUNK_ROWS, panels, |rows, panels| {
        let mut tiles = [0.0; CHUNK_ROWS * PANEL];
        for panel in panels {
            multiply_panel(weight, panel, scratch, layout, rows.clone(), &mut tiles);
            let column = panel * PANEL;
            let columns = PANEL.min(weight.rows() - column);
            let bias = bias.map(|bias| &bias[column..column + columns]);
            let place = Place {
                rows: rows.clone(),
                column,
                columns,
            };
            gemm::finish_rows(&mut tiles, bias, activation, store, &out, place);
        }
    });
}

/// Products of rounded rows with one wide panel, in tiles.
fn multiply_panel(
    weight: &Matrix,
    panel: usize,
    rounded: &[f32],
    layout: RowLayout,
    rows: std::ops::Range<usize>,
    tiles: &mut [f32],
) {
    let parts = Int8Parts::of(weight.packed_bytes(), weight.padded_rows());
    let inputs = weight.columns().next_multiple_of(4);
    let first_output = panel * PANEL;
    let width = PANEL.min(weight.padded_rows() - first_output);
    // Tiles of equal height: a last one of few rows would wait for its weights.
    let tile_rows = rows
        .len()
        .div_ceil(rows.len().div_ceil(TILE_ROWS).max(1))
        .max(1);
    for first_input in (0..inputs).step_by(STRETCH) {
        let panels = Panels {
            weights: &parts.weights[first_output * inputs + first_input * NARROW_PANEL..],
            panel_bytes: NARROW_PANEL * inputs,
            scales: &parts.scales[first_output..first_output + width],
        };
        for (tile, row) in rows.clone().step_by(tile_rows).enumerate() {
            let rows = Rows {
                data: &rounded[row * layout.len()..],
                layout,
                count: tile_rows.min(rows.end - row),
                first_input,
                quads: STRETCH.min(inputs - first_input) / 4,
            };
            let sums = Sums {
                data: &mut tiles[tile * tile_rows * PANEL..],
                stride: PANEL,
                add: first_input > 0,
            };
            accumulate(rows, panels, sums);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{GROUP_INPUTS, LEVEL_MAX, Panels, RowLayout, Rows, Sums};
    use std::arch::x86_64::{
        __m512, _CMP_ORD_Q, _mm_storeu_si128, _mm512_abs_ps, _mm512_add_epi32, _mm512_cmp_ps_mask,
        _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_loadu_si512, _mm512_maskz_cvtps_epi32, _mm512_maskz_loadu_ps,
        _mm512_max_ps, _mm512_mul_ps, _mm512_reduce_add_epi32, _mm512_reduce_max_ps,
        _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
        _mm512_storeu_ps,
    };

    /// # Safety
    /// `row` is at most as long as the layout's inputs, and `out` as long as its rows.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) unsafe fn round_row(row: &[f32], layout: RowLayout, out: &mut [f32]) {
        // The part of 16 values that the row has.
        let part = |first: usize| -> __m512 {
            let count = row.len().saturating_sub(first).min(16) as u32;
            let mask = ((1_u32 << count) - 1) as u16;
            // SAFETY: the mask keeps to the row.
            unsafe { _mm512_maskz_loadu_ps(mask, row.as_ptr().wrapping_add(first)) }
        };
        let (bytes, groups) = out.split_at_mut(layout.inputs / 4);
        for group in 0..layout.groups() {
            let places = group * GROUP_INPUTS..((group + 1) * GROUP_INPUTS).min(layout.inputs);
            let mut values = [_mm512_setzero_ps(); GROUP_INPUTS / 16];
            let mut largest = _mm512_setzero_ps();
            for (values, first) in values.iter_mut().zip(places.clone().step_by(16)) {
                *values = part(first);
                // The second operand is taken where the first is not a number.
                largest = _mm512_max_ps(_mm512_abs_ps(*values), largest);
            }
            let scale = _mm512_reduce_max_ps(largest) / LEVEL_MAX;
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let mut total = _mm512_setzero_si512();
            for (&values, first) in values.iter().zip(places.step_by(16)) {
                let scaled = _mm512_mul_ps(values, _mm512_set1_ps(inverse));
                // Not a number becomes 0, as no weight can turn it into one.
                let number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(scaled, scaled);
                let levels = _mm512_maskz_cvtps_epi32(number, scaled);
                total = _mm512_add_epi32(total, levels);
                let place = bytes[first / 4..first / 4 + 4].as_mut_ptr();
                // SAFETY: 16 bytes from `place` are inside the slice.
                unsafe { _mm_storeu_si128(place.cast(), _mm512_cvtepi32_epi8(levels)) }
            }
            // Weights have 128 added.
            let start = _mm512_reduce_add_epi32(total).wrapping_mul(-128);
            groups[2 * group] = f32::from_bits(start as u32);
            groups[2 * group + 1] = scale;
        }
    }

    /// # Safety
    /// The lengths must be as [`super::accumulate`] checks them.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn accumulate(rows: Rows<'_>, panels: Panels<'_>, sums: Sums<'_>) {
        macro_rules! dispatch {
            ($vectors:literal, $($rows:literal)*) => {
                match rows.count {
                    // SAFETY: passed on from the caller.
                    $($rows => unsafe { tile::<$rows, $vectors>(rows, panels, sums) },)*
                    _ => unreachable!("at most 12 rows"),
                }
            };
        }
        if panels.scales.len() > 16 {
            dispatch!(2, 1 2 3 4 5 6 7 8 9 10 11 12);
        } else {
            dispatch!(1, 1 2 3 4 5 6 7 8 9 10 11 12);
        }
    }

    /// # Safety
    /// The lengths must be as [`super::accumulate`] checks them, for `ROWS` rows and 16 · `VECTORS` outputs.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    unsafe fn tile<const ROWS: usize, const VECTORS: usize>(
        rows: Rows<'_>,
        panels: Panels<'_>,
        sums: Sums<'_>,
    ) {
        let layout = rows.layout;
        let stride = layout.len();
        let group_quads = GROUP_INPUTS / 4;
        let first_group = rows.first_input / GROUP_INPUTS;
        let starts = rows.data.as_ptr().wrapping_add(layout.inputs / 4);
        let levels = rows.data.as_ptr().wrapping_add(rows.first_input / 4);
        let out = sums.data.as_mut_ptr();
        let mut add = sums.add;
        for group in 0..rows.quads.div_ceil(group_quads) {
            let first = group * group_quads;
            let numbers = starts.wrapping_add(2 * (first_group + group));
            // SAFETY: all places are inside the slices, as the caller promises.
            unsafe {
                let mut totals = [[_mm512_setzero_si512(); VECTORS]; ROWS];
                for (row, totals) in totals.iter_mut().enumerate() {
                    let start = numbers.add(row * stride).cast::<i32>().read();
                    *totals = [_mm512_set1_epi32(start); VECTORS];
                }
                for quad in first..rows.quads.min(first + group_quads) {
                    let mut weights = [_mm512_setzero_si512(); VECTORS];
                    for (vector, weights) in weights.iter_mut().enumerate() {
                        let place = panels.weights.as_ptr().add(vector * panels.panel_bytes);
                        *weights = _mm512_loadu_si512(place.add(64 * quad).cast());
                    }
                    for (row, totals) in totals.iter_mut().enumerate() {
                        let four = levels.add(row * stride + quad).cast::<i32>().read();
                        let four = _mm512_set1_epi32(four);
                        for (total, &weights) in totals.iter_mut().zip(&weights) {
                            *total = _mm512_dpbusd_epi32(*total, weights, four);
                        }
                    }
                }
                for (row, totals) in totals.iter().enumerate() {
                    let scale = _mm512_set1_ps(numbers.add(row * stride + 1).read());
                    for (vector, &total) in totals.iter().enumerate() {
                        let place = out.add(row * sums.stride + 16 * vector);
                        let scales = _mm512_loadu_ps(panels.scales.as_ptr().add(16 * vector));
                        let value = _mm512_mul_ps(_mm512_cvtepi32_ps(total), scales);
                        let before = match add {
                            true => _mm512_loadu_ps(place),
                            false => _mm512_setzero_ps(),
                        };
                        _mm512_storeu_ps(place, _mm512_fmadd_ps(value, scale, before));
                    }
                }
            }
            add = true;
        }
    }
}
