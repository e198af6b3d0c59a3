//! Attention in f32.

use super::attention::{AttentionKernel, Sizes};
use super::gemm_f32::{self, F32Kernel, PanelsF32, RowsF32};
use super::maths;
use super::output::OutputPart;
use crate::matrix::PANEL;
use crate::operations::Attention;
use crate::view::View;
use std::ops::Range;

/// Queries per task.
const QUERIES: usize = 96;

/// Attention in f32, and the parts of its scratch in floats.
pub(crate) struct F32Attention<'a> {
    options: &'a Attention<'a>,
    sizes: Sizes,
    /// One head's packed keys.
    keys: usize,
    /// One head's values; rows are padded to whole vectors.
    values: usize,
    /// One head's packed positions.
    positions: usize,
    /// One task's scores.
    scores: usize,
    /// One task's position scores.
    shifted: usize,
}

impl<'a> F32Attention<'a> {
    pub(crate) fn new(sizes: Sizes, options: &'a Attention<'a>) -> F32Attention<'a> {
        let Sizes {
            queries,
            keys,
            size,
            ..
        } = sizes;
        let block = QUERIES.min(queries);
        // Room for positions is kept wherever there can be some.
        let relative = usize::from(queries == keys);
        F32Attention {
            options,
            sizes,
            keys: gemm_f32::packed_len(keys, size),
            values: keys * size.next_multiple_of(16),
            positions: relative * gemm_f32::packed_len(2 * keys, size),
            scores: block * keys,
            shifted: relative * block * (keys + block + 2 * PANEL),
        }
    }
}

impl AttentionKernel for F32Attention<'_> {
    const QUERIES: usize = QUERIES;

    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn head_len(&self) -> usize {
        self.keys + self.values + self.positions
    }

    fn task_len(&self) -> usize {
        self.scores + self.shifted
    }

    fn pack(&self, head: usize, k: View<'_>, v: View<'_>, packed: &mut [f32]) {
        let size = self.sizes.size;
        let (keys, rest) = packed.split_at_mut(self.keys);
        let (values, positions) = rest.split_at_mut(self.values);
        gemm_f32::pack(k, keys);
        let width = size.next_multiple_of(16);
        for (row, out) in values.chunks_exact_mut(width).enumerate() {
            out[..size].copy_from_slice(v.row(row));
            out[size..].fill(0.0);
        }
        if let Some(relative) = &self.options.relative {
            let columns = head * size..(head + 1) * size;
            gemm_f32::pack(relative.positions.columns(columns), positions);
        }
    }

    fn attend(
        &self,
        head: usize,
        queries: Range<usize>,
        q: View<'_>,
        packed: &[f32],
        scratch: &mut [f32],
        out: &mut OutputPart<'_>,
    ) {
        let Sizes { keys, size, .. } = self.sizes;
        let (scores, shifted) = scratch.split_at_mut(self.scores);
        let (packed_keys, rest) = packed.split_at(self.keys);
        let (values, positions) = rest.split_at(self.values);
        let count = queries.len();
        let scores = &mut scores[..count * keys];

        let right = PanelsF32::Packed {
            data: packed_keys,
            outputs: keys,
        };
        let product = F32Kernel::new(RowsF32::of(q), right).product();
        product.multiply_here(&mut OutputPart::new(scores, count, keys));
        if let Some(relative) = &self.options.relative {
            let columns = head * size..(head + 1) * size;
            let part = relative.queries.columns(columns).rows(queries.clone());
            add_positions(part, positions, keys, queries.start, scores, shifted);
        }
        let mut factors = [0.0; QUERIES];
        for (index, row) in scores.chunks_exact_mut(keys).enumerate() {
            maths::scale(row, self.options.scale);
            row[self.sizes.visible(queries.start + index)..].fill(f32::NEG_INFINITY);
            factors[index] = maths::unnormalised_softmax(row);
        }
        let left = RowsF32::of(View::new(scores, count, keys));
        let right = PanelsF32::Plain {
            data: values,
            stride: size.next_multiple_of(16),
            outputs: size,
        };
        F32Kernel::new(left, right).product().multiply_here(out);
        for (index, &factor) in factors.iter().enumerate().take(count) {
            maths::scale(out.row(index), factor);
        }
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
    let right = PanelsF32::Packed {
        data: &positions[first * size..],
        outputs: width,
    };
    let shifted = &mut shifted[..count * width];
    let product = F32Kernel::new(RowsF32::of(queries), right).product();
    product.multiply_here(&mut OutputPart::new(shifted, count, width));
    for (index, row) in scores.chunks_exact_mut(keys).enumerate() {
        let start = keys - 1 - (first_query + index) - first;
        let shifted = &shifted[index * width + start..][..keys];
        maths::add(row, shifted);
    }
}
