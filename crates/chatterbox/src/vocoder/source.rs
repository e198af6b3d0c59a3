//! The harmonic source: sines at multiples of the fundamental, noise where there is none.
//!
//! Phases are carried as 64-bit fractions of a turn, which never lose precision, so that a stream can go on where it was. Noise
//! belongs to the absolute sample, so that it does not depend on where chunks begin.

use crate::config::VocoderConfig;
use crate::noise::Noise;
use sottovoce_tensor::{Context, Tensor, View, functions};

/// 2⁶⁴: a whole turn.
const TURN: f64 = 18_446_744_073_709_551_616.0;

/// Where the sines of a stream stand.
#[derive(Clone, Debug)]
pub struct SourceState {
    /// Of each harmonic, in 2⁻⁶⁴ turns.
    phases: Vec<u64>,
    noise: Noise,
    /// Samples so far.
    position: u64,
}

impl SourceState {
    /// The start of a stream whose random numbers come from `seed`. The fundamental begins at 0, the others anywhere.
    pub fn new(config: &VocoderConfig, seed: u64) -> SourceState {
        let count = config.source.harmonics as u64 + 1;
        let noise = Noise::new(seed);
        let phases = (0..count).map(|harmonic| match harmonic {
            0 => 0,
            _ => (f64::from(noise.uniform(u64::MAX, harmonic)) * TURN) as u64,
        });
        SourceState {
            phases: phases.collect(),
            noise,
            position: 0,
        }
    }

    /// The harmonics `[samples, harmonics + 1]` of the next frames, whose fundamental frequencies are `f0`, `[frames, 1]`.
    pub fn harmonics(&self, ctx: &Context<'_>, config: &VocoderConfig, f0: View<'_>) -> Tensor {
        let count = self.phases.len();
        let per_frame = config.samples_per_frame();
        let mut state = self.clone();
        let mut frames = Vec::new();
        if !ctx.is_dry() {
            for frame in 0..f0.row_count() {
                let frequency = f0.row(frame)[0];
                frames.push((frequency, state.phases.clone()));
                state.advance(config, &[frequency]);
            }
        }
        let shape = [f0.row_count() * per_frame, count];
        ctx.filled(shape, per_frame, |first, rows| {
            let (f0, phases) = &frames[first / per_frame];
            self.frame(config, *f0, phases, self.position + first as u64, rows);
        })
    }

    /// One frame, `[samples][harmonics + 1]`, whose first sample is at `position`.
    fn frame(
        &self,
        config: &VocoderConfig,
        f0: f32,
        phases: &[u64],
        position: u64,
        rows: &mut [f32],
    ) {
        let source = &config.source;
        let count = phases.len();
        self.noise.normals(position, count, rows);
        if f0 <= source.voiced_threshold {
            let deviation = source.sine_amplitude / 3.0;
            rows.iter_mut().for_each(|value| *value *= deviation);
            return;
        }
        let steps = steps(config, f0, count);
        let mut phases = phases.to_vec();
        let mut sines = vec![0.0; count];
        for row in rows.chunks_exact_mut(count) {
            for ((phase, step), sine) in phases.iter_mut().zip(&steps).zip(&mut sines) {
                *phase = phase.wrapping_add(*step);
                *sine = (*phase >> 40) as f32 * (std::f32::consts::TAU / (1 << 24) as f32);
            }
            functions::sines(&mut sines);
            for (value, sine) in row.iter_mut().zip(&sines) {
                *value = source.sine_amplitude * sine + source.noise_deviation * *value;
            }
        }
    }

    /// Goes on past frames with these fundamental frequencies.
    pub fn advance(&mut self, config: &VocoderConfig, f0: &[f32]) {
        let per_frame = config.samples_per_frame() as u64;
        for &f0 in f0 {
            let steps = steps(config, f0, self.phases.len());
            for (phase, step) in self.phases.iter_mut().zip(steps) {
                *phase = phase.wrapping_add(step.wrapping_mul(per_frame));
            }
            self.position += per_frame;
        }
    }
}

/// What each harmonic turns in a sample, in 2⁻⁶⁴ turns.
fn steps(config: &VocoderConfig, f0: f32, count: usize) -> Vec<u64> {
    let fundamental = f64::from(f0) / f64::from(config.sample_rate);
    (1..=count)
        .map(|multiple| ((fundamental * multiple as f64).fract() * TURN) as u64)
        .collect()
}
