//! T3: from text tokens and a voice to speech tokens.
//!
//! A voice's conditioning is run once ([`T3::prefix`]); its keys and values are shared by every
//! utterance in that voice. Each utterance has a [`T3State`]. [`T3::prefill`] runs the text.
//! [`T3::step`] runs one token for each of many states, at their own positions, and reads the
//! weights once. Both return logits, from which a [`sampler::Sampler`] draws the next token.
//!
//! With classifier-free guidance a state has two rows: the first with the text, the second with
//! zeros in its place. Both rows share the prefix, whose inputs are the same.
//!
//! A model that decodes in blocks (flash) has no steps: [`T3::begin_blocks`] and [`T3::block_pass`]
//! run a block of tokens, and a [`BlockDecoder`] decides some of them after each pass. Its second
//! row has zeros in place of the voice too, so that its prefix has two rows.

mod alignment;
pub mod alignment_watch;
mod backbone;
mod block_decoder;
mod blocks;
mod cache;
mod conditioning;
mod repeated;
mod rope;
pub mod run_on;
pub mod sampler;
mod word_alignment;

pub use alignment::{AlignmentRows, Alignments, Scores};
pub use block_decoder::{BlockDecoder, Decided};
pub use blocks::BlockPass;
pub use cache::{KeyValueStore, Prefix, T3State};
pub use repeated::RepeatedForward;
pub use word_alignment::{AlignedWord, WordAligner};

use crate::config::{AttentionHead, T3Config};
use crate::weights::{Loader, WeightsError};
use alignment::{TEXT_MAX, Watch};
use backbone::Backbone;
use conditioning::Conditioning;
use sottovoce_memory::{OutOfMemory, Owner};
use sottovoce_tensor::{
    CachePlaces, CachePrecision, Context, DeviceError, Failure, Linear, Matrix, Precision, Tensor,
};
use std::sync::Arc;

/// Errors of T3.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum T3Error {
    /// Out of memory for the KV cache or for activations.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A token outside the vocabulary.
    #[error("{kind} token {token} is not below the vocabulary's {vocabulary}")]
    TokenOutOfRange {
        /// `text` or `speech`.
        kind: &'static str,
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// More tokens or positions than the model supports.
    #[error("{count} {kind} are more than the {limit} that the model takes: shorten the text")]
    TooLong {
        /// What exceeds the limit.
        kind: &'static str,
        /// The number given.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A way of decoding that the model was not trained for.
    #[error("the model decodes {expected}")]
    Decoding {
        /// How it decodes.
        expected: &'static str,
    },
    /// A speaker embedding of the wrong length.
    #[error("the speaker embedding has {found} values, the model takes {expected}")]
    SpeakerEmbedding {
        /// Length that the model expects.
        expected: usize,
        /// Length given.
        found: usize,
    },
}

impl From<Failure> for T3Error {
    fn from(failure: Failure) -> T3Error {
        match failure {
            Failure::OutOfMemory(error) => T3Error::OutOfMemory(error),
            Failure::Device(error) => T3Error::Device(error),
        }
    }
}

/// An error of a batched step or pass.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct BatchError {
    /// Index of the state whose input was refused; `None` if the error concerns the whole batch.
    pub index: Option<usize>,
    /// The error.
    #[source]
    pub error: T3Error,
}

impl BatchError {
    /// An error of one state's input.
    fn of(index: usize) -> impl FnOnce(T3Error) -> BatchError {
        move |error| BatchError {
            index: Some(index),
            error,
        }
    }
}

impl From<T3Error> for BatchError {
    fn from(error: T3Error) -> BatchError {
        BatchError { index: None, error }
    }
}

impl From<Failure> for BatchError {
    fn from(failure: Failure) -> BatchError {
        T3Error::from(failure).into()
    }
}

impl From<OutOfMemory> for BatchError {
    fn from(error: OutOfMemory) -> BatchError {
        T3Error::from(error).into()
    }
}

impl From<BatchError> for T3Error {
    fn from(batch: BatchError) -> T3Error {
        batch.error
    }
}

/// T3's inputs from a voice.
#[derive(Clone, Copy, Debug)]
pub struct VoiceConditioning<'a> {
    /// Output of the voice encoder.
    pub speaker_embedding: &'a [f32],
    /// Speech tokens of the reference clip; may be empty. Tokens beyond the model's prompt length
    /// are ignored.
    pub prompt_tokens: &'a [u32],
}

