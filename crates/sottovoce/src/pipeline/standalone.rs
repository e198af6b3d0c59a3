//! A pipeline without an engine: its caller drives it step by step.

use super::Pipeline;
use crate::device::NO_BUDGET_BYTES;
use crate::error::Error;
use crate::holdings::Holdings;
use crate::loading::{choose, default_voice, model};
use crate::options::{EngineOptions, Source};
use crate::voice::Voice;
use sottovoce_memory::Memory;
use sottovoce_tensor::Device;
use std::sync::{Arc, Weak};

/// A pipeline, its model's default voice, and what both hold.
pub(crate) struct Standalone {
    pub pipeline: Pipeline,
    pub voice: Voice,
    pub holdings: Holdings,
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
        let weights = model(source)?;
        let choice = choose(&weights, options, &*device)?;
        let host = (!device.host_accessible()).then(|| Memory::host(NO_BUDGET_BYTES));
        let pipeline = Pipeline::load(
            &weights,
            &memory,
            choice.precision,
            options.key_value_precision,
            choice.extent,
            &choice.recordings,
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
}
