//! The harmonic source of a vocoder: sines at multiples of a fundamental, noise where there is none.
//!
//! Phases are 64-bit fractions of a turn, which never lose precision, so that a stream can go on where it was. Noise belongs to the absolute
//! sample, so that it does not depend on where chunks begin.

use crate::noise::Noise;

/// 2⁶⁴: a whole turn.
const TURN: f64 = 18_446_744_073_709_551_616.0;

/// What the source of some frames is made from.
#[derive(Clone, Copy, Debug)]
pub struct Harmonics<'a> {
    /// Where each harmonic stands before the first sample, in 2⁻⁶⁴ turns; at most 64 of them.
    pub phases: &'a [u64],
    /// A row a sample, a column a harmonic.
    pub noise: Noise,
    /// Number of the first sample in its stream.
    pub position: u64,
    /// Samples of a frame.
    pub samples_a_frame: usize,
    /// Samples a second.
    pub sample_rate: u32,
    /// Above this fundamental frequency, Hz, there are sines.
    pub voiced_threshold: f32,
    /// Of each sine; a third of it is the deviation of the noise where there is none.
    pub sine_amplitude: f32,
    /// Deviation of the noise beside sines.
    pub noise_deviation: f32,
}

impl Harmonics<'_> {
    /// What each of `count` harmonics of `f0` Hz turns in a sample, in 2⁻⁶⁴ turns.
    pub fn turns(f0: f32, sample_rate: u32, count: usize) -> impl Iterator<Item = u64> {
        let fundamental = f64::from(f0) / f64::from(sample_rate);
        (1..=count).map(move |multiple| ((fundamental * multiple as f64).fract() * TURN) as u64)
    }

    /// Moves phases on past frames with these fundamental frequencies.
    pub fn advance(phases: &mut [u64], f0: &[f32], sample_rate: u32, samples_a_frame: usize) {
        for &f0 in f0 {
            let turns = Harmonics::turns(f0, sample_rate, phases.len());
            for (phase, turn) in phases.iter_mut().zip(turns) {
                *phase = phase.wrapping_add(turn.wrapping_mul(samples_a_frame as u64));
            }
        }
    }
}
