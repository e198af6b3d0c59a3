//! Winograd (Toom–Cook) convolutions, with a third to two thirds of the multiplications.
//!
//! A task computes a block of output rows of one phase of the dilation, so that taps are
//! neighbours. Its padded input rows, after the Snake if there is one, are transformed to the
//! points, where tiles of outputs are products.
//!
//! A longer filter is cut into parts. The window of a later part is the window of a later tile, so
//! all parts are one product over overlapping rows. A tile's result depends on its own rows alone,
//! and so not on the number of threads.

mod transform;

use super::gemm::{self, Epilogue};
use super::gemm_f32::{self, F32Kernel, PanelsF32, RowsF32};
use super::instruction_set::InstructionSet;
use super::maths;
use super::output::{Cuts, Grid, OutputPart, share_parts};
use super::unpack::unpack;
use super::vectorised::{multiply_add, vectorised};
use crate::layers::Conv1d;
use crate::matrix::{PANEL, Vector};
use crate::operations::Convolving;
use crate::threads::Threads;
use crate::view::{View, ViewMut};
use transform::{LANES, SIX_BY_SEVEN, SIX_BY_SIX, SIX_BY_THREE, Transform};

/// Floats of a task's transformed inputs and products: three quarters of a megabyte, which fit a
/// core's L2 cache.
const TASK_FLOATS: usize = 192 * 1024;
/// Tiles per task: a multiple of MR; fewer tiles would read the weights too often.
const TILES: [usize; 2] = [2 * gemm_f32::MR, 8 * gemm_f32::MR];
/// With fewer channels the transforms cost more than they save.
const CHANNELS_MIN: usize = 32;
/// Shorter inputs leave most of the last tile unused, and do not pay for the weights' transform.
const TIME_MIN: usize = 48;

/// Whether this path applies to a convolution over `time` rows.
pub(crate) fn applies(time: usize, layer: &Conv1d) -> bool {
    let known = matches!(layer.kernel, 3 | 7 | 11 | 12);
    let channels = layer.inputs().min(layer.weight.rows());
    known && layer.stride == 1 && channels >= CHANNELS_MIN && time >= TIME_MIN
}

/// Floats of scratch.
pub(crate) fn scratch(threads: &Threads, layer: &Conv1d) -> usize {
    match layer.kernel {
        3 => TileLayout::of(threads, layer, &SIX_BY_THREE).total(),
        7 => TileLayout::of(threads, layer, &SIX_BY_SEVEN).total(),
        _ => TileLayout::of(threads, layer, &SIX_BY_SIX).total(),
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
        7 => convolve(threads, &SIX_BY_SEVEN, x, layer, options, out, scratch),
        _ => convolve(threads, &SIX_BY_SIX, x, layer, options, out, scratch),
    }
}

struct TileLayout {
    workers: usize,
    /// Parts of the filter.
    parts: usize,
    /// Tiles per task.
    tiles: usize,
    /// Input rows per task.
    rows: usize,
    /// Floats of the transformed weights at one point.
    point: usize,
    points: usize,
    /// Floats of one task.
    task: usize,
}

impl TileLayout {
    fn of<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize>(
        threads: &Threads,
        layer: &Conv1d,
        _: &Transform<OUTPUTS, TAPS, POINTS>,
    ) -> TileLayout {
        let (inputs, outputs) = (layer.inputs(), layer.weight.rows());
        let wide = outputs.next_multiple_of(LANES);
        let parts = layer.kernel.div_ceil(TAPS);
        // A later part's window is a later tile's window only if a part is as long as a tile.
        assert!(
            parts == 1 || OUTPUTS == TAPS,
            "parts of {TAPS} taps, tiles of {OUTPUTS}"
        );
        let tiles = TASK_FLOATS / (POINTS * (inputs + wide)) / gemm_f32::MR * gemm_f32::MR;
        let tiles = tiles.clamp(TILES[0], TILES[1]);
        let windows = tiles + parts - 1;
        let rows = (windows - 1) * OUTPUTS + POINTS;
        let values = POINTS * padded_len(windows, inputs);
        let sums = POINTS * padded_len(tiles, wide);
        let task = inputs + padded_len(rows, inputs) + values + sums + OUTPUTS * wide;
        TileLayout {
            workers: threads.count(),
            parts,
            tiles,
            rows,
            point: gemm_f32::packed_len(outputs, parts * inputs),
            points: POINTS,
            task: task.max(layer.weight.columns() * PANEL),
        }
    }

    fn total(&self) -> usize {
        self.points * self.point + self.workers * self.task
    }
}

