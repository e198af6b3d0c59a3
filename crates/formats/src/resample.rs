//! Resampling by windowed-sinc interpolation.
//!
//! Both filters evaluate a sinc at exact rational positions, so the delay is zero. Samples beyond
//! the ends count as silence.

use std::sync::Arc;

/// The interpolation filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// torchaudio's default: six zero crossings under a Hann window, cut off at 99 % of the lower
    /// rate's Nyquist frequency. Audibly dull at the top, but expected by networks that were
    /// trained with it.
    Hann6,
    /// 64 zero crossings under a Kaiser window: passes 95 % of the band, with aliases below −120
    /// dB.
    Kaiser64,
}

impl Filter {
    fn zero_crossings(self) -> f64 {
        match self {
            Filter::Hann6 => 6.0,
            Filter::Kaiser64 => 64.0,
        }
    }

    /// Cut-off frequency as a share of the lower rate's Nyquist frequency.
    fn roll_off(self) -> f64 {
        match self {
            Filter::Hann6 => 0.99,
            // Half of the transition band lies below the cut-off: 5 % for a window of this length
            // and attenuation.
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
        let before = sum;
        sum += term;
        // Further terms are too small to count.
        if sum == before {
            break;
        }
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

/// Limit of the number of stored taps. If a rate pair has more phases, as 44,101 to 24,000 Hz does,
/// the filter is sampled at this resolution and interpolated linearly: at least 250 phases, with an
/// error below −100 dB.
const TAPS_KEPT_MAX: usize = 1 << 19;
/// Input samples that accumulate before those no longer needed are dropped.
const INPUT_KEPT_MIN: usize = 1 << 14;

/// Upper bound of a [`Resampler`]'s memory in bytes, beside the samples passed in one call.
pub const RESAMPLER_BYTES_MAX: usize = 4 * (TAPS_KEPT_MAX + 4 * INPUT_KEPT_MIN) + (1 << 20);

/// Resamples a stream incrementally. The output equals that of [`resample`] on the whole, bit for
/// bit.
#[derive(Debug, Clone)]
pub struct Resampler {
    /// The rates, divided by their greatest common divisor.
    from: usize,
    to: usize,
    /// Number of input samples before an output sample's position that have weight.
    width: usize,
    /// Taps per output sample.
    tap_count: usize,
    /// Taps by phase, `[places + 1][tap_count]`; empty if the rates are equal.
    taps: Arc<[f32]>,
    places: usize,
    /// Input samples from `input_start` on.
    input: Vec<f32>,
    input_start: usize,
    /// Index of the next output sample.
    next: usize,
}

impl Resampler {
    /// A resampler from one rate to another.
    ///
    /// # Panics
    /// If a rate is zero.
    pub fn new(from: u32, to: u32, filter: Filter) -> Resampler {
        assert!(from > 0 && to > 0, "rates {from} and {to} must not be zero");
        let divisor = greatest_common_divisor(from, to);
        let (from, to) = ((from / divisor) as usize, (to / divisor) as usize);
        let base = from.min(to) as f64 * filter.roll_off();
        let width = (filter.zero_crossings() * from as f64 / base).ceil() as usize;
        let scale = base / from as f64;
        // Output sample n · to + phase lies at input position n · from + phase · from / to, which
        // is a fraction past an input sample. Only the neighbouring samples have weight.
        let tap_count = 2 * width + 2;
        let places = to.min((TAPS_KEPT_MAX / tap_count).max(1));
        let mut taps = Vec::new();
        if from != to {
            taps.reserve_exact((places + 1) * tap_count);
            for place in 0..=places {
                let past = place as f64 / places as f64;
                let offsets = (0..tap_count).map(|index| index as f64 - width as f64 - past);
                let values = offsets.map(|offset| filter.at(offset / from as f64 * base) * scale);
                taps.extend(values.map(|tap| tap as f32));
            }
        }
        Resampler {
            from,
            to,
            width,
            tap_count,
            taps: taps.into(),
            places,
            input: Vec::new(),
            input_start: 0,
            next: 0,
        }
    }

    /// Number of input samples after an output sample's position that have weight.
    pub fn look_ahead(&self) -> usize {
        if self.taps.is_empty() {
            0
        } else {
            self.tap_count - self.width
        }
    }

    /// Takes the next input and appends the output that it completes.
    pub fn push(&mut self, input: &[f32], output: &mut Vec<f32>) {
        if self.taps.is_empty() {
            output.extend_from_slice(input);
            return;
        }
        self.input.extend_from_slice(input);
        let received = self.input_start + self.input.len();
        while self.start_of(self.next) + self.tap_count as isize <= received as isize {
            output.push(self.output_at(self.next));
            self.next += 1;
        }
        let needed = usize::try_from(self.start_of(self.next)).unwrap_or(0);
        let spent = needed
            .saturating_sub(self.input_start)
            .min(self.input.len());
        if spent >= INPUT_KEPT_MIN {
            self.input.drain(..spent);
            self.input_start += spent;
        }
    }

    /// Appends the remaining output, as if silence followed: ⌈length · to ÷ from⌉ samples in all.
    pub fn finish(self, output: &mut Vec<f32>) {
        if self.taps.is_empty() {
            return;
        }
        let received = self.input_start + self.input.len();
        let length = (received as u128 * self.to as u128).div_ceil(self.from as u128) as usize;
        output.extend((self.next..length).map(|index| self.output_at(index)));
    }

    /// Index of the first input sample for output sample `index`.
    fn start_of(&self, index: usize) -> isize {
        let (period, phase) = (index / self.to, index % self.to);
        (period * self.from + phase * self.from / self.to) as isize - self.width as isize
    }

    fn output_at(&self, index: usize) -> f32 {
        let phase = index % self.to;
        let start = self.start_of(index);
        let place = phase * self.from % self.to * self.places;
        let mut rows = self.taps[place / self.to * self.tap_count..].chunks_exact(self.tap_count);
        let taps = rows.next().unwrap_or_default();
        let next = rows.next().unwrap_or_default();
        // No interpolation where every phase is stored.
        let weight = (place % self.to) as f32 / self.to as f32;
        let skipped = usize::try_from(-start).unwrap_or(0);
        let first = usize::try_from(start).unwrap_or(0) - self.input_start;
        let heard = self.input.get(first..).unwrap_or_default();
        let taps = taps.iter().zip(next).skip(skipped);
        taps.zip(heard)
            .map(|((&tap, &next), &sample)| {
                f64::from(tap + weight * (next - tap)) * f64::from(sample)
            })
            .sum::<f64>() as f32
    }
}

/// Resamples `samples`, to ⌈length · to ÷ from⌉ samples.
///
/// # Panics
/// If a rate is zero.
pub fn resample(samples: &[f32], from: u32, to: u32, filter: Filter) -> Vec<f32> {
    let mut resampler = Resampler::new(from, to, filter);
    let mut output = Vec::new();
    let length = (samples.len() as u128 * u128::from(to)).div_ceil(u128::from(from));
    output.reserve_exact(usize::try_from(length).unwrap_or(0));
    for piece in samples.chunks(INPUT_KEPT_MIN) {
        resampler.push(piece, &mut output);
    }
    resampler.finish(&mut output);
    output
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
            // More phases than stored taps.
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
    fn frequencies_above_the_lower_rates_nyquist_are_removed() {
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
    fn resampling_in_pieces_equals_resampling_the_whole() {
        for (from, to) in [
            (44_100, 24_000),
            (8_000, 24_000),
            (44_101, 24_000),
            (16_000, 16_000),
        ] {
            let whole: Vec<f32> = (0..40_000u32)
                .map(|index| (index.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0 - 0.5)
                .collect();
            let expected = resample(&whole, from, to, Filter::Kaiser64);
            let mut resampler = Resampler::new(from, to, Filter::Kaiser64);
            let mut output = Vec::new();
            let mut rest = whole.as_slice();
            for length in [1, 0, 999, 7, 20_000].into_iter().cycle() {
                let (piece, after) = rest.split_at(length.min(rest.len()));
                resampler.push(piece, &mut output);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            resampler.finish(&mut output);
            assert_eq!(output, expected, "{from} to {to}");
        }
    }

    #[test]
    fn lengths_are_rounded_up_and_empty_input_gives_empty_output() {
        assert_eq!(resample(&[1.0; 5], 3, 2, Filter::Hann6).len(), 4);
        assert!(resample(&[], 44_100, 16_000, Filter::Hann6).is_empty());
    }
}
