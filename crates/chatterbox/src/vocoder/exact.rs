//! The harmonic source signal as the reference computes it, for comparison: the phase is a running
//! sum rounded to f32 at every sample, and the random numbers are inputs. Streams use
//! [`super::SourceState`], whose phase does not lose precision over time.

use crate::config::VocoderConfig;

/// The harmonics `[samples][harmonics + 1]` of frames with these fundamental frequencies. `phases`
/// has one value per harmonic, `noise` is `[harmonics + 1][samples]`.
///
/// # Panics
/// If `phases` or `noise` have other lengths.
pub fn harmonics(config: &VocoderConfig, f0: &[f32], phases: &[f32], noise: &[f32]) -> Vec<f32> {
    let source = &config.source;
    let count = source.harmonics + 1;
    let per_frame = config.samples_per_frame();
    let samples = f0.len() * per_frame;
    assert_eq!(
        (phases.len(), noise.len()),
        (count, count * samples),
        "phases and noise of {count} harmonics, {samples} samples"
    );
    let rate = config.sample_rate as f32;
    let mut out = vec![0.0; samples * count];
    for harmonic in 0..count {
        let mut turns = 0.0f64;
        for sample in 0..samples {
            let f0 = f0[sample / per_frame];
            turns += f64::from(f0 * (harmonic + 1) as f32 / rate);
            let theta = (std::f64::consts::TAU * f64::from(turns as f32 % 1.0)) as f32;
            let voiced = f0 > source.voiced_threshold;
            let deviation = if voiced {
                source.noise_deviation
            } else {
                source.sine_amplitude / 3.0
            };
            let sine = if voiced {
                source.sine_amplitude * (theta + phases[harmonic]).sin()
            } else {
                0.0
            };
            out[sample * count + harmonic] = sine + deviation * noise[harmonic * samples + sample];
        }
    }
    out
}
