//! Memory pressure at every moment of a run and on every kind of device: no loss, no leak, no
//! panic.

mod faults;
mod scene;

pub use faults::FaultOutcomes;

use super::{ValidateOptions, speak, stream_options};
use scene::{MemoryKind, Pressed, Scene};
use serde::Serialize;
use sottovoce::device::{self, Opened};
use sottovoce::{Engine, EngineOptions, Error, Stream, VoiceSource};
use sottovoce_memory::driver::system_page_bytes;

/// Short, because it is spoken once per driver call, but long enough for several chunks.
const TEXT: &str = "The kettle is on, come in.";

/// Results of the pressure test. Sizes are bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Pressure {
    /// The smallest budget for one stream.
    pub minimum_bytes: u64,
    /// Whether that budget works.
    pub minimum_works: bool,
    /// Answer to a budget one page smaller.
    pub one_page_less: String,
    /// Whether that answer was a refusal with the numbers.
    pub one_page_less_refused: bool,
    /// Results for each kind of device.
    pub devices: Vec<DevicePressure>,
    /// Whether every expectation was met.
    pub held: bool,
}

/// Results for one kind of device.
#[derive(Clone, Debug, Serialize)]
pub struct DevicePressure {
    /// Its memory: host, simulated, or a CUDA device's.
    pub device: String,
    /// Outcome when "another process" takes memory in the middle of a sentence.
    pub taken_in_mid_sentence: String,
    /// Outcome for a second stream that requests admission after that.
    pub newcomer: String,
    /// Outcomes of a fault at each driver call in turn, by kind of fault.
    pub faults: Vec<FaultOutcomes>,
    /// Whether every expectation was met.
    pub held: bool,
}

/// Runs the pressure test; `progress` receives messages about the current step.
///
/// # Errors
/// If the test cannot run at all.
pub fn pressure(
    options: &ValidateOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Pressure, Error> {
    let single = EngineOptions {
        memory: None,
        streams_max: 1,
        ..options.engine.clone()
    };
    let plan = Engine::plan_for(&options.source, &single)?;
    let minimum_bytes = plan.total_bytes(1);
    // A smaller budget may hold the model at another precision.
    let single = EngineOptions {
        precision: plan.precision.parse()?,
        ..single
    };
    let with_budget = |bytes: u64| {
        let engine = EngineOptions {
            memory: Some(bytes),
            ..single.clone()
        };
        let Opened { device, memory, .. } =
            device::open(engine.device, engine.threads.unwrap_or(0), Some(bytes))?;
        let engine = Engine::load_on(device, memory, options.source.clone(), engine)?;
        let voice = engine.voice(VoiceSource::Default)?;
        speak(&engine, &voice, TEXT, stream_options(options, 0), |_| {})
    };
    progress("pressure: the exact minimum, and one page less");
    let page_bytes = system_page_bytes();
    let minimum = with_budget(minimum_bytes);
    let less = with_budget(minimum_bytes.saturating_sub(page_bytes));
    let one_page_less_refused = matches!(less, Err(Error::Budget { .. }));
    let mut report = Pressure {
        minimum_bytes,
        minimum_works: minimum.is_ok(),
        one_page_less: less.map_or_else(|error| error.to_string(), |_| "it worked".to_owned()),
        one_page_less_refused,
        devices: Vec::new(),
        held: false,
    };
    let Ok(expected) = minimum else {
        // If the minimum does not work, no further test makes sense.
        return Ok(report);
    };
    let scene = Scene::prepare(options)?;
    for place in MemoryKind::all(options.engine.device) {
        let name = place.name();
        progress(&format!("pressure, {name}: memory taken in mid-sentence"));
        let (taken_held, taken_in_mid_sentence) =
            taken(options, &single, place, minimum_bytes, &expected)?;
        let (newcomer_held, newcomer) = newcomer(options, place, &expected)?;
        let faults = faults::run(&scene, place, options.faults_max, progress);
        let held = taken_held && newcomer_held && faults.iter().all(|faults| faults.held);
        report.devices.push(DevicePressure {
            device: name,
            taken_in_mid_sentence,
            newcomer,
            faults,
            held,
        });
    }
    report.held = one_page_less_refused && report.devices.iter().all(|device| device.held);
    Ok(report)
}

/// Loads an engine into memory of `capacity` bytes.
fn load(
    options: &ValidateOptions,
    engine: &EngineOptions,
    place: MemoryKind,
    capacity: u64,
) -> Result<(Pressed, Engine), Error> {
    let pressed = place.open(Some(capacity), engine.threads.unwrap_or(0))?;
    let (device, memory) = (pressed.device.clone(), pressed.memory.clone());
    let engine = Engine::load_on(device, memory, options.source.clone(), engine.clone())?;
    Ok((pressed, engine))
}

/// One stream within the smallest budget; all free memory is taken after the first chunk.
fn taken(
    options: &ValidateOptions,
    single: &EngineOptions,
    place: MemoryKind,
    capacity: u64,
    expected: &[f32],
) -> Result<(bool, String), Error> {
    let (pressed, engine) = load(options, single, place, capacity)?;
    let voice = engine.voice(VoiceSource::Default)?;
    let mut stream = engine.stream(TEXT, &voice, stream_options(options, 0))?;
    let mut heard = match stream.next() {
        Some(chunk) => chunk?.samples,
        None => Vec::new(),
    };
    pressed.take_all(capacity);
    let ending = hear(stream, &mut heard);
    Ok(verdict(&heard, &ending, expected))
}

/// Two places and one running stream, while another process takes all free memory. A second stream
/// may have to wait. The first one must not be affected, and the second one must speak once the
/// pages of the first are free.
fn newcomer(
    options: &ValidateOptions,
    place: MemoryKind,
    expected: &[f32],
) -> Result<(bool, String), Error> {
    let two = EngineOptions {
        memory: None,
        streams_max: 2,
        ..options.engine.clone()
    };
    let capacity = Engine::plan_for(&options.source, &two)?.total_bytes(2);
    let (pressed, engine) = load(options, &two, place, capacity)?;
    let voice = engine.voice(VoiceSource::Default)?;
    let mut first = engine.stream(TEXT, &voice, stream_options(options, 0))?;
    let mut heard = match first.next() {
        Some(chunk) => chunk?.samples,
        None => Vec::new(),
    };
    pressed.take_all(capacity);
    let second = engine.stream(TEXT, &voice, stream_options(options, 0))?;
    let ending = hear(first, &mut heard);
    let (first_held, first) = verdict(&heard, &ending, expected);
    let mut heard = Vec::new();
    let ending = hear(second, &mut heard);
    let (second_held, second) = verdict(&heard, &ending, expected);
    Ok((
        first_held && second_held,
        format!("the stream under way {first}; the newcomer {second}"),
    ))
}

/// Appends a stream's remaining samples.
fn hear(stream: Stream, heard: &mut Vec<f32>) -> Result<(), Error> {
    for chunk in stream {
        heard.extend(chunk?.samples);
    }
    Ok(())
}

/// Whether a stream ended as allowed, and a description.
fn verdict(heard: &[f32], ending: &Result<(), Error>, expected: &[f32]) -> (bool, String) {
    match ending {
        Ok(()) if heard == expected => (true, "finished with the same audio".into()),
        Err(error) if expected.starts_with(heard) => {
            (true, format!("ended with its error: {error}"))
        }
        Ok(()) => (false, "SPOKE SOMETHING ELSE".into()),
        Err(error) => (false, format!("SPOKE SOMETHING ELSE, then: {error}")),
    }
}
