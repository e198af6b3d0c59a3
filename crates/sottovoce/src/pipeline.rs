//! The model as the worker sees it: sentences in, speech tokens, sound out. All state of a stream
//! is in its [`Utterance`].

use crate::error::Error;
use crate::holdings::Holdings;
use crate::options::StreamOptions;
use crate::plan::{Extent, Networks, Recordings, record};
use crate::text_stage::TextStage;
use crate::voice::{Voice, VoiceInner};
use crate::workspaces::Workspaces;
use sottovoce_chatterbox::config::{ModelConfig, SamplingConfig};
use sottovoce_chatterbox::convert::sound_precision;
use sottovoce_chatterbox::s3gen::{Flow, FlowOptions, FlowState, FlowWindow, Rendering};
use sottovoce_chatterbox::t3::sampler::Sampler;
use sottovoce_chatterbox::t3::{KeyValueStore, Prefix, T3, T3Error, T3State, VoiceConditioning};
use sottovoce_chatterbox::text::{Sentence, TextOptions};
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

/// Tokens of these sentences together.
fn text_tokens(sentences: &[Sentence]) -> u64 {
    sentences.iter().map(|s| s.tokens.len() as u64).sum()
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
    text_options: TextOptions,
    sentences: VecDeque<Sentence>,
    sentence_count: u64,
    sentence_tokens_max: usize,
    text_tokens: u64,
    speaking: Option<Speaking>,
    flow: FlowState,
    vocoder: VocoderState,
    look_ahead: usize,
    generated: u64,
    /// A sentence began since it was last asked.
    crossed: bool,
    /// Further text may come.
    open: bool,
}

/// A sentence under way in T3.
struct Speaking {
    sampler: Sampler,
    last: u32,
    tokens: usize,
    tokens_max: usize,
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
    /// Whether T3 has more to say of the text that is there.
    pub fn speaking(&self) -> bool {
        self.speaking.is_some() || !self.sentences.is_empty()
    }

    /// Whether further tokens will come, or may.
    pub fn generating(&self) -> bool {
        self.speaking() || self.open
    }

    /// Sentences that T3 has not begun.
    pub fn sentences_waiting(&self) -> usize {
        self.sentences.len()
    }

    /// Whether further text may come.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Tokens that wait to be made sound.
    pub fn tokens_waiting(&self) -> usize {
        self.flow.waiting()
    }

    /// Most tokens of a chunk.
    pub fn chunk_tokens_max(&self) -> usize {
        self.extent.chunk_tokens
    }

    /// Tokens that a chunk needs beyond its own while more will come.
    pub fn look_ahead(&self) -> usize {
        self.look_ahead
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

    /// Adds sentences to an open text; with `last` no more will come. Marks without words add
    /// nothing.
    pub fn add_text(&self, utterance: &mut Utterance, text: &str, last: bool) -> Result<(), Error> {
        if text.chars().any(char::is_alphanumeric) {
            let script = self.text.script(text, &utterance.text_options)?;
            let sentences = script.into_sentences();
            utterance.text_tokens += text_tokens(&sentences);
            utterance.sentences.extend(sentences);
        }
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
        let sentences = match text {
            Some(text) if text.chars().any(char::is_alphanumeric) => {
                self.text.sentences(text, &options.text())?
            }
            _ => Vec::new(),
        };
        let mut extent = self.extent_of(&sentences, voice, options);
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
        let steps = (options.flow_steps).unwrap_or(self.config.flow.solver.steps());
        let flow_options = FlowOptions {
            steps,
            guided_steps: options.flow_guided_steps.unwrap_or(steps).min(steps),
        };
        let owner = Owner::new(Region::KeyValue, "stream").for_stream(StreamId(id));
        let mut state = self.t3.state(&self.store, owner, prefix);
        let longest = sentences.iter().map(|sentence| {
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
            text_options: options.text(),
            text_tokens: text_tokens(&sentences),
            sentences: sentences.into(),
            sentence_count: 0,
            sentence_tokens_max: options
                .sentence_tokens_max
                .unwrap_or(usize::MAX)
                .min(self.extent.speech_tokens),
            speaking: None,
            flow: FlowState::new(voice.inner.flow.clone(), options.seed, window, flow_options),
            vocoder: VocoderState::new(&self.vocoder, bands, options.seed),
            look_ahead: self.flow.look_ahead(),
            generated: 0,
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

    /// Tokens of a voice's prompt that T3 takes.
    fn voice_tokens(&self, voice: &VoiceInner) -> usize {
        (voice.prompt_tokens.len()).min(self.config.t3.prompt_token_count_max)
    }

    /// What the runs of one stream need of the workspaces.
    fn extent_of(&self, sentences: &[Sentence], voice: &Voice, options: &StreamOptions) -> Extent {
        let inner = &voice.inner;
        Extent {
            streams: 1,
            text_tokens: (sentences.iter().map(|sentence| sentence.tokens.len()))
                .max()
                .unwrap_or(0),
            speech_tokens: self.extent.speech_tokens,
            voice_tokens: self.voice_tokens(inner),
            flow_prompt_tokens: (inner.flow.prompt_tokens.len())
                .min(options.prompt_tokens.unwrap_or(usize::MAX)),
            chunk_tokens: options
                .chunk_tokens(&self.config)
                .min(self.extent.chunk_tokens),
            context_tokens: options.context_window,
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

    /// Makes sound of the first `count` waiting tokens; with `last`, of everything that was held
    /// back too.
    pub fn synthesise(
        &mut self,
        utterance: &mut Utterance,
        count: usize,
        last: bool,
        holdings: &Holdings,
    ) -> Result<Vec<f32>, Error> {
        let mel = self.mel(utterance, count, holdings)?;
        self.samples(utterance, &mel, last, holdings)
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
        let text_tokens = utterance.sentences.front().map(|next| next.tokens.len());
        utterance.make_room(text_tokens.unwrap_or(0) + START_TOKENS, holdings)?;
        let Some(sentence) = utterance.sentences.front() else {
            return Ok(());
        };
        let workspace = &self.workspaces()?.prefill;
        workspace.restart();
        let ctx = Context::new(workspace, &*self.device);
        let prefix_positions = utterance.state.position();
        let logits = self
            .t3
            .prefill(&ctx, &mut utterance.state, &sentence.tokens)?;
        let seed = utterance
            .seed
            .wrapping_add(utterance.sentence_count.wrapping_mul(SENTENCE_SEED_STEP));
        let start = self.config.t3.speech_start;
        let room = self
            .t3
            .speech_tokens_max(prefix_positions, sentence.tokens.len());
        let tokens_max = utterance.sentence_tokens_max.min(room);
        utterance.sentences.pop_front();
        utterance.crossed = utterance.sentence_count > 0;
        utterance.sentence_count += 1;
        utterance.speaking = Some(Speaking {
            sampler: Sampler::new(utterance.sampling, seed, start),
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
        if !stopped {
            speaking.last = token;
            speaking.tokens += 1;
            utterance.generated += 1;
            // Special tokens have no sound.
            if (token as usize) < config.flow.vocabulary {
                utterance.flow.push(&[token]);
            }
        }
        if stopped || speaking.tokens >= speaking.tokens_max {
            utterance.flow.push(&vec![
                config.flow.silence_token;
                config.flow.silence_token_count
            ]);
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
