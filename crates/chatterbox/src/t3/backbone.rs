//! The decoder stack of Llama or GPT-2. Both share one skeleton and differ in norms, positions and
//! feed-forward layers.

use super::alignment::Watch;
use super::rope;
use crate::config::{BackboneConfig, BackboneKind};
use crate::weights::{Loader, WeightsError};
use sottovoce_tensor::{
    Activation, CacheLayout, CachePlaces, CachePrecision, Context, Linear, Matrix, Norm, Precision,
    Tensor,
};

#[derive(Debug)]
pub(super) struct Backbone {
    heads: usize,
    head_size: usize,
    blocks: Vec<TransformerBlock>,
    norm: Norm,
    /// Learned position embeddings (GPT-2).
    positions: Option<Matrix>,
    /// Rotary angle per position and pair of channels (Llama).
    frequencies: Option<Vec<f32>>,
}

#[derive(Debug)]
struct TransformerBlock {
    attention_norm: Norm,
    /// Query, key and value projections, stacked.
    query_key_value: Linear,
    output: Linear,
    feed_forward_norm: Norm,
    feed_forward: FeedForward,
}

#[derive(Debug)]
enum FeedForward {
    /// SiLU-gated; gate and up projections are stacked.
    Gated { gate_up: Linear, down: Linear },
    /// GELU, tanh approximation.
    Gelu { up: Linear, down: Linear },
}

impl Backbone {
    pub(super) fn load(
        loader: &mut Loader<'_>,
        config: &BackboneConfig,
    ) -> Result<Backbone, WeightsError> {
        let blocks = (0..config.layers)
            .map(|index| match config.kind {
                BackboneKind::Llama => TransformerBlock::load_llama(loader, config, index),
                BackboneKind::Gpt2 => TransformerBlock::load_gpt2(loader, config, index),
            })
            .collect::<Result<_, _>>()?;
        let norm = match config.kind {
            BackboneKind::Llama => root_mean_square(loader, "tfmr.norm", config)?,
            BackboneKind::Gpt2 => layer(loader, "tfmr.ln_f", config)?,
        };
        let positions = match config.kind {
            BackboneKind::Llama => None,
            BackboneKind::Gpt2 => {
                let precision = loader.precision();
                loader.set_precision(match precision {
                    Precision::F32 => Precision::F32,
                    _ => Precision::F16,
                });
                let shape = [config.position_count_max, config.hidden];
                let table = loader.matrix("tfmr.wpe.weight", shape)?;
                loader.set_precision(precision);
                Some(table)
            }
        };
        Ok(Backbone {
            heads: config.heads,
            head_size: config.head_size,
            blocks,
            norm,
            positions,
            frequencies: (config.rope.as_ref())
                .map(|rope| rope::frequencies(rope, config.head_size)),
        })
    }

    /// Cache places of `rows` rows for a dry run.
    pub(super) fn dry_places(&self, rows: usize) -> CachePlaces<'static> {
        let layout = CacheLayout {
            heads: self.heads,
            size: self.head_size,
            precision: CachePrecision::F32,
        };
        CachePlaces::dry(layout, rows)
    }

    /// `[places, hidden]` → `[places, hidden]`, after the last norm. Stores keys and values of all
    /// places; a place attends to its sequence's positions up to its own, or its block's last.
    /// `watch` records the attention of its rows.
    pub(super) fn forward(
        &self,
        ctx: &Context<'_>,
        x: Tensor,
        places: &mut CachePlaces<'_>,
        watch: Option<&mut Watch<'_>>,
    ) -> Tensor {
        let x = self.forward_blocks(ctx, x, places, watch);
        ctx.norm(&x, &self.norm)
    }

    /// As [`Backbone::forward`], followed by a linear layer.
    pub(super) fn forward_to(
        &self,
        ctx: &Context<'_>,
        x: Tensor,
        places: &mut CachePlaces<'_>,
        watch: Option<&mut Watch<'_>>,
        head: &Linear,
    ) -> Tensor {
        let x = self.forward_blocks(ctx, x, places, watch);
        ctx.norm_linear(&x, &self.norm, head, Activation::Identity)
    }

    fn forward_blocks(
        &self,
        ctx: &Context<'_>,
        mut x: Tensor,
        places: &mut CachePlaces<'_>,
        mut watch: Option<&mut Watch<'_>>,
    ) -> Tensor {
        let positions = places.positions();
        if let Some(table) = &self.positions {
            ctx.add(&mut x, &ctx.embedding(table, &positions));
        }
        let angles = (self.frequencies.as_ref())
            .map(|frequencies| ctx.rotary_angles(&positions, frequencies));
        let scale = 1.0 / (self.head_size as f32).sqrt();
        for (layer, block) in self.blocks.iter().enumerate() {
            let seen = {
                let (norm, joined) = (&block.attention_norm, &block.query_key_value);
                let joined = ctx.project(&x, norm, joined, angles.as_ref(), layer, places);
                let queries = joined.view().columns(0..self.heads * self.head_size);
                let watched = watch.as_mut().and_then(|watch| watch.of_layer(layer));
                places.attending(|places| {
                    ctx.attention_watched(queries, layer, places, scale, watched)
                })
            };
            ctx.linear_add(&seen, &block.output, &mut x);
            drop(seen);
            let norm = &block.feed_forward_norm;
            let (inner, down) = match &block.feed_forward {
                FeedForward::Gated { gate_up, down } => (ctx.gated_linear(&x, norm, gate_up), down),
                FeedForward::Gelu { up, down } => {
                    (ctx.norm_linear(&x, norm, up, Activation::GeluTanh), down)
                }
            };
            ctx.linear_add(&inner, down, &mut x);
        }
        x
    }
}

