//! `sottovoce speak --script`: a script with chapters and several voices into one file or one a
//! chapter. Each line's samples are kept beside the output until all is done, so that an
//! interrupted run can be resumed.

use super::Outcome;
use crate::interrupt::Interrupt;
use crate::output::print::{note, note_without_effect, output};
use crate::output::progress::Lines;
use crate::script::{Chapter, Line, parse, speakers};
use crate::source::voice_source;
use serde_json::{Value, json};
use sottovoce::text::Warning;
use sottovoce::{Canceller, Engine, SAMPLE_RATE, StreamOptions, Voice};
use sottovoce_audio::{AudioFile, AudioFormat, Limiter, LoudnessMeter};
use sottovoce_formats::output::{OutputFile, write_whole};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// Silence between two lines, and between two chapters in one file, in samples.
const LINE_PAUSE: usize = SAMPLE_RATE as usize / 4;
const CHAPTER_PAUSE: usize = SAMPLE_RATE as usize;
/// Samples read at once.
const PIECE_SAMPLES: usize = 1 << 16;
/// Characters of a chapter's title in its file's name.
const TITLE_CHARACTERS_MAX: usize = 40;

/// How a script is spoken, and where its sound goes.
pub struct Job {
    /// The script's file, for messages.
    pub script: PathBuf,
    /// Voices of speakers, by name, beside the prepared voices.
    pub cast: BTreeMap<String, String>,
    /// The voice of lines without a speaker.
    pub voice: Option<String>,
    /// The output: a file, or with `chapters` a folder.
    pub out: PathBuf,
    /// Whether each chapter gets a file of its own.
    pub chapters: bool,
    /// Format of the chapters' files.
    pub format: AudioFormat,
    /// Loudness of each speaker in LUFS.
    pub loudness: Option<f64>,
    /// Options of each line.
    pub options: StreamOptions,
    /// Whether metrics are printed as JSON.
    pub json: bool,
}

/// The samples of the lines, in files beside the output.
struct Parts {
    folder: PathBuf,
    /// What all lines share: model and options.
    common: Value,
}

impl Parts {
    fn place(&self, line: &Line, extension: &str) -> PathBuf {
        self.folder
            .join(format!("line-{:06}.{extension}", line.number))
    }

    /// What a line's samples were made from.
    fn origin(&self, line: &Line, voice: &str) -> Value {
        json!({"text": line.text, "voice": voice, "common": self.common})
    }

    /// Whether a line's samples exist already.
    fn has(&self, line: &Line, voice: &str) -> bool {
        let origin = std::fs::read(self.place(line, "json")).ok();
        let origin = origin.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let Some(mut origin) = origin else {
            return false;
        };
        let bytes = std::fs::metadata(self.place(line, "f32")).map(|file| file.len());
        let complete = origin["samples"].as_u64().zip(bytes.ok());
        let complete = complete.is_some_and(|(samples, bytes)| samples * 4 == bytes);
        if let Some(origin) = origin.as_object_mut() {
            origin.remove("samples");
        }
        complete && origin == self.origin(line, voice)
    }

    /// Removes the parts and, if it is then empty, their folder. Failures are ignored, because the
    /// output is complete.
    fn remove(&self) {
        let files = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten();
        for file in files {
            let name = file.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("line-") && (name.ends_with(".f32") || name.ends_with(".json")) {
                let _ = std::fs::remove_file(file.path());
            }
        }
        let _ = std::fs::remove_dir(&self.folder);
    }

    /// Calls `take` with the samples of a line, piece by piece.
    fn read(
        &self,
        line: &Line,
        mut take: impl FnMut(&[f32]) -> Result<(), Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        let path = self.place(line, "f32");
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut file = BufReader::new(File::open(&path).map_err(failed)?);
        let mut bytes = vec![0; PIECE_SAMPLES * 4];
        loop {
            let mut count = 0;
            while count < bytes.len() {
                match file.read(&mut bytes[count..]).map_err(failed)? {
                    0 => break,
                    more => count += more,
                }
            }
            if count == 0 {
                return Ok(());
            }
            let samples: Vec<f32> = (bytes[..count].chunks_exact(4))
                .map(|sample| f32::from_le_bytes([sample[0], sample[1], sample[2], sample[3]]))
                .collect();
            take(&samples)?;
        }
    }
}

