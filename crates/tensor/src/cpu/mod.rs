//! Operations on the CPU.
//!
//! Products (linear layers, convolutions, attention) are a GEMM (`gemm`) with a kernel for the
//! operands: `gemm_f32`; or for integer weights `gemm_int16`, with activations rounded to 16 bits,
//! or `gemm_int8` and `attention_int8`, with activations rounded to 8 bits.
//!
//! All operations split outputs between threads, never a sum, and sum in one fixed order: a row's
//! result depends neither on the number of threads nor on other rows.

#[cfg(test)]
mod agreement;
mod attention;
mod attention_cached;
mod attention_f32;
mod attention_int8;
mod attention_weights;
mod chains;
mod conv;
mod gemm;
mod gemm_f32;
mod gemm_int16;
mod gemm_int8;
mod harmonics;
mod instruction_set;
mod kernel;
mod lanes;
mod lstm;
pub(crate) mod maths;
mod moments;
mod output;
mod rows;
mod stft;
mod toom_cook;
mod unpack;
mod vectorised;

use crate::cache::CachePlaces;
use crate::device::{Device, DeviceError, Traffic};
use crate::harmonics::Harmonics;
use crate::layers::{Conv1d, Conv2d, ConvTranspose1d, Linear, Norm};
use crate::matrix::{Matrix, Precision, Vector};
use crate::noise::Noise;
use crate::operations::{
    Activation, Attention, Convolving, EvenPositions, LayerChains, Operations, Rounding,
    SinusoidOrder, Store, WatchedHeads,
};
use crate::stft::Stft;
use crate::threads::Threads;
use crate::view::{View, ViewMut};
use attention::Sizes;
use attention_f32::F32Attention;
use attention_int8::Int8Attention;
use gemm::{Epilogue, Product};
use gemm_f32::{F32Kernel, PanelsF32, RowsF32};
use gemm_int8::Int8Kernel;
use gemm_int16::Int16Kernel;
use instruction_set::InstructionSet;
pub use instruction_set::features;
use std::sync::Arc;

/// Rows of a linear layer that are quantised at a time: the vocoder's source has 24,000 rows a
/// second of sound, and its scratch would be the largest buffer of a small model.
const QUANTISED_ROWS_MAX: usize = 4096;

/// The CPU and its threads.
#[derive(Clone)]
pub struct Cpu {
    threads: Threads,
    name: String,
    traffic: Arc<Traffic>,
}

impl Cpu {
    /// A device whose work is shared by `threads`.
    pub fn new(threads: Threads) -> Cpu {
        let name = format!("cpu-{}", InstructionSet::best().name());
        Cpu {
            threads,
            name,
            traffic: Arc::default(),
        }
    }
}

/// Arithmetic of a linear layer.
enum Arithmetic {
    /// 32-bit floating point.
    F32,
    /// Activations in 16-bit integers.
    Int16(InstructionSet),
    /// Activations in 8-bit integers.
    Int8(InstructionSet),
}

fn arithmetic(weight: &Matrix, rounding: Rounding) -> Arithmetic {
    let set = InstructionSet::best();
    if !set.multiplies_bytes() {
        return Arithmetic::F32;
    }
    match (weight.precision(), rounding) {
        (Precision::F32 | Precision::F16, _) => Arithmetic::F32,
        (Precision::Int8, Rounding::Coarse) => Arithmetic::Int8(set),
        (Precision::Int8 | Precision::Q4, _) => Arithmetic::Int16(set),
    }
}

/// The instruction set for integer attention, where it applies.
fn attention_set(
    keys: usize,
    columns: usize,
    options: &Attention<'_>,
    rounding: Rounding,
) -> Option<InstructionSet> {
    let set = InstructionSet::best();
    let applies = rounding == Rounding::Coarse
        && set.multiplies_bytes()
        && attention_int8::applies(keys, columns, options);
    applies.then_some(set)
}

impl Device for Cpu {
    fn read(&self, from: View<'_>, into: &mut [f32]) -> Result<(), DeviceError> {
        for (index, out) in into
            .chunks_exact_mut(from.column_count().max(1))
            .enumerate()
        {
            out.copy_from_slice(from.row(index));
        }
        Ok(())
    }

    fn write(&self, values: &[f32], mut to: ViewMut<'_>) {
        for (index, row) in values.chunks_exact(to.column_count().max(1)).enumerate() {
            to.row_mut(index).copy_from_slice(row);
        }
    }

    fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    fn host_accessible(&self) -> bool {
        true
    }

    fn threads(&self) -> usize {
        self.threads.count()
    }

