//! Too little memory, at every moment of a run: nothing may be lost, leak or panic.

use super::{ValidateOptions, speak, stream_options};
use crate::engine::Engine;
use crate::error::Error;
use crate::settings::EngineOptions;
use crate::voice::VoiceSource;
use serde::Serialize;
use sottovoce_memory::driver::{HostDriver, Script, Scripted};
use sottovoce_memory::{Memory, PoolConfiguration};

/// What a budget is rounded to.
const PAGE_BYTES: u64 = 4096;
/// Short, for it is spoken once for each driver call, and yet of several chunks.
const TEXT: &str = "The kettle is on, come in.";

/// How the engine stood up to it. Sizes are bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Pressure {
    /// The least budget for one stream.
    pub minimum_bytes: u64,
    /// Whether it works with exactly that.
    pub minimum_works: bool,
    /// What one page less is answered with.
    pub one_page_less: String,
    /// Whether that was a refusal with the numbers.
    pub one_page_less_refused: bool,
    /// Memory taken by "another process" in the middle of a sentence.
    pub taken_in_mid_sentence: String,
    /// A second stream that asks to be let in after that.
    pub newcomer: String,
    /// A fault at each driver call of a run in turn.
    pub faults: FaultOutcomes,
    /// Whether everything was as it should be.
    pub held: bool,
}

impl Pressure {
    /// Where not even the minimum works, nothing further is tried.
    fn without_minimum(minimum_bytes: u64, error: &Error) -> Pressure {
        Pressure {
            minimum_bytes,
            minimum_works: false,
            one_page_less: format!("not tried, for the minimum failed: {error}"),
            one_page_less_refused: false,
            taken_in_mid_sentence: String::new(),
            newcomer: String::new(),
            faults: FaultOutcomes::default(),
            held: false,
        }
    }
}

/// How the runs with a fault ended.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FaultOutcomes {
    /// Driver calls of a run without a fault.
    pub calls: u64,
    /// Runs with a fault.
    pub runs: usize,
    /// Runs that spoke as if nothing had been.
    pub equal: usize,
    /// Runs that ended with an error of their own.
    pub refused: usize,
    /// Runs that spoke something else, or lost a part.
    pub different: usize,
    /// Runs that left something behind.
    pub leaked: usize,
}

