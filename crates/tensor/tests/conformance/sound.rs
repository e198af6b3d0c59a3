//! Harmonics and Fourier transforms against their formulas in f64.

use crate::common::{Fixture, random, relative_l2};
use sottovoce_tensor::{Harmonics, Noise, Stft};
use std::f64::consts::TAU;

fn source(phases: &[u64], position: u64) -> Harmonics<'_> {
    Harmonics {
        phases,
        noise: Noise::new(3),
        position,
        samples_a_frame: 40,
        sample_rate: 8000,
        voiced_threshold: 10.0,
        sine_amplitude: 0.1,
        noise_deviation: 0.003,
    }
}

pub fn harmonics_are_sines_at_multiples_with_little_noise_and_noise_alone_where_there_is_no_voice(
    fixture: &Fixture,
) {
    let phases = [0, 1 << 62];
    let f0 = [110.0, 5.0, 312.5];
    let got = fixture.run(|ctx| {
        let f0 = ctx.upload(&[3, 1], &f0);
        let out = ctx.harmonics(&f0, &source(&phases, 400));
        assert_eq!(out.shape(), [120, 2]);
        ctx.download(&out).unwrap()
    });
    for harmonic in 0..2 {
        let mut turns = phases[harmonic] as f64 / 2.0_f64.powi(64);
        for sample in 0..120 {
            let f0 = f0[sample / 40];
            turns += f64::from(f0) * (harmonic + 1) as f64 / 8000.0;
            let noise = f64::from(Noise::new(3).normal(400 + sample as u64, harmonic as u64));
            let expected = match f0 > 10.0 {
                true => 0.1 * (TAU * turns.fract()).sin() + 0.003 * noise,
                false => 0.1 / 3.0 * noise,
            };
            let got = f64::from(got[2 * sample + harmonic]);
            assert!(
                (got - expected).abs() < fixture.tolerances.element,
                "{sample}: {got}, not {expected}"
            );
        }
    }
}

pub fn harmonics_go_on_where_they_stood(fixture: &Fixture) {
    let f0 = [120.0, 3.0, 140.0, 141.0];
    fixture.run(|ctx| {
        let mut phases = [0, 7 << 60, 1 << 40];
        let harmonics = |phases: &[u64], position: u64, f0: &[f32]| {
            let f0 = ctx.upload(&[f0.len(), 1], f0);
            ctx.download(&ctx.harmonics(&f0, &source(phases, position)))
                .unwrap()
        };
        let whole = harmonics(&phases, 0, &f0);
        let first = harmonics(&phases, 0, &f0[..3]);
        Harmonics::advance(&mut phases, &f0[..3], 8000, 40);
        let second = harmonics(&phases, 120, &f0[3..]);
        assert_eq!([first, second].concat(), whole);
    });
}

/// Reflects a position beyond either end.
fn mirrored(position: isize, count: usize) -> usize {
    let last = count as isize - 1;
    let position = position.unsigned_abs() as isize;
    (if position > last {
        2 * last - position
    } else {
        position
    }) as usize
}

fn hann(fft: usize) -> Vec<f64> {
    (0..fft)
        .map(|sample| 0.5 - 0.5 * (TAU * sample as f64 / fft as f64).cos())
        .collect()
}

pub fn a_spectrum_equals_its_formula(fixture: &Fixture) {
    let (fft, hop, count) = (16, 4, 1000);
    let samples = random(1, count);
    let transform = Stft::new(fft, hop);
    let got = fixture.run(|ctx| {
        let samples = ctx.upload(&[count, 1], &samples);
        let out = ctx.spectrum(&samples, &transform);
        assert_eq!(out.shape(), [count / hop + 1, fft + 2]);
        ctx.download(&out).unwrap()
    });
    let window = hann(fft);
    let mut expected = Vec::new();
    for frame in 0..=count / hop {
        for part in 0..2 {
            for bin in 0..=fft / 2 {
                let sum: f64 = (0..fft)
                    .map(|index| {
                        let position = (frame * hop + index) as isize - (fft / 2) as isize;
                        let angle = TAU * (bin * index) as f64 / fft as f64;
                        let wave = if part == 0 { angle.cos() } else { -angle.sin() };
                        f64::from(samples[mirrored(position, count)]) * window[index] * wave
                    })
                    .sum();
                expected.push(sum as f32);
            }
        }
    }
    assert!(relative_l2(&got, &expected) < fixture.tolerances.element);
}

pub fn overlapping_frames_give_back_the_samples_that_their_spectra_were_taken_of(
    fixture: &Fixture,
) {
    let (fft, hop, count) = (16, 4, 4000);
    let samples: Vec<f32> = random(2, count).iter().map(|x| 0.4 * x).collect();
    let transform = Stft::new(fft, hop);
    let bins = transform.bins();
    let got = fixture.run(|ctx| {
        let spectrum = ctx.spectrum(&ctx.upload(&[count, 1], &samples), &transform);
        let spectrum = ctx.download(&spectrum).unwrap();
        // A phase is the sine of the input, so only phases within a quarter turn are possible.
        let mut logarithms = Vec::new();
        let mut kept = Vec::new();
        for row in spectrum.chunks_exact(2 * bins) {
            let (real, imaginary) = row.split_at(bins);
            let pairs = || real.iter().zip(imaginary);
            let near = |(real, imaginary): (&f32, &f32)| imaginary.atan2(*real).clamp(-1.0, 1.0);
            logarithms.extend(pairs().map(|(real, imaginary)| real.hypot(*imaginary).ln()));
            logarithms.extend(pairs().map(|pair| near(pair).asin()));
            kept.push(
                pairs()
                    .map(|pair| (pair.0.hypot(*pair.1), near(pair)))
                    .collect::<Vec<_>>(),
            );
        }
        let frames = kept.len();
        let input = ctx.upload(&[frames, 2 * bins], &logarithms);
        let out = ctx
            .download(&ctx.overlap_add(&input, &transform, 100.0, 0.99))
            .unwrap();
        (out, kept)
    });
    let (got, kept) = got;
    let window = hann(fft);
    let (mut sums, mut weights) = (vec![0.0; count + fft], vec![0.0; count + fft]);
    for (frame, row) in kept.iter().enumerate() {
        for index in 0..fft {
            let sum: f64 = (row.iter().enumerate())
                .map(|(bin, &(magnitude, phase))| {
                    let share = if bin == 0 || bin + 1 == bins {
                        1.0
                    } else {
                        2.0
                    };
                    let angle = TAU * (bin * index) as f64 / fft as f64 + f64::from(phase);
                    share / fft as f64 * f64::from(magnitude) * angle.cos()
                })
                .sum();
            sums[frame * hop + index] += sum * window[index];
            weights[frame * hop + index] += window[index].powi(2);
        }
    }
    // The first and last bins have no imaginary part: that of their phase is lost.
    let expected: Vec<f32> = (fft / 2..fft / 2 + count)
        .map(|place| (sums[place] / weights[place]).clamp(-0.99, 0.99) as f32)
        .collect();
    assert_eq!(got.len(), count);
    assert!(
        relative_l2(&got, &expected) < 1e-4,
        "{}",
        relative_l2(&got, &expected)
    );
}
