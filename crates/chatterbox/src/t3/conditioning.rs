//! Conditioning, which precedes the text: speaker, prompt, emotion.

use crate::config::T3Config;
use crate::weights::{Loader, WeightsError};
use sottovoce_tensor::{Attention, Context, LayerNorm, Linear, Tensor, Vector};

#[derive(Debug)]
pub(super) struct Conditioning {
    speaker: Linear,
    perceiver: Option<Perceiver>,
    /// Weights of the emotion layer, which has one input.
    emotion: Option<Vector>,
}

impl Conditioning {
    pub(super) fn load(
        loader: &mut Loader<'_>,
        config: &T3Config,
    ) -> Result<Conditioning, WeightsError> {
        let hidden = config.backbone.hidden;
        let speaker = [hidden, config.speaker_embedding];
        Ok(Conditioning {
            speaker: loader.linear("cond_enc.spkr_enc", speaker, true)?,
            perceiver: match config.perceiver {
                Some(sizes) => Some(Perceiver::load(loader, hidden, sizes.queries, sizes.heads)?),
                None => None,
            },
            emotion: match config.emotion {
                true => Some(loader.flat("cond_enc.emotion_adv_fc.weight", &[hidden, 1])?),
                false => None,
            },
        })
    }

    /// `[1 + prompt or queries + emotion, hidden]`.
    pub(super) fn forward(
        &self,
        ctx: &Context<'_>,
        speaker: &Tensor,
        prompt: Option<Tensor>,
        exaggeration: f32,
    ) -> Tensor {
        let speaker = ctx.linear(speaker, &self.speaker);
        let prompt = match (&self.perceiver, prompt) {
            (Some(perceiver), Some(prompt)) => Some(perceiver.forward(ctx, &prompt)),
            (_, prompt) => prompt,
        };
        let emotion = self.emotion.as_ref().map(|weight| {
            let mut x = ctx.copy(weight.view());
            ctx.scale(&mut x, exaggeration);
            x
        });
        let parts: Vec<_> = [Some(&speaker), prompt.as_ref(), emotion.as_ref()]
            .into_iter()
            .flatten()
            .map(Tensor::view)
            .collect();
        ctx.concat_rows(&parts)
    }
}

/// Perceiver resampler (arXiv:2103.03206): learned queries attend to the prompt, then to
/// themselves, through the same attention block.
#[derive(Debug)]
struct Perceiver {
    /// `[queries, hidden]`, row-major.
    queries: Vector,
    norm: LayerNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    project: Linear,
    heads: usize,
}

impl Perceiver {
    fn load(
        loader: &mut Loader<'_>,
        hidden: usize,
        queries: usize,
        heads: usize,
    ) -> Result<Perceiver, WeightsError> {
        let square = [hidden, hidden];
        let attention = "cond_enc.perceiver.attn";
        let mut linear = |part: &str| loader.linear(&format!("{attention}.{part}"), square, true);
        let [to_q, to_k, to_v, project] = [
            linear("to_q")?,
            linear("to_k")?,
            linear("to_v")?,
            linear("proj_out")?,
        ];
        let norm = loader.layer_norm(&format!("{attention}.norm"), hidden, 1e-5)?;
        let name = "cond_enc.perceiver.pre_attention_query";
        let queries = loader.flat(name, &[1, queries, hidden])?;
        Ok(Perceiver {
            queries,
            norm,
            to_q,
            to_k,
            to_v,
            project,
            heads,
        })
    }

    fn forward(&self, ctx: &Context<'_>, prompt: &Tensor) -> Tensor {
        let columns = prompt.columns();
        let rows = self.queries.len() / columns;
        let queries = ctx.copy(self.queries.view_as(rows, columns));
        let seen = self.attend(ctx, queries, Some(prompt));
        self.attend(ctx, seen, None)
    }

    /// The residual is the query before its norm. Without `memory` this is self-attention.
    fn attend(&self, ctx: &Context<'_>, mut x: Tensor, memory: Option<&Tensor>) -> Tensor {
        let normed = ctx.layer_norm(&x, &self.norm);
        let memory = memory.map(|memory| ctx.layer_norm(memory, &self.norm));
        let source = memory.as_ref().unwrap_or(&normed);
        let q = ctx.linear(&normed, &self.to_q);
        let k = ctx.linear(source, &self.to_k);
        let v = ctx.linear(source, &self.to_v);
        let options = Attention {
            heads: self.heads,
            scale: 1.0 / ((x.columns() / self.heads) as f32).sqrt(),
            causal: false,
            relative: None,
        };
        let seen = ctx.attention(&q, &k, &v, &options);
        ctx.linear_add(&seen, &self.project, &mut x);
        x
    }
}
