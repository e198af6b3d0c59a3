//! Attention of the alignment heads: which text tokens the newest speech positions attend to.

use super::T3State;
use crate::config::AttentionHead;
use sottovoce_tensor::{Context, Failure, Tensor, WatchedHeads};
use std::ops::Range;

/// Most text tokens of a sentence whose attention a step records; sentences are split below it.
pub(super) const TEXT_MAX: usize = 256;

/// Attention of the conditional row's newest speech positions to the text, averaged over the
/// alignment heads: after a prefill one row per start token, after a step one row. The row of a
/// position belongs to the token that its logits predict. Empty for a model without alignment
/// heads.
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

/// Records the attention of the alignment heads during a forward. The record has the same address
/// and size for any states and texts, so that the forward can be replayed.
pub(super) struct Watch<'a> {
    heads: &'a [AttentionHead],
    /// Rows of the record of each head.
    rows: usize,
    /// The record, `[heads · rows, text]`; absent without heads.
    record: Option<Tensor>,
    /// Number of heads recorded so far.
    recorded: usize,
    /// Heads of the current layer.
    of_layer: Vec<usize>,
    watched: Vec<Watched>,
}

/// The part of the record that belongs to one state.
struct Watched {
    /// Index of the state in the forward.
    state: usize,
    /// Its rows among those of a head.
    rows: Range<usize>,
    /// Number of its text tokens.
    text: usize,
}

impl<'a> Watch<'a> {
    /// A watch that records `rows` rows per head, of at most `text` text tokens.
    pub fn new(
        ctx: &Context<'_>,
        heads: &'a [AttentionHead],
        rows: usize,
        text: usize,
    ) -> Watch<'a> {
        Watch {
            heads,
            rows,
            record: (!heads.is_empty()).then(|| ctx.tensor(&[heads.len() * rows, text])),
            recorded: 0,
            of_layer: Vec::new(),
            watched: Vec::new(),
        }
    }

    /// Assigns rows of each head to a state with `text` text tokens.
    pub fn add(&mut self, state: usize, rows: Range<usize>, text: usize) {
        self.watched.push(Watched { state, rows, text });
    }

    /// The alignment heads of a layer, with their part of the record. Layers must come in order.
    pub fn of_layer(&mut self, layer: usize) -> Option<WatchedHeads<'_>> {
        self.of_layer.clear();
        let heads = self.heads.iter().filter(|head| head.layer == layer);
        self.of_layer.extend(heads.map(|head| head.head));
        let first = self.recorded * self.rows;
        self.recorded += self.of_layer.len();
        let record = self.record.as_mut().filter(|_| !self.of_layer.is_empty())?;
        Some(WatchedHeads {
            heads: &self.of_layer,
            record: record.view_mut().rows(first..self.recorded * self.rows),
        })
    }

    /// The forward's result: its logits and the record.
    pub fn finish(self, logits: Tensor) -> Scores {
        Scores {
            logits,
            record: self.record.filter(|_| !self.watched.is_empty()),
            heads: self.heads.len(),
            rows: self.rows,
            watched: self.watched,
        }
    }
}

/// Logits of a forward and the attention of its alignment heads, which are read from the device
/// together.
pub struct Scores {
    logits: Tensor,
    record: Option<Tensor>,
    heads: usize,
    /// Rows of the record of each head.
    rows: usize,
    watched: Vec<Watched>,
}

impl Scores {
    /// Logits of a forward without a watch.
    pub fn unwatched(logits: Tensor) -> Scores {
        Scores {
            logits,
            record: None,
            heads: 0,
            rows: 0,
            watched: Vec::new(),
        }
    }

    /// The logits.
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }

    /// Calls `work` with the elements of the logits and with the alignments.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub fn read<R: Default>(
        &self,
        ctx: &Context<'_>,
        work: impl FnOnce(&[f32], &Alignments<'_>) -> R,
    ) -> Result<R, Failure> {
        let scores = self;
        match &self.record {
            Some(record) => ctx.read_both([&self.logits, record], |logits, record| {
                work(logits, &Alignments { scores, record })
            }),
            None => ctx.read(&self.logits, |logits| {
                work(
                    logits,
                    &Alignments {
                        scores,
                        record: &[],
                    },
                )
            }),
        }
    }

    /// Stores each state's alignment in the state, and returns the logits.
    pub(super) fn settle(
        self,
        ctx: &Context<'_>,
        states: &mut [&mut T3State],
    ) -> Result<Tensor, Failure> {
        if let Some(record) = &self.record {
            ctx.read(record, |record| {
                let alignments = Alignments {
                    scores: &self,
                    record,
                };
                for (index, state) in states.iter_mut().enumerate() {
                    alignments.give(index, state);
                }
            })?;
        }
        Ok(self.logits)
    }
}

/// Attention of a forward's alignment heads, on the host.
pub struct Alignments<'a> {
    scores: &'a Scores,
    /// `[heads · rows, text]`.
    record: &'a [f32],
}

impl Alignments<'_> {
    /// Stores the alignment of the forward's state `index` in `state`, if it is watched.
    pub fn give(&self, index: usize, state: &mut T3State) {
        let Scores {
            heads,
            rows,
            watched,
            ..
        } = self.scores;
        let Some(alignment) = &mut state.alignment else {
            return;
        };
        alignment.weights.clear();
        let Some(watched) = watched.iter().find(|watched| watched.state == index) else {
            return;
        };
        alignment.text = watched.text;
        if self.record.is_empty() {
            return;
        }
        let (width, share) = (self.record.len() / (heads * rows), 1.0 / *heads as f32);
        (alignment.weights).resize(watched.rows.len() * watched.text, 0.0);
        let means = alignment.weights.chunks_exact_mut(watched.text.max(1));
        for (row, means) in watched.rows.clone().zip(means) {
            for head in 0..*heads {
                let recorded = &self.record[(head * rows + row) * width..][..watched.text];
                for (mean, weight) in means.iter_mut().zip(recorded) {
                    *mean += share * weight;
                }
            }
        }
    }
}
