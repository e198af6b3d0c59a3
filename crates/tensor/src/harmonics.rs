//! The harmonic source of a vocoder: sines at multiples of a fundamental frequency, noise where
//! there is none (unvoiced).
//!
//! Phases are 64-bit fractions of a turn, which never lose precision, so that a stream can continue
//! where it stopped. Noise belongs to the absolute sample, so that it does not depend on chunk
//! borders.

use crate::noise::Noise;

/// A whole turn: 2⁶⁴.
const TURN: f64 = 18_446_744_073_709_551_616.0;

/// Parameters of the source signal of some frames.
#[derive(Clone, Copy, Debug)]
pub struct Harmonics<'a> {
    /// Phase of each harmonic before the first sample, in 2⁻⁶⁴ turns; at most 64 harmonics.
    pub phases: &'a [u64],
    /// Noise: one row per sample, one column per harmonic.
    pub noise: Noise,
    /// Index of the first sample in its stream.
    pub position: u64,
    /// Samples per frame.
    pub samples_a_frame: usize,
    /// Sample rate in Hz.
    pub sample_rate: u32,
    /// Fundamental frequency in Hz above which a frame is voiced.
    pub voiced_threshold: f32,
    /// Amplitude of each sine; a third of it is the standard deviation of unvoiced noise.
    pub sine_amplitude: f32,
    /// Standard deviation of the noise in voiced frames.
    pub noise_deviation: f32,
}

impl Harmonics<'_> {
    /// Phase increment per sample of each of `count` harmonics of `f0` Hz, in 2⁻⁶⁴ turns.
    pub fn turns(f0: f32, sample_rate: u32, count: usize) -> impl Iterator<Item = u64> {
        let fundamental = f64::from(f0) / f64::from(sample_rate);
        (1..=count).map(move |multiple| ((fundamental * multiple as f64).fract() * TURN) as u64)
    }

    /// Advances phases past frames with these fundamental frequencies.
    pub fn advance(phases: &mut [u64], f0: &[f32], sample_rate: u32, samples_a_frame: usize) {
        for &f0 in f0 {
            let turns = Harmonics::turns(f0, sample_rate, phases.len());
            for (phase, turn) in phases.iter_mut().zip(turns) {
                *phase = phase.wrapping_add(turn.wrapping_mul(samples_a_frame as u64));
            }
        }
    }
}
