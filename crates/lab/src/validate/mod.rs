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

/// Fewest voices, switches, and faulty runs of a kind, on a slow device.
const FEWEST: usize = 4;
/// Fewest speech tokens that a sentence is cut to: several chunks.
const TOKENS_FEWEST: usize = 10;
/// Speech tokens of a sentence that ends by itself.
const TOKENS_USUAL: usize = 75;

/// The share of `count` that a device of a pace does in the time that one in real time takes for
/// all, but no fewer than `least`.
fn fewer(count: usize, pace: f64, least: usize) -> usize {
    ((count as f64 / pace) as usize).max(least.min(count))
}

impl ValidateOptions {
    /// Options for a device that takes `pace` seconds for a second of speech, at least 1: voices,
    /// switches and faulty runs are fewer in proportion, and sentences are shorter. The streams
    /// stay as many.
    fn at_pace(&self, pace: f64) -> ValidateOptions {
        if pace <= 1.0 {
            return self.clone();
        }
        let fewer = |count, least| fewer(count, pace, least);
        let tokens = self.sentence_tokens_max.unwrap_or(TOKENS_USUAL);
        ValidateOptions {
            voices: fewer(self.voices, FEWEST),
            switches: fewer(self.switches, FEWEST),
            faults_max: fewer(self.faults_max, FEWEST),
            sentence_tokens_max: Some(fewer(tokens, TOKENS_FEWEST)),
            ..self.clone()
        }
    }
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
    let pace = endurance.rtf().max(1.0);
    let options = &options.at_pace(pace);
    let voices = voices::run(options, progress)?;
    let streams = streams::run(options, progress)?;
    let pressure = pressure(options, progress)?;
    let borders = borders::run(options, fewer(SENTENCES.len(), pace, 1), progress)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_device_has_fewer_and_shorter_runs_and_as_many_streams() {
        let options = ValidateOptions {
            source: Source::Embedded,
            engine: EngineOptions::default(),
            audio_seconds: 60.0,
            voices: 50,
            switches: 500,
            streams: 32,
            streams_in_budget: 8,
            faults_max: 1000,
            sentence_tokens_max: None,
        };
        let figures = |pace: f64| {
            let at = options.at_pace(pace);
            let tokens = at.sentence_tokens_max;
            (at.voices, at.switches, at.faults_max, at.streams, tokens)
        };
        assert_eq!(figures(1.0), (50, 500, 1000, 32, None));
        assert_eq!(figures(5.0), (10, 100, 200, 32, Some(15)));
        assert_eq!(figures(1e9), (4, 4, 4, 32, Some(10)));
        assert_eq!(fewer(2, 3.0, FEWEST), 2);
    }
}
