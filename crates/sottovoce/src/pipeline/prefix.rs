//! T3's cached prefixes of voices.

use super::Pipeline;
use crate::error::Error;
use crate::voice::Voice;
use sottovoce_chatterbox::t3::{Prefix, VoiceConditioning};
use sottovoce_memory::{Owner, Region};
use sottovoce_tensor::Context;
use std::sync::{Arc, Weak};

/// Cached prefixes of voices without a running stream, as planned.
const IDLE_PREFIXES_MAX: usize = 1;

impl Pipeline {
    /// A voice's conditioning, computed once and shared by its streams.
    pub(super) fn prefix(
        &mut self,
        voice: &Voice,
        exaggeration: f32,
    ) -> Result<Arc<Prefix>, Error> {
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
        // One prefix per voice: moving a slider must not fill memory with prefixes.
        let others = std::mem::take(&mut *inner.prefixes());
        drop(others);
        self.drop_idle_prefixes(IDLE_PREFIXES_MAX);
        let conditioning = VoiceConditioning {
            speaker_embedding: inner.speaker_embedding.data(),
            prompt_tokens: &inner.prompt_tokens,
        };
        let owner = Owner::new(Region::Voice, "prefix");
        let positions = (self.config.t3).prefix_positions(inner.prompt_tokens.len());
        let kept = (self.kept_prefixes.as_ref()).filter(|_| inner.may_be_kept);
        let entry = kept.and_then(|kept| kept.entry(&conditioning, exaggeration, positions));
        let read = (entry.as_ref()).and_then(|entry| entry.read(&self.store, owner));
        let prefix = match read {
            Some(prefix) => prefix,
            None => {
                let prefix = self.compute_prefix(&conditioning, exaggeration, owner)?;
                if let Some(entry) = entry {
                    entry.keep(&prefix);
                }
                prefix
            }
        };
        let prefix = Arc::new(prefix);
        inner.prefixes().push((exaggeration, prefix.clone()));
        Ok(prefix)
    }

    fn compute_prefix(
        &self,
        voice: &VoiceConditioning<'_>,
        exaggeration: f32,
        owner: Owner,
    ) -> Result<Prefix, Error> {
        let workspaces = self.workspaces()?;
        let workspace = match voice.prompt_tokens.len() {
            0 => &workspaces.runs.promptless_prefix,
            _ => &workspaces.runs.prefix,
        };
        workspace.restart();
        let ctx = Context::new(workspace, &*self.device);
        let t3 = &self.speech()?.t3;
        Ok(t3.prefix(&ctx, &self.store, owner, voice, exaggeration)?)
    }

    /// Drops the prefixes of voices without a running stream, except for the `kept` most recent
    /// ones.
    pub(super) fn drop_idle_prefixes(&self, kept: usize) {
        let mut idle = 0;
        for voice in self.voices.iter().rev().filter_map(Weak::upgrade) {
            let mut prefixes = voice.prefixes();
            let spoken = |(_, prefix): &(f32, Arc<Prefix>)| Arc::strong_count(prefix) > 1;
            if prefixes.is_empty() || prefixes.iter().any(spoken) {
                continue;
            }
            idle += 1;
            if idle > kept {
                let dropped = std::mem::take(&mut *prefixes);
                drop(prefixes);
                drop(dropped);
            }
        }
    }
}
