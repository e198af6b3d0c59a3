//! Convolutions at the points of a transform, with about half the multiplications.
//!
//! The input is copied once, with its zeros, dealt out into one sequence for each step of the dilation, so that taps are neighbours.
//! Tiles of outputs are then products at some points; a longer filter is cut into parts, and the window of a later part is the
//! window of a later tile, so that the parts are one product over overlapping rows. Tiles count from the start of the input:
//! results do not depend on the number of threads.

mod transform;

use super::gemm::{self, Panels, Product, Rows, SharedOutput};
use super::kernel::{self, InstructionSet};
use super::maths;
use super::unpack::unpack;
use super::vectorised::{multiply_add, vectorised};
use crate::layers::Conv1d;
use crate::matrix::{PANEL, Vector};
use crate::operations::{Activation, Convolving, Store};
use crate::tensor::{View, ViewMut};
use crate::threads::Threads;
use transform::{FOUR_BY_FOUR, SIX_BY_THREE, Transform};

/// Tiles of one task: with 256 channels its buffers take about a megabyte, half of them a core's second cache.
const TILES: usize = 48;
/// Fewer channels make the transforms dearer than what they save.
const CHANNELS_MIN: usize = 32;
/// Shorter inputs leave most of the last tile unused, and the weights' transform unpaid.
const TIME_MIN: usize = 48;
/// Values transformed together: one wide vector.
const LANES: usize = 16;

/// Whether a convolution over `time` rows goes this way.
pub(crate) fn applies(time: usize, layer: &Conv1d) -> bool {
    let known = matches!(layer.kernel, 3 | 7 | 8 | 11 | 12);
    let channels = layer.inputs().min(layer.weight.rows());
    known && layer.stride == 1 && channels >= CHANNELS_MIN && time >= TIME_MIN
}

/// Floats of scratch.
pub(crate) fn scratch(threads: &Threads, time: usize, layer: &Conv1d) -> usize {
    match layer.kernel {
        3 => Layout::of(threads, time, layer, &SIX_BY_THREE).total(),
        _ => Layout::of(threads, time, layer, &FOUR_BY_FOUR).total(),
    }
}

/// A convolution over time.
pub(crate) fn conv1d(
    threads: &Threads,
    x: View<'_>,
    layer: &Conv1d,
    options: &Convolving<'_>,
    out: ViewMut<'_>,
    scratch: &mut [f32],
) {
    match layer.kernel {
        3 => convolve(threads, &SIX_BY_THREE, x, layer, options, out, scratch),
        _ => convolve(threads, &FOUR_BY_FOUR, x, layer, options, out, scratch),
    }
}

struct Layout {
    workers: usize,
    /// Parts that the filter is cut into.
    parts: usize,
    /// Rows of each dealt-out sequence.
    sequence: usize,
    /// Floats of all sequences.
    padded: usize,
    /// Floats of the weights at one point.
    point: usize,
    points: usize,
    /// Floats of one task.
    task: usize,
}

impl Layout {
    fn of<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize>(
        threads: &Threads,
        time: usize,
        layer: &Conv1d,
        _: &Transform<OUTPUTS, TAPS, POINTS>,
    ) -> Layout {
        let (inputs, outputs) = (layer.inputs(), layer.weight.rows());
        let wide = outputs.next_multiple_of(LANES);
        let parts = layer.kernel.div_ceil(TAPS);
        // A later part's window is a later tile's only where a part is as long as a tile.
        assert!(
            parts == 1 || OUTPUTS == TAPS,
            "parts of {TAPS} taps, tiles of {OUTPUTS}"
        );
        let padded = time + layer.padding.left + layer.padding.right;
        // The last tile may reach past the input, and the last part past the filter.
        let sequence =
            padded.div_ceil(layer.dilation).next_multiple_of(OUTPUTS) + parts * TAPS + POINTS;
        let tiles = POINTS * ((TILES + parts - 1) * inputs + TILES * wide) + OUTPUTS * wide;
        Layout {
            workers: threads.count(),
            parts,
            sequence,
            padded: sequence * layer.dilation * inputs,
            point: gemm::packed_len(outputs, parts * inputs),
            points: POINTS,
            task: tiles.max(layer.weight.columns() * PANEL),
        }
    }

    fn total(&self) -> usize {
        self.padded + self.points * self.point + self.workers * self.task
    }
}