/// A speaker's voice.
struct Speaker {
    /// Its name or file.
    source: String,
    voice: Voice,
}

/// Speaks a script.
pub fn run(engine: &Engine, model: &str, script: &str, job: &Job) -> Outcome {
    let chapters = parse(script);
    if chapters.is_empty() {
        let name = job.script.display();
        return Err(format!("{name}: there is no line to speak; write lines as NAME: text").into());
    }
    let cast = cast(engine, &chapters, job)?;
    if job.chapters {
        std::fs::create_dir_all(&job.out)
            .map_err(|error| format!("{}: {error}", job.out.display()))?;
    }
    let parts = Parts {
        folder: parts_folder(job),
        common: json!({"model": model, "options": job.options}),
    };
    std::fs::create_dir_all(&parts.folder)
        .map_err(|error| format!("{}: {error}", parts.folder.display()))?;
    let current: Arc<Mutex<Option<Canceller>>> = Arc::default();
    let interrupted = current.clone();
    let interrupt = Interrupt::watch(move || {
        let current = interrupted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(canceller) = &*current {
            canceller.cancel();
        }
    });
    let lines: Vec<&Line> = chapters.iter().flat_map(|chapter| &chapter.lines).collect();
    let characters = |lines: &[&Line]| lines.iter().map(|line| line.text.len() as u64).sum::<u64>();
    let progress = Lines::new(lines.len() as u64, characters(&lines));
    let (mut resumed, mut warnings, mut without_effect) = (0, Vec::new(), Vec::new());
    for (index, line) in lines.iter().enumerate() {
        let Some(speaker) = cast.get(&line.speaker) else {
            continue;
        };
        if parts.has(line, &speaker.source) {
            resumed += 1;
            progress.skip(index as u64 + 1, line.text.len() as u64);
            continue;
        }
        let stream = engine.stream(&line.text, &speaker.voice, job.options.clone());
        let mut stream = stream.map_err(|error| at_line(job, line, &error))?;
        without_effect = stream.options_without_effect().to_vec();
        *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream.canceller());
        let made = (interrupt.exit_code().is_none())
            .then(|| keep(&mut stream, &parts, line, &speaker.source, job));
        let told = stream.warnings();
        warnings.extend(told.into_iter().map(|warning| warning_at(line, warning)));
        drop(stream);
        if let Some(Err(error)) = made {
            progress.clear();
            return Err(error);
        }
        if let Some(code) = interrupt.exit_code() {
            progress.clear();
            note!("the lines so far are kept: run the same command again to go on");
            return Ok(code);
        }
        progress.show(index as u64 + 1, line.text.len() as u64);
    }
    progress.clear();
    note_without_effect(&without_effect);
    for warning in &warnings {
        note!("warning: {warning}");
    }
    let written = assemble(&chapters, &parts, job)?;
    parts.remove();
    let seconds: f64 = written.iter().map(|written| written.seconds).sum();
    for written in &written {
        let loudness = written
            .loudness
            .map_or(String::new(), |loudness| format!(", {loudness:.1} LUFS"));
        note!(
            "{}: {:.1} s{loudness}",
            written.path.display(),
            written.seconds
        );
    }
    if job.json {
        let report = json!({
            "lines": lines.len(),
            "lines_resumed": resumed,
            "total_audio_duration": seconds,
            "files": written.iter().map(Written::report).collect::<Vec<_>>(),
            "warnings": warnings,
            "memory": engine.memory_report(),
            "options_without_effect": without_effect,
        });
        writeln!(output(), "{}", serde_json::to_string_pretty(&report)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The voices of all speakers.
fn cast(
    engine: &Engine,
    chapters: &[Chapter],
    job: &Job,
) -> Result<BTreeMap<String, Speaker>, Box<dyn Error>> {
    let mut cast = BTreeMap::new();
    for (name, number) in speakers(chapters) {
        let named = job
            .cast
            .iter()
            .find(|(known, _)| known.to_lowercase() == name.to_lowercase());
        let source = match (named, &*name) {
            (Some((_, voice)), _) => Some(voice.as_str()),
            (None, "") => job.voice.as_deref(),
            (None, "default") => None,
            (None, name) => Some(name),
        };
        let voice = engine.voice(voice_source(source)).map_err(|error| {
            format!(
                "{}, line {number}: {name:?} has no voice: name it with --cast \"{name}=VOICE\", or indent the line if it is text: {error}",
                job.script.display()
            )
        })?;
        let source = source.unwrap_or_default().to_owned();
        cast.insert(name, Speaker { source, voice });
    }
    Ok(cast)
}

fn at_line(job: &Job, line: &Line, error: &dyn Error) -> Box<dyn Error> {
    format!("{}, line {}: {error}", job.script.display(), line.number).into()
}

/// A warning with its line in the script.
fn warning_at(line: &Line, warning: Warning) -> Warning {
    Warning {
        line: line.number,
        ..warning
    }
}

/// Writes a line's samples, and then what they were made from.
fn keep(
    stream: &mut sottovoce::Stream,
    parts: &Parts,
    line: &Line,
    voice: &str,
    job: &Job,
) -> Result<(), Box<dyn Error>> {
    let path = parts.place(line, "f32");
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = OutputFile::create(&path).map_err(failed)?;
    let mut count = 0;
    for chunk in stream {
        let samples = chunk.map_err(|error| at_line(job, line, &error))?.samples;
        count += samples.len();
        let bytes: Vec<u8> = samples
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        file.write_all(&bytes).map_err(failed)?;
    }
    file.commit().map_err(failed)?;
    let mut origin = parts.origin(line, voice);
    origin["samples"] = json!(count);
    write_whole(&parts.place(line, "json"), origin.to_string().as_bytes()).map_err(failed)?;
    Ok(())
}

/// A finished file.
struct Written {
    path: PathBuf,
    title: String,
    seconds: f64,
    loudness: Option<f64>,
    lines: Vec<Placed>,
}

/// A line in a finished file.
struct Placed {
    number: usize,
    speaker: String,
    samples: Range<usize>,
}

impl Written {
    fn report(&self) -> Value {
        let seconds = |samples: usize| samples as f64 / f64::from(SAMPLE_RATE);
        let lines = self.lines.iter().map(|line| {
            json!({
                "line": line.number,
                "speaker": line.speaker,
                "start": seconds(line.samples.start),
                "end": seconds(line.samples.end),
            })
        });
        json!({
            "file": self.path.display().to_string(),
            "title": self.title,
            "seconds": self.seconds,
            "loudness_lufs": self.loudness,
            "lines": lines.collect::<Vec<_>>(),
        })
    }
}

/// Writes the output from the parts.
fn assemble(
    chapters: &[Chapter],
    parts: &Parts,
    job: &Job,
) -> Result<Vec<Written>, Box<dyn Error>> {
    if !job.chapters {
        let title = chapters.first().map_or("", |chapter| &chapter.title);
        return Ok(vec![write(chapters, title, &job.out, parts, job)?]);
    }
    let files = chapters.iter().enumerate().map(|(index, chapter)| {
        let name = file_name(index + 1, &chapter.title, job.format);
        write(
            std::slice::from_ref(chapter),
            &chapter.title,
            &job.out.join(name),
            parts,
            job,
        )
    });
    files.collect()
}

fn write(
    chapters: &[Chapter],
    title: &str,
    path: &Path,
    parts: &Parts,
    job: &Job,
) -> Result<Written, Box<dyn Error>> {
    let gains = match job.loudness {
        Some(target) => gains(chapters, parts, target)?,
        None => BTreeMap::new(),
    };
    let mut file = AudioFile::create(path, SAMPLE_RATE)?;
    let mut meter = LoudnessMeter::new(SAMPLE_RATE);
    let mut count = 0;
    let lines = mix(chapters, parts, &gains, |samples| {
        meter.push(samples);
        count += samples.len();
        Ok(file.write(samples)?)
    })?;
    file.finish()?;
    Ok(Written {
        path: path.to_owned(),
        title: title.to_owned(),
        seconds: count as f64 / f64::from(SAMPLE_RATE),
        loudness: meter.loudness(),
        lines,
    })
}

/// Gain of each speaker, so that all speakers are equally loud and the whole has the loudness
/// `target`.
fn gains(
    chapters: &[Chapter],
    parts: &Parts,
    target: f64,
) -> Result<BTreeMap<String, f32>, Box<dyn Error>> {
    let factor = |decibels: f64| 10f64.powf(decibels / 20.0) as f32;
    let mut meters: BTreeMap<&str, LoudnessMeter> = BTreeMap::new();
    for line in chapters.iter().flat_map(|chapter| &chapter.lines) {
        let meter = meters.entry(&line.speaker);
        let meter = meter.or_insert_with(|| LoudnessMeter::new(SAMPLE_RATE));
        parts.read(line, |samples| {
            meter.push(samples);
            Ok(())
        })?;
    }
    let loudness = meters.into_iter().map(|(name, meter)| {
        let gain = meter
            .loudness()
            .map_or(1.0, |loudness| factor(target - loudness));
        (name.to_owned(), gain)
    });
    let mut gains: BTreeMap<String, f32> = loudness.collect();
    // The limiter lowers the loudness a little; the loss is measured and added to the gains.
    let mut meter = LoudnessMeter::new(SAMPLE_RATE);
    mix(chapters, parts, &gains, |samples| {
        meter.push(samples);
        Ok(())
    })?;
    if let Some(loudness) = meter.loudness() {
        gains
            .values_mut()
            .for_each(|gain| *gain *= factor(target - loudness));
    }
    Ok(gains)
}

/// Calls `take` with the sound of chapters. Speakers with a gain are amplified and limited.
fn mix(
    chapters: &[Chapter],
    parts: &Parts,
    gains: &BTreeMap<String, f32>,
    mut take: impl FnMut(&[f32]) -> Result<(), Box<dyn Error>>,
) -> Result<Vec<Placed>, Box<dyn Error>> {
    let mut limiter = (!gains.is_empty()).then(|| Limiter::new(SAMPLE_RATE));
    let (mut places, mut count) = (Vec::new(), 0);
    let mut push = |samples: &[f32], gain: f32| match &mut limiter {
        Some(limiter) => take(&limiter.push(samples, gain)),
        None => take(samples),
    };
    for (index, chapter) in chapters.iter().enumerate() {
        for (place, line) in chapter.lines.iter().enumerate() {
            let pause = match (index, place) {
                (0, 0) => 0,
                (_, 0) => CHAPTER_PAUSE,
                _ => LINE_PAUSE,
            };
            push(&vec![0.0; pause], 1.0)?;
            count += pause;
            let start = count;
            let gain = gains.get(&line.speaker).copied().unwrap_or(1.0);
            parts.read(line, |samples| {
                count += samples.len();
                push(samples, gain)
            })?;
            places.push(Placed {
                number: line.number,
                speaker: line.speaker.clone(),
                samples: start..count,
            });
        }
    }
    if let Some(limiter) = &mut limiter {
        take(&limiter.finish())?;
    }
    Ok(places)
}

/// The folder of the parts: beside the output file, or inside the output folder.
fn parts_folder(job: &Job) -> PathBuf {
    match job.chapters {
        true => job.out.join(".parts"),
        false => {
            let mut name = job.out.file_name().unwrap_or_default().to_owned();
            name.push(".parts");
            job.out.with_file_name(name)
        }
    }
}

/// Name of a chapter's file.
fn file_name(number: usize, title: &str, format: AudioFormat) -> String {
    let signs = title
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { ' ' });
    let words: String = signs.take(TITLE_CHARACTERS_MAX).collect();
    let words: Vec<&str> = words.split_whitespace().collect();
    let title = words.join("-").to_lowercase();
    let extension = format.name();
    match title.is_empty() {
        true => format!("{number:03}.{extension}"),
        false => format!("{number:03}-{title}.{extension}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chapters_file_is_named_after_its_number_and_title() {
        let name = |number, title| file_name(number, title, AudioFormat::Wav);
        assert_eq!(
            name(1, "The Harbour, at Night"),
            "001-the-harbour-at-night.wav"
        );
        assert_eq!(name(12, "../../etc/passwd"), "012-etc-passwd.wav");
        assert_eq!(name(3, ""), "003.wav");
        assert!(name(4, &"long ".repeat(50)).len() < 60);
    }
}
