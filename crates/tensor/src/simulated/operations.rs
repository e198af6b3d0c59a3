//! Each operation, computed on the host.

use super::SimulatedDevice;
use super::staging::Staging;
use crate::cache::CachePlaces;
use crate::harmonics::Harmonics;
use crate::layers::{Conv1d, Conv2d, ConvTranspose1d};
use crate::matrix::{Matrix, Vector};
use crate::noise::Noise;
use crate::operations::{
    Activation, Attention, Convolving, EvenPositions, Operations, RelativePositions, Rounding,
    SinusoidOrder, Store, WatchedHeads,
};
use crate::stft::Stft;
use crate::view::{View, ViewMut};

impl SimulatedDevice {
    /// An operation that changes rows in place.
    fn in_place(&self, operation: &'static str, x: ViewMut<'_>, compute: impl FnOnce(ViewMut<'_>)) {
        self.of_none(operation, x, true, compute);
    }

    /// An operation without inputs; with `kept`, it depends on the output's contents.
    fn of_none(
        &self,
        operation: &'static str,
        out: ViewMut<'_>,
        kept: bool,
        compute: impl FnOnce(ViewMut<'_>),
    ) {
        let Some(mut staging) = Staging::begin(self, operation) else {
            return;
        };
        let mut staged = staging.output(&out, kept);
        compute(staged.view_mut());
        staging.store(&staged, out);
    }

    /// An operation with one input.
    fn of_one(
        &self,
        operation: &'static str,
        x: View<'_>,
        out: ViewMut<'_>,
        compute: impl FnOnce(View<'_>, ViewMut<'_>),
    ) {
        let Some(mut staging) = Staging::begin(self, operation) else {
            return;
        };
        let (x, mut staged) = (staging.input(x), staging.output(&out, false));
        compute(x.view(), staged.view_mut());
        staging.store(&staged, out);
    }

    /// An operation that changes rows in place by other rows.
    fn in_place_by(
        &self,
        operation: &'static str,
        x: ViewMut<'_>,
        y: View<'_>,
        compute: impl FnOnce(ViewMut<'_>, View<'_>),
    ) {
        let Some(mut staging) = Staging::begin(self, operation) else {
            return;
        };
        let (mut staged, y) = (staging.output(&x, true), staging.input(y));
        compute(staged.view_mut(), y.view());
        staging.store(&staged, x);
    }
}

impl Operations for SimulatedDevice {
    fn name(&self) -> &str {
        "simulated"
    }

    fn linear_scratch(&self, rows: usize, weight: &Matrix, rounding: Rounding) -> usize {
        self.cpu.linear_scratch(rows, weight, rounding)
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
        scratch: ViewMut<'_>,
    ) {
        let Some(mut staging) = Staging::begin(self, "linear") else {
            return;
        };
        let x = staging.input(x);
        let (weight, bias) = (staging.matrix(weight), staging.optional(bias));
        let mut staged = staging.output(&out, store == Store::Add);
        let mut scratch = staging.output(&scratch, false);
        self.cpu.linear(
            x.view(),
            &weight,
            bias.as_ref(),
            activation,
            store,
            rounding,
            staged.view_mut(),
            scratch.view_mut(),
        );
        staging.store(&staged, out);
    }

    fn conv1d_scratch(&self, time: usize, layer: &Conv1d, options: &Convolving<'_>) -> usize {
        self.cpu.conv1d_scratch(time, layer, options)
    }

    fn conv1d(
        &self,
        x: View<'_>,
        layer: &Conv1d,
        options: &Convolving<'_>,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    ) {
        let Some(mut staging) = Staging::begin(self, "conv1d") else {
            return;
        };
        let (x, layer) = (staging.input(x), staging.conv1d(layer));
        let snake = staging.optional(options.snake);
        let options = Convolving {
            snake: snake.as_ref(),
            ..*options
        };
        let mut staged = staging.output(&out, options.store == Store::Add);
        let mut scratch = staging.output(&scratch, false);
        let (view, scratch) = (staged.view_mut(), scratch.view_mut());
        self.cpu.conv1d(x.view(), &layer, &options, view, scratch);
        staging.store(&staged, out);
    }

    fn conv_transpose1d_scratch(&self, time: usize, layer: &ConvTranspose1d) -> usize {
        self.cpu.conv_transpose1d_scratch(time, layer)
    }

    fn conv_transpose1d(
        &self,
        x: View<'_>,
        layer: &ConvTranspose1d,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    ) {
        let Some(mut staging) = Staging::begin(self, "conv_transpose1d") else {
            return;
        };
        let (x, layer) = (staging.input(x), staging.conv_transpose1d(layer));
        let mut staged = staging.output(&out, false);
        let mut scratch = staging.output(&scratch, false);
        let (view, scratch) = (staged.view_mut(), scratch.view_mut());
        self.cpu.conv_transpose1d(x.view(), &layer, view, scratch);
        staging.store(&staged, out);
    }

    fn conv2d_scratch(&self, size: [usize; 2], layer: &Conv2d) -> usize {
        self.cpu.conv2d_scratch(size, layer)
    }

    fn conv2d(
        &self,
        x: View<'_>,
        size: [usize; 2],
        layer: &Conv2d,
        activation: Activation,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    ) {
        let Some(mut staging) = Staging::begin(self, "conv2d") else {
            return;
        };
        let (x, layer) = (staging.input(x), staging.conv2d(layer));
        let mut staged = staging.output(&out, false);
        let mut scratch = staging.output(&scratch, false);
        let (view, scratch) = (staged.view_mut(), scratch.view_mut());
        (self.cpu).conv2d(x.view(), size, &layer, activation, view, scratch);
        staging.store(&staged, out);
    }

    fn layer_norm(
        &self,
        x: View<'_>,
        scale: Option<&Vector>,
        shift: Option<&Vector>,
        epsilon: f32,
        out: ViewMut<'_>,
    ) {
        let Some(mut staging) = Staging::begin(self, "layer_norm") else {
            return;
        };
        let x = staging.input(x);
        let (scale, shift) = (staging.optional(scale), staging.optional(shift));
        let mut staged = staging.output(&out, false);
        let (scale, shift) = (scale.as_ref(), shift.as_ref());
        (self.cpu).layer_norm(x.view(), scale, shift, epsilon, staged.view_mut());
        staging.store(&staged, out);
    }

    fn rms_norm(&self, x: View<'_>, scale: &Vector, epsilon: f32, out: ViewMut<'_>) {
        let Some(mut staging) = Staging::begin(self, "rms_norm") else {
            return;
        };
        let (x, scale) = (staging.input(x), staging.vector(scale));
        let mut staged = staging.output(&out, false);
        (self.cpu).rms_norm(x.view(), &scale, epsilon, staged.view_mut());
        staging.store(&staged, out);
    }

    fn activate(&self, x: ViewMut<'_>, activation: Activation) {
        self.in_place("activate", x, |x| self.cpu.activate(x, activation));
    }

    fn gated_silu(&self, x: View<'_>, out: ViewMut<'_>) {
        self.of_one("gated_silu", x, out, |x, out| self.cpu.gated_silu(x, out));
    }

    fn add_scaled(&self, x: ViewMut<'_>, scale: f32, y: View<'_>, factor: f32) {
        self.in_place_by("add_scaled", x, y, |x, y| {
            self.cpu.add_scaled(x, scale, y, factor);
        });
    }

    fn multiply(&self, x: ViewMut<'_>, y: View<'_>) {
        self.in_place_by("multiply", x, y, |x, y| self.cpu.multiply(x, y));
    }

    fn scale(&self, x: ViewMut<'_>, factor: f32) {
        self.in_place("scale", x, |x| self.cpu.scale(x, factor));
    }

    fn fill(&self, out: ViewMut<'_>, value: f32) {
        self.of_none("fill", out, false, |out| self.cpu.fill(out, value));
    }

    fn copy(&self, x: View<'_>, out: ViewMut<'_>) {
        self.of_one("copy", x, out, |x, out| self.cpu.copy(x, out));
    }

    fn repeat_rows(&self, x: View<'_>, times: usize, out: ViewMut<'_>) {
        self.of_one("repeat_rows", x, out, |x, out| {
            self.cpu.repeat_rows(x, times, out);
        });
    }

    fn softmax(&self, x: ViewMut<'_>) {
        self.in_place("softmax", x, |x| self.cpu.softmax(x));
    }

    fn attention_scratch(
        &self,
        queries: usize,
        keys: usize,
        columns: usize,
        options: &Attention<'_>,
        rounding: Rounding,
    ) -> usize {
        (self.cpu).attention_scratch(queries, keys, columns, options, rounding)
    }

    fn attention(
        &self,
        q: View<'_>,
        k: View<'_>,
        v: View<'_>,
        options: &Attention<'_>,
        rounding: Rounding,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    ) {
        let Some(mut staging) = Staging::begin(self, "attention") else {
            return;
        };
        let [q, k, v] = [q, k, v].map(|view| staging.input(view));
        let relative = (options.relative)
            .map(|relative| [relative.queries, relative.positions].map(|view| staging.input(view)));
        let relative = relative
            .as_ref()
            .map(|[queries, positions]| RelativePositions {
                queries: queries.view(),
                positions: positions.view(),
            });
        let options = Attention {
            relative,
            ..*options
        };
        let mut staged = staging.output(&out, false);
        let mut scratch = staging.output(&scratch, false);
        let [q, k, v] = [&q, &k, &v].map(|staged| staged.view());
        let (view, scratch) = (staged.view_mut(), scratch.view_mut());
        (self.cpu).attention(q, k, v, &options, rounding, view, scratch);
        staging.store(&staged, out);
    }

    fn cache_store(
        &self,
        keys: View<'_>,
        values: View<'_>,
        layer: usize,
        places: &mut CachePlaces<'_>,
    ) {
        let Some(mut staging) = Staging::begin(self, "cache_store") else {
            return;
        };
        let [keys, values] = [keys, values].map(|view| staging.input(view));
        let mut pages = staging.pages(places, layer);
        let (mut staged, _) = pages.places(places);
        (self.cpu).cache_store(keys.view(), values.view(), 0, &mut staged);
        drop(staged);
        staging.store_cached(&mut pages, places);
    }

    fn attention_cached(
        &self,
        q: View<'_>,
        layer: usize,
        places: &CachePlaces<'_>,
        scale: f32,
        watched: Option<WatchedHeads<'_>>,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    ) {
        let Some(mut staging) = Staging::begin(self, "attention_cached") else {
            return;
        };
        let (q, mut pages) = (staging.input(q), staging.pages(places, layer));
        let mut staged = staging.output(&out, false);
        let mut record = (watched.as_ref()).map(|watched| staging.output(&watched.record, false));
        let (places, _) = pages.places(places);
        let staged_watch =
            (watched.as_ref().zip(record.as_mut())).map(|(watched, record)| WatchedHeads {
                heads: watched.heads,
                record: record.view_mut(),
            });
        let view = staged.view_mut();
        (self.cpu).attention_cached(q.view(), 0, &places, scale, staged_watch, view, scratch);
        staging.store(&staged, out);
        if let (Some(watched), Some(record)) = (watched, record) {
            staging.store(&record, watched.record);
        }
    }

    fn rotary_angles(
        &self,
        positions: &[u32],
        frequencies: &[f32],
        cosines: ViewMut<'_>,
        sines: ViewMut<'_>,
    ) {
        let Some(mut staging) = Staging::begin(self, "rotary_angles") else {
            return;
        };
        let [mut staged_cosines, mut staged_sines] =
            [&cosines, &sines].map(|view| staging.output(view, false));
        let (both, angles) = (
            (staged_cosines.view_mut(), staged_sines.view_mut()),
            (positions, frequencies),
        );
        self.cpu.rotary_angles(angles.0, angles.1, both.0, both.1);
        staging.store(&staged_cosines, cosines);
        staging.store(&staged_sines, sines);
    }

    fn rotate(&self, x: ViewMut<'_>, heads: usize, cosines: View<'_>, sines: View<'_>) {
        let Some(mut staging) = Staging::begin(self, "rotate") else {
            return;
        };
        let mut staged = staging.output(&x, true);
        let [cosines, sines] = [cosines, sines].map(|view| staging.input(view));
        (self.cpu).rotate(staged.view_mut(), heads, cosines.view(), sines.view());
        staging.store(&staged, x);
    }

    fn sinusoids(
        &self,
        positions: EvenPositions,
        rates: &[f32],
        order: SinusoidOrder,
        out: ViewMut<'_>,
    ) {
        self.of_none("sinusoids", out, false, |out| {
            self.cpu.sinusoids(positions, rates, order, out);
        });
    }

    fn lstm_layer_scratch(&self, batch: usize, recurrent: &Matrix) -> usize {
        self.cpu.lstm_layer_scratch(batch, recurrent)
    }

    fn lstm_layer(
        &self,
        inputs: View<'_>,
        batch: usize,
        recurrent: &Matrix,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    ) {
        let Some(mut staging) = Staging::begin(self, "lstm_layer") else {
            return;
        };
        let (inputs, recurrent) = (staging.input(inputs), staging.matrix(recurrent));
        let mut staged = staging.output(&out, false);
        let mut scratch = staging.output(&scratch, false);
        let (view, scratch) = (staged.view_mut(), scratch.view_mut());
        (self.cpu).lstm_layer(inputs.view(), batch, &recurrent, view, scratch);
        staging.store(&staged, out);
    }

    fn embedding(&self, table: &Matrix, ids: &[u32], out: ViewMut<'_>) {
        let Some(mut staging) = Staging::begin(self, "embedding") else {
            return;
        };
        let table = staging.matrix(table);
        let mut staged = staging.output(&out, false);
        self.cpu.embedding(&table, ids, staged.view_mut());
        staging.store(&staged, out);
    }

    fn moments(&self, x: View<'_>, out: ViewMut<'_>) {
        self.of_one("moments", x, out, |x, out| self.cpu.moments(x, out));
    }

    fn segment_means(&self, x: View<'_>, segment: usize, out: ViewMut<'_>) {
        self.of_one("segment_means", x, out, |x, out| {
            self.cpu.segment_means(x, segment, out);
        });
    }

    fn normals(&self, noise: Noise, first_row: u64, out: ViewMut<'_>) {
        self.of_none("normals", out, false, |out| {
            self.cpu.normals(noise, first_row, out);
        });
    }

    fn harmonics(&self, f0: View<'_>, source: &Harmonics<'_>, out: ViewMut<'_>) {
        self.of_one("harmonics", f0, out, |f0, out| {
            self.cpu.harmonics(f0, source, out);
        });
    }

    fn spectrum(&self, samples: View<'_>, transform: &Stft, out: ViewMut<'_>) {
        self.of_one("spectrum", samples, out, |samples, out| {
            self.cpu.spectrum(samples, transform, out);
        });
    }

    fn overlap_add(
        &self,
        spectrum: View<'_>,
        transform: &Stft,
        magnitude_max: f32,
        sample_max: f32,
        out: ViewMut<'_>,
    ) {
        self.of_one("overlap_add", spectrum, out, |spectrum, out| {
            (self.cpu).overlap_add(spectrum, transform, magnitude_max, sample_max, out);
        });
    }
}
