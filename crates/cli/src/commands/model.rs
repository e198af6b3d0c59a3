//! `sottovoce model`: lists and downloads models.

use super::Outcome;
use crate::environment;
use crate::output::print::output;
use crate::output::progress::Downloading;
use crate::output::size::{fit_text, mebibytes, parse_bytes};
use crate::output::table::Table;
use crate::source::{model_source, sound_folder};
use serde_json::json;
use sottovoce::text::PARALINGUISTIC_TAGS;
use sottovoce::{Inspection, Part, Source};
use sottovoce_hub::{OFFICIAL_MODELS, OfficialModel, official_names};
use sottovoce_lab::doctor;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce model list
  sottovoce model download nano
  HF_ENDPOINT=https://mirror.example sottovoce model download base --json
  sottovoce model inspect nano --memory 512MiB
  sottovoce model inspect base --sound turbo";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the known models, and which of them are on this machine.
    #[command(after_help = EXAMPLES)]
    List {
        /// One JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Show a model's folder or weight file: tensors by part, their sizes and precision, their
    /// bytes in memory.
    #[command(after_help = EXAMPLES)]
    Inspect {
        /// A folder, a weight file, pico, or the name of a fetched model.
        model: String,
        /// Take S3Gen and vocoder from this model: base, turbo, nano or a folder.
        #[arg(long, value_name = "MODEL")]
        sound: Option<PathBuf>,
        /// Show what fits in this much memory.
        #[arg(long, value_parser = parse_bytes, value_name = "SIZE")]
        memory: Option<u64>,
        /// One JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Download an official model from the Hugging Face hub into its cache. Resumes a broken
    /// download and checks each file.
    #[command(after_help = EXAMPLES)]
    Download {
        /// One of the names that `model list` shows.
        name: String,
        /// One JSON object instead of a line.
        #[arg(long)]
        json: bool,
    },
}

pub fn run(arguments: Arguments) -> Outcome {
    match arguments.command {
        Command::List { json } => list(json),
        Command::Inspect {
            model,
            sound,
            memory,
            json,
        } => inspect(&model, sound.as_deref(), memory, json),
        Command::Download { name, json } => download(&name, json),
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
    writeln!(out, "{:<15} in this program", "pico")?;
    for (model, folder) in models {
        match folder {
            Some(folder) => writeln!(out, "{:<15} {}", model.name, folder.display())?,
            None => writeln!(
                out,
                "{:<15} not here; `sottovoce model download {}` fetches {}",
                model.name, model.name, model.repository
            )?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn inspect(model: &str, sound: Option<&Path>, memory: Option<u64>, as_json: bool) -> Outcome {
    let mut source = model_source(model)?;
    if let Some(sound) = sound {
        source = Source::Paired {
            model: Box::new(source),
            sound: Box::new(Source::Directory(sound_folder(sound)?)),
        };
    }
    let inspection = sottovoce::inspect(&source)?;
    let whole = inspection.variant.is_some()
        && (inspection.parts.iter()).all(|part| part.problem.is_none());
    let fits = if whole {
        doctor::fits(&source, memory)
    } else {
        Vec::new()
    };
    let languages = match inspection.variant {
        Some(_) => sottovoce::text::languages(&source)?,
        None => Vec::new(),
    };
    // A folder without a tokenizer has no tags to list; speaking reports the missing file.
    let tags = match inspection.variant {
        Some(_) => sottovoce::text::tags(&source).unwrap_or_default(),
        None => Vec::new(),
    };
    let mut out = output();
    if as_json {
        writeln!(
            out,
            "{:#}",
            json!({ "model": inspection, "budget_bytes": memory, "fits": fits, "tags": tags_in_json(&tags), "languages": languages })
        )?;
        return Ok(exit_code(&inspection));
    }
    match inspection.variant {
        Some(variant) => writeln!(out, "{}: {variant}", inspection.name)?,
        None => writeln!(out, "{}: part of a model", inspection.name)?,
    }
    writeln!(out, "{}", parts_table(&inspection))?;
    for part in &inspection.parts {
        if !part.surplus.is_empty() {
            writeln!(out, "{}: not used: {}", part.part, part.surplus.join(", "))?;
        }
        if let Some(problem) = &part.problem {
            writeln!(out, "{}: cannot be loaded: {problem}", part.part)?;
        }
    }
    if !languages.is_empty() {
        writeln!(out, "languages: {}", languages.join(" "))?;
    }
    for (heading, heard) in [
        ("tags", true),
        ("tags without an effect, as users report", false),
    ] {
        let listed = tags.iter().filter(|tag| is_heard(tag) == heard);
        let listed: Vec<String> = listed.map(|tag| format!("[{tag}]")).collect();
        if !listed.is_empty() {
            writeln!(out, "{heading}: {}", listed.join(" "))?;
        }
    }
    if let Some(budget) = memory {
        writeln!(out, "fits in {}:", mebibytes(budget))?;
        for fit in &fits {
            writeln!(out, "  {}", fit_text(fit))?;
        }
    }
    Ok(exit_code(&inspection))
}

/// Whether a model's tag is heard; of tags that nobody reported on, it is assumed.
fn is_heard(tag: &str) -> bool {
    let known = PARALINGUISTIC_TAGS.iter().find(|known| known.name == tag);
    known.is_none_or(|known| known.is_heard)
}

fn tags_in_json(tags: &[String]) -> Vec<serde_json::Value> {
    (tags.iter())
        .map(|tag| json!({ "tag": format!("[{tag}]"), "heard": is_heard(tag) }))
        .collect()
}

fn exit_code(inspection: &Inspection) -> ExitCode {
    match inspection.parts.iter().any(|part| part.problem.is_some()) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// A row for each part: its stored size, and its size in memory at each precision.
fn parts_table(inspection: &Inspection) -> Table {
    const PRECISIONS: [&str; 4] = ["f32", "f16", "int8", "q4"];
    let mut headings = vec!["part", "tensors", "parameters", "stored", "as"];
    headings.extend(PRECISIONS);
    let mut table = Table::new(&headings);
    for Part {
        part,
        stored,
        loaded_bytes,
        ..
    } in &inspection.parts
    {
        let types: Vec<&str> = stored.types.keys().map(String::as_str).collect();
        let mut cells = vec![
            part.clone(),
            stored.tensors.to_string(),
            stored.parameters.to_string(),
            mebibytes(stored.stored_bytes),
            types.join("+"),
        ];
        cells.extend(PRECISIONS.map(|precision| {
            (loaded_bytes.get(precision)).map_or_else(String::new, |&bytes| mebibytes(bytes))
        }));
        table.row(&cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
    table
}

fn download(name: &str, as_json: bool) -> Outcome {
    let model = OfficialModel::named(name)
        .ok_or_else(|| format!("unknown model {name:?}: use {}", official_names()))?;
    let progress = Downloading::new();
    let folder = model.download(&environment::hub_settings(), &mut |file, there, size| {
        progress.show(file, there, size);
        ControlFlow::Continue(())
    })?;
    drop(progress);
    if as_json {
        writeln!(output(), "{:#}", json!({ "name": name, "folder": folder }))?;
    } else {
        writeln!(output(), "{}", folder.display())?;
    }
    Ok(ExitCode::SUCCESS)
}
