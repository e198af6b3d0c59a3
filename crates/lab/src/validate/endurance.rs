//! Endurance test: an hour of speech must hold no more memory than its second minute.

use super::{SENTENCES, ValidateOptions, sentence, stream_options};
use serde::Serialize;
use sottovoce::{
    Chunk, Engine, Error, SAMPLE_RATE, TEXT_CHARACTERS_MAX, VoiceSource, resident_bytes,
};

/// Seconds after which nothing may grow; a tenth of the test if that is shorter.
const SETTLED_SECONDS: f64 = 120.0;
/// Tolerance between the high-water marks of the two windows: utterances differ in length, and the
/// longest may come late.
const GROWTH_MAX_BYTES: u64 = 1 << 20;
const FRAGMENTATION_MAX: f64 = 0.05;

/// Long speech in two forms.
#[derive(Clone, Debug, Serialize)]
pub struct Endurance {
    /// One stream of many sentences.
    pub one_stream: EnduranceRun,
    /// Successive short utterances.
    pub short_utterances: EnduranceRun,
    /// Whether both runs held.
    pub held: bool,
}

impl Endurance {
    /// Seconds of work per second of speech over both runs.
    pub(super) fn rtf(&self) -> f64 {
        let runs = [&self.one_stream, &self.short_utterances];
        let seconds: f64 = runs.iter().map(|run| run.audio_seconds).sum();
        let work: f64 = runs.iter().map(|run| run.rtf * run.audio_seconds).sum();
        work / seconds.max(f64::MIN_POSITIVE)
    }
}

/// Measurements of one run. Sizes are bytes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EnduranceRun {
    /// Seconds of speech.
    pub audio_seconds: f64,
    /// Chunks.
    pub chunks: u64,
    /// Peak of the bytes held in the first window after settling.
    pub reserved_settled_bytes: u64,
    /// The same in the second window.
    pub reserved_end_bytes: u64,
    /// Peak of the bytes held between utterances in the first window; 0 in a run of one stream.
    pub rest_settled_bytes: u64,
    /// The same in the second window.
    pub rest_end_bytes: u64,
    /// Peak resident size in the first window after settling.
    pub resident_settled_bytes: u64,
    /// The same in the second window.
    pub resident_end_bytes: u64,
    /// Highest (reserved − allocated) ÷ reserved after settling.
    pub fragmentation_max: f64,
    /// Driver calls after settling.
    pub driver_calls: u64,
    /// Seconds of work per second of speech.
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
        short.rest();
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
        let second = self.in_second_half();
        let run = &mut self.run;
        run.audio_seconds += chunk.samples.len() as f64 / f64::from(SAMPLE_RATE);
        run.chunks += 1;
        let report = self.engine.memory_report();
        let resident = resident_bytes().unwrap_or(0);
        if self.settled {
            let (reserved, most_resident) = match second {
                false => (
                    &mut run.reserved_settled_bytes,
                    &mut run.resident_settled_bytes,
                ),
                true => (&mut run.reserved_end_bytes, &mut run.resident_end_bytes),
            };
            *reserved = (*reserved).max(report.reserved_bytes);
            *most_resident = (*most_resident).max(resident);
            run.fragmentation_max = run.fragmentation_max.max(chunk.metrics.fragmentation);
            run.driver_calls = report.driver_calls - self.driver_calls_settled;
        } else if run.audio_seconds >= self.settled_seconds {
            self.settled = true;
            self.driver_calls_settled = report.driver_calls;
        }
        let minute = run.audio_seconds as u64 / 60;
        if minute > self.shown_minute {
            self.shown_minute = minute;
            progress(&format!(
                "endurance, {what}: {minute} min, {} bytes held",
                report.reserved_bytes
            ));
        }
    }

    /// Records the memory held while no stream is under way.
    fn rest(&mut self) {
        if !self.settled {
            return;
        }
        let held = self.engine.memory_report().reserved_bytes;
        let most = match self.in_second_half() {
            false => &mut self.run.rest_settled_bytes,
            true => &mut self.run.rest_end_bytes,
        };
        *most = (*most).max(held);
    }

    /// Whether the second of the two equal windows after settling has begun.
    fn in_second_half(&self) -> bool {
        self.run.audio_seconds >= (self.settled_seconds + self.wanted_seconds) / 2.0
    }

    fn finish(mut self) -> EnduranceRun {
        self.run.rtf = (self.engine.metrics().busy_seconds - self.busy_before)
            / self.run.audio_seconds.max(f64::MIN_POSITIVE);
        self.run.held = self.settled && self.run.grew_nowhere();
        self.run
    }
}

impl EnduranceRun {
    /// Whether the second window held no more than the first: equal to the byte at rest, and within
    /// the tolerance at the peak.
    fn grew_nowhere(&self) -> bool {
        let growth = |first: u64, second: u64| second.saturating_sub(first);
        self.rest_end_bytes <= self.rest_settled_bytes
            && growth(self.reserved_settled_bytes, self.reserved_end_bytes) <= GROWTH_MAX_BYTES
            && growth(self.resident_settled_bytes, self.resident_end_bytes) <= GROWTH_MAX_BYTES
            && self.fragmentation_max <= FRAGMENTATION_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_up_and_down_holds_and_what_grows_does_not() {
        let steady = EnduranceRun {
            reserved_settled_bytes: 36_200_000,
            reserved_end_bytes: 36_000_000,
            rest_settled_bytes: 35_900_000,
            rest_end_bytes: 35_900_000,
            resident_settled_bytes: 90_000_000,
            resident_end_bytes: 90_100_000,
            ..EnduranceRun::default()
        };
        assert!(steady.grew_nowhere());
        let later = EnduranceRun {
            reserved_end_bytes: 36_400_000,
            ..steady.clone()
        };
        assert!(later.grew_nowhere(), "the longest utterance came late");
        let grown = [
            EnduranceRun {
                rest_end_bytes: 35_900_512,
                ..steady.clone()
            },
            EnduranceRun {
                reserved_end_bytes: 38_000_000,
                ..steady.clone()
            },
            EnduranceRun {
                resident_end_bytes: 92_000_000,
                ..steady.clone()
            },
            EnduranceRun {
                fragmentation_max: 0.06,
                ..steady
            },
        ];
        assert!(grown.iter().all(|run| !run.grew_nowhere()));
    }
}
