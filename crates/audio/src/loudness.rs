//! Loudness: measured by EBU R 128, raised or lowered to a target without clipping.

use ebur128::{EbuR128, Mode};
use std::collections::VecDeque;

/// Peaks stay at −1 dB of full scale.
const CEILING: f32 = 0.891;
/// Look-ahead of the limiter, in seconds.
const LOOK_AHEAD_SECONDS: f64 = 0.005;

/// Integrated loudness of mono sound, gated as EBU R 128 asks for.
pub struct LoudnessMeter(Option<EbuR128>);

impl LoudnessMeter {
    /// A meter at this sample rate in Hz.
    pub fn new(sample_rate: u32) -> LoudnessMeter {
        LoudnessMeter(EbuR128::new(1, sample_rate, Mode::I | Mode::HISTOGRAM).ok())
    }

    /// Measures further samples.
    pub fn push(&mut self, samples: &[f32]) {
        if let Some(meter) = &mut self.0
            && meter.add_frames_f32(samples).is_err()
        {
            self.0 = None;
        }
    }

    /// Loudness so far in LUFS; `None` if nothing was loud enough to be measured.
    pub fn loudness(&self) -> Option<f64> {
        let loudness = self.0.as_ref()?.loudness_global().ok()?;
        loudness.is_finite().then_some(loudness)
    }
}

/// Applies gains, and lowers the sound around peaks that would exceed −1 dB of full scale.
///
/// The gain at a sample is the mean of the least gains that the samples within the look-ahead on
/// either side need. It therefore moves slowly, and never exceeds what the sample itself needs.
pub struct Limiter {
    look_ahead: usize,
    /// Samples that are not emitted yet.
    waiting: VecDeque<f32>,
    /// Index and needed gain of the samples that may be the least in the window.
    least: VecDeque<(usize, f32)>,
    /// Least gains of the last windows, and their sum.
    window: VecDeque<f32>,
    sum: f64,
    taken: usize,
}

impl Limiter {
    /// A limiter at this sample rate in Hz.
    pub fn new(sample_rate: u32) -> Limiter {
        let look_ahead = (f64::from(sample_rate) * LOOK_AHEAD_SECONDS) as usize;
        let mut limiter = Limiter {
            look_ahead,
            waiting: VecDeque::new(),
            least: VecDeque::new(),
            window: VecDeque::new(),
            sum: 0.0,
            taken: 0,
        };
        // The window before the first sample.
        for _ in 0..look_ahead {
            limiter.see(0.0);
        }
        limiter
    }

    /// Takes samples with a gain factor and returns those that are ready.
    pub fn push(&mut self, samples: &[f32], gain: f32) -> Vec<f32> {
        let mut ready = Vec::with_capacity(samples.len());
        for sample in samples {
            self.waiting.push_back(sample * gain);
            if let Some(gain) = self.see(sample * gain)
                && let Some(sample) = self.waiting.pop_front()
            {
                ready.push(sample * gain);
            }
        }
        ready
    }

    /// The remaining samples.
    pub fn finish(&mut self) -> Vec<f32> {
        let mut ready = Vec::with_capacity(self.waiting.len());
        while let Some(sample) = self.waiting.front().copied() {
            if let Some(gain) = self.see(0.0) {
                self.waiting.pop_front();
                ready.push(sample * gain);
            }
        }
        ready
    }

    /// Takes the next sample; returns the gain of the sample a look-ahead before it.
    fn see(&mut self, sample: f32) -> Option<f32> {
        let needed = match sample.abs() {
            peak if peak > CEILING => CEILING / peak,
            _ => 1.0,
        };
        while self.least.back().is_some_and(|(_, gain)| *gain >= needed) {
            self.least.pop_back();
        }
        self.least.push_back((self.taken, needed));
        while (self.least.front()).is_some_and(|(at, _)| at + self.look_ahead < self.taken) {
            self.least.pop_front();
        }
        let least = self.least.front().map_or(1.0, |(_, gain)| *gain);
        self.taken += 1;
        self.window.push_back(least);
        self.sum += f64::from(least);
        if self.window.len() > self.look_ahead + 1
            && let Some(first) = self.window.pop_front()
        {
            self.sum -= f64::from(first);
        }
        // The first sample follows a window of silence.
        let ready = self.taken > 2 * self.look_ahead;
        ready.then(|| (self.sum / self.window.len() as f64) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(seconds: f32, amplitude: f32) -> Vec<f32> {
        (0..(seconds * 24_000.0) as usize)
            .map(|index| {
                amplitude * (index as f32 * 997.0 / 24_000.0 * std::f32::consts::TAU).sin()
            })
            .collect()
    }

    fn limited(samples: &[f32], gain: f32, piece: usize) -> Vec<f32> {
        let mut limiter = Limiter::new(24_000);
        let mut out: Vec<f32> = (samples.chunks(piece))
            .flat_map(|piece| limiter.push(piece, gain))
            .collect();
        out.extend(limiter.finish());
        out
    }

    #[test]
    fn the_meter_knows_a_tone_of_the_standard() {
        let mut meter = LoudnessMeter::new(24_000);
        assert_eq!(meter.loudness(), None);
        // A sine of full scale in one channel has −3.01 LUFS.
        meter.push(&tone(3.0, 1.0));
        let loudness = meter.loudness().unwrap();
        assert!((loudness + 3.01).abs() < 0.1, "{loudness}");
        let mut silent = LoudnessMeter::new(24_000);
        silent.push(&[0.0; 48_000]);
        assert_eq!(silent.loudness(), None);
    }

    #[test]
    fn sound_below_the_ceiling_is_only_amplified() {
        let samples = tone(0.5, 0.2);
        let out = limited(&samples, 2.0, 1000);
        assert_eq!(out.len(), samples.len());
        for (out, sample) in out.iter().zip(&samples) {
            assert!((out - 2.0 * sample).abs() < 1e-6);
        }
    }

    #[test]
    fn no_peak_exceeds_the_ceiling_whatever_the_pieces() {
        let mut samples = tone(0.5, 0.3);
        samples[0] = 0.9;
        samples[6000] = -0.95;
        samples[11_999] = 0.8;
        let whole = limited(&samples, 3.0, samples.len());
        assert_eq!(whole.len(), samples.len());
        assert!(whole.iter().all(|sample| sample.abs() <= CEILING * 1.0001));
        for piece in [1, 77, 5000] {
            assert!(limited(&samples, 3.0, piece) == whole);
        }
        assert_eq!(limited(&[], 3.0, 1), [0.0; 0]);
        assert_eq!(limited(&[0.5], 1.0, 1), [0.5]);
    }
}
