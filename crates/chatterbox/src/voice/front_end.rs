//! The four spectrograms of voice preparation, `[frames × bands]`.

use super::spectrum::{FilterBank, hann, pad, power};
use crate::config::MelConfig;

fn filters(mel: &MelConfig) -> FilterBank {
    FilterBank::slaney(
        f64::from(mel.sample_rate),
        mel.fft,
        mel.bands,
        f64::from(mel.frequency_min),
        f64::from(mel.frequency_max),
    )
}

/// The voice encoder's power mel spectrogram: centred frames, no logarithm.
pub(super) fn power_mel(samples: &[f32], mel: &MelConfig) -> Vec<f32> {
    let bank = filters(mel);
    let mut bands = Vec::new();
    power(
        &pad(samples, mel.fft / 2),
        &hann(mel.fft),
        mel.hop,
        |_, spectrum| {
            bands.extend(bank.apply(spectrum).map(|band| band as f32));
        },
    );
    bands
}

/// The speech tokenizer's mel spectrogram: the last frame dropped, decimal logarithm, floored 8
/// below the clip's peak, mapped to about −1 to 1.
pub(super) fn token_mel(samples: &[f32], mel: &MelConfig) -> Vec<f32> {
    let mut log_mel = TokenLogMel::new(mel);
    let mut bands = Vec::new();
    log_mel.push(samples, &mut bands);
    log_mel.finish(&mut bands);
    let peak = bands.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scale_token_mel(&mut bands, peak);
    bands
}

/// Floors logarithmic bands 8 below the clip's `peak`, and maps them to about −1 to 1.
pub(super) fn scale_token_mel(bands: &mut [f32], peak: f32) {
    for band in bands {
        *band = (band.max(peak - 8.0) + 4.0) / 4.0;
    }
}

/// The speech tokenizer's logarithmic mel bands of a clip that is read piece by piece: those of the
/// whole clip, bit for bit.
pub(super) struct TokenLogMel {
    mel: MelConfig,
    bank: FilterBank,
    window: Vec<f64>,
    /// Samples from the next frame's first one on. The first frames reach into the reflection of
    /// the clip's start, which is known once enough samples are.
    waiting: Vec<f64>,
    /// Samples of a clip whose start cannot be reflected yet.
    start: Option<Vec<f32>>,
    samples: usize,
    frames: usize,
}

impl TokenLogMel {
    pub(super) fn new(mel: &MelConfig) -> TokenLogMel {
        TokenLogMel {
            mel: *mel,
            bank: filters(mel),
            window: hann(mel.fft),
            waiting: Vec::new(),
            start: Some(Vec::new()),
            samples: 0,
            frames: 0,
        }
    }

    /// Takes the next samples and appends the frames that they complete.
    pub(super) fn push(&mut self, samples: &[f32], bands: &mut Vec<f32>) {
        self.samples += samples.len();
        match &mut self.start {
            None => self.waiting.extend(samples.iter().map(|&s| f64::from(s))),
            Some(start) => {
                start.extend_from_slice(samples);
                let half = self.mel.fft / 2;
                if start.len() <= self.mel.fft {
                    return;
                }
                let padded = pad(start, half);
                self.waiting = padded[..padded.len() - half].to_vec();
                self.start = None;
            }
        }
        self.take(bands);
    }

    /// Appends the remaining frames but the last one, which the tokenizer drops.
    pub(super) fn finish(mut self, bands: &mut Vec<f32>) {
        let half = self.mel.fft / 2;
        self.waiting = match self.start.take() {
            Some(start) => pad(&start, half),
            None => {
                // At least half a window of samples waits: the next frame reaches back so far.
                let known = self.waiting.len();
                let mirrored = (2..half + 2).map(|back| self.waiting[known - back]);
                let mirrored: Vec<f64> = mirrored.collect();
                [std::mem::take(&mut self.waiting), mirrored].concat()
            }
        };
        let left = (self.samples / self.mel.hop).saturating_sub(self.frames);
        let reach = match left {
            0 => 0,
            left => (left - 1) * self.mel.hop + self.mel.fft,
        };
        self.waiting.truncate(reach);
        self.take(bands);
    }

    fn take(&mut self, bands: &mut Vec<f32>) {
        let bank = &self.bank;
        let taken = power(&self.waiting, &self.window, self.mel.hop, |_, spectrum| {
            let applied = bank.apply(spectrum);
            bands.extend(applied.map(|band| (band as f32).max(1e-10).log10()));
        });
        self.frames += taken;
        self.waiting.drain(..taken * self.mel.hop);
    }
}

