//! Operations, each as launches of kernels.

use super::arguments as with;
use super::kernels::MatrixUnits;
use super::launches::{
    blocks, cache_number, columns, element_blocks, elements, elements_with, layer_of, number,
    numbered, optional, placed, precision_number, product_of, product_of_sequences, rows_of,
    spectra, watching,
};
use super::uploads::{DONE_MAX, PIECE, PlacesAddresses};
use super::{Cuda, THREADS, start};
use crate::cache::{CacheLayout, CachePlaces};
use crate::fused::FusedOperations;
use crate::harmonics::Harmonics;
use crate::layers::{Conv1d, Conv2d, ConvTranspose1d};
use crate::matrix::{Matrix, Vector};
use crate::noise::Noise;
use crate::operations::{
    Activation, Attention, Convolving, EvenPositions, Operations, Rounding, SEQUENCES_MAX,
    SinusoidOrder, Store, WatchedHeads,
};
use crate::stft::Stft;
use crate::view::{View, ViewMut};
use bytemuck::Zeroable;
use sottovoce_memory::driver::cuda::Kernel;
use std::sync::Arc;

/// Most heads of a layer whose attention weights are recorded.
const WATCHED_MAX: usize = 4;
/// Largest number of such a head: it has a byte.
const WATCHED_NUMBER_MAX: usize = 255;
/// Most channels of a head of an attention over cached positions.
const CACHED_CHANNELS_MAX: usize = 512;
/// Most rows of an attention over cached positions whose parts have blocks of their own.
const APART_ROWS_MAX: usize = 16;
/// Warps per block: one row of a norm, or one head of a store, each.
const WARPS: usize = THREADS as usize / 32;
/// Most channels of a head of an attention that a launch makes.
const VALUES_MAX: usize = 128;
/// Queries per block of an attention.
const QUERIES: usize = 64;
/// Most samples per block of an overlap-add.
const SAMPLES_PER_BLOCK: usize = 256;
/// Blocks of a launch that keep the largest cards busy, two for each of some 130 multiprocessors;
/// with fewer of them products on matrix units have smaller blocks.
const BLOCKS_ENOUGH: usize = 256;

impl Operations for Cuda {
    fn name(&self) -> &str {
        &self.name
    }

    fn fused(&self) -> Option<&dyn FusedOperations> {
        Some(self)
    }

    fn linear_scratch(&self, _rows: usize, _weight: &Matrix, _rounding: Rounding) -> usize {
        0
    }

    fn linear(
        &self,
        x: View<'_>,
        weight: &Matrix,
        bias: Option<&Vector>,
        activation: Activation,
        store: Store,
        rounding: Rounding,
        out: ViewMut<'_>,
        _scratch: ViewMut<'_>,
    ) {
        self.multiply_rows(x, weight, bias, activation, store, rounding, out);
    }

    fn conv1d_scratch(&self, _time: usize, _layer: &Conv1d, _options: &Convolving<'_>) -> usize {
        0
    }

    fn conv1d(
        &self,
        x: View<'_>,
        layer: &Conv1d,
        options: &Convolving<'_>,
        out: ViewMut<'_>,
        _scratch: ViewMut<'_>,
    ) {
        let product = product_of_sequences(x, 1, layer, options, &out);
        self.multiply_layers(&layer.weight, 1, &product, Rounding::Fine);
    }

    fn conv_transpose1d_scratch(&self, time: usize, layer: &ConvTranspose1d) -> usize {
        time * layer.weight.rows()
    }

