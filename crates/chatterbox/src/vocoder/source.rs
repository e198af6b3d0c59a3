//! The harmonic source: sines at multiples of the fundamental, noise where there is none.
//!
//! Phases are carried in f64 modulo one turn, so that a stream can go on where it was. Noise belongs to the absolute sample, so that
//! it does not depend on where chunks begin.

use crate::config::VocoderConfig;
use crate::noise::Noise;
use std::f64::consts::TAU;

/// Where the sines of a stream stand.
#[derive(Clone, Debug)]
pub struct SourceState {
    /// Turns of each harmonic, in 0..1.
    turns: Vec<f64>,
    /// Turns that each harmonic is ahead; the fundamental's is 0.
    offsets: Vec<f64>,
    noise: Noise,
    /// Samples so far.
    position: u64,
}

impl SourceState {
    /// The start of a stream whose random numbers come from `seed`.
    pub fn new(config: &VocoderConfig, seed: u64) -> SourceState {
        let count = config.source.harmonics + 1;
        let noise = Noise::new(seed);
        let offsets = (0..count as u64).map(|harmonic| {
            if harmonic == 0 {
                0.0
            } else {
                f64::from(noise.uniform(u64::MAX, harmonic)) - 0.5
            }
        });
        SourceState {
            turns: vec![0.0; count],
            offsets: offsets.collect(),
            noise,
            position: 0,
        }
    }

    /// The harmonics of frames with these fundamental frequencies, `[samples][harmonics + 1]`.
    pub fn advance(&mut self, config: &VocoderConfig, f0: &[f32], out: &mut [f32]) {
        let source = &config.source;
        let count = source.harmonics + 1;
        let per_frame = config.samples_per_frame();
        let rate = f64::from(config.sample_rate);
        let mut rows = out.chunks_exact_mut(count);
        for &f0 in f0 {
            let voiced = f0 > source.voiced_threshold;
            let deviation = if voiced {
                source.noise_deviation
            } else {
                source.sine_amplitude / 3.0
            };
            for row in rows.by_ref().take(per_frame) {
                for (harmonic, value) in row.iter_mut().enumerate() {
                    let turns = &mut self.turns[harmonic];
                    *turns = (*turns + f64::from(f0) * (harmonic + 1) as f64 / rate).fract();
                    let sine = if voiced {
                        ((*turns + self.offsets[harmonic]) * TAU).sin() as f32
                            * source.sine_amplitude
                    } else {
                        0.0
                    };
                    *value = sine + deviation * self.noise.normal(self.position, harmonic as u64);
                }
                self.position += 1;
            }
        }
    }
}
