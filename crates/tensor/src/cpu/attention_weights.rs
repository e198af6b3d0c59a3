//! The attention weights of one head and row over the KV cache, for inspection.

use super::maths::dot;
use crate::cache::CachePlaces;
use crate::operations::WatchedHead;
use std::ops::Range;

/// Writes to `out` the weights with which a row, whose query of the head is `q`, attends to
/// `positions`. The softmax is over its whole past.
pub(crate) fn attention_weights(
    q: &[f32],
    row: usize,
    head: WatchedHead,
    places: &CachePlaces<'_>,
    positions: Range<usize>,
    out: &mut [f32],
) {
    let layout = places.layout();
    let row_bytes = layout.row_bytes();
    let mut key = vec![0.0; layout.size];
    let (mut largest, mut total, mut position) = (f32::NEG_INFINITY, 0.0_f32, 0);
    for part in places.parts(row, head.layer) {
        for bytes in part.keys.chunks_exact(row_bytes) {
            (layout.precision).decode(bytes, layout.heads, layout.size, head.head, &mut key);
            let score = head.scale * dot(q, &key);
            if score > largest {
                total *= (largest - score).exp();
                largest = score;
            }
            total += (score - largest).exp();
            if positions.contains(&position) {
                out[position - positions.start] = score;
            }
            position += 1;
        }
    }
    for weight in out {
        *weight = (*weight - largest).exp() / total;
    }
}
