//! The watermark's short-time Fourier transform: centred, reflected at both ends, periodic Hann
//! window.

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use std::sync::Arc;

/// The transforms allocate their own buffers.
const LENGTHS: &str = "buffers have the transform's length";

/// A transform and its inverse.
pub(super) struct Spectrum {
    size: usize,
    hop: usize,
    window: Vec<f32>,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
}

impl Spectrum {
    pub(super) fn new(size: usize, hop: usize) -> Spectrum {
        let mut planner = RealFftPlanner::new();
        let window = (0..size)
            .map(|index| {
                let angle = std::f64::consts::TAU * index as f64 / size as f64;
                (0.5 - 0.5 * angle.cos()) as f32
            })
            .collect();
        Spectrum {
            size,
            hop,
            window,
            forward: planner.plan_fft_forward(size),
            inverse: planner.plan_fft_inverse(size),
        }
    }

    pub(super) fn frames(&self, samples: usize) -> usize {
        samples / self.hop + 1
    }

    /// Calls `visit` with each frame's index and its bins.
    pub(super) fn each_frame(
        &self,
        samples: &[f32],
        mut visit: impl FnMut(usize, &mut [Complex32]),
    ) {
        let last = samples.len().saturating_sub(1) as isize;
        let mut buffer = self.forward.make_input_vec();
        let mut bins = self.forward.make_output_vec();
        let mut scratch = self.forward.make_scratch_vec();
        for frame in 0..self.frames(samples.len()) {
            let start = (frame * self.hop) as isize - (self.size / 2) as isize;
            for (offset, value) in buffer.iter_mut().enumerate() {
                let mut place = (start + offset as isize).abs();
                if place > last {
                    place = 2 * last - place;
                }
                // Clips shorter than half a window are reflected once and then extended by their
                // last sample.
                let sample = samples[place.clamp(0, last) as usize];
                *value = self.window[offset] * sample;
            }
            (self.forward)
                .process_with_scratch(&mut buffer, &mut bins, &mut scratch)
                .expect(LENGTHS);
            visit(frame, &mut bins);
        }
    }

    /// Inverse transform of bins that `change` modified frame by frame: `hop × (frames − 1)`
    /// samples.
    pub(super) fn signal(
        &self,
        samples: &[f32],
        frames: usize,
        mut change: impl FnMut(usize, &mut [Complex32]),
    ) -> Vec<f32> {
        let padded = self.size + self.hop * frames.saturating_sub(1);
        let (mut signal, mut weight) = (vec![0.0f32; padded], vec![0.0f32; padded]);
        let mut buffer = self.inverse.make_output_vec();
        let mut scratch = self.inverse.make_scratch_vec();
        self.each_frame(samples, |frame, bins| {
            change(frame, bins);
            // The signal is real: the first and the last bin have no imaginary part.
            bins[0].im = 0.0;
            bins[self.size / 2].im = 0.0;
            (self.inverse)
                .process_with_scratch(bins, &mut buffer, &mut scratch)
                .expect(LENGTHS);
            let start = frame * self.hop;
            for (offset, value) in buffer.iter().enumerate() {
                let window = self.window[offset];
                signal[start + offset] += value / self.size as f32 * window;
                weight[start + offset] += window * window;
            }
        });
        let half = self.size / 2;
        (signal[half..padded - half].iter())
            .zip(&weight[half..padded - half])
            .map(|(value, weight)| value / weight)
            .collect()
    }
}
