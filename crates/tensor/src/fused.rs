//! Fused operations of devices on which launches are expensive.

use crate::cache::{CacheLayout, CachePlaces};
use crate::layers::{Conv1d, LayerNorm, Linear, Norm};
use crate::matrix::Matrix;
use crate::operations::{Activation, Attention, Convolving, Rounding};
use crate::view::{View, ViewMut};

/// Fused operations. Each one gives the same bits as the plain operations in sequence, to which
/// [`crate::Context`] falls back.
///
/// Whether a device fuses an operation may depend on layers, but never on the number of rows (its
/// scratch may): a forward must use the same tensors for any number of rows.
pub trait FusedOperations {
    /// Layers of one shape over the same rows, after an optional norm. The results are stacked,
    /// `[layers · rows, outputs]`.
    fn linears(
        &self,
        x: View<'_>,
        norm: Option<&Norm>,
        layers: &[&Linear],
        activation: Activation,
        rounding: Rounding,
        out: ViewMut<'_>,
    );

    /// Whether [`FusedOperations::gated_linear`] supports these weights.
    fn takes_gated(&self, gate_up: &Linear) -> bool;
    /// f32 elements of scratch for [`FusedOperations::gated_linear`].
    fn gated_linear_scratch(&self, rows: usize, gate_up: &Linear) -> usize;
    /// A norm, a layer whose first half of outputs is the gate, and silu(gate) · up.
    fn gated_linear(
        &self,
        x: View<'_>,
        norm: &Norm,
        gate_up: &Linear,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    );

    /// Whether [`FusedOperations::project`] supports these weights.
    fn takes_projection(&self, joined: &Linear, layout: CacheLayout) -> bool;
    /// f32 elements of scratch for [`FusedOperations::project`].
    fn project_scratch(&self, rows: usize, joined: &Linear) -> usize;
    /// A norm; the projection to queries, keys and values; their rotation by `[cosines, sines]`;
    /// and the store of keys and values as in [`crate::Operations::cache_store`]. `out` gets the
    /// queries.
    #[allow(
        clippy::too_many_arguments,
        reason = "rows, three layers of a block, where results go, scratch"
    )]
    fn project(
        &self,
        x: View<'_>,
        norm: &Norm,
        joined: &Linear,
        angles: Option<[View<'_>; 2]>,
        layer: usize,
        places: &mut CachePlaces<'_>,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    );

    /// Whether [`FusedOperations::embedding_sum`] supports these tables.
    fn takes_embedding(&self, table: &Matrix, positions: Option<&Matrix>) -> bool;
    /// Rows of a table plus rows of another one, each repeated `times` times.
    fn embedding_sum(
        &self,
        table: &Matrix,
        ids: &[u32],
        positions: Option<(&Matrix, &[u32])>,
        times: usize,
        out: ViewMut<'_>,
    );

    /// A convolution over time within each of `sequences` stacked sequences.
    fn conv1d_sequences(
        &self,
        x: View<'_>,
        sequences: usize,
        layer: &Conv1d,
        options: &Convolving<'_>,
        rounding: Rounding,
        out: ViewMut<'_>,
    );

    /// Whether [`FusedOperations::conv1d_norm`] supports these weights.
    fn takes_conv1d_norm(&self, layer: &Conv1d) -> bool;
    /// As [`FusedOperations::conv1d_sequences`], then a norm, an activation, and the addition of
    /// one row.
    #[allow(
        clippy::too_many_arguments,
        reason = "rows, three layers of a block, a sum, output"
    )]
    fn conv1d_norm(
        &self,
        x: View<'_>,
        sequences: usize,
        layer: &Conv1d,
        norm: &LayerNorm,
        activation: Activation,
        row: Option<View<'_>>,
        rounding: Rounding,
        out: ViewMut<'_>,
    );

    /// Attention of queries over keys and values within each of several stacked sequences of one
    /// length, of which queries see the first `keys_seen` keys.
    fn attention_sequences(
        &self,
        parts: [View<'_>; 3],
        keys_seen: &[usize],
        options: &Attention<'_>,
        rounding: Rounding,
        out: ViewMut<'_>,
    );
}
