//! What a forward runs in: a workspace, a device, threads.

use crate::cache::{CacheLayout, CachedPart};
use crate::layers::{Conv1d, Conv2d, ConvTranspose1d, LayerNorm, Linear, Lstm};
use crate::matrix::{Matrix, Vector};
use crate::operations::{Activation, Attention, Convolving, Operations, Rounding, Store};
use crate::tensor::{Tensor, View, ViewMut};
use crate::workspace::Workspace;
use sottovoce_memory::OutOfMemory;

/// Passed to every forward. Operations take their output from the workspace; when it is dry they do nothing more.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Where activations live.
    pub workspace: &'a Workspace,
    /// What computes.
    pub operations: &'a dyn Operations,
    /// How finely rows are rounded where weights are in integers.
    pub rounding: Rounding,
}

impl<'a> Context<'a> {
    /// A context of both.
    pub fn new(workspace: &'a Workspace, operations: &'a dyn Operations) -> Context<'a> {
        Context {
            workspace,
            operations,
            rounding: Rounding::Fine,
        }
    }

    /// The same with rows rounded otherwise.
    pub fn rounding(self, rounding: Rounding) -> Context<'a> {
        Context { rounding, ..self }
    }

    /// Whether nothing is computed.
    pub fn is_dry(&self) -> bool {
        self.workspace.is_dry()
    }

    /// To be asked at the end of a forward, before its results are read.
    ///
    /// # Errors
    /// If memory ran out on the way; the results are then not there.
    pub fn finish(&self) -> Result<(), OutOfMemory> {
        self.workspace.take_failure().map_or(Ok(()), Err)
    }

    /// A tensor with unspecified contents.
    pub fn tensor(&self, dimensions: &[usize]) -> Tensor {
        self.workspace.tensor(dimensions)
    }

    /// A tensor of zeros.
    pub fn zeros(&self, dimensions: &[usize]) -> Tensor {
        let mut tensor = self.tensor(dimensions);
        if !self.is_dry() {
            tensor.data_mut().fill(0.0);
        }
        tensor
    }

    /// A tensor with these contents.
    ///
    /// # Panics
    /// If there are more or fewer than the dimensions say.
    pub fn upload(&self, dimensions: &[usize], values: &[f32]) -> Tensor {
        let elements: usize = dimensions.iter().product();
        assert_eq!(values.len(), elements, "values for a tensor {dimensions:?}");
        let mut tensor = self.tensor(dimensions);
        if !self.is_dry() {
            tensor.data_mut().copy_from_slice(values);
        }
        tensor
    }

    /// A tensor `[rows, columns]` with what `work` computes on the host, given the first row and the elements of a piece of
    /// `rows_a_piece` rows (the last one perhaps shorter). Pieces come in any order, several at once: a piece must not depend on another.
    pub fn filled(
        &self,
        [rows, columns]: [usize; 2],
        rows_a_piece: usize,
        work: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Tensor {
        let mut out = self.tensor(&[rows, columns]);
        if !self.is_dry() {
            self.operations
                .fill_rows(out.view_mut(), rows_a_piece, &work);
        }
        out
    }

    /// A copy of rows.
    pub fn copy<'v>(&self, x: impl Into<View<'v>>) -> Tensor {
        self.concat_rows(&[x.into()])
    }

    /// Copies rows into rows of the same shape.
    pub fn copy_into<'v, 'o>(&self, x: impl Into<View<'v>>, out: impl Into<ViewMut<'o>>) {
        let (x, out) = (x.into(), out.into());
        assert_same_shape("copy_into", &out, &x);
        if !self.is_dry() {
            self.operations.copy(x, out);
        }
    }

    /// Rows one after the other.
    ///
    /// # Panics
    /// If the numbers of columns differ.
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

    /// Columns side by side.
    ///
    /// # Panics
    /// If the numbers of rows differ.
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
    pub fn linear<'v>(&self, x: impl Into<View<'v>>, layer: &Linear) -> Tensor {
        self.linear_activated(x, layer, Activation::Identity)
    }

    /// A linear layer and a function of each element.
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

    /// A linear layer added to `sum`: a residual connection.
    pub fn linear_add<'v>(&self, x: impl Into<View<'v>>, layer: &Linear, sum: &mut Tensor) {
        self.linear_into(x, layer, Activation::Identity, Store::Add, sum);
    }

    /// A linear layer into given rows.
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
        let operations = self.operations;
        let rounding = self.rounding;
        let needed = operations.linear_scratch(x.row_count(), weight, rounding);
        let mut scratch = self.tensor(&[needed]);
        if !self.is_dry() {
            let bias = layer.bias.as_ref();
            let scratch = scratch.data_mut();
            operations.linear(x, weight, bias, activation, store, rounding, out, scratch);
        }
    }

    /// `[time, inputs]` → `[time, outputs]`.
    pub fn conv1d<'v>(&self, x: impl Into<View<'v>>, layer: &Conv1d) -> Tensor {
        self.conv1d_activated(x, layer, Activation::Identity)
    }

    /// A convolution and a function of each element.
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

    /// A convolution with what comes before and after it.
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

    /// A convolution into given rows.
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
        let operations = self.operations;
        let mut scratch = self.tensor(&[operations.conv1d_scratch(time, layer, options)]);
        if !self.is_dry() {
            operations.conv1d(x, layer, options, out, scratch.data_mut());
        }
    }

    /// `[time, inputs]` → `[time · stride …, outputs]`.
    pub fn conv_transpose1d<'v>(&self, x: impl Into<View<'v>>, layer: &ConvTranspose1d) -> Tensor {
        let x = x.into();
        assert_eq!(
            x.column_count(),
            layer.weight.columns(),
            "conv_transpose1d: input channels"
        );
        let time = x.row_count();
        let mut out = self.tensor(&[layer.output_time(time), layer.outputs()]);
        let mut scratch = self.tensor(&[self.operations.conv_transpose1d_scratch(time, layer)]);
        if !self.is_dry() {
            let scratch = scratch.data_mut();
            self.operations
                .conv_transpose1d(x, layer, out.view_mut(), scratch);
        }
        out
    }

    /// `[height, width, inputs]` → `[height, width, outputs]`.
    pub fn conv2d(&self, x: &Tensor, layer: &Conv2d, activation: Activation) -> Tensor {
        let size = [x.dim(0), x.dim(1)];
        let [height, width] = layer.output_size(size);
        assert_eq!(
            x.columns() * layer.kernel[0] * layer.kernel[1],
            layer.weight.columns(),
            "conv2d: input channels"
        );
        let mut out = self.tensor(&[height, width, layer.weight.rows()]);
        let mut scratch = self.tensor(&[self.operations.conv2d_scratch(size, layer)]);
        if !self.is_dry() {
            let scratch = scratch.data_mut();
            let x = x.view();
            self.operations
                .conv2d(x, size, layer, activation, out.view_mut(), scratch);
        }
        out
    }

    /// Normalises each row, then scales and shifts.
    pub fn layer_norm<'v>(&self, x: impl Into<View<'v>>, layer: &LayerNorm) -> Tensor {
        let x = x.into();
        assert_eq!(x.column_count(), layer.weight.len(), "layer_norm: channels");
        let mut out = self.tensor(&[x.row_count(), x.column_count()]);
        if !self.is_dry() {
            let (scale, shift) = (Some(&layer.weight), Some(&layer.bias));
            let out = out.view_mut();
            self.operations
                .layer_norm(x, scale, shift, layer.epsilon, out);
        }
        out
    }

    /// Divides each row by its root mean square, then scales.
    pub fn rms_norm<'v>(&self, x: impl Into<View<'v>>, scale: &Vector, epsilon: f32) -> Tensor {
        let x = x.into();
        assert_eq!(x.column_count(), scale.len(), "rms_norm: channels");
        let mut out = self.tensor(&[x.row_count(), x.column_count()]);
        if !self.is_dry() {
            self.operations.rms_norm(x, scale, epsilon, out.view_mut());
        }
        out
    }

    /// Applies a function to each element.
    pub fn activate<'o>(&self, x: impl Into<ViewMut<'o>>, activation: Activation) {
        let x = x.into();
        if !self.is_dry() {
            self.operations.activate(x, activation);
        }
    }

    /// silu(gate) · up, where the first half of the columns is the gate: `[n, 2 f]` → `[n, f]`.
    pub fn gated_silu<'v>(&self, x: impl Into<View<'v>>) -> Tensor {
        let x = x.into();
        let mut out = self.tensor(&[x.row_count(), x.column_count() / 2]);
        if !self.is_dry() {
            self.operations.gated_silu(x, out.view_mut());
        }
        out
    }

    /// x = x + y; y may have one row for all.
    pub fn add<'o, 'v>(&self, x: impl Into<ViewMut<'o>>, y: impl Into<View<'v>>) {
        self.add_scaled(x, 1.0, y, 1.0);
    }

    /// x = x · `scale` + y · `factor`; y may have one row for all.
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
            self.operations.add_scaled(x, scale, y, factor);
        }
    }

    /// x = x · y; y may have one row for all.
    pub fn multiply<'o, 'v>(&self, x: impl Into<ViewMut<'o>>, y: impl Into<View<'v>>) {
        let (x, y) = (x.into(), y.into());
        assert_broadcast("multiply", &x, &y);
        if !self.is_dry() {
            self.operations.multiply(x, y);
        }
    }

    /// x = x · `factor`.
    pub fn scale(&self, x: &mut Tensor, factor: f32) {
        if !self.is_dry() {
            x.data_mut().iter_mut().for_each(|value| *value *= factor);
        }
    }

    /// Softmax of each row.
    pub fn softmax<'o>(&self, x: impl Into<ViewMut<'o>>) {
        let x = x.into();
        if !self.is_dry() {
            self.operations.softmax(x);
        }
    }

    /// Attention of `[queries, heads · size]` over `[keys, heads · size]`.
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
        let needed = (self.operations).attention_scratch(queries, keys, columns, options, rounding);
        let mut scratch = self.tensor(&[needed]);
        if !self.is_dry() && queries > 0 {
            let scratch = scratch.data_mut();
            self.operations
                .attention(q, k, v, options, rounding, out.view_mut(), scratch);
        }
        out
    }

    /// Attention of each row of `q` over its own cached past (its own position included), `[rows, heads · size]`. In a dry run
    /// `sequences` is not looked at.
    pub fn attention_cached<'q>(
        &self,
        q: impl Into<View<'q>>,
        sequences: &[&[CachedPart<'_>]],
        layout: CacheLayout,
        scale: f32,
    ) -> Tensor {
        let q = q.into();
        assert_eq!(
            q.column_count(),
            layout.heads * layout.size,
            "attention_cached: columns of the queries"
        );
        let mut out = self.tensor(&[q.row_count(), q.column_count()]);
        if !self.is_dry() {
            assert_eq!(
                sequences.len(),
                q.row_count(),
                "attention_cached: sequences"
            );
            let out = out.view_mut();
            self.operations
                .attention_cached(q, sequences, layout, scale, out);
        }
        out
    }

    /// Rotary positions, in halves; `cosines` and `sines` are `[rows, size / 2]`.
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
            self.operations
                .rotate(x, heads, cosines.view(), sines.view());
        }
    }

    /// All layers of an LSTM over `batch` sequences of one length, from zero states: `[batch · time, inputs]` → `[batch · time, hidden]`.
    pub fn lstm<'v>(&self, x: impl Into<View<'v>>, batch: usize, layers: &Lstm) -> Tensor {
        let mut x = self.copy(x);
        assert_eq!(x.rows() % batch.max(1), 0, "lstm: rows by batch");
        let time = x.rows() / batch.max(1);
        for layer in &layers.layers {
            let hidden_size = layer.recurrent.weight.columns();
            let inputs = self.linear(&x, &layer.input);
            let mut out = self.tensor(&[batch * time, hidden_size]);
            let mut hidden = self.zeros(&[batch, hidden_size]);
            let mut cell = self.zeros(&[batch, hidden_size]);
            let mut gates = self.tensor(&[batch, 4 * hidden_size]);
            for step in 0..time {
                for sequence in 0..batch {
                    let row = sequence * time + step;
                    let to = gates.view_mut().rows(sequence..sequence + 1);
                    self.copy_into(inputs.view().rows(row..row + 1), to);
                }
                self.linear_add(&hidden, &layer.recurrent, &mut gates);
                if !self.is_dry() {
                    let hidden = hidden.view_mut();
                    self.operations
                        .lstm_cell(gates.view(), cell.view_mut(), hidden);
                }
                for sequence in 0..batch {
                    let row = sequence * time + step;
                    let to = out.view_mut().rows(row..row + 1);
                    self.copy_into(hidden.view().rows(sequence..sequence + 1), to);
                }
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
            self.operations.embedding(table, ids, out.view_mut());
        }
        out
    }
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
