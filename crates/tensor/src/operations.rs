//! The operations of a device.

use crate::cache::{CacheLayout, CachePlaces};
use crate::fused::FusedOperations;
use crate::harmonics::Harmonics;
use crate::layers::{Conv1d, Conv2d, ConvTranspose1d, Linear, Norm};
use crate::matrix::{Matrix, Vector};
use crate::noise::Noise;
use crate::stft::Stft;
use crate::view::{View, ViewMut};

/// An element-wise activation function.
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

impl Activation {
    /// One of each kind, for tests of them all.
    pub const EACH: [Activation; 12] = [
        Activation::Identity,
        Activation::Relu,
        Activation::LeakyRelu(0.1),
        Activation::Elu,
        Activation::GeluErf,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Mish,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Exp,
        Activation::Abs,
    ];
}

/// Treatment of the output's previous contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// They are overwritten.
    Overwrite,
    /// The result is added to it.
    Add,
}

/// Rounding of activations where weights are integers; no effect elsewhere. A CUDA device with
/// matrix units rounds to 22 bits, and to 11 where rounding is coarse and weights are
/// [`crate::Matrix::for_many_rows`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To 16 bits, well below the rounding error of the weights.
    #[default]
    Fine,
    /// To 8 bits, attention included: a third of the time for many rows.
    Coarse,
}

/// Operations fused with a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Convolving<'a> {
    /// α by channel of a Snake before the convolution: x + sin²(α x) / (α + 1e-9).
    pub snake: Option<&'a Vector>,
    /// Activation of each element of the result.
    pub activation: Activation,
    /// Treatment of the output's previous contents; `Add` comes after the activation.
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

/// Most sequences of one attention that may see different numbers of keys.
pub const SEQUENCES_MAX: usize = 16;

/// Scaled dot-product attention over rows; heads are side by side in the columns.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Number of heads.
    pub heads: usize,
    /// Factor of the scores; 1/√(head size) in most networks.
    pub scale: f32,
    /// Whether query i sees only keys up to i + (keys − queries).
    pub causal: bool,
    /// Relative position scores, added before scaling (conformer).
    pub relative: Option<RelativePositions<'a>>,
}

/// The position term of Transformer-XL: query row i and key row j add `queries[i] · positions[keys
/// − 1 − i + j]`. The first row of `positions` therefore belongs to the key furthest before its
/// query, in the order of the encoding table.
#[derive(Clone, Copy, Debug)]
pub struct RelativePositions<'a> {
    /// The queries with the position bias added, `[queries, heads · size]`.
    pub queries: View<'a>,
    /// The projected encodings, `[2 · keys − 1, heads · size]`.
    pub positions: View<'a>,
}

/// Order of sines and cosines in [`Operations::sinusoids`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinusoidOrder {
    /// All sines of a row, then all its cosines.
    Halves,
    /// The sine and the cosine of each rate side by side.
    Pairs,
}

/// Equidistant positions, one per row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvenPositions {
    /// Position of the first row.
    pub first: f32,
    /// Distance from one row to the next.
    pub step: f32,
}

/// Heads of a layer whose attention weights are recorded while they attend to cached positions.
pub struct WatchedHeads<'a> {
    /// The heads; most devices take four a layer.
    pub heads: &'a [usize],
    /// `[heads · rows, positions]`: of each head the rows of [`CachePlaces::watch`]. Only watched
    /// positions are written.
    pub record: ViewMut<'a>,
}

impl WatchedHeads<'_> {
    /// Rows of one head's record.
    pub(crate) fn rows(&self) -> usize {
        self.record.row_count() / self.heads.len().max(1)
    }

    /// # Panics
    /// If there is no such head, or no room for a watched row.
    pub(crate) fn check(&self, places: &CachePlaces<'_>) {
        let known = (self.heads.iter()).all(|&head| head < places.layout().heads);
        let room = (places.rows().iter()).all(|row| {
            row.watched_count == 0
                || (row.watched_count as usize <= self.record.column_count()
                    && (row.watched_row as usize) < self.rows())
        });
        assert!(
            known && room,
            "heads {:?} with a record of {} × {}",
            self.heads,
            self.record.row_count(),
            self.record.column_count()
        );
    }
}

