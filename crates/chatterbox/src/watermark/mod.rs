//! Perth's implicit watermark: a small network adds a residual to the lower bands of the magnitude
//! spectrum, and another one detects it. Samples are at [`PerthConfig::sample_rate`].
//!
//! The trained weights are part of the package `resemble-perth`; `reference/watermark.py convert`
//! writes them as safetensors.

mod spectrum;
mod stream;

pub use stream::MarkState;

use crate::weights::{Conv1dSizes, Loader, WeightSource, WeightsError};
use realfft::num_complex::Complex32;
use sottovoce_tensor::{Activation, Context, Conv1d, Failure, Tensor};
use spectrum::Spectrum;

/// Negative slope of every leaky ReLU.
const SLOPE: f32 = 0.01;
/// Number of convolutions between the first and the last one of each stack.
const MIDDLE_LAYERS: usize = 5;
const MIDDLE_KERNEL: usize = 7;
/// Decibels above full scale in the range of the normalised spectrum.
const HEADROOM: f32 = 15.0;
const ENCODER: &str = "perth.encoder.layers";
/// Frames below this share of the loudest frame are not marked.
const AUDIBLE_PART: f32 = 0.05;

/// Configuration of Perth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerthConfig {
    /// Sample rate in Hz.
    pub sample_rate: u32,
    /// Samples per transform.
    pub fft: usize,
    /// Samples from one frame to the next.
    pub hop: usize,
    /// Highest frequency that is marked, in Hz.
    pub frequency_max: f32,
    /// Smallest magnitude above silence.
    pub magnitude_min: f32,
    /// Channels of the networks.
    pub hidden: usize,
}

impl Default for PerthConfig {
    fn default() -> PerthConfig {
        PerthConfig {
            sample_rate: 32_000,
            fft: 2048,
            hop: 320,
            frequency_max: 2000.0,
            magnitude_min: 1e-9,
            hidden: 256,
        }
    }
}

impl PerthConfig {
    /// The configuration of the weights in `source`.
    pub fn of(source: &WeightSource) -> PerthConfig {
        let official = PerthConfig::default();
        let channels = source.shape(&format!("{ENCODER}.0.conv.weight"));
        PerthConfig {
            hidden: channels
                .and_then(|shape| shape.first().copied())
                .unwrap_or(official.hidden),
            ..official
        }
    }

    /// Number of marked bins, from the lowest on.
    pub fn marked_bins(&self) -> usize {
        let bins = (self.fft / 2 + 1) as f32;
        (bins * self.frequency_max / (self.sample_rate as f32 / 2.0)).round() as usize
    }

    /// Level of the smallest magnitude in decibels, and the range from there to the top of the
    /// headroom.
    fn range(&self) -> (f32, f32) {
        let lowest = 20.0 * self.magnitude_min.log10();
        (lowest, HEADROOM - lowest)
    }
}

/// A stack of convolutions: one at each end, some in between, a leaky ReLU after all but the last.
struct Stack {
    layers: Vec<Conv1d>,
}

impl Stack {
    fn load(
        loader: &mut Loader<'_>,
        name: &str,
        inputs: usize,
        hidden: usize,
        outputs: usize,
    ) -> Result<Stack, WeightsError> {
        let last = MIDDLE_LAYERS + 1;
        let layers = (0..=last)
            .map(|layer| {
                let sizes = match layer {
                    0 => Conv1dSizes::new(hidden, inputs, 1),
                    layer if layer == last => Conv1dSizes::new(outputs, hidden, 1),
                    _ => Conv1dSizes::new(hidden, hidden, MIDDLE_KERNEL).same(),
                };
                loader.conv1d(&format!("{name}.{layer}.conv"), sizes)
            })
            .collect::<Result<_, _>>()?;
        Ok(Stack { layers })
    }

    fn forward(&self, ctx: &Context<'_>, x: &Tensor) -> Tensor {
        let mut hidden = ctx.copy(x);
        for (index, layer) in self.layers.iter().enumerate() {
            let activation = if index + 1 < self.layers.len() {
                Activation::LeakyRelu(SLOPE)
            } else {
                Activation::Identity
            };
            hidden = ctx.conv1d_activated(&hidden, layer, activation);
        }
        hidden
    }
}

