//! Short-time spectra of a few samples: small enough that a sum over a table is the quickest transform.

use sottovoce_tensor::{Context, Tensor, functions};
use std::f32::consts::FRAC_PI_2;
use std::f64::consts::TAU;

/// Frames that one task transforms.
const FRAMES: usize = 128;

/// Transforms of `fft` samples every `hop`, centred, with a periodic Hann window.
pub(super) struct Spectrum {
    fft: usize,
    hop: usize,
    window: Vec<f32>,
    /// `[sample][cosines of all bins, then their negative sines]`.
    analysis: Vec<f32>,
    /// `[cosines of all bins, then their negative sines][sample]`, by what a bin stands for.
    synthesis: Vec<f32>,
}

impl Spectrum {
    pub fn new(fft: usize, hop: usize) -> Spectrum {
        let window = (0..fft)
            .map(|sample| (0.5 - 0.5 * (TAU * sample as f64 / fft as f64).cos()) as f32)
            .collect();
        let bins = fft / 2 + 1;
        let wave = |row: usize, sample: usize| {
            let angle = TAU * (row % bins * sample % fft) as f64 / fft as f64;
            if row < bins {
                angle.cos()
            } else {
                -angle.sin()
            }
        };
        // All but the first and the last bin stand for a mirrored one too.
        let share = |row: usize| match row % bins {
            bin if bin == 0 || bin + 1 == bins => 1.0 / fft as f64,
            _ => 2.0 / fft as f64,
        };
        let analysis = (0..fft).flat_map(|sample| (0..2 * bins).map(move |row| (row, sample)));
        let synthesis = (0..2 * bins).flat_map(|row| (0..fft).map(move |sample| (row, sample)));
        Spectrum {
            fft,
            hop,
            window,
            analysis: analysis
                .map(|(row, sample)| wave(row, sample) as f32)
                .collect(),
            synthesis: synthesis
                .map(|(row, sample)| (share(row) * wave(row, sample)) as f32)
                .collect(),
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
        let half = (self.fft / 2) as isize;
        ctx.filled([frames, 2 * bins], FRAMES, |first, out| {
            let data = samples.data();
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
        if count == 0 {
            return ctx.zeros(&[1, 1]);
        }
        let half = self.fft / 2;
        ctx.filled([count, 1], FRAMES * self.hop, |start, out| {
            // Frames that reach these samples.
            let first = (start + half + 1)
                .saturating_sub(self.fft)
                .div_ceil(self.hop);
            let last = ((start + out.len() - 1 + half) / self.hop).min(frames - 1);
            let rows = &spectrum.data()[first * 2 * bins..(last + 1) * 2 * bins];
            out.fill(0.0);
            self.overlap_frames(rows, first, magnitude_max, start, out);
            for (position, sample) in (start..).zip(out) {
                let weight = self.overlap(position + half, frames);
                *sample = (*sample / weight).clamp(-sample_max, sample_max);
            }
        })
    }

    /// Adds the windowed frames from `first` on to the samples from `start` on.
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
        functions::exponentials(&mut magnitudes);
        functions::sines(&mut sines);
        let mut cosines: Vec<f32> = sines.iter().map(|phase| phase + FRAC_PI_2).collect();
        functions::sines(&mut cosines);
        functions::sines(&mut sines);
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

/// A position beyond either end, mirrored at the end's sample.
fn mirrored(position: isize, count: usize) -> usize {
    let last = count as isize - 1;
    let mut position = position.abs();
    if position > last {
        position = (2 * last - position).max(0);
    }
    position as usize
}
