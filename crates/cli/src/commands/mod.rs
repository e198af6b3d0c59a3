//! Commands, one file each.

mod bench;
mod cache;
mod completions;
mod convert;
mod doctor;
mod man;
mod memory;
mod model;
mod options;
mod parity;
mod script;
mod serve;
mod speak;
mod text;
mod validate;
mod voice;
mod watermark;

use crate::output::print::{is_reader_gone, note};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Streaming text-to-speech within the memory that you allow.
#[derive(Parser)]
#[command(name = "sottovoce", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replay allocation traces, and explain allocator settings.
    Memory(memory::Arguments),
    /// Serve speech over HTTP and WebSocket, with a page that shows the memory.
    Serve(serve::Arguments),
    /// Speak a text: into a file, a pipe or the loudspeaker, while it is being made.
    Speak(speak::Arguments),
    /// Show how a text will be read: what is said for what is written, the tokens, the pauses.
    Text(text::Arguments),
    /// Voices taken from recordings: prepare, list, remove.
    Voice(voice::Arguments),
    /// Models: list, download, inspect.
    Model(model::Arguments),
    /// The cache folder: what is in it, and how to empty it.
    Cache(cache::Arguments),
    /// Write a model folder at another precision.
    Convert(convert::Arguments),
    /// Compute every network's outputs from given inputs, to hold against the reference.
    Parity(parity::Arguments),
    /// What this machine has, what is limited and why, what fits.
    Doctor(doctor::Arguments),
    /// What speaking costs, for each precision and profile.
    Bench(bench::Arguments),
    /// Try the memory promise out: endurance, voices, streams, pressure.
    Validate(validate::Arguments),
    /// Find Perth's watermark in a recording.
    Watermark(watermark::Arguments),
    /// Every option of engine and stream: meaning, values, default.
    Options(options::Arguments),
    /// Completions for a shell.
    Completions(completions::Arguments),
    /// Manual pages.
    Man(man::Arguments),
}

/// What a command ends with: an exit code, or an error to print.
type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

/// Runs what was asked for; the exit code says whether it held.
pub fn run(arguments: Arguments) -> ExitCode {
    match execute(arguments) {
        Ok(code) => code,
        Err(error) if is_reader_gone(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            note!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command; its failure is for the caller to tell.
pub fn execute(arguments: Arguments) -> Outcome {
    match arguments.command {
        Command::Memory(arguments) => memory::run(arguments),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Speak(arguments) => speak::run(arguments),
        Command::Text(arguments) => text::run(arguments),
        Command::Voice(arguments) => voice::run(arguments),
        Command::Model(arguments) => model::run(arguments),
        Command::Cache(arguments) => cache::run(arguments),
        Command::Convert(arguments) => convert::run(arguments),
        Command::Parity(arguments) => parity::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Validate(arguments) => validate::run(arguments),
        Command::Watermark(arguments) => watermark::run(arguments),
        Command::Options(arguments) => options::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    }
}
