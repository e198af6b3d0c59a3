//! `sottovoce voice`: prepares and manages named voices.

use super::Outcome;
use super::speak::{Arrival, Destination, Transcript, WHOLE_TOKENS, deliver, load_noted};
use crate::environment;
use crate::options::{Chosen, ForChange, ForEngine};
use crate::output::print::output;
use crate::output::size::{mebibytes, parse_bytes};
use crate::source::{model_source, voice_source, with_sound_folder};
use serde_json::json;
use sottovoce::{DeliveryMode, Engine, EngineOptions, RecordedSpeech, VoiceSource, VoiceStore};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce voice prepare me.wav --name me --model nano
  sottovoce voice prepare me.flac --model ./models/base --memory 2GiB --json
  sottovoce voice change talk.mp3 --voice me -o talk.flac --model turbo
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
    /// Prepare a voice from a recording (WAV, FLAC, MP3, Ogg, M4A, WebM, AIFF, CAF and more) and
    /// store it under a name.
    #[command(after_help = EXAMPLES)]
    Prepare {
        /// The recording: about ten seconds of one speaker.
        clip: PathBuf,
        /// The voice's name; without it, the file's name.
        #[arg(long)]
        name: Option<String>,
        /// The model that will use the voice: the name of a fetched model, or a folder.
        #[arg(long)]
        model: String,
        /// Most memory to use.
        #[arg(long, value_parser = parse_bytes, value_name = "SIZE")]
        memory: Option<u64>,
        /// One JSON object instead of a line.
        #[arg(long)]
        json: bool,
    },
    /// Speak a recording of any length again in another voice, with the same words and rhythm.
    #[command(after_help = CHANGE_EXAMPLES)]
    Change(Box<Change>),
    /// List the stored voices.
    #[command(after_help = EXAMPLES)]
    List {
        /// One JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Remove voices.
    #[command(after_help = EXAMPLES)]
    Remove {
        /// Names of the voices.
        #[arg(required = true)]
        names: Vec<String>,
        /// One JSON object with the removed voices.
        #[arg(long)]
        json: bool,
    },
}

const CHANGE_EXAMPLES: &str = "\
Examples:
  sottovoce voice change talk.mp3 --voice me -o talk.flac
  sottovoce voice change talk.wav --voice her.wav -o her-talk.wav --model turbo --memory 1GiB
  sottovoce voice change call.m4a --voice me -o - --format pcm --model ./models/base
  sottovoce voice change talk.wav --voice me -o me.opus --json";

/// Models with a speech tokenizer, best first.
const LISTENING: [&str; 3] = ["base", "turbo", "nano"];

#[derive(clap::Args)]
struct Change {
    /// The recording (WAV, FLAC, MP3, Ogg, M4A, WebM, AIFF, CAF and more).
    recording: PathBuf,
    /// A prepared voice's name or file, or a recording to take the voice from; without it, the
    /// model's own voice.
    #[arg(long)]
    voice: Option<String>,
    /// base, turbo or nano (once fetched), or a model's folder, of which S3Gen is enough; without
    /// it, the first of these that was fetched.
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    destination: Destination,
    #[command(flatten)]
    engine: Chosen<ForEngine>,
    #[command(flatten)]
    stream: Chosen<ForChange>,
}

fn change(arguments: Change) -> Outcome {
    let source = match &arguments.model {
        Some(model) => model_source(model)?,
        None => {
            let fetched = LISTENING.iter().find_map(|model| model_source(model).ok());
            fetched.map_or_else(|| model_source(LISTENING[0]), Ok)?
        }
    };
    let mut changed = arguments.stream.options();
    if arguments.destination.is_for_a_file() {
        changed.delivery.get_or_insert(DeliveryMode::Whole);
    }
    let is_whole = changed.delivery == Some(DeliveryMode::Whole);
    let given = with_sound_folder(arguments.engine.options());
    let budget_bytes = given.memory;
    let options = EngineOptions {
        speech: false,
        chunk_tokens_max: changed.chunk_size,
        context_tokens_max: changed.context_window,
        whole_tokens_max: is_whole.then_some(WHOLE_TOKENS),
        streams_max: 1,
        voices: Some(environment::voices_folder()),
        ..given
    };
    let engine = load_noted(source, options)?;
    let voice = engine.voice(voice_source(arguments.voice.as_deref()))?;
    let recording = RecordedSpeech::File(arguments.recording);
    let stream = engine.change_voice(recording, &voice, changed)?;
    drop(voice);
    deliver(
        engine,
        stream,
        Transcript::default(),
        arguments.destination,
        budget_bytes,
        &Arrival::default(),
    )
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
        Command::Change(arguments) => return change(*arguments),
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
