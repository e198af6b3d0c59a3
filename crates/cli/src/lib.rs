//! The `sottovoce` command: parses arguments, calls the engine or the memory tools, prints. It is a
//! library so that other packages can ship the same command.
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | command | a word after the program's name, with its own arguments: `speak`, `serve` |
//! | option | an entry of the engine's or the server's table of options |
//! | flag | an option as it is written on the command line: `--chunk-size` |
//! | note | a line to standard error for people; results go to standard output |
//! | source | where a model's files come from: a path, a name of the hub, or the program itself |
//! | script | a text with a voice for each of its paragraphs |
//! | usage error | arguments that no command takes: exit status 2 |

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod commands;
pub mod environment;
mod interrupt;
mod near_miss;
mod options;
pub mod output;
mod refusal;
mod script;
pub mod source;
mod text_input;

use clap::{CommandFactory, Parser};
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command in `arguments`, which start with the program's name. Prints help and usage
/// errors; a usage error has exit status 2.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match commands::Arguments::try_parse_from(&arguments) {
        Ok(arguments) => commands::run(arguments),
        Err(error) => {
            let command = commands::Arguments::command();
            let mut error = refusal::in_plain_words(error, &command);
            near_miss::suggest(&mut error, &command, &arguments);
            // If standard error is closed, nobody can be told.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

/// Runs a command as [`run`] does and returns its output. For some commands the output is the
/// answer even if the exit status is not 0.
///
/// # Errors
/// The command's error, or a usage error.
pub fn capture(arguments: impl IntoIterator<Item = OsString>) -> Result<String, String> {
    let arguments = commands::Arguments::try_parse_from(arguments).map_err(|error| {
        refusal::in_plain_words(error, &commands::Arguments::command()).to_string()
    })?;
    let (outcome, printed) = output::print::capture(|| commands::execute(arguments));
    outcome.map_err(|error| error.to_string())?;
    String::from_utf8(printed).map_err(|error| error.to_string())
}
