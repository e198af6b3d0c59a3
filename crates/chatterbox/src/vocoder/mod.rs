//! HiFT: mel frames to samples, driven by a harmonic source (Li, Han, Jiang and Mesgarani,
//! "HiFTNet", 2023).
//!
//! The fundamental frequency is predicted from the mel frames. Sines at its multiples, or noise in
//! unvoiced frames, form a source signal, whose short-time spectrum is added to the upsampled mel
//! at every stage. The last stage outputs the spectrum of the signal.

pub mod exact;
mod source;
mod stream;

pub use source::SourceState;
pub use stream::{AHEAD_FRAMES, VocoderState};

use crate::config::VocoderConfig;
use crate::config::{F0_KERNEL, OUTER_KERNEL};
use crate::weights::{Conv1dSizes, Loader, WeightsError};
use sottovoce_tensor::{
    Activation, Context, Conv1d, ConvTranspose1d, Convolving, Linear, Padding, Stft, Store, Tensor,
    Vector, View,
};

/// Slope of PyTorch's leaky ReLU by default.
const DEFAULT_SLOPE: f32 = 0.01;
/// Upper bound of the magnitude.
const MAGNITUDE_MAX: f32 = 100.0;
const PREFIX: &str = "mel2wav";

/// The vocoder's weights.
pub struct Vocoder {
    config: VocoderConfig,
    f0_layers: Vec<Conv1d>,
    f0_out: Linear,
    merge: Linear,
    first: Conv1d,
    stages: Vec<UpsamplingBlock>,
    last: Conv1d,
    transform: Stft,
}

/// One upsampling with its source and residual blocks.
struct UpsamplingBlock {
    up: ConvTranspose1d,
    source_down: Conv1d,
    source_block: ResidualBlock,
    blocks: Vec<ResidualBlock>,
}

/// Pairs of dilated and plain convolutions, each after a Snake.
struct ResidualBlock {
    layers: Vec<ResidualLayer>,
}

struct ResidualLayer {
    alpha1: Vector,
    conv1: Conv1d,
    alpha2: Vector,
    conv2: Conv1d,
}

impl ResidualBlock {
    fn load(
        loader: &mut Loader<'_>,
        name: &str,
        channels: usize,
        kernel: usize,
        dilations: &[usize],
    ) -> Result<ResidualBlock, WeightsError> {
        let mut layers = Vec::with_capacity(dilations.len());
        for (index, &dilation) in dilations.iter().enumerate() {
            let sizes = Conv1dSizes::new(channels, channels, kernel);
            layers.push(ResidualLayer {
                alpha1: loader.vector(&format!("{name}.activations1.{index}.alpha"), channels)?,
                conv1: loader.conv1d(
                    &format!("{name}.convs1.{index}"),
                    Conv1dSizes { dilation, ..sizes }.same(),
                )?,
                alpha2: loader.vector(&format!("{name}.activations2.{index}.alpha"), channels)?,
                conv2: loader.conv1d(&format!("{name}.convs2.{index}"), sizes.same())?,
            });
        }
        Ok(ResidualBlock { layers })
    }

    /// `[time, channels]` → the same shape, in place.
    fn forward(&self, ctx: &Context<'_>, mut sum: Tensor) -> Tensor {
        for layer in &self.layers {
            let inside = Convolving {
                snake: Some(&layer.alpha1),
                ..Convolving::default()
            };
            let inner = ctx.conv1d_with(&sum, &layer.conv1, &inside);
            let onto_sum = Convolving {
                snake: Some(&layer.alpha2),
                store: Store::Add,
                ..Convolving::default()
            };
            ctx.conv1d_into(&inner, &layer.conv2, &onto_sum, &mut sum);
        }
        sum
    }
}

impl UpsamplingBlock {
    /// The mean of the residual blocks: `[time, channels]` → the same shape.
    fn residuals(&self, ctx: &Context<'_>, x: Tensor) -> Tensor {
        let Some((last, others)) = self.blocks.split_last() else {
            return x;
        };
        let mut sum: Option<Tensor> = None;
        for block in others {
            let part = block.forward(ctx, ctx.copy(&x));
            match &mut sum {
                Some(sum) => ctx.add(sum, &part),
                None => sum = Some(part),
            }
        }
        let part = last.forward(ctx, x);
        match sum {
            Some(mut sum) => {
                let share = 1.0 / self.blocks.len() as f32;
                ctx.add_scaled(&mut sum, share, &part, share);
                sum
            }
            None => part,
        }
    }
}