    fn run(&self, work: &mut (dyn FnMut() + Send)) {
        self.threads.run(work);
    }
}

/// The instruction set for layers of quantised rows, where they apply.
fn chain_set(layers: &[&Linear], rounding: Rounding) -> Option<InstructionSet> {
    let mut sets = layers
        .iter()
        .map(|layer| arithmetic(&layer.weight, rounding));
    match sets.next()? {
        Arithmetic::Int8(set) if sets.all(|next| matches!(next, Arithmetic::Int8(_))) => Some(set),
        _ => None,
    }
}

impl LayerChains for Cpu {
    fn linears_scratch(
        &self,
        rows: usize,
        layers: &[&Linear],
        rounding: Rounding,
    ) -> Option<usize> {
        chain_set(layers, rounding)?;
        let inputs = layers.first()?.weight.columns();
        Some(chains::linears_scratch(&self.threads, rows, inputs))
    }

    fn linears(
        &self,
        x: View<'_>,
        norm: Option<&Norm>,
        layers: &[&Linear],
        activation: Activation,
        rounding: Rounding,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    ) {
        if let Some(set) = chain_set(layers, rounding) {
            let (threads, scratch) = (&self.threads, scratch.into_data());
            chains::linears(set, threads, x, norm, layers, activation, out, scratch);
        }
    }

    fn feed_forward_scratch(
        &self,
        rows: usize,
        layers: [&Linear; 2],
        rounding: Rounding,
    ) -> Option<usize> {
        chain_set(&layers, rounding)?;
        Some(chains::feed_forward_scratch(&self.threads, rows, layers[0]))
    }

    fn feed_forward(
        &self,
        x: ViewMut<'_>,
        norm: &Norm,
        layers: [&Linear; 2],
        activation: Activation,
        rounding: Rounding,
        scratch: ViewMut<'_>,
    ) {
        if let Some(set) = chain_set(&layers, rounding) {
            let (threads, scratch) = (&self.threads, scratch.into_data());
            let [feed_in, feed_out] = layers;
            chains::feed_forward(
                set, threads, x, norm, feed_in, activation, feed_out, scratch,
            );
        }
    }
}

/// Calls `multiply` for at most [`QUANTISED_ROWS_MAX`] rows at a time.
fn for_each_block(
    x: View<'_>,
    mut out: ViewMut<'_>,
    mut multiply: impl FnMut(View<'_>, ViewMut<'_>),
) {
    let count = x.row_count();
    for first in (0..count).step_by(QUANTISED_ROWS_MAX) {
        let rows = first..count.min(first + QUANTISED_ROWS_MAX);
        multiply(x.rows(rows.clone()), out.reborrow().rows(rows));
    }
}

