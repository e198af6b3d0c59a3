//! Arguments and grids of launches, computed from views, layers and functions.

use super::arguments as with;
use super::start;
use super::uploads::PlacesAddresses;
use crate::cache::{CacheLayout, CachePrecision};
use crate::layers::{Conv1d, LayerNorm, Norm};
use crate::matrix::{Matrix, Precision, Vector};
use crate::operations::{Activation, Convolving, Store, WatchedHeads};
use crate::stft::Stft;
use crate::view::{View, ViewMut};
use bytemuck::Zeroable;

/// Elements that one block of an element-wise kernel computes.
pub(super) const PER_BLOCK: usize = 1024;

/// A size as a kernel argument.
///
/// # Panics
/// If it exceeds 32 bits: no tensor of a network has that many rows or columns.
pub(super) fn number(size: usize) -> u32 {
    match u32::try_from(size) {
        Ok(size) => size,
        Err(_) => panic!("{size} rows or columns"),
    }
}

/// Grid for `count` items, `each` per block.
pub(super) fn blocks(count: usize, each: usize) -> [u32; 3] {
    [number(count.div_ceil(each)), 1, 1]
}

pub(super) fn element_blocks(rows: usize, columns: usize) -> [u32; 3] {
    blocks(rows * columns, PER_BLOCK)
}

pub(super) fn optional(vector: Option<&Vector>) -> u64 {
    vector.map_or(0, |vector| start(&vector.view()).0)
}

pub(super) fn precision_number(matrix: &Matrix) -> usize {
    match matrix.precision() {
        Precision::F32 => 0,
        Precision::F16 => 1,
        Precision::Int8 => 2,
        Precision::Q4 => 3,
    }
}

pub(super) fn cache_number(precision: CachePrecision) -> usize {
    match precision {
        CachePrecision::F32 => 0,
        CachePrecision::F16 => 1,
        CachePrecision::Int8 => 2,
    }
}

/// A function's number and slope (`functions.cuh`).
pub(super) fn numbered(activation: Activation) -> (u32, f32) {
    let number = match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::LeakyRelu(slope) => return (2, slope),
        Activation::Elu => 3,
        Activation::GeluErf => 4,
        Activation::GeluTanh => 5,
        Activation::Silu => 6,
        Activation::Mish => 7,
        Activation::Tanh => 8,
        Activation::Sigmoid => 9,
        Activation::Exp => 10,
        Activation::Abs => 11,
    };
    (number, 0.0)
}

pub(super) fn layer_of(weight: &Matrix, bias: Option<&Vector>) -> with::Layer {
    with::Layer {
        weights: weight.address().0,
        bias: optional(bias),
    }
}

/// A linear layer, as a product over windows of one position.
pub(super) fn product_of(
    x: View<'_>,
    weight: &Matrix,
    bias: Option<&Vector>,
    activation: Activation,
    store: Store,
    out: &ViewMut<'_>,
) -> with::Product {
    let rows = number(out.row_count());
    let (activation, slope) = numbered(activation);
    let mut layers = [with::Layer::zeroed(); with::LAYERS_MAX];
    layers[0] = layer_of(weight, bias);
    with::Product {
        layers,
        x: start(&x).0,
        out: start(&out.as_view()).0,
        rows,
        outputs: number(weight.rows()),
        inputs: number(weight.columns()),
        x_stride: number(x.stride()),
        out_stride: number(out.stride()),
        channels: number(weight.columns()),
        height: 1,
        width: rows,
        out_width: rows,
        kernel_width: 1,
        stride_down: 1,
        stride_across: 1,
        dilation: 1,
        activation,
        slope,
        add: u32::from(store == Store::Add),
        ..with::Product::zeroed()
    }
}

/// A convolution over time of sequences that are stacked by rows.
pub(super) fn product_of_sequences(
    x: View<'_>,
    sequences: usize,
    layer: &Conv1d,
    options: &Convolving<'_>,
    out: &ViewMut<'_>,
) -> with::Product {
    with::Product {
        alpha: optional(options.snake),
        channels: number(x.column_count()),
        height: number(sequences),
        width: number(x.row_count() / sequences),
        out_width: number(out.row_count() / sequences),
        kernel_width: number(layer.kernel),
        stride_across: number(layer.stride),
        dilation: number(layer.dilation),
        padding_across: number(layer.padding.left),
        ..product_of(
            x,
            &layer.weight,
            layer.bias.as_ref(),
            options.activation,
            options.store,
            out,
        )
    }
}

