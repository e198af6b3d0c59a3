//! Tests of the examples' functions; their `main` is not called.

#![allow(
    dead_code,
    reason = "an example's `main` and what only that needs are not called"
)]

use sottovoce::{Engine, EngineOptions, SAMPLE_RATE, Source, VoiceSource};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::sync_channel;

#[path = "../examples/audiobook.rs"]
mod audiobook;
#[path = "../examples/dialogue.rs"]
mod dialogue;
#[path = "../examples/example_tts_stream.rs"]
mod example_tts_stream;
#[path = "../examples/limited_service.rs"]
mod limited_service;
#[path = "../examples/voice_agent.rs"]
mod voice_agent;

/// Seconds of sound in a WAV file of 16-bit samples.
fn seconds(path: &Path) -> f64 {
    let bytes = std::fs::metadata(path).unwrap().len() - 44;
    bytes as f64 / 2.0 / f64::from(SAMPLE_RATE)
}

#[test]
fn a_text_streams_into_a_file_of_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.wav");
    let spoken = example_tts_stream::speak("Every byte has an owner.", &path).unwrap();
    assert!(spoken > 1.0);
    assert!((seconds(&path) - spoken).abs() < 0.01);
}

#[test]
fn an_agent_speaks_text_that_arrives_in_pieces_and_stops_when_interrupted() {
    let engine = Engine::load(Source::Embedded, EngineOptions::default()).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let (user, interruptions) = sync_channel(1);
    let text = "One thing is sure. Another is not.";
    let mut played = 0;
    let pieces = || voice_agent::pieces(text);
    let turn = voice_agent::answer(&engine, &voice, pieces(), &interruptions, |samples| {
        played += samples.len();
    });
    assert_eq!(turn.unwrap(), voice_agent::Turn::Spoken(played));
    assert!(played > SAMPLE_RATE as usize);

    let mut heard = 0;
    let turn = voice_agent::answer(&engine, &voice, pieces(), &interruptions, |samples| {
        heard += samples.len();
        // A user who interrupts at the first sound.
        user.try_send(()).unwrap();
    });
    assert_eq!(turn.unwrap(), voice_agent::Turn::Interrupted(heard));
    assert!(heard < played, "the rest is not spoken");
}

#[test]
fn a_book_is_cut_into_chapters_and_a_second_run_keeps_what_is_there() {
    let book = "# One\nIt begins.\n\n# Two\nIt goes on.\nIt ends.\n";
    let chapters = audiobook::chapters(book);
    let titles: Vec<&str> = chapters.iter().map(|chapter| &*chapter.title).collect();
    assert_eq!(titles, ["One", "Two"]);
    let folder = tempfile::tempdir().unwrap();
    let files = audiobook::record(book, folder.path()).unwrap();
    assert_eq!(files.len(), 2);
    assert!(files.iter().all(|file| seconds(file) > 0.5));
    std::fs::write(&files[0], b"kept").unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    audiobook::record(book, folder.path()).unwrap();
    assert_eq!(std::fs::read(&files[0]).unwrap(), b"kept");
    assert!(seconds(&files[1]) > 0.5, "what was missing is spoken");
}

#[test]
fn a_dialogue_has_a_line_for_each_turn() {
    let script = "Ann: Is it late?\nBob: It is.\n  Very late.\n";
    let lines = dialogue::lines(script).unwrap();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1].speaker, "bob");
    assert_eq!(lines[1].text, "It is. Very late.");
    assert!(dialogue::lines("nobody said this").is_err());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dialogue.wav");
    let spoken = dialogue::speak(Source::Embedded, script, &BTreeMap::new(), &path).unwrap();
    assert!((seconds(&path) - spoken).abs() < 0.01);
}

#[test]
fn a_limited_service_stays_within_its_budget_and_turns_away_who_does_not_fit() {
    use limited_service::{Outcome, Service};
    let service = Service::new(64 << 20, 1).unwrap();
    // Longer than the reader's buffer: the stream is still running after its first chunk.
    let long = "The only place is taken as long as this is being spoken. ".repeat(12);
    let mut inner = None;
    let outcome = service
        .call(&long, |_| {
            let second = service.call("No place.", |_| {}).unwrap();
            inner.get_or_insert(second);
        })
        .unwrap();
    assert!(matches!(outcome, Outcome::Spoken(samples) if samples > 0));
    assert!(matches!(inner, Some(Outcome::TryAgain(_))), "{inner:?}");
    let (budget, most) = service.memory();
    assert!(most <= budget, "{most} of {budget}");
}
