//! State of a stream's harmonic source.

use crate::config::VocoderConfig;
use sottovoce_tensor::{Context, Harmonics, Noise, Tensor, View};

/// A whole turn: 2⁶⁴.
const TURN: f64 = 18_446_744_073_709_551_616.0;

/// Phases and position of a stream's harmonic source.
#[derive(Clone, Debug)]
pub struct SourceState {
    /// Phase of each harmonic, in 2⁻⁶⁴ turns.
    phases: Vec<u64>,
    noise: Noise,
    /// Number of samples so far.
    position: u64,
}

impl SourceState {
    /// The start of a stream with random numbers from `seed`. The fundamental starts at phase 0,
    /// the overtones at random phases.
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

    /// The harmonics `[samples, harmonics + 1]` of the next frames with fundamental frequencies
    /// `f0`, `[frames, 1]`.
    pub fn harmonics(&self, ctx: &Context<'_>, config: &VocoderConfig, f0: View<'_>) -> Tensor {
        let source = Harmonics {
            phases: &self.phases,
            noise: self.noise,
            position: self.position,
            samples_a_frame: config.samples_per_frame(),
            sample_rate: config.sample_rate,
            voiced_threshold: config.source.voiced_threshold,
            sine_amplitude: config.source.sine_amplitude,
            noise_deviation: config.source.noise_deviation,
        };
        ctx.harmonics(f0, &source)
    }

    /// Advances past frames with these fundamental frequencies.
    pub fn advance(&mut self, config: &VocoderConfig, f0: &[f32]) {
        let per_frame = config.samples_per_frame();
        Harmonics::advance(&mut self.phases, f0, config.sample_rate, per_frame);
        self.position += (f0.len() * per_frame) as u64;
    }
}