fn convolve<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize>(
    threads: &Threads,
    transform: &Transform<OUTPUTS, TAPS, POINTS>,
    x: View<'_>,
    layer: &Conv1d,
    options: &Convolving<'_>,
    out: ViewMut<'_>,
    scratch: &mut [f32],
) {
    let set = kernel::instruction_set();
    let layout = Layout::of(threads, x.row_count(), layer, transform);
    let (padded, rest) = scratch[..layout.total()].split_at_mut(layout.padded);
    let (weights, tasks) = rest.split_at_mut(layout.points * layout.point);
    deal_out(threads, x, layer, options.snake, layout.sequence, padded);
    let buffers = SharedOutput::of(ViewMut::new(tasks, layout.workers, layout.task));

    let panels = layer.weight.rows().div_ceil(PANEL);
    let points = SharedOutput::of(ViewMut::new(weights, POINTS, layout.point));
    threads.share(panels, |worker, panel| {
        // SAFETY: each worker has its own row.
        let buffer = unsafe { buffers.row(worker, 0, layout.task) };
        transform_panel(set, transform, layer, layout.parts, panel, buffer, &points);
    });
    let weights = &*weights;

    let (inputs, outputs) = (layer.inputs(), layer.weight.rows());
    let wide = outputs.next_multiple_of(LANES);
    let (time, dilation) = (out.row_count(), layer.dilation);
    let bias = layer.bias.as_ref().map(Vector::data);
    let blocks = time.div_ceil(dilation).div_ceil(TILES * OUTPUTS);
    let output = SharedOutput::of(out);
    threads.share(blocks * dilation, |worker, block| {
        let (phase, first) = (block / blocks, block % blocks * TILES * OUTPUTS);
        // Output rows of this sequence: those at phase, phase + dilation, …
        let rows = (time + dilation - 1 - phase) / dilation;
        let Some(rows @ 1..) = rows
            .checked_sub(first)
            .map(|rest| rest.min(TILES * OUTPUTS))
        else {
            return;
        };
        // SAFETY: each worker has its own row.
        let buffer = unsafe { buffers.row(worker, 0, layout.task) };
        let tiles = rows.div_ceil(OUTPUTS);
        let windows = tiles + layout.parts - 1;
        let (values, rest) = buffer.split_at_mut(POINTS * windows * inputs);
        let (sums, tile_rows) = rest.split_at_mut(POINTS * tiles * wide);
        let start = (phase * layout.sequence + first) * inputs;
        transform_windows(transform, &padded[start..], inputs, windows, values);
        for point in 0..POINTS {
            let product = Product {
                left: Rows {
                    data: &values[point * windows * inputs..][..windows * inputs],
                    count: tiles,
                    stride: inputs,
                    segments: 1,
                    segment_len: layout.parts * inputs,
                    segment_stride: 0,
                },
                right: Panels::Packed {
                    data: &weights[point * layout.point..][..layout.point],
                    outputs: wide,
                },
                bias: None,
                activation: Activation::Identity,
                store: Store::Overwrite,
            };
            let sums = &mut sums[point * tiles * wide..][..tiles * wide];
            gemm::multiply_here(&product, ViewMut::new(sums, tiles, wide));
        }
        for tile in 0..tiles {
            combine_tile(
                transform,
                &sums[tile * wide..],
                tiles * wide,
                wide,
                tile_rows,
            );
            let (activation, store) = (options.activation, options.store);
            let valid = OUTPUTS.min(rows - tile * OUTPUTS);
            for (place, row) in tile_rows.chunks_exact_mut(wide).take(valid).enumerate() {
                let index = (first + tile * OUTPUTS + place) * dilation + phase;
                // SAFETY: a row belongs to one phase and, in it, to one block.
                let out = unsafe { output.row(index, 0, outputs) };
                gemm::finish(&mut row[..outputs], bias, activation, store, out);
            }
        }
    });
}

/// Copies rows, through the Snake if there is one, with their zeros into one sequence for each step of the dilation.
fn deal_out(
    threads: &Threads,
    x: View<'_>,
    layer: &Conv1d,
    snake: Option<&Vector>,
    sequence: usize,
    padded: &mut [f32],
) {
    let inputs = layer.inputs();
    let mut rows = ViewMut::new(padded, sequence * layer.dilation, inputs);
    super::rows::for_each(threads, &mut rows, |index, out| {
        let (phase, place) = (index / sequence, index % sequence);
        let row = (place * layer.dilation + phase).checked_sub(layer.padding.left);
        match row {
            Some(row) if row < x.row_count() => match snake {
                Some(alpha) => maths::snake(x.row(row), alpha.data(), out),
                None => out.copy_from_slice(x.row(row)),
            },
            _ => out.fill(0.0),
        }
    });
}