/// The network that embeds the watermark.
pub struct Marker {
    config: PerthConfig,
    encoder: Stack,
    spectrum: Spectrum,
}

impl Marker {
    /// Loads the weights.
    ///
    /// # Errors
    /// [`WeightsError`] names the tensor that is missing or has another shape.
    pub fn load(loader: &mut Loader<'_>, config: &PerthConfig) -> Result<Marker, WeightsError> {
        let (marked, hidden) = (config.marked_bins(), config.hidden);
        Ok(Marker {
            config: *config,
            encoder: Stack::load(loader, ENCODER, marked, hidden, marked)?,
            spectrum: Spectrum::new(config.fft, config.hop),
        })
    }

    /// The marked samples; the last, incomplete hop is dropped. Empty in a dry run.
    ///
    /// # Errors
    /// If memory ran out or the device failed.
    pub fn embed(&self, ctx: &Context<'_>, samples: &[f32]) -> Result<Vec<f32>, Failure> {
        let mut loudest = f32::NEG_INFINITY;
        self.embed_after(ctx, samples, &mut loudest)
    }

    /// As [`Marker::embed`]; `loudest` is the level of the loudest frame so far, and is updated.
    fn embed_after(
        &self,
        ctx: &Context<'_>,
        samples: &[f32],
        loudest: &mut f32,
    ) -> Result<Vec<f32>, Failure> {
        if samples.is_empty() {
            return Ok(Vec::new());
        }
        let (config, spectrum) = (&self.config, &self.spectrum);
        let frames = spectrum.frames(samples.len());
        let (levels, audible) = levels(ctx, config, spectrum, samples, loudest);
        let residual = self.encoder.forward(ctx, &levels);
        drop(levels);
        // A residual in decibels scales the bins and keeps their phases.
        let (lowest, range) = config.range();
        let columns = residual.columns();
        ctx.read(&residual, |residual| {
            spectrum.signal(samples, frames, |frame, bins| {
                for (bin, value) in bins.iter_mut().enumerate() {
                    let mut level = decibels(*value, config.magnitude_min);
                    if bin < columns && audible[frame] {
                        let added = residual[frame * columns + bin];
                        level = ((level - lowest) / range + added) * range + lowest;
                    }
                    let magnitude = 10.0f32.powf((level / 20.0).min(10.0));
                    *value = Complex32::from_polar(magnitude, value.arg());
                }
            })
        })
    }
}

/// The watermark's networks.
pub struct Perth {
    marker: Marker,
    /// For audio that was slowed down, unchanged, or sped up.
    decoders: [Stack; 3],
}

/// Lengths at which the decoders run, relative to the clip's.
const SPEEDS: [f64; 3] = [1.25, 1.0, 0.75];

impl Perth {
    /// Loads the weights.
    ///
    /// # Errors
    /// [`WeightsError`] names the tensor that is missing or has another shape.
    pub fn load(loader: &mut Loader<'_>, config: &PerthConfig) -> Result<Perth, WeightsError> {
        let (marked, hidden) = (config.marked_bins(), config.hidden);
        let mut decoder = |speed: &str| {
            Stack::load(
                loader,
                &format!("perth.decoder.{speed}_layers"),
                marked,
                hidden,
                2,
            )
        };
        let decoders = [decoder("slow")?, decoder("normal")?, decoder("fast")?];
        Ok(Perth {
            marker: Marker::load(loader, config)?,
            decoders,
        })
    }

    /// Expected sample rate in Hz.
    pub fn sample_rate(&self) -> u32 {
        self.marker.config.sample_rate
    }

    /// The marked samples; the last, incomplete hop is dropped. Empty in a dry run.
    ///
    /// # Errors
    /// If memory ran out or the device failed.
    pub fn embed(&self, ctx: &Context<'_>, samples: &[f32]) -> Result<Vec<f32>, Failure> {
        self.marker.embed(ctx, samples)
    }

    /// Probability that samples carry the watermark, from 0 to 1; 0 for an empty clip and in a dry
    /// run.
    ///
    /// # Errors
    /// If memory ran out or the device failed.
    pub fn detect(&self, ctx: &Context<'_>, samples: &[f32]) -> Result<f32, Failure> {
        Ok(self.confidence(ctx, samples)?.clamp(0.0, 1.0))
    }

