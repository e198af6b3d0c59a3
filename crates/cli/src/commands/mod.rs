//! One file a command.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Streaming text-to-speech within the memory that you allow.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {}

/// Runs what was asked for; the exit code says whether it held.
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {}
}
