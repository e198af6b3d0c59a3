//! Chains of layers in 8-bit integers: rows are quantised once for all layers that read them, and
//! a task takes its rows through all layers while they are in its core's caches.

use super::gemm::{Epilogue, Product};
use super::gemm_int8::{Int8Kernel, MC, RowLayoutInt8, round_row};
use super::instruction_set::InstructionSet;
use super::maths;
use super::output::{Cuts, Grid, OutputPart, share_parts};
use crate::layers::{Linear, Norm};
use crate::matrix::Vector;
use crate::operations::{Activation, Store};
use crate::threads::Threads;
use crate::view::{View, ViewMut};

/// Fewest rows of a task: fewer would read the weights too often.
const ROWS_MIN: usize = MC / 2;

/// Most rows of a task: two tasks a thread, if they are large enough. Never fewer for more rows in
/// all, so that scratch for many rows is enough for fewer.
fn rows_max(threads: &Threads, count: usize) -> usize {
    count.div_ceil(2 * threads.count()).clamp(ROWS_MIN, MC)
}

/// Rows of a task, about equal for all of them. There are as many tasks for each thread as for the
/// others, unless that would make them too small.
fn rows_a_task(threads: &Threads, count: usize) -> usize {
    let tasks = count.div_ceil(rows_max(threads, count)).max(1);
    let rows = count.div_ceil(threads.even(tasks));
    match rows < ROWS_MIN {
        true => count.div_ceil(tasks).max(1),
        false => rows,
    }
}

/// Floats of scratch for [`linears`].
pub(crate) fn linears_scratch(threads: &Threads, rows: usize, inputs: usize) -> usize {
    rows * RowLayoutInt8::of(inputs).len() + threads.count() * inputs
}

/// Layers of one shape over the same rows, after an optional norm; the results are stacked.
#[allow(
    clippy::too_many_arguments,
    reason = "operands, layers, epilogue, output, scratch"
)]
pub(crate) fn linears(
    set: InstructionSet,
    threads: &Threads,
    x: View<'_>,
    norm: Option<&Norm>,
    layers: &[&Linear],
    activation: Activation,
    mut out: ViewMut<'_>,
    scratch: &mut [f32],
) {
    let (count, inputs) = (x.row_count(), x.column_count());
    let layout = RowLayoutInt8::of(inputs);
    let (rounded, normed) = scratch.split_at_mut(count * layout.len());
    let normed = &mut normed[..threads.count() * inputs];
    let buffers = &mut OutputPart::new(normed, threads.count(), inputs);
    let mut rounded_rows = OutputPart::new(rounded, count, layout.len());
    let rows = Cuts::every(count, rows_a_task(threads, count));
    let grid = Grid::of_rows(rows, layout.len());
    share_parts(
        threads,
        &mut rounded_rows,
        grid,
        buffers,
        |cell, mut part, normed| {
            for (index, row) in cell.rows.enumerate() {
                let row = normalised(x.row(row), norm, normed);
                round_row(set, row, layout, part.row(index));
            }
        },
    );
    for (index, layer) in layers.iter().enumerate() {
        let product = int8_product(set, rounded, count, layer, activation, Store::Overwrite);
        let rows = index * count..(index + 1) * count;
        product.multiply(threads, out.reborrow().rows(rows));
    }
}

/// A row after a norm, if there is one.
fn normalised<'a>(row: &'a [f32], norm: Option<&Norm>, out: &'a mut [f32]) -> &'a [f32] {
    match norm {
        None => return row,
        Some(Norm::RootMeanSquare { scale, epsilon }) => {
            maths::rms_norm(row, scale.data(), *epsilon, out);
        }
        Some(Norm::Layer(norm)) => {
            let (weight, bias) = (norm.weight.data(), norm.bias.data());
            maths::layer_norm(row, Some(weight), Some(bias), norm.epsilon, out);
        }
    }
    out
}

/// Parts of a task's scratch for [`feed_forward`], in f32 units.
struct FeedForward {
    /// Most rows of a task.
    rows: usize,
    /// Tasks at a time.
    workers: usize,
    /// Quantised inputs, and the width of a row.
    outer: RowLayoutInt8,
    width: usize,
    /// The same of the inner rows.
    inner: RowLayoutInt8,
    inner_width: usize,
}

