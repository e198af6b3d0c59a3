//! Short-time spectra of a few samples: small enough that a sum over a table is the quickest transform.

use std::f64::consts::TAU;

/// Transforms of `fft` samples every `hop`, centred, with a periodic Hann window.
#[derive(Clone, Debug)]
pub struct Stft {
    /// Samples of a transform.
    pub(crate) fft: usize,
    /// Samples from one transform to the next.
    pub(crate) hop: usize,
    pub(crate) window: Vec<f32>,
    /// `[sample][cosines of all bins, then their negative sines]`.
    pub(crate) analysis: Vec<f32>,
    /// `[cosines of all bins, then their negative sines][sample]`, by what a bin stands for.
    pub(crate) synthesis: Vec<f32>,
}

impl Stft {
    /// Transforms of `fft` samples, an even number, every `hop`.
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
        // All but the first and the last bin stand for a mirrored one too.
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

    /// Frequencies of a transform.
    pub fn bins(&self) -> usize {
        self.fft / 2 + 1
    }

    /// Spectra of `samples` samples.
    pub fn frames(&self, samples: usize) -> usize {
        samples / self.hop + 1
    }

    /// Samples of `frames` spectra.
    pub fn samples(&self, frames: usize) -> usize {
        (frames - 1) * self.hop
    }
}
