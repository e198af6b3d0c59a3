//! Streams a text into a file, within a budget.
//!
//! ```console
//! $ cargo run --release --example example_tts_stream -- "Every byte has an owner." out.wav
//! ```

use sottovoce::{Engine, EngineOptions, SAMPLE_RATE, Source, StreamOptions, VoiceSource};
use sottovoce_audio::AudioFile;
use std::error::Error;
use std::path::Path;

/// Bytes that the engine may use.
const BUDGET_BYTES: u64 = 128 << 20;

/// Speaks `text` into the file at `path`; returns the seconds of speech.
///
/// # Errors
/// If no stream fits the budget, the engine refuses the text or ends the stream with an error, or
/// the file cannot be written.
pub fn speak(text: &str, path: &Path) -> Result<f64, Box<dyn Error>> {
    let options = EngineOptions {
        memory: Some(BUDGET_BYTES),
        ..EngineOptions::default()
    };
    // Refuses here, with the numbers, if no stream fits the budget.
    let engine = Engine::load(Source::Embedded, options)?;
    let voice = engine.voice(VoiceSource::Default)?;
    let mut file = AudioFile::create(path, SAMPLE_RATE)?;
    let mut seconds = 0.0;
    for chunk in engine.stream(text, &voice, StreamOptions::default())? {
        let chunk = chunk?;
        // The file is valid after every chunk.
        file.write(&chunk.samples)?;
        seconds = chunk.metrics.total_audio_duration;
        println!(
            "{seconds:.2} s of speech, first audio after {:.3} s, {} bytes held",
            chunk.metrics.latency_to_first_chunk, chunk.metrics.memory_reserved
        );
    }
    file.finish()?;
    Ok(seconds)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [text, path] = &arguments[..] else {
        return Err("give a text and a file, such as out.wav".into());
    };
    speak(text, Path::new(path)).map(|_| ())
}
