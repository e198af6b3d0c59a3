//! Fused operations: one launch on devices that support them, the plain operations elsewhere.

use super::{Context, assert_rows_at};
use crate::cache::CachePlaces;
use crate::layers::{Conv1d, LayerNorm, Linear, Norm};
use crate::matrix::Matrix;
use crate::operations::{Activation, Attention, Convolving, SEQUENCES_MAX, Store};
use crate::tensor::Tensor;
use crate::view::View;

impl Context<'_> {
    /// As [`Operations::favours_batches`](crate::Operations::favours_batches) of the device.
    pub fn favours_batches(&self) -> bool {
        self.device.favours_batches()
    }

    /// Normalises each row.
    ///
    /// # Panics
    /// If the norm has another number of channels than `x` has columns.
    pub fn norm<'v>(&self, x: impl Into<View<'v>>, norm: &Norm) -> Tensor {
        match norm {
            Norm::RootMeanSquare { scale, epsilon } => self.rms_norm(x, scale, *epsilon),
            Norm::Layer(norm) => self.layer_norm(x, norm),
        }
    }

    /// A norm, a linear layer and an activation.
    ///
    /// # Panics
    /// If the norm or the layer takes another number of columns than `x` has.
    pub fn norm_linear<'v>(
        &self,
        x: impl Into<View<'v>>,
        norm: &Norm,
        layer: &Linear,
        activation: Activation,
    ) -> Tensor {
        self.linears_activated(x.into(), Some(norm), &[layer], activation)
    }

    /// Linear layers of one shape over the same rows, after an optional norm. The results are
    /// stacked, `[layers · rows, outputs]`.
    ///
    /// # Panics
    /// If there is no layer, the layers' shapes differ, or `x` has another number of columns than
    /// they have inputs.
    pub fn linears<'v>(
        &self,
        x: impl Into<View<'v>>,
        norm: Option<&Norm>,
        layers: &[&Linear],
    ) -> Tensor {
        self.linears_activated(x.into(), norm, layers, Activation::Identity)
    }

    fn linears_activated(
        &self,
        x: View<'_>,
        norm: Option<&Norm>,
        layers: &[&Linear],
        activation: Activation,
    ) -> Tensor {
        let rows = x.row_count();
        let shape = |layer: &Linear| {
            let weight = &layer.weight;
            (weight.rows(), weight.columns(), weight.precision())
        };
        let (outputs, inputs, _) = shape(layers[0]);
        assert_eq!(x.column_count(), inputs, "linears: inputs");
        assert!(
            (layers.iter()).all(|layer| shape(layer) == shape(layers[0])),
            "linears: layers of one shape"
        );
        if let Some(fused) = self.device.fused() {
            let mut out = self.tensor(&[layers.len() * rows, outputs]);
            if !self.is_dry() {
                fused.linears(x, norm, layers, activation, self.rounding, out.view_mut());
            }
            return out;
        }
        let chains = self.device.chains();
        let scratch = chains.and_then(|chains| chains.linears_scratch(rows, layers, self.rounding));
        if let (Some(chains), Some(needed)) = (chains, scratch) {
            let mut out = self.tensor(&[layers.len() * rows, outputs]);
            let mut scratch = self.tensor(&[needed]);
            if !self.is_dry() {
                let (rounding, scratch) = (self.rounding, scratch.view_mut());
                chains.linears(
                    x,
                    norm,
                    layers,
                    activation,
                    rounding,
                    out.view_mut(),
                    scratch,
                );
            }
            return out;
        }
        let normed = norm.map(|norm| self.norm(x, norm));
        let x = normed.as_ref().map_or(x, Tensor::view);
        let mut out = self.tensor(&[layers.len() * rows, outputs]);
        for (index, layer) in layers.iter().enumerate() {
            let out = out.view_mut().rows(index * rows..(index + 1) * rows);
            self.linear_into(x, layer, activation, Store::Overwrite, out);
        }
        out
    }

    /// Adds `feed_out(activation(feed_in(norm(x))))` to `x` `[n, channels]`.
    ///
    /// # Panics
    /// If the layers' shapes do not match.
    pub fn feed_forward(
        &self,
        x: &mut Tensor,
        norm: &Norm,
        feed_in: &Linear,
        activation: Activation,
        feed_out: &Linear,
    ) {
        let (outer, inner) = (x.columns(), feed_in.weight.rows());
        for (layer, [outputs, inputs]) in [(feed_in, [inner, outer]), (feed_out, [outer, inner])] {
            let shape = [layer.weight.rows(), layer.weight.columns()];
            assert_eq!(shape, [outputs, inputs], "feed_forward: shape of a layer");
        }
        let layers = [feed_in, feed_out];
        let (rows, rounding) = (x.rows(), self.rounding);
        let chains = self.device.chains();
        let scratch = chains.and_then(|it| it.feed_forward_scratch(rows, layers, rounding));
        let (Some(chains), Some(needed)) = (chains, scratch) else {
            let inner = self.norm_linear(&*x, norm, feed_in, activation);
            self.linear_add(&inner, feed_out, x);
            return;
        };
        let mut scratch = self.tensor(&[needed]);
        if !self.is_dry() {
            let scratch = scratch.view_mut();
            chains.feed_forward(x.view_mut(), norm, layers, activation, rounding, scratch);
        }
    }

    /// A norm, a linear layer whose first half of outputs is the gate, and silu(gate) · up:
    /// `[n, inputs]` → `[n, outputs / 2]`.
    ///
    /// # Panics
    /// As [`Context::norm_linear`].
    pub fn gated_linear<'v>(
        &self,
        x: impl Into<View<'v>>,
        norm: &Norm,
        gate_up: &Linear,
    ) -> Tensor {
        let x = x.into();
        let Some(fused) = (self.device.fused()).filter(|fused| fused.takes_gated(gate_up)) else {
            let normed = self.norm(x, norm);
            return self.gated_silu(&self.linear(&normed, gate_up));
        };
        let rows = x.row_count();
        assert_eq!(
            x.column_count(),
            gate_up.weight.columns(),
            "gated_linear: inputs"
        );
        let mut out = self.tensor(&[rows, gate_up.weight.rows() / 2]);
        let mut scratch = self.tensor(&[fused.gated_linear_scratch(rows, gate_up)]);
        if !self.is_dry() {
            fused.gated_linear(x, norm, gate_up, out.view_mut(), scratch.view_mut());
        }
        out
    }

    /// A norm; the projection to queries, keys and values side by side; rotary position embedding
    /// of queries and keys by `angles` ([`Context::rotary_angles`]); and the store of keys and
    /// values as in [`Context::cache_store`]. The first `heads · size` columns of the result are
    /// the queries; the contents of any further columns are unspecified.
    ///
    /// # Panics
    /// If `joined` does not have `3 · heads · size` outputs, it takes another number of columns
    /// than `x` has, or the places have another number of rows.
    pub fn project<'v>(
        &self,
        x: impl Into<View<'v>>,
        norm: &Norm,
        joined: &Linear,
        angles: Option<&[Tensor; 2]>,
        layer: usize,
        places: &mut CachePlaces<'_>,
    ) -> Tensor {
        let x = x.into();
        let layout = places.layout();
        let (rows, columns) = (x.row_count(), layout.heads * layout.size);
        assert_eq!(
            joined.weight.rows(),
            3 * columns,
            "project: outputs of all heads"
        );
        let fused = self.device.fused();
        let Some(fused) = fused.filter(|fused| fused.takes_projection(joined, layout)) else {
            let normed = self.norm(x, norm);
            let mut out = self.linear(&normed, joined);
            drop(normed);
            if let Some([cosines, sines]) = angles {
                // Queries and keys are side by side and rotated alike.
                let turned = out.view_mut().columns(0..2 * columns);
                self.rotate(turned, 2 * layout.heads, cosines, sines);
            }
            let [keys, values] =
                [1, 2].map(|part| out.view().columns(part * columns..(part + 1) * columns));
            self.cache_store(keys, values, layer, places);
            return out;
        };
        assert_eq!(x.column_count(), joined.weight.columns(), "project: inputs");
        let mut out = self.tensor(&[rows, columns]);
        assert_rows_at("project", &out.view(), places);
        let mut scratch = self.tensor(&[fused.project_scratch(rows, joined)]);
        if !self.is_dry() {
            let angles = (angles.as_ref()).map(|[cosines, sines]| [cosines.view(), sines.view()]);
            let (out, scratch) = (out.view_mut(), scratch.view_mut());
            fused.project(x, norm, joined, angles, layer, places, out, scratch);
        }
        out
    }

    /// Rows of a table plus rows of another one, each repeated `times` times.
    ///
    /// # Panics
    /// If an id is not below its table's number of rows, or the numbers of ids differ.
    pub fn embedding_sum(
        &self,
        table: &Matrix,
        ids: &[u32],
        positions: Option<(&Matrix, &[u32])>,
        times: usize,
    ) -> Tensor {
        let fused = self.device.fused();
        let takes = |fused: &&dyn crate::FusedOperations| {
            fused.takes_embedding(table, positions.map(|(table, _)| table))
        };
        let Some(fused) = fused.filter(takes) else {
            let mut x = self.embedding(table, ids);
            if let Some((table, ids)) = positions {
                self.add(&mut x, &self.embedding(table, ids));
            }
            return match times {
                1 => x,
                _ => self.repeat_rows(&x, times),
            };
        };
        let inside = |table: &Matrix, ids: &[u32]| {
            let rows = table.rows();
            assert!(
                ids.iter().all(|&id| (id as usize) < rows),
                "embedding_sum: an id past the table's {rows} rows"
            );
        };
        inside(table, ids);
        if let Some((table, positions)) = positions {
            inside(table, positions);
            assert_eq!(
                ids.len(),
                positions.len(),
                "embedding_sum: a position an id"
            );
        }
        let mut out = self.tensor(&[ids.len() * times, table.columns()]);
        if !self.is_dry() {
            fused.embedding_sum(table, ids, positions, times, out.view_mut());
        }
        out
    }

    /// A convolution over time within each of `sequences` stacked sequences.
    ///
    /// # Panics
    /// If `sequences` is zero, it does not divide the rows, or the layer takes another number of
    /// channels than `x` has columns.
    pub fn conv1d_sequences<'v>(
        &self,
        x: impl Into<View<'v>>,
        sequences: usize,
        layer: &Conv1d,
    ) -> Tensor {
        let x = x.into();
        self.check_sequences(x, sequences, layer);
        let time = x.row_count() / sequences;
        let out_time = layer.output_time(time);
        let mut out = self.tensor(&[sequences * out_time, layer.weight.rows()]);
        let options = Convolving::default();
        if let Some(fused) = self.device.fused() {
            if !self.is_dry() {
                let rounding = self.rounding;
                fused.conv1d_sequences(x, sequences, layer, &options, rounding, out.view_mut());
            }
            return out;
        }
        for sequence in 0..sequences {
            let from = x.rows(sequence * time..(sequence + 1) * time);
            let to = (out.view_mut()).rows(sequence * out_time..(sequence + 1) * out_time);
            self.conv1d_into(from, layer, &options, to);
        }
        out
    }

    /// [`Context::conv1d_sequences`] of windows of one row, added to `sum`: a residual connection.
    ///
    /// # Panics
    /// As [`Context::conv1d`], and if the convolution's result does not have the shape of `sum`.
    pub fn conv1d_add<'v>(&self, x: impl Into<View<'v>>, layer: &Conv1d, sum: &mut Tensor) {
        let x = x.into();
        let Some(fused) = self.device.fused() else {
            let skip = self.conv1d(x, layer);
            return self.add(sum, &skip);
        };
        self.check_sequences(x, 1, layer);
        let options = Convolving {
            store: Store::Add,
            ..Convolving::default()
        };
        assert_eq!(
            (sum.rows(), sum.columns()),
            (x.row_count(), layer.weight.rows()),
            "conv1d_add: shape of the sum"
        );
        if !self.is_dry() {
            fused.conv1d_sequences(x, 1, layer, &options, self.rounding, sum.view_mut());
        }
    }

    /// [`Context::conv1d_sequences`], then a norm, an activation, and the addition of one row.
    ///
    /// # Panics
    /// As [`Context::conv1d_sequences`], and if the norm or `row` has another number of channels
    /// than the layer has outputs.
    pub fn conv1d_norm<'v>(
        &self,
        x: impl Into<View<'v>>,
        sequences: usize,
        layer: &Conv1d,
        norm: &LayerNorm,
        activation: Activation,
        row: Option<View<'_>>,
    ) -> Tensor {
        let x = x.into();
        let Some(fused) = (self.device.fused()).filter(|fused| fused.takes_conv1d_norm(layer))
        else {
            let x = self.conv1d_sequences(x, sequences, layer);
            let mut x = self.layer_norm(&x, norm);
            self.activate(&mut x, activation);
            if let Some(row) = row {
                self.add(&mut x, row);
            }
            return x;
        };
        self.check_sequences(x, sequences, layer);
        let outputs = layer.weight.rows();
        assert_eq!(
            norm.weight.len(),
            outputs,
            "conv1d_norm: channels of the norm"
        );
        if let Some(row) = &row {
            let shape = (row.row_count(), row.column_count());
            assert_eq!(shape, (1, outputs), "conv1d_norm: the row that is added");
        }
        let time = layer.output_time(x.row_count() / sequences);
        let mut out = self.tensor(&[sequences * time, outputs]);
        if !self.is_dry() {
            let (rounding, out) = (self.rounding, out.view_mut());
            fused.conv1d_norm(x, sequences, layer, norm, activation, row, rounding, out);
        }
        out
    }

    fn check_sequences(&self, x: View<'_>, sequences: usize, layer: &Conv1d) {
        assert_eq!(x.column_count(), layer.inputs(), "conv1d: input channels");
        assert_eq!(
            x.row_count() % sequences,
            0,
            "conv1d: sequences of one length"
        );
    }

    /// Attention within each of several sequences, which are stacked and have one number of rows:
    /// `[sequences · rows, heads · size]`. Queries of a sequence see its first `keys_seen` keys;
    /// the rows behind them only fill it up.
    ///
    /// # Panics
    /// If there are relative positions, the sequences do not divide the rows of both queries and
    /// keys, a sequence sees none of its keys or more than it has, more than [`SEQUENCES_MAX`]
    /// differ in what they see or have a causal mask, or as [`Context::attention`].
    pub fn attention_sequences(
        &self,
        [q, k, v]: [View<'_>; 3],
        keys_seen: &[usize],
        options: &Attention<'_>,
    ) -> Tensor {
        assert!(
            options.relative.is_none(),
            "attention_sequences: relative positions"
        );
        let sequences = keys_seen.len();
        let (queries, keys) = (q.row_count() / sequences, k.row_count() / sequences);
        let columns = q.column_count();
        assert!(
            k.column_count() == columns
                && v.column_count() == columns
                && v.row_count() == k.row_count()
                && columns.is_multiple_of(options.heads)
                && (q.row_count(), k.row_count()) == (sequences * queries, sequences * keys),
            "attention_sequences: shapes"
        );
        assert!(
            (keys_seen.iter()).all(|&seen| seen == keys)
                || (sequences <= SEQUENCES_MAX
                    && !options.causal
                    && keys_seen.iter().all(|seen| (1..=keys).contains(seen))),
            "attention_sequences: {keys_seen:?} keys of {keys} are seen"
        );
        if let Some(fused) = self.device.fused() {
            let mut out = self.tensor(&[q.row_count(), columns]);
            if !self.is_dry() {
                let rounding = self.rounding;
                fused.attention_sequences([q, k, v], keys_seen, options, rounding, out.view_mut());
            }
            return out;
        }
        if let [seen] = *keys_seen {
            return self.attention(q, k.rows(0..seen), v.rows(0..seen), options);
        }
        let parts: Vec<Tensor> = (keys_seen.iter().enumerate())
            .map(|(sequence, &seen)| {
                let q = q.rows(sequence * queries..(sequence + 1) * queries);
                let first = sequence * keys;
                let [k, v] = [k, v].map(|x| x.rows(first..first + seen));
                self.attention(q, k, v, options)
            })
            .collect();
        let parts: Vec<View<'_>> = parts.iter().map(Tensor::view).collect();
        self.concat_rows(&parts)
    }
}
