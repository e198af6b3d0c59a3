//! `sottovoce speak`: text in, sound out while it is being made.

use super::Outcome;
use crate::engine::EngineChoice;
use crate::environment;
use crate::generation::Generation;
use crate::output::player::Player;
use crate::output::print::{self, note};
use crate::output::progress::Progress;
use crate::source::voice_source;
use sottovoce::sink::{AudioFormat, Encoder, FileSink};
use sottovoce::{Chunk, ChunkMetrics, Engine, EngineOptions, SAMPLE_RATE};
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce speak \"Every byte has an owner.\"
  sottovoce speak --file chapter.txt --out chapter.flac --memory 1GiB
  sottovoce speak \"Hello.\" --out - --format pcm | aplay -f S16_LE -r 24000
  sottovoce speak \"In my own words.\" --model nano --voice me.wav --play
  sottovoce speak \"What did it cost?\" --out cost.wav --json";

/// Where speech goes when nobody says where.
const DEFAULT_OUT: &str = "speech.wav";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// What to say; without it and without --file, standard input.
    text: Option<String>,
    /// Read the text from this file.
    #[arg(long, conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Write here; the name says the format (wav, flac, mp3, opus, ogg, aac, pcm). `-` is standard output. Without it and
    /// without --play, speech.wav.
    #[arg(short, long = "out", value_name = "FILE")]
    out: Option<PathBuf>,
    /// The format for standard output.
    #[arg(long, default_value = "wav")]
    format: AudioFormat,
    /// Play while speaking.
    #[arg(long)]
    play: bool,
    /// A prepared voice's name or file, or a recording to take the voice from.
    #[arg(long)]
    voice: Option<String>,
    /// Write figures of the run here, as JSON.
    #[arg(long, value_name = "FILE.json")]
    stats: Option<PathBuf>,
    /// Print the figures of the run as one JSON object on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineChoice,
    #[command(flatten)]
    generation: Generation,
}

pub fn run(arguments: Arguments) -> Outcome {
    let text = read_text(&arguments)?;
    let spoken = arguments.generation.stream_options();
    spoken.check()?;
    let options = EngineOptions {
        chunk_tokens_max: spoken.chunk_size,
        context_tokens_max: spoken.context_window,
        streams_max: 1,
        voices: Some(environment::voices_folder()),
        ..arguments.engine.options()
    };
    let engine = Engine::load(arguments.engine.source()?, options)?;
    let voice = engine.voice(voice_source(arguments.voice.as_deref()))?;
    let stream = engine.stream(&text, &voice, spoken)?;
    drop(voice);
    // Only now: a file that is there already must not go for a text that cannot be spoken.
    let output = Output::open(&arguments)?;
    let canceller = stream.canceller();
    // Without a handler the system ends the process, and the file is still whole up to its last chunk.
    let _ = ctrlc::set_handler(move || canceller.cancel());
    let progress = Progress::new(arguments.engine.memory);
    let figures = Figures {
        engine,
        file: arguments.stats,
        print: arguments.json,
    };
    speak(stream, output, progress, &figures)
}

/// Where the figures of the run go besides the terminal.
struct Figures {
    engine: Engine,
    file: Option<PathBuf>,
    print: bool,
}

impl Figures {
    fn write(&self, metrics: &ChunkMetrics) -> Result<(), Box<dyn std::error::Error>> {
        let mut json = serde_json::to_value(metrics)?;
        json["memory"] = serde_json::to_value(self.engine.memory_report())?;
        let json = serde_json::to_string_pretty(&json)?;
        if let Some(path) = &self.file {
            std::fs::write(path, &json).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if self.print {
            writeln!(print::output(), "{json}")?;
        }
        Ok(())
    }
}

fn speak(
    stream: sottovoce::Stream,
    mut output: Output,
    mut progress: Progress,
    figures: &Figures,
) -> Outcome {
    let mut last = None;
    let mut failure = None;
    for chunk in stream {
        match chunk {
            Ok(chunk) => {
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
    progress.clear();
    // What was spoken before a failure stays, as a whole recording.
    let finished = output.finish();
    let failure = failure.or(finished.err());
    if let Some(metrics) = &last {
        progress.summary(metrics);
        figures.write(metrics)?;
    }
    match failure {
        // Whoever listened has heard enough.
        Some(error) if !is_closed_pipe(&*error) => Err(error),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn read_text(arguments: &Arguments) -> Result<String, Box<dyn std::error::Error>> {
    if let Some(text) = &arguments.text {
        return Ok(text.clone());
    }
    // A little over the longest text in four-byte characters: more cannot be spoken in one go.
    let bytes_max = 4 * sottovoce::TEXT_CHARACTERS_MAX as u64 + 1;
    let mut bytes = Vec::new();
    match &arguments.file {
        Some(path) => {
            let file = std::fs::File::open(path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            file.take(bytes_max)
                .read_to_end(&mut bytes)
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        None if std::io::stdin().is_terminal() => {
            return Err("nothing to say: give a text, --file, or text on standard input".into());
        }
        None => {
            std::io::stdin().take(bytes_max).read_to_end(&mut bytes)?;
        }
    }
    if bytes.len() as u64 == bytes_max {
        return Err(format!(
            "the text is longer than {} characters; split it",
            sottovoce::TEXT_CHARACTERS_MAX
        )
        .into());
    }
    String::from_utf8(bytes).map_err(|error| format!("the text is not UTF-8: {error}").into())
}

/// Where the sound goes; file and player may both be there.
struct Output {
    file: Option<FileSink>,
    pipe: Option<(Encoder, Vec<u8>)>,
    player: Option<Player>,
}

impl Output {
    fn open(arguments: &Arguments) -> Result<Output, Box<dyn std::error::Error>> {
        let mut output = Output {
            file: None,
            pipe: None,
            player: None,
        };
        match &arguments.out {
            Some(path) if path.as_os_str() == "-" => {
                if arguments.json {
                    return Err(
                        "--json and --out - both want standard output: use --stats FILE.json"
                            .into(),
                    );
                }
                output.pipe = Some((Encoder::new(arguments.format, SAMPLE_RATE)?, Vec::new()))
            }
            Some(path) => output.file = Some(FileSink::create(path, SAMPLE_RATE)?),
            None if !arguments.play => {
                output.file = Some(FileSink::create(Path::new(DEFAULT_OUT), SAMPLE_RATE)?);
                note!("writing {DEFAULT_OUT}");
            }
            None => {}
        }
        if arguments.play {
            output.player = Some(Player::start(SAMPLE_RATE)?);
        }
        Ok(output)
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

    fn finish(self) -> Result<(), Box<dyn std::error::Error>> {
        if let Some(file) = self.file {
            file.finish()?;
        }
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
