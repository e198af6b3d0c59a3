//! Integrated loudness of one channel (ITU-R BS.1770-4), as the reference's meter computes it.

use std::f64::consts::TAU;

const BLOCK_SECONDS: f64 = 0.4;
const STEP: f64 = 0.25;
const ABSOLUTE_GATE: f64 = -70.0;

/// A second-order section, direct form II transposed.
struct Biquad {
    feed_forward: [f64; 3],
    feedback: [f64; 2],
}

impl Biquad {
    fn normalised(feed_forward: [f64; 3], feedback: [f64; 3]) -> Biquad {
        let first = feedback[0];
        Biquad {
            feed_forward: feed_forward.map(|value| value / first),
            feedback: [feedback[1] / first, feedback[2] / first],
        }
    }

    /// High shelf of `gain` dB above `frequency`: the effect of the head.
    fn high_shelf(gain: f64, quality: f64, frequency: f64, rate: f64) -> Biquad {
        let a = 10f64.powf(gain / 40.0);
        let (sine, cosine) = (TAU * frequency / rate).sin_cos();
        let slope = 2.0 * a.sqrt() * sine / (2.0 * quality);
        Biquad::normalised(
            [
                a * ((a + 1.0) + (a - 1.0) * cosine + slope),
                -2.0 * a * ((a - 1.0) + (a + 1.0) * cosine),
                a * ((a + 1.0) + (a - 1.0) * cosine - slope),
            ],
            [
                (a + 1.0) - (a - 1.0) * cosine + slope,
                2.0 * ((a - 1.0) - (a + 1.0) * cosine),
                (a + 1.0) - (a - 1.0) * cosine - slope,
            ],
        )
    }

    fn high_pass(quality: f64, frequency: f64, rate: f64) -> Biquad {
        let (sine, cosine) = (TAU * frequency / rate).sin_cos();
        let alpha = sine / (2.0 * quality);
        let side = (1.0 + cosine) / 2.0;
        Biquad::normalised(
            [side, -2.0 * side, side],
            [1.0 + alpha, -2.0 * cosine, 1.0 - alpha],
        )
    }

    fn run(&self, samples: &mut [f64]) {
        let mut state = [0.0; 2];
        for sample in samples {
            let input = *sample;
            let output = self.feed_forward[0] * input + state[0];
            state[0] = self.feed_forward[1] * input - self.feedback[0] * output + state[1];
            state[1] = self.feed_forward[2] * input - self.feedback[1] * output;
            *sample = output;
        }
    }
}

fn decibels(power: f64) -> f64 {
    -0.691 + 10.0 * power.log10()
}

fn mean(powers: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = powers.fold((0.0, 0usize), |(sum, count), power| {
        (sum + power, count + 1)
    });
    (count > 0).then(|| sum / count as f64)
}

/// Integrated loudness in LUFS, or `None` for a clip shorter than a block or entirely below the
/// gate.
pub(super) fn integrated(samples: &[f32], sample_rate: u32) -> Option<f64> {
    let rate = f64::from(sample_rate);
    let mut weighted: Vec<f64> = samples.iter().map(|&sample| f64::from(sample)).collect();
    Biquad::high_shelf(4.0, std::f64::consts::FRAC_1_SQRT_2, 1500.0, rate).run(&mut weighted);
    Biquad::high_pass(0.5, 38.0, rate).run(&mut weighted);
    let seconds = samples.len() as f64 / rate;
    if seconds < BLOCK_SECONDS {
        return None;
    }
    let blocks =
        ((seconds - BLOCK_SECONDS) / (BLOCK_SECONDS * STEP)).round_ties_even() as usize + 1;
    let powers: Vec<f64> = (0..blocks)
        .map(|block| {
            let from = (BLOCK_SECONDS * (block as f64 * STEP) * rate) as usize;
            let to =
                ((BLOCK_SECONDS * (block as f64 * STEP + 1.0) * rate) as usize).min(weighted.len());
            weighted[from.min(to)..to]
                .iter()
                .map(|sample| sample * sample)
                .sum::<f64>()
                / (BLOCK_SECONDS * rate)
        })
        .collect();
    let above = |gate: f64| {
        powers
            .iter()
            .copied()
            .filter(move |&power| decibels(power) > gate)
    };
    let relative = decibels(mean(above(ABSOLUTE_GATE))?) - 10.0;
    Some(decibels(mean(above(relative.max(ABSOLUTE_GATE)))?))
}

/// Normalises a clip to `target` LUFS; silence is unchanged.
pub(super) fn bring_to(samples: &mut [f32], sample_rate: u32, target: f32) {
    if let Some(loudness) = integrated(samples, sample_rate) {
        let gain = 10f64.powf((f64::from(target) - loudness) / 20.0) as f32;
        samples.iter_mut().for_each(|sample| *sample *= gain);
    }
}
