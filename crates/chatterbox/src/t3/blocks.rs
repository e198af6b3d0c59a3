//! Passes over blocks of speech tokens, for models that decode in blocks.
//!
//! Inside a block, decided or not, attention is full; in the text, causal. The logits of a place
//! come from the hidden state of the place before it. A pass over a block also runs what has been
//! decided since the pass before (text and start token, or the block before), so that its keys and
//! values need no pass of their own.
//!
//! Source: Chatterbox-Flash (arXiv:2605.30748), `chatterbox_flash.model`.

use super::cache::{KeyValueStore, T3State};
use super::repeated::RepeatedForward;
use super::{BatchError, T3, T3Error};
use crate::config::BlockConfig;
use sottovoce_memory::Owner;
use sottovoce_tensor::{CachePlaces, Context, Tensor};
use std::sync::Arc;

/// Input of one state's pass.
#[derive(Clone, Copy, Debug)]
pub struct BlockPass<'a> {
    /// The previous block, if it was decided since the last pass. Its keys and values are kept.
    pub settled: &'a [u32],
    /// The block, with [`crate::config::T3Config::mask_token`] at undecided places. Its keys and
    /// values are dropped after the pass.
    pub block: &'a [u32],
}

impl BlockPass<'_> {
    /// Number of places of the block whose logits the pass returns. The first place's come from the
    /// block's first pass only.
    pub fn places(&self) -> usize {
        self.block.len() - usize::from(self.settled.is_empty())
    }

    /// Number of input rows for each row of the state.
    pub(super) fn length(&self) -> usize {
        self.settled.len() + self.block.len()
    }
}

