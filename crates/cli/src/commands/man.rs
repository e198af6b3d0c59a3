//! `sottovoce man`: manual pages, generated from the commands' help.

use super::{Arguments as Program, Outcome};
use crate::output::print::output;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use sottovoce_formats::output::write_whole;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce man | man -l -
  sottovoce man memory replay | man -l -
  sottovoce man --out ~/.local/share/man/man1";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Command whose page is printed; without one, the program's.
    command: Vec<String>,
    /// Write the pages of all commands into this folder.
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    out: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let mut program = Program::command().disable_help_subcommand(true);
    program.build();
    if let Some(folder) = &arguments.out {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        write_pages(&program, folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut command = &program;
    for name in &arguments.command {
        command = command
            .find_subcommand(name)
            .ok_or_else(|| format!("there is no command {name:?}; see `sottovoce --help`"))?;
    }
    output().write_all(&page(command)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The pages of a command and of those within it.
fn write_pages(command: &Command, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let path = folder.join(Man::new(command.clone()).get_filename());
    write_whole(&path, &page(command)?).map_err(|error| format!("{}: {error}", path.display()))?;
    command
        .get_subcommands()
        .try_for_each(|inner| write_pages(inner, folder))
}

fn page(command: &Command) -> Result<Vec<u8>, std::io::Error> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}
