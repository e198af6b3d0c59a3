//! The conformer encoder: from token embeddings to one vector per mel frame.

use crate::config::FlowConfig;
use crate::weights::{Conv1dSizes, Loader, WeightsError};
use sottovoce_tensor::{
    Activation, Attention, Context, Conv1d, EvenPositions, LayerNorm, Linear, Padding,
    RelativePositions, SinusoidOrder, Tensor, Vector,
};

/// ε of the norms in and around the layers, as trained.
const LAYER_EPSILON: f32 = 1e-12;
const OUTER_EPSILON: f32 = 1e-5;
/// Negative slope of the leaky ReLU in the look-ahead convolutions.
const SLOPE: f32 = 0.01;
/// Longest wavelength of the position encoding, as in "Attention is all you need".
const WAVELENGTH_MAX: f32 = 10_000.0;

pub(super) struct FlowEncoder {
    upsampling: usize,
    /// Rates of the position encoding, one per pair of channels.
    rates: Vec<f32>,
    embed: Embed,
    ahead: Conv1d,
    behind: Conv1d,
    layers: Vec<Layer>,
    up: Conv1d,
    up_embed: Embed,
    up_layers: Vec<Layer>,
    out_norm: LayerNorm,
}

/// A linear layer and its norm; the result is scaled by √hidden.
struct Embed {
    linear: Linear,
    norm: LayerNorm,
}

struct Layer {
    attention_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    position: Linear,
    content_bias: Vector,
    position_bias: Vector,
    out: Linear,
    heads: usize,
    feed_norm: LayerNorm,
    feed_in: Linear,
    feed_out: Linear,
}

impl FlowEncoder {
    pub fn load(loader: &mut Loader<'_>, config: &FlowConfig) -> Result<FlowEncoder, WeightsError> {
        let sizes = &config.encoder;
        let hidden = sizes.hidden;
        let prefix = "flow.encoder";
        let embed = Embed::load(loader, &format!("{prefix}.embed"), hidden)?;
        let ahead = Conv1dSizes {
            padding: Padding {
                left: 0,
                right: sizes.look_ahead,
            },
            ..Conv1dSizes::new(hidden, hidden, sizes.look_ahead + 1)
        };
        let ahead = loader.conv1d(&format!("{prefix}.pre_lookahead_layer.conv1"), ahead)?;
        let behind = loader.conv1d(
            &format!("{prefix}.pre_lookahead_layer.conv2"),
            Conv1dSizes::new(hidden, hidden, 3).causal(),
        )?;
        let layers = Layer::load_all(loader, &format!("{prefix}.encoders"), sizes.layers, config)?;
        let up = loader.conv1d(
            &format!("{prefix}.up_layer.conv"),
            Conv1dSizes::new(hidden, hidden, 2 * config.upsampling + 1).causal(),
        )?;
        Ok(FlowEncoder {
            upsampling: config.upsampling,
            rates: (0..hidden)
                .step_by(2)
                .map(|pair| (-(WAVELENGTH_MAX.ln()) * pair as f32 / hidden as f32).exp())
                .collect(),
            embed,
            ahead,
            behind,
            layers,
            up,
            up_embed: Embed::load(loader, &format!("{prefix}.up_embed"), hidden)?,
            up_layers: Layer::load_all(
                loader,
                &format!("{prefix}.up_encoders"),
                sizes.layers_upsampled,
                config,
            )?,
            out_norm: loader.layer_norm(&format!("{prefix}.after_norm"), hidden, OUTER_EPSILON)?,
        })
    }

    /// `[tokens, hidden]` → `[upsampling · tokens, hidden]`.
    pub fn forward(&self, ctx: &Context<'_>, embedded: Tensor) -> Tensor {
        let mut x = self.embed.forward(ctx, &embedded);
        drop(embedded);
        {
            let ahead = ctx.conv1d_activated(&x, &self.ahead, Activation::LeakyRelu(SLOPE));
            let behind = ctx.conv1d(&ahead, &self.behind);
            ctx.add(&mut x, &behind);
        }
        let positions = self.positions(ctx, x.rows());
        for layer in &self.layers {
            layer.forward(ctx, &mut x, &positions);
        }
        drop(positions);
        let repeated = ctx.repeat_rows(&x, self.upsampling);
        drop(x);
        let up = ctx.conv1d(&repeated, &self.up);
        drop(repeated);
        let mut x = self.up_embed.forward(ctx, &up);
        drop(up);
        let positions = self.positions(ctx, x.rows());
        for layer in &self.up_layers {
            layer.forward(ctx, &mut x, &positions);
        }
        ctx.layer_norm(&x, &self.out_norm)
    }

