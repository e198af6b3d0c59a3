//! The `sottovoce` command.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    sottovoce_cli::run(std::env::args_os())
}
