//! Short-time spectra of a few samples: small enough that a sum over a table is the quickest transform.

use sottovoce_tensor::{Context, Tensor};
use std::f64::consts::TAU;

/// Transforms of `fft` samples every `hop`, centred, with a periodic Hann window.
pub(super) struct Spectrum {
    fft: usize,
    hop: usize,
    window: Vec<f32>,
    /// `[bin][sample]`, cosines and then sines.
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Spectrum {
    pub fn new(fft: usize, hop: usize) -> Spectrum {
        let window = (0..fft)
            .map(|sample| (0.5 - 0.5 * (TAU * sample as f64 / fft as f64).cos()) as f32)
            .collect();
        let table = |function: fn(f64) -> f64| -> Vec<f32> {
            let angles = (0..fft / 2 + 1).flat_map(|bin| {
                (0..fft).map(move |sample| TAU * (bin * sample % fft) as f64 / fft as f64)
            });
            angles.map(|angle| function(angle) as f32).collect()
        };
        Spectrum {
            fft,
            hop,
            window,
            cosines: table(f64::cos),
            sines: table(f64::sin),
        }
    }

    fn bins(&self) -> usize {
        self.fft / 2 + 1
    }

    /// Samples `[n, 1]` → `[n / hop + 1, 2 bins]`: real parts, then imaginary ones. Ends are mirrored.
    pub fn forward(&self, ctx: &Context<'_>, samples: &Tensor) -> Tensor {
        let count = samples.rows();
        let frames = count / self.hop + 1;
        let bins = self.bins();
        let mut spectrum = ctx.tensor(&[frames, 2 * bins]);
        let half = (self.fft / 2) as isize;
        let data = samples.data();
        let mut windowed = vec![0.0; self.fft];
        for (frame, out) in spectrum.data_mut().chunks_exact_mut(2 * bins).enumerate() {
            for (index, windowed) in windowed.iter_mut().enumerate() {
                let position = (frame * self.hop + index) as isize - half;
                *windowed = data[mirrored(position, count)] * self.window[index];
            }
            let (real, imaginary) = out.split_at_mut(bins);
            for bin in 0..bins {
                let row = bin * self.fft..(bin + 1) * self.fft;
                real[bin] = dot(&windowed, &self.cosines[row.clone()]);
                imaginary[bin] = -dot(&windowed, &self.sines[row]);
            }
        }
        spectrum
    }

    /// Log magnitudes and phases before their sine, `[frames, 2 bins]`, → samples `[(frames − 1) · hop, 1]` within ± `sample_max`.
    pub fn inverse(
        &self,
        ctx: &Context<'_>,
        spectrum: &Tensor,
        magnitude_max: f32,
        sample_max: f32,
    ) -> Tensor {
        let (frames, bins) = (spectrum.rows(), self.bins());
        let count = (frames - 1) * self.hop;
        let mut samples = ctx.zeros(&[count.max(1), 1]);
        let half = self.fft / 2;
        let out = samples.data_mut();
        let (mut real, mut imaginary) = (vec![0.0; bins], vec![0.0; bins]);
        for (frame, row) in spectrum.data().chunks_exact(2 * bins).enumerate() {
            for bin in 0..bins {
                let magnitude = row[bin].exp().min(magnitude_max);
                let phase = row[bins + bin].sin();
                // All but the first and the last bin stand for a mirrored one too.
                let share = if bin == 0 || bin + 1 == bins {
                    1.0
                } else {
                    2.0
                } / self.fft as f32;
                real[bin] = magnitude * phase.cos() * share;
                imaginary[bin] = magnitude * phase.sin() * share;
            }
            for index in 0..self.fft {
                let Some(position) = (frame * self.hop + index)
                    .checked_sub(half)
                    .filter(|&position| position < count)
                else {
                    continue;
                };
                let mut value = 0.0;
                for bin in 0..bins {
                    let place = bin * self.fft + index;
                    value += real[bin] * self.cosines[place] - imaginary[bin] * self.sines[place];
                }
                out[position] += value * self.window[index];
            }
        }
        for (position, sample) in out.iter_mut().enumerate() {
            let weight = self.overlap(position + half, frames);
            *sample = (*sample / weight).clamp(-sample_max, sample_max);
        }
        samples
    }

    /// Sum of the squared windows that cover a position.
    fn overlap(&self, position: usize, frames: usize) -> f32 {
        let last = (position / self.hop).min(frames - 1);
        let first = (position + 1).saturating_sub(self.fft).div_ceil(self.hop);
        (first..=last)
            .map(|frame| self.window[position - frame * self.hop].powi(2))
            .sum::<f32>()
            .max(1e-11)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A position beyond either end, mirrored at the end's sample.
fn mirrored(position: isize, count: usize) -> usize {
    let last = count as isize - 1;
    let mut position = position.abs();
    if position > last {
        position = (2 * last - position).max(0);
    }
    position as usize
}
