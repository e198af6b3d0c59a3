//! Whether a device says what the processor says: whole sentences of small models.

use super::open;
use super::self_test::relative_l2;
use crate::engine::Engine;
use crate::error::Error;
use crate::options::{
    CachePrecision, DeviceChoice, EngineOptions, PrecisionChoice, Source, StreamOptions,
};
use crate::voice::VoiceSource;
use serde::Serialize;
use sottovoce_chatterbox::config::ModelConfig;

const TEXT: &str = "We counted forty two boats.";
/// Speech tokens at most: models of random weights never end a sentence.
const TOKENS_MAX: usize = 12;
/// How far samples may be apart, as relative L2.
const DIFFERENCE_MAX: f64 = 1e-3;

/// How near a model's speech is to the processor's.
#[derive(Clone, Debug, Serialize)]
pub struct SpeechCheck {
    /// The model, and the precision of its weights.
    pub model: String,
    /// Speech tokens.
    pub tokens: u64,
    /// Those of the processor.
    pub tokens_expected: u64,
    /// Relative L2 of the samples' difference.
    pub difference: f64,
    /// Bytes of the device that the engine's ledger had at the end, the driver's own included.
    pub ledger_bytes: u64,
    /// Bytes of the device that were gone at the end, by the device's own account; none on the processor.
    pub device_bytes: Option<u64>,
    /// Whether the tokens are the same and the samples as near as they must be.
    pub holds: bool,
}

/// What was said, and what it took.
struct Said {
    tokens: u64,
    samples: Vec<f32>,
    ledger_bytes: u64,
    device_bytes: Option<u64>,
}

fn say(choice: DeviceChoice, source: &Source, precision: PrecisionChoice) -> Result<Said, Error> {
    let opened = open(choice, 0, None)?;
    let context = opened.context.clone();
    let free = || {
        let memory = context.as_ref()?.device_memory().ok()?;
        Some(memory.free)
    };
    let before = free().map(|free| free + opened.memory.statistics().held_bytes());
    let own_bytes = opened.memory.statistics().driver_bytes;
    let options = EngineOptions {
        precision,
        key_value_precision: CachePrecision::F32,
        streams_max: 1,
        ..EngineOptions::default()
    };
    let engine = Engine::load_on(opened.device, opened.memory, source.clone(), options)?;
    let voice = engine.voice(VoiceSource::Default)?;
    let spoken = StreamOptions {
        temperature: Some(0.0),
        seed: 3,
        sentence_tokens_max: Some(TOKENS_MAX),
        ..StreamOptions::default()
    };
    let (mut tokens, mut samples) = (0, Vec::new());
    for chunk in engine.stream(TEXT, &voice, spoken)? {
        let chunk = chunk?;
        tokens = chunk.metrics.tokens;
        samples.extend(chunk.samples);
    }
    let report = engine.memory_report();
    let gone = |before: u64| Some((before + own_bytes).saturating_sub(free()?));
    Ok(Said {
        tokens,
        samples,
        ledger_bytes: report.reserved_bytes + report.driver_bytes,
        device_bytes: before.and_then(gone),
    })
}

/// Compares what a device says with what the processor says, model by model.
///
/// # Errors
/// If a model cannot be loaded there, or the device fails.
pub fn speech_checks(choice: DeviceChoice) -> Result<Vec<SpeechCheck>, Error> {
    let tiny = Source::Random(Box::new(ModelConfig::tiny_base()));
    let models = [
        ("pico", Source::Embedded, PrecisionChoice::F16),
        ("small base", tiny.clone(), PrecisionChoice::F32),
        ("small base", tiny, PrecisionChoice::Q4),
    ];
    let check = |(model, source, precision): (&str, Source, PrecisionChoice)| {
        let expected = say(DeviceChoice::Cpu, &source, precision)?;
        let said = say(choice, &source, precision)?;
        let difference = match said.samples.len() == expected.samples.len() {
            true => relative_l2(&said.samples, &expected.samples),
            false => f64::INFINITY,
        };
        let same = said.tokens == expected.tokens && said.tokens > 0;
        Ok(SpeechCheck {
            model: format!("{model} at {precision}"),
            tokens: said.tokens,
            tokens_expected: expected.tokens,
            difference,
            ledger_bytes: said.ledger_bytes,
            device_bytes: said.device_bytes,
            holds: same && difference < DIFFERENCE_MAX,
        })
    };
    models.into_iter().map(check).collect()
}
