//! Too little memory, at every moment of a run: nothing may be lost, leak or panic.

use super::{ValidateOptions, sentence, speak, stream_options};
use crate::engine::Engine;
use crate::error::Error;
use crate::settings::EngineOptions;
use crate::voice::VoiceSource;
use serde::Serialize;
use sottovoce_memory::driver::{HostDriver, Script, Scripted};
use sottovoce_memory::{Memory, PoolConfiguration};

/// What a budget is rounded to.
const PAGE_BYTES: u64 = 4096;

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
    /// A fault at each driver call of a run in turn.
    pub faults: FaultOutcomes,
    /// Whether everything was as it should be.
    pub held: bool,
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
    let minimum_bytes = Engine::load(options.source.clone(), single.clone())?
        .plan()
        .total_bytes(1);
    let with_budget = |bytes: u64| {
        let engine = Engine::load(
            options.source.clone(),
            EngineOptions {
                memory: Some(bytes),
                ..single.clone()
            },
        )?;
        let voice = engine.voice(VoiceSource::Default)?;
        speak(
            &engine,
            &voice,
            sentence(0),
            stream_options(options, 0),
            |_| {},
        )
    };
    progress("pressure: the exact minimum, and one page less");
    let minimum_works = with_budget(minimum_bytes).is_ok();
    let less = with_budget(minimum_bytes.saturating_sub(PAGE_BYTES));
    let one_page_less_refused = matches!(less, Err(Error::Budget { .. }));
    let one_page_less = less
        .err()
        .map_or_else(|| "it worked".to_owned(), |error| error.to_string());
    let (expected, calls) = scripted_run(options, &single, minimum_bytes, |_| {}, |_, _| {})?;
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
    let taken_held = match &taken {
        Ok((samples, _)) => *samples == expected,
        Err(Run::Failed(_)) => true,
        Err(Run::Leaked(_)) => false,
    };
    let taken_in_mid_sentence = match taken {
        Ok(_) => "finished with the same audio".to_owned(),
        Err(Run::Failed(error)) => format!("ended with its error: {error}"),
        Err(Run::Leaked(bytes)) => format!("left {bytes} bytes behind"),
    };
    let mut faults = FaultOutcomes {
        calls,
        ..Default::default()
    };
    let step = (calls as usize).div_ceil(options.faults_max.max(1)).max(1);
    for call in (0..calls).step_by(step) {
        progress(&format!("pressure: fault at driver call {call} of {calls}"));
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
    let held = minimum_works
        && one_page_less_refused
        && taken_held
        && faults.different == 0
        && faults.leaked == 0;
    Ok(Pressure {
        minimum_bytes,
        minimum_works,
        one_page_less,
        one_page_less_refused,
        taken_in_mid_sentence,
        faults,
        held,
    })
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
        speak(
            &engine,
            &voice,
            sentence(0),
            stream_options(options, 0),
            |chunk| at_chunk(&script, chunk.metrics.chunk_count),
        )
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
