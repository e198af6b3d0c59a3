//! Tools for anyone with an out-of-memory error: traces of allocations in, answers out.

mod advise;
mod check;
mod convert;
mod plan;
mod replay;

use super::Outcome;
use clap::{Args, Subcommand};

/// What PyTorch sees of a card sold with 24 GB: the device of the documented measurements.
const DEVICE_BYTES: u64 = 24_564 << 20;

/// Replay allocation traces, and explain allocator settings.
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find which allocator settings would help a trace, and what none can save.
    Advise(advise::Arguments),
    /// Explain each option of an allocator configuration: does nothing, harms, unsupported, misspelt.
    Check(check::Arguments),
    /// Write a trace in another format: text, gzip or a PyTorch snapshot.
    Convert(convert::Arguments),
    /// Find how small an arena the allocations of a trace fit into.
    Plan(plan::Arguments),
    /// Run a trace through the caching allocator under any configuration.
    Replay(replay::Arguments),
}

/// Runs one of the tools.
pub fn run(arguments: Arguments) -> Outcome {
    match arguments.command {
        Command::Advise(arguments) => advise::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
    }
}
