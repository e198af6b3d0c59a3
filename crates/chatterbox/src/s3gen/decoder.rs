//! The flow decoder: estimates the velocity of a noisy mel towards its target. One stage down,
//! several in the middle and one up, all at one frame rate. A stage is a residual block with a time
//! embedding, followed by transformer blocks.

use crate::config::FlowConfig;
use crate::weights::{Conv1dSizes, Loader, WeightsError};
use sottovoce_tensor::{
    Activation, Attention, Context, Conv1d, EvenPositions, LayerNorm, Linear, Norm, SinusoidOrder,
    Tensor, View,
};

/// ε of every norm, as trained.
const EPSILON: f32 = 1e-5;
/// Times are scaled by this factor before they are encoded.
const TIME_SCALE: f32 = 1000.0;
const WAVELENGTH_MAX: f32 = 10_000.0;
/// Size of the time embedding and of the feed-forward layers' inner part, relative to a block's
/// channels.
const WIDENING: usize = 4;
const PREFIX: &str = "flow.decoder.estimator";

/// Conditioning of an utterance's mel.
pub(super) struct Condition {
    /// The encoder's output for each frame, `[frames, bands]`.
    pub mu: Tensor,
    /// The speaker, `[1, bands]`.
    pub speaker: Tensor,
    /// The prompt's mel frames, `[frames, bands]`; zero elsewhere.
    pub known: Tensor,
}

pub(super) struct FlowDecoder {
    /// Rates of the time encoding.
    time_rates: Vec<f32>,
    time_in: Linear,
    time_out: Linear,
    time_mixer: Option<Linear>,
    inputs: usize,
    down: UnetBlock,
    down_out: Conv1d,
    middle: Vec<UnetBlock>,
    up: UnetBlock,
    up_out: Conv1d,
    last: CausalBlock,
    out: Conv1d,
}

/// A block of the U-Net: a residual block in time, then transformers.
struct UnetBlock {
    block1: CausalBlock,
    time: Linear,
    block2: CausalBlock,
    skip: Conv1d,
    transformers: Vec<Transformer>,
}

struct CausalBlock {
    conv: Conv1d,
    norm: LayerNorm,
}

struct Transformer {
    attention_norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
    head_size: usize,
    feed_norm: Norm,
    feed_in: Linear,
    feed_out: Linear,
}

impl FlowDecoder {
    pub fn load(loader: &mut Loader<'_>, config: &FlowConfig) -> Result<FlowDecoder, WeightsError> {
        let channels = config.decoder.channels;
        let bands = config.mel_bands();
        // Concatenated columns: noisy mel, encoder output, speaker, known frames.
        let inputs = 4 * bands;
        let time = channels * WIDENING;
        let mean_flow = matches!(config.solver, crate::config::FlowSolver::MeanFlow { .. });
        let causal3 = Conv1dSizes::new(channels, channels, 3).causal();
        let middle = (0..config.decoder.middle_stages)
            .map(|index| {
                UnetBlock::load(
                    loader,
                    &format!("{PREFIX}.mid_blocks.{index}"),
                    channels,
                    config,
                )
            })
            .collect::<Result<_, _>>()?;
        let half = inputs / 2;
        Ok(FlowDecoder {
            time_rates: (0..half)
                .map(|index| (-(WAVELENGTH_MAX.ln()) * index as f32 / (half - 1) as f32).exp())
                .collect(),
            time_in: loader.linear(&format!("{PREFIX}.time_mlp.linear_1"), [time, inputs], true)?,
            time_out: loader.linear(&format!("{PREFIX}.time_mlp.linear_2"), [time, time], true)?,
            time_mixer: mean_flow
                .then(|| {
                    loader.linear(
                        &format!("{PREFIX}.time_embed_mixer"),
                        [time, 2 * time],
                        false,
                    )
                })
                .transpose()?,
            inputs,
            down: UnetBlock::load(loader, &format!("{PREFIX}.down_blocks.0"), inputs, config)?,
            down_out: loader.conv1d(&format!("{PREFIX}.down_blocks.0.2"), causal3)?,
            middle,
            up: UnetBlock::load(
                loader,
                &format!("{PREFIX}.up_blocks.0"),
                2 * channels,
                config,
            )?,
            up_out: loader.conv1d(&format!("{PREFIX}.up_blocks.0.2"), causal3)?,
            last: CausalBlock::load(loader, &format!("{PREFIX}.final_block"), channels, channels)?,
            out: loader.conv1d(
                &format!("{PREFIX}.final_proj"),
                Conv1dSizes::new(bands, channels, 1),
            )?,
        })
    }

