//! Programs that change texts before they are read.

#![cfg(unix)]

use sottovoce::text::filtered;
use sottovoce::{Engine, EngineOptions, Error, Source, Stream, StreamOptions, VoiceSource};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Answers every text with the same one.
const SAME: &str = r#"while read -r line; do echo '{"text": "Good morning."}'; done"#;

fn program(folder: &tempfile::TempDir, script: &str) -> PathBuf {
    let path = folder.path().join("filter");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn load(text_filter: Option<PathBuf>) -> Result<Engine, Error> {
    let options = EngineOptions {
        threads: Some(1),
        streams_max: 2,
        text_filter,
        ..EngineOptions::default()
    };
    Engine::load(Source::Embedded, options)
}

fn samples(stream: Stream) -> Vec<f32> {
    stream.flat_map(|chunk| chunk.unwrap().samples).collect()
}

fn speak(engine: &Engine, text: &str) -> Result<Vec<f32>, Error> {
    let voice = engine.voice(VoiceSource::Default)?;
    Ok(samples(engine.stream(
        text,
        &voice,
        StreamOptions::default(),
    )?))
}

#[test]
fn a_text_is_spoken_as_the_program_changes_it_whole_or_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let plain = speak(&load(None).unwrap(), "Good morning.").unwrap();
    let engine = load(Some(program(&folder, SAME))).unwrap();
    for text in ["Something else entirely.", "And once more."] {
        assert!(speak(&engine, text).unwrap() == plain, "{text}");
    }
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let stream = engine
        .open_stream(&voice, StreamOptions::default())
        .unwrap();
    let text = stream.text();
    for piece in ["Some", "thing el", "se"] {
        text.push(piece).unwrap();
    }
    text.finish();
    assert!(samples(stream) == plain, "in pieces");
}

#[test]
fn the_program_gets_text_and_language() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"read -r line
printf '%s\n' "$line" | sed 's/"language":"he"/"language":"seen"/; s/a word/another/'
read -r line"#;
    let path = program(&folder, script);
    assert_eq!(filtered(&path, "a word", "he").unwrap(), "another");
    let text = "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \"quoted\"\nand a line";
    assert_eq!(filtered(&path, text, "he").unwrap(), text);
}

#[test]
fn a_failure_is_said_and_the_next_text_starts_the_program_again() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"read -r line
if [ -e "$0.second" ]; then echo '{"text": "Good morning."}'; else touch "$0.second"; echo nonsense; fi
read -r line"#;
    let path = program(&folder, script);
    let engine = load(Some(path.clone())).unwrap();
    let refusal = speak(&engine, "Text.").unwrap_err().to_string();
    for word in ["text filter", "\"nonsense\"", &path.to_string_lossy()] {
        assert!(refusal.contains(word), "{refusal}");
    }
    assert!(!speak(&engine, "Text.").unwrap().is_empty());
}

#[test]
fn what_the_program_fails_at_is_spoken_as_it_is_in_a_text_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let written = |text_filter: Option<PathBuf>| {
        let engine = load(text_filter).unwrap();
        let voice = engine.voice(VoiceSource::Default).unwrap();
        let stream = engine
            .open_stream(&voice, StreamOptions::default())
            .unwrap();
        let text = stream.text();
        let pushed = text.push("It is half past three. Shall we go?");
        text.finish();
        (pushed, samples(stream))
    };
    let (pushed, spoken) = written(Some(program(&folder, "read -r line")));
    let refusal = pushed.unwrap_err().to_string();
    assert!(refusal.contains("ended without an answer"), "{refusal}");
    let (pushed, plain) = written(None);
    pushed.unwrap();
    // A stream may rest between sentences that come late, so that samples are not the same.
    assert!(spoken.len() * 10 > plain.len() * 9, "{}", spoken.len());
}

#[test]
fn a_program_that_does_not_start_is_refused_by_name_at_loading() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none");
    let refusal = load(Some(missing)).err().map(|error| error.to_string());
    let refusal = refusal.unwrap_or_default();
    assert!(refusal.contains("text_filter"), "{refusal}");
    assert!(refusal.contains("does not start"), "{refusal}");
}