    fn conv_transpose1d(
        &self,
        x: View<'_>,
        layer: &ConvTranspose1d,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    ) {
        let time = x.row_count();
        let columns = layer.weight.rows();
        let products = start(&scratch.as_view());
        let product = with::Product {
            rows: number(time),
            width: number(time),
            out_width: number(time),
            out_stride: number(columns),
            ..product_of(
                x,
                &layer.weight,
                None,
                Activation::Identity,
                Store::Overwrite,
                &scratch,
            )
        };
        self.multiply_layers(&layer.weight, 1, &product, Rounding::Fine);
        let taps = with::Taps {
            products: products.0,
            bias: optional(layer.bias.as_ref()),
            out: start(&out.as_view()).0,
            rows: number(out.row_count()),
            outputs: number(out.column_count()),
            time: number(time),
            kernel: number(layer.kernel),
            stride: number(layer.stride),
            padding: number(layer.padding),
            out_stride: number(out.stride()),
            unused: 0,
        };
        let grid = element_blocks(out.row_count(), out.column_count());
        self.launch(&self.kernels.sum_taps, grid, &taps);
    }

    fn conv2d_scratch(&self, _size: [usize; 2], _layer: &Conv2d) -> usize {
        0
    }

    fn conv2d(
        &self,
        x: View<'_>,
        size: [usize; 2],
        layer: &Conv2d,
        activation: Activation,
        out: ViewMut<'_>,
        _scratch: ViewMut<'_>,
    ) {
        let [_, out_width] = layer.output_size(size);
        let product = with::Product {
            channels: number(x.column_count()),
            height: number(size[0]),
            width: number(size[1]),
            out_width: number(out_width.max(1)),
            kernel_width: number(layer.kernel[1]),
            stride_down: number(layer.stride[0]),
            stride_across: number(layer.stride[1]),
            padding_down: number(layer.padding[0]),
            padding_across: number(layer.padding[1]),
            ..product_of(
                x,
                &layer.weight,
                layer.bias.as_ref(),
                activation,
                Store::Overwrite,
                &out,
            )
        };
        self.multiply_layers(&layer.weight, 1, &product, Rounding::Fine);
    }

    fn layer_norm(
        &self,
        x: View<'_>,
        scale: Option<&Vector>,
        shift: Option<&Vector>,
        epsilon: f32,
        out: ViewMut<'_>,
    ) {
        self.normalise(x, scale, shift, with::NORM_LAYER, epsilon, out);
    }

    fn rms_norm(&self, x: View<'_>, scale: &Vector, epsilon: f32, out: ViewMut<'_>) {
        let norm = with::NORM_ROOT_MEAN_SQUARE;
        self.normalise(x, Some(scale), None, norm, epsilon, out);
    }

    fn activate(&self, x: ViewMut<'_>, activation: Activation) {
        let (activation, slope) = numbered(activation);
        let arguments = with::Elements {
            activation,
            slope,
            ..elements(&x)
        };
        self.each_element(&self.kernels.activate, &arguments);
    }

    fn gated_silu(&self, x: View<'_>, out: ViewMut<'_>) {
        let arguments = with::Elements {
            x: start(&x).0,
            x_stride: number(x.stride()),
            ..elements(&out)
        };
        self.each_element(&self.kernels.gated_silu, &arguments);
    }

    fn add_scaled(&self, x: ViewMut<'_>, scale: f32, y: View<'_>, factor: f32) {
        let arguments = with::Elements {
            scale,
            factor,
            ..elements_with(&x, &y)
        };
        self.each_element(&self.kernels.add_scaled, &arguments);
    }

    fn multiply(&self, x: ViewMut<'_>, y: View<'_>) {
        self.each_element(&self.kernels.multiply, &elements_with(&x, &y));
    }

    fn scale(&self, x: ViewMut<'_>, factor: f32) {
        let arguments = with::Elements {
            factor,
            ..elements(&x)
        };
        self.each_element(&self.kernels.scale, &arguments);
    }

    fn fill(&self, out: ViewMut<'_>, value: f32) {
        let arguments = with::Elements {
            factor: value,
            ..elements(&out)
        };
        self.each_element(&self.kernels.fill, &arguments);
    }

    fn copy(&self, x: View<'_>, out: ViewMut<'_>) {
        self.repeat_rows(x, 1, out);
    }

    fn repeat_rows(&self, x: View<'_>, times: usize, out: ViewMut<'_>) {
        if times == 0 || out.row_count() * out.column_count() == 0 {
            return;
        }
        let arguments = with::Elements {
            x: start(&x).0,
            x_stride: number(x.stride()),
            times: number(times),
            ..elements(&out)
        };
        self.each_element(&self.kernels.repeat_rows, &arguments);
    }

