//! The context of a forward: a workspace and a device.

use crate::cache::CachePlaces;
use crate::device::{Device, Failure};
use crate::harmonics::Harmonics;
use crate::layers::{Conv1d, Conv2d, ConvTranspose1d, LayerNorm, Linear, Lstm};
use crate::matrix::{Matrix, Vector};
use crate::noise::Noise;
use crate::operations::{
    Activation, Attention, Convolving, EvenPositions, Rounding, SinusoidOrder, Store, WatchedHeads,
};
use crate::stft::Stft;
use crate::tensor::Tensor;
use crate::view::{View, ViewMut};
use crate::workspace::Workspace;

mod fused;

/// The context that every forward takes. Operations take their outputs from the workspace. They do
/// nothing if the workspace is dry or the device has failed.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Memory for activations.
    pub workspace: &'a Workspace,
    /// The device that computes.
    pub device: &'a dyn Device,
    /// Rounding of activations where weights are integers.
    pub rounding: Rounding,
}

impl<'a> Context<'a> {
    /// A context of a workspace and a device.
    pub fn new(workspace: &'a Workspace, device: &'a dyn Device) -> Context<'a> {
        Context {
            workspace,
            device,
            rounding: Rounding::Fine,
        }
    }

    /// The same context with another rounding of activations.
    pub fn rounding(self, rounding: Rounding) -> Context<'a> {
        Context { rounding, ..self }
    }

    /// Whether nothing is computed.
    fn is_dry(&self) -> bool {
        self.workspace.is_dry() || self.device.check().is_err()
    }

    /// Checks a forward whose results stay on the device.
    ///
    /// # Errors
    /// If memory ran out during the forward, which is reported once, or if the device is known to
    /// have failed. The results are invalid then.
    pub fn finish(&self) -> Result<(), Failure> {
        if let Some(error) = self.workspace.take_failure() {
            return Err(error.into());
        }
        Ok(self.device.check()?)
    }

    /// Calls `work` with a result's elements in row-major order, without a copy where the device
    /// computes on the host. In a dry run `work` is not called.
    ///
    /// # Errors
    /// As [`Context::finish`]; all work of the device up to here is complete then.
    pub fn read<'v, R: Default>(
        &self,
        x: impl Into<View<'v>>,
        work: impl FnOnce(&[f32]) -> R,
    ) -> Result<R, Failure> {
        let x = x.into();
        self.finish()?;
        if x.is_dry() {
            return Ok(R::default());
        }
        let elements = x.row_count() * x.column_count();
        self.device.traffic().add_read(elements);
        if let Some(values) = x.contiguous() {
            return Ok(work(values));
        }
        let mut values = vec![0.0; elements];
        self.device.read(x, &mut values)?;
        Ok(work(&values))
    }

    /// As [`Context::read`] of two results, counted as one read.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub fn read_both<R: Default>(
        &self,
        [one, other]: [&Tensor; 2],
        work: impl FnOnce(&[f32], &[f32]) -> R,
    ) -> Result<R, Failure> {
        let [one, other] = [one.view(), other.view()];
        self.finish()?;
        if one.is_dry() || other.is_dry() {
            return Ok(R::default());
        }
        let [first, second] = [one, other].map(|view| view.row_count() * view.column_count());
        self.device.traffic().add_read(first + second);
        if let (Some(one), Some(other)) = (one.contiguous(), other.contiguous()) {
            return Ok(work(one, other));
        }
        let (mut first, mut second) = (vec![0.0; first], vec![0.0; second]);
        (self.device).read_both([one, other], [&mut first, &mut second])?;
        Ok(work(&first, &second))
    }

    /// Copies a result's elements to the host in row-major order; empty in a dry run.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub fn download<'v>(&self, x: impl Into<View<'v>>) -> Result<Vec<f32>, Failure> {
        self.read(x, <[f32]>::to_vec)
    }

    /// Lets `work` fill contiguous rows, without a copy where the device computes on the host. In a
    /// dry run `work` is not called.
    ///
    /// # Panics
    /// If there are gaps between the rows.
    pub fn write<'o>(&self, out: impl Into<ViewMut<'o>>, work: impl FnOnce(&mut [f32])) {
        let mut out = out.into();
        let elements = out.row_count() * out.column_count();
        assert!(
            out.stride() == out.column_count() || out.row_count() <= 1,
            "write: contiguous rows"
        );
        if self.is_dry() {
            return;
        }
        self.device.traffic().add_write(elements);
        if let Some(values) = out.contiguous() {
            return work(values);
        }
        let mut values = vec![0.0; elements];
        work(&mut values);
        self.device.write(&values, out);
    }

    /// A tensor with unspecified contents.
    pub fn tensor(&self, dimensions: &[usize]) -> Tensor {
        self.workspace.tensor(dimensions)
    }

    /// A tensor of zeros.
    pub fn zeros(&self, dimensions: &[usize]) -> Tensor {
        let mut tensor = self.tensor(dimensions);
        if !self.is_dry() {
            self.device.fill(tensor.view_mut(), 0.0);
        }
        tensor
    }

    /// A tensor with the given contents.
    ///
    /// # Panics
    /// If their number differs from that of the dimensions.
    pub fn upload(&self, dimensions: &[usize], values: &[f32]) -> Tensor {
        let elements: usize = dimensions.iter().product();
        assert_eq!(values.len(), elements, "values for a tensor {dimensions:?}");
        let mut tensor = self.tensor(dimensions);
        self.write(&mut tensor, |out| out.copy_from_slice(values));
        tensor
    }

    /// Copies rows to a new tensor.
    pub fn copy<'v>(&self, x: impl Into<View<'v>>) -> Tensor {
        self.concat_rows(&[x.into()])
    }

    /// Copies rows to rows of the same shape.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn copy_into<'v, 'o>(&self, x: impl Into<View<'v>>, out: impl Into<ViewMut<'o>>) {
        let (x, out) = (x.into(), out.into());
        assert_same_shape("copy_into", &out, &x);
        if !self.is_dry() {
            self.device.copy(x, out);
        }
    }

    /// Concatenates rows.
    ///
    /// # Panics
    /// If there are no parts, or their numbers of columns differ.
    pub fn concat_rows(&self, parts: &[View<'_>]) -> Tensor {
        let columns = parts[0].column_count();
        let rows = parts.iter().map(View::row_count).sum();
        let mut out = self.tensor(&[rows, columns]);
        let mut first = 0;
        for part in parts {
            let range = first..first + part.row_count();
            first = range.end;
            self.copy_into(*part, out.view_mut().rows(range));
        }
        out
    }

    /// Concatenates columns.
    ///
    /// # Panics
    /// If there are no parts, or their numbers of rows differ.
    pub fn concat_columns(&self, parts: &[View<'_>]) -> Tensor {
        let rows = parts[0].row_count();
        let columns = parts.iter().map(View::column_count).sum();
        let mut out = self.tensor(&[rows, columns]);
        let mut first = 0;
        for part in parts {
            let range = first..first + part.column_count();
            first = range.end;
            self.copy_into(*part, out.view_mut().columns(range));
        }
        out
    }

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

    /// Applies an activation to each element.
    pub fn activate<'o>(&self, x: impl Into<ViewMut<'o>>, activation: Activation) {
        let x = x.into();
        if !self.is_dry() {
            self.device.activate(x, activation);
        }
    }

    /// silu(gate) · up, where the first half of the columns is the gate: `[n, 2 f]` → `[n, f]`.
    pub fn gated_silu<'v>(&self, x: impl Into<View<'v>>) -> Tensor {
        let x = x.into();
        let mut out = self.tensor(&[x.row_count(), x.column_count() / 2]);
        if !self.is_dry() {
            self.device.gated_silu(x, out.view_mut());
        }
        out
    }

    /// x = x + y; a single row of y is broadcast.
    ///
    /// # Panics
    /// If the numbers of columns differ, or `y` has neither one row nor as many as `x`.
    pub fn add<'o, 'v>(&self, x: impl Into<ViewMut<'o>>, y: impl Into<View<'v>>) {
        self.add_scaled(x, 1.0, y, 1.0);
    }

    /// x = x · `scale` + y · `factor`; a single row of y is broadcast.
    ///
    /// # Panics
    /// As [`Context::add`].
    pub fn add_scaled<'o, 'v>(
        &self,
        x: impl Into<ViewMut<'o>>,
        scale: f32,
        y: impl Into<View<'v>>,
        factor: f32,
    ) {
        let (x, y) = (x.into(), y.into());
        assert_broadcast("add_scaled", &x, &y);
        if !self.is_dry() {
            self.device.add_scaled(x, scale, y, factor);
        }
    }

    /// x = x · y; a single row of y is broadcast.
    ///
    /// # Panics
    /// As [`Context::add`].
    pub fn multiply<'o, 'v>(&self, x: impl Into<ViewMut<'o>>, y: impl Into<View<'v>>) {
        let (x, y) = (x.into(), y.into());
        assert_broadcast("multiply", &x, &y);
        if !self.is_dry() {
            self.device.multiply(x, y);
        }
    }

    /// x = x · `factor`.
    pub fn scale<'o>(&self, x: impl Into<ViewMut<'o>>, factor: f32) {
        let x = x.into();
        if !self.is_dry() {
            self.device.scale(x, factor);
        }
    }

    /// Repeats each row `times` times: `[n, columns]` → `[n · times, columns]`.
    pub fn repeat_rows<'v>(&self, x: impl Into<View<'v>>, times: usize) -> Tensor {
        let x = x.into();
        let mut out = self.tensor(&[x.row_count() * times, x.column_count()]);
        if !self.is_dry() {
            self.device.repeat_rows(x, times, out.view_mut());
        }
        out
    }

    /// Softmax of each row.
    pub fn softmax<'o>(&self, x: impl Into<ViewMut<'o>>) {
        let x = x.into();
        if !self.is_dry() {
            self.device.softmax(x);
        }
    }

    /// Attention of `[queries, heads · size]` over `[keys, heads · size]`.
    ///
    /// # Panics
    /// If queries, keys and values differ in columns or keys and values in rows, the heads do not
    /// divide the columns, or relative positions are given and there are not as many queries as
    /// keys.
    pub fn attention<'q, 'k, 'v>(
        &self,
        q: impl Into<View<'q>>,
        k: impl Into<View<'k>>,
        v: impl Into<View<'v>>,
        options: &Attention<'_>,
    ) -> Tensor {
        let (q, k, v) = (q.into(), k.into(), v.into());
        let (queries, keys, columns) = (q.row_count(), k.row_count(), q.column_count());
        assert!(
            k.column_count() == columns && v.column_count() == columns && v.row_count() == keys,
            "attention: queries [{queries}, {columns}], keys [{keys}, {}], values [{}, {}]",
            k.column_count(),
            v.row_count(),
            v.column_count()
        );
        assert_eq!(columns % options.heads, 0, "attention: columns by heads");
        if let Some(relative) = &options.relative {
            assert_eq!(
                queries, keys,
                "attention: relative positions need equal lengths"
            );
            assert_eq!(
                (relative.queries.row_count(), relative.positions.row_count()),
                (queries, (2 * keys).saturating_sub(1)),
                "attention: rows for relative positions"
            );
        }
        let mut out = self.tensor(&[queries, columns]);
        let rounding = self.rounding;
        let needed = (self.device).attention_scratch(queries, keys, columns, options, rounding);
        let mut scratch = self.tensor(&[needed]);
        if !self.is_dry() && queries > 0 {
            let scratch = scratch.view_mut();
            self.device
                .attention(q, k, v, options, rounding, out.view_mut(), scratch);
        }
        out
    }

    /// Stores each row's keys and values, `[rows, heads · size]`, at its own position in a layer's
    /// part of the pages.
    ///
    /// # Panics
    /// If keys or values are not `[rows of the places, heads · size]`.
    pub fn cache_store<'k, 'v>(
        &self,
        keys: impl Into<View<'k>>,
        values: impl Into<View<'v>>,
        layer: usize,
        places: &mut CachePlaces<'_>,
    ) {
        let (keys, values) = (keys.into(), values.into());
        assert_rows_at("cache_store", &keys, places);
        assert_rows_at("cache_store", &values, places);
        if !self.is_dry() {
            self.device.cache_store(keys, values, layer, places);
        }
    }

    /// Attention of each row of `q`, `[rows, heads · size]`, over its cached past including its own
    /// position, in a layer's part of the pages.
    ///
    /// # Panics
    /// If `q` is not `[rows of the places, heads · size]`.
    pub fn attention_cached<'q>(
        &self,
        q: impl Into<View<'q>>,
        layer: usize,
        places: &CachePlaces<'_>,
        scale: f32,
    ) -> Tensor {
        self.attention_watched(q, layer, places, scale, None)
    }

    /// As [`Context::attention_cached`]; notes the weights of the `watched` heads at the rows'
    /// watched positions ([`CachePlaces::watch`]). The softmax is over all that a row attends to.
    ///
    /// # Panics
    /// As [`Context::attention_cached`], and if there is no such head, or the notes have no room for
    /// a row.
    pub fn attention_watched<'q>(
        &self,
        q: impl Into<View<'q>>,
        layer: usize,
        places: &CachePlaces<'_>,
        scale: f32,
        watched: Option<WatchedHeads<'_>>,
    ) -> Tensor {
        let q = q.into();
        assert_rows_at("attention_cached", &q, places);
        if let Some(watched) = &watched {
            watched.check(places);
        }
        let mut out = self.tensor(&[q.row_count(), q.column_count()]);
        let needed = (self.device).attention_cached_scratch(q.row_count(), places.layout());
        let mut scratch = self.tensor(&[needed]);
        if !self.is_dry() {
            let (out, scratch) = (out.view_mut(), scratch.view_mut());
            (self.device).attention_cached(q, layer, places, scale, watched, out, scratch);
        }
        out
    }

    /// Cosines and sines of position · frequency, `[positions, frequencies]` each: the angles for
    /// [`Context::rotate`].
    pub fn rotary_angles(&self, positions: &[u32], frequencies: &[f32]) -> [Tensor; 2] {
        let shape = [positions.len(), frequencies.len()];
        let [mut cosines, mut sines] = [self.tensor(&shape), self.tensor(&shape)];
        if !self.is_dry() {
            let (cosines, sines) = (cosines.view_mut(), sines.view_mut());
            self.device
                .rotary_angles(positions, frequencies, cosines, sines);
        }
        [cosines, sines]
    }

    /// Sines and cosines of position · rate, `[rows, 2 · rates]`.
    pub fn sinusoids(
        &self,
        rows: usize,
        positions: EvenPositions,
        rates: &[f32],
        order: SinusoidOrder,
    ) -> Tensor {
        let mut out = self.tensor(&[rows, 2 * rates.len()]);
        if !self.is_dry() {
            self.device
                .sinusoids(positions, rates, order, out.view_mut());
        }
        out
    }

    /// Rotary position embedding in halves; `cosines` and `sines` are `[rows, size / 2]`.
    ///
    /// # Panics
    /// If `x` has another number of columns than `heads` · `size`.
    pub fn rotate<'o>(
        &self,
        x: impl Into<ViewMut<'o>>,
        heads: usize,
        cosines: &Tensor,
        sines: &Tensor,
    ) {
        let x = x.into();
        assert_eq!(
            x.column_count(),
            2 * heads * cosines.columns(),
            "rotate: columns"
        );
        if !self.is_dry() {
            self.device.rotate(x, heads, cosines.view(), sines.view());
        }
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

    /// Mean and unbiased standard deviation of each column, `[1, 2 · columns]`.
    pub fn moments<'v>(&self, x: impl Into<View<'v>>) -> Tensor {
        let x = x.into();
        let mut out = self.tensor(&[1, 2 * x.column_count()]);
        if !self.is_dry() {
            self.device.moments(x, out.view_mut());
        }
        out
    }

    /// For each segment of `segment` rows (the last one may be shorter), the column means over all
    /// rows plus those over the segment, one row per segment.
    pub fn segment_means<'v>(&self, x: impl Into<View<'v>>, segment: usize) -> Tensor {
        let x = x.into();
        let mut out = self.tensor(&[x.row_count().div_ceil(segment), x.column_count()]);
        if !self.is_dry() {
            self.device.segment_means(x, segment, out.view_mut());
        }
        out
    }

    /// Fills rows with the normal deviates of the noise rows from `first_row` on.
    pub fn normals<'o>(&self, noise: Noise, first_row: u64, out: impl Into<ViewMut<'o>>) {
        let out = out.into();
        if !self.is_dry() {
            self.device.normals(noise, first_row, out);
        }
    }

    /// Harmonic source signal for the fundamental frequencies `f0` `[frames, 1]`: `[samples,
    /// harmonics]`.
    ///
    /// # Panics
    /// If `f0` has more than one column.
    pub fn harmonics<'v>(&self, f0: impl Into<View<'v>>, source: &Harmonics<'_>) -> Tensor {
        let f0 = f0.into();
        assert_eq!(f0.column_count(), 1, "harmonics: one frequency per frame");
        let samples = f0.row_count() * source.samples_a_frame;
        let mut out = self.tensor(&[samples, source.phases.len()]);
        if !self.is_dry() {
            self.device.harmonics(f0, source, out.view_mut());
        }
        out
    }

    /// Short-time Fourier transform of samples `[n, 1]`: `[frames, 2 · bins]`, real parts, then
    /// imaginary ones. The ends are mirrored (reflection padding).
    ///
    /// # Panics
    /// If `samples` have more than one column.
    pub fn spectrum<'v>(&self, samples: impl Into<View<'v>>, transform: &Stft) -> Tensor {
        let samples = samples.into();
        assert_eq!(samples.column_count(), 1, "spectrum: one channel");
        let frames = transform.frames(samples.row_count());
        let mut out = self.tensor(&[frames, 2 * transform.bins()]);
        if !self.is_dry() {
            self.device.spectrum(samples, transform, out.view_mut());
        }
        out
    }

    /// Inverse short-time Fourier transform: samples `[n, 1]`, clipped to ± `sample_max`. The input
    /// `[frames, 2 · bins]` holds log magnitudes, whose exponentials are clipped to
    /// `magnitude_max`, and values whose sines are the phases.
    ///
    /// # Panics
    /// If `spectrum` has another number of columns than 2 · bins.
    pub fn overlap_add<'v>(
        &self,
        spectrum: impl Into<View<'v>>,
        transform: &Stft,
        magnitude_max: f32,
        sample_max: f32,
    ) -> Tensor {
        let spectrum = spectrum.into();
        assert_eq!(
            spectrum.column_count(),
            2 * transform.bins(),
            "overlap_add: columns of the spectrum"
        );
        let samples = transform.samples(spectrum.row_count());
        if samples == 0 {
            return self.zeros(&[1, 1]);
        }
        let mut out = self.tensor(&[samples, 1]);
        if !self.is_dry() {
            let out = out.view_mut();
            self.device
                .overlap_add(spectrum, transform, magnitude_max, sample_max, out);
        }
        out
    }
}

fn assert_rows_at(operation: &str, x: &View<'_>, places: &CachePlaces<'_>) {
    let layout = places.layout();
    assert_eq!(
        (x.row_count(), x.column_count()),
        (places.rows().len(), layout.heads * layout.size),
        "{operation}: rows, and columns of all heads"
    );
}

fn assert_same_shape(operation: &str, x: &ViewMut<'_>, y: &View<'_>) {
    assert!(
        x.row_count() == y.row_count() && x.column_count() == y.column_count(),
        "{operation}: [{}, {}] against [{}, {}]",
        x.row_count(),
        x.column_count(),
        y.row_count(),
        y.column_count()
    );
}

fn assert_broadcast(operation: &str, x: &ViewMut<'_>, y: &View<'_>) {
    assert!(
        (y.row_count() == 1 || x.row_count() == y.row_count())
            && x.column_count() == y.column_count(),
        "{operation}: [{}, {}] against [{}, {}]",
        x.row_count(),
        x.column_count(),
        y.row_count(),
        y.column_count()
    );
}
