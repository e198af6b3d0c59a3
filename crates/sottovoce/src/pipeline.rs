//! The model's pipeline: sentences in, speech tokens, sound out. All state of a stream is in its
//! [`Utterance`].

mod blocks;
mod prefix;
mod sentence;
mod standalone;
mod step_error;
#[cfg(test)]
mod tests;
mod utterance;

pub use standalone::{Standalone, StandaloneUtterance};
pub(crate) use step_error::StepError;
pub(crate) use utterance::{START_TOKENS, Utterance};

use crate::cache_folder::PrefixCache;
use crate::chunking::{Pass, Schedule, Window, Work};
use crate::error::Error;
use crate::holdings::Holdings;
use crate::options::{Capabilities, Capability, DeliveryMode, StreamOptions};
use crate::plan::{Extent, Networks, Recordings, record};
use crate::stage::{FlowStage, Run, Stage, VocoderStage};
use crate::text_input::TakenText;
use crate::text_stage::TextStage;
use crate::voice::{Voice, VoiceInner};
use crate::workspaces::Workspaces;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::convert::sound_precision;
use sottovoce_chatterbox::s3gen::{Flow, FlowOptions, FlowState, FlowWindow, Rendering};
use sottovoce_chatterbox::t3::{KeyValueStore, T3};
use sottovoce_chatterbox::text::{Script, Warning};
use sottovoce_chatterbox::vocoder::{Vocoder, VocoderState};
use sottovoce_chatterbox::weights::{Component, Source, load};
use sottovoce_memory::pages::PagePool;
use sottovoce_memory::policy::IDLE_SHARE_MAX;
use sottovoce_memory::{Memory, Owner, Region, StreamId};
use sottovoce_tensor::{CachePrecision, Context, Device, Precision, Workspace};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Weak};
use step_error::at_fault;
use utterance::{Coming, Rendered, likely_tokens, text_tokens};

/// The text front end and T3, which turn text into speech tokens.
struct Speech {
    text: TextStage,
    t3: T3,
    /// Prior probabilities of the speech tokens; empty unless the model decodes in blocks.
    prior: Arc<[f32]>,
}

/// A loaded model.
pub(crate) struct Pipeline {
    config: ModelConfig,
    device: Arc<dyn Device>,
    /// Absent in an engine that only changes voices.
    speech: Option<Speech>,
    flow: Flow,
    vocoder: Vocoder,
    store: KeyValueStore,
    /// `None` only if memory was too short for a larger set after the smaller one was released.
    workspaces: Option<Workspaces>,
    extent: Extent,
    /// Voices that may have a cached prefix, most recently used last.
    voices: Vec<Weak<VoiceInner>>,
    /// Prefixes on disk.
    kept_prefixes: Option<PrefixCache>,
}

/// The error of speaking with an engine that only changes voices.
pub(crate) fn no_speech() -> Error {
    Error::Text {
        reason: "this engine was loaded without T3 (option speech): it only changes the voices of recordings".into(),
    }
}

impl Pipeline {
    /// Loads the networks and reserves the planned workspaces; without `speaks`, only those that
    /// change voices.
    #[allow(clippy::too_many_arguments, reason = "what is loaded, where, and how")]
    pub fn load(
        source: &Source,
        memory: &Memory,
        speaks: bool,
        precision: Precision,
        cache: CachePrecision,
        extent: Extent,
        recordings: &Recordings,
        device: Arc<dyn Device>,
    ) -> Result<Pipeline, Error> {
        let config = source.config().clone();
        let failed = |error| Error::weights(source.name(), error);
        let sound = sound_precision(precision);
        let store = KeyValueStore::new(memory, &config.t3, cache, usize::MAX);
        let speech = speaks.then(|| -> Result<Speech, Error> {
            let loaded = load(source, Component::T3, precision, memory, |loader| {
                T3::load(loader, &config.t3)
            });
            let t3 = loaded.map_err(failed)?.network;
            Ok(Speech {
                prior: blocks::prior(&t3, &store, memory, &*device)?,
                t3,
                text: TextStage::open(source)?,
            })
        });
        let speech = speech.transpose()?;
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
        let pipeline = Pipeline {
            store,
            workspaces: Some(Workspaces::reserve(memory, recordings, extent)?),
            config,
            device,
            speech,
            flow,
            vocoder,
            extent,
            voices: Vec::new(),
            kept_prefixes: None,
        };
        pipeline.record_steps()?;
        Ok(pipeline)
    }

