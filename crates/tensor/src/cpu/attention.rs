//! Attention in f32, blocked by head and by queries: scores exist for one block at a time.

use super::gemm::{self, Panels, Product, Rows, SharedOutput};
use super::maths;
use crate::matrix::PANEL;
use crate::operations::{Activation, Attention, Store};
use crate::threads::Threads;
use crate::view::{View, ViewMut};

/// Queries per task.
const QUERIES: usize = 96;

/// Floats of scratch: each task's scores, then packed keys, values and positions of every head.
pub(crate) fn scratch(
    threads: &Threads,
    queries: usize,
    keys: usize,
    columns: usize,
    heads: usize,
) -> usize {
    Layout::of(threads, queries, keys, columns, heads, true).total()
}

struct Layout {
    workers: usize,
    size: usize,
    /// Floats of one head's packed keys.
    keys: usize,
    /// Floats of one head's values; rows are padded to whole vectors.
    values: usize,
    /// Floats of one head's packed positions.
    positions: usize,
    /// Floats of one task's scores.
    scores: usize,
    /// Floats of one task's position scores.
    shifted: usize,
    heads: usize,
}

impl Layout {
    fn of(
        threads: &Threads,
        queries: usize,
        keys: usize,
        columns: usize,
        heads: usize,
        relative: bool,
    ) -> Layout {
        let size = columns / heads;
        let block = QUERIES.min(queries);
        let relative = usize::from(relative && queries == keys);
        Layout {
            workers: threads.count(),
            size,
            keys: gemm::packed_len(keys, size),
            values: keys * size.next_multiple_of(16),
            positions: relative * gemm::packed_len(2 * keys, size),
            scores: block * keys,
            shifted: relative * block * (keys + block + 2 * PANEL),
            heads,
        }
    }

    fn total(&self) -> usize {
        self.heads * (self.keys + self.values + self.positions)
            + self.workers * (self.scores + self.shifted)
    }
}

pub(crate) fn attention(
    threads: &Threads,
    q: View<'_>,
    k: View<'_>,
    v: View<'_>,
    options: &Attention<'_>,
    out: ViewMut<'_>,
    scratch: &mut [f32],
) {
    let (queries, keys) = (q.row_count(), k.row_count());
    let heads = options.heads;
    let layout = Layout::of(threads, queries, keys, q.column_count(), heads, true);
    let size = layout.size;
    let head_len = layout.keys + layout.values + layout.positions;
    let task_len = layout.scores + layout.shifted;
    let (packed, scores) = scratch.split_at_mut(heads * head_len);

    let packed_heads = SharedOutput::of(ViewMut::new(packed, heads, head_len));
    threads.for_each(heads, |head| {
        // SAFETY: each head has its own row.
        let packed = unsafe { packed_heads.row(head, 0, head_len) };
        let (packed_keys, rest) = packed.split_at_mut(layout.keys);
        let (values, positions) = rest.split_at_mut(layout.values);
        let columns = head * size..(head + 1) * size;
        gemm::pack(k.columns(columns.clone()), packed_keys);
        let width = size.next_multiple_of(16);
        for (row, out) in values.chunks_exact_mut(width).enumerate() {
            out[..size].copy_from_slice(v.columns(columns.clone()).row(row));
            out[size..].fill(0.0);
        }
        if let Some(relative) = &options.relative {
            gemm::pack(relative.positions.columns(columns), positions);
        }
    });
    let packed = &*packed;

    let blocks = queries.div_ceil(QUERIES);
    let tasks = heads * blocks;
    let task_scores = SharedOutput::of(ViewMut::new(
        &mut scores[..layout.workers * task_len],
        layout.workers,
        task_len,
    ));
    let output = SharedOutput::of(out);
    threads.share(tasks, |worker, task| {
        // SAFETY: each worker has its own row.
        let scratch = unsafe { task_scores.row(worker, 0, task_len) };
        let (scores, shifted) = scratch.split_at_mut(layout.scores);
        let (head, block) = (task / blocks, task % blocks);
        let rows = block * QUERIES..((block + 1) * QUERIES).min(queries);
        let columns = head * size..(head + 1) * size;
        let packed = &packed[head * head_len..][..head_len];
        let (packed_keys, rest) = packed.split_at(layout.keys);
        let (values, positions) = rest.split_at(layout.values);
        let count = rows.len();
        let scores = &mut scores[..count * keys];

        let left = Rows::of(q.columns(columns.clone()).rows(rows.clone()));
        let right = Panels::Packed {
            data: packed_keys,
            outputs: keys,
        };
        gemm::multiply_here(&plain(left, right), ViewMut::new(scores, count, keys));
        if let Some(relative) = &options.relative {
            let part = relative.queries.columns(columns.clone()).rows(rows.clone());
            add_positions(part, positions, keys, rows.start, scores, shifted);
        }
        let mut factors = [0.0; QUERIES];
        for (index, row) in scores.chunks_exact_mut(keys).enumerate() {
            maths::scale(row, options.scale);
            if options.causal {
                let visible = (rows.start + index + 1 + keys).saturating_sub(queries);
                row[visible.min(keys)..].fill(f32::NEG_INFINITY);
            }
            factors[index] = maths::unnormalised_softmax(row);
        }
        let left = Rows::of(View::new(scores, count, keys));
        let right = Panels::Plain {
            data: values,
            stride: size.next_multiple_of(16),
            outputs: size,
        };
        // Each task has its own rows and columns of the output.
        gemm::multiply_into(&plain(left, right), &output, rows.start, columns.start);
        for (row, &factor) in rows.zip(&factors) {
            // SAFETY: each task has its own rows and columns of the output.
            maths::scale(unsafe { output.row(row, columns.start, size) }, factor);
        }
    });
}

fn plain<'a>(left: Rows<'a>, right: Panels<'a>) -> Product<'a> {
    Product {
        left,
        right,
        bias: None,
        activation: Activation::Identity,
        store: Store::Overwrite,
    }
}

/// Relative shift: adds query row i's product with position row keys − 1 − i + j to its score with
/// key j.
fn add_positions(
    queries: View<'_>,
    positions: &[f32],
    keys: usize,
    first_query: usize,
    scores: &mut [f32],
    shifted: &mut [f32],
) {
    let (count, size) = (queries.row_count(), queries.column_count());
    // Only whole panels can be multiplied, so begin with the panel of the last query's first
    // position.
    let first = (keys - first_query - count) / PANEL * PANEL;
    let end = (2 * keys - 1 - first_query)
        .next_multiple_of(PANEL)
        .min((2 * keys - 1).next_multiple_of(16));
    let width = end - first;
    let right = Panels::Packed {
        data: &positions[first * size..],
        outputs: width,
    };
    let shifted = &mut shifted[..count * width];
    gemm::multiply_here(
        &plain(Rows::of(queries), right),
        ViewMut::new(shifted, count, width),
    );
    for (index, row) in scores.chunks_exact_mut(keys).enumerate() {
        let start = keys - 1 - (first_query + index) - first;
        let shifted = &shifted[index * width + start..][..keys];
        maths::add(row, shifted);
    }
}
