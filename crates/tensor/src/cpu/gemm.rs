//! GEMM: products of rows with packed weights, the basis of linear layers, convolutions and
//! attention.
//!
//! With rows M, outputs N and inputs K, a task multiplies `MC` rows with one panel (NR =
//! `PANEL` outputs), `KC` inputs at a time, in tiles of `MR` rows.

use super::instruction_set::InstructionSet;
use super::kernel::{self, InitialSum, Lhs, Weights};
use super::lanes::prefetch_far;
use super::maths;
use super::unpack::unpack;
use super::vectorised::vectorised;
use crate::matrix::{GROUP, Matrix, PANEL, Precision};
use crate::operations::{Activation, Store};
use crate::threads::Threads;
use crate::view::{View, ViewMut};
use half::f16;
use std::marker::PhantomData;
use std::ops::Range;

/// MR: rows of a micro-kernel. With two vectors of 16 columns they use 24 of AVX-512's 32
/// registers.
pub(crate) const MR: usize = 12;
/// MC: rows of one task. Their tiles (12 KiB) stay in the L1 cache beside the weights.
pub(crate) const MC: usize = 8 * MR;
/// Number of rows up to which converting the weights again for each tile costs less than unpacking
/// them to a buffer.
const FEW_ROWS: usize = 2 * MR;
/// KC: inputs per block, 24 KiB of f32 weights of a panel. A fixed number, because it determines
/// the order of summation.
const KC: usize = 192;

/// The left-hand side (A): `count` rows of `segments` segments of inputs. Input (s, c) of row i is
/// `data[i · stride + s · segment_stride + c]`. Rows may overlap: the windows of a convolution are
/// rows whose segments are its taps.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Number of rows.
    pub count: usize,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Segments per row.
    pub segments: usize,
    /// Inputs per segment.
    pub segment_len: usize,
    /// Elements from one segment to the next.
    pub segment_stride: usize,
}

impl<'a> Rows<'a> {
    /// The rows of a view.
    pub fn of(x: View<'a>) -> Rows<'a> {
        Rows {
            data: x.data(),
            count: x.row_count(),
            stride: x.stride(),
            segments: 1,
            segment_len: x.column_count(),
            segment_stride: 0,
        }
    }

    /// Windows of `taps` rows, `dilation` apart, one every `step` rows, over a view of contiguous
    /// rows.
    pub fn windows(x: View<'a>, count: usize, taps: usize, dilation: usize, step: usize) -> Self {
        let contiguous = dilation == 1 && x.stride() == x.column_count();
        let (segments, segment_len) = match contiguous {
            true => (1, taps * x.column_count()),
            false => (taps, x.column_count()),
        };
        Rows {
            data: x.data(),
            count,
            stride: step * x.stride(),
            segments,
            segment_len,
            segment_stride: dilation * x.stride(),
        }
    }

    fn inputs(&self) -> usize {
        self.segments * self.segment_len
    }
}

/// The right-hand side (B).
#[derive(Clone, Copy)]
pub enum Panels<'a> {
    /// Packed weights.
    Matrix(&'a Matrix),
    /// f32 panels in the layout of a matrix: `[panel][input][32]`; the last one is 16 or 32 wide.
    Packed {
        /// The panels.
        data: &'a [f32],
        /// Number of outputs.
        outputs: usize,
    },
    /// Row-major f32 `[inputs, outputs]`, used in place. Every row, also the last, must be at least
    /// as long as the outputs rounded up to 16.
    Plain {
        /// The elements.
        data: &'a [f32],
        /// Elements from one input to the next.
        stride: usize,
        /// Number of outputs.
        outputs: usize,
    },
}

impl Panels<'_> {
    fn outputs(&self) -> usize {
        match self {
            Panels::Matrix(matrix) => matrix.rows(),
            Panels::Packed { outputs, .. } | Panels::Plain { outputs, .. } => *outputs,
        }
    }
}

/// `out = activation(A · B + bias)`, or added to the contents of `out`.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    /// Left-hand side.
    pub left: Rows<'a>,
    /// Right-hand side.
    pub right: Panels<'a>,
    /// Bias of each output.
    pub bias: Option<&'a [f32]>,
    /// Activation of each element.
    pub activation: Activation,
    /// Treatment of the output's contents; `Add` comes after the activation.
    pub store: Store,
}