    fn softmax(&self, x: ViewMut<'_>) {
        let (rows, columns) = (x.row_count(), x.column_count());
        let arguments = with::Norm {
            out: start(&x.as_view()).0,
            rows: number(rows),
            columns: number(columns),
            out_stride: number(x.stride()),
            ..with::Norm::zeroed()
        };
        self.launch(&self.kernels.softmax, blocks(rows, WARPS), &arguments);
    }

    fn attention_scratch(
        &self,
        _queries: usize,
        _keys: usize,
        _columns: usize,
        _options: &Attention<'_>,
        _rounding: Rounding,
    ) -> usize {
        0
    }

    fn attention(
        &self,
        q: View<'_>,
        k: View<'_>,
        v: View<'_>,
        options: &Attention<'_>,
        rounding: Rounding,
        out: ViewMut<'_>,
        _scratch: ViewMut<'_>,
    ) {
        self.attend([q, k, v], &[k.row_count()], options, rounding, out);
    }

    fn cache_store(
        &self,
        keys: View<'_>,
        values: View<'_>,
        layer: usize,
        places: &mut CachePlaces<'_>,
    ) {
        let layout = places.layout();
        let count = keys.row_count();
        for first in (0..count).step_by(PIECE) {
            let range = first..count.min(first + PIECE);
            let Some(at) = self.send_places(places, range.clone()) else {
                return;
            };
            let rows = range.len();
            let (keys, values) = (keys.rows(range.clone()), values.rows(range));
            let arguments = with::Store {
                places: placed(&at, layer, layout),
                keys: start(&keys).0,
                values: start(&values).0,
                rows: number(rows),
                keys_stride: number(keys.stride()),
                values_stride: number(values.stride()),
                unused: 0,
            };
            let grid = [number(layout.heads.div_ceil(WARPS)), number(rows), 2];
            self.launch(&self.kernels.store_pages, grid, &arguments);
        }
    }

    fn attention_cached_scratch(&self, rows: usize, layout: CacheLayout) -> usize {
        rows.min(APART_ROWS_MAX) * layout.heads * with::PARTS * (layout.size + 2)
    }

    fn attention_cached(
        &self,
        q: View<'_>,
        layer: usize,
        places: &CachePlaces<'_>,
        scale: f32,
        watched: Option<WatchedHeads<'_>>,
        mut out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    ) {
        let layout = places.layout();
        let count = q.row_count();
        let watched_heads = watched.as_ref().map_or(&[][..], |watched| watched.heads);
        if watched_heads.len() > WATCHED_MAX {
            let count = watched_heads.len();
            return self.refuse("watched heads of a layer", count, WATCHED_MAX);
        }
        if let Some(&head) = watched_heads
            .iter()
            .find(|&&head| head > WATCHED_NUMBER_MAX)
        {
            return self.refuse("the number of a watched head", head, WATCHED_NUMBER_MAX);
        }
        if layout.size > CACHED_CHANNELS_MAX {
            let most = CACHED_CHANNELS_MAX;
            return self.refuse("channels of a head of cached keys", layout.size, most);
        }
        // With few rows, most of the device would be idle.
        let apart = count <= APART_ROWS_MAX && count * layout.heads <= DONE_MAX;
        for first in (0..count).step_by(PIECE) {
            let range = first..count.min(first + PIECE);
            let Some(at) = self.send_places(places, range.clone()) else {
                return;
            };
            let rows = range.len();
            let (q, out) = (q.rows(range.clone()), out.reborrow().rows(range));
            let arguments = with::Pages {
                places: placed(&at, layer, layout),
                q: start(&q).0,
                out: start(&out.as_view()).0,
                partial: match apart {
                    true => start(&scratch.as_view()).0,
                    false => 0,
                },
                done: self.done.0,
                rows: number(rows),
                q_stride: number(q.stride()),
                out_stride: number(out.stride()),
                scale,
                ..watching(watched.as_ref())
            };
            let kernel = &self.kernels.attend_pages[cache_number(layout.precision)];
            let parts = if apart { with::PARTS } else { 1 };
            let grid = [
                number(layout.heads + watched_heads.len()),
                number(rows),
                number(parts),
            ];
            self.launch(kernel, grid, &arguments);
        }
    }

