//! State of one stream in the pipeline.

use super::no_speech;
use crate::chunking::{Pass, Schedule, Window, whole_pass};
use crate::error::Error;
use crate::holdings::Holdings;
use crate::options::SAMPLE_RATE;
use crate::plan::Extent;
use crate::word_times::SpokenWord;
use sottovoce_chatterbox::config::{ModelConfig, SamplingConfig};
use sottovoce_chatterbox::s3gen::{FlowState, Rendering};
use sottovoce_chatterbox::t3::alignment_watch::{AlignmentWatch, Stop};
use sottovoce_chatterbox::t3::run_on::RunOnWatch;
use sottovoce_chatterbox::t3::sampler::Sampler;
use sottovoce_chatterbox::t3::{AlignedWord, BlockDecoder, T3State, WordAligner};
use sottovoce_chatterbox::text::{Piece, Script, Sentence, TextOptions, Warning, Word};
use sottovoce_chatterbox::vocoder::VocoderState;
use std::collections::VecDeque;

/// Separates the random numbers of successive sentences.
pub(super) const SENTENCE_SEED_STEP: u64 = sottovoce_tensor::split_mix::INCREMENT;

/// Speech starts with one or two tokens.
pub(crate) const START_TOKENS: usize = 2;
/// Positions reserved beyond the need when a sentence exceeds its likely length.
pub(super) const FURTHER_POSITIONS: usize = 64;
/// Likely most tokens per letter: slow speakers take 2.
pub(super) const TOKENS_A_LETTER: usize = 2;
pub(super) const TOKENS_AT_LEAST: usize = 50;

/// Likely most speech tokens of a sentence.
pub(super) fn likely_tokens(sentence: &str) -> usize {
    TOKENS_AT_LEAST + TOKENS_A_LETTER * sentence.chars().count()
}

/// Pending sentences and silences.
pub(super) enum Coming {
    Sentence(Sentence),
    /// A silence of this many samples.
    Silence(u64),
}

impl Coming {
    /// The parts of a script, and its warnings.
    pub(super) fn of(script: Script) -> (VecDeque<Coming>, Vec<Warning>) {
        let coming = script.pieces.into_iter().map(|piece| match piece {
            Piece::Words(sentence) => Coming::Sentence(sentence),
            Piece::Pause { seconds, .. } => {
                Coming::Silence((seconds * f64::from(SAMPLE_RATE)).round() as u64)
            }
        });
        (coming.collect(), script.warnings)
    }

    /// The words of a sentence.
    pub(super) fn words_mut(&mut self) -> &mut [Word] {
        match self {
            Coming::Sentence(sentence) => &mut sentence.words,
            Coming::Silence(_) => &mut [],
        }
    }

    pub(super) fn sentence(&self) -> Option<&Sentence> {
        match self {
            Coming::Sentence(sentence) => Some(sentence),
            Coming::Silence(_) => None,
        }
    }
}

/// Total text tokens of these sentences.
pub(super) fn text_tokens(coming: &VecDeque<Coming>) -> u64 {
    let sentences = coming.iter().filter_map(Coming::sentence);
    sentences.map(|s| s.tokens.len() as u64).sum()
}

