//! The state of one stream on its way through the model.

use crate::chunking::{Pass, Schedule, Window, whole_pass};
use crate::error::Error;
use crate::holdings::Holdings;
use crate::options::SAMPLE_RATE;
use crate::plan::Extent;
use sottovoce_chatterbox::config::SamplingConfig;
use sottovoce_chatterbox::s3gen::{FlowState, Rendering};
use sottovoce_chatterbox::t3::T3State;
use sottovoce_chatterbox::t3::run_on::RunOnWatch;
use sottovoce_chatterbox::t3::sampler::Sampler;
use sottovoce_chatterbox::text::{Piece, Script, Sentence, TextOptions, Warning};
use sottovoce_chatterbox::vocoder::VocoderState;
use std::collections::VecDeque;

/// Sets the random numbers of one sentence apart from those of the next.
pub(super) const SENTENCE_SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Speech starts with one or two.
pub(crate) const START_TOKENS: usize = 2;
/// Positions reserved beyond what is needed when a sentence goes on longer than was likely.
pub(super) const FURTHER_POSITIONS: usize = 64;
/// Seldom does speech take longer than this: slow speakers need 2 tokens a letter.
pub(super) const TOKENS_A_LETTER: usize = 2;
pub(super) const TOKENS_AT_LEAST: usize = 50;

/// How long a sentence may well be, in speech tokens.
pub(super) fn likely_tokens(sentence: &str) -> usize {
    TOKENS_AT_LEAST + TOKENS_A_LETTER * sentence.chars().count()
}

/// What is to be spoken, in order.
pub(super) enum Coming {
    Sentence(Sentence),
    /// So many samples of nothing.
    Silence(u64),
}

impl Coming {
    /// What a script has, and its warnings.
    pub(super) fn of(script: Script) -> (VecDeque<Coming>, Vec<Warning>) {
        let coming = script.pieces.into_iter().map(|piece| match piece {
            Piece::Words(sentence) => Coming::Sentence(sentence),
            Piece::Pause { seconds, .. } => {
                Coming::Silence((seconds * f64::from(SAMPLE_RATE)).round() as u64)
            }
        });
        (coming.collect(), script.warnings)
    }

    pub(super) fn sentence(&self) -> Option<&Sentence> {
        match self {
            Coming::Sentence(sentence) => Some(sentence),
            Coming::Silence(_) => None,
        }
    }
}

/// Tokens of these sentences together.
pub(super) fn text_tokens(coming: &VecDeque<Coming>) -> u64 {
    let sentences = coming.iter().filter_map(Coming::sentence);
    sentences.map(|s| s.tokens.len() as u64).sum()
}

/// One stream's way through the model.
pub(crate) struct Utterance {
    pub(super) state: T3State,
    /// What its runs need of the workspaces.
    pub(super) extent: Extent,
    /// What was reckoned with for a stream's own positions.
    pub(super) positions_max: usize,
    pub(super) sampling: SamplingConfig,
    pub(super) seed: u64,
    pub(super) text: TextOptions,
    pub(super) coming: VecDeque<Coming>,
    /// Whether the last that came was a sentence.
    pub(super) after_words: bool,
    /// Line breaks in the text so far.
    pub(super) lines: usize,
    /// What was passed over in the text since this was last asked.
    pub(super) warnings: Vec<Warning>,
    pub(super) sentence_count: u64,
    /// The caller's own limit of a sentence, in place of what its text tells.
    pub(super) sentence_tokens_max: Option<usize>,
    pub(super) text_tokens: u64,
    pub(super) speaking: Option<Speaking>,
    pub(super) flow: FlowState,
    pub(super) vocoder: VocoderState,
    /// Sound was made since the last silence.
    pub(super) sounding: bool,
    /// A chunk whose samples could not be made yet.
    pub(super) rendered: Option<Rendered>,
    pub(super) look_ahead: usize,
    pub(super) schedule: Schedule,
    /// How a stream that is delivered whole is cut; none for one in chunks.
    pub(super) window: Option<Window>,
    /// Tokens that no pass of such a stream has begun with.
    pub(super) later: VecDeque<u32>,
    /// After how many of the tokens that wait sentences end, in order.
    pub(super) ends: VecDeque<usize>,
    /// The next pass goes on with a sentence.
    pub(super) within: bool,
    pub(super) generated: u64,
    pub(super) run_ons: u64,
    /// A sentence began since it was last asked.
    pub(super) crossed: bool,
    /// Further text may come.
    pub(super) open: bool,
}

/// A sentence under way in T3.
pub(super) struct Speaking {
    pub(super) sampler: Sampler,
    pub(super) watch: RunOnWatch,
    pub(super) last: u32,
    pub(super) tokens: usize,
    pub(super) tokens_max: usize,
}

/// Mel frames on their way to samples.
pub(super) struct Rendered {
    pub(super) mel: Rendering,
    /// Frames that the vocoder has.
    pub(super) given: usize,
    pub(super) samples: Vec<f32>,
}

