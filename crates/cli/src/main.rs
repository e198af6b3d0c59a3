//! The `sottovoce` command: parses, calls the engine or the memory tools, prints.

mod commands;
mod engine;
mod environment;
mod generation;
mod output;
mod source;

use clap::Parser;

fn main() -> std::process::ExitCode {
    commands::run(commands::Arguments::parse())
}
