//! The beginning of an utterance: what it needs, reserved before its first step.

use super::utterance::{Coming, likely_tokens, text_tokens};
use super::{Pipeline, START_TOKENS, Utterance};
use crate::chunking::{Schedule, Window};
use crate::error::Error;
use crate::holdings::Holdings;
use crate::options::{Capabilities, Capability, DeliveryMode, StreamOptions};
use crate::plan::Extent;
use crate::voice::{Voice, VoiceInner};
use sottovoce_chatterbox::s3gen::{FlowState, FlowWindow};
use sottovoce_chatterbox::t3::KeyValueStore;
use sottovoce_chatterbox::text::Script;
use sottovoce_chatterbox::vocoder::VocoderState;
use sottovoce_memory::policy::IDLE_SHARE_MAX;
use sottovoce_memory::{Owner, Region, StreamId};
use std::collections::VecDeque;

impl Pipeline {
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
    pub(super) fn utterance(
        &self,
        voice: &Voice,
        options: &StreamOptions,
        extent: Extent,
    ) -> Utterance {
        let bands = self.config.flow.mel_bands();
        let window = FlowWindow {
            prompt_tokens: options.prompt_tokens.unwrap_or(usize::MAX),
            context_tokens: options.context_window.min(self.extent.context_tokens),
        };
        let flow_options = options.flow(&self.config);
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

    /// Chunk sizes of a stream.
    pub fn schedule(&self, voice: &Voice, options: &StreamOptions) -> Schedule {
        let limits = (self.extent.chunk_tokens, self.extent.context_tokens);
        let prompt_tokens = voice.inner.flow.prompt_tokens.len();
        Schedule::of_stream(&self.config, limits, prompt_tokens, options)
    }

    /// Tokens of a voice's prompt that T3 uses.
    pub(super) fn voice_tokens(&self, voice: &VoiceInner) -> usize {
        (voice.prompt_tokens.len()).min(self.config.t3.prompt_token_count_max)
    }

    /// Workspace extent of a stream's runs.
    pub(super) fn extent_of(
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
            flow_prompt_tokens: options.flow_prompt_tokens(inner.flow.prompt_tokens.len()),
            chunk_tokens: options
                .chunk_tokens(&self.config)
                .min(self.extent.chunk_tokens),
            context_tokens: options.context_window,
            whole_tokens: match options.delivery.unwrap_or_default() {
                DeliveryMode::Stream => 0,
                DeliveryMode::Whole => self.extent.whole_tokens,
            },
            flow_streams: 1,
        }
    }
}
