//! `sottovoce bench`: benchmarks for each precision and profile.

mod bandwidth;
mod flow;
mod speed;

use super::Outcome;
use crate::options::{Chosen, ForBench};
use crate::output::print::{note, output};
use crate::output::size::mebibytes;
use crate::source::ModelChoice;
use sottovoce::{EngineOptions, PrecisionChoice, Profile};
use sottovoce_formats::output::write_whole;
use sottovoce_lab::bench::{self, BenchOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce bench
  sottovoce bench --synthetic nano --precisions int8 --profiles balanced,none --audio-seconds 10 --threads 2
  sottovoce bench --profiles balanced,none --rounds 21
  sottovoce bench --synthetic base --json --html base.html
  sottovoce bench speed --synthetic nano --precision int8";

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    model: ModelChoice,
    /// Precisions to try.
    #[arg(long, value_delimiter = ',', default_value = "f16,int8,q4")]
    precisions: Vec<PrecisionChoice>,
    /// Profiles to try.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "aggressive,balanced,performance,none"
    )]
    profiles: Vec<Profile>,
    /// Most seconds of speech in a run.
    #[arg(long, default_value_t = 40.0, allow_negative_numbers = true)]
    audio_seconds: f64,
    /// What to speak.
    #[arg(long, default_value = DEFAULT_TEXT)]
    text: String,
    #[command(flatten)]
    engine: Chosen<ForBench>,
    /// Leave out what further streams and voices take.
    #[arg(long)]
    no_further: bool,
    /// Rounds in which every profile speaks in turn, to measure its time cost relative to none; 0
    /// skips them.
    #[arg(
        long,
        default_value_t = 0,
        value_name = "N",
        allow_negative_numbers = true
    )]
    rounds: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Write a page with plots here.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The time of each stage with full-size random weights.
    Speed(speed::Arguments),
    /// How fast products of a few rows read their weights, beside a loop that only reads.
    Bandwidth(bandwidth::Arguments),
    /// The time and the difference of each choice of the flow.
    Flow(flow::Arguments),
}

const DEFAULT_TEXT: &str = "The harbour was quiet that morning, and the first boats were coming home with the tide. \
    Nobody on the quay spoke above a whisper. A woman in a yellow coat counted the boxes as they came ashore, and wrote every number down. \
    When the last one stood in its place, she closed the book and smiled: nothing was missing, and nothing was left over.";

pub fn run(arguments: Arguments) -> Outcome {
    match &arguments.command {
        Some(Command::Speed(arguments)) => return speed::run(arguments),
        Some(Command::Bandwidth(arguments)) => return bandwidth::run(arguments),
        Some(Command::Flow(arguments)) => return flow::run(arguments),
        None => {}
    }
    if !(arguments.audio_seconds > 0.0 && arguments.audio_seconds <= 36_000.0) {
        return Err("--audio-seconds must be above 0 and at most 36000".into());
    }
    let options = BenchOptions {
        source: arguments.model.source()?,
        precisions: arguments.precisions,
        profiles: arguments.profiles,
        engine: EngineOptions {
            streams_max: 1,
            ..arguments.engine.options()
        },
        text: arguments.text,
        audio_seconds_max: arguments.audio_seconds,
        further: !arguments.no_further,
        rounds: arguments.rounds,
    };
    let report = bench::bench(&options, &mut |step| note!("{step}"))?;
    if let Some(path) = &arguments.html {
        write_whole(path, bench::html(&report).as_bytes())
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let mut out = output();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "{:<24} {:>14} {:>12} {:>12} {:>12} {:>6} {:>6} {:>6}",
        "", "peak reserved", "of reference", "first audio", "without gap", "RTF", "frag.", "calls"
    )?;
    for run in &report.runs {
        writeln!(
            out,
            "{:<24} {:>14} {:>10.1} % {:>10.2} s {:>10.2} s {:>6.2} {:>4.1} % {:>6.1}",
            format!("{}, {}", run.precision, run.profile),
            mebibytes(run.peak_reserved_bytes),
            run.peak_reserved_share * 100.0,
            run.first_audio_seconds,
            run.uninterrupted_seconds,
            run.rtf,
            run.fragmentation_max * 100.0,
            run.driver_calls_per_chunk
        )?;
    }
    writeln!(
        out,
        "{:<24} {:>14}",
        "reference, f32 base",
        mebibytes(report.reference_peak_reserved_bytes)
    )?;
    for cost in &report.costs {
        writeln!(
            out,
            "{:<24} RTF {:.3}, {:.3} with none: {:+.2} % of time, the median of {} rounds",
            format!("{}, {}", cost.precision, cost.profile),
            cost.rtf,
            cost.rtf_none,
            cost.cost * 100.0,
            cost.rounds
        )?;
    }
    for further in &report.further {
        writeln!(
            out,
            "one more, {:<5} keys and values: stream of 40 s {}, with a voice of its own {}, of 6 s {}, voice {}",
            further.key_value_precision,
            mebibytes(further.stream_of_40_seconds_bytes),
            mebibytes(further.stream_of_40_seconds_own_voice_bytes),
            mebibytes(further.stream_of_6_seconds_bytes),
            mebibytes(further.voice_bytes)
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
