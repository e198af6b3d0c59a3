//! The attention weights of watched heads over the KV cache.

use super::maths::dot;
use crate::cache::CachePlaces;
use crate::operations::WatchedHeads;
use crate::view::View;

/// Records the weights with which the watched heads of each row attend to its watched positions.
/// The softmax is over its whole past.
pub(crate) fn record(
    q: View<'_>,
    layer: usize,
    places: &CachePlaces<'_>,
    scale: f32,
    watched: WatchedHeads<'_>,
) {
    let layout = places.layout();
    let rows = watched.rows();
    let WatchedHeads { heads, mut record } = watched;
    for (index, &head) in heads.iter().enumerate() {
        for (row, at) in places.rows().iter().enumerate() {
            let (first, count) = (at.watched_first as usize, at.watched_count as usize);
            if count > 0 {
                let q = &q.row(row)[head * layout.size..][..layout.size];
                let out = &mut record.row_mut(index * rows + at.watched_row as usize)[..count];
                weights(q, [row, layer, head], places, scale, first, out);
            }
        }
    }
}

/// Writes to `out` the weights with which a head of a row in a layer, whose query is `q`, attends
/// to the positions from `first` on.
fn weights(
    q: &[f32],
    [row, layer, head]: [usize; 3],
    places: &CachePlaces<'_>,
    scale: f32,
    first: usize,
    out: &mut [f32],
) {
    let layout = places.layout();
    let row_bytes = layout.row_bytes();
    let mut key = vec![0.0; layout.size];
    let (mut largest, mut total, mut position) = (f32::NEG_INFINITY, 0.0_f32, 0);
    for part in places.parts(row, layer) {
        for bytes in part.keys.chunks_exact(row_bytes) {
            (layout.precision).decode(bytes, layout.heads, layout.size, head, &mut key);
            let score = scale * dot(q, &key);
            if score > largest {
                total *= (largest - score).exp();
                largest = score;
            }
            total += (score - largest).exp();
            if (first..first + out.len()).contains(&position) {
                out[position - first] = score;
            }
            position += 1;
        }
    }
    for weight in out {
        *weight = (*weight - largest).exp() / total;
    }
}
