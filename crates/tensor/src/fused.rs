//! Operations that some devices do as one.

use crate::cache::{CacheLayout, CachePlaces};
use crate::layers::{Conv1d, LayerNorm, Linear, Norm};
use crate::matrix::Matrix;
use crate::operations::{Activation, Attention, Convolving};
use crate::view::{View, ViewMut};

/// What a device does as one where launches are what it has to save. Each of these has the bits of
/// the plain operations one after the other, and [`crate::Context`] falls back to them.
///
/// Whether a device takes an operation depends on layers and never on the number of rows, which its
/// scratch may grow with: the tensors of a forward must be the same ones for any number.
pub trait FusedOperations {
    /// Layers of one shape over the same rows, which are normalised first where there is a norm: the
    /// results lie one below the other, `[layers · rows, outputs]`.
    fn linears(
        &self,
        x: View<'_>,
        norm: Option<&Norm>,
        layers: &[&Linear],
        activation: Activation,
        out: ViewMut<'_>,
    );

    /// Whether [`FusedOperations::gated_linear`] takes these weights.
    fn takes_gated(&self, gate_up: &Linear) -> bool;
    /// f32 elements of scratch that [`FusedOperations::gated_linear`] needs.
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

    /// Whether [`FusedOperations::project`] takes these weights.
    fn takes_projection(&self, joined: &Linear, layout: CacheLayout) -> bool;
    /// f32 elements of scratch that [`FusedOperations::project`] needs.
    fn project_scratch(&self, rows: usize, joined: &Linear) -> usize;
    /// A norm, the projection to queries, keys and values, their rotation by `[cosines, sines]`, and
    /// the store of keys and values as in [`crate::Operations::cache_store`]; `out` gets the queries.
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

    /// Whether [`FusedOperations::embedding_sum`] takes these tables.
    fn takes_embedding(&self, table: &Matrix, positions: Option<&Matrix>) -> bool;
    /// Rows of a table plus rows of another one, each `times` times.
    fn embedding_sum(
        &self,
        table: &Matrix,
        ids: &[u32],
        positions: Option<(&Matrix, &[u32])>,
        times: usize,
        out: ViewMut<'_>,
    );

    /// A convolution over the time of each of `sequences` sequences that lie one below the other.
    fn conv1d_sequences(
        &self,
        x: View<'_>,
        sequences: usize,
        layer: &Conv1d,
        options: &Convolving<'_>,
        out: ViewMut<'_>,
    );

    /// Whether [`FusedOperations::conv1d_norm`] takes these weights.
    fn takes_conv1d_norm(&self, layer: &Conv1d) -> bool;
    /// As [`FusedOperations::conv1d_sequences`], then a norm, a function of each element, and the sum
    /// with one row.
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
        out: ViewMut<'_>,
    );

    /// Attention within each of `sequences` sequences that lie one below the other.
    fn attention_sequences(
        &self,
        q: View<'_>,
        k: View<'_>,
        v: View<'_>,
        sequences: usize,
        options: &Attention<'_>,
        out: ViewMut<'_>,
    );
}