/// Chains of layers whose rows stay in a core's caches from one layer to the next. Each one gives
/// the same bits as the plain operations in sequence, to which [`crate::Context`] falls back where
/// no scratch is named.
pub trait LayerChains {
    /// f32 elements of scratch for [`LayerChains::linears`]; `None` if it does not apply.
    fn linears_scratch(&self, rows: usize, layers: &[&Linear], rounding: Rounding)
    -> Option<usize>;
    /// Layers of one shape over the same rows, after an optional norm. The results are stacked,
    /// `[layers · rows, outputs]`.
    #[allow(
        clippy::too_many_arguments,
        reason = "operands, layers, epilogue, output, scratch"
    )]
    fn linears(
        &self,
        x: View<'_>,
        norm: Option<&Norm>,
        layers: &[&Linear],
        activation: Activation,
        rounding: Rounding,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    );

    /// f32 elements of scratch for [`LayerChains::feed_forward`]; `None` if it does not apply.
    fn feed_forward_scratch(
        &self,
        rows: usize,
        layers: [&Linear; 2],
        rounding: Rounding,
    ) -> Option<usize>;
    /// Adds a norm, a layer, an activation and a second layer of `x` to `x`.
    fn feed_forward(
        &self,
        x: ViewMut<'_>,
        norm: &Norm,
        layers: [&Linear; 2],
        activation: Activation,
        rounding: Rounding,
        scratch: ViewMut<'_>,
    );
}

/// The operations of a device. [`crate::Context`] checks shapes, takes outputs and scratch from the
/// workspace, and calls these: all shapes are valid here, and no view is dry.
///
/// All views are on the device. Arguments that are host slices (ids, positions, rates, phases) are
/// small and read during the call: an asynchronous device copies them. Operations run in the order
/// of the calls.
///
/// Scratch is one row of as many elements as the operation's `…_scratch` method returned, with
/// unspecified contents.
pub trait Operations: Send + Sync {
    /// Name for reports, including the instruction set.
    fn name(&self) -> &str;

    /// The fused operations of a device on which launches are expensive.
    fn fused(&self) -> Option<&dyn FusedOperations> {
        None
    }

    /// Whether forwards through the same weights should run as one batch with stacked rows, because
    /// launches are expensive. Elsewhere a batch would only take more memory.
    fn favours_batches(&self) -> bool {
        self.fused().is_some()
    }

    /// The chains of layers of a device that computes on cores with caches.
    fn chains(&self) -> Option<&dyn LayerChains> {
        None
    }

    /// f32 elements of scratch that [`Operations::linear`] needs.
    fn linear_scratch(&self, rows: usize, weight: &Matrix, rounding: Rounding) -> usize;
    /// `out = activation(x Wᵀ + bias)`, or added to the contents of `out`.
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

    /// f32 elements of scratch for [`Operations::conv1d`] with `time` input rows.
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

    /// f32 elements of scratch for [`Operations::conv_transpose1d`] with `time` input rows.
    fn conv_transpose1d_scratch(&self, time: usize, layer: &ConvTranspose1d) -> usize;
    /// A transposed convolution over time.
    fn conv_transpose1d(
        &self,
        x: View<'_>,
        layer: &ConvTranspose1d,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    );

    /// f32 elements of scratch for [`Operations::conv2d`] with an input of `size`.
    fn conv2d_scratch(&self, size: [usize; 2], layer: &Conv2d) -> usize;
    /// A two-dimensional convolution of an input of `size`, `[height · width, channels]`.
    fn conv2d(
        &self,
        x: View<'_>,
        size: [usize; 2],
        layer: &Conv2d,
        activation: Activation,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    );

    /// Layer normalisation of each row.
    fn layer_norm(
        &self,
        x: View<'_>,
        scale: Option<&Vector>,
        shift: Option<&Vector>,
        epsilon: f32,
        out: ViewMut<'_>,
    );
    /// RMS normalisation of each row.
    fn rms_norm(&self, x: View<'_>, scale: &Vector, epsilon: f32, out: ViewMut<'_>);