impl TransformerBlock {
    fn load_llama(
        loader: &mut Loader<'_>,
        config: &BackboneConfig,
        index: usize,
    ) -> Result<TransformerBlock, WeightsError> {
        let name = |part: &str| format!("tfmr.layers.{index}.{part}");
        let (hidden, inner) = (config.hidden, config.feed_forward);
        let columns = config.heads * config.head_size;
        let joined = |loader: &mut Loader<'_>, label: &str, parts: &[&str], shape| {
            let names: Vec<String> = (parts.iter())
                .map(|part| name(&format!("{part}.weight")))
                .collect();
            let weight = loader.matrix_joined(&name(label), &names, shape)?;
            Ok(Linear { weight, bias: None })
        };
        Ok(TransformerBlock {
            attention_norm: root_mean_square(loader, &name("input_layernorm"), config)?,
            query_key_value: joined(
                loader,
                "self_attn.qkv_proj.weight",
                &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
                [columns, hidden],
            )?,
            output: loader.linear(&name("self_attn.o_proj"), [hidden, columns], false)?,
            feed_forward_norm: root_mean_square(loader, &name("post_attention_layernorm"), config)?,
            feed_forward: FeedForward::Gated {
                gate_up: joined(
                    loader,
                    "mlp.gate_up_proj.weight",
                    &["mlp.gate_proj", "mlp.up_proj"],
                    [inner, hidden],
                )?,
                down: loader.linear(&name("mlp.down_proj"), [hidden, inner], false)?,
            },
        })
    }

    fn load_gpt2(
        loader: &mut Loader<'_>,
        config: &BackboneConfig,
        index: usize,
    ) -> Result<TransformerBlock, WeightsError> {
        let name = |part: &str| format!("tfmr.h.{index}.{part}");
        let (hidden, inner) = (config.hidden, config.feed_forward);
        let columns = config.heads * config.head_size;
        let joined = [3 * columns, hidden];
        Ok(TransformerBlock {
            attention_norm: layer(loader, &name("ln_1"), config)?,
            query_key_value: loader.linear_transposed(&name("attn.c_attn"), joined, true)?,
            output: loader.linear_transposed(&name("attn.c_proj"), [hidden, columns], true)?,
            feed_forward_norm: layer(loader, &name("ln_2"), config)?,
            feed_forward: FeedForward::Gelu {
                up: loader.linear_transposed(&name("mlp.c_fc"), [inner, hidden], true)?,
                down: loader.linear_transposed(&name("mlp.c_proj"), [hidden, inner], true)?,
            },
        })
    }
}

fn root_mean_square(
    loader: &mut Loader<'_>,
    name: &str,
    config: &BackboneConfig,
) -> Result<Norm, WeightsError> {
    Ok(Norm::RootMeanSquare {
        scale: loader.vector(&format!("{name}.weight"), config.hidden)?,
        epsilon: config.norm_epsilon,
    })
}

fn layer(
    loader: &mut Loader<'_>,
    name: &str,
    config: &BackboneConfig,
) -> Result<Norm, WeightsError> {
    let norm = loader.layer_norm(name, config.hidden, config.norm_epsilon)?;
    Ok(Norm::Layer(norm))
}
