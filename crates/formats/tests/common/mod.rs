//! The recordings of the tests, and a mel spectrogram for comparing them: that of the speech
//! decoder's prompt.

use sottovoce_formats::audio::{DecodeOptions, decode};
use std::path::Path;

/// The spectrogram's sample rate in Hz.
pub const SAMPLE_RATE: u32 = 24_000;
pub const OPTIONS: DecodeOptions = DecodeOptions::first(60, SAMPLE_RATE);
/// Least correlation of recordings of the same sound.
pub const CORRELATION_MIN: f64 = 0.99;
const WINDOW: usize = 1920;
const HOP: usize = 480;
const BANDS: usize = 80;
const FREQUENCY_MAX: f64 = 8_000.0;

/// A recording under `data/recordings`.
pub fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings");
    std::fs::read(folder.join(name)).unwrap()
}

/// The samples of the sentence in `data/recordings`.
pub fn speech() -> Vec<f32> {
    decode(&file("speech.flac"), &OPTIONS).unwrap().samples
}

/// Correlation of the log-mel spectrograms of two recordings, over their common frames.
pub fn mel_correlation(one: &[f32], other: &[f32]) -> f64 {
    let (one, other) = (log_mel(one), log_mel(other));
    let count = one.len().min(other.len());
    correlation(&one[..count], &other[..count])
}

fn correlation(one: &[f64], other: &[f64]) -> f64 {
    let count = one.len() as f64;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / count;
    let (mean_one, mean_other) = (mean(one), mean(other));
    let (mut both, mut square_one, mut square_other) = (0.0, 0.0, 0.0);
    for (x, y) in one.iter().zip(other) {
        let (x, y) = (x - mean_one, y - mean_other);
        both += x * y;
        square_one += x * x;
        square_other += y * y;
    }
    both / (square_one * square_other).sqrt()
}

fn to_mel(frequency: f64) -> f64 {
    2595.0 * (1.0 + frequency / 700.0).log10()
}

fn to_frequency(mel: f64) -> f64 {
    700.0 * (10.0f64.powf(mel / 2595.0) - 1.0)
}

/// `[frames × bands]`, without the padding of a network's input.
fn log_mel(samples: &[f32]) -> Vec<f64> {
    let bins = (FREQUENCY_MAX / f64::from(SAMPLE_RATE) * WINDOW as f64) as usize + 1;
    let angle = |index: usize| std::f64::consts::TAU * index as f64 / WINDOW as f64;
    let window: Vec<f64> = (0..WINDOW)
        .map(|index| 0.5 - 0.5 * angle(index).cos())
        .collect();
    let transform = realfft::RealFftPlanner::new().plan_fft_forward(WINDOW);
    let edges: Vec<f64> = (0..BANDS + 2)
        .map(|edge| to_frequency(to_mel(FREQUENCY_MAX) * edge as f64 / (BANDS + 1) as f64))
        .collect();
    let mut frames = Vec::new();
    let mut start = 0;
    while start + WINDOW <= samples.len() {
        let samples = &samples[start..start + WINDOW];
        let mut windowed: Vec<f64> = samples
            .iter()
            .zip(&window)
            .map(|(&x, weight)| f64::from(x) * weight)
            .collect();
        let mut spectrum = transform.make_output_vec();
        transform.process(&mut windowed, &mut spectrum).unwrap();
        let magnitudes: Vec<f64> = spectrum[..bins].iter().map(|value| value.norm()).collect();
        for band in 0..BANDS {
            let (low, middle, high) = (edges[band], edges[band + 1], edges[band + 2]);
            let sum: f64 = magnitudes
                .iter()
                .enumerate()
                .map(|(bin, magnitude)| {
                    let frequency = bin as f64 * f64::from(SAMPLE_RATE) / WINDOW as f64;
                    let rising = (frequency - low) / (middle - low);
                    let falling = (high - frequency) / (high - middle);
                    rising.min(falling).max(0.0) * 2.0 / (high - low) * magnitude
                })
                .sum();
            frames.push(sum.max(1e-5).ln());
        }
        start += HOP;
    }
    frames
}
