//! Fused operations: several operations in one launch.
//!
//! With many rows, some of them take several launches after all: products with wide tiles then do
//! less work.

use super::arguments as with;
use super::kernels::MatrixUnits;
use super::launches::{
    layer_normed, layer_of, normed, number, placed, precision_number, product_of,
    product_of_sequences, rows_of,
};
use super::uploads::PIECE;
use super::{Cuda, start};
use crate::cache::{CacheLayout, CachePlaces};
use crate::fused::FusedOperations;
use crate::layers::{Conv1d, LayerNorm, Linear, Norm};
use crate::matrix::{Matrix, Precision};
use crate::operations::{Activation, Attention, Convolving, Operations, Rounding, Store};
use crate::view::{View, ViewMut};

/// Outputs in a group of packed weights.
const GROUP: usize = 16;
/// Most channels of a head that one block of a projection computes.
const HEAD_MAX: usize = 128;
/// Outputs of a row that one block of a product computes whole, with narrow and with wide tiles.
const WHOLE_ROWS: [usize; 2] = [64, 256];

/// `[rows, columns]` at the start of a scratch tensor.
fn part(scratch: ViewMut<'_>, rows: usize, columns: usize) -> ViewMut<'_> {
    scratch.columns(0..rows * columns).in_rows(rows)
}

impl Cuda {
    /// Whether one launch projects so many rows.
    fn projects_at_once(&self, rows: usize, joined: &Linear) -> bool {
        let kernels = &self.kernels.few_rows_project[precision_number(&joined.weight)];
        kernels.takes(rows) && rows <= PIECE
    }

    /// A product of few rows that are normalised first.
    fn few_rows(
        &self,
        x: View<'_>,
        norm: Option<&Norm>,
        layer: &Linear,
        activation: Activation,
        out: &ViewMut<'_>,
    ) -> with::Rows {
        let (norm, [norm_scale, norm_shift], epsilon) = normed(norm);
        let weight = &layer.weight;
        let own = layer_of(weight, layer.bias.as_ref());
        with::Rows {
            norm,
            norm_scale,
            norm_shift,
            epsilon,
            ..rows_of(x, own, weight, activation, Store::Overwrite, out)
        }
    }
}

impl FusedOperations for Cuda {
    fn linears(
        &self,
        x: View<'_>,
        norm: Option<&Norm>,
        layers: &[&Linear],
        activation: Activation,
        rounding: Rounding,
        mut out: ViewMut<'_>,
    ) {
        let rows = x.row_count();
        let kernels = &self.kernels.few_rows[precision_number(&layers[0].weight)];
        let few = kernels.takes(rows) && MatrixUnits::of(&layers[0].weight, rounding).is_none();
        if few && (layers.len() == 1 || kernels.are_on_units()) {
            for (index, layer) in layers.iter().enumerate() {
                let out = (out.reborrow()).rows(index * rows..(index + 1) * rows);
                let arguments = self.few_rows(x, norm, layer, activation, &out);
                let weight = &layer.weight;
                let variant = kernels.of_rows(rows);
                let blocks = variant.blocks(weight.rows(), weight.columns(), rows);
                self.launch(variant.kernel, blocks, &arguments);
            }
            return;
        }
        let (norm, [norm_scale, norm_shift], epsilon) = normed(norm);
        for (piece, layers) in layers.chunks(with::LAYERS_MAX).enumerate() {
            let first = piece * with::LAYERS_MAX * rows;
            let out = (out.reborrow()).rows(first..first + layers.len() * rows);
            let weight = &layers[0].weight;
            let rows = number(rows);
            let mut product = with::Product {
                norm,
                norm_scale,
                norm_shift,
                epsilon,
                rows,
                width: rows,
                out_width: rows,
                ..product_of(x, weight, None, activation, Store::Overwrite, &out)
            };
            for (place, layer) in product.layers.iter_mut().zip(layers) {
                *place = layer_of(&layer.weight, layer.bias.as_ref());
            }
            self.multiply_layers(weight, layers.len(), &product, rounding);
        }
    }

    fn takes_gated(&self, gate_up: &Linear) -> bool {
        gate_up.bias.is_none() && gate_up.weight.rows().is_multiple_of(2 * GROUP)
    }

    fn gated_linear_scratch(&self, rows: usize, gate_up: &Linear) -> usize {
        let kernels = &self.kernels.few_rows_gated[precision_number(&gate_up.weight)];
        match kernels.takes(rows) {
            true => 0,
            false => rows * gate_up.weight.rows(),
        }
    }

    fn gated_linear(
        &self,
        x: View<'_>,
        norm: &Norm,
        gate_up: &Linear,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    ) {
        let (rows, weight) = (x.row_count(), &gate_up.weight);
        let kernels = &self.kernels.few_rows_gated[precision_number(weight)];
        if !kernels.takes(rows) {
            let mut both = part(scratch, rows, weight.rows());
            let plain = Activation::Identity;
            let fine = Rounding::Fine;
            self.linears(x, Some(norm), &[gate_up], plain, fine, both.reborrow());
            return self.gated_silu(both.as_view(), out);
        }
        let half = weight.rows() / 2;
        let arguments = with::Rows {
            outputs: number(half),
            ..self.few_rows(x, Some(norm), gate_up, Activation::Identity, &out)
        };
        let variant = kernels.of_rows(rows);
        let blocks = variant.blocks(half, weight.columns(), rows);
        self.launch(variant.kernel, blocks, &arguments);
    }

    fn takes_projection(&self, _joined: &Linear, layout: CacheLayout) -> bool {
        layout.size.is_multiple_of(GROUP) && layout.size <= HEAD_MAX
    }

    fn project_scratch(&self, rows: usize, joined: &Linear) -> usize {
        match self.projects_at_once(rows, joined) {
            true => 0,
            false => rows * joined.weight.rows(),
        }
    }

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
    ) {
        let (rows, layout) = (x.row_count(), places.layout());
        if !self.projects_at_once(rows, joined) {
            let columns = layout.heads * layout.size;
            let mut all = part(scratch, rows, joined.weight.rows());
            let plain = Activation::Identity;
            let fine = Rounding::Fine;
            self.linears(x, Some(norm), &[joined], plain, fine, all.reborrow());
            if let Some([cosines, sines]) = angles {
                let turned = all.reborrow().columns(0..2 * columns);
                self.rotate(turned, 2 * layout.heads, cosines, sines);
            }
            let all = all.as_view();
            let [queries, keys, values] =
                [0, 1, 2].map(|part| all.columns(part * columns..(part + 1) * columns));
            self.cache_store(keys, values, layer, places);
            return self.copy(queries, out);
        }
        let Some(at) = self.send_places(places, 0..rows) else {
            return;
        };
        let angles = angles.map(|angles| angles.map(|view| start(&view).0));
        let [cosines, sines] = angles.unwrap_or_default();
        let arguments = with::Projection {
            product: self.few_rows(x, Some(norm), joined, Activation::Identity, &out),
            places: placed(&at, layer, layout),
            cosines,
            sines,
        };
        // A block has one head of queries, keys or values.
        let kernels = &self.kernels.few_rows_project[precision_number(&joined.weight)];
        let variant = kernels.of_heads(rows, layout.size);
        let blocks = variant.across(3 * layout.heads, joined.weight.columns(), rows);
        self.launch(variant.kernel, blocks, &arguments);
    }

    fn takes_embedding(&self, table: &Matrix, positions: Option<&Matrix>) -> bool {
        let beside = match table.precision() {
            Precision::F32 => Precision::F32,
            _ => Precision::F16,
        };
        positions.is_none_or(|positions| positions.precision() == beside)
    }

    fn embedding_sum(
        &self,
        table: &Matrix,
        ids: &[u32],
        positions: Option<(&Matrix, &[u32])>,
        times: usize,
        out: ViewMut<'_>,
    ) {
        self.embed(table, ids, positions, times, out);
    }

    fn conv1d_sequences(
        &self,
        x: View<'_>,
        sequences: usize,
        layer: &Conv1d,
        options: &Convolving<'_>,
        rounding: Rounding,
        out: ViewMut<'_>,
    ) {
        let product = product_of_sequences(x, sequences, layer, options, &out);
        self.multiply_layers(&layer.weight, 1, &product, rounding);
    }

    fn takes_conv1d_norm(&self, layer: &Conv1d) -> bool {
        layer.weight.rows() <= WHOLE_ROWS[1]
    }

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
    ) {
        let options = Convolving {
            activation,
            ..Convolving::default()
        };
        let (norm, [norm_scale, norm_shift], epsilon) = layer_normed(norm);
        let product = with::Product {
            norm,
            norm_scale,
            norm_shift,
            epsilon,
            row: row.map_or(0, |row| start(&row).0),
            ..product_of_sequences(x, sequences, layer, &options, &out)
        };
        let weight = &layer.weight;
        let wide = weight.rows() > WHOLE_ROWS[0];
        let kernels = match MatrixUnits::of(weight, rounding) {
            Some(units) => &self.kernels.product_mma_norm[units as usize],
            None => &self.kernels.product_norm[precision_number(weight)],
        };
        let kernel = &kernels[usize::from(wide)];
        let rows = 4096 / WHOLE_ROWS[usize::from(wide)];
        let down = out.row_count().div_ceil(rows);
        self.launch(kernel, [number(down), 1, 1], &product);
    }

    fn attention_sequences(
        &self,
        parts: [View<'_>; 3],
        keys_seen: &[usize],
        options: &Attention<'_>,
        rounding: Rounding,
        out: ViewMut<'_>,
    ) {
        self.attend(parts, keys_seen, options, rounding, out);
    }
}
