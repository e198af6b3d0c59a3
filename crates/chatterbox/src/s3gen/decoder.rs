//! The flow decoder: which way a noisy mel must go, given what it should become. One stage down, many in the middle, one up, all at one
//! rate; each is a residual block with the time put in, and transformer blocks.

use crate::config::FlowConfig;
use crate::weights::{Conv1dSizes, Loader, WeightsError};
use sottovoce_tensor::{
    Activation, Attention, Context, Conv1d, EvenPositions, LayerNorm, Linear, SinusoidOrder,
    Tensor, View,
};

/// Of every norm, as trained.
const EPSILON: f32 = 1e-5;
/// Times are spread over this range before they are encoded.
const TIME_SCALE: f32 = 1000.0;
const WAVELENGTH_MAX: f32 = 10_000.0;
/// Times a block's channels: the time embedding and the inside of a feed-forward layer.
const WIDENING: usize = 4;
const PREFIX: &str = "flow.decoder.estimator";

/// What the mel should become.
pub(super) struct Condition<'a> {
    /// The encoder's word for each frame, `[frames, bands]`.
    pub mu: &'a Tensor,
    /// The speaker, `[1, bands]`.
    pub speaker: &'a Tensor,
    /// Frames that are known; zero elsewhere, `[frames, bands]`.
    pub known: &'a Tensor,
}

pub(super) struct FlowDecoder {
    /// Of the time's encoding.
    time_rates: Vec<f32>,
    time_in: Linear,
    time_out: Linear,
    time_mixer: Option<Linear>,
    inputs: usize,
    down: Stage,
    down_out: Conv1d,
    middle: Vec<Stage>,
    up: Stage,
    up_out: Conv1d,
    last: CausalBlock,
    out: Conv1d,
}

struct Stage {
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
    attention_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
    head_size: usize,
    feed_norm: LayerNorm,
    feed_in: Linear,
    feed_out: Linear,
}

