//! Loading of a model's networks into the memory that was planned for them.

use super::{Pipeline, Speech, StepError, blocks};
use crate::error::Error;
use crate::plan::{Extent, RunTraces};
use crate::text_stage::TextStage;
use crate::workspaces::Workspaces;
use sottovoce_chatterbox::convert::sound_precision;
use sottovoce_chatterbox::s3gen::Flow;
use sottovoce_chatterbox::t3::{KeyValueStore, T3};
use sottovoce_chatterbox::vocoder::Vocoder;
use sottovoce_chatterbox::weights::{Component, WeightSource, load};
use sottovoce_memory::Memory;
use sottovoce_tensor::{CachePrecision, Context, Device, Precision};
use std::sync::Arc;

impl Pipeline {
    /// Loads the networks and reserves the planned workspaces; without `speaks`, only those that
    /// change voices.
    #[allow(clippy::too_many_arguments, reason = "what is loaded, where, and how")]
    pub fn load(
        source: &WeightSource,
        memory: &Memory,
        speaks: bool,
        precision: Precision,
        cache: CachePrecision,
        extent: Extent,
        traces: &RunTraces,
        device: Arc<dyn Device>,
    ) -> Result<Pipeline, Error> {
        let config = source.config().clone();
        let failed = |error| Error::weights(source.name(), error);
        let sound = sound_precision(precision);
        let store = KeyValueStore::new(memory, &config.t3, cache, usize::MAX);
        let speech = speaks.then(|| -> Result<Speech, Error> {
            let loaded = load(source, Component::T3, precision, memory, |loader| {
                T3::load(loader, &config.t3, config.text_token_count_max())
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
            workspaces: Some(Workspaces::reserve(memory, traces, extent)?),
            config,
            device,
            speech,
            flow,
            vocoder,
            extent,
            voices: Vec::new(),
            kept_prefixes: None,
        };
        pipeline.record_forwards()?;
        Ok(pipeline)
    }

    /// Records the steps, or the passes over blocks, of each number of streams, on a device that
    /// records.
    fn record_forwards(&self) -> Result<(), Error> {
        let Some(speech) = &self.speech else {
            return Ok(());
        };
        let workspace = &self.workspaces()?.runs.step;
        for forward in speech.t3.repeated_forwards(self.extent.streams) {
            if self.device.has_recorded(forward.key()) {
                break;
            }
            workspace.restart();
            let ctx = Context::new(workspace, &*self.device);
            (speech.t3.record(&ctx, &self.store, forward)).map_err(StepError::from)?;
        }
        self.device.check().map_err(Error::Device)
    }
}
