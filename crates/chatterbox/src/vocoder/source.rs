//! Where a stream's harmonic source stands.

use crate::config::VocoderConfig;
use sottovoce_tensor::{Context, Harmonics, Noise, Tensor, View};

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

    /// Goes on past frames with these fundamental frequencies.
    pub fn advance(&mut self, config: &VocoderConfig, f0: &[f32]) {
        let per_frame = config.samples_per_frame();
        Harmonics::advance(&mut self.phases, f0, config.sample_rate, per_frame);
        self.position += (f0.len() * per_frame) as u64;
    }
}