impl<'a> Product<'a> {
    /// A plain product with weights.
    pub fn of(left: Rows<'a>, right: &'a Matrix) -> Product<'a> {
        Product {
            left,
            right: Panels::Matrix(right),
            bias: None,
            activation: Activation::Identity,
            store: Store::Overwrite,
        }
    }
}

/// Floats of packed panels of `outputs` × `inputs`.
pub fn packed_len(outputs: usize, inputs: usize) -> usize {
    outputs.next_multiple_of(16) * inputs
}

/// Packs the rows of a view, as outputs, into f32 panels.
pub fn pack(x: View<'_>, out: &mut [f32]) {
    let (outputs, inputs) = (x.row_count(), x.column_count());
    let padded = outputs.next_multiple_of(16);
    for (panel, out) in out[..padded * inputs]
        .chunks_mut(PANEL * inputs)
        .enumerate()
    {
        let width = out.len() / inputs.max(1);
        for lane in 0..width {
            let row = panel * PANEL + lane;
            if row < outputs {
                let values = x.row(row).iter();
                (values.enumerate()).for_each(|(k, &value)| out[k * width + lane] = value);
            } else {
                (0..inputs).for_each(|k| out[k * width + lane] = 0.0);
            }
        }
    }
}

/// Output rows that tasks write concurrently, each task its own rows or columns.
pub(crate) struct SharedOutput<'a> {
    start: *mut f32,
    len: usize,
    stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: only `row` accesses the elements, and its contract keeps tasks disjoint.
unsafe impl Sync for SharedOutput<'_> {}

impl<'a> SharedOutput<'a> {
    pub(crate) fn of(out: ViewMut<'a>) -> SharedOutput<'a> {
        let stride = out.stride();
        let data = out.into_data();
        SharedOutput {
            start: data.as_mut_ptr(),
            len: data.len(),
            stride,
            lifetime: PhantomData,
        }
    }

    /// The part from `row` and `column` on.
    pub(crate) fn from(&self, row: usize, column: usize) -> SharedOutput<'a> {
        let start = row * self.stride + column;
        assert!(start <= self.len, "row {row} of the output");
        SharedOutput {
            start: self.start.wrapping_add(start),
            len: self.len - start,
            ..*self
        }
    }

    /// Fetches a panel's columns of a range of rows into the L2 cache, before they are written.
    pub(crate) fn prefetch(&self, rows: Range<usize>, column: usize) {
        for row in rows {
            let start = self.start.wrapping_add(row * self.stride + column);
            for line in (0..PANEL * size_of::<f32>()).step_by(64) {
                prefetch_far(start.cast::<u8>().wrapping_add(line));
            }
        }
    }

    /// Columns `first..first + count` of row `index`.
    ///
    /// # Safety
    /// No other task may access any of these elements.
    #[allow(clippy::mut_from_ref, reason = "the contract keeps the parts disjoint")]
    pub(crate) unsafe fn row(&self, index: usize, first: usize, count: usize) -> &mut [f32] {
        let start = index * self.stride + first;
        assert!(start + count <= self.len, "row {index} of the output");
        // SAFETY: inside the output's elements, and exclusive by the contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), count) }
    }
}

/// Computes a product on all threads.
///
/// # Panics
/// If the shapes do not match.
pub fn multiply(threads: &Threads, product: &Product<'_>, out: ViewMut<'_>) {
    let outputs = product.right.outputs();
    assert_eq!(
        (out.row_count(), out.column_count()),
        (product.left.count, outputs),
        "shape of a product's output"
    );
    if let Panels::Matrix(matrix) = product.right {
        assert_eq!(
            matrix.columns(),
            product.left.inputs(),
            "inputs of a product"
        );
    }
    let (rows, panels) = (product.left.count, outputs.div_ceil(PANEL));
    let out = SharedOutput::of(out);
    for_each_part(threads, rows, MC, panels, |rows, panels| {
        multiply_part(product, rows, panels, &out);
    });
}

/// Calls `work` with the rows and the panels of each part of a product: few parts, but enough to
/// balance the threads.
pub(super) fn for_each_part(
    threads: &Threads,
    rows: usize,
    rows_a_part: usize,
    panels: usize,
    work: impl Fn(Range<usize>, Range<usize>) + Sync,
) {
    let chunks = rows.div_ceil(rows_a_part);
    let groups = (4 * threads.count())
        .div_ceil(chunks.max(1))
        .clamp(1, panels.max(1));
    threads.for_each(chunks * groups, |task| {
        let (chunk, group) = (task / groups, task % groups);
        let rows = chunk * rows_a_part..((chunk + 1) * rows_a_part).min(rows);
        let panels = panels * group / groups..panels * (group + 1) / groups;
        work(rows, panels);
    });
}