/// A stream in the pipeline.
pub(crate) struct Utterance {
    /// `None` for a voice change, and once T3 has generated all speech.
    pub(super) state: Option<T3State>,
    /// Workspace extent of its runs.
    pub(super) extent: Extent,
    /// Most positions of its own, as planned for a stream.
    pub(super) positions_max: usize,
    pub(super) sampling: SamplingConfig,
    pub(super) seed: u64,
    pub(super) text: TextOptions,
    pub(super) coming: VecDeque<Coming>,
    /// Whether the last part was a sentence.
    pub(super) after_words: bool,
    /// Line breaks in the text so far.
    pub(super) lines: usize,
    /// Characters of an open text so far.
    pub(super) characters: usize,
    /// Whether the times of words are wanted and known.
    pub(super) times_words: bool,
    /// Words since they were last taken, if their times are wanted.
    pub(super) words: Vec<SpokenWord>,
    /// Speech tokens since the last silence, or since the start.
    pub(super) run_tokens: usize,
    /// Warnings about the text since they were last taken.
    pub(super) warnings: Vec<Warning>,
    pub(super) sentence_count: u64,
    /// The caller's limit on a sentence, in place of the estimate from the text.
    pub(super) sentence_tokens_max: Option<usize>,
    /// Whether attention to the text decides about a sentence's end.
    pub(super) watches_alignment: bool,
    pub(super) text_tokens: u64,
    pub(super) speaking: Option<Speaking>,
    pub(super) flow: FlowState,
    pub(super) vocoder: VocoderState,
    /// Whether sound was made since the last silence.
    pub(super) sounding: bool,
    /// A chunk whose samples could not be made yet.
    pub(super) rendered: Option<Rendered>,
    pub(super) look_ahead: usize,
    pub(super) schedule: Schedule,
    /// Window of whole delivery; `None` in chunked delivery.
    pub(super) window: Option<Window>,
    /// In whole delivery, tokens that no pass has started with.
    pub(super) later: VecDeque<u32>,
    /// Positions of sentence ends among the waiting tokens, in order.
    pub(super) ends: VecDeque<usize>,
    /// Whether the next pass continues a sentence.
    pub(super) within: bool,
    pub(super) generated: u64,
    pub(super) run_ons: u64,
    /// Whether a sentence began since this was last taken.
    pub(super) sentence_started: bool,
    /// Whether more text may come.
    pub(super) open: bool,
    /// Whether more tokens of recorded speech come.
    pub(super) listening: bool,
}

/// A sentence under way in T3.
pub(super) struct Speaking {
    pub(super) sampler: Sampler,
    /// In place of the sampler, for models that decode in blocks.
    pub(super) blocks: Option<BlockDecoder>,
    pub(super) watch: RunOnWatch,
    pub(super) alignment: Option<AlignmentWatch>,
    pub(super) last: u32,
    pub(super) tokens: usize,
    pub(super) tokens_max: usize,
    /// Its words, if word times are wanted.
    pub(super) words: Option<Aligned>,
}

/// The words of a sentence under way.
pub(super) struct Aligned {
    pub(super) words: Vec<Word>,
    pub(super) aligner: WordAligner,
    /// Speech tokens of the run before the sentence.
    pub(super) run_tokens: usize,
}

impl Aligned {
    /// Words on the tokens of the run.
    pub(super) fn spoken(&self, ended: Vec<AlignedWord>) -> impl Iterator<Item = SpokenWord> {
        ended.into_iter().map(|ended| {
            let word = &self.words[ended.word];
            SpokenWord {
                word: word.written.clone(),
                text: word.characters.clone(),
                tokens: self.run_tokens + ended.speech.start..self.run_tokens + ended.speech.end,
            }
        })
    }
}

impl Speaking {
    /// The rule for the next token, by the attention that its logits come with.
    pub(super) fn stop(&mut self, state: Option<&T3State>) -> Stop {
        match (&mut self.alignment, state.and_then(T3State::alignment)) {
            (Some(watch), Some(attention)) => watch.see(attention.rows(), self.last),
            _ => Stop::Free,
        }
    }
}

/// Mel frames that are not samples yet.
pub(super) struct Rendered {
    pub(super) mel: Rendering,
    /// Number of frames that the vocoder has taken.
    pub(super) given: usize,
    pub(super) samples: Vec<f32>,
}

impl Rendered {
    /// Frames of which the vocoder has taken none.
    pub(super) fn of(mel: Rendering) -> Rendered {
        Rendered {
            mel,
            given: 0,
            samples: Vec::new(),
        }
    }
}

impl Utterance {
    /// Whether T3 has more to generate before the next silence.
    pub fn speaking(&self) -> bool {
        self.speaking.is_some() || matches!(self.coming.front(), Some(Coming::Sentence(_)))
    }

    /// Whether the next pass settles a block.
    pub(super) fn has_settled_block(&self) -> bool {
        let blocks = self
            .speaking
            .as_ref()
            .and_then(|speaking| speaking.blocks.as_ref());
        blocks.is_some_and(|blocks| !blocks.next_pass().settled.is_empty())
    }

