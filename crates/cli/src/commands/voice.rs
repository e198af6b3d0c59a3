//! `sottovoce voice`: prepares and manages named voices.

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

const EXAMPLES: &str = "\
Examples:
  sottovoce voice prepare me.wav --name me --model nano
  sottovoce voice prepare me.flac --model ./models/base --memory 2GiB --json
  sottovoce voice list --json
  sottovoce voice remove me";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Take a voice from a recording (WAV, FLAC, MP3, Ogg, M4A, WebM, AIFF, CAF and more) and keep
    /// it under a name.
    #[command(after_help = EXAMPLES)]
    Prepare {
        /// The recording; some ten seconds of one speaker.
        clip: PathBuf,
        /// The voice's name; without it, the file's.
        #[arg(long)]
        name: Option<String>,
        /// The model that will speak with it: base, turbo, nano or a folder.
        #[arg(long)]
        model: String,
        /// Most memory to use.
        #[arg(long, value_parser = parse_bytes, value_name = "SIZE")]
        memory: Option<u64>,
        /// One JSON object instead of a line.
        #[arg(long)]
        json: bool,
    },
    /// The voices that are kept.
    #[command(after_help = EXAMPLES)]
    List {
        /// One JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Take voices away.
    #[command(after_help = EXAMPLES)]
    Remove {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
        /// One JSON object with what was removed.
        #[arg(long)]
        json: bool,
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
            json: as_json,
        } => {
            let stem = clip
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default()
                .to_owned();
            let (_, path) = store.prepare(&name.unwrap_or(stem))?;
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
            let peak = report.reserved_peak_bytes;
            if as_json {
                let figures = json!({ "voice": path, "reserved_peak_bytes": peak });
                writeln!(out, "{figures:#}")?;
            } else {
                writeln!(out, "{} (peak memory {})", path.display(), mebibytes(peak))?;
            }
        }
        Command::List { json: as_json } => {
            let voices = store.voices()?.into_iter();
            let names: Vec<String> = voices.map(|voice| voice.name).collect();
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
        Command::Remove {
            names,
            json: as_json,
        } => {
            let removed = store.remove(&names)?;
            if as_json {
                writeln!(out, "{:#}", json!({ "removed": removed }))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