/// Floats from one point's rows to those of the next, padded by one vector. Without the padding, a
/// power of two would map all points to the same few cache sets. Where channels do not fill whole
/// vectors, the last row's vector also reaches past its end.
fn padded_len(rows: usize, columns: usize) -> usize {
    rows * columns + LANES
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
    let set = InstructionSet::best();
    let layout = TileLayout::of(threads, layer, transform);
    let (weights, tasks) = scratch[..layout.total()].split_at_mut(layout.points * layout.point);
    let buffers = &mut OutputPart::new(tasks, layout.workers, layout.task);
    let (inputs, outputs) = (layer.inputs(), layer.weight.rows());

    let panel_len = PANEL * layout.parts * inputs;
    let grid = Grid {
        columns: Cuts::every(layout.point, panel_len),
        ..Grid::of_rows(Cuts::every(POINTS, POINTS), layout.point)
    };
    let points = &mut OutputPart::new(weights, POINTS, layout.point);
    share_parts(threads, points, grid, buffers, |cell, mut part, buffer| {
        let panel = cell.columns.start / panel_len;
        transform_panel(
            set,
            transform,
            layer,
            layout.parts,
            panel,
            buffer,
            &mut part,
        );
    });
    let weights = &*weights;

    let wide = outputs.next_multiple_of(LANES);
    let (time, dilation) = (out.row_count(), layer.dilation);
    let epilogue = Epilogue {
        bias: layer.bias.as_ref().map(Vector::data),
        activation: options.activation,
        store: options.store,
    };
    // About equal blocks, and for each thread as many as for the others, unless that would make
    // them too small.
    let phase_tiles = time.div_ceil(dilation).div_ceil(OUTPUTS);
    let blocks = phase_tiles.div_ceil(layout.tiles).max(1);
    let even = threads.even(blocks * dilation).div_ceil(dilation);
    let blocks = match phase_tiles.div_ceil(even) < TILES[0] {
        true => blocks,
        false => even,
    };
    let block_rows = phase_tiles.div_ceil(blocks) * OUTPUTS;
    // Output rows of a phase: phase, phase + dilation, …
    let grid = Grid {
        phases: dilation,
        ..Grid::of_rows(Cuts::every(time.div_ceil(dilation), block_rows), outputs)
    };
    share_parts(
        threads,
        &mut OutputPart::of(out),
        grid,
        buffers,
        |cell, mut out, buffer| {
            let count = cell.rows.len();
            if count == 0 {
                return;
            }
            let tiles = count.div_ceil(OUTPUTS);
            let windows = tiles + layout.parts - 1;
            let (gathered, rest) = buffer.split_at_mut(inputs + padded_len(layout.rows, inputs));
            let (values, rest) = rest.split_at_mut(POINTS * padded_len(windows, inputs));
            let (sums, tile_rows) = rest.split_at_mut(POINTS * padded_len(tiles, wide));
            let needed = (windows - 1) * OUTPUTS + POINTS;
            let start = cell.rows.start * dilation + cell.phase;
            let (rows, stride) = gather(x, layer, options.snake, start, needed, gathered);
            transform_windows(transform, rows, stride, inputs, windows, values);
            for point in 0..POINTS {
                let left = RowsF32 {
                    data: &values[point * padded_len(windows, inputs)..][..windows * inputs],
                    count: tiles,
                    stride: inputs,
                    segments: 1,
                    segment_len: layout.parts * inputs,
                    segment_stride: 0,
                };
                let right = PanelsF32::Packed {
                    data: &weights[point * layout.point..][..layout.point],
                    outputs: wide,
                };
                let sums = &mut sums[point * padded_len(tiles, wide)..][..tiles * wide];
                let product = F32Kernel::new(left, right).product();
                product.multiply_here(&mut OutputPart::new(sums, tiles, wide));
            }
            combine_tiles(transform, sums, tile_rows, epilogue, &mut out);
        },
    );
}

