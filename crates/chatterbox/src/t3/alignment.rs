//! Attention of the alignment heads: which text tokens the newest speech positions attend to.

use crate::config::AttentionHead;
use sottovoce_tensor::{CachePlaces, Context, View, WatchedHead};
use std::ops::Range;

/// Attention of the conditional row's newest speech positions to the text, averaged over the
/// alignment heads: after a prefill one row per start token, after a step one row. The row of a
/// position belongs to the token that its logits predict. There are no rows on devices without
/// [`Operations::attention_weights`](sottovoce_tensor::Operations::attention_weights).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AlignmentRows {
    text: usize,
    weights: Vec<f32>,
}

impl AlignmentRows {
    /// The rows, each with one weight per text token, start and stop tokens included. A row adds up
    /// to at most 1: the softmax is over all positions.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &[f32]> + ExactSizeIterator {
        self.weights.chunks_exact(self.text.max(1))
    }
}

/// Rows of a forward whose attention to the text is noted.
pub(super) struct Watch<'a> {
    heads: &'a [AttentionHead],
    watched: Vec<Watched>,
}

/// Rows of one state.
struct Watched {
    /// Index of the state in the forward.
    state: usize,
    rows: Range<usize>,
    /// Positions of the text in the state's sequence.
    text: Range<usize>,
    /// `[rows][text]`.
    weights: Vec<f32>,
}

impl<'a> Watch<'a> {
    /// A watch of no rows yet.
    pub fn new(heads: &'a [AttentionHead]) -> Watch<'a> {
        Watch {
            heads,
            watched: Vec::new(),
        }
    }

    /// Adds `rows` of the forward, of one state with the text at `text`. The memory of the state's
    /// earlier rows is reused.
    pub fn add(
        &mut self,
        state: usize,
        rows: Range<usize>,
        text: Range<usize>,
        earlier: AlignmentRows,
    ) {
        let mut weights = earlier.weights;
        weights.clear();
        weights.resize(rows.len() * text.len(), 0.0);
        self.watched.push(Watched {
            state,
            rows,
            text,
            weights,
        });
    }

    /// Notes the weights of a layer's alignment heads; `q` has the queries of all heads.
    pub fn note(
        &mut self,
        ctx: &Context<'_>,
        q: View<'_>,
        layer: usize,
        places: &CachePlaces<'_>,
        scale: f32,
    ) {
        let share = 1.0 / self.heads.len().max(1) as f32;
        for head in self.heads.iter().filter(|head| head.layer == layer) {
            let head = WatchedHead {
                layer,
                head: head.head,
                scale,
            };
            for watched in &mut self.watched {
                let Range { start, end } = watched.text.clone();
                let mut weights = vec![0.0; end - start];
                let means = watched.weights.chunks_exact_mut((end - start).max(1));
                for (row, means) in watched.rows.clone().zip(means) {
                    ctx.attention_weights(q, row, head, places, start..end, &mut weights);
                    for (mean, weight) in means.iter_mut().zip(&weights) {
                        *mean += share * weight;
                    }
                }
            }
        }
    }

    /// The noted rows of each watched state, by its index. Without support by the device they are
    /// empty.
    pub fn finish(self, ctx: &Context<'_>) -> impl Iterator<Item = (usize, AlignmentRows)> {
        let supported = ctx.device.attention_weights().is_some() && !self.heads.is_empty();
        self.watched.into_iter().map(move |mut watched| {
            if !supported {
                watched.weights.clear();
            }
            let rows = AlignmentRows {
                text: watched.text.len(),
                weights: watched.weights,
            };
            (watched.state, rows)
        })
    }
}
