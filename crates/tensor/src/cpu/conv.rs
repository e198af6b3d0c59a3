//! Convolutions as GEMM over overlapping rows (implicit im2col).

use super::gemm::{Epilogue, Product};
use super::gemm_f32::{F32Kernel, PanelsF32, RowsF32};
use super::{maths, rows};
use crate::layers::{Conv1d, Conv2d, ConvTranspose1d};
use crate::matrix::Vector;
use crate::operations::{Activation, Convolving, Store};
use crate::threads::Threads;
use crate::view::{View, ViewMut};

/// Scratch for the padded input, if it is padded or transformed first.
pub(crate) fn conv1d_scratch(time: usize, layer: &Conv1d, options: &Convolving<'_>) -> usize {
    let padding = layer.padding.left + layer.padding.right;
    match (padding, options.snake) {
        (0, None) => 0,
        (_, None) => (time + padding) * layer.inputs(),
        // One more row, for the Snake's reciprocals.
        (_, Some(_)) => (time + padding + 1) * layer.inputs(),
    }
}

pub(crate) fn conv1d(
    threads: &Threads,
    x: View<'_>,
    layer: &Conv1d,
    options: &Convolving<'_>,
    out: ViewMut<'_>,
    scratch: &mut [f32],
) {
    let (inputs, time) = (layer.inputs(), x.row_count());
    let padded = if scratch.is_empty() {
        x
    } else {
        let rows = time + layer.padding.left + layer.padding.right;
        let (padded, shares) = scratch.split_at_mut(rows * inputs);
        if let Some(alpha) = options.snake {
            maths::snake_reciprocals(alpha.data(), shares);
        }
        let shares = &*shares;
        let mut all = ViewMut::new(padded, rows, inputs);
        rows::for_each(threads, &mut all, |index, row| {
            let source = index.checked_sub(layer.padding.left);
            match (source.filter(|&source| source < time), options.snake) {
                (Some(source), Some(alpha)) => {
                    maths::snake(x.row(source), alpha.data(), shares, row);
                }
                (Some(source), None) => row.copy_from_slice(x.row(source)),
                (None, _) => row.fill(0.0),
            }
        });
        View::new(padded, rows, inputs)
    };
    let windows = RowsF32::windows(
        padded,
        out.row_count(),
        layer.kernel,
        layer.dilation,
        layer.stride,
    );
    let product = Product {
        kernel: F32Kernel::new(windows, PanelsF32::Matrix(&layer.weight)),
        epilogue: Epilogue {
            bias: layer.bias.as_ref().map(Vector::data),
            activation: options.activation,
            store: options.store,
        },
    };
    product.multiply(threads, out);
}

/// Scratch for the product of every tap with every input row.
pub(crate) fn conv_transpose1d_scratch(time: usize, layer: &ConvTranspose1d) -> usize {
    time * layer.weight.rows()
}

pub(crate) fn conv_transpose1d(
    threads: &Threads,
    x: View<'_>,
    layer: &ConvTranspose1d,
    mut out: ViewMut<'_>,
    scratch: &mut [f32],
) {
    let (time, outputs, width) = (x.row_count(), layer.outputs(), layer.weight.rows());
    if time == 0 {
        return;
    }
    let product = F32Kernel::new(RowsF32::of(x), PanelsF32::Matrix(&layer.weight)).product();
    product.multiply(threads, ViewMut::new(scratch, time, width));
    let products = View::new(scratch, time, width);
    rows::for_each(threads, &mut out, |index, out| {
        match &layer.bias {
            Some(bias) => out.copy_from_slice(bias.data()),
            None => out.fill(0.0),
        }
        // Output row `index` is the sum of tap k of input row t over all t · stride + k = index +
        // padding.
        let place = index + layer.padding;
        let first = (place + 1)
            .saturating_sub(layer.kernel)
            .div_ceil(layer.stride);
        for row in first..=(place / layer.stride).min(time - 1) {
            let tap = place - row * layer.stride;
            let values = &products.row(row)[tap * outputs..][..outputs];
            (out.iter_mut().zip(values)).for_each(|(out, &value)| *out += value);
        }
    });
}

/// Scratch for the windows of one output row (im2col).
pub(crate) fn conv2d_scratch(size: [usize; 2], layer: &Conv2d) -> usize {
    layer.output_size(size)[1] * layer.weight.columns()
}

pub(crate) fn conv2d(
    threads: &Threads,
    x: View<'_>,
    size: [usize; 2],
    layer: &Conv2d,
    activation: Activation,
    mut out: ViewMut<'_>,
    scratch: &mut [f32],
) {
    let [out_height, out_width] = layer.output_size(size);
    let (inputs, window) = (x.column_count(), layer.weight.columns());
    for out_row in 0..out_height {
        for (index, taps) in scratch.chunks_exact_mut(window).enumerate() {
            for (tap, values) in taps.chunks_exact_mut(inputs).enumerate() {
                let [down, across] = [tap / layer.kernel[1], tap % layer.kernel[1]];
                let y = (out_row * layer.stride[0] + down).checked_sub(layer.padding[0]);
                let x_place = (index * layer.stride[1] + across).checked_sub(layer.padding[1]);
                match (y, x_place) {
                    (Some(y), Some(place)) if y < size[0] && place < size[1] => {
                        values.copy_from_slice(x.row(y * size[1] + place));
                    }
                    _ => values.fill(0.0),
                }
            }
        }
        let windows = RowsF32::of(View::new(scratch, out_width, window));
        let product = Product {
            kernel: F32Kernel::new(windows, PanelsF32::Matrix(&layer.weight)),
            epilogue: Epilogue {
                bias: layer.bias.as_ref().map(Vector::data),
                activation,
                store: Store::Overwrite,
            },
        };
        let range = out_row * out_width..(out_row + 1) * out_width;
        product.multiply(threads, out.reborrow().rows(range));
    }
}
