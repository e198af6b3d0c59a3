//! Attention of the alignment heads: which text tokens the newest speech positions attend to.

use super::T3State;
use crate::config::AttentionHead;
use sottovoce_tensor::{Context, Failure, Tensor, WatchedHeads};
use std::ops::Range;

/// Text tokens of a sentence at most that a step watches: more than a sentence is cut to.
pub(super) const TEXT_MAX: usize = 256;

/// Attention of the conditional row's newest speech positions to the text, averaged over the
/// alignment heads: after a prefill one row per start token, after a step one row. The row of a
/// position belongs to the token that its logits predict. There are none without alignment heads.
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

/// What alignment heads note in a forward. The notes have the same place and size for any states
/// and texts, as a repeated forward must.
pub(super) struct Watch<'a> {
    heads: &'a [AttentionHead],
    /// Rows of the notes of each head.
    rows: usize,
    /// `[heads · rows, text]`, unless there are no heads.
    notes: Option<Tensor>,
    /// Heads that have noted.
    noted: usize,
    /// Heads of the layer under way.
    of_layer: Vec<usize>,
    watched: Vec<Watched>,
}

/// What was noted of one state.
struct Watched {
    /// Index of the state in the forward.
    state: usize,
    /// Its rows of the notes.
    rows: Range<usize>,
    /// Its text tokens.
    text: usize,
}

impl<'a> Watch<'a> {
    /// A watch with notes of `rows` rows of at most `text` text tokens.
    pub fn new(
        ctx: &Context<'_>,
        heads: &'a [AttentionHead],
        rows: usize,
        text: usize,
    ) -> Watch<'a> {
        Watch {
            heads,
            rows,
            notes: (!heads.is_empty()).then(|| ctx.tensor(&[heads.len() * rows, text])),
            noted: 0,
            of_layer: Vec::new(),
            watched: Vec::new(),
        }
    }

    /// Notes that a state has these rows of the notes.
    pub fn add(&mut self, state: usize, rows: Range<usize>, text: usize) {
        self.watched.push(Watched { state, rows, text });
    }

    /// The alignment heads of a layer, which come in the order of the layers.
    pub fn of_layer(&mut self, layer: usize) -> Option<WatchedHeads<'_>> {
        self.of_layer.clear();
        let heads = self.heads.iter().filter(|head| head.layer == layer);
        self.of_layer.extend(heads.map(|head| head.head));
        let first = self.noted * self.rows;
        self.noted += self.of_layer.len();
        let notes = self.notes.as_mut().filter(|_| !self.of_layer.is_empty())?;
        Some(WatchedHeads {
            heads: &self.of_layer,
            notes: notes.view_mut().rows(first..self.noted * self.rows),
        })
    }

    /// The result of the forward, with its logits.
    pub fn finish(self, logits: Tensor) -> Scores {
        Scores {
            logits,
            notes: self.notes.filter(|_| !self.watched.is_empty()),
            heads: self.heads.len(),
            rows: self.rows,
            watched: self.watched,
        }
    }
}

/// Logits of a forward, and what its alignment heads noted: both are read at once.
pub struct Scores {
    logits: Tensor,
    notes: Option<Tensor>,
    heads: usize,
    /// Rows of the notes of each head.
    rows: usize,
    watched: Vec<Watched>,
}

impl Scores {
    /// Logits of a forward without a watch.
    pub fn unwatched(logits: Tensor) -> Scores {
        Scores {
            logits,
            notes: None,
            heads: 0,
            rows: 0,
            watched: Vec::new(),
        }
    }

    /// The logits.
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }

    /// Calls `work` with the elements of the logits, and with what gives states their alignment.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub fn read<R: Default>(
        &self,
        ctx: &Context<'_>,
        work: impl FnOnce(&[f32], &Alignments<'_>) -> R,
    ) -> Result<R, Failure> {
        let scores = self;
        match &self.notes {
            Some(notes) => ctx.read_both([&self.logits, notes], |logits, notes| {
                work(logits, &Alignments { scores, notes })
            }),
            None => ctx.read(&self.logits, |logits| {
                work(logits, &Alignments { scores, notes: &[] })
            }),
        }
    }

    /// Gives the states their alignment, and returns the logits.
    pub(super) fn settle(
        self,
        ctx: &Context<'_>,
        states: &mut [&mut T3State],
    ) -> Result<Tensor, Failure> {
        if let Some(notes) = &self.notes {
            ctx.read(notes, |notes| {
                let alignments = Alignments {
                    scores: &self,
                    notes,
                };
                for (index, state) in states.iter_mut().enumerate() {
                    alignments.give(index, state);
                }
            })?;
        }
        Ok(self.logits)
    }
}

/// What the alignment heads of a forward noted, on the host.
pub struct Alignments<'a> {
    scores: &'a Scores,
    /// `[heads · rows, text]`.
    notes: &'a [f32],
}

impl Alignments<'_> {
    /// Gives a state, of this index in the forward, its alignment if that is watched.
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
        if self.notes.is_empty() {
            return;
        }
        let (width, share) = (self.notes.len() / (heads * rows), 1.0 / *heads as f32);
        (alignment.weights).resize(watched.rows.len() * watched.text, 0.0);
        let means = alignment.weights.chunks_exact_mut(watched.text.max(1));
        for (row, means) in watched.rows.clone().zip(means) {
            for head in 0..*heads {
                let noted = &self.notes[(head * rows + row) * width..][..watched.text];
                for (mean, weight) in means.iter_mut().zip(noted) {
                    *mean += share * weight;
                }
            }
        }
    }
}