/// The network. Immutable: all mutable state is in [`T3State`].
#[derive(Debug)]
pub struct T3 {
    config: T3Config,
    alignment_heads: Vec<AttentionHead>,
    backbone: Backbone,
    conditioning: Conditioning,
    text_embedding: Matrix,
    speech_embedding: Matrix,
    /// Learned positions of text and speech (base model).
    positions: Option<[Matrix; 2]>,
    speech_head: Linear,
}

impl T3 {
    /// Loads the network's weights, for texts of at most `text_token_count_max` tokens, start and
    /// stop included.
    ///
    /// # Errors
    /// If a tensor is missing, has the wrong shape or is not finite.
    pub fn load(
        loader: &mut Loader<'_>,
        config: &T3Config,
        text_token_count_max: usize,
    ) -> Result<T3, WeightsError> {
        let hidden = config.backbone.hidden;
        let precision = loader.precision();
        let backbone = Backbone::load(loader, &config.backbone)?;
        let conditioning = Conditioning::load(loader, config)?;
        // The head is read once per step: 4 bits would save little and cost accuracy. Of the
        // tables, a step reads single rows, so that 16 bits cost no time. Only the text table has
        // the head's precision: it is by far the largest and affects the speech least.
        let narrow = match precision {
            Precision::Q4 => Precision::Int8,
            other => other,
        };
        let table = match precision {
            Precision::F32 => Precision::F32,
            _ => Precision::F16,
        };
        loader.set_precision(narrow);
        let text_embedding = loader.matrix("text_emb.weight", [config.text_vocabulary, hidden])?;
        let speech = [config.speech_vocabulary, hidden];
        let speech_head = loader.linear("speech_head", speech, config.speech_head_bias)?;
        loader.set_precision(table);
        let embedded = config.speech_vocabulary + usize::from(config.blocks.is_some());
        let speech_embedding = loader.matrix("speech_emb.weight", [embedded, hidden])?;
        let positions = match config.positions {
            // Longer sentences than the model is asked for need no rows.
            Some(tables) => Some([
                loader.first_rows(
                    "text_pos_emb.emb.weight",
                    [tables.text, hidden],
                    tables.text.min(text_token_count_max),
                )?,
                loader.first_rows(
                    "speech_pos_emb.emb.weight",
                    [tables.speech, hidden],
                    tables.speech.min(config.speech_position_count()),
                )?,
            ]),
            None => None,
        };
        loader.set_precision(precision);
        Ok(T3 {
            config: *config,
            alignment_heads: config.alignment_heads().to_vec(),
            backbone,
            conditioning,
            text_embedding,
            speech_embedding,
            positions,
            speech_head,
        })
    }

    /// The model's sizes.
    pub fn config(&self) -> &T3Config {
        &self.config
    }

    /// The heads whose attention is recorded for states that watch their alignment
    /// ([`T3State::watch_alignment`]): at first [`T3Config::alignment_heads`].
    pub fn alignment_heads(&self) -> &[AttentionHead] {
        &self.alignment_heads
    }

    /// Replaces the alignment heads.
    ///
    /// # Panics
    /// If the backbone has no such head.
    pub fn set_alignment_heads(&mut self, heads: &[AttentionHead]) {
        let backbone = &self.config.backbone;
        let known =
            |head: &AttentionHead| head.layer < backbone.layers && head.head < backbone.heads;
        assert!(heads.iter().all(known), "{heads:?} of {backbone:?}");
        self.alignment_heads = heads.to_vec();
    }

    /// Rows of logits per state: 2 with classifier-free guidance.
    pub fn rows(&self) -> usize {
        KeyValueStore::sequences_for_state(&self.config)
    }

    /// A KV cache for this network of at most `page_count_max` pages.
    pub fn store(
        &self,
        memory: &sottovoce_memory::Memory,
        precision: CachePrecision,
        page_count_max: usize,
    ) -> KeyValueStore {
        KeyValueStore::new(memory, &self.config, precision, page_count_max)
    }

