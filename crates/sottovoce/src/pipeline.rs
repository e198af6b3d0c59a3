//! The model as the worker sees it: sentences in, speech tokens, sound out. All state of a stream
//! is in its [`Utterance`].

use crate::chunking::{Pass, Schedule, Window, Work, whole_pass};
use crate::error::Error;
use crate::holdings::Holdings;
use crate::options::{DeliveryMode, SAMPLE_RATE, StreamOptions};
use crate::plan::{Extent, Networks, Recordings, record};
use crate::text_stage::TextStage;
use crate::voice::{Voice, VoiceInner};
use crate::workspaces::Workspaces;
use sottovoce_chatterbox::config::{ModelConfig, SamplingConfig};
use sottovoce_chatterbox::convert::sound_precision;
use sottovoce_chatterbox::s3gen::{Flow, FlowOptions, FlowState, FlowWindow, Rendering};
use sottovoce_chatterbox::t3::run_on::{RunOnWatch, speech_tokens_max};
use sottovoce_chatterbox::t3::sampler::Sampler;
use sottovoce_chatterbox::t3::{KeyValueStore, Prefix, T3, T3Error, T3State, VoiceConditioning};
use sottovoce_chatterbox::text::{Piece, Script, Sentence, TextOptions, Warning};
use sottovoce_chatterbox::vocoder::{Vocoder, VocoderState};
use sottovoce_chatterbox::weights::{Component, Source, load};
use sottovoce_memory::pages::PagePool;
use sottovoce_memory::policy::IDLE_SHARE_MAX;
use sottovoce_memory::{Memory, Owner, Region, StreamId};
use sottovoce_tensor::{CachePrecision, Context, Device, Precision};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// Sets the random numbers of one sentence apart from those of the next.
const SENTENCE_SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Speech starts with one or two.
pub(crate) const START_TOKENS: usize = 2;
/// Positions reserved beyond what is needed when a sentence goes on longer than was likely.
const FURTHER_POSITIONS: usize = 64;
/// Seldom does speech take longer than this: slow speakers need 2 tokens a letter.
const TOKENS_A_LETTER: usize = 2;
const TOKENS_AT_LEAST: usize = 50;

/// How long a sentence may well be, in speech tokens.
fn likely_tokens(sentence: &str) -> usize {
    TOKENS_AT_LEAST + TOKENS_A_LETTER * sentence.chars().count()
}

/// What is to be spoken, in order.
enum Coming {
    Sentence(Sentence),
    /// So many samples of nothing.
    Silence(u64),
}

impl Coming {
    /// What a script has, and its warnings.
    fn of(script: Script) -> (VecDeque<Coming>, Vec<Warning>) {
        let coming = script.pieces.into_iter().map(|piece| match piece {
            Piece::Words(sentence) => Coming::Sentence(sentence),
            Piece::Pause { seconds, .. } => {
                Coming::Silence((seconds * f64::from(SAMPLE_RATE)).round() as u64)
            }
        });
        (coming.collect(), script.warnings)
    }

    fn sentence(&self) -> Option<&Sentence> {
        match self {
            Coming::Sentence(sentence) => Some(sentence),
            Coming::Silence(_) => None,
        }
    }
}

/// Tokens of these sentences together.
fn text_tokens(coming: &VecDeque<Coming>) -> u64 {
    let sentences = coming.iter().filter_map(Coming::sentence);
    sentences.map(|s| s.tokens.len() as u64).sum()
}

/// Prefixes kept of voices with which nobody speaks now, as reckoned.
const IDLE_PREFIXES_MAX: usize = 1;

/// A loaded model.
pub(crate) struct Pipeline {
    config: ModelConfig,
    device: Arc<dyn Device>,
    text: TextStage,
    t3: T3,
    flow: Flow,
    vocoder: Vocoder,
    store: KeyValueStore,
    /// None only where memory was too short for a larger set after the smaller one was given back.
    workspaces: Option<Workspaces>,
    extent: Extent,
    /// Voices that may have a prefix cached, the one that spoke last at the end.
    voices: Vec<Weak<VoiceInner>>,
}

