//! Comparison of a device's speech with the CPU's: whole sentences of small models.

use super::self_test::relative_l2;
use serde::Serialize;
use sottovoce::device::{self, Opened};
use sottovoce::{
    CachePrecision, DeviceChoice, EngineOptions, Error, PrecisionChoice, Source, Standalone,
    StreamOptions,
};
use sottovoce_chatterbox::config::ModelConfig;

const TEXT: &str = "We counted forty two boats.";
/// Most speech tokens: models with random weights never end a sentence.
const TOKENS_MAX: usize = 12;
const CHUNK_TOKENS: usize = 10;

/// Comparison of one model's speech with the CPU's.
#[derive(Clone, Debug, Serialize)]
pub struct SpeechCheck {
    /// The model, and the precision of its weights.
    pub model: String,
    /// Speech tokens.
    pub tokens: u64,
    /// Speech tokens on the CPU.
    pub tokens_expected: u64,
    /// Most device reads per chunk.
    pub reads_a_chunk: u64,
    /// Relative L2 difference of the samples.
    pub difference: f64,
    /// Device bytes in the engine's ledger at the end, including the driver's own.
    pub ledger_bytes: u64,
    /// Device bytes used at the end, as the device reports them; `None` on the CPU.
    pub device_bytes: Option<u64>,
    /// Whether the tokens are equal and the samples within tolerance.
    pub holds: bool,
}

/// Speech of one run, and its cost.
pub(super) struct Said {
    pub tokens: u64,
    pub samples: Vec<f32>,
    /// Most device reads per chunk.
    pub reads_a_chunk: u64,
    ledger_bytes: u64,
    device_bytes: Option<u64>,
}

/// Speaks with fine rounding of integer weights' activations, as devices other than the CPU use.
/// Coarse rounding would change the fundamental frequency, and the phases of harmonics accumulate
/// any such difference.
pub(super) fn say(
    choice: DeviceChoice,
    source: &Source,
    precision: PrecisionChoice,
    tokens_max: usize,
) -> Result<Said, Error> {
    let options = EngineOptions {
        precision,
        key_value_precision: CachePrecision::F32,
        streams_max: 1,
        ..EngineOptions::default()
    };
    let Opened {
        device,
        memory,
        context,
        ..
    } = device::open(choice, 0, None)?;
    let ledger = || {
        let statistics = memory.statistics();
        statistics.held_bytes() + statistics.driver_bytes
    };
    let free = || Some(context.as_ref()?.device_memory().ok()?.free);
    let at_first = free().map(|free| free + ledger());
    let mut standalone = Standalone::load(source, &options, device.clone(), memory.clone())?;
    standalone.round_finely();
    let spoken = StreamOptions {
        temperature: Some(0.0),
        seed: 3,
        sentence_tokens_max: Some(tokens_max),
        ..StreamOptions::default()
    };
    let mut utterance = standalone.generate(TEXT, &spoken)?;
    let (mut samples, mut reads_a_chunk) = (Vec::new(), 0);
    while utterance.tokens_waiting() > 0 {
        let count = utterance.tokens_waiting().min(CHUNK_TOKENS);
        let reads = || device.traffic().count().reads;
        let before = reads();
        let mel = standalone.mel(&mut utterance, count)?;
        let last = utterance.tokens_waiting() == 0;
        samples.extend(standalone.samples(&mut utterance, &mel, last)?);
        reads_a_chunk = reads_a_chunk.max(reads() - before);
    }
    Ok(Said {
        tokens: utterance.tokens_generated(),
        samples,
        reads_a_chunk,
        ledger_bytes: ledger(),
        device_bytes: at_first.and_then(|at_first| Some(at_first.saturating_sub(free()?))),
    })
}

/// Compares a device's speech with the CPU's, model by model.
///
/// # Errors
/// If a model cannot be loaded on the device, or the device fails.
pub fn speech_checks(choice: DeviceChoice) -> Result<Vec<SpeechCheck>, Error> {
    let tiny = Source::Random(Box::new(ModelConfig::tiny_base()));
    // The last item of each is the tolerance of the samples: relative L2.
    let models = [
        ("pico", Source::Embedded, PrecisionChoice::F16, 4e-3),
        ("small base", tiny.clone(), PrecisionChoice::F32, 1e-4),
        ("small base", tiny, PrecisionChoice::Q4, 1e-3),
    ];
    let check = |(model, source, precision, difference_max)| {
        let expected = say(DeviceChoice::Cpu, &source, precision, TOKENS_MAX)?;
        let said = say(choice, &source, precision, TOKENS_MAX)?;
        let difference = match said.samples.len() == expected.samples.len() {
            true => relative_l2(&said.samples, &expected.samples),
            false => f64::INFINITY,
        };
        let same = said.tokens == expected.tokens && said.tokens > 0;
        Ok(SpeechCheck {
            model: format!("{model} at {precision}"),
            tokens: said.tokens,
            tokens_expected: expected.tokens,
            reads_a_chunk: said.reads_a_chunk,
            difference,
            ledger_bytes: said.ledger_bytes,
            device_bytes: said.device_bytes,
            holds: same && difference < difference_max,
        })
    };
    models.into_iter().map(check).collect()
}