    /// Runs a voice's conditioning and keeps its keys and values for all utterances in that voice.
    ///
    /// # Errors
    /// If memory runs out, or the voice does not match this model.
    pub fn prefix(
        &self,
        ctx: &Context<'_>,
        store: &KeyValueStore,
        owner: Owner,
        voice: &VoiceConditioning<'_>,
        exaggeration: f32,
    ) -> Result<Prefix, T3Error> {
        let mut x = self.condition(ctx, voice, exaggeration)?;
        let mut prefix = store.prefix(owner, x.rows())?;
        if self.config.prefix_rows() > 1 {
            let nothing = ctx.zeros(&[x.rows(), x.columns()]);
            x = ctx.concat_rows(&[x.view(), nothing.view()]);
        }
        self.backbone.forward(ctx, x, &mut prefix.places(), None);
        ctx.finish()?;
        Ok(prefix)
    }

    /// `[speaker | prompt | emotion]` as inputs of the backbone.
    fn condition(
        &self,
        ctx: &Context<'_>,
        voice: &VoiceConditioning<'_>,
        exaggeration: f32,
    ) -> Result<Tensor, T3Error> {
        let expected = self.config.speaker_embedding;
        let found = voice.speaker_embedding.len();
        if found != expected {
            return Err(T3Error::SpeakerEmbedding { expected, found });
        }
        let count = (voice.prompt_tokens.len()).min(self.config.prompt_token_count_max);
        let prompt = &voice.prompt_tokens[..count];
        self.check_tokens("speech", prompt)?;
        let prompt_embedding = (!prompt.is_empty()).then(|| {
            let positions: Vec<u32> = (0..prompt.len() as u32).collect();
            self.embed_speech(ctx, prompt, &positions, 1)
        });
        let speaker = ctx.upload(&[1, expected], voice.speaker_embedding);
        Ok(self
            .conditioning
            .forward(ctx, &speaker, prompt_embedding, exaggeration))
    }

    fn check_tokens(&self, kind: &'static str, tokens: &[u32]) -> Result<(), T3Error> {
        let vocabulary = match kind {
            "text" => self.text_embedding.rows(),
            _ => self.speech_embedding.rows(),
        };
        match tokens.iter().find(|&&token| token as usize >= vocabulary) {
            Some(&token) => Err(T3Error::TokenOutOfRange {
                kind,
                token,
                vocabulary,
            }),
            None => Ok(()),
        }
    }

    /// A state that holds only the prefix.
    pub fn state(&self, store: &KeyValueStore, owner: Owner, prefix: Arc<Prefix>) -> T3State {
        store.state(owner, prefix, self.rows())
    }

    /// Runs the text (with start and stop tokens if the model has them) and the start of speech;
    /// returns logits `[rows, vocabulary]` of the first token.
    ///
    /// # Errors
    /// If memory runs out, a token is not in the vocabulary, or there are too many.
    pub fn prefill(
        &self,
        ctx: &Context<'_>,
        state: &mut T3State,
        text: &[u32],
    ) -> Result<Tensor, T3Error> {
        let scores = self.prefill_scores(ctx, state, text)?;
        Ok(scores.settle(ctx, &mut [state])?)
    }

    /// As [`T3::prefill`]; the state's alignment is read with the logits.
    ///
    /// # Errors
    /// As [`T3::prefill`].
    pub fn prefill_scores(
        &self,
        ctx: &Context<'_>,
        state: &mut T3State,
        text: &[u32],
    ) -> Result<Scores, T3Error> {
        self.start(ctx, state, text, &[])
    }

    /// Teacher-forced logits `[rows, speech.len(), vocabulary]`: place k predicts `speech[k]` from
    /// the text and all speech before it.
    ///
    /// # Errors
    /// As [`T3::prefill`].
    pub fn teacher_forced(
        &self,
        ctx: &Context<'_>,
        state: &mut T3State,
        text: &[u32],
        speech: &[u32],
    ) -> Result<Tensor, T3Error> {
        self.check_tokens("speech", speech)?;
        let given = &speech[..speech.len().saturating_sub(1)];
        let scores = self.start(ctx, state, text, given)?;
        let logits = scores.settle(ctx, &mut [state])?;
        Ok(logits.reshape(&[self.rows(), given.len() + 1, self.config.speech_vocabulary]))
    }