/// Number of settled tokens and of tokens in the block, for each pass.
fn lengths(passes: &[BlockPass<'_>]) -> Vec<(usize, usize)> {
    (passes.iter())
        .map(|pass| (pass.settled.len(), pass.block.len()))
        .collect()
}

/// The settled input of a pass, which decides the attention mask.
#[derive(Clone, Copy)]
enum Settling {
    /// Text and start token: causal attention.
    Text,
    /// A block: full attention within it.
    Block,
}

impl T3 {
    pub(super) fn blocks(&self) -> Result<&BlockConfig, T3Error> {
        self.config.blocks.as_ref().ok_or(T3Error::Decoding {
            expected: "one token at a time, not in blocks",
        })
    }

    /// Runs text, start token and a first block; returns logits `[rows · block, vocabulary]`, row
    /// by row.
    ///
    /// # Errors
    /// If memory runs out, a token is not in the vocabulary, or there are too many; if the model
    /// does not decode in blocks.
    pub fn begin_blocks(
        &self,
        ctx: &Context<'_>,
        state: &mut T3State,
        text: &[u32],
        block: &[u32],
    ) -> Result<Tensor, T3Error> {
        self.check_tokens("text", text)?;
        let pass = BlockPass {
            settled: &[self.config.speech_start],
            block,
        };
        self.check_block(&pass)?;
        let length = text.len() + pass.length();
        self.check_length(state.position() + length, text.len(), block.len() + 1)?;
        let lengths = [(text.len() + 1, block.len())];
        self.run_blocks(ctx, &mut [state], &lengths, Settling::Text, |places| {
            let speech = self.embed_blocks(ctx, &[pass], 1);
            let text_parts: Vec<Tensor> = (0..self.rows())
                .map(|row| self.embed_text(ctx, text, row))
                .collect();
            let parts: Vec<_> = (text_parts.iter())
                .flat_map(|text| [text.view(), speech.view()])
                .collect();
            let x = ctx.concat_rows(&parts);
            drop(parts);
            drop((text_parts, speech));
            self.decode_blocks(ctx, x, places, &lengths)
        })
    }

    /// Runs a pass for each state; returns the logits of each pass's places, state by state and row
    /// by row.
    ///
    /// # Errors
    /// As [`T3::begin_blocks`], with the state whose pass was refused; if memory runs out, no state
    /// has changed.
    ///
    /// # Panics
    /// If there are not as many passes as states.
    pub fn block_pass(
        &self,
        ctx: &Context<'_>,
        states: &mut [&mut T3State],
        passes: &[BlockPass<'_>],
    ) -> Result<Tensor, BatchError> {
        assert_eq!(states.len(), passes.len(), "a pass for each state");
        for (index, (state, pass)) in states.iter().zip(passes).enumerate() {
            let length = state.position() + pass.length();
            self.check_block(pass)
                .and_then(|()| self.check_length(length, 0, pass.block.len() + 1))
                .map_err(BatchError::of(index))?;
        }
        let lengths = lengths(passes);
        let repeated = self.repeated_pass(passes);
        let run = |places: &mut CachePlaces<'_>| {
            let mut decode = || self.decode_passes(ctx, passes, places);
            match repeated {
                Some(repeated) => ctx.device.replayed(repeated.key(), decode),
                None => decode(),
            }
        };
        Ok(self.run_blocks(ctx, states, &lengths, Settling::Block, run)?)
    }

    /// The forward that these passes are, if all blocks are whole and the states with a settled one
    /// come first.
    pub fn repeated_pass(&self, passes: &[BlockPass<'_>]) -> Option<RepeatedForward> {
        let size = self.config.blocks.as_ref()?.size;
        let settled = passes.partition_point(|pass| !pass.settled.is_empty());
        let repeats = passes.iter().enumerate().all(|(index, pass)| {
            let expected = if index < settled { size } else { 0 };
            (pass.settled.len(), pass.block.len()) == (expected, size)
        });
        repeats.then(|| RepeatedForward::pass(passes.len(), settled))
    }

    /// Runs `decode` with the places of each state's settled part and block.
    fn run_blocks(
        &self,
        ctx: &Context<'_>,
        states: &mut [&mut T3State],
        lengths: &[(usize, usize)],
        settling: Settling,
        decode: impl FnOnce(&mut CachePlaces<'_>) -> Tensor,
    ) -> Result<Tensor, T3Error> {
        for index in 0..states.len() {
            let (settled, block) = lengths[index];
            if let Err(error) = states[index].grow(settled + block) {
                for (state, (settled, block)) in states[..index].iter_mut().zip(lengths) {
                    state.rewind(settled + block);
                }
                return Err(error.into());
            }
        }
        let mut places = match states.first() {
            Some(state) => CachePlaces::new(state.layout()),
            None => self.backbone.dry_places(0),
        };
        for (state, &(settled, block)) in states.iter_mut().zip(lengths) {
            let length = state.position();
            let sequence = state.add_to(&mut places);
            for row in 0..self.rows() {
                match settling {
                    Settling::Text => {
                        for own in length - block - settled..length - block {
                            places.add_row(sequence + row, own + 1);
                        }
                    }
                    Settling::Block => {
                        places.add_block(sequence + row, length - block, settled);
                    }
                }
                places.add_block(sequence + row, length, block);
            }
        }
        let logits = decode(&mut places);
        drop(places);
        let finished = ctx.finish();
        for (state, &(settled, block)) in states.iter_mut().zip(lengths) {
            state.rewind(match finished {
                Ok(()) => block,
                Err(_) => settled + block,
            });
        }
        finished?;
        Ok(logits)
    }

    /// Embeds settled parts and blocks, then runs the backbone and the head.
    pub(super) fn decode_passes(
        &self,
        ctx: &Context<'_>,
        passes: &[BlockPass<'_>],
        places: &mut CachePlaces<'_>,
    ) -> Tensor {
        let x = self.embed_blocks(ctx, passes, self.rows());
        self.decode_blocks(ctx, x, places, &lengths(passes))
    }

    /// Runs `x`, whose rows are those of each state's settled part and block, through the backbone
    /// and the head. Of a block without a settled part, the first place has no logits.
    fn decode_blocks(
        &self,
        ctx: &Context<'_>,
        x: Tensor,
        places: &mut CachePlaces<'_>,
        lengths: &[(usize, usize)],
    ) -> Tensor {
        let x = self.backbone.forward(ctx, x, places, None);
        let mut wanted = Vec::new();
        let mut first = 0;
        for &(settled, block) in lengths {
            for _ in 0..self.rows() {
                let end = first + settled + block;
                wanted.push(x.view().rows(first + settled.saturating_sub(1)..end - 1));
                first = end;
            }
        }
        ctx.linear(&ctx.concat_rows(&wanted), &self.speech_head)
    }

    /// Runs a pass with a settled block in a measuring context, so that its workspace can be
    /// planned.
    pub fn measure_block_pass(&self, ctx: &Context<'_>, states: usize) {
        let Some(blocks) = &self.config.blocks else {
            return;
        };
        let block = vec![0; blocks.size];
        let pass = BlockPass {
            settled: &block,
            block: &block,
        };
        let mut places = self
            .backbone
            .dry_places(states * pass.length() * self.rows());
        self.decode_passes(ctx, &vec![pass; states], &mut places);
    }

    /// Probability of each speech token at the places of a masked block after the start token,
    /// without voice and text: the mean over the places. It depends on the weights only.
    ///
    /// # Errors
    /// As [`T3::begin_blocks`].
    pub fn block_prior(
        &self,
        ctx: &Context<'_>,
        store: &KeyValueStore,
        owner: Owner,
    ) -> Result<Vec<f32>, T3Error> {
        let size = self.blocks()?.size;
        let mut state = self.state(store, owner, Arc::new(store.prefix(owner, 0)?));
        state.grow(size + 1)?;
        let mut places = CachePlaces::new(state.layout());
        let sequence = state.add_to(&mut places);
        for own in 0..=size {
            places.add_row(sequence, own + 1);
        }
        let mut tokens = vec![self.config.mask_token(); size + 1];
        tokens[0] = self.config.speech_start;
        let positions: Vec<u32> = (0..=size as u32).collect();
        let x = self.embed_speech(ctx, &tokens, &positions, 1);
        let x = self.backbone.forward(ctx, x, &mut places, None);
        let before = ctx.copy(x.view().rows(0..size));
        let logits = ctx.linear(&before, &self.speech_head);
        ctx.finish()?;
        let mut prior = vec![0.0_f64; self.config.speech_vocabulary];
        ctx.read(&logits, |logits| {
            for row in logits.chunks_exact(prior.len()) {
                let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let weight = |logit: f32| f64::from(logit - most).exp();
                let total: f64 = row.iter().map(|&logit| weight(logit)).sum();
                for (prior, &logit) in prior.iter_mut().zip(row) {
                    *prior += weight(logit) / total / size as f64;
                }
            }
        })?;
        Ok(prior.into_iter().map(|share| share as f32).collect())
    }

    fn check_block(&self, pass: &BlockPass<'_>) -> Result<(), T3Error> {
        let limit = self.blocks()?.size;
        let count = pass.block.len();
        if count > limit || count == 0 {
            return Err(T3Error::TooLong {
                kind: "speech tokens in a block",
                count,
                limit,
            });
        }
        self.check_tokens("speech", pass.settled)?;
        self.check_tokens("speech", pass.block)
    }

    /// Embeds settled part and block of each pass `rows` times, in one tensor: the allocations of a
    /// run must not depend on the number of streams. Learned positions begin at 0 in both parts.
    fn embed_blocks(&self, ctx: &Context<'_>, passes: &[BlockPass<'_>], rows: usize) -> Tensor {
        let (mut tokens, mut positions) = (Vec::new(), Vec::new());
        for pass in passes {
            for part in [pass.settled, pass.block].repeat(rows) {
                tokens.extend_from_slice(part);
                positions.extend(0..part.len() as u32);
            }
        }
        self.embed_speech(ctx, &tokens, &positions, 1)
    }
}
