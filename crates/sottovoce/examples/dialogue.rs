//! A dialogue: lines of `NAME: text` in one sound file, each speaker with a voice of their own.
//!
//! ```console
//! $ cargo run --release --example dialogue -- \
//!     dialogue.txt dialogue.wav ann=ann.safetensors bob=bob.wav
//! ```
//!
//! Voices are prepared files or recordings, for a model that supports voices. Without any, the
//! built-in voice speaks all parts, at different speeds.

use sottovoce::{Engine, EngineOptions, SAMPLE_RATE, Source, StreamOptions, Voice, VoiceSource};
use sottovoce_audio::AudioFile;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

/// Silence between two speakers, in samples.
const PAUSE_SAMPLES: usize = SAMPLE_RATE as usize / 4;
/// Speeds for speakers without a voice of their own.
const SPEEDS: [f32; 3] = [1.0, 1.15, 0.9];

/// A line of the dialogue.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// Who says it.
    pub speaker: String,
    /// What is said.
    pub text: String,
}

/// Parses `NAME: text` lines. A line without a name continues the previous speaker's.
///
/// # Errors
/// If the first line has no name; the message has its number.
pub fn lines(script: &str) -> Result<Vec<Line>, String> {
    let mut lines: Vec<Line> = Vec::new();
    for (index, line) in script.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let named = line.split_once(": ");
        match (named, lines.last_mut()) {
            (Some((speaker, text)), _) => lines.push(Line {
                speaker: speaker.trim().to_lowercase(),
                text: text.trim().to_owned(),
            }),
            (None, Some(last)) => {
                last.text.push(' ');
                last.text.push_str(line);
            }
            (None, None) => return Err(format!("line {}: begin with NAME: text", index + 1)),
        }
    }
    Ok(lines)
}

/// Voices of the speakers that have one.
fn voices(
    engine: &Engine,
    files: &BTreeMap<String, PathBuf>,
) -> Result<BTreeMap<String, Voice>, sottovoce::Error> {
    (files.iter())
        .map(|(speaker, path)| {
            let prepared = path.extension().is_some_and(|name| name == "safetensors");
            let source = match prepared {
                true => VoiceSource::Prepared(path.clone()),
                false => VoiceSource::Clip(path.clone()),
            };
            Ok((speaker.clone(), engine.voice(source)?))
        })
        .collect()
}

/// Speaks a script into the file at `path`; returns the seconds of sound.
///
/// # Errors
/// If the script has no name in its first line, the model or a voice cannot be loaded, the engine
/// ends a stream with an error, or the file cannot be written.
pub fn speak(
    source: Source,
    script: &str,
    files: &BTreeMap<String, PathBuf>,
    path: &Path,
) -> Result<f64, Box<dyn Error>> {
    let lines = lines(script)?;
    let engine = Engine::load(source, EngineOptions::default())?;
    let common = engine.voice(VoiceSource::Default)?;
    let voices = voices(&engine, files)?;
    let mut speakers: Vec<&str> = Vec::new();
    let mut file = AudioFile::create(path, SAMPLE_RATE)?;
    let mut sample_count = 0;
    for line in &lines {
        let known = speakers.iter().position(|known| *known == line.speaker);
        let number = known.unwrap_or_else(|| {
            speakers.push(&line.speaker);
            speakers.len() - 1
        });
        let own = voices.get(&line.speaker);
        let speed = match own {
            Some(_) => 1.0,
            None => SPEEDS[number % SPEEDS.len()],
        };
        let options = StreamOptions {
            speed,
            ..StreamOptions::default()
        };
        for chunk in engine.stream(&line.text, own.unwrap_or(&common), options)? {
            let samples = chunk?.samples;
            sample_count += samples.len();
            file.write(&samples)?;
        }
        sample_count += PAUSE_SAMPLES;
        file.write(&[0.0; PAUSE_SAMPLES])?;
    }
    file.finish()?;
    Ok(sample_count as f64 / f64::from(SAMPLE_RATE))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [script, path, voices @ ..] = &arguments[..] else {
        return Err("give a script, a file of sound, and NAME=VOICE for each voice".into());
    };
    let files: Option<BTreeMap<String, PathBuf>> = (voices.iter())
        .map(|voice| {
            let (speaker, file) = voice.split_once('=')?;
            Some((speaker.to_lowercase(), PathBuf::from(file)))
        })
        .collect();
    let files = files.ok_or("write voices as NAME=FILE")?;
    let script = std::fs::read_to_string(script)?;
    let seconds = speak(Source::Embedded, &script, &files, Path::new(path))?;
    println!("{seconds:.1} s");
    Ok(())
}