impl FeedForward {
    fn of(threads: &Threads, count: usize, feed_in: &Linear) -> FeedForward {
        let (inner_width, width) = (feed_in.weight.rows(), feed_in.weight.columns());
        FeedForward {
            rows: rows_max(threads, count),
            workers: threads.count().min(count.div_ceil(ROWS_MIN)),
            outer: RowLayoutInt8::of(width),
            width,
            inner: RowLayoutInt8::of(inner_width),
            inner_width,
        }
    }

    fn task(&self) -> usize {
        self.width + self.rows * (self.outer.len() + self.inner_width + self.inner.len())
    }

    fn total(&self) -> usize {
        self.workers * self.task()
    }
}

/// Floats of scratch for [`feed_forward`].
pub(crate) fn feed_forward_scratch(threads: &Threads, count: usize, feed_in: &Linear) -> usize {
    FeedForward::of(threads, count, feed_in).total()
}

/// Adds `feed_out(activation(feed_in(norm(x))))` to `x`.
#[allow(
    clippy::too_many_arguments,
    reason = "rows, three layers with an activation, scratch"
)]
pub(crate) fn feed_forward(
    set: InstructionSet,
    threads: &Threads,
    x: ViewMut<'_>,
    norm: &Norm,
    feed_in: &Linear,
    activation: Activation,
    feed_out: &Linear,
    scratch: &mut [f32],
) {
    let count = x.row_count();
    let sizes = FeedForward::of(threads, count, feed_in);
    let (width, workers, task_len) = (sizes.width, sizes.workers, sizes.task());
    let scratch = &mut scratch[..sizes.total()];
    let buffers = &mut OutputPart::new(scratch, workers, task_len);
    let grid = Grid::of_rows(Cuts::every(count, rows_a_task(threads, count)), width);
    share_parts(
        threads,
        &mut OutputPart::of(x),
        grid,
        buffers,
        |cell, mut x, buffer| {
            let (normed, buffer) = buffer.split_at_mut(width);
            let (outer, buffer) = buffer.split_at_mut(sizes.rows * sizes.outer.len());
            let (values, inner) = buffer.split_at_mut(sizes.rows * sizes.inner_width);
            let count = cell.rows.len();
            for (index, out) in (0..count).zip(outer.chunks_exact_mut(sizes.outer.len())) {
                round_row(
                    set,
                    normalised(x.row(index), Some(norm), normed),
                    sizes.outer,
                    out,
                );
            }
            let product = int8_product(set, outer, count, feed_in, activation, Store::Overwrite);
            product.multiply_here(&mut OutputPart::new(values, sizes.rows, sizes.inner_width));
            for (row, out) in (values.chunks_exact(sizes.inner_width))
                .zip(inner.chunks_exact_mut(sizes.inner.len()))
                .take(count)
            {
                round_row(set, row, sizes.inner, out);
            }
            let product = int8_product(
                set,
                inner,
                count,
                feed_out,
                Activation::Identity,
                Store::Add,
            );
            product.multiply_here(&mut x);
        },
    );
}

/// A layer's product of `count` quantised rows, with its bias.
fn int8_product<'a>(
    set: InstructionSet,
    quantised: &'a [f32],
    count: usize,
    layer: &'a Linear,
    activation: Activation,
    store: Store,
) -> Product<'a, Int8Kernel<'a>> {
    Product {
        kernel: Int8Kernel::new(set, quantised, count, &layer.weight),
        epilogue: Epilogue {
            bias: layer.bias.as_ref().map(Vector::data),
            activation,
            store,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_gets_as_many_tasks_unless_they_would_be_too_small() {
        for (threads, count, tasks) in [(1, 650, 7), (2, 650, 8), (2, 1000, 12), (4, 200, 5)] {
            let threads = Threads::new(threads);
            let rows = rows_a_task(&threads, count);
            assert_eq!(count.div_ceil(rows), tasks, "{count} rows, {rows} a task");
            assert!(rows <= rows_max(&threads, count));
        }
    }
}