    /// Velocity of `x` at time `from`. `x` `[utterances · frames, bands]` holds utterances stacked
    /// by rows, each filled up to `frames`. Of each, `lengths` has the frames that count, and
    /// `conditions` its condition, or none for the unconditional velocity of guidance. With twice
    /// as many conditions the utterances are taken twice, and the result is `[conditions · frames,
    /// bands]`. A mean flow also takes the end time `to`.
    pub fn velocity(
        &self,
        ctx: &Context<'_>,
        x: &Tensor,
        lengths: &[usize],
        conditions: &[Option<&Condition>],
        from: f32,
        to: Option<f32>,
    ) -> Tensor {
        let time = self.time(ctx, from, to);
        let stages: Vec<&UnetBlock> = [&self.down]
            .into_iter()
            .chain(&self.middle)
            .chain([&self.up])
            .collect();
        // One row per stage.
        let layers: Vec<&Linear> = stages.iter().map(|stage| &stage.time).collect();
        let shifts = ctx.linears(&time, None, &layers);
        drop(time);
        let (frames, bands) = (x.rows() / lengths.len(), x.columns());
        let utterances = (0..lengths.len()).cycle().take(conditions.len());
        let lengths: Vec<usize> = utterances.clone().map(|index| lengths[index]).collect();
        let count = lengths.len();
        let mut joined = ctx.zeros(&[count * frames, self.inputs]);
        for (index, (condition, utterance)) in conditions.iter().zip(utterances).enumerate() {
            let rows = index * frames..index * frames + lengths[index];
            let mut rows = joined.view_mut().rows(rows);
            let x = (x.view()).rows(utterance * frames..utterance * frames + lengths[index]);
            ctx.copy_into(x, rows.reborrow().columns(0..bands));
            let Some(condition) = condition else { continue };
            ctx.copy_into(&condition.mu, rows.reborrow().columns(bands..2 * bands));
            let speaker = rows.reborrow().columns(2 * bands..3 * bands);
            ctx.add(speaker, &condition.speaker);
            ctx.copy_into(&condition.known, rows.columns(3 * bands..4 * bands));
        }
        let shift = |stage: usize| shifts.view().rows(stage..stage + 1);
        let skip = self.down.forward(ctx, &joined, &lengths, shift(0));
        drop(joined);
        let mut x = ctx.conv1d_sequences(&skip, count, &self.down_out);
        for (index, stage) in self.middle.iter().enumerate() {
            x = stage.forward(ctx, &x, &lengths, shift(1 + index));
        }
        let both = ctx.concat_columns(&[x.view(), skip.view()]);
        drop((x, skip));
        let x = (self.up).forward(ctx, &both, &lengths, shift(1 + self.middle.len()));
        drop(both);
        let x = ctx.conv1d_sequences(&x, count, &self.up_out);
        let x = self.last.forward(ctx, &x, count, None);
        ctx.conv1d_sequences(&x, count, &self.out)
    }

    /// Embedding of a time, or of both ends of a step, after Mish: `[1, time]`.
    fn time(&self, ctx: &Context<'_>, from: f32, to: Option<f32>) -> Tensor {
        let [first, last] = [from, to.unwrap_or(from)].map(|time| TIME_SCALE * time);
        let mixer = self.time_mixer.as_ref().filter(|_| to.is_some());
        let ends = if mixer.is_some() { 2 } else { 1 };
        let positions = EvenPositions {
            first,
            step: last - first,
        };
        let encoded = ctx.sinusoids(ends, positions, &self.time_rates, SinusoidOrder::Halves);
        let inner = ctx.linear_activated(&encoded, &self.time_in, Activation::Silu);
        let Some(mixer) = mixer else {
            return ctx.linear_activated(&inner, &self.time_out, Activation::Mish);
        };
        let both = ctx.linear_activated(&inner, &self.time_out, Activation::Identity);
        // The embeddings of both ends, side by side.
        let columns = ends * both.columns();
        let both = both.reshape(&[1, columns]);
        ctx.linear_activated(&both, mixer, Activation::Mish)
    }
}