impl Vocoder {
    /// Loads the vocoder's tensors; `mel_bands` is the number of mel bands.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(
        loader: &mut Loader<'_>,
        config: &VocoderConfig,
        mel_bands: usize,
    ) -> Result<Vocoder, WeightsError> {
        let mut f0_layers = Vec::with_capacity(config.f0_layers);
        for layer in 0..config.f0_layers {
            let inputs = if layer == 0 {
                mel_bands
            } else {
                config.f0_channels
            };
            // Activations lie between the convolutions, so convolutions have the even indices.
            let name = format!("{PREFIX}.f0_predictor.condnet.{}", 2 * layer);
            f0_layers.push(loader.conv1d(
                &name,
                Conv1dSizes::new(config.f0_channels, inputs, F0_KERNEL).same(),
            )?);
        }
        let f0_out = loader.linear(
            &format!("{PREFIX}.f0_predictor.classifier"),
            [1, config.f0_channels],
            true,
        )?;
        let merge = loader.linear(
            &format!("{PREFIX}.m_source.l_linear"),
            [1, config.source.harmonics + 1],
            true,
        )?;
        let first = loader.conv1d(
            &format!("{PREFIX}.conv_pre"),
            Conv1dSizes::new(config.channels, mel_bands, OUTER_KERNEL).same(),
        )?;
        let bins = config.fft + 2;
        let mut stages = Vec::with_capacity(config.upsampling.len());
        for (index, (&factor, &kernel)) in config
            .upsampling
            .iter()
            .zip(&config.upsampling_kernels)
            .enumerate()
        {
            let channels = config.channels >> (index + 1);
            let up = loader.conv_transpose1d(
                &format!("{PREFIX}.ups.{index}"),
                [channels, channels * 2, kernel],
                factor,
                (kernel - factor) / 2,
            )?;
            let down: usize = config.upsampling[index + 1..].iter().product();
            let sizes = match down {
                1 => Conv1dSizes::new(channels, bins, 1),
                _ => Conv1dSizes {
                    stride: down,
                    padding: Padding {
                        left: down / 2,
                        right: down / 2,
                    },
                    ..Conv1dSizes::new(channels, bins, 2 * down)
                },
            };
            let source_down = loader.conv1d(&format!("{PREFIX}.source_downs.{index}"), sizes)?;
            let source_name = format!("{PREFIX}.source_resblocks.{index}");
            let source_block = ResidualBlock::load(
                loader,
                &source_name,
                channels,
                config.source_residual_kernels[index],
                &config.residual_dilations,
            )?;
            let mut blocks = Vec::with_capacity(config.residual_kernels.len());
            for (block, &kernel) in config.residual_kernels.iter().enumerate() {
                let name = format!(
                    "{PREFIX}.resblocks.{}",
                    index * config.residual_kernels.len() + block
                );
                blocks.push(ResidualBlock::load(
                    loader,
                    &name,
                    channels,
                    kernel,
                    &config.residual_dilations,
                )?);
            }
            stages.push(UpsamplingBlock {
                up,
                source_down,
                source_block,
                blocks,
            });
        }
        let channels = config.channels >> config.upsampling.len();
        let last = loader.conv1d(
            &format!("{PREFIX}.conv_post"),
            Conv1dSizes::new(bins, channels, OUTER_KERNEL).same(),
        )?;
        Ok(Vocoder {
            config: config.clone(),
            f0_layers,
            f0_out,
            merge,
            first,
            stages,
            last,
            transform: Stft::new(config.fft, config.hop),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &VocoderConfig {
        &self.config
    }

    /// Fundamental frequency of each mel frame in Hz: `[frames, bands]` → `[frames, 1]`.
    pub fn f0<'v>(&self, ctx: &Context<'_>, mel: impl Into<View<'v>>) -> Tensor {
        let mut x = ctx.copy(mel);
        for layer in &self.f0_layers {
            x = ctx.conv1d_activated(&x, layer, Activation::Elu);
        }
        ctx.linear_activated(&x, &self.f0_out, Activation::Abs)
    }

    /// Merges the harmonics `[samples, harmonics + 1]` into one source signal `[samples, 1]`.
    pub fn merge_source(&self, ctx: &Context<'_>, harmonics: &Tensor) -> Tensor {
        ctx.linear_activated(harmonics, &self.merge, Activation::Tanh)
    }

    /// Mel frames `[frames, bands]` and source signal `[samples, 1]` → samples `[samples, 1]`.
    pub fn decode<'v>(
        &self,
        ctx: &Context<'_>,
        mel: impl Into<View<'v>>,
        source: &Tensor,
    ) -> Tensor {
        let source_spectrum = ctx.spectrum(source, &self.transform);
        let mut x = ctx.conv1d(mel, &self.first);
        for (index, stage) in self.stages.iter().enumerate() {
            if let Some(before) = index.checked_sub(1) {
                x = self.stages[before].residuals(ctx, x);
            }
            ctx.activate(&mut x, Activation::LeakyRelu(self.config.leaky_slope));
            x = ctx.conv_transpose1d(&x, &stage.up);
            if index + 1 == self.stages.len() {
                // The spectrum has one frame more than the mel has hops: the second row is mirrored
                // before the first.
                x = ctx.concat_rows(&[x.view().rows(1..2), x.view()]);
            }
            let down = ctx.conv1d(&source_spectrum, &stage.source_down);
            let from_source = stage.source_block.forward(ctx, down);
            ctx.add(&mut x, &from_source);
        }
        // The last stage's blocks have the largest tensors.
        drop(source_spectrum);
        if let Some(last) = self.stages.last() {
            x = last.residuals(ctx, x);
        }
        ctx.activate(&mut x, Activation::LeakyRelu(DEFAULT_SLOPE));
        let spectrum = ctx.conv1d(&x, &self.last);
        drop(x);
        let sample_max = self.config.sample_max;
        ctx.overlap_add(&spectrum, &self.transform, MAGNITUDE_MAX, sample_max)
    }
}
