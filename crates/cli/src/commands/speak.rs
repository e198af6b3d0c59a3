//! `sottovoce speak`: text in, streamed sound out.

use super::{Outcome, script};
use crate::environment;
use crate::interrupt::Interrupt;
use crate::options::{Chosen, EngineChoice, ForEngine, ForStream};
use crate::output::player::Player;
use crate::output::print::{self, note, note_without_effect};
use crate::output::progress::{self, Speaking};
use crate::source::voice_source;
use crate::text_input::{self, ArrivingText, ReadFailure, SpokenText};
use sottovoce::options::Capability;
use sottovoce::subtitles::{self, SubtitleFormat};
use sottovoce::text::Warning;
use sottovoce::{
    Chunk, ChunkMetrics, DeliveryMode, Engine, EngineOptions, SAMPLE_RATE, Source, Stream,
    StreamOptions, WordTime,
};
use sottovoce_audio::{AudioFile, AudioFormat, Encoder};
use sottovoce_formats::output::write_whole;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const EXAMPLES: &str = "\
Examples:
  sottovoce speak \"Every byte has an owner.\"
  sottovoce speak --file chapter.txt --out chapter.flac --memory 1GiB
  sottovoce speak \"Hello.\" --out - --format pcm | aplay -f S16_LE -r 24000
  sottovoce speak \"In my own words.\" --model nano --voice me.wav --play
  sottovoce speak --file talk.txt --out talk.mp3 --subtitles talk.srt
  sottovoce speak --script play.txt --cast Ann=ann.wav --out play.mp3 --loudness -16
  sottovoce speak --script book.txt --chapters --out book --format flac
  language-model | sottovoce speak - --play
  sottovoce speak \"What did it cost?\" --out cost.wav --json";

/// The output without `--out` and `--play`.
const DEFAULT_OUT: &str = "speech.wav";
/// Most speech tokens per pass of the flow for a file, where memory allows: 10 s, and half a second
/// of silence after them.
pub const WHOLE_TOKENS: usize = 264;

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The text; without it and without --file, or as `-`, standard input, spoken as it arrives.
    text: Option<String>,
    /// Read the text from this file.
    #[arg(long, conflicts_with = "text")]
    file: Option<PathBuf>,
    #[command(flatten)]
    destination: Destination,
    /// A prepared voice's name or file, or a recording to take the voice from.
    #[arg(long)]
    voice: Option<String>,
    /// Speak a script: lines of `NAME: text`, each by the voice of that name, and chapters that
    /// begin with `# Title`. After an interruption, the same command resumes the run.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "file", "play", "stats", "subtitles"])]
    script: Option<PathBuf>,
    /// Voice of a script's speaker, such as Ann=ann.safetensors; may be repeated. Without it, the
    /// prepared voice of the speaker's name is used.
    #[arg(long, value_name = "NAME=VOICE", value_parser = parse_cast)]
    #[arg(requires = "script", conflicts_with_all = ["text", "file"])]
    cast: Vec<(String, String)>,
    /// Write one file per chapter into the folder --out, in the format --format.
    #[arg(long, requires = "script", conflicts_with_all = ["text", "file"])]
    chapters: bool,
    /// Loudness of a script's speakers in LUFS, such as -16 or -19.
    #[arg(long, value_name = "LUFS", value_parser = parse_loudness, allow_hyphen_values = true)]
    #[arg(requires = "script", conflicts_with_all = ["text", "file"])]
    loudness: Option<f64>,
    /// Write subtitles to this .srt or .vtt file.
    #[arg(long, value_name = "FILE")]
    subtitles: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineChoice<ForEngine>,
    #[command(flatten)]
    stream: Chosen<ForStream>,
}

/// Destinations of the sound and of the run's metrics.
#[derive(clap::Args)]
pub(super) struct Destination {
    /// The output file; its extension names the format (wav, flac, mp3, opus, ogg, aac, pcm). `-`
    /// is standard output. Without it and without --play, speech.wav.
    #[arg(short, long = "out", value_name = "FILE")]
    out: Option<PathBuf>,
    /// The format for standard output, devices and pipes.
    #[arg(long, default_value = "wav")]
    format: AudioFormat,
    /// Play while speaking.
    #[arg(long)]
    play: bool,
    /// Write the run's metrics to this file, as JSON.
    #[arg(long, value_name = "FILE.json")]
    stats: Option<PathBuf>,
    /// Print the run's metrics as one JSON object on standard output, with the time of each word.
    #[arg(long)]
    json: bool,
}