    /// The watch of a sentence's alignment, if the stream asks for one.
    pub(super) fn alignment_watch(&self, sentence: &Sentence) -> Option<AlignmentWatch> {
        self.watches_alignment
            .then(|| AlignmentWatch::new(sentence.tokens.len()))
    }

    /// Whether T3 has generated all of the available text, and no silence is pending.
    pub fn is_said(&self) -> bool {
        self.speaking.is_none() && self.coming.is_empty()
    }

    /// Whether a silence follows the waiting tokens.
    pub fn before_silence(&self) -> bool {
        self.speaking.is_none() && matches!(self.coming.front(), Some(Coming::Silence(_)))
    }

    /// Whether more sound follows, or may follow, the waiting tokens.
    pub fn goes_on(&self) -> bool {
        !self.is_said() || self.open || self.listening
    }

    /// Whether each pass is a whole sentence, or as much of it as fits.
    pub fn is_delivered_whole(&self) -> bool {
        self.window.is_some()
    }

    /// Whether it holds a KV cache that no token will use any more.
    pub fn is_done_with_cache(&self) -> bool {
        self.state.is_some() && self.is_said() && !self.open
    }

    /// Gives back the KV cache.
    pub fn release_cache(&mut self) {
        self.state = None;
    }

    pub(super) fn state(&mut self) -> Result<&mut T3State, Error> {
        self.state.as_mut().ok_or_else(no_speech)
    }

    /// Whether tokens of recorded speech are wanted: fewer wait than one pass can take.
    pub fn wants_tokens(&self) -> bool {
        let pass = self
            .window
            .map_or(self.extent.chunk_tokens, |window| window.tokens);
        self.listening && self.tokens_waiting() <= pass + self.look_ahead
    }

    /// Takes further tokens of recorded speech, and whether they are the last.
    pub fn hear(&mut self, tokens: &[u32], last: bool) {
        self.push(tokens);
        self.generated += tokens.len() as u64;
        self.listening = !last;
    }

    /// Takes up to `samples_max` samples of the pending silence, once all sound before it is made.
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

    /// Number of sentences and silences that have not begun.
    pub fn coming(&self) -> usize {
        self.coming.len()
    }

    /// Takes the warnings about text that was skipped or changed.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    /// Takes the words whose times are known since they were last taken.
    pub fn take_words(&mut self) -> Vec<SpokenWord> {
        std::mem::take(&mut self.words)
    }

    /// Takes the number of speech tokens since the last silence.
    pub fn take_run_tokens(&mut self) -> usize {
        std::mem::take(&mut self.run_tokens)
    }

    /// Whether more text may come.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Tokens waiting to be rendered.
    pub fn tokens_waiting(&self) -> usize {
        self.flow.waiting() + self.later.len()
    }

