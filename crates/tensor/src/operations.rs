//! The one list of operations that a device provides.

use crate::cache::{CacheLayout, CachePlaces};
use crate::fused::FusedOperations;
use crate::harmonics::Harmonics;
use crate::layers::{Conv1d, Conv2d, ConvTranspose1d};
use crate::matrix::{Matrix, Vector};
use crate::noise::Noise;
use crate::stft::Stft;
use crate::view::{View, ViewMut};

/// A function of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// x.
    Identity,
    /// max(x, 0).
    Relu,
    /// x, or `slope` · x below zero.
    LeakyRelu(f32),
    /// x, or eˣ − 1 below zero.
    Elu,
    /// x Φ(x) with the exact error function.
    GeluErf,
    /// GELU's tanh form, GPT-2's `gelu_new`.
    GeluTanh,
    /// x σ(x).
    Silu,
    /// x tanh(ln(1 + eˣ)).
    Mish,
    /// tanh x.
    Tanh,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// eˣ.
    Exp,
    /// |x|.
    Abs,
}

/// What happens to what the output held before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// It is lost.
    Overwrite,
    /// The result is added to it.
    Add,
}

/// How finely rows are rounded where weights are in integers; elsewhere it changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To 16 bits: what the weights' own rounding costs is not made worse.
    #[default]
    Fine,
    /// To 8 bits, attention too: many rows take a third of the time.
    Coarse,
}

/// What happens before and after a convolution, in the same pass.
#[derive(Clone, Copy, Debug)]
pub struct Convolving<'a> {
    /// α by channel of a Snake over the input: x + sin²(α x) / (α + 1e-9).
    pub snake: Option<&'a Vector>,
    /// The function of each element of the result.
    pub activation: Activation,
    /// What happens to what the output held; `Add` comes after the activation.
    pub store: Store,
}

impl Default for Convolving<'_> {
    fn default() -> Self {
        Convolving {
            snake: None,
            activation: Activation::Identity,
            store: Store::Overwrite,
        }
    }
}

/// Scaled dot-product attention over rows; heads lie side by side in the columns.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Number of heads.
    pub heads: usize,
    /// Scores are multiplied by it; 1/√(head size) in most networks.
    pub scale: f32,
    /// Whether query i sees only keys up to i + (keys − queries).
    pub causal: bool,
    /// Scores by relative position, added before scaling (conformer).
    pub relative: Option<RelativePositions<'a>>,
}

/// Transformer-XL's position term: query row i and key row j add `queries[i] · positions[keys − 1 − i + j]`, so that the first row of
/// `positions` belongs to the key that lies furthest after its query... in the order that the encoding table lists them.
#[derive(Clone, Copy, Debug)]
pub struct RelativePositions<'a> {
    /// The queries with the position bias added, `[queries, heads · size]`.
    pub queries: View<'a>,
    /// The projected encodings, `[2 · keys − 1, heads · size]`.
    pub positions: View<'a>,
}

/// Where [`Operations::sinusoids`] puts the sine and the cosine of each rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinusoidOrder {
    /// All sines of a row, then all its cosines.
    Halves,
    /// Sine and cosine of one rate side by side.
    Pairs,
}

/// Positions that are equally far apart, one a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvenPositions {
    /// The first row's.
    pub first: f32,
    /// From one row to the next.
    pub step: f32,
}

/// What a device computes. [`crate::Context`] checks shapes, takes outputs and scratch from the workspace, and calls these; every
/// shape is right here, and no view is dry.
///
/// All views lie on the device. Arguments that are slices of the host (ids, positions, rates, phases) are small and taken when the call is
/// made: a device that works behind the caller's back copies them. Operations run in the order of the calls.
///
/// Scratch is one row of as many elements as the operation's `…_scratch` asked for, with unspecified contents.
pub trait Operations: Send + Sync {
    /// A name for reports, with the instruction set.
    fn name(&self) -> &str;

