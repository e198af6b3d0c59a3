//! Short-time Fourier transforms and their inverse, some frames per task.

use super::{maths, rows};
use crate::operations::Activation;
use crate::stft::Stft;
use crate::threads::Threads;
use crate::view::{View, ViewMut};
use std::f32::consts::FRAC_PI_2;

/// Frames per task.
const FRAMES: usize = 128;

impl Stft {
    pub(super) fn spectrum(&self, threads: &Threads, samples: View<'_>, mut out: ViewMut<'_>) {
        let count = samples.row_count();
        let bins = self.bins();
        let half = (self.fft / 2) as isize;
        let data = samples.data();
        rows::fill(threads, &mut out, FRAMES, &|first, out| {
            for (frame, out) in (first..).zip(out.chunks_exact_mut(2 * bins)) {
                out.fill(0.0);
                let waves = self.analysis.chunks_exact(2 * bins);
                for ((index, window), waves) in self.window.iter().enumerate().zip(waves) {
                    let position = (frame * self.hop + index) as isize - half;
                    let value = data[mirrored(position, count)] * window;
                    (out.iter_mut().zip(waves)).for_each(|(out, wave)| *out += value * wave);
                }
            }
        })
    }

    pub(super) fn overlap_add(
        &self,
        threads: &Threads,
        spectrum: View<'_>,
        magnitude_max: f32,
        sample_max: f32,
        mut out: ViewMut<'_>,
    ) {
        let (frames, bins) = (spectrum.row_count(), self.bins());
        let data = spectrum.data();
        let half = self.fft / 2;
        rows::fill(threads, &mut out, FRAMES * self.hop, &|start, out| {
            // Frames that overlap these samples.
            let first = (start + half + 1)
                .saturating_sub(self.fft)
                .div_ceil(self.hop);
            let last = ((start + out.len() - 1 + half) / self.hop).min(frames - 1);
            let rows = &data[first * 2 * bins..(last + 1) * 2 * bins];
            out.fill(0.0);
            self.overlap_frames(rows, first, magnitude_max, start, out);
            for (position, sample) in (start..).zip(out) {
                let weight = self.overlap(position + half, frames);
                *sample = (*sample / weight).clamp(-sample_max, sample_max);
            }
        });
    }

    /// Overlap-add of the windowed frames from `first` on to the samples from `start` on.
    fn overlap_frames(
        &self,
        rows: &[f32],
        first: usize,
        magnitude_max: f32,
        start: usize,
        out: &mut [f32],
    ) {
        let bins = self.bins();
        let part = |range: std::ops::Range<usize>| -> Vec<f32> {
            let rows = rows.chunks_exact(2 * bins);
            rows.flat_map(|row| row[range.clone()].iter().copied())
                .collect()
        };
        let (mut magnitudes, mut sines) = (part(0..bins), part(bins..2 * bins));
        maths::activate(&mut magnitudes, Activation::Exp);
        maths::sines(&mut sines);
        let mut cosines: Vec<f32> = sines.iter().map(|phase| phase + FRAC_PI_2).collect();
        maths::sines(&mut cosines);
        maths::sines(&mut sines);
        let mut samples = vec![0.0; self.fft];
        for (index, magnitudes) in magnitudes.chunks_exact(bins).enumerate() {
            samples.fill(0.0);
            let places = index * bins..(index + 1) * bins;
            let turned = cosines[places.clone()].iter().zip(&sines[places]);
            for (bin, (magnitude, (cosine, sine))) in magnitudes.iter().zip(turned).enumerate() {
                let magnitude = magnitude.min(magnitude_max);
                for (value, row) in [(cosine, bin), (sine, bins + bin)] {
                    let wave = &self.synthesis[row * self.fft..(row + 1) * self.fft];
                    let value = magnitude * value;
                    (samples.iter_mut().zip(wave)).for_each(|(sum, wave)| *sum += value * wave);
                }
            }
            let place = ((first + index) * self.hop) as isize - (start + self.fft / 2) as isize;
            for (offset, (value, window)) in samples.iter().zip(&self.window).enumerate() {
                let place = usize::try_from(place + offset as isize).ok();
                if let Some(out) = place.and_then(|place| out.get_mut(place)) {
                    *out += value * window;
                }
            }
        }
    }

    /// Sum of the squared windows at a position.
    fn overlap(&self, position: usize, frames: usize) -> f32 {
        let last = (position / self.hop).min(frames - 1);
        let first = (position + 1).saturating_sub(self.fft).div_ceil(self.hop);
        (first..=last)
            .map(|frame| self.window[position - frame * self.hop].powi(2))
            .sum::<f32>()
            .max(1e-11)
    }
}

/// Reflects a position beyond either end.
fn mirrored(position: isize, count: usize) -> usize {
    let last = count as isize - 1;
    let mut position = position.abs();
    if position > last {
        position = (2 * last - position).max(0);
    }
    position as usize
}
