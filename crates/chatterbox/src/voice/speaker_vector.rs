//! CAMPPlus: Kaldi filter banks to an x-vector, through a two-dimensional head and densely
//! connected time-delay layers with context-aware masking.

use super::front_end::kaldi_banks;
use crate::config::SpeakerVectorConfig;
use crate::weights::{Conv1dSizes, Loader, WeightsError};
use sottovoce_tensor::{
    Activation, Context, Conv1d, Conv2d, Failure, Linear, Padding, Tensor, Vector, View,
};

/// Number of times that the head halves the bands.
const HEAD_HALVINGS: usize = 3;

/// A folded batch norm, followed by a ReLU.
#[derive(Debug)]
struct NormRectified {
    scale: Vector,
    shift: Vector,
}

#[derive(Debug)]
struct ResidualBlock {
    first: Conv2d,
    second: Conv2d,
    shortcut: Option<Conv2d>,
}

#[derive(Debug)]
struct DenseLayer {
    norm: NormRectified,
    bottleneck: Linear,
    bottleneck_norm: NormRectified,
    local: Conv1d,
    context_in: Linear,
    context_out: Linear,
}

#[derive(Debug)]
struct DenseBlock {
    layers: Vec<DenseLayer>,
    norm: NormRectified,
    transit: Linear,
}

/// Recordings to x-vectors.
#[derive(Debug)]
pub struct SpeakerVector {
    config: SpeakerVectorConfig,
    head_in: Conv2d,
    head_blocks: Vec<ResidualBlock>,
    head_out: Conv2d,
    delay: Conv1d,
    delay_norm: NormRectified,
    blocks: Vec<DenseBlock>,
    norm: NormRectified,
    dense: Linear,
    dense_scale: Vector,
    dense_shift: Vector,
}

impl NormRectified {
    fn load(
        loader: &mut Loader<'_>,
        name: &str,
        channels: usize,
    ) -> Result<NormRectified, WeightsError> {
        let (scale, shift) = loader.batch_norm(name, channels, true)?;
        Ok(NormRectified { scale, shift })
    }

    fn apply(&self, ctx: &Context<'_>, x: &mut Tensor) {
        ctx.multiply(&mut *x, self.scale.view());
        ctx.add(&mut *x, self.shift.view());
        ctx.activate(x, Activation::Relu);
    }
}

impl ResidualBlock {
    fn load(
        loader: &mut Loader<'_>,
        name: &str,
        channels: usize,
        stride: usize,
    ) -> Result<ResidualBlock, WeightsError> {
        let part = |part: &str| format!("{name}.{part}");
        let sizes = [channels, channels, 3];
        Ok(ResidualBlock {
            first: loader.conv2d_normed(&part("conv1"), &part("bn1"), sizes, [stride, 1])?,
            second: loader.conv2d_normed(&part("conv2"), &part("bn2"), sizes, [1, 1])?,
            shortcut: match stride {
                1 => None,
                _ => Some(loader.conv2d_normed(
                    &part("shortcut.0"),
                    &part("shortcut.1"),
                    [channels, channels, 1],
                    [stride, 1],
                )?),
            },
        })
    }

    fn forward(&self, ctx: &Context<'_>, x: Tensor) -> Tensor {
        let inner = ctx.conv2d(&x, &self.first, Activation::Relu);
        let mut out = ctx.conv2d(&inner, &self.second, Activation::Identity);
        match &self.shortcut {
            Some(shortcut) => ctx.add(&mut out, &ctx.conv2d(&x, shortcut, Activation::Identity)),
            None => ctx.add(&mut out, &x),
        }
        ctx.activate(&mut out, Activation::Relu);
        out
    }
}

