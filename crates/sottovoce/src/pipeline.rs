//! The model as the worker sees it: sentences in, speech tokens, sound out. All state of a stream is in its [`Utterance`].

use crate::error::Error;
use crate::plan::{Extent, Recordings};
use crate::settings::StreamOptions;
use crate::text_stage::TextStage;
use crate::voice::{Voice, VoiceInner};
use sottovoce_chatterbox::config::{ModelConfig, SamplingConfig};
use sottovoce_chatterbox::convert::sound_precision;
use sottovoce_chatterbox::s3gen::{Flow, FlowState};
use sottovoce_chatterbox::t3::sampler::Sampler;
use sottovoce_chatterbox::t3::{KeyValueStore, Prefix, T3, T3State, VoiceConditioning};
use sottovoce_chatterbox::text::Sentence;
use sottovoce_chatterbox::vocoder::{Vocoder, VocoderState};
use sottovoce_chatterbox::weights::{Component, Source, load};
use sottovoce_memory::{Memory, Owner, Region, StreamId};
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{CachePrecision, Context, Precision, Workspace};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// Sets the random numbers of one sentence apart from those of the next.
const SENTENCE_SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A loaded model.
pub(crate) struct Pipeline {
    config: ModelConfig,
    cpu: Cpu,
    text: TextStage,
    t3: T3,
    flow: Flow,
    vocoder: Vocoder,
    store: KeyValueStore,
    workspaces: Workspaces,
    extent: Extent,
    /// Voices that may have a prefix cached.
    voices: Vec<Weak<VoiceInner>>,
}

/// One for each kind of run, all in one arena.
struct Workspaces {
    prefix: Workspace,
    prefill: Workspace,
    step: Workspace,
    flow: Workspace,
    vocoder: Workspace,
}

/// One stream's way through the model.
pub(crate) struct Utterance {
    owner: Owner,
    prefix: Arc<Prefix>,
    sampling: SamplingConfig,
    seed: u64,
    sentences: VecDeque<Sentence>,
    sentence_count: u64,
    sentence_tokens_max: usize,
    speaking: Option<Speaking>,
    flow: FlowState,
    vocoder: VocoderState,
    look_ahead: usize,
    generated: u64,
    /// A sentence began since it was last asked.
    crossed: bool,
}

/// A sentence under way in T3.
struct Speaking {
    state: T3State,
    sampler: Sampler,
    last: u32,
    tokens: usize,
    tokens_max: usize,
}

impl Utterance {
    /// Whether further tokens will come.
    pub fn generating(&self) -> bool {
        self.speaking.is_some() || !self.sentences.is_empty()
    }

    /// Tokens that wait to be made sound.
    pub fn tokens_waiting(&self) -> usize {
        self.flow.waiting()
    }

    /// Tokens that a chunk needs beyond its own while more will come.
    pub fn look_ahead(&self) -> usize {
        self.look_ahead
    }

    /// Tokens so far.
    pub fn tokens_generated(&self) -> u64 {
        self.generated
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
        cpu: Cpu,
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
        let planned = Workspace::planned_together(memory, &recordings.all(), "workspace")?;
        let [prefix, prefill, step, flow_workspace, vocoder_workspace] =
            <[Workspace; 5]>::try_from(planned).map_err(|_| Error::Synthesis {
                reason: "a workspace is missing".into(),
            })?;
        Ok(Pipeline {
            text: TextStage::open(source)?,
            store: t3.store(memory, cache, usize::MAX),
            workspaces: Workspaces {
                prefix,
                prefill,
                step,
                flow: flow_workspace,
                vocoder: vocoder_workspace,
            },
            config,
            cpu,
            t3,
            flow,
            vocoder,
            extent,
            voices: Vec::new(),
        })
    }

    /// Starts on a text; `id` owns what the stream will hold.
    pub fn begin(
        &mut self,
        id: u64,
        text: &str,
        voice: &Voice,
        options: &StreamOptions,
    ) -> Result<Utterance, Error> {
        let sentences = self.text.sentences(text)?;
        let prefix = self.prefix(voice, options.exaggeration)?;
        let defaults = self.config.t3.sampling;
        let sampling = SamplingConfig {
            temperature: options.temperature,
            top_k: options.top_k.unwrap_or(defaults.top_k),
            top_p: options.top_p.unwrap_or(defaults.top_p),
            min_p: options.min_p.unwrap_or(defaults.min_p),
            repetition_penalty: options
                .repetition_penalty
                .unwrap_or(defaults.repetition_penalty),
            guidance: options.cfg_weight,
            ..defaults
        };
        let bands = self.config.flow.mel_bands();
        let context = options.context_window.min(self.extent.context_tokens);
        Ok(Utterance {
            owner: Owner::new(Region::KeyValue, "stream").for_stream(StreamId(id)),
            prefix,
            sampling,
            seed: options.seed,
            sentences: sentences.into(),
            sentence_count: 0,
            sentence_tokens_max: options
                .sentence_tokens_max
                .unwrap_or(usize::MAX)
                .min(self.extent.speech_tokens),
            speaking: None,
            flow: FlowState::new(voice.inner.flow.clone(), options.seed, context),
            vocoder: VocoderState::new(&self.vocoder, bands, options.seed),
            look_ahead: self.flow.look_ahead(),
            generated: 0,
            crossed: false,
        })
    }