/// Brings one panel of weights to the points: `[point][panel][part · inputs + input][width]`.
fn transform_panel<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize>(
    set: InstructionSet,
    transform: &Transform<OUTPUTS, TAPS, POINTS>,
    layer: &Conv1d,
    parts: usize,
    panel: usize,
    buffer: &mut [f32],
    points: &SharedOutput<'_>,
) {
    let (inputs, depth) = (layer.inputs(), layer.weight.columns());
    let width = PANEL.min(layer.weight.rows().next_multiple_of(LANES) - panel * PANEL);
    unpack(set, &layer.weight, panel, 0, depth, buffer);
    let buffer = &*buffer;
    let first = panel * PANEL * parts * inputs;
    for (point, factors) in transform.kernel.iter().enumerate() {
        for part in 0..parts {
            let (first, len) = (first + part * inputs * width, inputs * width);
            // SAFETY: each panel is one piece of work and has its own columns.
            let out = unsafe { points.row(point, first, len) };
            let taps = &buffer[part * TAPS * len..layer.kernel.min((part + 1) * TAPS) * len];
            weigh_taps(factors, taps, out);
        }
    }
}

vectorised! {
    /// The sum of taps, each as long as `out`, by their factors.
    fn weigh_taps(factors: &[f32], taps: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        for (&factor, tap) in factors.iter().zip(taps.chunks_exact(out.len())) {
            if factor != 0.0 {
                for (sum, &weight) in out.iter_mut().zip(tap) {
                    *sum = multiply_add::<FUSED>(factor, weight, *sum);
                }
            }
        }
    }

    /// Windows of `POINTS` rows, one every `OUTPUTS` rows, to their points; point p of all windows begins at `p · windows · inputs`.
    fn transform_windows<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize>(
        transform: &Transform<OUTPUTS, TAPS, POINTS>,
        rows: &[f32],
        inputs: usize,
        windows: usize,
        values: &mut [f32],
    ) {
        for window in 0..windows {
            let (rows, values) = (&rows[window * OUTPUTS * inputs..], &mut values[window * inputs..]);
            transform_rows::<FUSED, POINTS, POINTS>(
                &transform.input,
                (rows, inputs),
                inputs,
                (values, windows * inputs),
            );
        }
    }

    /// The output rows of one tile from its points, which lie `stride` apart in `sums`.
    fn combine_tile<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize>(
        transform: &Transform<OUTPUTS, TAPS, POINTS>,
        sums: &[f32],
        stride: usize,
        columns: usize,
        out: &mut [f32],
    ) {
        transform_rows::<FUSED, POINTS, OUTPUTS>(&transform.output, (sums, stride), columns, (out, columns));
    }
}

/// Each row of `out` is a sum of the rows of `x` by a row of `factors`. Beside the elements stands the distance from row to row.
#[inline(always)]
fn transform_rows<const FUSED: bool, const INPUTS: usize, const OUTPUTS: usize>(
    factors: &[[f32; INPUTS]; OUTPUTS],
    (x, stride): (&[f32], usize),
    columns: usize,
    (out, out_stride): (&mut [f32], usize),
) {
    let whole = columns / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        // All rows' lanes stay in registers for all sums.
        let rows: [[f32; LANES]; INPUTS] = std::array::from_fn(|row| {
            *x[row * stride + first..]
                .first_chunk()
                .expect("whole lanes")
        });
        for (index, factors) in factors.iter().enumerate() {
            let mut sums = [0.0f32; LANES];
            for (row, &factor) in rows.iter().zip(factors) {
                for (sum, &value) in sums.iter_mut().zip(row) {
                    *sum = multiply_add::<FUSED>(factor, value, *sum);
                }
            }
            out[index * out_stride + first..][..LANES].copy_from_slice(&sums);
        }
    }
    for column in whole..columns {
        for (index, factors) in factors.iter().enumerate() {
            let mut sum = 0.0;
            for (row, &factor) in factors.iter().enumerate() {
                sum = multiply_add::<FUSED>(factor, x[row * stride + column], sum);
            }
            out[index * out_stride + column] = sum;
        }
    }
}
