//! A model without an engine: its caller drives it step by step.

use super::{Pipeline, Utterance};
use crate::error::Error;
use crate::holdings::Holdings;
use crate::loading::{choose, default_voice, model_for};
use crate::options::{EngineOptions, Source, StreamOptions};
use crate::voice::Voice;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::s3gen::Rendering;
use sottovoce_memory::Memory;
use sottovoce_memory::driver::ADDRESS_SPACE_BYTES;
use sottovoce_tensor::Device;
use std::sync::{Arc, Weak};

/// A model, its default voice, and what both hold: for checks that look between the stages.
pub struct Standalone {
    pub(super) pipeline: Pipeline,
    pub(super) voice: Voice,
    pub(super) holdings: Holdings,
}

/// An utterance of a [`Standalone`] model, all of whose speech tokens exist.
pub struct StandaloneUtterance {
    utterance: Utterance,
    sentence_starts: Vec<usize>,
}

impl StandaloneUtterance {
    /// Speech tokens that are not rendered yet.
    pub fn tokens_waiting(&self) -> usize {
        self.utterance.tokens_waiting()
    }

    /// Speech tokens that T3 generated.
    pub fn tokens_generated(&self) -> u64 {
        self.utterance.tokens_generated()
    }

    /// Indices of the tokens with which sentences begin, without the first one.
    pub fn sentence_starts(&self) -> &[usize] {
        &self.sentence_starts
    }
}

impl Standalone {
    /// Loads a model into the device's memory. The voice is in the host's memory if the device's
    /// cannot be accessed.
    ///
    /// # Errors
    /// If the model cannot be loaded, does not fit, or has no default voice.
    pub fn load(
        source: &Source,
        options: &EngineOptions,
        device: Arc<dyn Device>,
        memory: Memory,
    ) -> Result<Standalone, Error> {
        let weights = model_for(source, options)?;
        let choice = choose(&weights, options, &*device)?;
        let host = (!device.host_accessible()).then(|| Memory::host(ADDRESS_SPACE_BYTES));
        let pipeline = Pipeline::load(
            &weights,
            &memory,
            options.speech,
            choice.precision,
            options.key_value_precision,
            choice.extent,
            &choice.traces,
            device,
        )?;
        let voice = default_voice(&weights)?.ok_or_else(|| Error::Voice {
            name: "default".into(),
            reason: "the model's folder has none".into(),
        })?;
        Ok(Standalone {
            voice: voice.keep(host.as_ref().unwrap_or(&memory), None, Weak::new())?,
            holdings: Holdings::new(memory, host, pipeline.pages().clone()),
            pipeline,
        })
    }

    /// The model's config.
    pub fn config(&self) -> &ModelConfig {
        self.pipeline.config()
    }

    /// Most speech tokens of a stream's chunk.
    pub fn chunk_tokens(&self, options: &StreamOptions) -> usize {
        options.chunk_tokens(self.config())
    }

    /// Speech tokens of a stream's chunks, by index.
    pub fn chunk_schedule(&self, options: &StreamOptions) -> impl Fn(u64) -> usize + use<> {
        let schedule = self.pipeline.schedule(&self.voice, options);
        move |chunk| schedule.tokens(chunk)
    }

    /// Rounds the activations before integer weights finely, as devices other than the CPU do.
    pub fn round_finely(&mut self) {
        self.pipeline.round_finely();
    }

    /// Generates all speech tokens of a text.
    ///
    /// # Errors
    /// If the text cannot be spoken, memory runs out, or the device fails.
    pub fn generate(
        &mut self,
        text: &str,
        options: &StreamOptions,
    ) -> Result<StandaloneUtterance, Error> {
        let _open = self.holdings.open();
        let mut utterance =
            (self.pipeline).begin(1, 0, Some(text), &self.voice, options, &self.holdings)?;
        let mut sentence_starts = Vec::new();
        while utterance.speaking() {
            let before = utterance.tokens_waiting();
            (self.pipeline).step(&mut [&mut utterance], &self.holdings)?;
            if utterance.take_sentence_start() {
                sentence_starts.push(before);
            }
        }
        Ok(StandaloneUtterance {
            utterance,
            sentence_starts,
        })
    }

    /// Renders the mel of the next `tokens` speech tokens.
    ///
    /// # Errors
    /// If memory runs out, or the device fails.
    pub fn mel(
        &mut self,
        utterance: &mut StandaloneUtterance,
        tokens: usize,
    ) -> Result<Rendering, Error> {
        (self.pipeline).mel(&mut utterance.utterance, tokens, &self.holdings)
    }

    /// Decodes a mel to samples. Without `last`, the vocoder keeps some frames for the next call.
    ///
    /// # Errors
    /// If memory runs out, or the device fails.
    pub fn samples(
        &mut self,
        utterance: &mut StandaloneUtterance,
        mel: &Rendering,
        last: bool,
    ) -> Result<Vec<f32>, Error> {
        (self.pipeline).samples(&mut utterance.utterance, mel, last, &self.holdings)
    }
}