/// One stream's way through the model.
pub(crate) struct Utterance {
    state: T3State,
    /// What its runs need of the workspaces.
    extent: Extent,
    /// What was reckoned with for a stream's own positions.
    positions_max: usize,
    sampling: SamplingConfig,
    seed: u64,
    text: TextOptions,
    coming: VecDeque<Coming>,
    /// Whether the last that came was a sentence.
    after_words: bool,
    /// Line breaks in the text so far.
    lines: usize,
    /// What was passed over in the text since this was last asked.
    warnings: Vec<Warning>,
    sentence_count: u64,
    /// The caller's own limit of a sentence, in place of what its text tells.
    sentence_tokens_max: Option<usize>,
    text_tokens: u64,
    speaking: Option<Speaking>,
    flow: FlowState,
    vocoder: VocoderState,
    /// Sound was made since the last silence.
    sounding: bool,
    /// A chunk whose samples could not be made yet.
    rendered: Option<Rendered>,
    look_ahead: usize,
    schedule: Schedule,
    /// How a stream that is delivered whole is cut; none for one in chunks.
    window: Option<Window>,
    /// Tokens that no pass of such a stream has begun with.
    later: VecDeque<u32>,
    /// After how many of the tokens that wait sentences end, in order.
    ends: VecDeque<usize>,
    /// The next pass goes on with a sentence.
    within: bool,
    generated: u64,
    run_ons: u64,
    /// A sentence began since it was last asked.
    crossed: bool,
    /// Further text may come.
    open: bool,
}

/// A sentence under way in T3.
struct Speaking {
    sampler: Sampler,
    watch: RunOnWatch,
    last: u32,
    tokens: usize,
    tokens_max: usize,
}

/// Mel frames on their way to samples.
struct Rendered {
    mel: Rendering,
    /// Frames that the vocoder has.
    given: usize,
    samples: Vec<f32>,
}

/// Why a step failed, and whose fault it was.
#[derive(Debug)]
pub(crate) struct StepError {
    /// The utterance's place in the batch; none where it concerns all.
    pub index: Option<usize>,
    pub error: Error,
}

impl From<Error> for StepError {
    fn from(error: Error) -> StepError {
        StepError { index: None, error }
    }
}

impl From<StepError> for Error {
    fn from(step: StepError) -> Error {
        step.error
    }
}