    /// Records a step of each number of streams, on a device that records.
    fn record_steps(&self) -> Result<(), Error> {
        let Some(speech) = (self.speech.as_ref()).filter(|_| self.config.t3.blocks.is_none())
        else {
            return Ok(());
        };
        let workspace = &self.workspaces()?.step;
        for streams in 1..=self.extent.streams {
            if self.device.has_recorded(T3::step_key(streams)) {
                break;
            }
            workspace.restart();
            let ctx = Context::new(workspace, &*self.device);
            speech.t3.record_step(&ctx, &self.store, streams);
        }
        self.device.check().map_err(Error::Device)
    }

    /// Keeps voices' prefixes in `cache` from now on, and takes them from there.
    pub fn keep_prefixes(&mut self, cache: Option<PrefixCache>) {
        self.kept_prefixes = cache;
    }

    /// Switches activations of integer weights to fine rounding: coarse rounding differs from
    /// device to device.
    pub fn round_finely(&mut self) {
        self.flow.set_rounding(sottovoce_tensor::Rounding::Fine);
        // The existing workspaces were recorded with coarse rounding.
        self.workspaces = None;
    }

    fn speech(&self) -> Result<&Speech, Error> {
        self.speech.as_ref().ok_or_else(no_speech)
    }

    /// The model's config.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// The pages of all streams and voices.
    pub fn pages(&self) -> &PagePool {
        self.store.pages()
    }

    /// Appends to an open text.
    pub fn add_text(&self, utterance: &mut Utterance, taken: &TakenText) -> Result<(), Error> {
        let TakenText { text, last, .. } = taken;
        let script =
            (self.speech()?.text).further_script(text, utterance.after_words, &utterance.text)?;
        let (mut coming, warnings) = Coming::of(script);
        for word in coming.iter_mut().flat_map(Coming::words_mut) {
            let Range { start, end } = word.characters;
            word.characters = utterance.characters + taken.written(start)
                ..utterance.characters + taken.written(end);
        }
        utterance.characters += taken.written(text.chars().count());
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
        utterance.open &= !*last;
        Ok(())
    }