    /// The pass of chunk `index`, if enough tokens are available. A chunk's size depends only on
    /// its index, the tokens and the stream's options. Samples therefore depend on neither other
    /// streams nor the reader's speed.
    pub fn due(&self, index: u64) -> Option<Pass> {
        let waiting = self.tokens_waiting();
        let waits_for_text = self.open && self.is_said();
        if waits_for_text && waiting == 0 {
            return None;
        }
        if let Some(window) = self.window {
            // The flow works on a sentence once T3 is done with it, and with its KV cache.
            if self.speaking.is_some() {
                return None;
            }
            let ends = self.ends.iter().copied();
            let all = !self.speaking() && !self.listening;
            return whole_pass(waiting, ends, all, self.within, window);
        }
        let size = self.schedule.tokens(index);
        let count = if waits_for_text {
            // The continuation is unknown, so the look-ahead stays in reserve.
            let known = waiting.saturating_sub(self.look_ahead);
            Some(size.min(known)).filter(|count| *count > 0)
        } else if self.listening {
            // As many as would not be rendered in one pass if they were the last: the choice does
            // not depend on how far the listener is.
            (waiting > self.chunk_tokens_max() + self.look_ahead).then_some(size)
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

    /// Whether the pass of chunk `index` may be due after so many more tokens, while there are more
    /// to come.
    pub fn is_due_within(&self, index: u64, tokens: usize) -> bool {
        match self.window {
            // It is due where a sentence ends.
            Some(_) => true,
            None => {
                let needed = self.schedule.tokens(index) + self.look_ahead;
                self.tokens_waiting() + tokens >= needed
            }
        }
    }

    /// Whether the flow may render both in one pass.
    pub fn flows_with(&self, other: &Utterance) -> bool {
        self.flow.options() == other.flow.options()
    }

    /// In whole delivery, hands the flow the tokens of a pass.
    pub(super) fn take_pass(&mut self, pass: Pass) {
        if self.window.is_none() {
            return;
        }
        let needed = pass.count + pass.look_ahead;
        let further = needed.saturating_sub(self.flow.waiting());
        let tokens: Vec<u32> = self.later.drain(..further).collect();
        self.flow.push(&tokens);
    }

    /// In whole delivery, notes what follows a pass that is rendered.
    pub(super) fn end_pass(&mut self, pass: Pass) {
        if self.window.is_none() {
            return;
        }
        let made = self.ends.partition_point(|end| *end <= pass.count);
        self.ends.drain(..made);
        for end in &mut self.ends {
            *end -= pass.count;
        }
        self.within = pass.goes_on;
        if !pass.goes_on {
            self.flow.restart();
        }
    }

    /// Appends tokens of the current sentence.
    pub(super) fn push(&mut self, tokens: &[u32]) {
        self.run_tokens += tokens.len();
        match self.window {
            Some(_) => self.later.extend(tokens),
            None => self.flow.push(tokens),
        }
    }

    /// Sentences cut off because speech looped or ran on after the text.
    pub fn run_ons(&self) -> u64 {
        self.run_ons
    }

    /// Most tokens of a chunk.
    pub fn chunk_tokens_max(&self) -> usize {
        self.extent.chunk_tokens
    }

    /// Text tokens of the whole text.
    pub fn text_tokens(&self) -> u64 {
        self.text_tokens
    }

    /// Speech tokens generated.
    pub fn tokens_generated(&self) -> u64 {
        self.generated
    }

    /// Bytes held, in use or reserved.
    pub fn bytes(&self) -> u64 {
        let state = self.state.as_ref();
        state.map_or(0, |state| state.reserved_bytes() as u64)
    }

    /// Workspace extent of several streams' runs.
    pub fn extent_together<'a>(utterances: impl Iterator<Item = &'a Utterance>) -> Extent {
        let mut together = Extent::default();
        for (index, utterance) in utterances.enumerate() {
            together = together.union(&utterance.extent);
            together.streams = index + 1;
        }
        together
    }

    /// Reserves pages for `count` more positions.
    pub(super) fn make_room(&mut self, count: usize, holdings: &Holdings) -> Result<(), Error> {
        let positions_max = self.positions_max;
        let state = self.state()?;
        let needed = state.own_positions() + count;
        if needed > state.reserved_positions() {
            let _open = holdings.open();
            let generous = (needed + FURTHER_POSITIONS).min(positions_max);
            state.reserve(generous.max(needed))?;
        }
        Ok(())
    }

    /// Positions that the next step of the sentence under way needs.
    pub(super) fn step_positions(&self) -> usize {
        let blocks = (self.speaking.as_ref()).and_then(|speaking| speaking.blocks.as_ref());
        blocks.map_or(1, |blocks| {
            let pass = blocks.next_pass();
            pass.settled.len() + pass.block.len()
        })
    }

    /// Ends the sentence under way and releases its pages.
    pub(super) fn end_sentence(&mut self, config: &ModelConfig) {
        let silence = vec![config.flow.silence_token; config.flow.silence_token_count];
        self.push(&silence);
        if self.window.is_some() {
            self.ends.push_back(self.tokens_waiting());
        }
        self.speaking = None;
        self.state.iter_mut().for_each(T3State::clear);
    }

    /// Seed of the next sentence's random numbers.
    pub(super) fn sentence_seed(&self) -> u64 {
        (self.seed).wrapping_add(self.sentence_count.wrapping_mul(SENTENCE_SEED_STEP))
    }

    /// Whether T3 began a new sentence since this was last taken.
    pub fn take_sentence_start(&mut self) -> bool {
        std::mem::take(&mut self.sentence_started)
    }
}