pub(super) fn run(
    options: &ValidateOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Pressure, Error> {
    let single = EngineOptions {
        streams_max: 1,
        ..options.engine.clone()
    };
    let minimum_bytes = Engine::plan_for(&options.source, &single)?.total_bytes(1);
    let with_budget = |bytes: u64| {
        let engine = EngineOptions {
            memory: Some(bytes),
            ..single.clone()
        };
        scripted_run(options, &engine, bytes, |_| {}, |_, _| {})
    };
    progress("pressure: the exact minimum, and one page less");
    let (expected, calls) = match with_budget(minimum_bytes) {
        Ok(run) => run,
        Err(run) => return Ok(Pressure::without_minimum(minimum_bytes, &run.into())),
    };
    let less = with_budget(minimum_bytes.saturating_sub(PAGE_BYTES)).map_err(Error::from);
    let one_page_less_refused = matches!(less, Err(Error::Budget { .. }));
    let one_page_less = less
        .err()
        .map_or_else(|| "it worked".to_owned(), |error| error.to_string());
    progress("pressure: memory taken in mid-sentence");
    let taken = scripted_run(
        options,
        &single,
        minimum_bytes,
        |_| {},
        |script, chunk| {
            // All of it is gone after the first chunk.
            if chunk == 1 {
                script.take(minimum_bytes);
            }
        },
    );
    let (taken_held, taken_in_mid_sentence) = verdict(&taken, &expected);
    let (newcomer_held, newcomer) = newcomer(options, &expected)?;
    let mut faults = FaultOutcomes {
        calls,
        ..Default::default()
    };
    let step = (calls as usize).div_ceil(options.faults_max.max(1)).max(1);
    for call in (0..calls).step_by(step) {
        progress(&format!(
            "pressure: fault at driver call {} of {calls}",
            call + 1
        ));
        faults.runs += 1;
        match scripted_run(
            options,
            &single,
            minimum_bytes,
            |script| script.fail_acquiring_call(call),
            |_, _| {},
        ) {
            Ok((samples, _)) if samples == expected => faults.equal += 1,
            Ok(_) => faults.different += 1,
            Err(Run::Failed(_)) => faults.refused += 1,
            Err(Run::Leaked(_)) => faults.leaked += 1,
        }
    }
    let held = one_page_less_refused
        && taken_held
        && newcomer_held
        && faults.different == 0
        && faults.leaked == 0;
    Ok(Pressure {
        minimum_bytes,
        minimum_works: true,
        one_page_less,
        one_page_less_refused,
        taken_in_mid_sentence,
        newcomer,
        faults,
        held,
    })
}

/// Whether a run went as it may, and in words.
fn verdict(run: &Result<(Vec<f32>, u64), Run>, expected: &[f32]) -> (bool, String) {
    match run {
        Ok((samples, _)) if samples == expected => (true, "finished with the same audio".into()),
        Ok(_) => (false, "spoke something else".into()),
        Err(Run::Failed(error)) => (true, format!("ended with its error: {error}")),
        Err(Run::Leaked(bytes)) => (false, format!("left {bytes} bytes behind")),
    }
}

/// Two places, one stream under way, and all free memory taken by another process: a second stream may have to wait, but the first one
/// does not notice, and the second one speaks once the first one's pages are free.
fn newcomer(options: &ValidateOptions, expected: &[f32]) -> Result<(bool, String), Error> {
    let two = EngineOptions {
        streams_max: 2,
        ..options.engine.clone()
    };
    let capacity = Engine::plan_for(&options.source, &two)?.total_bytes(2);
    let driver = Scripted::new(HostDriver::new(capacity));
    let script = driver.script();
    let memory = Memory::with_driver(Box::new(driver), PoolConfiguration::default());
    let engine = Engine::load_in(memory, options.source.clone(), two)?;
    let voice = engine.voice(VoiceSource::Default)?;
    let mut first = engine.stream(TEXT, &voice, stream_options(options, 0))?;
    let mut heard = match first.next() {
        Some(chunk) => chunk?.samples,
        None => Vec::new(),
    };
    script.take(capacity);
    let second = engine.stream(TEXT, &voice, stream_options(options, 0))?;
    for chunk in first {
        heard.extend(chunk?.samples);
    }
    let second: Result<Vec<_>, Error> = second.collect();
    let first_held = heard == expected;
    let (second_held, second) = match second {
        Ok(chunks) => {
            let samples: Vec<f32> = chunks.into_iter().flat_map(|chunk| chunk.samples).collect();
            (samples == expected, "spoke after it".to_owned())
        }
        Err(error) => (true, format!("ended with its error: {error}")),
    };
    let first = if first_held {
        "same audio"
    } else {
        "OTHER AUDIO"
    };
    Ok((
        first_held && second_held,
        format!("the stream under way: {first}; the newcomer {second}"),
    ))
}

/// How a run ended that did not speak to its end.
enum Run {
    Failed(Error),
    Leaked(u64),
}

impl From<Error> for Run {
    fn from(error: Error) -> Run {
        Run::Failed(error)
    }
}

impl From<Run> for Error {
    fn from(run: Run) -> Error {
        match run {
            Run::Failed(error) => error,
            Run::Leaked(bytes) => Error::Synthesis {
                reason: format!("{bytes} bytes were left behind"),
            },
        }
    }
}

/// Loads, speaks and closes over a driver with faults; the samples and the driver calls that asked for memory.
fn scripted_run(
    options: &ValidateOptions,
    engine_options: &EngineOptions,
    capacity: u64,
    before: impl Fn(&Script),
    mut at_chunk: impl FnMut(&Script, u64),
) -> Result<(Vec<f32>, u64), Run> {
    let driver = Scripted::new(HostDriver::new(capacity));
    let script = driver.script();
    before(&script);
    let memory = Memory::with_driver(Box::new(driver), PoolConfiguration::default());
    let outcome = Engine::load_in(
        memory.clone(),
        options.source.clone(),
        engine_options.clone(),
    )
    .and_then(|engine| {
        let voice = engine.voice(VoiceSource::Default)?;
        speak(&engine, &voice, TEXT, stream_options(options, 0), |chunk| {
            at_chunk(&script, chunk.metrics.chunk_count)
        })
    });
    script.take(0);
    memory.unseal();
    memory.trim();
    let left = memory.statistics().held_bytes();
    if left > 0 {
        return Err(Run::Leaked(left));
    }
    Ok((outcome?, script.acquiring_calls()))
}
