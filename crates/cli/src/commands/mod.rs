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
    /// Speak a text into a file, a pipe or the loudspeaker, streamed as it is generated.
    Speak(speak::Arguments),
    /// Show how a text is read: its normalised form, tokens and pauses.
    Text(text::Arguments),
    /// Voices taken from recordings: prepare, list, remove.
    Voice(voice::Arguments),
    /// Models: list, download, inspect.
    Model(model::Arguments),
    /// The cache folder: list and clear its entries.
    Cache(cache::Arguments),
    /// Write a model folder at another precision.
    Convert(convert::Arguments),
    /// Compute every network's outputs for given inputs, for comparison with the reference.
    Parity(parity::Arguments),
    /// Show this machine's resources, their limits, and the models that fit.
    Doctor(doctor::Arguments),
    /// Measure time and memory of speaking, for each precision and profile.
    Bench(bench::Arguments),
    /// Test the memory promise: endurance, voices, streams, memory pressure.
    Validate(validate::Arguments),
    /// Detect Perth's watermark in a recording.
    Watermark(watermark::Arguments),
    /// List every option of engine and stream: effect, values, default.
    Options(options::Arguments),
    /// Print completions for a shell.
    Completions(completions::Arguments),
    /// Print or write manual pages.
    Man(man::Arguments),
}

/// Result of a command: an exit code, or an error to print.
type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

/// Runs a command and prints its error, if there is one.
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

/// Runs a command; the caller reports its error.
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