/// `count` input rows, `dilation` apart, from the first one of output row `start` on, and their row
/// stride: in place if possible, otherwise padded and after the Snake in `out`.
fn gather<'b>(
    x: View<'b>,
    layer: &Conv1d,
    snake: Option<&Vector>,
    start: usize,
    count: usize,
    out: &'b mut [f32],
) -> (&'b [f32], usize) {
    let (inputs, dilation) = (layer.inputs(), layer.dilation);
    let first = start.checked_sub(layer.padding.left);
    let last = start + (count - 1) * dilation;
    if let (Some(first), None) = (first, snake)
        && last - layer.padding.left < x.row_count()
        && inputs.is_multiple_of(LANES)
    {
        return (&x.data()[first * x.stride()..], dilation * x.stride());
    }
    let (shares, out) = out.split_at_mut(inputs);
    if let Some(alpha) = snake {
        maths::snake_reciprocals(alpha.data(), shares);
    }
    for (index, out) in out.chunks_exact_mut(inputs).take(count).enumerate() {
        let row = (start + index * dilation).checked_sub(layer.padding.left);
        match row {
            Some(row) if row < x.row_count() => match snake {
                Some(alpha) => maths::snake(x.row(row), alpha.data(), shares, out),
                None => out.copy_from_slice(x.row(row)),
            },
            _ => out.fill(0.0),
        }
    }
    (out, inputs)
}

/// Transforms one panel of weights, to rows of `[part · inputs + input][width]`, one for each
/// point.
fn transform_panel<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize>(
    set: InstructionSet,
    transform: &Transform<OUTPUTS, TAPS, POINTS>,
    layer: &Conv1d,
    parts: usize,
    panel: usize,
    buffer: &mut [f32],
    points: &mut OutputPart<'_>,
) {
    let (inputs, depth) = (layer.inputs(), layer.weight.columns());
    let width = PANEL.min(layer.weight.rows().next_multiple_of(LANES) - panel * PANEL);
    unpack(set, &layer.weight, panel, 0, depth, buffer);
    let buffer = &*buffer;
    for (point, factors) in transform.kernel.iter().enumerate() {
        for part in 0..parts {
            let len = inputs * width;
            let out = points.row_columns(point, part * len..(part + 1) * len);
            let taps = &buffer[part * TAPS * len..layer.kernel.min((part + 1) * TAPS) * len];
            weigh_taps(factors, taps, out);
        }
    }
}

vectorised! {
    /// Weighted sum of taps, each as long as `out`: whole vectors.
    fn weigh_taps(factors: &[f32], taps: &[f32], out: &mut [f32]) {
        let len = out.len();
        let (vectors, rest) = out.as_chunks_mut::<LANES>();
        assert!(rest.is_empty(), "weights of whole panels");
        for (place, out) in vectors.iter_mut().enumerate() {
            let mut sums = [0.0; LANES];
            for (&factor, tap) in factors.iter().zip(taps.chunks_exact(len)) {
                if factor != 0.0 {
                    let weights = &tap[place * LANES..][..LANES];
                    for (sum, &weight) in sums.iter_mut().zip(weights) {
                        *sum = multiply_add::<FUSED>(factor, weight, *sum);
                    }
                }
            }
            *out = sums;
        }
    }

    /// Transforms windows of `POINTS` rows, `stride` apart, one every `OUTPUTS` rows; the rows of
    /// all windows at a point are contiguous. The last vector of a row writes past the row, where
    /// the next row overwrites it.
    fn transform_windows<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize>(
        transform: &Transform<OUTPUTS, TAPS, POINTS>,
        rows: &[f32],
        stride: usize,
        inputs: usize,
        windows: usize,
        values: &mut [f32],
    ) {
        let point_stride = padded_len(windows, inputs);
        for window in 0..windows {
            for first in (0..inputs).step_by(LANES) {
                let from = (&rows[window * OUTPUTS * stride + first..], stride);
                let to = (&mut values[window * inputs + first..], point_stride);
                transform.to_points::<FUSED>(from, to);
            }
        }
    }

    /// Transforms the products back to the output rows of a task.
    fn combine_tiles<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize>(
        transform: &Transform<OUTPUTS, TAPS, POINTS>,
        sums: &[f32],
        tile_rows: &mut [f32],
        epilogue: Epilogue<'_>,
        output: &mut OutputPart<'_>,
    ) {
        let (count, columns) = (output.row_count(), output.column_count());
        let wide = columns.next_multiple_of(LANES);
        let tiles = count.div_ceil(OUTPUTS);
        let point_stride = padded_len(tiles, wide);
        for tile in 0..tiles {
            for first in (0..wide).step_by(LANES) {
                let from = (&sums[tile * wide + first..], point_stride);
                transform.to_outputs::<FUSED>(from, (&mut tile_rows[first..], wide));
            }
            let first = tile * OUTPUTS;
            let valid = OUTPUTS.min(count - first);
            for (index, row) in tile_rows.chunks_exact_mut(wide).take(valid).enumerate() {
                let out = output.row(first + index);
                gemm::finish_row::<FUSED>(&mut row[..columns], epilogue, out);
            }
        }
    }
}