    /// As [`Perth::detect`], without clamping the network's output.
    ///
    /// # Errors
    /// As [`Perth::detect`].
    pub fn confidence(&self, ctx: &Context<'_>, samples: &[f32]) -> Result<f32, Failure> {
        if samples.is_empty() {
            return Ok(0.0);
        }
        let (config, spectrum) = (&self.marker.config, &self.marker.spectrum);
        let mut loudest = f32::NEG_INFINITY;
        let (levels, audible) = levels(ctx, config, spectrum, samples, &mut loudest);
        let (frames, columns) = (levels.rows(), levels.columns());
        let levels = ctx.download(&levels)?;
        let mut verdicts = [(0.0f32, 0.0f32); 3];
        for ((decoder, speed), verdict) in self.decoders.iter().zip(SPEEDS).zip(&mut verdicts) {
            let length = ((frames as f64 * speed) as usize).max(1);
            let mut stretched = ctx.tensor(&[length, columns]);
            ctx.write(&mut stretched, |rows| resize_rows(&levels, columns, rows));
            let out = decoder.forward(ctx, &stretched);
            *verdict = ctx.read(&out, |out| {
                let heard: Vec<&[f32]> = (out.chunks_exact(2).enumerate())
                    .filter(|&(place, _)| audible[place * frames / length])
                    .map(|(_, pair)| pair)
                    .collect();
                let sum = |part: usize| heard.iter().map(|pair| pair[part]).sum::<f32>();
                let count = heard.len() as f32;
                (sum(0) / count, sum(1) / count)
            })?;
        }
        let most = verdicts
            .iter()
            .map(|verdict| verdict.0)
            .fold(f32::NEG_INFINITY, f32::max);
        let weights = verdicts.map(|verdict| (verdict.0 - most).exp());
        let sum: f32 = weights.iter().sum();
        Ok(weights
            .iter()
            .zip(&verdicts)
            .map(|(weight, verdict)| weight / sum * verdict.1)
            .sum())
    }
}

/// The normalised levels of the marked bins, `[frames, marked bins]`, and whether each frame is
/// loud enough relative to the loudest one so far.
fn levels(
    ctx: &Context<'_>,
    config: &PerthConfig,
    spectrum: &Spectrum,
    samples: &[f32],
    loudest: &mut f32,
) -> (Tensor, Vec<bool>) {
    let marked = config.marked_bins();
    let frames = spectrum.frames(samples.len());
    let mut levels = ctx.tensor(&[frames, marked]);
    let (lowest, range) = config.range();
    let mut loudness = vec![0.0f32; frames];
    ctx.write(&mut levels, |levels| {
        spectrum.each_frame(samples, |frame, bins| {
            for (bin, &value) in bins.iter().enumerate() {
                let level = (decibels(value, config.magnitude_min) - lowest) / range;
                loudness[frame] += level;
                if bin < marked {
                    levels[frame * marked + bin] = level;
                }
            }
        });
    });
    *loudest = loudness.iter().copied().fold(*loudest, f32::max);
    let threshold = *loudest * AUDIBLE_PART;
    (
        levels,
        loudness.into_iter().map(|sum| sum > threshold).collect(),
    )
}

fn decibels(value: Complex32, least: f32) -> f32 {
    20.0 * value.norm().max(least).log10()
}

/// Interpolates rows to the number of rows of `out`; the first and the last are kept.
fn resize_rows(x: &[f32], columns: usize, out: &mut [f32]) {
    let (rows, length) = (x.len() / columns, out.len() / columns);
    let step = if length > 1 {
        (rows - 1) as f32 / (length - 1) as f32
    } else {
        0.0
    };
    for (index, row) in out.chunks_exact_mut(columns).enumerate() {
        let place = index as f32 * step;
        let before = (place as usize).min(rows - 1);
        let after = (before + 1).min(rows - 1);
        let weight = place - before as f32;
        let (before, after) = (&x[before * columns..], &x[after * columns..]);
        for ((value, &before), &after) in row.iter_mut().zip(before).zip(after) {
            *value = (1.0 - weight) * before + weight * after;
        }
    }
}