    /// What it does as one, where each launch has its price.
    fn fused(&self) -> Option<&dyn FusedOperations> {
        None
    }

    /// f32 elements of scratch that [`Operations::linear`] needs.
    fn linear_scratch(&self, rows: usize, weight: &Matrix, rounding: Rounding) -> usize;
    /// `out = activation(x Wᵀ + bias)`, or added to what `out` held.
    #[allow(
        clippy::too_many_arguments,
        reason = "one fused product: operands, epilogue, output, scratch"
    )]
    fn linear(
        &self,
        x: View<'_>,
        weight: &Matrix,
        bias: Option<&Vector>,
        activation: Activation,
        store: Store,
        rounding: Rounding,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    );

    /// f32 elements of scratch that [`Operations::conv1d`] needs for `time` input rows.
    fn conv1d_scratch(&self, time: usize, layer: &Conv1d, options: &Convolving<'_>) -> usize;
    /// A convolution over time.
    fn conv1d(
        &self,
        x: View<'_>,
        layer: &Conv1d,
        options: &Convolving<'_>,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    );

    /// f32 elements of scratch that [`Operations::conv_transpose1d`] needs for `time` input rows.
    fn conv_transpose1d_scratch(&self, time: usize, layer: &ConvTranspose1d) -> usize;
    /// A transposed convolution over time.
    fn conv_transpose1d(
        &self,
        x: View<'_>,
        layer: &ConvTranspose1d,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    );

    /// f32 elements of scratch that [`Operations::conv2d`] needs for an input of `size`.
    fn conv2d_scratch(&self, size: [usize; 2], layer: &Conv2d) -> usize;
    /// A convolution over a plane of `size`, `[height · width, channels]`.
    fn conv2d(
        &self,
        x: View<'_>,
        size: [usize; 2],
        layer: &Conv2d,
        activation: Activation,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    );

    /// Normalises each row to mean 0 and variance 1, then scales and shifts.
    fn layer_norm(
        &self,
        x: View<'_>,
        scale: Option<&Vector>,
        shift: Option<&Vector>,
        epsilon: f32,
        out: ViewMut<'_>,
    );
    /// Divides each row by its root mean square, then scales.
    fn rms_norm(&self, x: View<'_>, scale: &Vector, epsilon: f32, out: ViewMut<'_>);

    /// Applies a function to each element.
    fn activate(&self, x: ViewMut<'_>, activation: Activation);
    /// silu(gate) · up, where the first half of the columns is the gate.
    fn gated_silu(&self, x: View<'_>, out: ViewMut<'_>);

    /// x = x · `scale` + y · `factor`, where y has as many rows as x, or one row for all.
    fn add_scaled(&self, x: ViewMut<'_>, scale: f32, y: View<'_>, factor: f32);
    /// x = x · y, where y has as many rows as x, or one row for all.
    fn multiply(&self, x: ViewMut<'_>, y: View<'_>);
    /// x = x · `factor`.
    fn scale(&self, x: ViewMut<'_>, factor: f32);
    /// Every element becomes `value`.
    fn fill(&self, out: ViewMut<'_>, value: f32);
    /// Copies rows.
    fn copy(&self, x: View<'_>, out: ViewMut<'_>);
    /// Each row `times` times, one after the other: `[n, columns]` → `[n · times, columns]`.
    fn repeat_rows(&self, x: View<'_>, times: usize, out: ViewMut<'_>);

    /// Softmax of each row.
    fn softmax(&self, x: ViewMut<'_>);
    /// f32 elements of scratch that [`Operations::attention`] needs.
    fn attention_scratch(
        &self,
        queries: usize,
        keys: usize,
        columns: usize,
        options: &Attention<'_>,
        rounding: Rounding,
    ) -> usize;
    /// Attention of `q` over `k` and `v`.
    #[allow(
        clippy::too_many_arguments,
        reason = "three operands, choices, output, scratch"
    )]
    fn attention(
        &self,
        q: View<'_>,
        k: View<'_>,
        v: View<'_>,
        options: &Attention<'_>,
        rounding: Rounding,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    );

    /// Stores each row's keys and values at its own position of its sequence, in one layer's part of the pages.
    fn cache_store(
        &self,
        keys: View<'_>,
        values: View<'_>,
        layer: usize,
        places: &mut CachePlaces<'_>,
    );
    /// f32 elements of scratch that [`Operations::attention_cached`] needs.
    fn attention_cached_scratch(&self, _rows: usize, _layout: CacheLayout) -> usize {
        0
    }
    /// Attention of each row of `q` over its own cached past, its own position included, in one layer's part of the pages.
    fn attention_cached(
        &self,
        q: View<'_>,
        layer: usize,
        places: &CachePlaces<'_>,
        scale: f32,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    );

    /// Cosines and sines of `positions[row] · frequencies[column]`, `[positions, frequencies]` each. The product is rounded to f32.
    fn rotary_angles(
        &self,
        positions: &[u32],
        frequencies: &[f32],
        cosines: ViewMut<'_>,
        sines: ViewMut<'_>,
    );
    /// Rotary positions: turns channels c and c + size / 2 of every head by the angle c of the row.
    fn rotate(&self, x: ViewMut<'_>, heads: usize, cosines: View<'_>, sines: View<'_>);
    /// Sines and cosines of position · rate, `[rows, 2 · rates]`; at most 512 rates.
    fn sinusoids(
        &self,
        positions: EvenPositions,
        rates: &[f32],
        order: SinusoidOrder,
        out: ViewMut<'_>,
    );

    /// f32 elements of scratch that [`Operations::lstm_layer`] needs.
    fn lstm_layer_scratch(&self, batch: usize, recurrent: &Matrix) -> usize;
    /// One layer of an LSTM over `batch` sequences of one length, from zero states. `inputs` `[batch · time, 4 · hidden]` are the gates'
    /// shares of the inputs (input, forget, cell, output), to which a step adds `recurrent` times the hidden state before it; `out`
    /// `[batch · time, hidden]` gets the hidden states.
    fn lstm_layer(
        &self,
        inputs: View<'_>,
        batch: usize,
        recurrent: &Matrix,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    );

    /// Rows of a table.
    fn embedding(&self, table: &Matrix, ids: &[u32], out: ViewMut<'_>);

    /// By column the mean over all rows, then the unbiased standard deviation, `[n, columns]` → `[1, 2 · columns]`; summed in f64.
    fn moments(&self, x: View<'_>, out: ViewMut<'_>);
    /// By column the mean over all rows plus the mean over each segment of `segment` rows (the last one perhaps shorter),
    /// `[n, columns]` → `[⌈n / segment⌉, columns]`; summed in f64, rounded once.
    fn segment_means(&self, x: View<'_>, segment: usize, out: ViewMut<'_>);

    /// The normal numbers of rows from `first_row` on, one a column ([`Noise::normals`]).
    fn normals(&self, noise: Noise, first_row: u64, out: ViewMut<'_>);
    /// The harmonic source of frames whose fundamental frequencies are `f0` `[frames, 1]`: `[frames · samples a frame, harmonics]`.
    fn harmonics(&self, f0: View<'_>, source: &Harmonics<'_>, out: ViewMut<'_>);
    /// Short-time spectra of samples `[n, 1]`: `[n / hop + 1, 2 · bins]`, real parts, then imaginary ones. Ends are mirrored.
    fn spectrum(&self, samples: View<'_>, transform: &Stft, out: ViewMut<'_>);
    /// Samples `[(frames − 1) · hop, 1]`, within ± `sample_max`, of log magnitudes, cut at `magnitude_max` once raised, and phases before
    /// their sine, `[frames, 2 · bins]`.
    fn overlap_add(
        &self,
        spectrum: View<'_>,
        transform: &Stft,
        magnitude_max: f32,
        sample_max: f32,
        out: ViewMut<'_>,
    );
}
