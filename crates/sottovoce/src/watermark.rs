//! The watermark: embedded in every stream of an engine that was given its weights, and detected in
//! recordings.

use crate::device;
use crate::error::Error;
use crate::loading::open_model;
use crate::options::{SAMPLE_RATE, Source};
use crate::plan::whole_pages;
use sottovoce_chatterbox::watermark::{MarkState, Marker, Perth, PerthConfig};
use sottovoce_chatterbox::weights::{Component, WeightSource, load, measure};
use sottovoce_formats::audio::{DecodeOptions, decode_file};
use sottovoce_formats::file;
use sottovoce_memory::Memory;
use sottovoce_tensor::{Context, Device, Precision, RunTrace, Workspace};
use std::path::Path;
use std::sync::Arc;

const TAG: &str = "watermark";
/// Budget of a detection, which is enough for a recording of ten minutes.
const DETECTION_BYTES_MAX: u64 = 2 << 30;
/// Longest recording for detection, in seconds.
const RECORDING_SECONDS_MAX: u32 = 600;

/// Memory plan of the watermark's network, made before any of it is mapped.
pub(crate) struct WatermarkPlan {
    weights: WeightSource,
    config: PerthConfig,
    trace: RunTrace,
    /// Bytes of the weights.
    pub weights_bytes: u64,
    /// Bytes of its workspace.
    pub workspace_bytes: u64,
}

/// A loaded watermark network.
pub(crate) struct Watermark {
    marker: Marker,
    workspace: Workspace,
    device: Arc<dyn Device>,
}

impl WatermarkPlan {
    /// Plans the network in `path`.
    pub fn of(
        model: &WeightSource,
        path: &Path,
        device: &dyn Device,
    ) -> Result<WatermarkPlan, Error> {
        let failed = |error| Error::weights(&path.display().to_string(), error);
        let weights = model.beside(path).map_err(failed)?;
        let config = PerthConfig::of(&weights);
        let mut marker = None;
        let (bytes, _) = measure(&weights, Component::Watermark, Precision::F32, |loader| {
            marker = Some(Marker::load(loader, &config)?);
            Ok(())
        })
        .map_err(failed)?;
        let workspace = Workspace::measuring();
        if let Some(marker) = &marker {
            marker.mark_longest(&Context::new(&workspace, device), SAMPLE_RATE)?;
        }
        let trace = workspace.trace().ok_or_else(|| Error::Synthesis {
            reason: "a dry run left no trace".into(),
        })?;
        Ok(WatermarkPlan {
            weights,
            config,
            weights_bytes: whole_pages(bytes as u64),
            workspace_bytes: whole_pages(trace.peak_bytes()),
            trace,
        })
    }

    /// Loads the network.
    pub fn load(&self, memory: &Memory, device: Arc<dyn Device>) -> Result<Watermark, Error> {
        let loaded = load(
            &self.weights,
            Component::Watermark,
            Precision::F32,
            memory,
            |loader| Marker::load(loader, &self.config),
        );
        let loaded = loaded.map_err(|error| Error::weights(self.weights.name(), error))?;
        Ok(Watermark {
            marker: loaded.network,
            workspace: Workspace::planned(memory, &self.trace, TAG)?,
            device,
        })
    }
}

impl Watermark {
    /// Takes a stream's samples and returns marked ones, delayed by a quarter of a second; with
    /// `last`, returns the rest.
    pub fn mark(
        &self,
        state: &mut MarkState,
        samples: &[f32],
        last: bool,
    ) -> Result<Vec<f32>, Error> {
        state.push(samples);
        let mut marked = Vec::new();
        loop {
            self.workspace.restart();
            let ctx = Context::new(&self.workspace, &*self.device);
            match self.marker.mark_next(&ctx, state, last)? {
                Some(samples) => marked.extend(samples),
                None => return Ok(marked),
            }
        }
    }
}

/// Confidence of the network in `weights` that a recording carries the watermark, from 0 to 1.
///
/// # Errors
/// If either file cannot be read or used, or the recording is too long.
pub fn detect(weights: &Path, recording: &Path, threads: Option<usize>) -> Result<f32, Error> {
    let failed = |error| Error::weights(&weights.display().to_string(), error);
    let source = open_model(&Source::Embedded)?
        .beside(weights)
        .map_err(failed)?;
    let config = PerthConfig::of(&source);
    let memory = Memory::host(DETECTION_BYTES_MAX);
    let loaded = load(
        &source,
        Component::Watermark,
        Precision::F32,
        &memory,
        |loader| Perth::load(loader, &config),
    );
    let perth = loaded.map_err(failed)?.network;
    let file = file::open(recording).map_err(|source| Error::file(recording, source))?;
    let options = DecodeOptions::whole(RECORDING_SECONDS_MAX, perth.sample_rate());
    let heard = decode_file(file, &options).map_err(|error| Error::Recording {
        path: recording.to_owned(),
        reason: error.to_string(),
    })?;
    let workspace = Workspace::pooled(&memory, TAG);
    let device = device::host(threads.unwrap_or(0));
    let ctx = Context::new(&workspace, &*device);
    Ok(perth.detect(&ctx, &heard.samples)?)
}