    /// Begins an utterance, whose text may still be open, beside running `others`; `id` owns its
    /// memory. Reserves everything it is likely to need, for which the driver must be open.
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
            Some(text) => self.speech()?.text.script(text, &read_by)?,
            None => Script::default(),
        };
        let (coming, warnings) = Coming::of(script);
        let mut extent = self.extent_of(&coming, voice, options);
        if text.is_none() {
            // An open text can bring sentences of any length.
            extent.text_tokens = self.extent.text_tokens;
        }
        let together = Extent {
            streams: others + 1,
            ..extent
        };
        self.fit(&together, others == 0, holdings)?;
        let sampling = options.sampling(&self.config.t3.sampling);
        let prefix = self.prefix(voice, sampling.exaggeration)?;
        let owner = Owner::new(Region::KeyValue, "stream").for_stream(StreamId(id));
        let mut state = self.speech()?.t3.state(&self.store, owner, prefix);
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
        let capabilities = Capabilities::of(&self.config, self.device.host_accessible());
        let times_words = options.word_times && capabilities.has(Capability::WordTimes);
        state.watch_alignment(times_words || options.watches_alignment(&self.config));
        Ok(Utterance {
            state: Some(state),
            times_words,
            text_tokens: text_tokens(&coming),
            warnings,
            coming,
            open: text.is_none(),
            ..self.utterance(voice, options, extent)
        })
    }

    /// Begins a voice change, whose speech tokens are pushed, beside running `others`. The driver
    /// must be open.
    pub fn begin_change(
        &mut self,
        others: usize,
        voice: &Voice,
        options: &StreamOptions,
        holdings: &Holdings,
    ) -> Result<Utterance, Error> {
        let extent = Extent {
            voice_tokens: 0,
            ..self.extent_of(&VecDeque::new(), voice, options)
        };
        let together = Extent {
            streams: others + 1,
            ..extent
        };
        self.fit(&together, others == 0, holdings)?;
        Ok(Utterance {
            listening: true,
            ..self.utterance(voice, options, extent)
        })
    }

    /// An utterance without a text.
    fn utterance(&self, voice: &Voice, options: &StreamOptions, extent: Extent) -> Utterance {
        let bands = self.config.flow.mel_bands();
        let window = FlowWindow {
            prompt_tokens: options.prompt_tokens.unwrap_or(usize::MAX),
            context_tokens: options.context_window.min(self.extent.context_tokens),
        };
        let flow_options = self.flow_options(options);
        Utterance {
            state: None,
            extent,
            positions_max: self.extent.positions(),
            sampling: options.sampling(&self.config.t3.sampling),
            seed: options.seed,
            text: options.text(),
            text_tokens: 0,
            after_words: false,
            lines: 0,
            characters: 0,
            times_words: false,
            words: Vec::new(),
            run_tokens: 0,
            warnings: Vec::new(),
            coming: VecDeque::new(),
            sentence_count: 0,
            sentence_tokens_max: options.sentence_tokens_max,
            watches_alignment: options.watches_alignment(&self.config),
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
            sentence_started: false,
            open: false,
            listening: false,
        }
    }

    /// Releases the pages that ended streams left, if a stream of `positions` would reuse only part
    /// of them. A partly reused piece would return to the driver only after that stream.
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

    /// Chunk sizes of a stream.
    pub fn schedule(&self, voice: &Voice, options: &StreamOptions) -> Schedule {
        let work = Work::of(
            &self.config,
            self.flow_options(options),
            self.flow_prompt_tokens(voice, options),
            options.context_window.min(self.extent.context_tokens),
            self.flow.look_ahead(),
        );
        let most = options.chunk_tokens(&self.config);
        Schedule::of(
            &work,
            most.min(self.extent.chunk_tokens),
            options.first_sound,
        )
    }

    /// Tokens of a voice's prompt that the flow uses.
    fn flow_prompt_tokens(&self, voice: &Voice, options: &StreamOptions) -> usize {
        let most = options.prompt_tokens.unwrap_or(usize::MAX);
        voice.inner.flow.prompt_tokens.len().min(most)
    }

    /// Tokens of a voice's prompt that T3 uses.
    fn voice_tokens(&self, voice: &VoiceInner) -> usize {
        (voice.prompt_tokens.len()).min(self.config.t3.prompt_token_count_max)
    }

    /// Workspace extent of a stream's runs.
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

    /// Makes the workspaces hold a run of `extent`; after shrinking they may have to grow again.
    /// The existing ones are released only if no other stream needs them, that is, if the caller is
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

    /// Shrinks the workspaces to what the running streams' `extent` needs; returns the bytes
    /// released. Results are unchanged.
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

    /// Rebuilds the workspaces after a stage panicked in them. If there is no room for everything
    /// planned at load, the next run makes what it needs.
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
            t3: self.speech.as_ref().map(|speech| &speech.t3),
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

    /// Drops caches: prefixes of voices without a running stream.
    pub fn drop_caches(&mut self) {
        self.drop_idle_prefixes(0);
    }

    /// One token for each utterance. If memory runs out, finished utterances keep their token, and
    /// the call can be repeated. The driver is opened only if a sentence exceeds its likely length,
    /// or for the first step with this number of streams after the workspaces changed.
    ///
    /// # Errors
    /// Names the utterance that caused the error, if only one did.
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
                false => utterance.make_room(utterance.step_positions(), holdings),
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
        if self.config.t3.blocks.is_some() {
            return Ok(self.pass_blocks(&mut under_way)?);
        }
        let workspace = &self.workspaces()?.step;
        workspace.restart();
        let ctx = Context::new(workspace, &*self.device);
        let mut tokens = Vec::with_capacity(under_way.len());
        let mut states = Vec::with_capacity(under_way.len());
        for utterance in &mut under_way {
            tokens.extend(utterance.speaking.as_ref().map(|speaking| speaking.last));
            states.extend(&mut utterance.state);
        }
        // A device records the step again when its workspace has moved, which takes memory that was
        // planned from the driver.
        let fresh = !self.device.has_recorded(T3::step_key(states.len()));
        let opening = fresh.then(|| holdings.open());
        let t3 = &self.speech()?.t3;
        let stepped = t3.step_scores(&ctx, &mut states, &tokens);
        drop(opening);
        let scores = match stepped {
            Ok(scores) => scores,
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
        let rows = t3.rows();
        let width = rows * scores.logits().columns();
        let taken = scores.read(&ctx, |logits, alignments| {
            let each = under_way.iter_mut().zip(logits.chunks_exact(width));
            for (index, (utterance, logits)) in each.enumerate() {
                if let Some(state) = &mut utterance.state {
                    alignments.give(index, state);
                }
                Pipeline::take_token(&self.config, rows, utterance, logits);
            }
        });
        taken.map_err(Error::from)?;
        Ok(())
    }

    /// Renders a pass to sound. With `last`, held-back samples are flushed too, and the next pass
    /// starts afresh after a silence. If memory runs out, the call can be repeated.
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
            self.flow_stage(utterance)?.reset();
            self.vocoder_stage(utterance)?.reset();
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
            self.flow_stage(utterance)?.reset();
        }
        Ok(mel)
    }

    /// Samples of rendered frames, in runs that fit the vocoder's workspace.
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
            let overlap = if rendered.given == 0 {
                rendered.mel.overlap
            } else {
                0
            };
            let end = (rendered.given + overlap + frames_max).min(frames);
            let part = Rendering {
                mel: rendered.mel.mel[rendered.given * bands..end * bands].to_vec(),
                overlap,
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
        self.fit(&utterance.extent, false, holdings)?;
        self.flow_stage(utterance)?.step(count, false)
    }

    /// Samples that are final given these mel frames; with `last`, all samples.
    pub fn samples(
        &mut self,
        utterance: &mut Utterance,
        mel: &Rendering,
        last: bool,
        holdings: &Holdings,
    ) -> Result<Vec<f32>, Error> {
        self.fit(&utterance.extent, false, holdings)?;
        self.vocoder_stage(utterance)?.step(mel, last)
    }

    fn flow_stage<'a>(&'a self, utterance: &'a mut Utterance) -> Result<FlowStage<'a>, Error> {
        Ok(FlowStage {
            flow: &self.flow,
            state: &mut utterance.flow,
            run: self.run(&self.workspaces()?.flow),
        })
    }

    fn vocoder_stage<'a>(
        &'a self,
        utterance: &'a mut Utterance,
    ) -> Result<VocoderStage<'a>, Error> {
        Ok(VocoderStage {
            vocoder: &self.vocoder,
            bands: self.config.flow.mel_bands(),
            seed: utterance.sentence_seed(),
            state: &mut utterance.vocoder,
            run: self.run(&self.workspaces()?.vocoder),
        })
    }

    fn run<'a>(&'a self, workspace: &'a Workspace) -> Run<'a> {
        Run {
            workspace,
            device: &*self.device,
        }
    }
}