impl Utterance {
    /// Whether T3 has more to say before the next silence.
    pub fn speaking(&self) -> bool {
        self.speaking.is_some() || matches!(self.coming.front(), Some(Coming::Sentence(_)))
    }

    /// Whether all text that is there was given to T3 and said by it, and no silence is left.
    pub fn is_said(&self) -> bool {
        self.speaking.is_none() && self.coming.is_empty()
    }

    /// Whether a silence comes after the tokens that wait.
    pub fn before_silence(&self) -> bool {
        self.speaking.is_none() && matches!(self.coming.front(), Some(Coming::Silence(_)))
    }

    /// Whether more will come after the tokens that wait, or may.
    pub fn goes_on(&self) -> bool {
        !self.is_said() || self.open
    }

    /// Takes up to `samples_max` of the silence that is next, when all sound before it was made.
    pub fn take_silence(&mut self, samples_max: usize) -> Option<usize> {
        if self.speaking.is_some() || self.sounding || self.tokens_waiting() > 0 {
            return None;
        }
        let Some(Coming::Silence(left)) = self.coming.front_mut() else {
            return None;
        };
        let taken = (*left).min(samples_max as u64);
        *left -= taken;
        if *left == 0 {
            self.coming.pop_front();
        }
        Some(taken as usize)
    }

    /// Sentences and silences that were not begun.
    pub fn coming(&self) -> usize {
        self.coming.len()
    }

    /// What was passed over or changed in the text since this was last asked.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    /// Whether further text may come.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Tokens that wait to be made sound.
    pub fn tokens_waiting(&self) -> usize {
        self.flow.waiting() + self.later.len()
    }

    /// The tokens of chunk `index`, if enough are there for it. A chunk's size depends on its
    /// number, the tokens and the stream's own options alone, so that samples do not depend on
    /// other streams or on the reader's speed.
    pub fn due(&self, index: u64) -> Option<Pass> {
        let waiting = self.tokens_waiting();
        let waits_for_text = self.open && self.is_said();
        if waits_for_text && waiting == 0 {
            return None;
        }
        if let Some(window) = self.window {
            let ends = self.ends.iter().copied();
            return whole_pass(waiting, ends, !self.speaking(), self.within, window);
        }
        let size = self.schedule.tokens(index);
        let count = if waits_for_text {
            // What follows is not known.
            let known = waiting.saturating_sub(self.look_ahead);
            Some(size.min(known)).filter(|count| *count > 0)
        } else if self.speaking() {
            (waiting >= size + self.look_ahead).then_some(size)
        } else if waiting <= self.chunk_tokens_max() + self.look_ahead {
            Some(waiting)
        } else {
            Some(size)
        };
        count.map(|count| Pass {
            count,
            look_ahead: 0,
            goes_on: true,
        })
    }

    /// Adds tokens of the sentence under way.
    pub(super) fn push(&mut self, tokens: &[u32]) {
        match self.window {
            Some(_) => self.later.extend(tokens),
            None => self.flow.push(tokens),
        }
    }

    /// Sentences so far that were ended because speech looped or ran on after their text.
    pub fn run_ons(&self) -> u64 {
        self.run_ons
    }

    /// Most tokens of a chunk.
    pub fn chunk_tokens_max(&self) -> usize {
        self.extent.chunk_tokens
    }

    /// Tokens of the whole text.
    pub fn text_tokens(&self) -> u64 {
        self.text_tokens
    }

    /// Tokens so far.
    pub fn tokens_generated(&self) -> u64 {
        self.generated
    }

    /// Bytes that it has, in use or reserved.
    pub fn bytes(&self) -> u64 {
        self.state.reserved_bytes() as u64
    }

    /// What runs of several need of the workspaces.
    pub fn extent_together<'a>(utterances: impl Iterator<Item = &'a Utterance>) -> Extent {
        let mut together = Extent::default();
        for (index, utterance) in utterances.enumerate() {
            together = together.union(&utterance.extent);
            together.streams = index + 1;
        }
        together
    }

    /// Sees to it that there are pages for `count` more positions.
    pub(super) fn make_room(&mut self, count: usize, holdings: &Holdings) -> Result<(), Error> {
        let needed = self.state.own_positions() + count;
        if needed > self.state.reserved_positions() {
            let _open = holdings.open();
            let generous = (needed + FURTHER_POSITIONS).min(self.positions_max);
            self.state.reserve(generous.max(needed))?;
        }
        Ok(())
    }

    /// Starts the random numbers of the sentence that is next.
    pub(super) fn sentence_seed(&self) -> u64 {
        (self.seed).wrapping_add(self.sentence_count.wrapping_mul(SENTENCE_SEED_STEP))
    }

    /// Whether T3 went on in a fresh window since this was last asked.
    pub fn take_crossed(&mut self) -> bool {
        std::mem::take(&mut self.crossed)
    }
}