/// A product on the calling thread, for operations with their own parallelism.
pub(crate) fn multiply_here(product: &Product<'_>, out: ViewMut<'_>) {
    multiply_into(product, &SharedOutput::of(out), 0, 0);
}

/// As [`multiply_here`], into the part of a shared output from `row` and `column` on, which belongs
/// to the caller alone.
pub(crate) fn multiply_into(
    product: &Product<'_>,
    out: &SharedOutput<'_>,
    row: usize,
    column: usize,
) {
    let panels = product.right.outputs().div_ceil(PANEL);
    let out = out.from(row, column);
    let count = product.left.count;
    for first in (0..count).step_by(MC) {
        let rows = first..(first + MC).min(count);
        multiply_part(product, rows, 0..panels, &out);
    }
}

fn multiply_part(
    product: &Product<'_>,
    rows: Range<usize>,
    panels: Range<usize>,
    out: &SharedOutput<'_>,
) {
    let set = InstructionSet::best();
    let in_place = match product.right {
        Panels::Matrix(matrix) => match matrix.precision() {
            Precision::F32 => true,
            Precision::F16 => rows.len() <= FEW_ROWS && set.reads_halves(),
            Precision::Int8 | Precision::Q4 => false,
        },
        Panels::Packed { .. } | Panels::Plain { .. } => true,
    };
    // A decoding step, which does not need the buffer, does not clear it either.
    match (in_place, rows.len() <= FEW_ROWS) {
        (true, true) => {
            let mut tiles = [0.0; FEW_ROWS * PANEL];
            multiply_rows(set, product, rows, panels, &mut [], &mut tiles, out);
        }
        (true, false) => {
            let mut tiles = [0.0; MC * PANEL];
            multiply_rows(set, product, rows, panels, &mut [], &mut tiles, out);
        }
        (false, _) => {
            let mut tiles = [0.0; MC * PANEL];
            let mut buffer = [0.0; KC * PANEL];
            multiply_rows(set, product, rows, panels, &mut buffer, &mut tiles, out);
        }
    }
}

fn multiply_rows(
    set: InstructionSet,
    product: &Product<'_>,
    rows: Range<usize>,
    panels: Range<usize>,
    buffer: &mut [f32],
    tiles: &mut [f32],
    out: &SharedOutput<'_>,
) {
    let left = product.left;
    let outputs = product.right.outputs();
    let few = rows.len() <= FEW_ROWS;
    // Tiles of equal height: a short last tile would wait for its weights.
    let tile_rows = rows.len().div_ceil(rows.len().div_ceil(MR).max(1)).max(1);
    for panel in panels {
        let first_output = panel * PANEL;
        let width = PANEL.min(outputs.next_multiple_of(16) - first_output);
        let mut sums_from = InitialSum::Zero;
        for segment in 0..left.segments {
            for first in (0..left.segment_len).step_by(KC) {
                let depth = KC.min(left.segment_len - first);
                let input = segment * left.segment_len + first;
                let (weights, stride) =
                    weight_block(set, product, panel, width, input, depth, buffer);
                for (tile, row) in rows.clone().step_by(tile_rows).enumerate() {
                    if sums_from == InitialSum::Zero && !few {
                        out.prefetch(row..rows.end.min(row + tile_rows), first_output);
                    }
                    let start = row * left.stride + segment * left.segment_stride + first;
                    let left = Lhs {
                        data: &left.data[start..],
                        stride: left.stride,
                        rows: tile_rows.min(rows.end - row),
                        depth,
                    };
                    let tile = &mut tiles[tile * tile_rows * PANEL..];
                    kernel::accumulate(set, left, weights, stride, width, sums_from, tile);
                }
                sums_from = InitialSum::Tile;
            }
        }
        if sums_from == InitialSum::Zero {
            tiles[..rows.len() * PANEL].fill(0.0);
        }
        let valid = width.min(outputs - first_output);
        let bias = product
            .bias
            .map(|bias| &bias[first_output..first_output + valid]);
        let place = OutputTile {
            rows: rows.clone(),
            column: first_output,
            columns: valid,
        };
        finish_rows(tiles, bias, product.activation, product.store, out, place);
    }
}