    fn rotary_angles(
        &self,
        positions: &[u32],
        frequencies: &[f32],
        mut cosines: ViewMut<'_>,
        mut sines: ViewMut<'_>,
    ) {
        let frequency_count = frequencies.len();
        if frequency_count > with::FREQUENCIES_MAX {
            let most = with::FREQUENCIES_MAX;
            return self.refuse("frequencies of rotary positions", frequency_count, most);
        }
        let mut arguments = with::Rotary {
            frequency_count: number(frequency_count),
            cosines_stride: number(cosines.stride()),
            sines_stride: number(sines.stride()),
            ..with::Rotary::zeroed()
        };
        arguments.frequencies[..frequency_count].copy_from_slice(frequencies);
        for (piece, positions) in positions.chunks(PIECE).enumerate() {
            let range = piece * PIECE..piece * PIECE + positions.len();
            let sent = self.send(|uploads, staging| uploads.positions(staging, positions));
            let Some(sent) = sent else { return };
            arguments.positions = sent.0;
            arguments.rows = number(positions.len());
            arguments.cosines = start(&cosines.reborrow().rows(range.clone()).as_view()).0;
            arguments.sines = start(&sines.reborrow().rows(range).as_view()).0;
            let grid = [arguments.rows, 1, 1];
            self.launch(&self.kernels.rotary_angles, grid, &arguments);
        }
    }

    fn rotate(&self, x: ViewMut<'_>, heads: usize, cosines: View<'_>, sines: View<'_>) {
        let size = x.column_count() / heads.max(1);
        let arguments = with::Rotate {
            x: start(&x.as_view()).0,
            cosines: start(&cosines).0,
            sines: start(&sines).0,
            rows: number(x.row_count()),
            heads: number(heads),
            size: number(size),
            x_stride: number(x.stride()),
            cosines_stride: number(cosines.stride()),
            sines_stride: number(sines.stride()),
        };
        let grid = element_blocks(x.row_count(), heads * (size / 2));
        self.launch(&self.kernels.rotate, grid, &arguments);
    }

    fn sinusoids(
        &self,
        positions: EvenPositions,
        rates: &[f32],
        order: SinusoidOrder,
        out: ViewMut<'_>,
    ) {
        let rate_count = rates.len();
        if rate_count > with::RATES_MAX {
            return self.refuse("rates of sinusoids", rate_count, with::RATES_MAX);
        }
        let mut arguments = with::Sinusoids {
            out: start(&out.as_view()).0,
            rows: number(out.row_count()),
            rate_count: number(rate_count),
            out_stride: number(out.stride()),
            pairs: u32::from(order == SinusoidOrder::Pairs),
            first: positions.first,
            step: positions.step,
            rates: [0.0; with::RATES_MAX],
        };
        arguments.rates[..rate_count].copy_from_slice(rates);
        let grid = element_blocks(out.row_count(), rate_count);
        self.launch(&self.kernels.sinusoids, grid, &arguments);
    }

    fn lstm_layer_scratch(&self, _batch: usize, _recurrent: &Matrix) -> usize {
        0
    }

    fn lstm_layer(
        &self,
        inputs: View<'_>,
        batch: usize,
        recurrent: &Matrix,
        out: ViewMut<'_>,
        _scratch: ViewMut<'_>,
    ) {
        let hidden = recurrent.columns();
        if hidden > with::HIDDEN_MAX {
            return self.refuse("hidden units of an LSTM", hidden, with::HIDDEN_MAX);
        }
        let arguments = with::Lstm {
            inputs: start(&inputs).0,
            recurrent: recurrent.address().0,
            out: start(&out.as_view()).0,
            time: number(inputs.row_count() / batch.max(1)),
            hidden: number(hidden),
            inputs_stride: number(inputs.stride()),
            out_stride: number(out.stride()),
        };
        let kernel = &self.kernels.lstm[precision_number(recurrent)];
        self.launch(kernel, [number(batch), 1, 1], &arguments);
    }

