//! Validation of the memory promise at any length (endurance, voices, streams, pressure) and of
//! chunk borders.

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

use serde::Serialize;
use sottovoce::{Chunk, Engine, EngineOptions, Error, Source, StreamOptions, Voice};

/// Extent of the tests.
#[derive(Clone, Debug)]
pub struct ValidateOptions {
    /// The model.
    pub source: Source,
    /// Precision, profile, threads and budget. Tests that need a budget of their own replace it.
    pub engine: EngineOptions,
    /// Seconds of speech in the endurance test, for each of its two runs.
    pub audio_seconds: f64,
    /// Voices in turn.
    pub voices: usize,
    /// Voice switches.
    pub switches: usize,
    /// Concurrent streams.
    pub streams: usize,
    /// Streams that the budget is made for.
    pub streams_in_budget: usize,
    /// Most faulty runs for each kind of fault and device, spread evenly if there are more driver
    /// calls.
    pub faults_max: usize,
    /// Most speech tokens of a sentence, for models that do not end sentences themselves.
    pub sentence_tokens_max: Option<usize>,
}

/// Results. Sizes are bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Validation {
    /// Endurance.
    pub endurance: Endurance,
    /// Voice switches.
    pub voices: VoicesReport,
    /// Concurrent streams.
    pub streams: StreamsReport,
    /// Memory pressure.
    pub pressure: Pressure,
    /// Chunk borders.
    pub borders: BordersReport,
    /// Whether all five tests held.
    pub held: bool,
}

/// Runs the five tests; `progress` receives messages about the current step.
///
/// # Errors
/// If a test cannot run at all. Findings are part of the report.
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

/// Everyday sentences for the tests.
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

/// Sentence `index`, repeating the list.
fn sentence(index: usize) -> &'static str {
    SENTENCES[index % SENTENCES.len()]
}

/// Speaks to the end and passes on each chunk.
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
