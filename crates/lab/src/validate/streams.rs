//! Many streams under a budget for few: the others wait, all finish, and each sounds as it does
//! alone.

use super::{ValidateOptions, sentence, speak, stream_options};
use serde::Serialize;
use sottovoce::{Engine, EngineOptions, Error, MemoryPlan, VoiceSource};

/// Results. Sizes are bytes.
#[derive(Clone, Debug, Serialize)]
pub struct StreamsReport {
    /// Concurrent streams.
    pub streams: usize,
    /// The budget.
    pub budget_bytes: u64,
    /// Streams that fit the budget.
    pub streams_fit: usize,
    /// Peak of the bytes held, including a device's driver.
    pub reserved_peak_bytes: u64,
    /// Streams that finished.
    pub finished: usize,
    /// Streams whose samples equal those of the same stream alone.
    pub equal: usize,
    /// Errors, as text.
    pub errors: Vec<String>,
    /// Whether all streams finished, were equal and stayed within the budget.
    pub held: bool,
}

/// The least budget for the streams in it, from their plan without one, which also has room for
/// what only saves time.
fn least_budget(options: &ValidateOptions, plan: &MemoryPlan) -> Result<u64, Error> {
    let streams = options.streams_in_budget;
    let mut budget_bytes = plan.total_bytes(streams);
    loop {
        let tighter = EngineOptions {
            memory: Some(budget_bytes - 1),
            streams_max: streams,
            ..options.engine.clone()
        };
        match Engine::plan_for(&options.source, &tighter) {
            Ok(plan) if plan.streams_fit == streams => budget_bytes = plan.total_bytes(streams),
            Ok(_) | Err(Error::Budget { .. }) => return Ok(budget_bytes),
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn run(
    options: &ValidateOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<StreamsReport, Error> {
    let alone_engine = Engine::load(
        options.source.clone(),
        EngineOptions {
            streams_max: options.streams_in_budget,
            ..options.engine.clone()
        },
    )?;
    let budget_bytes = least_budget(options, alone_engine.plan())?;
    let voice = alone_engine.voice(VoiceSource::Default)?;
    let mut alone = Vec::with_capacity(options.streams);
    for index in 0..options.streams {
        progress(&format!(
            "streams: {} of {} alone",
            index + 1,
            options.streams
        ));
        alone.push(speak(
            &alone_engine,
            &voice,
            sentence(index),
            stream_options(options, index as u64),
            |_| {},
        )?);
    }
    drop((voice, alone_engine));
    progress(&format!(
        "streams: {} at once under {budget_bytes} bytes",
        options.streams
    ));
    let engine = Engine::load(
        options.source.clone(),
        EngineOptions {
            memory: Some(budget_bytes),
            streams_max: options.streams,
            waiting_max: options.streams,
            ..options.engine.clone()
        },
    )?;
    let voice = engine.voice(VoiceSource::Default)?;
    let together: Vec<Result<Vec<f32>, Error>> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..options.streams)
            .map(|index| {
                let (engine, voice) = (&engine, &voice);
                scope.spawn(move || {
                    speak(
                        engine,
                        voice,
                        sentence(index),
                        stream_options(options, index as u64),
                        |_| {},
                    )
                })
            })
            .collect();
        let join = |reader: std::thread::ScopedJoinHandle<'_, _>| {
            reader.join().unwrap_or(Err(Error::Stopped))
        };
        readers.into_iter().map(join).collect()
    });
    let report = engine.memory_report();
    let reserved_peak_bytes = report.reserved_peak_bytes + report.driver_bytes;
    let streams_fit = engine.plan().streams_fit;
    let finished = together.iter().filter(|result| result.is_ok()).count();
    let equal = together
        .iter()
        .zip(&alone)
        .filter(|(result, alone)| result.as_ref().is_ok_and(|samples| samples == *alone))
        .count();
    let errors = together
        .iter()
        .filter_map(|result| result.as_ref().err().map(ToString::to_string))
        .collect();
    let held = equal == options.streams
        && reserved_peak_bytes <= budget_bytes
        && streams_fit == options.streams_in_budget.min(options.streams);
    Ok(StreamsReport {
        streams: options.streams,
        budget_bytes,
        streams_fit,
        reserved_peak_bytes,
        finished,
        equal,
        errors,
        held,
    })
}
