//! `sottovoce model`: which models there are, and fetching them.

use super::Outcome;
use crate::environment;
use crate::output::print::output;
use crate::output::size::mebibytes;
use serde_json::json;
use sottovoce::hub::{OFFICIAL_MODELS, OfficialModel};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The models that this program knows, and which of them are here.
    List {
        /// One JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Fetch an official model from the Hugging Face hub into its cache. Goes on where it broke off; checks what came.
    Download {
        /// base, turbo or nano.
        name: String,
    },
}

pub fn run(arguments: Arguments) -> Outcome {
    match arguments.command {
        Command::List { json } => list(json),
        Command::Download { name } => download(&name),
    }
}

fn list(as_json: bool) -> Outcome {
    let mut out = output();
    let settings = environment::hub_settings();
    let models: Vec<_> = OFFICIAL_MODELS
        .iter()
        .map(|model| (model, model.cached(&settings)))
        .collect();
    if as_json {
        let models: Vec<_> = models
            .iter()
            .map(|(model, folder)| json!({ "name": model.name, "repository": model.repository, "folder": folder }))
            .collect();
        writeln!(
            out,
            "{:#}",
            json!({ "embedded": "pico", "models": models, "cache": settings.cache })
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{:<7} in this program", "pico")?;
    for (model, folder) in models {
        match folder {
            Some(folder) => writeln!(out, "{:<7} {}", model.name, folder.display())?,
            None => writeln!(
                out,
                "{:<7} not here; `sottovoce model download {}` fetches {}",
                model.name, model.name, model.repository
            )?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn download(name: &str) -> Outcome {
    let model = OfficialModel::named(name)
        .ok_or_else(|| format!("unknown model {name:?}: use base, turbo or nano"))?;
    let terminal = std::io::stderr().is_terminal();
    let mut shown = 0;
    let folder = model.download(&environment::hub_settings(), &mut |file, there, size| {
        // A line for each whole percent is enough for an eye.
        let percent = there * 100 / size.max(1);
        if terminal && percent != shown {
            shown = percent;
            eprint!("\r\x1b[2K{file} {percent} % of {}", mebibytes(size));
            // A progress line that cannot be shown is no reason to stop.
            let _ = std::io::stderr().flush();
        }
    })?;
    if terminal {
        eprint!("\r\x1b[2K");
    }
    writeln!(output(), "{}", folder.display())?;
    Ok(ExitCode::SUCCESS)
}
