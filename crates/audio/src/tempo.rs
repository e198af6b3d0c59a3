//! Time stretching at constant pitch by waveform-similarity overlap-add (WSOLA, Verhelst and
//! Roelands, 1993), incrementally.
//!
//! Output comes in hops of fixed length. Each hop is taken from the input near the position that
//! the speed implies, where the waveform best continues the previous hop, and is cross-faded with
//! it.

/// Output samples per step: 20 ms at 24 kHz, two pitch periods of a low voice.
const HOP: usize = 480;
/// Search radius around the ideal position: one period of 60 Hz.
const SEARCH: usize = 400;

/// Changes the speed of a stream of samples.
pub struct Tempo {
    speed: f64,
    /// Input from `start` on that may still be needed.
    input: Vec<f32>,
    start: usize,
    received: usize,
    emitted: usize,
    /// Input position of the last hop.
    last: Option<usize>,
}

impl Tempo {
    /// `speed` 1 changes nothing, 2 is twice as fast.
    pub fn new(speed: f32) -> Tempo {
        Tempo {
            speed: f64::from(speed),
            input: Vec::new(),
            start: 0,
            received: 0,
            emitted: 0,
            last: None,
        }
    }

    /// Forgets all samples, as at the start.
    pub fn restart(&mut self) {
        *self = Tempo::new(self.speed as f32);
    }

    /// Takes samples and returns the output that is ready.
    pub fn push(&mut self, samples: Vec<f32>) -> Vec<f32> {
        if self.speed == 1.0 {
            return samples;
        }
        self.received += samples.len();
        self.input.extend_from_slice(&samples);
        let mut output = Vec::new();
        while self.ideal() + SEARCH + 2 * HOP <= self.received {
            self.hop(&mut output);
        }
        output
    }

    /// The remaining output, to the length that the speed implies.
    pub fn finish(&mut self) -> Vec<f32> {
        if self.speed == 1.0 {
            return Vec::new();
        }
        let wanted = (self.received as f64 / self.speed).round() as usize;
        self.input
            .resize(self.input.len() + 2 * (SEARCH + 2 * HOP), 0.0);
        let before = self.emitted;
        let mut output = Vec::new();
        while self.emitted < wanted {
            self.hop(&mut output);
            // Silence after the end of the input covers every position that the search may read.
            let needed = self.ideal() + SEARCH + 2 * HOP;
            let there = self.start + self.input.len();
            self.input
                .resize(self.input.len() + needed.saturating_sub(there), 0.0);
        }
        output.truncate(wanted - before);
        output
    }

    /// Input position of the next hop according to the speed alone.
    fn ideal(&self) -> usize {
        (self.emitted as f64 * self.speed).round() as usize
    }

    fn hop(&mut self, output: &mut Vec<f32>) {
        let ideal = self.ideal();
        let place = match self.last {
            None => ideal,
            Some(last) => self.best_place(ideal, last + HOP),
        };
        let new = place - self.start;
        match self.last {
            None => output.extend_from_slice(&self.input[new..new + HOP]),
            Some(last) => {
                let old = last + HOP - self.start;
                let weights = (0..HOP).map(|index| {
                    0.5 - 0.5 * ((index as f32 + 0.5) / HOP as f32 * std::f32::consts::PI).cos()
                });
                let pairs = self.input[new..new + HOP]
                    .iter()
                    .zip(&self.input[old..old + HOP]);
                output.extend(
                    pairs
                        .zip(weights)
                        .map(|((new, old), weight)| weight * new + (1.0 - weight) * old),
                );
            }
        }
        self.last = Some(place);
        self.emitted += HOP;
        let keep_from = place.min(self.ideal().saturating_sub(SEARCH));
        self.input.drain(..keep_from - self.start);
        self.start = keep_from;
    }

    /// The position near `ideal` whose waveform is most similar to the continuation of the last
    /// hop.
    fn best_place(&self, ideal: usize, continuation: usize) -> usize {
        let target = &self.input[continuation - self.start..][..HOP];
        let first = ideal.saturating_sub(SEARCH).max(self.start);
        let mut best = (f32::MIN, ideal.max(self.start));
        for place in first..=ideal + SEARCH {
            let candidate = &self.input[place - self.start..][..HOP];
            let (mut product, mut energy) = (0.0, 1e-6);
            for (candidate, target) in candidate.iter().zip(target) {
                product += candidate * target;
                energy += candidate * candidate;
            }
            let likeness = product / f32::sqrt(energy);
            if likeness > best.0 {
                best = (likeness, place);
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(count: usize) -> Vec<f32> {
        (0..count)
            .map(|index| (index as f32 * 150.0 / 24_000.0 * std::f32::consts::TAU).sin())
            .collect()
    }

    fn changed(samples: &[f32], speed: f32, piece: usize) -> Vec<f32> {
        let mut tempo = Tempo::new(speed);
        let mut output: Vec<f32> = samples
            .chunks(piece)
            .flat_map(|piece| tempo.push(piece.to_vec()))
            .collect();
        output.extend(tempo.finish());
        output
    }

    /// Upward zero crossings per second.
    fn pitch(samples: &[f32]) -> f32 {
        let crossings = samples
            .windows(2)
            .filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0)
            .count();
        crossings as f32 * 24_000.0 / samples.len() as f32
    }

    #[test]
    fn the_length_follows_the_speed_at_constant_pitch() {
        let samples = tone(48_000);
        for speed in [0.25, 0.5, 0.8, 1.3, 2.0, 4.0] {
            let output = changed(&samples, speed, 3000);
            assert_eq!(
                output.len(),
                (48_000.0 / speed).round() as usize,
                "speed {speed}"
            );
            let pitch = pitch(&output);
            assert!(
                (pitch - 150.0).abs() < 4.0,
                "speed {speed}: {pitch} Hz must stay 150 Hz"
            );
        }
    }

    #[test]
    fn the_size_of_the_pieces_does_not_matter() {
        let samples = tone(10_000);
        let whole = changed(&samples, 1.3, samples.len());
        assert!(changed(&samples, 1.3, 77) == whole && changed(&samples, 1.3, 1000) == whole);
    }

    #[test]
    fn speed_one_changes_nothing_and_short_input_works() {
        let samples = tone(1000);
        assert_eq!(changed(&samples, 1.0, 300), samples);
        for count in [0, 1, 100] {
            assert_eq!(
                changed(&samples[..count], 2.0, 50).len(),
                (count as f64 / 2.0).round() as usize
            );
        }
    }
}
