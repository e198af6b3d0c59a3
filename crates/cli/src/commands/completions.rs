//! `sottovoce completions`: completion scripts for shells.

use super::{Arguments as Program, Outcome};
use crate::output::print::output;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::Write;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce completions bash > ~/.local/share/bash-completion/completions/sottovoce
  sottovoce completions zsh > ~/.zfunc/_sottovoce
  sottovoce completions fish > ~/.config/fish/completions/sottovoce.fish";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Shell that completes.
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let mut script = Vec::new();
    let mut program = Program::command();
    clap_complete::generate(arguments.shell, &mut program, "sottovoce", &mut script);
    output().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