/// A product of few rows.
pub(super) fn rows_of(
    x: View<'_>,
    layer: with::Layer,
    weight: &Matrix,
    activation: Activation,
    store: Store,
    out: &ViewMut<'_>,
) -> with::Rows {
    let (activation, slope) = numbered(activation);
    with::Rows {
        x: start(&x).0,
        weights: layer.weights,
        bias: layer.bias,
        out: start(&out.as_view()).0,
        rows: number(x.row_count()),
        outputs: number(weight.rows()),
        inputs: number(weight.columns()),
        x_stride: number(x.stride()),
        out_stride: number(out.stride()),
        activation,
        slope,
        add: u32::from(store == Store::Add),
        ..with::Rows::zeroed()
    }
}

/// A norm's kind, scale, shift and ε.
pub(super) fn normed(norm: Option<&Norm>) -> (u32, [u64; 2], f32) {
    match norm {
        None => (0, [0, 0], 0.0),
        Some(Norm::RootMeanSquare { scale, epsilon }) => (
            with::NORM_ROOT_MEAN_SQUARE,
            [optional(Some(scale)), 0],
            *epsilon,
        ),
        Some(Norm::Layer(norm)) => layer_normed(norm),
    }
}

pub(super) fn layer_normed(norm: &LayerNorm) -> (u32, [u64; 2], f32) {
    let both = [&norm.weight, &norm.bias].map(|vector| optional(Some(vector)));
    (with::NORM_LAYER, both, norm.epsilon)
}

pub(super) fn elements(out: &ViewMut<'_>) -> with::Elements {
    with::Elements {
        out: start(&out.as_view()).0,
        rows: number(out.row_count()),
        columns: number(out.column_count()),
        out_stride: number(out.stride()),
        ..with::Elements::zeroed()
    }
}

/// Element-wise update of `x` with `y`; a `y` of one row applies to all rows.
pub(super) fn elements_with(x: &ViewMut<'_>, y: &View<'_>) -> with::Elements {
    let y_stride = if y.row_count() == 1 { 0 } else { y.stride() };
    with::Elements {
        y: start(y).0,
        y_stride: number(y_stride),
        ..elements(x)
    }
}

pub(super) fn columns(x: &View<'_>, segment: usize, out: &ViewMut<'_>) -> with::Columns {
    with::Columns {
        x: start(x).0,
        out: start(&out.as_view()).0,
        rows: number(x.row_count()),
        columns: number(x.column_count()),
        x_stride: number(x.stride()),
        out_stride: number(out.stride()),
        segment: number(segment),
        unused: 0,
    }
}

pub(super) fn spectra(x: View<'_>, transform: &Stft, out: &ViewMut<'_>) -> with::Spectrum {
    with::Spectrum {
        x: start(&x).0,
        out: start(&out.as_view()).0,
        fft: number(transform.fft),
        hop: number(transform.hop),
        x_stride: number(x.stride()),
        out_stride: number(out.stride()),
        ..with::Spectrum::zeroed()
    }
}

pub(super) fn placed(at: &PlacesAddresses, layer: usize, layout: CacheLayout) -> with::Places {
    with::Places {
        pages: at.pages.0,
        sequences: at.sequences.0,
        rows: at.rows.0,
        layer: number(layer),
        heads: number(layout.heads),
        size: number(layout.size),
        precision: number(cache_number(layout.precision)),
    }
}

/// What an attention records of watched heads, the first in the lowest byte.
pub(super) fn watching(watched: Option<&WatchedHeads<'_>>) -> with::Pages {
    let Some(watched) = watched else {
        return with::Pages::zeroed();
    };
    let view = watched.record.as_view();
    let numbers = watched.heads.iter().rev();
    with::Pages {
        watched: start(&view).0,
        watched_rows: number(watched.rows()),
        watched_stride: number(view.stride()),
        watched_heads: numbers.fold(0, |heads, &head| heads << 8 | number(head)),
        ..with::Pages::zeroed()
    }
}