    /// Runs text, start tokens and `speech`; returns logits of the last start token and of each
    /// token of `speech`, row by row.
    fn start(
        &self,
        ctx: &Context<'_>,
        state: &mut T3State,
        text: &[u32],
        speech: &[u32],
    ) -> Result<Scores, T3Error> {
        if self.config.blocks.is_some() {
            let expected = "in blocks, not one token at a time";
            return Err(T3Error::Decoding { expected });
        }
        self.check_tokens("text", text)?;
        self.check_tokens("speech", speech)?;
        let starts = if self.config.speech_start_twice { 2 } else { 1 };
        let length = text.len() + starts + speech.len();
        self.check_length(state.position() + length, text.len(), speech.len() + 1)?;

        let mut tokens = vec![self.config.speech_start; starts];
        tokens.extend_from_slice(speech);
        // Both start tokens have speech position 0.
        let positions: Vec<u32> = (0..tokens.len())
            .map(|index| (index + 1).saturating_sub(starts) as u32)
            .collect();
        let speech_part = self.embed_speech(ctx, &tokens, &positions, 1);
        let mut text_parts = Vec::new();
        for row in 0..self.rows() {
            text_parts.push(self.embed_text(ctx, text, row));
        }
        let mut parts = Vec::new();
        for text_part in &text_parts {
            parts.push(text_part.view());
            parts.push(speech_part.view());
        }
        let x = ctx.concat_rows(&parts);
        drop((text_parts, speech_part));

        let first = state.position();
        state.grow(length)?;
        state.text = first..first + text.len();
        let spoken = tokens.len();
        let mut watch = Watch::new(ctx, &self.alignment_heads, spoken, text.len());
        let watched = state.alignment.is_some();
        if watched {
            watch.add(0, 0..spoken, text.len());
        }
        let at = state.text.clone();
        let mut places = CachePlaces::new(state.layout());
        let sequence = state.add_to(&mut places);
        for row in 0..self.rows() {
            for index in 0..length {
                places.add_row(sequence + row, first + index + 1);
                if watched && row == 0 && index >= text.len() {
                    places.watch(index - text.len(), at.clone());
                }
            }
        }
        let x = (self.backbone).forward(ctx, x, &mut places, Some(&mut watch));
        state.speech_position = speech.len();
        let wanted = speech.len() + 1;
        let last: Vec<_> = (0..self.rows())
            .map(|row| {
                x.view()
                    .rows((row + 1) * length - wanted..(row + 1) * length)
            })
            .collect();
        let logits = ctx.linear(&ctx.concat_rows(&last), &self.speech_head);
        ctx.finish()?;
        Ok(watch.finish(logits))
    }

    /// Runs one token for each state; returns logits `[states · rows, vocabulary]` of the next
    /// token. The rows of a state are adjacent.
    ///
    /// # Errors
    /// If memory runs out (no state has advanced then), a token is not in the vocabulary, or a
    /// state is at the model's last position; the error names that state.
    ///
    /// # Panics
    /// If there are not as many tokens as states.
    pub fn step(
        &self,
        ctx: &Context<'_>,
        states: &mut [&mut T3State],
        tokens: &[u32],
    ) -> Result<Tensor, BatchError> {
        let scores = self.step_scores(ctx, states, tokens)?;
        Ok(scores.settle(ctx, states)?)
    }

    /// As [`T3::step`]; the states' alignment is read with the logits.
    ///
    /// # Errors
    /// As [`T3::step`].
    ///
    /// # Panics
    /// As [`T3::step`].
    pub fn step_scores(
        &self,
        ctx: &Context<'_>,
        states: &mut [&mut T3State],
        tokens: &[u32],
    ) -> Result<Scores, BatchError> {
        assert_eq!(states.len(), tokens.len(), "a token for each state");
        for (index, (state, token)) in states.iter().zip(tokens).enumerate() {
            self.check_tokens("speech", std::slice::from_ref(token))
                .and_then(|()| {
                    self.check_length(state.position() + 1, 0, state.speech_position + 2)
                })
                .map_err(BatchError::of(index))?;
        }
        let mut positions = Vec::with_capacity(states.len());
        for index in 0..states.len() {
            if let Err(error) = states[index].grow(1) {
                (states[..index].iter_mut()).for_each(|state| state.shrink(1));
                return Err(error.into());
            }
            let state = &mut states[index];
            state.speech_position += 1;
            positions.push(state.speech_position as u32);
        }
        let mut places = match states.first() {
            Some(state) => CachePlaces::new(state.layout()),
            None => self.backbone.dry_places(0),
        };
        let mut watch = self.step_watch(ctx, states.len());
        for (index, state) in states.iter_mut().enumerate() {
            let (length, at) = (state.position(), state.text.clone());
            let watched = state.alignment.is_some() && at.len() <= TEXT_MAX;
            if watched {
                watch.add(index, index..index + 1, at.len());
            }
            let sequence = state.add_to(&mut places);
            for row in 0..self.rows() {
                places.add_row(sequence + row, length);
                if watched && row == 0 {
                    places.watch(index, at.clone());
                }
            }
        }
        let logits = ctx
            .device
            .replayed(RepeatedForward::step(tokens.len()).key(), || {
                self.decode(ctx, tokens, &positions, &mut places, &mut watch)
            });
        if let Err(error) = ctx.finish() {
            states.iter_mut().for_each(|state| state.shrink(1));
            return Err(error.into());
        }
        Ok(watch.finish(logits))
    }