    /// Encodings of relative positions `[2 · rows − 1, hidden]`, from the furthest key before its
    /// query to the furthest after it.
    fn positions(&self, ctx: &Context<'_>, rows: usize) -> Tensor {
        let positions = EvenPositions {
            first: (rows - 1) as f32,
            step: -1.0,
        };
        let order = SinusoidOrder::Pairs;
        ctx.sinusoids(2 * rows - 1, positions, &self.rates, order)
    }
}

impl Embed {
    fn load(loader: &mut Loader<'_>, name: &str, hidden: usize) -> Result<Embed, WeightsError> {
        Ok(Embed {
            linear: loader.linear(&format!("{name}.out.0"), [hidden, hidden], true)?,
            norm: loader.layer_norm(&format!("{name}.out.1"), hidden, OUTER_EPSILON)?,
        })
    }

    fn forward(&self, ctx: &Context<'_>, x: &Tensor) -> Tensor {
        let linear = ctx.linear(x, &self.linear);
        let mut x = ctx.layer_norm(&linear, &self.norm);
        let scale = (x.columns() as f32).sqrt();
        ctx.scale(&mut x, scale);
        x
    }
}

impl Layer {
    fn load_all(
        loader: &mut Loader<'_>,
        prefix: &str,
        count: usize,
        config: &FlowConfig,
    ) -> Result<Vec<Layer>, WeightsError> {
        (0..count)
            .map(|index| Layer::load(loader, &format!("{prefix}.{index}"), config))
            .collect()
    }

    fn load(
        loader: &mut Loader<'_>,
        name: &str,
        config: &FlowConfig,
    ) -> Result<Layer, WeightsError> {
        let sizes = &config.encoder;
        let hidden = sizes.hidden;
        let attention = format!("{name}.self_attn");
        let square = [hidden, hidden];
        let by_head = [sizes.heads, hidden / sizes.heads];
        Ok(Layer {
            attention_norm: loader.layer_norm(
                &format!("{name}.norm_mha"),
                hidden,
                LAYER_EPSILON,
            )?,
            query: loader.linear(&format!("{attention}.linear_q"), square, true)?,
            key: loader.linear(&format!("{attention}.linear_k"), square, true)?,
            value: loader.linear(&format!("{attention}.linear_v"), square, true)?,
            position: loader.linear(&format!("{attention}.linear_pos"), square, false)?,
            content_bias: loader.flat(&format!("{attention}.pos_bias_u"), &by_head)?,
            position_bias: loader.flat(&format!("{attention}.pos_bias_v"), &by_head)?,
            out: loader.linear(&format!("{attention}.linear_out"), square, true)?,
            heads: sizes.heads,
            feed_norm: loader.layer_norm(&format!("{name}.norm_ff"), hidden, LAYER_EPSILON)?,
            feed_in: loader.linear(
                &format!("{name}.feed_forward.w_1"),
                [sizes.feed_forward, hidden],
                true,
            )?,
            feed_out: loader.linear(
                &format!("{name}.feed_forward.w_2"),
                [hidden, sizes.feed_forward],
                true,
            )?,
        })
    }

    fn forward(&self, ctx: &Context<'_>, x: &mut Tensor, positions: &Tensor) {
        {
            let normed = ctx.layer_norm(&*x, &self.attention_norm);
            let query = ctx.linear(&normed, &self.query);
            let key = ctx.linear(&normed, &self.key);
            let value = ctx.linear(&normed, &self.value);
            drop(normed);
            let mut content_query = ctx.copy(&query);
            ctx.add(&mut content_query, self.content_bias.view());
            let mut position_query = query;
            ctx.add(&mut position_query, self.position_bias.view());
            let encodings = ctx.linear(positions, &self.position);
            let relative = RelativePositions {
                queries: position_query.view(),
                positions: encodings.view(),
            };
            let size = x.columns() / self.heads;
            let options = Attention {
                heads: self.heads,
                scale: 1.0 / (size as f32).sqrt(),
                causal: false,
                relative: Some(relative),
            };
            let mixed = ctx.attention(&content_query, &key, &value, &options);
            ctx.linear_add(&mixed, &self.out, x);
        }
        let normed = ctx.layer_norm(&*x, &self.feed_norm);
        let inner = ctx.linear_activated(&normed, &self.feed_in, Activation::Silu);
        ctx.linear_add(&inner, &self.feed_out, x);
    }
}
