//! Layers with weights: linear layers, convolutions, norms, tables and LSTMs.

use super::Context;
use crate::layers::{Conv1d, Conv2d, ConvTranspose1d, LayerNorm, Linear, Lstm};
use crate::matrix::{Matrix, Vector};
use crate::operations::{Activation, Convolving, Store};
use crate::tensor::Tensor;
use crate::view::{View, ViewMut};

impl Context<'_> {
    /// `[n, inputs]` → `[n, outputs]`.
    ///
    /// # Panics
    /// If the layer takes another number of columns than `x` has.
    pub fn linear<'v>(&self, x: impl Into<View<'v>>, layer: &Linear) -> Tensor {
        self.linear_activated(x, layer, Activation::Identity)
    }

    /// A linear layer with a fused activation.
    ///
    /// # Panics
    /// As [`Context::linear`].
    pub fn linear_activated<'v>(
        &self,
        x: impl Into<View<'v>>,
        layer: &Linear,
        activation: Activation,
    ) -> Tensor {
        let x = x.into();
        let mut out = self.tensor(&[x.row_count(), layer.weight.rows()]);
        self.linear_into(x, layer, activation, Store::Overwrite, &mut out);
        out
    }

    /// Adds a linear layer to `sum`: a residual connection.
    ///
    /// # Panics
    /// As [`Context::linear`], and if `sum` is not `[rows of x, outputs]`.
    pub fn linear_add<'v>(&self, x: impl Into<View<'v>>, layer: &Linear, sum: &mut Tensor) {
        self.linear_into(x, layer, Activation::Identity, Store::Add, sum);
    }

    /// A linear layer into existing rows.
    ///
    /// # Panics
    /// As [`Context::linear`], and if `out` is not `[rows of x, outputs]`.
    pub fn linear_into<'v, 'o>(
        &self,
        x: impl Into<View<'v>>,
        layer: &Linear,
        activation: Activation,
        store: Store,
        out: impl Into<ViewMut<'o>>,
    ) {
        let (x, out) = (x.into(), out.into());
        let weight = &layer.weight;
        assert_eq!(
            x.column_count(),
            weight.columns(),
            "linear: inputs of [{}, {}] against a matrix of {} × {}",
            x.row_count(),
            x.column_count(),
            weight.rows(),
            weight.columns()
        );
        assert_eq!(
            (out.row_count(), out.column_count()),
            (x.row_count(), weight.rows()),
            "linear: shape of the output"
        );
        let operations = self.device;
        let rounding = self.rounding;
        let needed = operations.linear_scratch(x.row_count(), weight, rounding);
        let mut scratch = self.tensor(&[needed]);
        if !self.is_dry() {
            let bias = layer.bias.as_ref();
            let scratch = scratch.view_mut();
            operations.linear(x, weight, bias, activation, store, rounding, out, scratch);
        }
    }

    /// `[time, inputs]` → `[time, outputs]`.
    ///
    /// # Panics
    /// If the layer takes another number of channels than `x` has columns.
    pub fn conv1d<'v>(&self, x: impl Into<View<'v>>, layer: &Conv1d) -> Tensor {
        self.conv1d_activated(x, layer, Activation::Identity)
    }

    /// A convolution with a fused activation.
    ///
    /// # Panics
    /// As [`Context::conv1d`].
    pub fn conv1d_activated<'v>(
        &self,
        x: impl Into<View<'v>>,
        layer: &Conv1d,
        activation: Activation,
    ) -> Tensor {
        let options = Convolving {
            activation,
            ..Convolving::default()
        };
        self.conv1d_with(x, layer, &options)
    }

    /// A convolution with fused operations before and after it.
    ///
    /// # Panics
    /// As [`Context::conv1d`].
    pub fn conv1d_with<'v>(
        &self,
        x: impl Into<View<'v>>,
        layer: &Conv1d,
        options: &Convolving<'_>,
    ) -> Tensor {
        let x = x.into();
        let mut out = self.tensor(&[layer.output_time(x.row_count()), layer.weight.rows()]);
        self.conv1d_into(x, layer, options, &mut out);
        out
    }

    /// A convolution into existing rows.
    ///
    /// # Panics
    /// As [`Context::conv1d`], and if `out` has another shape than the result.
    pub fn conv1d_into<'v, 'o>(
        &self,
        x: impl Into<View<'v>>,
        layer: &Conv1d,
        options: &Convolving<'_>,
        out: impl Into<ViewMut<'o>>,
    ) {
        let (x, out) = (x.into(), out.into());
        assert_eq!(
            x.column_count(),
            layer.inputs(),
            "conv1d: input channels, kernel {}",
            layer.kernel
        );
        let time = x.row_count();
        assert_eq!(
            (out.row_count(), out.column_count()),
            (layer.output_time(time), layer.weight.rows()),
            "conv1d: shape of the output"
        );
        let operations = self.device;
        let mut scratch = self.tensor(&[operations.conv1d_scratch(time, layer, options)]);
        if !self.is_dry() {
            operations.conv1d(x, layer, options, out, scratch.view_mut());
        }
    }

    /// `[time, inputs]` → `[time · stride …, outputs]`.
    ///
    /// # Panics
    /// If the layer takes another number of channels than `x` has columns.
    pub fn conv_transpose1d<'v>(&self, x: impl Into<View<'v>>, layer: &ConvTranspose1d) -> Tensor {
        let x = x.into();
        assert_eq!(
            x.column_count(),
            layer.weight.columns(),
            "conv_transpose1d: input channels"
        );
        let time = x.row_count();
        let mut out = self.tensor(&[layer.output_time(time), layer.outputs()]);
        let mut scratch = self.tensor(&[self.device.conv_transpose1d_scratch(time, layer)]);
        if !self.is_dry() {
            let scratch = scratch.view_mut();
            self.device
                .conv_transpose1d(x, layer, out.view_mut(), scratch);
        }
        out
    }

    /// `[height, width, inputs]` → `[height, width, outputs]`.
    ///
    /// # Panics
    /// If the layer takes another number of channels than `x` has columns.
    pub fn conv2d(&self, x: &Tensor, layer: &Conv2d, activation: Activation) -> Tensor {
        let size = [x.dim(0), x.dim(1)];
        let [height, width] = layer.output_size(size);
        assert_eq!(
            x.columns() * layer.kernel[0] * layer.kernel[1],
            layer.weight.columns(),
            "conv2d: input channels"
        );
        let mut out = self.tensor(&[height, width, layer.weight.rows()]);
        let mut scratch = self.tensor(&[self.device.conv2d_scratch(size, layer)]);
        if !self.is_dry() {
            let scratch = scratch.view_mut();
            let x = x.view();
            self.device
                .conv2d(x, size, layer, activation, out.view_mut(), scratch);
        }
        out
    }

    /// Layer normalisation of each row.
    ///
    /// # Panics
    /// If the layer has another number of channels than `x` has columns.
    pub fn layer_norm<'v>(&self, x: impl Into<View<'v>>, layer: &LayerNorm) -> Tensor {
        let x = x.into();
        assert_eq!(x.column_count(), layer.weight.len(), "layer_norm: channels");
        let mut out = self.tensor(&[x.row_count(), x.column_count()]);
        if !self.is_dry() {
            let (scale, shift) = (Some(&layer.weight), Some(&layer.bias));
            let out = out.view_mut();
            self.device.layer_norm(x, scale, shift, layer.epsilon, out);
        }
        out
    }

    /// RMS normalisation of each row.
    ///
    /// # Panics
    /// If `scale` is not as long as a row.
    pub fn rms_norm<'v>(&self, x: impl Into<View<'v>>, scale: &Vector, epsilon: f32) -> Tensor {
        let x = x.into();
        assert_eq!(x.column_count(), scale.len(), "rms_norm: channels");
        let mut out = self.tensor(&[x.row_count(), x.column_count()]);
        if !self.is_dry() {
            self.device.rms_norm(x, scale, epsilon, out.view_mut());
        }
        out
    }

    /// All layers of an LSTM over `batch` sequences of equal length, from zero states: `[batch ·
    /// time, inputs]` → `[batch · time, hidden]`.
    ///
    /// # Panics
    /// If `batch` does not divide the rows, the columns of `x` are not the first layer's inputs, or
    /// a recurrent layer has a bias of its own.
    pub fn lstm<'v>(&self, x: impl Into<View<'v>>, batch: usize, layers: &Lstm) -> Tensor {
        let mut x = self.copy(x);
        assert_eq!(x.rows() % batch.max(1), 0, "lstm: rows by batch");
        let time = x.rows() / batch.max(1);
        for layer in &layers.layers {
            let recurrent = &layer.recurrent.weight;
            assert!(
                layer.recurrent.bias.is_none(),
                "lstm: the biases are summed in the input's"
            );
            let inputs = self.linear(&x, &layer.input);
            let mut out = self.tensor(&[batch * time, recurrent.columns()]);
            let needed = self.device.lstm_layer_scratch(batch, recurrent);
            let mut scratch = self.tensor(&[needed]);
            if !self.is_dry() {
                let (inputs, scratch) = (inputs.view(), scratch.view_mut());
                self.device
                    .lstm_layer(inputs, batch, recurrent, out.view_mut(), scratch);
            }
            x = out;
        }
        x
    }

    /// Rows of a table, `[ids, columns]`.
    ///
    /// # Panics
    /// If an id is not below the number of rows.
    pub fn embedding(&self, table: &Matrix, ids: &[u32]) -> Tensor {
        let rows = table.rows();
        assert!(
            ids.iter().all(|&id| (id as usize) < rows),
            "embedding: an id past the table's {rows} rows"
        );
        let mut out = self.tensor(&[ids.len(), table.columns()]);
        if !self.is_dry() {
            self.device.embedding(table, ids, out.view_mut());
        }
        out
    }
}