/// The place in a step's batch of the state that T3 refused.
fn at_fault(error: &T3Error, states: &[&mut T3State], tokens: &[u32]) -> Option<usize> {
    match error {
        T3Error::TokenOutOfRange { token, .. } => tokens.iter().position(|known| known == token),
        T3Error::TooLong { .. } => {
            let positions = states.iter().map(|state| state.position()).enumerate();
            positions
                .max_by_key(|(_, position)| *position)
                .map(|(at, _)| at)
        }
        _ => None,
    }
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

    /// The tokens of chunk `index`, if enough are there for it. A chunk's size depends on its number,
    /// the tokens and the stream's own options alone, so that samples do not depend on other streams
    /// or on the reader's speed.
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
    fn push(&mut self, tokens: &[u32]) {
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
    fn make_room(&mut self, count: usize, holdings: &Holdings) -> Result<(), Error> {
        let needed = self.state.own_positions() + count;
        if needed > self.state.reserved_positions() {
            let _open = holdings.open();
            let generous = (needed + FURTHER_POSITIONS).min(self.positions_max);
            self.state.reserve(generous.max(needed))?;
        }
        Ok(())
    }

    /// Starts the random numbers of the sentence that is next.
    fn sentence_seed(&self) -> u64 {
        (self.seed).wrapping_add(self.sentence_count.wrapping_mul(SENTENCE_SEED_STEP))
    }

    /// Whether T3 went on in a fresh window since this was last asked.
    pub fn take_crossed(&mut self) -> bool {
        std::mem::take(&mut self.crossed)
    }
}

impl Pipeline {
    /// Loads the networks and reserves the workspaces, as reckoned.
    pub fn load(
        source: &Source,
        memory: &Memory,
        precision: Precision,
        cache: CachePrecision,
        extent: Extent,
        recordings: &Recordings,
        device: Arc<dyn Device>,
    ) -> Result<Pipeline, Error> {
        let config = source.config().clone();
        let failed = |error| Error::weights(source.name(), error);
        let sound = sound_precision(precision);
        let t3 = load(source, Component::T3, precision, memory, |loader| {
            T3::load(loader, &config.t3)
        })
        .map_err(failed)?
        .network;
        let flow = load(source, Component::Flow, sound, memory, |loader| {
            Flow::load(loader, &config.flow)
        })
        .map_err(failed)?
        .network;
        let bands = config.flow.mel_bands();
        let vocoder = load(source, Component::Vocoder, sound, memory, |loader| {
            Vocoder::load(loader, &config.vocoder, bands)
        })
        .map_err(failed)?
        .network;
        Ok(Pipeline {
            text: TextStage::open(source)?,
            store: t3.store(memory, cache, usize::MAX),
            workspaces: Some(Workspaces::reserve(memory, recordings, extent)?),
            config,
            device,
            t3,
            flow,
            vocoder,
            extent,
            voices: Vec::new(),
        })
    }

    /// From now on rows are rounded finely where weights are in integers, as devices other than the
    /// processor do.
    pub fn round_finely(&mut self) {
        self.flow.set_rounding(sottovoce_tensor::Rounding::Fine);
        // They were recorded with the other rounding.
        self.workspaces = None;
    }

    /// The model's.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What computes.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// The pages of all streams and voices.
    pub fn pages(&self) -> &PagePool {
        self.store.pages()
    }

    /// Adds to an open text; with `last` no more will come.
    pub fn add_text(&self, utterance: &mut Utterance, text: &str, last: bool) -> Result<(), Error> {
        let script = (self.text).further_script(text, utterance.after_words, &utterance.text)?;
        let (coming, warnings) = Coming::of(script);
        utterance.text_tokens += text_tokens(&coming);
        if let Some(last) = coming.back() {
            utterance.after_words = last.sentence().is_some();
        }
        utterance.coming.extend(coming);
        let lines = utterance.lines;
        (utterance.warnings).extend(warnings.into_iter().map(|warning| Warning {
            line: warning.line + lines,
            ..warning
        }));
        utterance.lines += text.matches('\n').count();
        utterance.open &= !last;
        Ok(())
    }

    /// Starts on a text, or on one that is still to come, beside `others` that are under way; `id`
    /// owns what the stream will hold. All that it is likely to need is reserved now: the driver
    /// must be open.
    pub fn begin(
        &mut self,
        id: u64,
        others: usize,
        text: Option<&str>,
        voice: &Voice,
        options: &StreamOptions,
        holdings: &Holdings,
    ) -> Result<Utterance, Error> {
        let read_by = options.text();
        let script = match text {
            Some(text) => self.text.script(text, &read_by)?,
            None => Script::default(),
        };
        let (coming, warnings) = Coming::of(script);
        let mut extent = self.extent_of(&coming, voice, options);
        if text.is_none() {
            // Any sentence may come.
            extent.text_tokens = self.extent.text_tokens;
        }
        let together = Extent {
            streams: others + 1,
            ..extent
        };
        self.fit(&together, others == 0, holdings)?;
        let sampling = options.sampling(&self.config.t3.sampling);
        let prefix = self.prefix(voice, sampling.exaggeration)?;
        let bands = self.config.flow.mel_bands();
        let window = FlowWindow {
            prompt_tokens: options.prompt_tokens.unwrap_or(usize::MAX),
            context_tokens: options.context_window.min(self.extent.context_tokens),
        };
        let flow_options = self.flow_options(options);
        let owner = Owner::new(Region::KeyValue, "stream").for_stream(StreamId(id));
        let mut state = self.t3.state(&self.store, owner, prefix);
        let longest = coming.iter().filter_map(Coming::sentence).map(|sentence| {
            let speech = match options.sentence_tokens_max {
                Some(most) => most,
                None => likely_tokens(&sentence.text),
            };
            sentence.tokens.len() + START_TOKENS + speech.min(self.extent.speech_tokens)
        });
        let positions = longest.max().unwrap_or(0);
        self.give_back_more_than(positions, holdings);
        state.reserve(positions)?;
        Ok(Utterance {
            state,
            extent,
            positions_max: self.extent.positions(),
            sampling,
            seed: options.seed,
            text: read_by,
            text_tokens: text_tokens(&coming),
            after_words: false,
            lines: 0,
            warnings,
            coming,
            sentence_count: 0,
            sentence_tokens_max: options.sentence_tokens_max,
            speaking: None,
            flow: FlowState::new(voice.inner.flow.clone(), options.seed, window, flow_options),
            vocoder: VocoderState::new(&self.vocoder, bands, options.seed),
            sounding: false,
            rendered: None,
            look_ahead: self.flow.look_ahead(),
            schedule: self.schedule(voice, options),
            window: (options.delivery == Some(DeliveryMode::Whole)).then_some(Window {
                tokens: extent.whole_tokens,
                context: window.context_tokens,
                look_ahead: self.flow.look_ahead(),
            }),
            later: VecDeque::new(),
            ends: VecDeque::new(),
            within: false,
            generated: 0,
            run_ons: 0,
            crossed: false,
            open: text.is_none(),
        })
    }

    /// Gives back what ended streams left, if one of `positions` would take over only a part of it:
    /// what it leaves of a piece goes back to the driver no sooner than itself.
    fn give_back_more_than(&self, positions: usize, holdings: &Holdings) {
        let pages = self.store.pages();
        let needed = KeyValueStore::pages_for_state(positions) * pages.page_bytes();
        let left = pages.spare_bytes().saturating_sub(needed as u64);
        let held = holdings.memory().statistics().held_bytes();
        if left as f64 > IDLE_SHARE_MAX * held as f64 {
            pages.trim();
        }
    }

    fn flow_options(&self, options: &StreamOptions) -> FlowOptions {
        let steps = (options.flow_steps).unwrap_or(self.config.flow.solver.steps());
        FlowOptions {
            steps,
            guided_steps: options.flow_guided_steps.unwrap_or(steps).min(steps),
        }
    }

    /// The sizes of a stream's chunks.
    pub fn schedule(&self, voice: &Voice, options: &StreamOptions) -> Schedule {
        let work = Work::of(
            &self.config,
            self.flow_options(options),
            self.flow_prompt_tokens(voice, options),
            options.context_window.min(self.extent.context_tokens),
            self.flow.look_ahead(),
        );
        let most = options.chunk_tokens(&self.config);
        Schedule::of(&work, most.min(self.extent.chunk_tokens))
    }

    /// Tokens of a voice's prompt that the flow takes.
    fn flow_prompt_tokens(&self, voice: &Voice, options: &StreamOptions) -> usize {
        let most = options.prompt_tokens.unwrap_or(usize::MAX);
        voice.inner.flow.prompt_tokens.len().min(most)
    }

    /// Tokens of a voice's prompt that T3 takes.
    fn voice_tokens(&self, voice: &VoiceInner) -> usize {
        (voice.prompt_tokens.len()).min(self.config.t3.prompt_token_count_max)
    }

    /// What the runs of one stream need of the workspaces.
    fn extent_of(
        &self,
        coming: &VecDeque<Coming>,
        voice: &Voice,
        options: &StreamOptions,
    ) -> Extent {
        let inner = &voice.inner;
        Extent {
            streams: 1,
            text_tokens: (coming.iter().filter_map(Coming::sentence))
                .map(|sentence| sentence.tokens.len())
                .max()
                .unwrap_or(0),
            speech_tokens: self.extent.speech_tokens,
            voice_tokens: self.voice_tokens(inner),
            flow_prompt_tokens: self.flow_prompt_tokens(voice, options),
            chunk_tokens: options
                .chunk_tokens(&self.config)
                .min(self.extent.chunk_tokens),
            context_tokens: options.context_window,
            whole_tokens: match options.delivery.unwrap_or_default() {
                DeliveryMode::Stream => 0,
                DeliveryMode::Whole => self.extent.whole_tokens,
            },
        }
    }

    /// Sees to it that the workspaces hold a run of `extent`: after they were shrunk they may have
    /// to grow again. Those that are there go only if nobody needs them meanwhile: if the caller is
    /// `alone`.
    fn fit(&mut self, extent: &Extent, alone: bool, holdings: &Holdings) -> Result<(), Error> {
        let together = match &self.workspaces {
            Some(workspaces) if workspaces.hold(extent) => return Ok(()),
            Some(workspaces) => workspaces.extent().union(extent),
            None => *extent,
        };
        let recordings = self.record(&together)?;
        let _open = holdings.open();
        self.device.forget_recorded();
        let mut larger = Workspaces::reserve(holdings.memory(), &recordings, together);
        if larger.is_err() && alone {
            self.workspaces = None;
            larger = Workspaces::reserve(holdings.memory(), &recordings, together);
        }
        self.workspaces = Some(larger?);
        Ok(())
    }

    /// Makes the workspaces as small as those under way, who need `extent`, allow; the bytes that
    /// this gave back. What they say stays the same.
    pub fn shrink(&mut self, extent: &Extent, holdings: &Holdings) -> u64 {
        let Some(workspaces) = self.workspaces.take() else {
            return 0;
        };
        let recordings = match self.record(extent) {
            Ok(recordings) if recordings.peak_bytes() < workspaces.bytes() => recordings,
            _ => {
                self.workspaces = Some(workspaces);
                return 0;
            }
        };
        let before = holdings.memory().statistics().held_bytes();
        let opening = holdings.open();
        self.device.forget_recorded();
        self.workspaces = workspaces.shrunk(&recordings, *extent);
        drop(opening);
        before.saturating_sub(holdings.memory().statistics().held_bytes())
    }

    /// Makes the workspaces anew after a stage broke off in them. If there is no room for all that
    /// was planned at load, the next run makes those that it needs.
    pub fn renew_workspaces(&mut self, holdings: &Holdings) {
        let _open = holdings.open();
        self.device.forget_recorded();
        self.workspaces = None;
        let renewed = self.record(&self.extent).and_then(|recordings| {
            Workspaces::reserve(holdings.memory(), &recordings, self.extent)
        });
        self.workspaces = renewed.ok();
    }

    fn record(&self, extent: &Extent) -> Result<Recordings, Error> {
        let networks = Networks {
            t3: &self.t3,
            flow: &self.flow,
            vocoder: &self.vocoder,
        };
        record(networks, &self.config, extent, &*self.device)
    }

    fn workspaces(&self) -> Result<&Workspaces, Error> {
        self.workspaces.as_ref().ok_or_else(|| Error::Synthesis {
            reason: "a run began without a workspace".into(),
        })
    }

    /// Drops what can be made again: prefixes of voices with which nobody speaks.
    pub fn drop_caches(&mut self) {
        self.drop_idle_prefixes(0);
    }

    /// One more token for each. If memory runs out, those that have theirs keep it, and the call
    /// can be repeated. The driver is opened only for a sentence that goes on longer than was
    /// likely, and for the first step of so many streams.
    ///
    /// # Errors
    /// Names the utterance at fault, where it is one's alone.
    pub fn step(
        &mut self,
        batch: &mut [&mut Utterance],
        holdings: &Holdings,
    ) -> Result<(), StepError> {
        let together = Utterance::extent_together(batch.iter().map(|utterance| &**utterance));
        self.fit(&together, false, holdings)?;
        let fresh = |utterance: &&mut Utterance| utterance.speaking.is_none();
        let of = |index: usize| {
            move |error| StepError {
                index: Some(index),
                error,
            }
        };
        let began: Vec<bool> = batch.iter().map(fresh).collect();
        for (index, utterance) in batch.iter_mut().enumerate() {
            match began[index] {
                true => self.begin_sentence(utterance, holdings),
                false => utterance.make_room(1, holdings),
            }
            .map_err(of(index))?;
        }
        let mut under_way: Vec<&mut Utterance> = batch
            .iter_mut()
            .zip(&began)
            .filter_map(|(utterance, began)| (!began).then_some(&mut **utterance))
            .collect();
        if under_way.is_empty() {
            return Ok(());
        }
        let workspace = &self.workspaces()?.step;
        workspace.restart();
        let ctx = Context::new(workspace, &*self.device);
        let mut tokens = Vec::with_capacity(under_way.len());
        let mut states = Vec::with_capacity(under_way.len());
        for utterance in &mut under_way {
            tokens.extend(utterance.speaking.as_ref().map(|speaking| speaking.last));
            states.push(&mut utterance.state);
        }
        // What a device keeps of the first step of so many is taken from the driver.
        let fresh = !self.device.has_recorded(T3::step_key(states.len()));
        let opening = fresh.then(|| holdings.open());
        let stepped = self.t3.step(&ctx, &mut states, &tokens);
        drop(opening);
        let logits = match stepped {
            Ok(logits) => logits,
            Err(error) => {
                let at = at_fault(&error, &states, &tokens);
                let batched = began.iter().enumerate().filter(|(_, began)| !**began);
                let index = at.and_then(|at| batched.map(|(index, _)| index).nth(at));
                return Err(StepError {
                    index,
                    error: error.into(),
                });
            }
        };
        let rows = self.t3.rows();
        let width = rows * logits.columns();
        ctx.read(&logits, |logits| {
            for (utterance, logits) in under_way.iter_mut().zip(logits.chunks_exact(width)) {
                Pipeline::take_token(&self.config, rows, utterance, logits);
            }
        })
        .map_err(Error::from)?;
        Ok(())
    }

    /// Makes sound of a pass; with `last`, of everything that was held back too: what follows then
    /// begins anew, after a silence. If memory runs out, the call can be repeated.
    pub fn synthesise(
        &mut self,
        utterance: &mut Utterance,
        pass: Pass,
        last: bool,
        holdings: &Holdings,
    ) -> Result<Vec<f32>, Error> {
        let rendered = match utterance.rendered.take() {
            Some(rendered) => rendered,
            None => Rendered {
                mel: self.pass(utterance, pass, holdings)?,
                given: 0,
                samples: Vec::new(),
            },
        };
        let samples = self.finish(utterance, rendered, last, holdings)?;
        utterance.sounding = !last;
        if last {
            utterance.flow.restart();
            let bands = self.config.flow.mel_bands();
            let seed = utterance.sentence_seed();
            utterance.vocoder = VocoderState::new(&self.vocoder, bands, seed);
        }
        Ok(samples)
    }

    /// Mel frames of a pass.
    fn pass(
        &mut self,
        utterance: &mut Utterance,
        pass: Pass,
        holdings: &Holdings,
    ) -> Result<Rendering, Error> {
        if utterance.window.is_none() {
            return self.mel(utterance, pass.count, holdings);
        }
        let needed = pass.count + pass.look_ahead;
        let further = needed.saturating_sub(utterance.flow.waiting());
        let tokens: Vec<u32> = utterance.later.drain(..further).collect();
        utterance.flow.push(&tokens);
        let mel = self.mel(utterance, pass.count, holdings)?;
        let made = utterance.ends.partition_point(|end| *end <= pass.count);
        utterance.ends.drain(..made);
        for end in &mut utterance.ends {
            *end -= pass.count;
        }
        utterance.within = pass.goes_on;
        if !pass.goes_on {
            utterance.flow.restart();
        }
        Ok(mel)
    }

    /// Samples of what was rendered, by as many frames as the vocoder's workspace takes.
    fn finish(
        &mut self,
        utterance: &mut Utterance,
        mut rendered: Rendered,
        last: bool,
        holdings: &Holdings,
    ) -> Result<Vec<f32>, Error> {
        let bands = self.config.flow.mel_bands();
        let frames_max = utterance.extent.chunk_tokens * self.config.flow.upsampling;
        let frames = rendered.mel.mel.len() / bands;
        loop {
            let again = if rendered.given == 0 {
                rendered.mel.again
            } else {
                0
            };
            let end = (rendered.given + again + frames_max).min(frames);
            let part = Rendering {
                mel: rendered.mel.mel[rendered.given * bands..end * bands].to_vec(),
                again,
            };
            match self.samples(utterance, &part, last && end == frames, holdings) {
                Ok(samples) => rendered.samples.extend(samples),
                Err(error) => {
                    utterance.rendered = Some(rendered);
                    return Err(error);
                }
            }
            rendered.given = end;
            if end == frames {
                return Ok(rendered.samples);
            }
        }
    }

    /// Mel frames of the first `count` waiting tokens.
    pub fn mel(
        &mut self,
        utterance: &mut Utterance,
        count: usize,
        holdings: &Holdings,
    ) -> Result<Rendering, Error> {
        if count == 0 {
            return Ok(Rendering::default());
        }
        self.fit(&utterance.extent, false, holdings)?;
        let workspaces = self.workspaces()?;
        workspaces.flow.restart();
        let ctx = Context::new(&workspaces.flow, &*self.device);
        Ok(self.flow.stream(&ctx, &mut utterance.flow, count)?)
    }

    /// The samples that can be known once these mel frames are there; with `last`, all.
    pub fn samples(
        &mut self,
        utterance: &mut Utterance,
        mel: &Rendering,
        last: bool,
        holdings: &Holdings,
    ) -> Result<Vec<f32>, Error> {
        self.fit(&utterance.extent, false, holdings)?;
        let workspaces = self.workspaces()?;
        workspaces.vocoder.restart();
        let ctx = Context::new(&workspaces.vocoder, &*self.device);
        Ok(self
            .vocoder
            .stream(&ctx, &mut utterance.vocoder, mel, last)?)
    }

    /// Takes the next sentence's text and draws its first token.
    fn begin_sentence(&self, utterance: &mut Utterance, holdings: &Holdings) -> Result<(), Error> {
        // An attempt before that failed may have left something.
        utterance.state.clear();
        let next = utterance.coming.front().and_then(Coming::sentence);
        let text_tokens = next.map_or(0, |next| next.tokens.len());
        utterance.make_room(text_tokens + START_TOKENS, holdings)?;
        let Some(sentence) = utterance.coming.front().and_then(Coming::sentence) else {
            return Ok(());
        };
        let workspace = &self.workspaces()?.prefill;
        workspace.restart();
        let ctx = Context::new(workspace, &*self.device);
        let prefix_positions = utterance.state.position();
        let logits = self
            .t3
            .prefill(&ctx, &mut utterance.state, &sentence.tokens)?;
        let seed = utterance.sentence_seed();
        let start = self.config.t3.speech_start;
        let room = self
            .t3
            .speech_tokens_max(prefix_positions, sentence.tokens.len());
        let of_text = speech_tokens_max(&sentence.text);
        let (asked, run_on) = match utterance.sentence_tokens_max {
            Some(most) => (most, usize::MAX),
            None => (usize::MAX, of_text),
        };
        let tokens_max = asked.min(self.extent.speech_tokens).min(room);
        utterance.coming.pop_front();
        utterance.crossed = utterance.sentence_count > 0;
        utterance.sentence_count += 1;
        utterance.speaking = Some(Speaking {
            sampler: Sampler::new(utterance.sampling, seed, start),
            watch: RunOnWatch::new(run_on),
            last: start,
            tokens: 0,
            tokens_max,
        });
        ctx.read(&logits, |logits| {
            Pipeline::take_token(&self.config, self.t3.rows(), utterance, logits);
        })?;
        Ok(())
    }

    /// Draws a token from logits; at the end of a sentence, gives its keys and values back.
    fn take_token(config: &ModelConfig, rows: usize, utterance: &mut Utterance, logits: &[f32]) {
        let Some(speaking) = &mut utterance.speaking else {
            return;
        };
        let token = speaking
            .sampler
            .next(logits, rows)
            .unwrap_or(config.t3.speech_stop);
        let stopped = token == config.t3.speech_stop;
        let mut run_on = None;
        if !stopped {
            speaking.last = token;
            speaking.tokens += 1;
            run_on = speaking.watch.see(token);
        }
        let ended = stopped || run_on.is_some() || speaking.tokens >= speaking.tokens_max;
        utterance.generated += u64::from(!stopped);
        utterance.run_ons += u64::from(run_on.is_some());
        // Special tokens have no sound.
        if !stopped && (token as usize) < config.flow.vocabulary {
            utterance.push(&[token]);
        }
        if ended {
            let silence = vec![config.flow.silence_token; config.flow.silence_token_count];
            utterance.push(&silence);
            if utterance.window.is_some() {
                utterance.ends.push_back(utterance.tokens_waiting());
            }
            utterance.speaking = None;
            utterance.state.clear();
        }
    }

    /// A voice's conditioning, run once and shared by its streams.
    fn prefix(&mut self, voice: &Voice, exaggeration: f32) -> Result<Arc<Prefix>, Error> {
        let inner = &voice.inner;
        self.voices
            .retain(|known| known.strong_count() > 0 && known.as_ptr() != Arc::as_ptr(inner));
        self.voices.push(Arc::downgrade(inner));
        let known = (inner.prefixes().iter())
            .find(|(of, _)| of.to_bits() == exaggeration.to_bits())
            .map(|(_, prefix)| prefix.clone());
        if let Some(prefix) = known {
            return Ok(prefix);
        }
        // One at a time: a slider that is moved must not fill the memory with prefixes.
        inner.prefixes().clear();
        self.drop_idle_prefixes(IDLE_PREFIXES_MAX);
        let workspaces = self.workspaces()?;
        let workspace = match self.voice_tokens(inner) {
            0 => &workspaces.promptless_prefix,
            _ => &workspaces.prefix,
        };
        workspace.restart();
        let ctx = Context::new(workspace, &*self.device);
        let conditioning = VoiceConditioning {
            speaker_embedding: inner.speaker_embedding.data(),
            prompt_tokens: &inner.prompt_tokens,
        };
        let owner = Owner::new(Region::Voice, "prefix");
        let prefix =
            Arc::new(
                self.t3
                    .prefix(&ctx, &self.store, owner, &conditioning, exaggeration)?,
            );
        inner.prefixes().push((exaggeration, prefix.clone()));
        Ok(prefix)
    }

    /// Drops the prefixes of voices with which nobody speaks now, but for the `kept` that spoke
    /// last.
    fn drop_idle_prefixes(&self, kept: usize) {
        let mut idle = 0;
        for voice in self.voices.iter().rev().filter_map(Weak::upgrade) {
            let mut prefixes = voice.prefixes();
            let spoken = |(_, prefix): &(f32, Arc<Prefix>)| Arc::strong_count(prefix) > 1;
            if prefixes.is_empty() || prefixes.iter().any(spoken) {
                continue;
            }
            idle += 1;
            if idle > kept {
                prefixes.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loading::{choose, default_voice, model};
    use crate::options::{EngineOptions, Source as Model};
    use sottovoce_tensor::TrafficCount;
    use sottovoce_tensor::simulated::SimulatedDevice;

    const TEXT: &str = "We counted forty two boats before it got dark.";

    /// A pipeline on a device with a memory of its own, and its voice.
    fn simulated(source: &Model) -> (Pipeline, Voice, Holdings) {
        let (device, memory, _) = SimulatedDevice::new(1 << 32, 1);
        let device: Arc<dyn Device> = Arc::new(device);
        let weights = model(source).unwrap();
        let options = EngineOptions::default();
        let choice = choose(&weights, &options, &*device).unwrap();
        let pipeline = Pipeline::load(
            &weights,
            &memory,
            choice.precision,
            options.key_value_precision,
            choice.extent,
            &choice.recordings,
            device,
        )
        .unwrap();
        let host = Memory::host(1 << 24);
        let voice = default_voice(&weights).unwrap().unwrap();
        let voice = voice.keep(&host, None, Weak::new()).unwrap();
        let holdings = Holdings::new(memory, Some(host), pipeline.pages().clone());
        (pipeline, voice, holdings)
    }

    #[test]
    fn a_sentence_that_loops_or_runs_on_is_ended_and_counted_and_the_next_is_spoken() {
        let (mut pipeline, voice, holdings) = simulated(&Model::Embedded);
        let first = "We counted them all.";
        let text = format!("{first} Then all of us went home again.");
        let looping: &dyn Fn(u32) -> u32 = &|_| 5;
        let endless: &dyn Fn(u32) -> u32 = &|index| 1 + index * index % 300;
        for (forced, most) in [(looping, 78), (endless, speech_tokens_max(first))] {
            let mut utterance = {
                let _open = holdings.open();
                let options = StreamOptions::default();
                (pipeline.begin(1, 0, Some(&text), &voice, &options, &holdings)).unwrap()
            };
            pipeline.step(&mut [&mut utterance], &holdings).unwrap();
            for index in 0.. {
                if utterance.speaking.is_none() {
                    break;
                }
                let mut logits = vec![0.0; pipeline.config.t3.speech_vocabulary];
                logits[forced(index) as usize] = 10.0;
                Pipeline::take_token(&pipeline.config, 1, &mut utterance, &logits);
            }
            assert_eq!(utterance.run_ons(), 1);
            assert!(utterance.tokens_generated() <= most as u64);
            assert!(utterance.speaking(), "the next sentence is to come");
            while utterance.speaking() {
                pipeline.step(&mut [&mut utterance], &holdings).unwrap();
            }
            assert_eq!(utterance.run_ons(), 1, "and it ends by itself");
        }
    }

    #[test]
    fn a_step_of_all_streams_a_flow_chunk_and_a_vocoder_chunk_read_from_the_device_once_each() {
        let tiny = Model::Random(Box::new(ModelConfig::tiny_base()));
        for source in [Model::Embedded, tiny] {
            let (mut pipeline, voice, holdings) = simulated(&source);
            let device = pipeline.device().clone();
            let reads = |before: TrafficCount| device.traffic().count().reads - before.reads;
            let options = StreamOptions::default();
            let mut utterances: Vec<Utterance> = {
                let _open = holdings.open();
                (0..3)
                    .map(|id| {
                        pipeline
                            .begin(id, id as usize, Some(TEXT), &voice, &options, &holdings)
                            .unwrap()
                    })
                    .collect()
            };
            let mut batch: Vec<&mut Utterance> = utterances.iter_mut().collect();
            let before = device.traffic().count();
            pipeline.step(&mut batch, &holdings).unwrap();
            assert_eq!(reads(before), 3, "one for the text of each");
            for _ in 0..15 {
                let before = device.traffic().count();
                pipeline.step(&mut batch, &holdings).unwrap();
                assert_eq!(reads(before), 1, "a step");
            }
            let first = &mut utterances[0];
            for last in [false, true] {
                let before = device.traffic().count();
                let count = first.tokens_waiting().min(10);
                let mel = pipeline.mel(first, count, &holdings).unwrap();
                assert_eq!(reads(before), 1, "a flow chunk");
                let before = device.traffic().count();
                let samples = pipeline.samples(first, &mel, last, &holdings).unwrap();
                assert!(!samples.is_empty());
                assert_eq!(reads(before), 1, "a vocoder chunk");
            }
        }
    }
}