    fn embedding(&self, table: &Matrix, ids: &[u32], out: ViewMut<'_>) {
        self.embed(table, ids, None, 1, out);
    }

    fn moments(&self, x: View<'_>, out: ViewMut<'_>) {
        let grid = blocks(x.column_count(), THREADS as usize);
        self.launch(&self.kernels.moments, grid, &columns(&x, 0, &out));
    }

    fn segment_means(&self, x: View<'_>, segment: usize, out: ViewMut<'_>) {
        let [across, ..] = blocks(x.column_count(), THREADS as usize);
        let grid = [across, number(out.row_count()), 1];
        let arguments = columns(&x, segment, &out);
        self.launch(&self.kernels.segment_means, grid, &arguments);
    }

    fn normals(&self, noise: Noise, first_row: u64, out: ViewMut<'_>) {
        let arguments = with::Normals {
            out: start(&out.as_view()).0,
            seed: noise.mixed_seed(),
            first_row,
            rows: number(out.row_count()),
            columns: number(out.column_count()),
            out_stride: number(out.stride()),
            unused: 0,
        };
        let grid = element_blocks(out.row_count(), out.column_count());
        self.launch(&self.kernels.normals, grid, &arguments);
    }

    fn harmonics(&self, f0: View<'_>, source: &Harmonics<'_>, out: ViewMut<'_>) {
        let count = source.phases.len();
        if count > with::HARMONICS_MAX {
            return self.refuse("harmonics of a source", count, with::HARMONICS_MAX);
        }
        let mut arguments = with::Harmonics {
            f0: start(&f0).0,
            out: start(&out.as_view()).0,
            seed: source.noise.mixed_seed(),
            position: source.position,
            phases: [0; with::HARMONICS_MAX],
            frames: number(f0.row_count()),
            f0_stride: number(f0.stride()),
            count: number(count),
            samples_per_frame: number(source.samples_a_frame),
            out_stride: number(out.stride()),
            sample_rate: source.sample_rate as f32,
            voiced_threshold: source.voiced_threshold,
            sine_amplitude: source.sine_amplitude,
            noise_deviation: source.noise_deviation,
            unused: 0,
        };
        arguments.phases[..count].copy_from_slice(source.phases);
        let grid = [number(f0.row_count()), 1, 1];
        self.launch(&self.kernels.harmonics, grid, &arguments);
    }

    fn spectrum(&self, samples: View<'_>, transform: &Stft, out: ViewMut<'_>) {
        if transform.fft > with::FFT_MAX {
            return self.refuse("samples of a transform", transform.fft, with::FFT_MAX);
        }
        let arguments = with::Spectrum {
            samples: number(samples.row_count()),
            frames: number(out.row_count()),
            ..spectra(samples, transform, &out)
        };
        let grid = element_blocks(out.row_count(), out.column_count());
        self.launch(&self.kernels.spectrum, grid, &arguments);
    }

    fn overlap_add(
        &self,
        spectrum: View<'_>,
        transform: &Stft,
        magnitude_max: f32,
        sample_max: f32,
        out: ViewMut<'_>,
    ) {
        if transform.fft > with::FFT_MAX {
            return self.refuse("samples of a transform", transform.fft, with::FFT_MAX);
        }
        // A block of n samples reads at most (n + fft − 2) / hop + 1 frames.
        let frames_max = with::FRAME_BINS_MAX / transform.bins();
        let reach = (frames_max - 1) * transform.hop + 2;
        let samples_per_block = reach.saturating_sub(transform.fft).min(SAMPLES_PER_BLOCK);
        if samples_per_block == 0 {
            return self.refuse("frames that reach a sample", transform.fft, frames_max);
        }
        let samples = out.row_count();
        let arguments = with::Spectrum {
            samples: number(samples),
            frames: number(spectrum.row_count()),
            samples_per_block: number(samples_per_block),
            magnitude_max,
            sample_max,
            ..spectra(spectrum, transform, &out)
        };
        let grid = blocks(samples, samples_per_block);
        self.launch(&self.kernels.overlap_add, grid, &arguments);
    }
}

