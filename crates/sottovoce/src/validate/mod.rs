//! Tries the memory promise out, at any length: endurance, voices, streams, pressure; and that
//! chunks join without a border. The product's own long test.

mod borders;
mod endurance;
mod pressure;
mod streams;
mod voices;

pub use borders::BordersReport;
pub use endurance::{Endurance, EnduranceRun};
pub use pressure::{DevicePressure, FaultOutcomes, Pressure, pressure};
pub use streams::StreamsReport;
pub use voices::VoicesReport;

use crate::engine::Engine;
use crate::error::Error;
use crate::options::{EngineOptions, Source, StreamOptions};
use crate::stream::Chunk;
use crate::voice::Voice;
use serde::Serialize;

/// How long and how much to try.
#[derive(Clone, Debug)]
pub struct ValidateOptions {
    /// The model.
    pub source: Source,
    /// Precision, profile, threads and budget; tests that need a budget of their own replace it.
    pub engine: EngineOptions,
    /// Seconds of speech in the endurance test, in one stream and once more in short utterances.
    pub audio_seconds: f64,
    /// Voices in turn.
    pub voices: usize,
    /// Switches between them.
    pub switches: usize,
    /// Streams at once.
    pub streams: usize,
    /// Streams for which the budget is made.
    pub streams_in_budget: usize,
    /// Runs with a fault for each kind of fault and device, at most; spread evenly over the driver
    /// calls where there are more.
    pub faults_max: usize,
    /// Most speech tokens of a sentence, to keep models without an end of their own short.
    pub sentence_tokens_max: Option<usize>,
}

/// What came out. Sizes are bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Validation {
    /// Long speech.
    pub endurance: Endurance,
    /// Many voices.
    pub voices: VoicesReport,
    /// Many streams.
    pub streams: StreamsReport,
    /// Too little memory.
    pub pressure: Pressure,
    /// Chunks against the whole.
    pub borders: BordersReport,
    /// Whether all five held.
    pub held: bool,
}

/// Runs the five tests; `progress` hears what is going on.
///
/// # Errors
/// Only what keeps a test from running at all; what a test finds is in the report.
pub fn validate(
    options: &ValidateOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Validation, Error> {
    let endurance = endurance::run(options, progress)?;
    let voices = voices::run(options, progress)?;
    let streams = streams::run(options, progress)?;
    let pressure = pressure(options, progress)?;
    let borders = borders::run(options, progress)?;
    let held = endurance.held && voices.held && streams.held && pressure.held && borders.held;
    Ok(Validation {
        endurance,
        voices,
        streams,
        pressure,
        borders,
        held,
    })
}

/// Everyday sentences, spoken over and over.
const SENTENCES: [&str; 8] = [
    "The train leaves at half past seven, so we should be there early.",
    "Please put the milk back into the fridge when you are done.",
    "It rained all night, but the morning was clear and bright.",
    "She wrote three letters and forgot to send two of them.",
    "How long does it take to walk from here to the harbour?",
    "Every byte has an owner, and every owner gives it back.",
    "My neighbour plays the piano on Sunday afternoons.",
    "We counted forty two boats before it got dark.",
];

/// Text `index` of many.
fn sentence(index: usize) -> &'static str {
    SENTENCES[index % SENTENCES.len()]
}

/// Speaks to the end and hands over each chunk.
fn speak(
    engine: &Engine,
    voice: &Voice,
    text: &str,
    options: StreamOptions,
    mut chunk: impl FnMut(&Chunk),
) -> Result<Vec<f32>, Error> {
    let mut samples = Vec::new();
    for piece in engine.stream(text, voice, options)? {
        let piece = piece?;
        chunk(&piece);
        samples.extend_from_slice(&piece.samples);
    }
    Ok(samples)
}

fn stream_options(options: &ValidateOptions, seed: u64) -> StreamOptions {
    StreamOptions {
        seed,
        sentence_tokens_max: options.sentence_tokens_max,
        ..StreamOptions::default()
    }
}
