//! `sottovoce watermark`: detects the watermark of `speak --watermark` or of the reference in a
//! recording.

use super::Outcome;
use crate::output::print::output;
use serde_json::json;
use sottovoce::watermark::detect;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Least confidence at which the mark counts as present.
const CARRIES_IT: f32 = 0.5;

const EXAMPLES: &str = "\
Examples:
  sottovoce speak \"Every byte has an owner.\" --watermark perth.safetensors
  sottovoce watermark detect speech.wav --weights perth.safetensors";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show the network's confidence that a recording carries the mark; the exit status is the
    /// verdict.
    #[command(after_help = EXAMPLES)]
    Detect {
        /// The recording (wav, flac, mp3, ogg).
        recording: PathBuf,
        /// Perth's weights.
        #[arg(long, value_name = "FILE.safetensors")]
        weights: PathBuf,
        /// Threads for arithmetic.
        #[arg(long, allow_negative_numbers = true)]
        threads: Option<usize>,
        /// One JSON object instead of a line.
        #[arg(long)]
        json: bool,
    },
}

pub fn run(arguments: Arguments) -> Outcome {
    let Command::Detect {
        recording,
        weights,
        threads,
        json: as_json,
    } = arguments.command;
    let confidence = detect(&weights, &recording, threads)?;
    let marked = confidence >= CARRIES_IT;
    let mut out = output();
    if as_json {
        let figures = json!({ "confidence": confidence, "marked": marked });
        writeln!(out, "{figures:#}")?;
    } else {
        let verdict = if marked { "marked" } else { "not marked" };
        writeln!(
            out,
            "{verdict}: {:.1} % sure that the mark is there",
            confidence * 100.0
        )?;
    }
    Ok(if marked {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
