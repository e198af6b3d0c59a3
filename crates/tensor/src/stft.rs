//! Short-time Fourier transforms of few samples: so short that a table of sines and cosines is the
//! fastest transform.

use std::f64::consts::TAU;

/// Transforms of `fft` samples every `hop` samples, centred, with a periodic Hann window.
#[derive(Clone, Debug)]
pub struct Stft {
    /// Samples per transform.
    pub(crate) fft: usize,
    /// Samples from one transform to the next.
    pub(crate) hop: usize,
    pub(crate) window: Vec<f32>,
    /// `[sample][cosines of all bins, then their negative sines]`.
    pub(crate) analysis: Vec<f32>,
    /// `[cosines of all bins, then their negative sines][sample]`, weighted by the number of bins
    /// that each stands for.
    pub(crate) synthesis: Vec<f32>,
}

impl Stft {
    /// Transforms of `fft` samples (an even number) every `hop` samples.
    pub fn new(fft: usize, hop: usize) -> Stft {
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
        // All bins except the first and the last also stand for their mirror image.
        let share = |row: usize| match row % bins {
            bin if bin == 0 || bin + 1 == bins => 1.0 / fft as f64,
            _ => 2.0 / fft as f64,
        };
        let analysis = (0..fft).flat_map(|sample| (0..2 * bins).map(move |row| (row, sample)));
        let synthesis = (0..2 * bins).flat_map(|row| (0..fft).map(move |sample| (row, sample)));
        Stft {
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

    /// Number of frequency bins.
    pub fn bins(&self) -> usize {
        self.fft / 2 + 1
    }

    /// Number of spectra of `samples` samples.
    pub fn frames(&self, samples: usize) -> usize {
        samples / self.hop + 1
    }

    /// Number of samples of `frames` spectra.
    pub fn samples(&self, frames: usize) -> usize {
        (frames - 1) * self.hop
    }
}
