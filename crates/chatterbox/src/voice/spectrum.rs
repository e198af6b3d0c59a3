//! Short-time power spectra and mel filter banks, in double precision.

use realfft::RealFftPlanner;
use std::f64::consts::TAU;

/// A periodic Hann window of `length` samples.
pub(super) fn hann(length: usize) -> Vec<f64> {
    (0..length)
        .map(|index| 0.5 - 0.5 * (TAU * index as f64 / length as f64).cos())
        .collect()
}

/// Reflection padding by `count` samples on each side; clips shorter than the padding are reflected
/// repeatedly.
pub(super) fn pad(samples: &[f32], count: usize) -> Vec<f64> {
    let length = samples.len() as isize;
    let period = (2 * (length - 1)).max(1);
    (-(count as isize)..length + count as isize)
        .map(|index| {
            let folded = index.rem_euclid(period);
            let folded = if folded < length {
                folded
            } else {
                period - folded
            };
            samples.get(folded as usize).copied().map_or(0.0, f64::from)
        })
        .collect()
}

/// Power spectra `[frames][fft / 2 + 1]` of windowed frames that are `hop` samples apart.
pub(super) fn power(
    padded: &[f64],
    window: &[f64],
    hop: usize,
    mut each: impl FnMut(usize, &[f64]),
) -> usize {
    let fft = window.len();
    let transform = RealFftPlanner::<f64>::new().plan_fft_forward(fft);
    let mut frame = transform.make_input_vec();
    let mut spectrum = transform.make_output_vec();
    let mut scratch = transform.make_scratch_vec();
    let mut powers = vec![0.0; spectrum.len()];
    let count = padded
        .len()
        .checked_sub(fft)
        .map_or(0, |rest| rest / hop + 1);
    for index in 0..count {
        for ((value, &sample), &weight) in frame.iter_mut().zip(&padded[index * hop..]).zip(window)
        {
            *value = sample * weight;
        }
        transform
            .process_with_scratch(&mut frame, &mut spectrum, &mut scratch)
            .expect("buffers of the transform's own making fit it");
        for (power, bin) in powers.iter_mut().zip(&spectrum) {
            *power = bin.norm_sqr();
        }
        each(index, &powers);
    }
    count
}

/// A bank of triangular filters, stored sparsely.
pub(super) struct FilterBank {
    filters: Vec<(usize, Vec<f64>)>,
}

impl FilterBank {
    fn from_dense(rows: impl Iterator<Item = Vec<f64>>) -> FilterBank {
        let filters = rows
            .map(|row| {
                let first = row.iter().position(|&weight| weight > 0.0).unwrap_or(0);
                let last = row
                    .iter()
                    .rposition(|&weight| weight > 0.0)
                    .map_or(first, |last| last + 1);
                (first, row[first..last].to_vec())
            })
            .collect();
        FilterBank { filters }
    }

    /// Slaney's mel scale (linear to 1 kHz, then logarithmic) with filters of equal area, rounded
    /// to f32 as in librosa.
    pub(super) fn slaney(
        sample_rate: f64,
        fft: usize,
        bands: usize,
        lowest: f64,
        highest: f64,
    ) -> FilterBank {
        const HZ_PER_MEL: f64 = 200.0 / 3.0;
        const BREAK_HZ: f64 = 1000.0;
        const BREAK_MEL: f64 = BREAK_HZ / HZ_PER_MEL;
        let step = 6.4f64.ln() / 27.0;
        let to_mel = |hz: f64| {
            if hz < BREAK_HZ {
                hz / HZ_PER_MEL
            } else {
                BREAK_MEL + (hz / BREAK_HZ).ln() / step
            }
        };
        let to_hz = |mel: f64| {
            if mel < BREAK_MEL {
                mel * HZ_PER_MEL
            } else {
                BREAK_HZ * ((mel - BREAK_MEL) * step).exp()
            }
        };
        let (low, high) = (to_mel(lowest), to_mel(highest));
        let edges: Vec<f64> = (0..bands + 2)
            .map(|index| to_hz(low + (high - low) * index as f64 / (bands + 1) as f64))
            .collect();
        FilterBank::from_dense((0..bands).map(|band| {
            let area = 2.0 / (edges[band + 2] - edges[band]);
            (0..fft / 2 + 1)
                .map(|bin| {
                    let hz = bin as f64 * sample_rate / fft as f64;
                    let rising = (hz - edges[band]) / (edges[band + 1] - edges[band]);
                    let falling = (edges[band + 2] - hz) / (edges[band + 2] - edges[band + 1]);
                    f64::from((rising.min(falling).max(0.0) as f32 as f64 * area) as f32)
                })
                .collect()
        }))
    }

    /// Kaldi's mel scale: filters triangular in mel, from 20 Hz to half the sample rate.
    pub(super) fn kaldi(sample_rate: f64, fft: usize, bands: usize) -> FilterBank {
        let to_mel = |hz: f64| 1127.0 * (1.0 + hz / 700.0).ln();
        let (low, high) = (to_mel(20.0), to_mel(sample_rate / 2.0));
        let step = (high - low) / (bands + 1) as f64;
        FilterBank::from_dense((0..bands).map(|band| {
            let left = low + band as f64 * step;
            (0..fft / 2)
                .map(|bin| {
                    let mel = to_mel(bin as f64 * sample_rate / fft as f64);
                    ((mel - left) / step)
                        .min((left + 2.0 * step - mel) / step)
                        .max(0.0)
                })
                .collect()
        }))
    }

    /// The bands of one spectrum.
    pub(super) fn apply<'s>(&'s self, spectrum: &'s [f64]) -> impl Iterator<Item = f64> + 's {
        self.filters.iter().map(|(first, weights)| {
            weights
                .iter()
                .zip(&spectrum[*first..])
                .map(|(weight, power)| weight * power)
                .sum()
        })
    }
}