impl Cuda {
    /// A product of rows with weights, by the kernel family that suits the number of rows.
    #[allow(
        clippy::too_many_arguments,
        reason = "rows, a layer, where its results go, how they are made"
    )]
    fn multiply_rows(
        &self,
        x: View<'_>,
        weight: &Matrix,
        bias: Option<&Vector>,
        activation: Activation,
        store: Store,
        rounding: Rounding,
        out: ViewMut<'_>,
    ) {
        let rows = x.row_count();
        let few = &self.kernels.few_rows[precision_number(weight)];
        if !few.takes(rows) || MatrixUnits::of(weight, rounding).is_some() {
            let product = product_of(x, weight, bias, activation, store, &out);
            return self.multiply_layers(weight, 1, &product, rounding);
        }
        let arguments = rows_of(x, layer_of(weight, bias), weight, activation, store, &out);
        let variant = few.of_rows(rows);
        let blocks = variant.blocks(weight.rows(), weight.columns(), rows);
        self.launch(variant.kernel, blocks, &arguments);
    }

    /// Products with the weights of layers, all of this shape and precision, of which these are the
    /// first's.
    pub(super) fn multiply_layers(
        &self,
        weight: &Matrix,
        layers: usize,
        product: &with::Product,
        rounding: Rounding,
    ) {
        let units = MatrixUnits::of(weight, rounding).filter(|_| product.alpha == 0);
        let wide = weight.rows() > 32;
        let rows = product.rows as usize;
        let outputs = if units.is_some() || wide { 64 } else { 32 };
        let across = weight.rows().div_ceil(outputs);
        let (block_rows, kernel) = match units {
            Some(units) => {
                let high = rows.div_ceil(64) * across * layers >= BLOCKS_ENOUGH;
                let kernel = &self.kernels.product_mma[units as usize][usize::from(high)];
                (if high { 64 } else { 32 }, kernel)
            }
            None => {
                let kernels = &self.kernels.product[precision_number(weight)];
                (4096 / outputs, &kernels[usize::from(wide)])
            }
        };
        let down = rows.div_ceil(block_rows);
        let grid = [number(down), number(across), number(layers)];
        self.launch(kernel, grid, product);
    }

    /// Attention within sequences that are stacked by rows, of which queries see the first
    /// `keys_seen` keys.
    pub(super) fn attend(
        &self,
        [q, k, v]: [View<'_>; 3],
        keys_seen: &[usize],
        options: &Attention<'_>,
        rounding: Rounding,
        out: ViewMut<'_>,
    ) {
        let sequences = keys_seen.len();
        let (queries, keys) = (q.row_count() / sequences, k.row_count() / sequences);
        let mut seen = [0; SEQUENCES_MAX];
        if keys_seen.iter().any(|&seen| seen < keys) {
            for (seen, &count) in seen.iter_mut().zip(keys_seen) {
                *seen = number(count);
            }
        }
        let heads = options.heads;
        let size = q.column_count() / heads.max(1);
        let fine = rounding == Rounding::Fine;
        let units = !options.causal && (!fine || self.fine_attention_has_matrix_units);
        let of_units = &self.kernels.attention_mma[usize::from(fine)];
        let kernel = match size {
            0..=64 if units => &of_units[usize::from(options.relative.is_some())],
            0..=64 => &self.kernels.attention_64,
            65..=128 => &self.kernels.attention_128,
            _ if size.is_multiple_of(VALUES_MAX) => &self.kernels.attention_128,
            _ => return self.refuse("channels of a head of an attention", size, VALUES_MAX),
        };
        let relative = options.relative.as_ref().map(|relative| {
            let (queries, positions) = (&relative.queries, &relative.positions);
            [
                (start(queries).0, number(queries.stride())),
                (start(positions).0, number(positions.stride())),
            ]
        });
        let [relative_queries, relative_positions] = relative.unwrap_or_default();
        let arguments = with::Attention {
            q: start(&q).0,
            k: start(&k).0,
            v: start(&v).0,
            out: start(&out.as_view()).0,
            relative_queries: relative_queries.0,
            relative_positions: relative_positions.0,
            queries: number(queries),
            keys: number(keys),
            size: number(size),
            q_stride: number(q.stride()),
            k_stride: number(k.stride()),
            v_stride: number(v.stride()),
            out_stride: number(out.stride()),
            relative_queries_stride: relative_queries.1,
            relative_positions_stride: relative_positions.1,
            causal: u32::from(options.causal),
            scale: options.scale,
            unused: 0,
            keys_seen: seen,
        };
        let grid = [queries.div_ceil(QUERIES), heads, sequences].map(number);
        // Of wider heads a launch makes some channels, with the scores of all.
        for first in (0..size.max(1)).step_by(VALUES_MAX) {
            let offset = (first * size_of::<f32>()) as u64;
            let arguments = with::Attention {
                v: arguments.v + offset,
                out: arguments.out + offset,
                ..arguments
            };
            self.launch(kernel, grid, &arguments);
        }
    }

    /// Rows of a table, plus rows of an optional second one; each row is repeated `times` times.
    pub(super) fn embed(
        &self,
        table: &Matrix,
        ids: &[u32],
        positions: Option<(&Matrix, &[u32])>,
        times: usize,
        mut out: ViewMut<'_>,
    ) {
        for (piece, ids) in ids.chunks(PIECE).enumerate() {
            let first = piece * PIECE;
            let Some(sent) = self.send(|uploads, staging| uploads.ids(staging, ids)) else {
                return;
            };
            let out = (out.reborrow()).rows(first * times..(first + ids.len()) * times);
            let mut arguments = with::Embedding {
                table: table.address().0,
                ids: sent.0,
                out: start(&out.as_view()).0,
                rows: number(out.row_count()),
                columns: number(table.columns()),
                outputs: number(table.rows()),
                out_stride: number(out.stride()),
                times: number(times),
                ..with::Embedding::zeroed()
            };
            if let Some((table, positions)) = positions {
                let positions = &positions[first..first + ids.len()];
                let sent = self.send(|uploads, staging| uploads.positions(staging, positions));
                let Some(sent) = sent else { return };
                arguments.positions = table.address().0;
                arguments.position_ids = sent.0;
                arguments.position_outputs = number(table.rows());
            }
            let kernel = &self.kernels.embed[precision_number(table)];
            let grid = element_blocks(out.row_count(), table.columns());
            self.launch(kernel, grid, &arguments);
        }
    }

    fn normalise(
        &self,
        x: View<'_>,
        scale: Option<&Vector>,
        shift: Option<&Vector>,
        norm: u32,
        epsilon: f32,
        out: ViewMut<'_>,
    ) {
        let rows = x.row_count();
        let arguments = with::Norm {
            x: start(&x).0,
            scale: optional(scale),
            shift: optional(shift),
            out: start(&out.as_view()).0,
            rows: number(rows),
            columns: number(x.column_count()),
            x_stride: number(x.stride()),
            out_stride: number(out.stride()),
            norm,
            epsilon,
        };
        self.launch(&self.kernels.normalise, blocks(rows, WARPS), &arguments);
    }

    fn each_element(&self, kernel: &Arc<Kernel>, arguments: &with::Elements) {
        let (rows, columns) = (arguments.rows as usize, arguments.columns as usize);
        self.launch(kernel, element_blocks(rows, columns), arguments);
    }

    pub(super) fn send_places(
        &self,
        places: &CachePlaces<'_>,
        rows: std::ops::Range<usize>,
    ) -> Option<PlacesAddresses> {
        self.send(|uploads, staging| uploads.places(staging, places, &places.rows()[rows.clone()]))
    }
}
