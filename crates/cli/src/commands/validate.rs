//! `sottovoce validate`: tests of the memory promise and of chunk borders; the exit status is the
//! verdict.

use super::Outcome;
use crate::options::{Chosen, ForValidation};
use crate::output::print::{note, output};
use crate::source::ModelChoice;
use sottovoce::Source;
use sottovoce_lab::validate::{ValidateOptions, validate};
use std::io::Write;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce validate
  sottovoce validate --audio-minutes 2 --json
  sottovoce validate --synthetic nano --precision int8 --audio-minutes 1
  sottovoce validate --model ./models/nano-int8 --memory 512MiB
  sottovoce validate --device cuda --audio-minutes 1";

/// Runs with a fault, as many as there are driver calls.
const FAULTS_MAX: usize = 1000;
/// A model of full size takes seconds to load, and each run loads it.
const FAULTS_MAX_LARGE: usize = 3;
/// Random weights never end a sentence; one second is enough.
const RANDOM_SENTENCE_TOKENS: usize = 25;

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelChoice,
    #[command(flatten)]
    engine: Chosen<ForValidation>,
    /// Minutes of speech in the endurance test, once in one stream and once in short utterances. On
    /// a device slower than real time the other tests have fewer runs and shorter sentences, in
    /// proportion.
    #[arg(long, default_value_t = 60.0, allow_negative_numbers = true)]
    audio_minutes: f64,
    /// Number of voices that take turns.
    #[arg(long, default_value_t = 50, allow_negative_numbers = true)]
    voices: usize,
    /// Number of switches between them.
    #[arg(long, default_value_t = 500, allow_negative_numbers = true)]
    switches: usize,
    /// Number of streams at once.
    #[arg(long, default_value_t = 32, allow_negative_numbers = true)]
    streams: usize,
    /// Number of streams that the budget holds.
    #[arg(long, default_value_t = 8, allow_negative_numbers = true)]
    streams_in_budget: usize,
    /// Most runs with a failing driver call for each kind of fault and device [default: 1000; 3 for
    /// models other than pico].
    #[arg(long, allow_negative_numbers = true)]
    faults_max: Option<usize>,
    /// Most speech tokens of a sentence, 25 a second [default: the model's own limit; 25 with
    /// random weights, which never end a sentence].
    #[arg(long, allow_negative_numbers = true)]
    sentence_tokens_max: Option<usize>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    if !(arguments.audio_minutes > 0.0 && arguments.audio_minutes <= 100_000.0) {
        return Err("--audio-minutes must be above 0 and at most 100000".into());
    }
    let source = arguments.model.source()?;
    let random = matches!(source, Source::Synthetic(_));
    let faults_max = match arguments.faults_max {
        Some(most) => most.max(1),
        None if source == Source::Embedded => FAULTS_MAX,
        None => FAULTS_MAX_LARGE,
    };
    let options = ValidateOptions {
        source,
        engine: arguments.engine.options(),
        audio_seconds: arguments.audio_minutes * 60.0,
        voices: arguments.voices.max(1),
        switches: arguments.switches.max(1),
        streams: arguments.streams.max(1),
        streams_in_budget: arguments.streams_in_budget.max(1),
        faults_max,
        sentence_tokens_max: (arguments.sentence_tokens_max)
            .or(random.then_some(RANDOM_SENTENCE_TOKENS)),
    };
    let report = validate(&options, &mut |step| note!("{step}"))?;
    let mut out = output();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        let verdict = |held: bool| if held { "held" } else { "DID NOT HOLD" };
        for (name, run) in [
            ("one stream", &report.endurance.one_stream),
            ("short utterances", &report.endurance.short_utterances),
        ] {
            writeln!(
                out,
                "endurance, {name}: {:.0} s of speech, {} bytes held when settled, {} at the end, resident {:+} bytes, fragmentation {:.1} %, {} driver calls, RTF {:.2}: {}",
                run.audio_seconds,
                run.reserved_settled_bytes,
                run.reserved_end_bytes,
                run.resident_end_bytes as i64 - run.resident_settled_bytes as i64,
                run.fragmentation_max * 100.0,
                run.driver_calls,
                run.rtf,
                verdict(run.held)
            )?;
        }
        let voices = &report.voices;
        writeln!(
            out,
            "voices: {} switches over {}, {} bytes before, {} after, {} a voice: {}",
            voices.switches,
            voices.voices,
            voices.allocated_before_bytes,
            voices.allocated_after_bytes,
            voices.voice_bytes,
            verdict(voices.held)
        )?;
        let streams = &report.streams;
        writeln!(
            out,
            "streams: {} at once, {} fit {} bytes, {} finished, {} equal to themselves alone, {} bytes at the peak: {}",
            streams.streams,
            streams.streams_fit,
            streams.budget_bytes,
            streams.finished,
            streams.equal,
            streams.reserved_peak_bytes,
            verdict(streams.held)
        )?;
        for error in &streams.errors {
            writeln!(out, "  {error}")?;
        }
        let pressure = &report.pressure;
        writeln!(
            out,
            "pressure: minimum {} bytes {}; one page less: {}",
            pressure.minimum_bytes,
            if pressure.minimum_works {
                "works"
            } else {
                "FAILS"
            },
            pressure.one_page_less
        )?;
        for device in &pressure.devices {
            let name = &device.device;
            writeln!(
                out,
                "pressure, {name}: memory taken in mid-sentence: {}; {}",
                device.taken_in_mid_sentence, device.newcomer
            )?;
            for faults in &device.faults {
                writeln!(
                    out,
                    "pressure, {name}, {}: {} runs over {} driver calls, {} spoke on, {} ended with an error, {} differed, {} leaked: {}",
                    faults.kind,
                    faults.runs,
                    faults.calls,
                    faults.equal,
                    faults.refused,
                    faults.different,
                    faults.leaked,
                    verdict(faults.held)
                )?;
            }
        }
        writeln!(out, "pressure: {}", verdict(pressure.held))?;
        let borders = &report.borders;
        writeln!(
            out,
            "borders: {} of chunks and {} of sentences in {} utterances; mel {:.3} from the whole, step {:.3} there and {:.3} elsewhere, {:.2} by itself; slope {:.2} and {:.2}, bend {:.2} and {:.2}; level {:+.2} dB before, {:+.2} dB after, {:+.2} dB in all: {}",
            borders.borders,
            borders.sentence_joins,
            borders.utterances,
            borders.mel_difference,
            borders.mel_step_border,
            borders.mel_step_elsewhere,
            borders.mel_change,
            borders.slope_border.max(borders.slope_join),
            borders.slope_elsewhere,
            borders.bend_border,
            borders.bend_elsewhere,
            borders.level_before_db,
            borders.level_after_db,
            borders.level_db,
            verdict(borders.held)
        )?;
    }
    Ok(if report.held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
