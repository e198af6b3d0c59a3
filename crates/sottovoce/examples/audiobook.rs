//! An audiobook: one file per chapter. Chapters that exist already are skipped, so that an
//! interrupted run can be resumed.
//!
//! ```console
//! $ cargo run --release --example audiobook -- book.md audiobook/
//! ```
//!
//! A line that begins with `# ` is a chapter's title.

use sottovoce::{Engine, EngineOptions, SAMPLE_RATE, Source, StreamOptions, Voice, VoiceSource};
use sottovoce_audio::AudioFile;
use std::error::Error;
use std::path::{Path, PathBuf};

/// A part of a book.
#[derive(Debug, PartialEq)]
pub struct Chapter {
    /// Its title; empty if it has none.
    pub title: String,
    /// Its text.
    pub text: String,
}

/// Splits a text at its titles. Text before the first title is a chapter without a title.
pub fn chapters(book: &str) -> Vec<Chapter> {
    let mut chapters: Vec<Chapter> = Vec::new();
    for line in book.lines() {
        let title = line.strip_prefix("# ");
        if title.is_some() || chapters.is_empty() {
            chapters.push(Chapter {
                title: title.unwrap_or_default().trim().to_owned(),
                text: String::new(),
            });
        }
        if title.is_none()
            && let Some(chapter) = chapters.last_mut()
        {
            chapter.text.push_str(line);
            chapter.text.push('\n');
        }
    }
    let speakable = |text: &str| text.chars().any(char::is_alphanumeric);
    chapters.retain(|chapter| speakable(&chapter.text) || speakable(&chapter.title));
    chapters
}

/// Speaks one chapter: its title, a pause, its text.
fn speak(
    engine: &Engine,
    voice: &Voice,
    chapter: &Chapter,
    path: &Path,
) -> Result<f64, Box<dyn Error>> {
    let text = match chapter.title.is_empty() {
        true => chapter.text.clone(),
        false => format!("{}.\n\n{}", chapter.title, chapter.text),
    };
    // Only complete files have the final name; an interrupted run leaves the temporary one.
    let growing = path.with_extension("part.wav");
    let mut file = AudioFile::create(&growing, SAMPLE_RATE)?;
    let mut seconds = 0.0;
    for chunk in engine.stream(&text, voice, StreamOptions::default())? {
        let chunk = chunk?;
        file.write(&chunk.samples)?;
        seconds = chunk.metrics.total_audio_duration;
    }
    file.finish()?;
    std::fs::rename(growing, path)?;
    Ok(seconds)
}

/// Speaks a book into `folder`; returns the files, in order.
///
/// # Errors
/// If the folder or a file cannot be written, or the engine refuses a chapter or ends its stream
/// with an error. Chapters that are complete by then stay.
pub fn record(book: &str, folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let engine = Engine::load(Source::Embedded, EngineOptions::default())?;
    let voice = engine.voice(VoiceSource::Default)?;
    let chapters = chapters(book);
    let mut files = Vec::new();
    for (index, chapter) in chapters.iter().enumerate() {
        let number = index + 1;
        let path = folder.join(format!("chapter-{number:03}.wav"));
        if path.exists() {
            println!("{number} of {}: there already", chapters.len());
        } else {
            let seconds = speak(&engine, &voice, chapter, &path)?;
            println!("{number} of {}: {seconds:.1} s", chapters.len());
        }
        files.push(path);
    }
    Ok(files)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [book, folder] = &arguments[..] else {
        return Err("give a text file and a folder".into());
    };
    record(&std::fs::read_to_string(book)?, Path::new(folder)).map(|_| ())
}
