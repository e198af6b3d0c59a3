//! An hour of speech must hold what minute two held.

use super::{SENTENCES, ValidateOptions, sentence, stream_options};
use crate::engine::Engine;
use crate::error::Error;
use crate::settings::{SAMPLE_RATE, TEXT_CHARACTERS_MAX};
use crate::stream::Chunk;
use crate::system_memory::resident_bytes;
use crate::voice::VoiceSource;
use serde::Serialize;

/// From here on nothing may grow; less where the whole test is shorter than ten times this.
const SETTLED_SECONDS: f64 = 120.0;
const RESIDENT_GROWTH_MAX_BYTES: u64 = 1 << 20;
const FRAGMENTATION_MAX: f64 = 0.05;

/// Long speech, both ways.
#[derive(Clone, Debug, Serialize)]
pub struct Endurance {
    /// In one stream of many sentences.
    pub one_stream: EnduranceRun,
    /// In short utterances one after the other.
    pub short_utterances: EnduranceRun,
    /// Whether both held.
    pub held: bool,
}

/// How one run went. Sizes are bytes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EnduranceRun {
    /// Seconds of speech.
    pub audio_seconds: f64,
    /// Chunks.
    pub chunks: u64,
    /// Held from the system once settled.
    pub reserved_settled_bytes: u64,
    /// Held at the end.
    pub reserved_end_bytes: u64,
    /// Resident once settled.
    pub resident_settled_bytes: u64,
    /// Resident at the end.
    pub resident_end_bytes: u64,
    /// Highest (reserved − allocated) ÷ reserved once settled.
    pub fragmentation_max: f64,
    /// Driver calls once settled.
    pub driver_calls: u64,
    /// Seconds of work a second of speech.
    pub rtf: f64,
    /// Whether nothing grew.
    pub held: bool,
}

pub(super) fn run(
    options: &ValidateOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Endurance, Error> {
    let engine = Engine::load(options.source.clone(), options.engine.clone())?;
    let voice = engine.voice(VoiceSource::Default)?;
    let longest = SENTENCES
        .iter()
        .map(|sentence| sentence.len() + 1)
        .max()
        .unwrap_or(1);
    let mut seed = 0;
    let mut long = Meter::new(&engine, options.audio_seconds);
    while !long.full() {
        let text: String = (0..TEXT_CHARACTERS_MAX / longest)
            .map(|index| format!("{} ", sentence(index)))
            .collect();
        seed += 1;
        for chunk in engine.stream(&text, &voice, stream_options(options, seed))? {
            long.see(&chunk?, "one stream", progress);
            if long.full() {
                break;
            }
        }
    }
    let mut short = Meter::new(&engine, options.audio_seconds);
    while !short.full() {
        seed += 1;
        for chunk in engine.stream(
            sentence(seed as usize),
            &voice,
            stream_options(options, seed),
        )? {
            short.see(&chunk?, "short utterances", progress);
        }
    }
    let one_stream = long.finish();
    let short_utterances = short.finish();
    let held = one_stream.held && short_utterances.held;
    Ok(Endurance {
        one_stream,
        short_utterances,
        held,
    })
}

struct Meter<'a> {
    engine: &'a Engine,
    wanted_seconds: f64,
    settled_seconds: f64,
    busy_before: f64,
    settled: bool,
    driver_calls_settled: u64,
    run: EnduranceRun,
    shown_minute: u64,
}

impl<'a> Meter<'a> {
    fn new(engine: &'a Engine, wanted_seconds: f64) -> Meter<'a> {
        Meter {
            engine,
            wanted_seconds,
            settled_seconds: SETTLED_SECONDS.min(wanted_seconds / 10.0),
            busy_before: engine.metrics().busy_seconds,
            settled: false,
            driver_calls_settled: 0,
            run: EnduranceRun::default(),
            shown_minute: 0,
        }
    }

    fn full(&self) -> bool {
        self.run.audio_seconds >= self.wanted_seconds
    }

    fn see(&mut self, chunk: &Chunk, what: &str, progress: &mut dyn FnMut(&str)) {
        let run = &mut self.run;
        run.audio_seconds += chunk.samples.len() as f64 / f64::from(SAMPLE_RATE);
        run.chunks += 1;
        let report = self.engine.memory_report();
        run.reserved_end_bytes = report.reserved_bytes;
        run.resident_end_bytes = resident_bytes().unwrap_or(0);
        if self.settled {
            run.fragmentation_max = run.fragmentation_max.max(chunk.metrics.fragmentation);
            run.driver_calls = report.driver_calls - self.driver_calls_settled;
        } else if run.audio_seconds >= self.settled_seconds {
            self.settled = true;
            self.driver_calls_settled = report.driver_calls;
            run.reserved_settled_bytes = run.reserved_end_bytes;
            run.resident_settled_bytes = run.resident_end_bytes;
        }
        let minute = run.audio_seconds as u64 / 60;
        if minute > self.shown_minute {
            self.shown_minute = minute;
            progress(&format!(
                "endurance, {what}: {minute} min, {} bytes held",
                run.reserved_end_bytes
            ));
        }
    }

    fn finish(mut self) -> EnduranceRun {
        let growth = self
            .run
            .resident_end_bytes
            .saturating_sub(self.run.resident_settled_bytes);
        self.run.rtf = (self.engine.metrics().busy_seconds - self.busy_before)
            / self.run.audio_seconds.max(f64::MIN_POSITIVE);
        self.run.held = self.settled
            && self.run.reserved_end_bytes == self.run.reserved_settled_bytes
            && growth <= RESIDENT_GROWTH_MAX_BYTES
            && self.run.fragmentation_max <= FRAGMENTATION_MAX;
        self.run
    }
}