impl Destination {
    /// Whether the sound is only written to a file, so that nobody listens before the end.
    pub(super) fn is_for_a_file(&self) -> bool {
        let path = self.out.as_deref().unwrap_or(DEFAULT_OUT.as_ref());
        let named = path.as_os_str() != "-" && !path.starts_with("/dev");
        let special = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        !self.play && named && !special
    }
}

/// Reads `NAME=VOICE`.
fn parse_cast(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, voice)) if !name.trim().is_empty() && !voice.is_empty() => {
            Ok((name.trim().to_owned(), voice.to_owned()))
        }
        _ => Err("write NAME=VOICE, such as Ann=ann.safetensors".into()),
    }
}

/// Reads a loudness in LUFS.
fn parse_loudness(text: &str) -> Result<f64, String> {
    let loudness = text
        .parse()
        .ok()
        .filter(|loudness| (-36.0..=-9.0).contains(loudness));
    loudness.ok_or_else(|| "give -36 to -9 LUFS, such as -16 or -19".into())
}

pub fn run(arguments: Arguments) -> Outcome {
    let subtitles = match &arguments.subtitles {
        Some(path) => Some((path.clone(), SubtitleFormat::from_path(path)?)),
        None => None,
    };
    if let Some(file) = &arguments.script {
        return speak_script(file, &arguments);
    }
    let text = text_input::open(arguments.text.as_deref(), arguments.file.as_deref())?;
    // Subtitles quote the whole text.
    let (text, written) = match text {
        SpokenText::Whole(text) => (SpokenText::Whole(text.clone()), text),
        SpokenText::Arriving(text) if subtitles.is_some() => {
            let text = text.whole()?;
            (SpokenText::Whole(text.clone()), text)
        }
        arriving => (arriving, String::new()),
    };
    let mut spoken = arguments.stream.options();
    if arguments.destination.is_for_a_file() {
        spoken.delivery.get_or_insert(DeliveryMode::Whole);
    }
    let engine = load(&arguments, &spoken)?;
    let told = engine.capabilities().has(Capability::WordTimes);
    if subtitles.is_some() && !told {
        return Err(
            "this model tells no word times, which subtitles are made from: use base, turbo or pico"
                .into(),
        );
    }
    spoken.word_times |= told && (subtitles.is_some() || arguments.destination.json);
    let voice = engine.voice(voice_source(arguments.voice.as_deref()))?;
    let arrival = Arrival::default();
    let stream = match text {
        SpokenText::Whole(text) => engine.stream(&text, &voice, spoken)?,
        SpokenText::Arriving(mut text) => {
            let beginning = text.beginning()?;
            let stream = engine.open_stream(&voice, spoken)?;
            stream.text().push(&beginning)?;
            arrival.pass_on(text, beginning, &stream)?;
            stream
        }
    };
    drop(voice);
    let budget_bytes = arguments.engine.options().memory;
    let transcript = Transcript {
        text: written,
        subtitles,
    };
    deliver(
        engine,
        stream,
        transcript,
        arguments.destination,
        budget_bytes,
        &arrival,
    )
}

/// The text of a stream, and where its subtitles go.
#[derive(Default)]
pub(super) struct Transcript {
    text: String,
    subtitles: Option<(PathBuf, SubtitleFormat)>,
}

/// Sends a stream's sound and metrics to their destinations.
pub(super) fn deliver(
    engine: Engine,
    stream: Stream,
    transcript: Transcript,
    destination: Destination,
    budget_bytes: Option<u64>,
    arrival: &Arrival,
) -> Outcome {
    let without_effect = [
        engine.options_without_effect(),
        stream.options_without_effect(),
    ]
    .concat();
    note_without_effect(&without_effect);
    // Opened late: a text that cannot be spoken must not overwrite an existing file.
    let output = Output::open(&destination)?;
    let canceller = stream.canceller();
    let interrupt = Interrupt::watch(move || canceller.cancel());
    let progress = Speaking::new(budget_bytes);
    let figures = Figures {
        engine,
        transcript,
        without_effect,
        file: destination.stats,
        print: destination.json,
    };
    speak(stream, output, &progress, &figures, &interrupt, arrival)
}

/// Error of a text that arrives while its beginning is spoken.
#[derive(Clone, Default)]
pub(super) struct Arrival(Arc<Mutex<Option<ReadFailure>>>);

