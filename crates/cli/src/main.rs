//! The `sottovoce` command: parses, calls the engine or the memory tools, prints.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod commands;
mod environment;
mod interrupt;
mod options;
mod output;
mod source;
mod text_input;

use clap::Parser;

fn main() -> std::process::ExitCode {
    commands::run(commands::Arguments::parse())
}