impl UnetBlock {
    fn load(
        loader: &mut Loader<'_>,
        name: &str,
        inputs: usize,
        config: &FlowConfig,
    ) -> Result<UnetBlock, WeightsError> {
        let channels = config.decoder.channels;
        let transformers = (0..config.decoder.blocks)
            .map(|index| Transformer::load(loader, &format!("{name}.1.{index}"), config))
            .collect::<Result<_, _>>()?;
        Ok(UnetBlock {
            block1: CausalBlock::load(loader, &format!("{name}.0.block1"), inputs, channels)?,
            time: loader.linear(
                &format!("{name}.0.mlp.1"),
                [channels, channels * WIDENING],
                true,
            )?,
            block2: CausalBlock::load(loader, &format!("{name}.0.block2"), channels, channels)?,
            skip: loader.conv1d(
                &format!("{name}.0.res_conv"),
                Conv1dSizes::new(channels, inputs, 1),
            )?,
            transformers,
        })
    }

    /// `x` holds sequences, stacked by rows, of which the first `lengths` rows count: convolutions
    /// only look back, so that what fills a sequence up is kept from attention alone. `shift` is
    /// the time's contribution to each row.
    fn forward(&self, ctx: &Context<'_>, x: &Tensor, lengths: &[usize], shift: View<'_>) -> Tensor {
        let inner = self.block1.forward(ctx, x, lengths.len(), Some(shift));
        let mut inner = self.block2.forward(ctx, &inner, lengths.len(), None);
        ctx.conv1d_add(x, &self.skip, &mut inner);
        for transformer in &self.transformers {
            transformer.forward(ctx, &mut inner, lengths);
        }
        inner
    }
}

impl CausalBlock {
    fn load(
        loader: &mut Loader<'_>,
        name: &str,
        inputs: usize,
        channels: usize,
    ) -> Result<CausalBlock, WeightsError> {
        Ok(CausalBlock {
            conv: loader.conv1d(
                &format!("{name}.block.0"),
                Conv1dSizes::new(channels, inputs, 3).causal(),
            )?,
            norm: loader.layer_norm(&format!("{name}.block.2"), channels, EPSILON)?,
        })
    }

    fn forward(
        &self,
        ctx: &Context<'_>,
        x: &Tensor,
        sequences: usize,
        shift: Option<View<'_>>,
    ) -> Tensor {
        ctx.conv1d_norm(
            x,
            sequences,
            &self.conv,
            &self.norm,
            Activation::Mish,
            shift,
        )
    }
}

impl Transformer {
    fn load(
        loader: &mut Loader<'_>,
        name: &str,
        config: &FlowConfig,
    ) -> Result<Transformer, WeightsError> {
        let sizes = &config.decoder;
        let (channels, inner) = (sizes.channels, sizes.heads * sizes.head_size);
        let attention = format!("{name}.attn1");
        let norm = |loader: &mut Loader<'_>, part: &str| {
            let norm = loader.layer_norm(&format!("{name}.{part}"), channels, EPSILON)?;
            Ok::<_, WeightsError>(Norm::Layer(norm))
        };
        Ok(Transformer {
            attention_norm: norm(loader, "norm1")?,
            query: loader.linear(&format!("{attention}.to_q"), [inner, channels], false)?,
            key: loader.linear(&format!("{attention}.to_k"), [inner, channels], false)?,
            value: loader.linear(&format!("{attention}.to_v"), [inner, channels], false)?,
            out: loader.linear(&format!("{attention}.to_out.0"), [channels, inner], true)?,
            heads: sizes.heads,
            head_size: sizes.head_size,
            feed_norm: norm(loader, "norm3")?,
            feed_in: loader.linear(
                &format!("{name}.ff.net.0.proj"),
                [channels * WIDENING, channels],
                true,
            )?,
            feed_out: loader.linear(
                &format!("{name}.ff.net.2"),
                [channels, channels * WIDENING],
                true,
            )?,
        })
    }

    fn forward(&self, ctx: &Context<'_>, x: &mut Tensor, lengths: &[usize]) {
        {
            let layers = [&self.query, &self.key, &self.value];
            let joined = ctx.linears(&*x, Some(&self.attention_norm), &layers);
            let rows = x.rows();
            let parts = [0, 1, 2].map(|part| joined.view().rows(part * rows..(part + 1) * rows));
            let options = Attention {
                heads: self.heads,
                scale: 1.0 / (self.head_size as f32).sqrt(),
                causal: false,
                relative: None,
            };
            let mixed = ctx.attention_sequences(parts, lengths, &options);
            ctx.linear_add(&mixed, &self.out, x);
        }
        let gelu = Activation::GeluErf;
        ctx.feed_forward(x, &self.feed_norm, &self.feed_in, gelu, &self.feed_out);
    }
}