impl FlowDecoder {
    pub fn load(loader: &mut Loader<'_>, config: &FlowConfig) -> Result<FlowDecoder, WeightsError> {
        let channels = config.decoder.channels;
        let bands = config.mel_bands();
        // Noisy mel, the encoder's word, speaker and known frames side by side.
        let inputs = 4 * bands;
        let time = channels * WIDENING;
        let mean_flow = matches!(config.solver, crate::config::FlowSolver::MeanFlow { .. });
        let causal3 = Conv1dSizes::new(channels, channels, 3).causal();
        let middle = (0..config.decoder.middle_stages)
            .map(|index| {
                Stage::load(
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
            down: Stage::load(loader, &format!("{PREFIX}.down_blocks.0"), inputs, config)?,
            down_out: loader.conv1d(&format!("{PREFIX}.down_blocks.0.2"), causal3)?,
            middle,
            up: Stage::load(
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

    /// The velocity of `x` `[frames, bands]` at time `from` (and, of a mean flow, towards `to`); without a condition, what guidance leads
    /// away from.
    pub fn velocity(
        &self,
        ctx: &Context<'_>,
        x: &Tensor,
        condition: Option<&Condition<'_>>,
        from: f32,
        to: Option<f32>,
    ) -> Tensor {
        let time = self.time(ctx, from, to);
        let mut joined = ctx.zeros(&[x.rows(), self.inputs]);
        let bands = x.columns();
        ctx.copy_into(x, joined.view_mut().columns(0..bands));
        if let Some(condition) = condition {
            ctx.copy_into(condition.mu, joined.view_mut().columns(bands..2 * bands));
            ctx.add(
                joined.view_mut().columns(2 * bands..3 * bands),
                condition.speaker,
            );
            ctx.copy_into(
                condition.known,
                joined.view_mut().columns(3 * bands..4 * bands),
            );
        }
        let skip = self.down.forward(ctx, &joined, &time);
        drop(joined);
        let mut x = ctx.conv1d(&skip, &self.down_out);
        for stage in &self.middle {
            x = stage.forward(ctx, &x, &time);
        }
        let both = ctx.concat_columns(&[x.view(), skip.view()]);
        drop((x, skip));
        let x = self.up.forward(ctx, &both, &time);
        drop(both);
        let x = ctx.conv1d(&x, &self.up_out);
        let x = self.last.forward(ctx, &x);
        ctx.conv1d(&x, &self.out)
    }

    /// The embedding of a time, or of both ends of a step, through its Mish `[1, time]`.
    fn time(&self, ctx: &Context<'_>, from: f32, to: Option<f32>) -> Tensor {
        let embed = |time: f32| {
            let at = EvenPositions {
                first: TIME_SCALE * time,
                step: 0.0,
            };
            let encoded = ctx.sinusoids(1, at, &self.time_rates, SinusoidOrder::Halves);
            let inner = ctx.linear_activated(&encoded, &self.time_in, Activation::Silu);
            ctx.linear(&inner, &self.time_out)
        };
        let mut time = embed(from);
        if let (Some(mixer), Some(to)) = (&self.time_mixer, to) {
            let end = embed(to);
            let both = ctx.concat_columns(&[time.view(), end.view()]);
            time = ctx.linear(&both, mixer);
        }
        ctx.activate(&mut time, Activation::Mish);
        time
    }
}

impl Stage {
    fn load(
        loader: &mut Loader<'_>,
        name: &str,
        inputs: usize,
        config: &FlowConfig,
    ) -> Result<Stage, WeightsError> {
        let channels = config.decoder.channels;
        let transformers = (0..config.decoder.blocks)
            .map(|index| Transformer::load(loader, &format!("{name}.1.{index}"), config))
            .collect::<Result<_, _>>()?;
        Ok(Stage {
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

    fn forward(&self, ctx: &Context<'_>, x: &Tensor, time: &Tensor) -> Tensor {
        let mut inner = self.block1.forward(ctx, x);
        let shift = ctx.linear(time, &self.time);
        ctx.add(&mut inner, &shift);
        drop(shift);
        let mut inner = self.block2.forward(ctx, &inner);
        let skip = ctx.conv1d(x, &self.skip);
        ctx.add(&mut inner, &skip);
        drop(skip);
        for transformer in &self.transformers {
            transformer.forward(ctx, &mut inner);
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

    fn forward(&self, ctx: &Context<'_>, x: &Tensor) -> Tensor {
        let x = ctx.conv1d(x, &self.conv);
        let mut x = ctx.layer_norm(&x, &self.norm);
        ctx.activate(&mut x, Activation::Mish);
        x
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
        Ok(Transformer {
            attention_norm: loader.layer_norm(&format!("{name}.norm1"), channels, EPSILON)?,
            query: loader.linear(&format!("{attention}.to_q"), [inner, channels], false)?,
            key: loader.linear(&format!("{attention}.to_k"), [inner, channels], false)?,
            value: loader.linear(&format!("{attention}.to_v"), [inner, channels], false)?,
            out: loader.linear(&format!("{attention}.to_out.0"), [channels, inner], true)?,
            heads: sizes.heads,
            head_size: sizes.head_size,
            feed_norm: loader.layer_norm(&format!("{name}.norm3"), channels, EPSILON)?,
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

    fn forward(&self, ctx: &Context<'_>, x: &mut Tensor) {
        {
            let normed = ctx.layer_norm(View::from(&*x), &self.attention_norm);
            let query = ctx.linear(&normed, &self.query);
            let key = ctx.linear(&normed, &self.key);
            let value = ctx.linear(&normed, &self.value);
            drop(normed);
            let options = Attention {
                heads: self.heads,
                scale: 1.0 / (self.head_size as f32).sqrt(),
                causal: false,
                relative: None,
            };
            let mixed = ctx.attention(&query, &key, &value, &options);
            ctx.linear_add(&mixed, &self.out, x);
        }
        let normed = ctx.layer_norm(View::from(&*x), &self.feed_norm);
        let inner = ctx.linear_activated(&normed, &self.feed_in, Activation::GeluErf);
        ctx.linear_add(&inner, &self.feed_out, x);
    }
}