/// Location of a task's tile in the output.
pub(crate) struct OutputTile {
    pub(crate) rows: Range<usize>,
    pub(crate) column: usize,
    pub(crate) columns: usize,
}

vectorised! {
    /// Epilogue: bias, activation, and the store to the output.
    pub(crate) fn finish(
        tile: &mut [f32],
        bias: Option<&[f32]>,
        activation: Activation,
        store: Store,
        out: &mut [f32],
    ) {
        finish_here::<FUSED>(tile, bias, activation, store, out);
    }

    /// As [`finish`], for tiles as wide as a panel.
    pub(crate) fn finish_rows(
        tiles: &mut [f32],
        bias: Option<&[f32]>,
        activation: Activation,
        store: Store,
        out: &SharedOutput<'_>,
        place: OutputTile,
    ) {
        let tiles = &mut tiles[..place.rows.len() * PANEL];
        if let Some(bias) = bias {
            for tile in tiles.chunks_exact_mut(PANEL) {
                (tile.iter_mut().zip(bias)).for_each(|(value, &bias)| *value += bias);
            }
        }
        // The padding of the last panel is included: one long loop is faster than many short ones.
        maths::activate_here::<FUSED>(tiles, activation);
        for (tile, row) in tiles.chunks_exact_mut(PANEL).zip(place.rows) {
            // SAFETY: each task has its own rows and panels.
            let out = unsafe { out.row(row, place.column, place.columns) };
            match store {
                Store::Overwrite if place.columns == PANEL => {
                    let out: Option<&mut [f32; PANEL]> = out.first_chunk_mut();
                    let tile: Option<&[f32; PANEL]> = tile.first_chunk();
                    // With a constant length, the copy is two moves instead of a call.
                    if let (Some(out), Some(tile)) = (out, tile) {
                        *out = *tile;
                    }
                }
                Store::Overwrite => out.copy_from_slice(&tile[..place.columns]),
                Store::Add => (out.iter_mut().zip(tile)).for_each(|(out, value)| *out += *value),
            }
        }
    }
}

/// As [`finish`], for callers that are themselves compiled for an instruction set.
#[inline(always)]
pub(crate) fn finish_here<const FUSED: bool>(
    tile: &mut [f32],
    bias: Option<&[f32]>,
    activation: Activation,
    store: Store,
    out: &mut [f32],
) {
    if let Some(bias) = bias {
        (tile.iter_mut().zip(bias)).for_each(|(value, &bias)| *value += bias);
    }
    maths::activate_here::<FUSED>(tile, activation);
    match store {
        Store::Overwrite => out.copy_from_slice(tile),
        Store::Add => (out.iter_mut().zip(&*tile)).for_each(|(out, &value)| *out += value),
    }
}

/// The weights of one panel for one KC block of inputs, and their row stride: in place if the
/// kernel can read them, otherwise unpacked into `buffer`.
fn weight_block<'b>(
    set: InstructionSet,
    product: &Product<'b>,
    panel: usize,
    width: usize,
    input: usize,
    depth: usize,
    buffer: &'b mut [f32],
) -> (Weights<'b>, usize) {
    let inputs = product.left.inputs();
    match product.right {
        Panels::Matrix(matrix) if matrix.precision() == Precision::F32 => {
            let data: &[f32] = bytemuck::cast_slice(matrix.packed_bytes());
            (
                Weights::F32(&data[panel * PANEL * inputs + input * width..]),
                width,
            )
        }
        Panels::Matrix(matrix) if buffer.is_empty() => {
            let data: &[f16] = bytemuck::cast_slice(matrix.packed_bytes());
            (
                Weights::F16(&data[panel * PANEL * inputs + input * width..]),
                width,
            )
        }
        Panels::Matrix(matrix) => {
            let unit = match matrix.precision() {
                Precision::F32 | Precision::F16 => 1,
                Precision::Int8 => 4,
                Precision::Q4 => GROUP,
            };
            assert!(
                input.is_multiple_of(unit),
                "a matrix in {} needs segments of a multiple of {unit} inputs",
                matrix.precision()
            );
            unpack(set, matrix, panel, input, depth, buffer);
            (Weights::F32(buffer), width)
        }
        Panels::Packed { data, .. } => (
            Weights::F32(&data[panel * PANEL * inputs + input * width..]),
            width,
        ),
        Panels::Plain { data, stride, .. } => (
            Weights::F32(&data[input * stride + panel * PANEL..]),
            stride,
        ),
    }
}