impl Operations for Cpu {
    fn chains(&self) -> Option<&dyn LayerChains> {
        Some(self)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn linear_scratch(&self, rows: usize, weight: &Matrix, rounding: Rounding) -> usize {
        let rows = rows.min(QUANTISED_ROWS_MAX);
        match arithmetic(weight, rounding) {
            Arithmetic::F32 => 0,
            Arithmetic::Int16(_) => gemm_int16::scratch(rows, weight.columns()),
            Arithmetic::Int8(_) => gemm_int8::scratch(rows, weight.columns()),
        }
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
        let (threads, scratch) = (&self.threads, scratch.into_data());
        let epilogue = Epilogue {
            bias: bias.map(Vector::data),
            activation,
            store,
        };
        match arithmetic(weight, rounding) {
            Arithmetic::F32 => {
                let kernel = F32Kernel::new(RowsF32::of(x), PanelsF32::Matrix(weight));
                Product { kernel, epilogue }.multiply(threads, out);
            }
            Arithmetic::Int16(set) => for_each_block(x, out, |x, out| {
                let scratch = &mut scratch[..gemm_int16::scratch(x.row_count(), weight.columns())];
                let kernel = Int16Kernel::quantise(set, threads, x, weight, scratch);
                Product { kernel, epilogue }.multiply(threads, out);
            }),
            Arithmetic::Int8(set) => for_each_block(x, out, |x, out| {
                let scratch = &mut scratch[..gemm_int8::scratch(x.row_count(), weight.columns())];
                let kernel = Int8Kernel::quantise(set, threads, x, weight, scratch);
                Product { kernel, epilogue }.multiply(threads, out);
            }),
        }
    }

    fn conv1d_scratch(&self, time: usize, layer: &Conv1d, options: &Convolving<'_>) -> usize {
        match toom_cook::applies(time, layer) {
            true => toom_cook::scratch(&self.threads, layer),
            false => conv::conv1d_scratch(time, layer, options),
        }
    }

    fn conv1d(
        &self,
        x: View<'_>,
        layer: &Conv1d,
        options: &Convolving<'_>,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    ) {
        let scratch = scratch.into_data();
        match toom_cook::applies(x.row_count(), layer) {
            true => toom_cook::conv1d(&self.threads, x, layer, options, out, scratch),
            false => conv::conv1d(&self.threads, x, layer, options, out, scratch),
        }
    }

    fn conv_transpose1d_scratch(&self, time: usize, layer: &ConvTranspose1d) -> usize {
        conv::conv_transpose1d_scratch(time, layer)
    }

    fn conv_transpose1d(
        &self,
        x: View<'_>,
        layer: &ConvTranspose1d,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    ) {
        conv::conv_transpose1d(&self.threads, x, layer, out, scratch.into_data());
    }

    fn conv2d_scratch(&self, size: [usize; 2], layer: &Conv2d) -> usize {
        conv::conv2d_scratch(size, layer)
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
        let scratch = scratch.into_data();
        conv::conv2d(&self.threads, x, size, layer, activation, out, scratch);
    }

    fn layer_norm(
        &self,
        x: View<'_>,
        scale: Option<&Vector>,
        shift: Option<&Vector>,
        epsilon: f32,
        mut out: ViewMut<'_>,
    ) {
        let (scale, shift) = (scale.map(Vector::data), shift.map(Vector::data));
        rows::for_each(&self.threads, &mut out, |index, row| {
            maths::layer_norm(x.row(index), scale, shift, epsilon, row);
        });
    }

    fn rms_norm(&self, x: View<'_>, scale: &Vector, epsilon: f32, mut out: ViewMut<'_>) {
        rows::for_each(&self.threads, &mut out, |index, row| {
            maths::rms_norm(x.row(index), scale.data(), epsilon, row);
        });
    }

    fn activate(&self, mut x: ViewMut<'_>, activation: Activation) {
        rows::for_each(&self.threads, &mut x, |_, row| {
            maths::activate(row, activation);
        });
    }

    fn gated_silu(&self, x: View<'_>, mut out: ViewMut<'_>) {
        rows::for_each(&self.threads, &mut out, |index, row| {
            let (gate, up) = x.row(index).split_at(row.len());
            maths::gated_silu(gate, up, row);
        });
    }

    fn add_scaled(&self, mut x: ViewMut<'_>, scale: f32, y: View<'_>, factor: f32) {
        rows::for_each(&self.threads, &mut x, |index, row| {
            let y = y.row(if y.row_count() == 1 { 0 } else { index });
            maths::add_scaled(row, scale, y, factor);
        });
    }

    fn multiply(&self, mut x: ViewMut<'_>, y: View<'_>) {
        rows::for_each(&self.threads, &mut x, |index, row| {
            maths::multiply(row, y.row(if y.row_count() == 1 { 0 } else { index }));
        });
    }

    fn copy(&self, x: View<'_>, mut out: ViewMut<'_>) {
        rows::for_each(&self.threads, &mut out, |index, row| {
            row.copy_from_slice(x.row(index));
        });
    }

    fn scale(&self, mut x: ViewMut<'_>, factor: f32) {
        rows::for_each(&self.threads, &mut x, |_, row| maths::scale(row, factor));
    }

    fn fill(&self, mut out: ViewMut<'_>, value: f32) {
        for row in 0..out.row_count() {
            out.row_mut(row).fill(value);
        }
    }

    fn repeat_rows(&self, x: View<'_>, times: usize, mut out: ViewMut<'_>) {
        for row in 0..out.row_count() {
            out.row_mut(row).copy_from_slice(x.row(row / times));
        }
    }

    fn softmax(&self, mut x: ViewMut<'_>) {
        rows::for_each(&self.threads, &mut x, |_, row| maths::softmax(row));
    }

    fn attention_scratch(
        &self,
        queries: usize,
        keys: usize,
        columns: usize,
        options: &Attention<'_>,
        rounding: Rounding,
    ) -> usize {
        let sizes = Sizes::of(queries, keys, columns, options);
        match attention_set(keys, columns, options, rounding) {
            Some(set) => {
                let kernel = Int8Attention::new(set, sizes, options.scale);
                attention::scratch(&kernel, &self.threads)
            }
            None => attention::scratch(&F32Attention::new(sizes, options), &self.threads),
        }
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
        let (threads, scratch) = (&self.threads, scratch.into_data());
        let (keys, columns) = (k.row_count(), q.column_count());
        let sizes = Sizes::of(q.row_count(), keys, columns, options);
        match attention_set(keys, columns, options, rounding) {
            Some(set) => {
                let kernel = Int8Attention::new(set, sizes, options.scale);
                attention::attention(&kernel, threads, q, k, v, out, scratch);
            }
            None => {
                let kernel = F32Attention::new(sizes, options);
                attention::attention(&kernel, threads, q, k, v, out, scratch);
            }
        }
    }

    fn cache_store(
        &self,
        keys: View<'_>,
        values: View<'_>,
        layer: usize,
        places: &mut CachePlaces<'_>,
    ) {
        let layout = places.layout();
        for row in 0..keys.row_count() {
            let [key_bytes, value_bytes] = places.own_bytes(row, layer);
            (layout.precision).encode(keys.row(row), layout.heads, key_bytes);
            (layout.precision).encode(values.row(row), layout.heads, value_bytes);
        }
    }

    fn attention_cached(
        &self,
        q: View<'_>,
        layer: usize,
        places: &CachePlaces<'_>,
        scale: f32,
        watched: Option<WatchedHeads<'_>>,
        out: ViewMut<'_>,
        _scratch: ViewMut<'_>,
    ) {
        attention_cached::attention_cached(&self.threads, q, layer, places, scale, out);
        if let Some(watched) = watched {
            attention_weights::record(q, layer, places, scale, watched);
        }
    }

    fn rotary_angles(
        &self,
        positions: &[u32],
        frequencies: &[f32],
        mut cosines: ViewMut<'_>,
        mut sines: ViewMut<'_>,
    ) {
        for (row, &position) in positions.iter().enumerate() {
            let angles = frequencies
                .iter()
                .map(|frequency| position as f32 * frequency);
            let out = (cosines.row_mut(row).iter_mut()).zip(sines.row_mut(row));
            for ((cosine, sine), angle) in out.zip(angles) {
                (*cosine, *sine) = (angle.cos(), angle.sin());
            }
        }
    }

    fn rotate(&self, x: ViewMut<'_>, heads: usize, cosines: View<'_>, sines: View<'_>) {
        attention_cached::rotate(x, heads, cosines, sines);
    }

    fn sinusoids(
        &self,
        positions: EvenPositions,
        rates: &[f32],
        order: SinusoidOrder,
        mut out: ViewMut<'_>,
    ) {
        rows::for_each(&self.threads, &mut out, |index, row| {
            let position = positions.first + index as f32 * positions.step;
            for (place, rate) in rates.iter().enumerate() {
                let (sine, cosine) = (position * rate).sin_cos();
                match order {
                    SinusoidOrder::Halves => {
                        (row[place], row[rates.len() + place]) = (sine, cosine);
                    }
                    SinusoidOrder::Pairs => {
                        (row[2 * place], row[2 * place + 1]) = (sine, cosine);
                    }
                }
            }
        });
    }

    fn lstm_layer_scratch(&self, batch: usize, recurrent: &Matrix) -> usize {
        lstm::scratch(self, batch, recurrent)
    }

    fn lstm_layer(
        &self,
        inputs: View<'_>,
        batch: usize,
        recurrent: &Matrix,
        out: ViewMut<'_>,
        scratch: ViewMut<'_>,
    ) {
        lstm::layer(self, inputs, batch, recurrent, out, scratch);
    }

    fn embedding(&self, table: &Matrix, ids: &[u32], mut out: ViewMut<'_>) {
        for (row, &id) in ids.iter().enumerate() {
            table.copy_row(id as usize, out.row_mut(row));
        }
    }

    fn moments(&self, x: View<'_>, out: ViewMut<'_>) {
        moments::moments(x, out);
    }

    fn segment_means(&self, x: View<'_>, segment: usize, out: ViewMut<'_>) {
        moments::segment_means(x, segment, out);
    }

    fn normals(&self, noise: Noise, first_row: u64, mut out: ViewMut<'_>) {
        rows::for_each(&self.threads, &mut out, |index, row| {
            noise.normals(first_row + index as u64, row.len(), row);
        });
    }

    fn harmonics(&self, f0: View<'_>, source: &Harmonics<'_>, out: ViewMut<'_>) {
        harmonics::harmonics(&self.threads, f0, source, out);
    }

    fn spectrum(&self, samples: View<'_>, transform: &Stft, out: ViewMut<'_>) {
        transform.spectrum(&self.threads, samples, out);
    }

    fn overlap_add(
        &self,
        spectrum: View<'_>,
        transform: &Stft,
        magnitude_max: f32,
        sample_max: f32,
        out: ViewMut<'_>,
    ) {
        transform.overlap_add(&self.threads, spectrum, magnitude_max, sample_max, out);
    }
}