    /// The watch of a step of `states` states.
    fn step_watch(&self, ctx: &Context<'_>, states: usize) -> Watch<'_> {
        Watch::new(ctx, &self.alignment_heads, states, TEXT_MAX)
    }

    /// Embeds each state's token once per row, then runs the backbone and the head.
    fn decode(
        &self,
        ctx: &Context<'_>,
        tokens: &[u32],
        positions: &[u32],
        places: &mut CachePlaces<'_>,
        watch: &mut Watch<'_>,
    ) -> Tensor {
        let x = self.embed_speech(ctx, tokens, positions, self.rows());
        (self.backbone).forward_to(ctx, x, places, Some(watch), &self.speech_head)
    }

    /// Runs a step in a measuring context, so that its workspace can be planned.
    pub fn measure_step(&self, ctx: &Context<'_>, states: usize) {
        let tokens = vec![0; states];
        let mut places = self.backbone.dry_places(states * self.rows());
        let mut watch = self.step_watch(ctx, states);
        self.decode(ctx, &tokens, &tokens, &mut places, &mut watch);
    }

    fn check_length(&self, length: usize, text: usize, speech: usize) -> Result<(), T3Error> {
        let mut limits = vec![("positions", length, self.config.backbone.position_count_max)];
        if let Some([of_text, of_speech]) = &self.positions {
            limits.push(("text tokens", text, of_text.rows()));
            limits.push(("speech tokens", speech, of_speech.rows()));
        }
        match limits.into_iter().find(|(_, count, limit)| count > limit) {
            Some((kind, count, limit)) => Err(T3Error::TooLong { kind, count, limit }),
            None => Ok(()),
        }
    }

    /// Embeds each token `times` times.
    fn embed_speech(
        &self,
        ctx: &Context<'_>,
        tokens: &[u32],
        positions: &[u32],
        times: usize,
    ) -> Tensor {
        let positions = (self.positions.as_ref()).map(|[_, table]| (table, positions));
        ctx.embedding_sum(&self.speech_embedding, tokens, positions, times)
    }

    /// Embeds the text; row 1 is zeros, plus positions unless the model decodes in blocks.
    fn embed_text(&self, ctx: &Context<'_>, text: &[u32], row: usize) -> Tensor {
        let mut x = match row {
            0 => ctx.embedding(&self.text_embedding, text),
            _ => ctx.zeros(&[text.len(), self.config.backbone.hidden]),
        };
        let is_placed = row == 0 || self.config.blocks.is_none();
        if let Some([table, _]) = self.positions.as_ref().filter(|_| is_placed) {
            let positions: Vec<u32> = (0..text.len() as u32).collect();
            ctx.add(&mut x, &ctx.embedding(table, &positions));
        }
        x
    }

    /// Most speech tokens that fit after `text_len` text tokens and a prefix of `prefix_len`.
    pub fn speech_tokens_max(&self, prefix_len: usize, text_len: usize) -> usize {
        let starts = if self.config.speech_start_twice { 2 } else { 1 };
        let positions = self.config.backbone.position_count_max;
        let after_text = positions.saturating_sub(prefix_len + text_len + starts);
        match &self.positions {
            Some([_, of_speech]) => after_text.min(of_speech.rows() - 1),
            None => after_text,
        }
    }
}