    /// Gives kept pages back.
    pub fn trim(&mut self) {
        self.store.pages().trim();
    }

    /// Drops the prefixes of voices; they are made again when they are needed.
    pub fn drop_caches(&mut self) {
        for voice in self.voices.drain(..).filter_map(|voice| voice.upgrade()) {
            voice.prefixes().clear();
        }
    }

    /// One more token for each. If memory runs out, those that have theirs keep it, and the call can be repeated.
    pub fn step(&mut self, batch: &mut [&mut Utterance]) -> Result<(), Error> {
        let (fresh, under_way): (Vec<_>, Vec<_>) = batch
            .iter_mut()
            .partition(|utterance| utterance.speaking.is_none());
        for utterance in fresh {
            self.begin_sentence(utterance)?;
        }
        let mut under_way: Vec<&mut Utterance> = under_way
            .into_iter()
            .map(|utterance| &mut **utterance)
            .collect();
        if under_way.is_empty() {
            return Ok(());
        }
        let workspace = &self.workspaces.step;
        workspace.restart();
        let ctx = Context::new(workspace, &self.cpu);
        let mut tokens = Vec::with_capacity(under_way.len());
        let mut states = Vec::with_capacity(under_way.len());
        for speaking in under_way
            .iter_mut()
            .filter_map(|utterance| utterance.speaking.as_mut())
        {
            tokens.push(speaking.last);
            states.push(&mut speaking.state);
        }
        let logits = self.t3.step(&ctx, &mut states, &tokens)?;
        let rows = self.t3.rows();
        let width = rows * logits.columns();
        for (utterance, logits) in under_way.iter_mut().zip(logits.data().chunks_exact(width)) {
            Pipeline::take_token(&self.config, rows, utterance, logits);
        }
        Ok(())
    }

    /// Makes sound of the first `count` waiting tokens; with `last`, of everything that was held back too.
    pub fn synthesise(
        &mut self,
        utterance: &mut Utterance,
        count: usize,
        last: bool,
    ) -> Result<Vec<f32>, Error> {
        let mel = {
            self.workspaces.flow.restart();
            let ctx = Context::new(&self.workspaces.flow, &self.cpu);
            let mel = if count > 0 {
                self.flow.stream(&ctx, &mut utterance.flow, count)
            } else {
                Vec::new()
            };
            ctx.finish()?;
            mel
        };
        self.workspaces.vocoder.restart();
        let ctx = Context::new(&self.workspaces.vocoder, &self.cpu);
        let samples = self
            .vocoder
            .stream(&ctx, &mut utterance.vocoder, &mel, last);
        ctx.finish()?;
        Ok(samples)
    }

    /// Takes the next sentence's text and draws its first token.
    fn begin_sentence(&self, utterance: &mut Utterance) -> Result<(), Error> {
        let Some(sentence) = utterance.sentences.front() else {
            return Ok(());
        };
        let workspace = &self.workspaces.prefill;
        workspace.restart();
        let ctx = Context::new(workspace, &self.cpu);
        let mut state = self
            .t3
            .state(&self.store, utterance.owner, utterance.prefix.clone());
        let logits = self.t3.prefill(&ctx, &mut state, &sentence.tokens)?;
        let seed = utterance
            .seed
            .wrapping_add(utterance.sentence_count.wrapping_mul(SENTENCE_SEED_STEP));
        let start = self.config.t3.speech_start;
        let room = self
            .t3
            .speech_tokens_max(utterance.prefix.positions(), sentence.tokens.len());
        let tokens_max = utterance.sentence_tokens_max.min(room);
        utterance.sentences.pop_front();
        utterance.crossed = utterance.sentence_count > 0;
        utterance.sentence_count += 1;
        utterance.speaking = Some(Speaking {
            state,
            sampler: Sampler::new(utterance.sampling, seed, start),
            last: start,
            tokens: 0,
            tokens_max,
        });
        Pipeline::take_token(&self.config, self.t3.rows(), utterance, logits.data());
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
        }
    }

    /// A voice's conditioning, run once and shared by its streams.
    fn prefix(&mut self, voice: &Voice, exaggeration: f32) -> Result<Arc<Prefix>, Error> {
        let mut cached = voice.inner.prefixes();
        if let Some((_, prefix)) = cached
            .iter()
            .find(|(of, _)| of.to_bits() == exaggeration.to_bits())
        {
            return Ok(prefix.clone());
        }
        self.workspaces.prefix.restart();
        let ctx = Context::new(&self.workspaces.prefix, &self.cpu);
        let inner = &voice.inner;
        let conditioning = VoiceConditioning {
            speaker_embedding: &inner.speaker_embedding,
            prompt_tokens: &inner.prompt_tokens,
        };
        let owner = Owner::new(Region::Voice, "prefix");
        let prefix =
            Arc::new(
                self.t3
                    .prefix(&ctx, &self.store, owner, &conditioning, exaggeration)?,
            );
        // One at a time: a slider that is moved must not fill the memory with prefixes.
        cached.clear();
        cached.push((exaggeration, prefix.clone()));
        drop(cached);
        self.voices.retain(|voice| voice.strong_count() > 0);
        if !self
            .voices
            .iter()
            .any(|known| known.as_ptr() == Arc::as_ptr(inner))
        {
            self.voices.push(Arc::downgrade(inner));
        }
        Ok(prefix)
    }
}