/// The speech decoder's prompt mel spectrogram: magnitude, natural logarithm, padded so that there
/// are samples ÷ hop frames.
pub(super) fn prompt_mel(samples: &[f32], mel: &MelConfig) -> Vec<f32> {
    let bank = filters(mel);
    let mut bands = Vec::new();
    let mut magnitudes = vec![0.0; mel.fft / 2 + 1];
    power(
        &pad(samples, (mel.fft - mel.hop) / 2),
        &hann(mel.fft),
        mel.hop,
        |_, spectrum| {
            for (magnitude, &power) in magnitudes.iter_mut().zip(spectrum) {
                *magnitude = (power + 1e-9).sqrt();
            }
            bands.extend(
                bank.apply(&magnitudes)
                    .map(|band| (band as f32).max(1e-5).ln()),
            );
        },
    );
    bands
}

/// Kaldi's log filter banks at 16 kHz, 25 ms every 10 ms, with each band's mean over time
/// subtracted. A clip shorter than a frame has none.
pub(super) fn kaldi_banks(samples: &[f32], bands: usize) -> Vec<f32> {
    const SAMPLE_RATE: f64 = 16_000.0;
    const FRAME: usize = 400;
    const HOP: usize = 160;
    const FFT: usize = 512;
    const PRE_EMPHASIS: f64 = 0.97;
    let bank = FilterBank::kaldi(SAMPLE_RATE, FFT, bands);
    // Povey's window: a symmetric Hann window to the power 0.85.
    let window: Vec<f64> = (0..FRAME)
        .map(|index| {
            (0.5 - 0.5 * (std::f64::consts::TAU * index as f64 / (FRAME - 1) as f64).cos())
                .powf(0.85)
        })
        .collect();
    let ones = vec![1.0; FFT];
    let frames = samples
        .len()
        .checked_sub(FRAME)
        .map_or(0, |rest| rest / HOP + 1);
    let mut banks = Vec::with_capacity(frames * bands);
    let mut frame = vec![0.0; FFT];
    for index in 0..frames {
        let part = &samples[index * HOP..index * HOP + FRAME];
        let mean = part.iter().map(|&sample| f64::from(sample)).sum::<f64>() / FRAME as f64;
        let mut previous = f64::from(part[0]) - mean;
        for ((value, &sample), &weight) in frame.iter_mut().zip(part).zip(&window) {
            let sample = f64::from(sample) - mean;
            *value = (sample - PRE_EMPHASIS * previous) * weight;
            previous = sample;
        }
        power(&frame, &ones, FFT, |_, spectrum| {
            banks.extend(
                bank.apply(spectrum)
                    .map(|band| (band as f32).max(f32::EPSILON).ln()),
            );
        });
    }
    for band in 0..bands {
        let mean = banks
            .iter()
            .skip(band)
            .step_by(bands)
            .map(|&value| f64::from(value))
            .sum::<f64>()
            / frames.max(1) as f64;
        banks
            .iter_mut()
            .skip(band)
            .step_by(bands)
            .for_each(|value| *value -= mean as f32);
    }
    banks
}

/// The part of a clip between the first and the last frame (2048 samples, 512 apart) within
/// `decibels` of the loudest one.
pub(super) fn trim(samples: &[f32], decibels: f32) -> &[f32] {
    const FRAME: usize = 2048;
    const HOP: usize = 512;
    // Centred frames with zero padding.
    let frames = samples.len() / HOP + 1;
    let powers: Vec<f64> = (0..frames)
        .map(|index| {
            let middle = index * HOP;
            let part =
                &samples[middle.saturating_sub(FRAME / 2)..(middle + FRAME / 2).min(samples.len())];
            part.iter()
                .map(|&sample| f64::from(sample).powi(2))
                .sum::<f64>()
                / FRAME as f64
        })
        .collect();
    const FLOOR: f64 = 1e-10;
    let peak = powers.iter().copied().fold(FLOOR, f64::max);
    let loud = |power: &f64| 10.0 * (power.max(FLOOR) / peak).log10() > -f64::from(decibels);
    match (powers.iter().position(loud), powers.iter().rposition(loud)) {
        (Some(first), Some(last)) => {
            &samples[(first * HOP).min(samples.len())..((last + 1) * HOP).min(samples.len())]
        }
        _ => &samples[..0],
    }
}