    /// Applies an activation to each element.
    fn activate(&self, x: ViewMut<'_>, activation: Activation);
    /// silu(gate) · up, where the first half of the columns is the gate.
    fn gated_silu(&self, x: View<'_>, out: ViewMut<'_>);

    /// x = x · `scale` + y · `factor`, where y has as many rows as x or a single row, which is
    /// broadcast.
    fn add_scaled(&self, x: ViewMut<'_>, scale: f32, y: View<'_>, factor: f32);
    /// x = x · y, where y has as many rows as x or a single row, which is broadcast.
    fn multiply(&self, x: ViewMut<'_>, y: View<'_>);
    /// x = x · `factor`.
    fn scale(&self, x: ViewMut<'_>, factor: f32);
    /// Sets every element to `value`.
    fn fill(&self, out: ViewMut<'_>, value: f32);
    /// Copies rows.
    fn copy(&self, x: View<'_>, out: ViewMut<'_>);
    /// Repeats each row `times` times: `[n, columns]` → `[n · times, columns]`.
    fn repeat_rows(&self, x: View<'_>, times: usize, out: ViewMut<'_>);

    /// Softmax of each row.
    fn softmax(&self, x: ViewMut<'_>);
    /// f32 elements of scratch for [`Operations::attention`].
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

    /// Stores each row's keys and values at its own position of its sequence, in one layer's part
    /// of the pages.
    fn cache_store(
        &self,
        keys: View<'_>,
        values: View<'_>,
        layer: usize,
        places: &mut CachePlaces<'_>,
    );
    /// f32 elements of scratch for [`Operations::attention_cached`].
    fn attention_cached_scratch(&self, _rows: usize, _layout: CacheLayout) -> usize {
        0
    }
    /// Attention of each row of `q` over its cached past including its own position, in one layer's
    /// part of the pages. The weights of `watched` heads are recorded.
    #[allow(
        clippy::too_many_arguments,
        reason = "queries, their pasts, what is recorded, output, scratch"
    )]
    fn attention_cached(
        &self,
        q: View<'_>,
        layer: usize,
        places: &CachePlaces<'_>,
        scale: f32,
        watched: Option<WatchedHeads<'_>>,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    );

    /// Cosines and sines of `positions[row] · frequencies[column]`, `[positions, frequencies]`
    /// each. The product is rounded to f32.
    fn rotary_angles(
        &self,
        positions: &[u32],
        frequencies: &[f32],
        cosines: ViewMut<'_>,
        sines: ViewMut<'_>,
    );
    /// Rotary position embedding: rotates channels c and c + size / 2 of every head by angle c of
    /// the row.
    fn rotate(&self, x: ViewMut<'_>, heads: usize, cosines: View<'_>, sines: View<'_>);
    /// Sines and cosines of position · rate, `[rows, 2 · rates]`; at most 512 rates.
    fn sinusoids(
        &self,
        positions: EvenPositions,
        rates: &[f32],
        order: SinusoidOrder,
        out: ViewMut<'_>,
    );

    /// f32 elements of scratch for [`Operations::lstm_layer`].
    fn lstm_layer_scratch(&self, batch: usize, recurrent: &Matrix) -> usize;
    /// One layer of an LSTM over `batch` sequences of equal length, from zero states. `inputs`
    /// `[batch · time, 4 · hidden]` are the input contributions to the gates (input, forget, cell,
    /// output), to which each step adds `recurrent` times the previous hidden state. `out` `[batch
    /// · time, hidden]` gets the hidden states.
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

    /// Mean and unbiased standard deviation of each column, `[n, columns]` → `[1, 2 · columns]`;
    /// summed in f64.
    fn moments(&self, x: View<'_>, out: ViewMut<'_>);
    /// For each segment of `segment` rows (the last one may be shorter), the column means over all
    /// rows plus those over the segment, `[n, columns]` → `[⌈n / segment⌉, columns]`; summed in
    /// f64, rounded once.
    fn segment_means(&self, x: View<'_>, segment: usize, out: ViewMut<'_>);

    /// Normal deviates of the rows from `first_row` on ([`Noise::normals`]).
    fn normals(&self, noise: Noise, first_row: u64, out: ViewMut<'_>);
    /// Harmonic source signal for the fundamental frequencies `f0` `[frames, 1]`: `[frames ·
    /// samples per frame, harmonics]`.
    fn harmonics(&self, f0: View<'_>, source: &Harmonics<'_>, out: ViewMut<'_>);
    /// Short-time Fourier transform of samples `[n, 1]`: `[n / hop + 1, 2 · bins]`, real parts,
    /// then imaginary ones. The ends are mirrored (reflection padding).
    fn spectrum(&self, samples: View<'_>, transform: &Stft, out: ViewMut<'_>);
    /// Inverse short-time Fourier transform: samples `[(frames − 1) · hop, 1]`, clipped to ±
    /// `sample_max`. The input `[frames, 2 · bins]` holds log magnitudes, whose exponentials are
    /// clipped to `magnitude_max`, and values whose sines are the phases.
    fn overlap_add(
        &self,
        spectrum: View<'_>,
        transform: &Stft,
        magnitude_max: f32,
        sample_max: f32,
        out: ViewMut<'_>,
    );
}
