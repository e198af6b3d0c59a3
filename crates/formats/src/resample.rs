//! Changing a recording's sample rate by windowed-sinc interpolation.
//!
//! Both filters evaluate a sinc at exact rational positions, so that resampling needs no state and a constant delay of zero. What lies
//! beyond the ends counts as silence.

/// The interpolation filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// torchaudio's default: six zero crossings under a Hann window, cut off at 99 % of the lower rate's half. Audibly soft at the top, and
    /// what networks trained behind it expect.
    Hann6,
    /// 64 zero crossings under a Kaiser window, passing 95 % of the band with aliases below −120 dB.
    Kaiser64,
}

impl Filter {
    fn zero_crossings(self) -> f64 {
        match self {
            Filter::Hann6 => 6.0,
            Filter::Kaiser64 => 64.0,
        }
    }

    /// Where the band ends, as a share of half the lower rate.
    fn roll_off(self) -> f64 {
        match self {
            Filter::Hann6 => 0.99,
            // Half of the transition lies below the cut: 5 % for a window of this length and attenuation.
            Filter::Kaiser64 => 0.94,
        }
    }

    /// The windowed sinc at a distance in zero crossings.
    fn at(self, distance: f64) -> f64 {
        let reach = self.zero_crossings();
        let place = distance.clamp(-reach, reach);
        let window = match self {
            Filter::Hann6 => (place * std::f64::consts::FRAC_PI_2 / reach).cos().powi(2),
            Filter::Kaiser64 => {
                const BETA: f64 = 12.3;
                bessel_i0(BETA * (1.0 - (place / reach).powi(2)).max(0.0).sqrt()) / bessel_i0(BETA)
            }
        };
        let angle = place * std::f64::consts::PI;
        window
            * if angle == 0.0 {
                1.0
            } else {
                angle.sin() / angle
            }
    }
}

/// The modified Bessel function of order zero, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..64 {
        term *= quarter / f64::from(k * k);
        sum += term;
    }
    sum
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// The filter's taps are kept for all phases of an output period up to this many; beyond, as between 44,101 and 24,000 Hz, for as many places
/// between two input samples as they are enough for, and a straight line is drawn between those.
const TAPS_KEPT_MAX: usize = 1 << 22;

/// `samples` at another rate: ⌈length · to ÷ from⌉ of them.
///
/// # Panics
/// If a rate is zero.
pub fn resample(samples: &[f32], from: u32, to: u32, filter: Filter) -> Vec<f32> {
    assert!(from > 0 && to > 0, "rates {from} and {to} must not be zero");
    if from == to {
        return samples.to_vec();
    }
    let divisor = greatest_common_divisor(from, to);
    let (from, to) = ((from / divisor) as usize, (to / divisor) as usize);
    let base = from.min(to) as f64 * filter.roll_off();
    let width = (filter.zero_crossings() * from as f64 / base).ceil() as usize;
    let scale = base / from as f64;
    // Output sample n · to + phase lies at input place n · from + phase · from / to, and so past an input sample by a part of one. Only
    // offsets near that have weight.
    let count = 2 * width + 2;
    let taps = |past: f64| -> Vec<f32> {
        let offsets = (0..count).map(|index| index as f64 - width as f64 - past);
        let taps = offsets.map(|offset| filter.at(offset / from as f64 * base) * scale);
        taps.map(|tap| tap as f32).collect()
    };
    let places = to.min((TAPS_KEPT_MAX / count).max(1));
    let kept: Vec<Vec<f32>> = (0..=places)
        .map(|place| taps(place as f64 / places as f64))
        .collect();
    let length = (samples.len() as u128 * to as u128).div_ceil(from as u128) as usize;
    (0..length)
        .map(|index| {
            let (period, phase) = (index / to, index % to);
            let start = (period * from + phase * from / to) as isize - width as isize;
            let place = phase * from % to * places;
            let (taps, next) = (&kept[place / to], &kept[place / to + 1]);
            // Nothing of the next where every phase has a place of its own.
            let weight = (place % to) as f32 / to as f32;
            let skipped = usize::try_from(-start).unwrap_or(0);
            let heard = samples.get(usize::try_from(start).unwrap_or(0)..);
            let taps = taps.iter().zip(next).skip(skipped);
            taps.zip(heard.unwrap_or_default())
                .map(|((&tap, &next), &sample)| {
                    f64::from(tap + weight * (next - tap)) * f64::from(sample)
                })
                .sum::<f64>() as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(frequency: f64, rate: u32, length: usize) -> Vec<f32> {
        (0..length)
            .map(|index| {
                (std::f64::consts::TAU * frequency * index as f64 / f64::from(rate)).sin() as f32
            })
            .collect()
    }

    #[test]
    fn a_tone_stays_the_same_tone_at_any_pair_of_rates() {
        for (from, to) in [
            (44_100, 24_000),
            (48_000, 24_000),
            (8_000, 24_000),
            (24_000, 16_000),
            (22_050, 24_000),
            (11_025, 16_000),
            // More phases than taps are kept for.
            (44_101, 24_000),
            (383_999, 24_000),
        ] {
            let resampled = resample(
                &sine(1000.0, from, from as usize / 2),
                from,
                to,
                Filter::Kaiser64,
            );
            assert_eq!(resampled.len(), to as usize / 2);
            let expected = sine(1000.0, to, resampled.len());
            let edge = 600;
            let worst = (edge..resampled.len() - edge)
                .map(|index| (resampled[index] - expected[index]).abs())
                .fold(0.0, f32::max);
            assert!(worst < 1e-5, "{from} to {to}: off by {worst}");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_taken_away() {
        let resampled = resample(
            &sine(9000.0, 24_000, 24_000),
            24_000,
            16_000,
            Filter::Kaiser64,
        );
        let worst = resampled[600..15_000]
            .iter()
            .fold(0.0f32, |worst, sample| worst.max(sample.abs()));
        assert!(worst < 1e-5, "an alias of {worst} is left");
    }

    #[test]
    fn lengths_are_rounded_up_and_nothing_gives_nothing() {
        assert_eq!(resample(&[1.0; 5], 3, 2, Filter::Hann6).len(), 4);
        assert!(resample(&[], 44_100, 16_000, Filter::Hann6).is_empty());
    }
}
