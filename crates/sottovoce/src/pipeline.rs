//! The model's pipeline: sentences in, speech tokens, sound out. All state of a stream is in its
//! [`Utterance`].

mod begin;
mod blocks;
mod load;
mod prefix;
mod sentence;
mod standalone;
mod step;
mod step_error;
mod synthesis;
#[cfg(test)]
mod tests;
mod utterance;
mod workspace;

pub use standalone::{Standalone, StandaloneUtterance};
pub(crate) use step_error::StepError;
pub(crate) use utterance::{START_TOKENS, Utterance};

use crate::cache_folder::PrefixCache;
use crate::error::Error;
use crate::plan::Extent;
use crate::text_input::TakenText;
use crate::text_stage::TextStage;
use crate::voice::VoiceInner;
use crate::workspaces::Workspaces;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::s3gen::Flow;
use sottovoce_chatterbox::t3::{KeyValueStore, T3};
use sottovoce_chatterbox::text::Warning;
use sottovoce_chatterbox::vocoder::Vocoder;
use sottovoce_memory::pages::PagePool;
use sottovoce_tensor::Device;
use std::ops::Range;
use std::sync::{Arc, Weak};
use utterance::{Coming, text_tokens};

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

    /// Drops caches: prefixes of voices without a running stream.
    pub fn drop_caches(&mut self) {
        self.drop_idle_prefixes(0);
    }
}
