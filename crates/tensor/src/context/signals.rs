//! Signals: statistics over time, noise, the harmonic source, and Fourier transforms.

use super::Context;
use crate::harmonics::Harmonics;
use crate::noise::Noise;
use crate::stft::Stft;
use crate::tensor::Tensor;
use crate::view::{View, ViewMut};

impl Context<'_> {
    /// Mean and unbiased standard deviation of each column, `[1, 2 · columns]`.
    pub fn moments<'v>(&self, x: impl Into<View<'v>>) -> Tensor {
        let x = x.into();
        let mut out = self.tensor(&[1, 2 * x.column_count()]);
        if !self.is_dry() {
            self.device.moments(x, out.view_mut());
        }
        out
    }

    /// For each segment of `segment` rows (the last one may be shorter), the column means over all
    /// rows plus those over the segment, one row per segment.
    pub fn segment_means<'v>(&self, x: impl Into<View<'v>>, segment: usize) -> Tensor {
        let x = x.into();
        let mut out = self.tensor(&[x.row_count().div_ceil(segment), x.column_count()]);
        if !self.is_dry() {
            self.device.segment_means(x, segment, out.view_mut());
        }
        out
    }

    /// Fills rows with the normal deviates of the noise rows from `first_row` on.
    pub fn normals<'o>(&self, noise: Noise, first_row: u64, out: impl Into<ViewMut<'o>>) {
        let out = out.into();
        if !self.is_dry() {
            self.device.normals(noise, first_row, out);
        }
    }

    /// Harmonic source signal for the fundamental frequencies `f0` `[frames, 1]`: `[samples,
    /// harmonics]`.
    ///
    /// # Panics
    /// If `f0` has more than one column.
    pub fn harmonics<'v>(&self, f0: impl Into<View<'v>>, source: &Harmonics<'_>) -> Tensor {
        let f0 = f0.into();
        assert_eq!(f0.column_count(), 1, "harmonics: one frequency per frame");
        let samples = f0.row_count() * source.samples_a_frame;
        let mut out = self.tensor(&[samples, source.phases.len()]);
        if !self.is_dry() {
            self.device.harmonics(f0, source, out.view_mut());
        }
        out
    }

    /// Short-time Fourier transform of samples `[n, 1]`: `[frames, 2 · bins]`, real parts, then
    /// imaginary ones. The ends are mirrored (reflection padding).
    ///
    /// # Panics
    /// If `samples` have more than one column.
    pub fn spectrum<'v>(&self, samples: impl Into<View<'v>>, transform: &Stft) -> Tensor {
        let samples = samples.into();
        assert_eq!(samples.column_count(), 1, "spectrum: one channel");
        let frames = transform.frames(samples.row_count());
        let mut out = self.tensor(&[frames, 2 * transform.bins()]);
        if !self.is_dry() {
            self.device.spectrum(samples, transform, out.view_mut());
        }
        out
    }

    /// Inverse short-time Fourier transform: samples `[n, 1]`, clipped to ± `sample_max`. The input
    /// `[frames, 2 · bins]` holds log magnitudes, whose exponentials are clipped to
    /// `magnitude_max`, and values whose sines are the phases.
    ///
    /// # Panics
    /// If `spectrum` has another number of columns than 2 · bins.
    pub fn overlap_add<'v>(
        &self,
        spectrum: impl Into<View<'v>>,
        transform: &Stft,
        magnitude_max: f32,
        sample_max: f32,
    ) -> Tensor {
        let spectrum = spectrum.into();
        assert_eq!(
            spectrum.column_count(),
            2 * transform.bins(),
            "overlap_add: columns of the spectrum"
        );
        let samples = transform.samples(spectrum.row_count());
        if samples == 0 {
            return self.zeros(&[1, 1]);
        }
        let mut out = self.tensor(&[samples, 1]);
        if !self.is_dry() {
            let out = out.view_mut();
            self.device
                .overlap_add(spectrum, transform, magnitude_max, sample_max, out);
        }
        out
    }
}
