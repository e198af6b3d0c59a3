//! `sottovoce voice`: voices prepared once and kept under a name.

use super::Outcome;
use crate::environment;
use crate::output::print::output;
use crate::output::size::{mebibytes, parse_bytes};
use crate::source::model_source;
use serde_json::json;
use sottovoce::{Engine, EngineOptions, VoiceSource, VoiceStore};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Take a voice from a recording (wav, flac, mp3, ogg) and keep it under a name.
    Prepare {
        /// The recording; some ten seconds of one speaker.
        clip: PathBuf,
        /// The voice's name; without it, the file's.
        #[arg(long)]
        name: Option<String>,
        /// The model that will speak with it: base, turbo, nano or a folder.
        #[arg(long, default_value = "pico")]
        model: String,
        /// Most memory to use.
        #[arg(long, value_parser = parse_bytes, value_name = "SIZE")]
        memory: Option<u64>,
    },
    /// The voices that are kept.
    List {
        /// One JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Take voices away.
    Remove {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

pub fn run(arguments: Arguments) -> Outcome {
    let mut out = output();
    let store = VoiceStore::new(environment::voices_folder());
    match arguments.command {
        Command::Prepare {
            clip,
            name,
            model,
            memory,
        } => {
            let stem = clip
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default()
                .to_owned();
            let path = store.prepare(&name.unwrap_or(stem))?;
            let engine = Engine::load(
                model_source(&model)?,
                EngineOptions {
                    memory,
                    streams_max: 1,
                    ..EngineOptions::default()
                },
            )?;
            let voice = engine.voice(VoiceSource::Clip(clip))?;
            voice.save(&path)?;
            let report = engine.memory_report();
            writeln!(
                out,
                "{} (peak memory {})",
                path.display(),
                mebibytes(report.reserved_peak_bytes)
            )?;
        }
        Command::List { json: as_json } => {
            let names = store.names()?;
            if as_json {
                writeln!(
                    out,
                    "{:#}",
                    json!({ "folder": store.folder(), "voices": names })
                )?;
            } else {
                for name in names {
                    writeln!(out, "{name}")?;
                }
            }
        }
        Command::Remove { names } => {
            for name in names {
                store.remove(&name)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