impl Arrival {
    /// Passes the rest of the text to the stream, on a thread that ends with the process if no more
    /// text arrives. If reading fails, the stream ends.
    fn pass_on(
        &self,
        text: ArrivingText,
        beginning: String,
        stream: &Stream,
    ) -> std::io::Result<()> {
        let (writer, canceller, failure) = (stream.text(), stream.canceller(), self.clone());
        let thread = std::thread::Builder::new().name("text".into());
        thread.spawn(move || {
            if let Err(error) = text.pass_on(&beginning, &writer) {
                *failure.slot() = Some(error);
                canceller.cancel();
            }
        })?;
        Ok(())
    }

    fn slot(&self) -> MutexGuard<'_, Option<ReadFailure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Loads the engine for one stream with these options.
fn load(
    arguments: &Arguments,
    spoken: &StreamOptions,
) -> Result<Engine, Box<dyn std::error::Error>> {
    let options = EngineOptions {
        chunk_tokens_max: spoken.chunk_size,
        context_tokens_max: spoken.context_window,
        whole_tokens_max: (spoken.delivery == Some(DeliveryMode::Whole)).then_some(WHOLE_TOKENS),
        streams_max: 1,
        voices: Some(environment::voices_folder()),
        ..arguments.engine.options()
    };
    load_noted(arguments.engine.source()?, options)
}

/// Loads an engine, and notes why it is not on the device that was asked for.
pub(super) fn load_noted(
    source: Source,
    options: EngineOptions,
) -> Result<Engine, Box<dyn std::error::Error>> {
    let engine = Engine::load(source, options)?;
    if let Some(note) = engine.device_note() {
        note!("note: {note}");
    }
    Ok(engine)
}

/// Speaks a script.
fn speak_script(file: &Path, arguments: &Arguments) -> Outcome {
    let text = text_input::read_script(Some(file))?;
    let mut spoken = arguments.stream.options();
    spoken.delivery.get_or_insert(DeliveryMode::Whole);
    let engine = load(arguments, &spoken)?;
    note_without_effect(engine.options_without_effect());
    let job = script_job(file, arguments, spoken)?;
    script::run(&engine, &arguments.engine.model, &text, &job)
}

/// How a script is spoken, by these arguments.
fn script_job(
    script: &Path,
    arguments: &Arguments,
    options: StreamOptions,
) -> Result<script::Job, Box<dyn std::error::Error>> {
    let out = arguments.destination.out.clone();
    let out = match arguments.chapters {
        true => out.ok_or("--chapters: name the folder for them with --out")?,
        false => out.unwrap_or_else(|| DEFAULT_OUT.into()),
    };
    if !arguments.chapters {
        if out.as_os_str() == "-" || out.starts_with("/dev") {
            return Err("a script is written to a file, which is put together at the end: name one with --out".into());
        }
        AudioFormat::from_path(&out)?;
    }
    Ok(script::Job {
        script: script.to_owned(),
        cast: arguments.cast.iter().cloned().collect(),
        voice: arguments.voice.clone(),
        out,
        chapters: arguments.chapters,
        format: arguments.destination.format,
        loudness: arguments.loudness,
        options,
        json: arguments.destination.json,
    })
}

/// Destinations of the run's metrics besides the terminal.
struct Figures {
    engine: Engine,
    transcript: Transcript,
    /// Options that were given but have no effect.
    without_effect: Vec<&'static str>,
    file: Option<PathBuf>,
    print: bool,
}

impl Figures {
    fn write(
        &self,
        metrics: &ChunkMetrics,
        warnings: &[Warning],
        words: &[WordTime],
    ) -> Result<(), Box<dyn std::error::Error>> {
        if let Some((path, format)) = &self.transcript.subtitles {
            let cues = subtitles::cues(&self.transcript.text, words);
            let file = subtitles::file(&cues, *format);
            write_whole(path, file.as_bytes())
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let mut json = serde_json::to_value(metrics)?;
        json["warnings"] = serde_json::to_value(warnings)?;
        if !words.is_empty() {
            json["words"] = serde_json::to_value(words)?;
        }
        json["memory"] = serde_json::to_value(self.engine.memory_report())?;
        json["options_without_effect"] = serde_json::to_value(&self.without_effect)?;
        let json = serde_json::to_string_pretty(&json)?;
        if let Some(path) = &self.file {
            write_whole(path, json.as_bytes())
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if self.print {
            writeln!(print::output(), "{json}")?;
        }
        Ok(())
    }
}

fn speak(
    mut stream: Stream,
    mut output: Output,
    progress: &Speaking,
    figures: &Figures,
    interrupt: &Interrupt,
    arrival: &Arrival,
) -> Outcome {
    let mut last = None;
    let mut failure = None;
    let mut words = Vec::new();
    for chunk in &mut stream {
        match chunk {
            Ok(mut chunk) => {
                words.append(&mut chunk.words);
                for warning in &chunk.metrics.warnings {
                    eprintln!("warning: {warning}");
                }
                let written = output.write(&chunk);
                progress.show(&chunk.metrics);
                last = Some(chunk.metrics);
                if let Err(error) = written {
                    failure = Some(error);
                    break;
                }
            }
            Err(error) => {
                failure = Some(error.into());
                break;
            }
        }
    }
    // After an interrupt, text that cannot be read any more is no failure.
    if interrupt.exit_code().is_none()
        && let Some(error) = arrival.slot().take()
    {
        failure = Some(error as Box<dyn std::error::Error>);
    }
    let warnings = stream.warnings();
    drop(stream);
    progress.clear();
    let place = output.place.clone();
    // Speech before a failure is a valid recording, but must not replace an existing file.
    let finished = match failure {
        None => output.finish(),
        Some(_) => output.abandon(),
    };
    let failure = failure.or(finished.err());
    if let Some(metrics) = &last {
        progress::summary(&place, metrics);
        figures.write(metrics, &warnings, &words)?;
    }
    match (failure, interrupt.exit_code()) {
        // A player that was closed early is not an error.
        (Some(error), _) if !is_closed_pipe(&*error) => Err(error),
        (_, Some(interrupted)) => Ok(interrupted),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Destinations of the sound: a file, a player, or both.
struct Output {
    /// Name of the destination in messages.
    place: String,
    file: Option<AudioFile>,
    pipe: Option<(Encoder, Vec<u8>)>,
    player: Option<Player>,
}

impl Output {
    fn open(destination: &Destination) -> Result<Output, Box<dyn std::error::Error>> {
        let mut output = Output {
            place: "played".into(),
            file: None,
            pipe: None,
            player: None,
        };
        match &destination.out {
            Some(path) if path.as_os_str() == "-" => {
                if destination.json {
                    return Err(
                        "--json and --out - both want standard output: use --stats FILE.json"
                            .into(),
                    );
                }
                output.place = "standard output".into();
                output.pipe = Some((Encoder::new(destination.format, SAMPLE_RATE)?, Vec::new()));
            }
            Some(path) => output.open_file(path, destination.format)?,
            None if !destination.play => {
                output.open_file(DEFAULT_OUT.as_ref(), destination.format)?;
            }
            None => {}
        }
        if destination.play {
            output.player = Some(Player::start(SAMPLE_RATE)?);
        }
        Ok(output)
    }

    /// A device or a pipe has no extension; its format is `format`.
    fn open_file(
        &mut self,
        path: &Path,
        format: AudioFormat,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let special = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        let format = match AudioFormat::from_path(path) {
            Err(_) if special || path.starts_with("/dev") => format,
            named => named?,
        };
        self.place = path.display().to_string();
        self.file = Some(AudioFile::create_as(path, format, SAMPLE_RATE)?);
        Ok(())
    }

    fn write(&mut self, chunk: &Chunk) -> Result<(), Box<dyn std::error::Error>> {
        if let Some(file) = &mut self.file {
            file.write(&chunk.samples)?;
        }
        if let Some((encoder, buffer)) = &mut self.pipe {
            encoder.encode(&chunk.samples, buffer)?;
            write_to_pipe(buffer)?;
        }
        if let Some(player) = &mut self.player {
            player.play(&chunk.samples)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Box<dyn std::error::Error>> {
        if let Some(file) = self.file.take() {
            file.finish()?;
        }
        self.finish_pipe_and_player()
    }

    /// Ends after a failure; an existing file is left unchanged.
    fn abandon(mut self) -> Result<(), Box<dyn std::error::Error>> {
        if let Some(file) = self.file.take() {
            file.abandon()?;
        }
        self.finish_pipe_and_player()
    }

    fn finish_pipe_and_player(self) -> Result<(), Box<dyn std::error::Error>> {
        if let Some((mut encoder, mut buffer)) = self.pipe {
            encoder.finish(&mut buffer)?;
            write_to_pipe(&mut buffer)?;
        }
        if let Some(player) = self.player {
            player.finish()?;
        }
        Ok(())
    }
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn write_to_pipe(buffer: &mut Vec<u8>) -> std::io::Result<()> {
    let mut pipe = print::output();
    pipe.write_all(buffer)?;
    buffer.clear();
    pipe.flush()
}
