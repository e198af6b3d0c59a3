//! End-to-end tests of `sottovoce speak --script`.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SCRIPT: &str = "# The Harbour\n\nAnn: We counted the boats.\nNobody was late.\n\n\
    Bob: [pause:500ms] Then it got dark.\n\n# Home\n\nAnn: We went home.\n";

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sottovoce"));
    command
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", "/nonexistent")
        .env("SOTTOVOCE_VOICES", "/nonexistent")
        .args(["speak", "--threads", "1"])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// Speaks a script in `folder`; the embedded voice takes both parts.
fn speak(folder: &Path, script: &str, arguments: &[&str]) -> Output {
    std::fs::write(folder.join("script.txt"), script).unwrap();
    let voice =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../sottovoce/assets/pico/voice.safetensors");
    std::fs::copy(voice, folder.join("default.safetensors")).unwrap();
    command(&["--script", "script.txt", "--json"])
        .args([
            "--cast",
            "Ann=default.safetensors",
            "--cast",
            "bob=default.safetensors",
        ])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", words(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Samples of a WAV file.
fn samples(file: &Path) -> Vec<i16> {
    let bytes = std::fs::read(file).unwrap();
    let pairs = bytes[44..].chunks_exact(2);
    pairs
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
        .collect()
}

#[test]
fn a_script_becomes_one_file_with_each_line_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let output = speak(folder.path(), SCRIPT, &["--out", "play.wav"]);
    let report = report(&output);
    assert_eq!(
        (&report["lines"], &report["lines_resumed"]),
        (&3.into(), &0.into())
    );
    let file = &report["files"][0];
    assert_eq!(file["title"], "The Harbour");
    let sound = samples(&folder.path().join("play.wav"));
    let seconds = sound.len() as f64 / 24_000.0;
    assert!((file["seconds"].as_f64().unwrap() - seconds).abs() < 1e-6);
    let lines = file["lines"].as_array().unwrap();
    let speakers: Vec<&Value> = lines.iter().map(|line| &line["speaker"]).collect();
    assert_eq!(speakers, ["Ann", "Bob", "Ann"]);
    let time = |line: usize, end: &str| lines[line][end].as_f64().unwrap();
    assert!(
        (time(1, "start") - time(0, "end") - 0.25).abs() < 1e-6,
        "between lines"
    );
    assert!(
        (time(2, "start") - time(1, "end") - 1.0).abs() < 1e-6,
        "between chapters"
    );
    assert!((time(2, "end") - seconds).abs() < 1e-6);
    // Bob pauses before he speaks.
    let place = (time(1, "start") * 24_000.0) as usize;
    assert!(
        sound[place..place + 12_000]
            .iter()
            .all(|sample| *sample == 0)
    );
    assert!(
        sound[place + 12_000..place + 30_000]
            .iter()
            .any(|sample| sample.abs() > 1000)
    );
    assert!(
        !folder.path().join("play.wav.parts").exists(),
        "nothing is left beside it"
    );
}

#[test]
fn chapters_become_files_of_a_folder_named_after_their_titles() {
    let folder = tempfile::tempdir().unwrap();
    let output = speak(
        folder.path(),
        SCRIPT,
        &["--chapters", "--out", "book", "--format", "wav"],
    );
    let report = report(&output);
    let files: Vec<&str> = (report["files"].as_array().unwrap().iter())
        .map(|file| file["file"].as_str().unwrap())
        .collect();
    assert_eq!(files, ["book/001-the-harbour.wav", "book/002-home.wav"]);
    for file in files {
        assert!(
            samples(&folder.path().join(file))
                .iter()
                .any(|sample| sample.abs() > 1000)
        );
    }
    let left: Vec<_> = std::fs::read_dir(folder.path().join("book"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 2, "no parts are left");
}

#[test]
fn a_run_that_broke_off_goes_on_with_the_lines_that_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let whole = speak(folder.path(), SCRIPT, &["--out", "whole.wav"]);
    assert!(whole.status.success(), "{}", words(&whole));
    // The last line is refused after the others were made.
    let parts = folder.path().join("play.wav.parts");
    let broken = SCRIPT.replace("Ann: We went home.", "Ann: 今");
    let output = speak(
        folder.path(),
        &broken,
        &["--out", "play.wav", "--unreadable", "refuse"],
    );
    assert!(!output.status.success());
    assert!(
        words(&output).contains("script.txt, line 10"),
        "{}",
        words(&output)
    );
    assert!(parts.exists() && !folder.path().join("play.wav").exists());
    let output = speak(
        folder.path(),
        SCRIPT,
        &["--out", "play.wav", "--unreadable", "refuse"],
    );
    assert_eq!(report(&output)["lines_resumed"], 2);
    let sound = |name: &str| samples(&folder.path().join(name));
    assert!(
        sound("play.wav") == sound("whole.wav"),
        "as if it had never broken off"
    );
    // Other options are other sound.
    let seeded = speak(
        folder.path(),
        SCRIPT,
        &["--out", "play.wav", "--speed", "1.5"],
    );
    assert_eq!(report(&seeded)["lines_resumed"], 0);
}

#[test]
fn loudness_is_evened_to_the_target_without_clipping() {
    let folder = tempfile::tempdir().unwrap();
    for target in [-16.0, -19.0] {
        let loudness = target.to_string();
        let output = speak(
            folder.path(),
            SCRIPT,
            &["--out", "play.wav", "--loudness", &loudness],
        );
        let found = report(&output)["files"][0]["loudness_lufs"]
            .as_f64()
            .unwrap();
        assert!((found - target).abs() < 0.5, "{found} LUFS");
        let peak = samples(&folder.path().join("play.wav"))
            .iter()
            .map(|s| s.unsigned_abs())
            .max();
        assert!(peak < Some(29_300), "{peak:?}");
    }
}

#[test]
fn what_cannot_be_spoken_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    for (script, arguments, told) in [
        ("", &["--out", "play.wav"][..], "no line to speak"),
        (
            "Ann: Hi.\nCarl: Ho.\n",
            &["--out", "play.wav"],
            "line 2: \"Carl\" has no voice",
        ),
        (SCRIPT, &["--chapters"], "--chapters: name the folder"),
        (SCRIPT, &["--out", "-"], "a script is written to a file"),
        (SCRIPT, &["--out", "play.xyz"], "xyz"),
    ] {
        let output = speak(folder.path(), script, arguments);
        assert!(!output.status.success());
        assert!(words(&output).contains(told), "{}", words(&output));
    }
    for arguments in [
        &["--script", "x", "--loudness", "3"][..],
        &["--script", "x", "--cast", "Ann"],
        &["Hello.", "--loudness", "-16"],
        &["Hello.", "--script", "x"],
    ] {
        let output = command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    }
}