impl SpeakerVector {
    /// Loads the weights.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(
        loader: &mut Loader<'_>,
        config: &SpeakerVectorConfig,
    ) -> Result<SpeakerVector, WeightsError> {
        let root = |part: &str| format!("speaker_encoder.{part}");
        let head = config.head_channels;
        let head_in =
            loader.conv2d_normed(&root("head.conv1"), &root("head.bn1"), [head, 1, 3], [1, 1])?;
        let mut head_blocks = Vec::new();
        for layer in 1..=2 {
            for block in 0..2 {
                head_blocks.push(ResidualBlock::load(
                    loader,
                    &root(&format!("head.layer{layer}.{block}")),
                    head,
                    if block == 0 { 2 } else { 1 },
                )?);
            }
        }
        let head_out = loader.conv2d_normed(
            &root("head.conv2"),
            &root("head.bn2"),
            [head, head, 3],
            [2, 1],
        )?;
        let rows = config.bands >> HEAD_HALVINGS;
        let delay_sizes = Conv1dSizes {
            stride: 2,
            padding: Padding { left: 2, right: 2 },
            bias: false,
            // The head's planes are stored channel by channel in the checkpoint and row by row
            // here.
            input_groups: rows,
            ..Conv1dSizes::new(config.channels, head * rows, 5)
        };
        let delay = loader.conv1d(&root("xvector.tdnn.linear"), delay_sizes)?;
        let delay_norm = NormRectified::load(
            loader,
            &root("xvector.tdnn.nonlinear.batchnorm"),
            config.channels,
        )?;
        let mut channels = config.channels;
        let mut blocks = Vec::new();
        for (index, (&count, &dilation)) in config
            .block_layers
            .iter()
            .zip(&config.block_dilations)
            .enumerate()
        {
            let layers = (0..count)
                .map(|layer| {
                    let name = root(&format!("xvector.block{}.tdnnd{}", index + 1, layer + 1));
                    DenseLayer::load(
                        loader,
                        &name,
                        channels + layer * config.growth,
                        dilation,
                        config,
                    )
                })
                .collect::<Result<Vec<_>, _>>()?;
            channels += count * config.growth;
            let transit = root(&format!("xvector.transit{}", index + 1));
            blocks.push(DenseBlock {
                layers,
                norm: NormRectified::load(
                    loader,
                    &format!("{transit}.nonlinear.batchnorm"),
                    channels,
                )?,
                transit: loader.pointwise(
                    &format!("{transit}.linear"),
                    [channels / 2, channels],
                    false,
                )?,
            });
            channels /= 2;
        }
        let norm = NormRectified::load(loader, &root("xvector.out_nonlinear.batchnorm"), channels)?;
        let dense = loader.pointwise(
            &root("xvector.dense.linear"),
            [config.embedding, 2 * channels],
            false,
        )?;
        let (dense_scale, dense_shift) = loader.batch_norm(
            &root("xvector.dense.nonlinear.batchnorm"),
            config.embedding,
            false,
        )?;
        let config = config.clone();
        Ok(SpeakerVector {
            config,
            head_in,
            head_blocks,
            head_out,
            delay,
            delay_norm,
            blocks,
            norm,
            dense,
            dense_scale,
            dense_shift,
        })
    }

    /// The x-vector `[embedding]` of samples at 16 kHz.
    ///
    /// # Errors
    /// If memory ran out or the device failed.
    pub fn embed(&self, ctx: &Context<'_>, samples: &[f32]) -> Result<Vec<f32>, Failure> {
        let bands = self.config.bands;
        let banks = kaldi_banks(samples, bands);
        let time = banks.len() / bands;
        // The head's input is a plane of bands by time.
        let plane: Vec<f32> = (0..bands)
            .flat_map(|band| banks.iter().skip(band).step_by(bands).copied())
            .collect();
        let x = ctx.upload(&[bands, time, 1], &plane);
        let mut x = ctx.conv2d(&x, &self.head_in, Activation::Relu);
        for block in &self.head_blocks {
            x = block.forward(ctx, x);
        }
        let x = ctx.conv2d(&x, &self.head_out, Activation::Relu);
        let planes: Vec<View<'_>> = (0..x.dim(0))
            .map(|row| x.view().rows(row * time..(row + 1) * time))
            .collect();
        let x = ctx.concat_columns(&planes);
        let mut x = ctx.conv1d(&x, &self.delay);
        self.delay_norm.apply(ctx, &mut x);
        for block in &self.blocks {
            for layer in &block.layers {
                let new = layer.forward(ctx, &x, self.config.segment);
                x = ctx.concat_columns(&[x.view(), new.view()]);
            }
            block.norm.apply(ctx, &mut x);
            x = ctx.linear(&x, &block.transit);
        }
        self.norm.apply(ctx, &mut x);
        let pooled = ctx.moments(&x);
        let mut embedding = ctx.linear(&pooled, &self.dense);
        ctx.multiply(&mut embedding, self.dense_scale.view());
        ctx.add(&mut embedding, self.dense_shift.view());
        ctx.download(&embedding)
    }
}

impl DenseLayer {
    fn load(
        loader: &mut Loader<'_>,
        name: &str,
        inputs: usize,
        dilation: usize,
        config: &SpeakerVectorConfig,
    ) -> Result<DenseLayer, WeightsError> {
        let part = |part: &str| format!("{name}.{part}");
        let inner = config.bottleneck;
        let local = Conv1dSizes {
            dilation,
            bias: false,
            ..Conv1dSizes::new(config.growth, inner, config.kernel)
        }
        .same();
        Ok(DenseLayer {
            norm: NormRectified::load(loader, &part("nonlinear1.batchnorm"), inputs)?,
            bottleneck: loader.pointwise(&part("linear1"), [inner, inputs], false)?,
            bottleneck_norm: NormRectified::load(loader, &part("nonlinear2.batchnorm"), inner)?,
            local: loader.conv1d(&part("cam_layer.linear_local"), local)?,
            context_in: loader.pointwise(&part("cam_layer.linear1"), [inner / 2, inner], true)?,
            context_out: loader.pointwise(
                &part("cam_layer.linear2"),
                [config.growth, inner / 2],
                true,
            )?,
        })
    }

    fn forward(&self, ctx: &Context<'_>, x: &Tensor, segment: usize) -> Tensor {
        let mut x = ctx.copy(x);
        self.norm.apply(ctx, &mut x);
        let mut x = ctx.linear(&x, &self.bottleneck);
        self.bottleneck_norm.apply(ctx, &mut x);
        let mut out = ctx.conv1d(&x, &self.local);
        // One mask per segment, from the means of the clip and of the segment.
        let pooled = ctx.segment_means(&x, segment);
        let segments = pooled.rows();
        let inner = ctx.linear_activated(&pooled, &self.context_in, Activation::Relu);
        let masks = ctx.linear_activated(&inner, &self.context_out, Activation::Sigmoid);
        for index in 0..segments {
            let range = index * segment..((index + 1) * segment).min(x.rows());
            ctx.multiply(
                out.view_mut().rows(range),
                masks.view().rows(index..index + 1),
            );
        }
        out
    }
}
