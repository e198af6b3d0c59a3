//! End-to-end tests of `sottovoce text`.

use serde_json::Value;
use std::process::{Command, Output, Stdio};

fn text(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sottovoce"))
        .arg("text")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn read(written: &str) -> Value {
    let output = text(&["--json", "--", written]);
    assert!(output.status.success(), "{written:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The spoken pieces, joined, with pauses as seconds in braces.
fn said(report: &Value) -> String {
    let pieces = report["pieces"].as_array().unwrap();
    let said: Vec<String> = (pieces.iter())
        .map(|piece| match piece["pause_seconds"].as_f64().unwrap() {
            0.0 => piece["spoken"].as_str().unwrap().to_owned(),
            seconds => format!("{{{seconds}}}"),
        })
        .collect();
    said.join(" ")
}

#[test]
fn each_piece_shows_what_is_written_and_spoken_with_its_tokens() {
    let report = read("Dr. Smith paid $5M on Jan. 5, 2025. [pause:1.5s] It was £3 too much.");
    let pieces = report["pieces"].as_array().unwrap();
    assert_eq!(pieces.len(), 3, "{report}");
    assert_eq!(pieces[0]["written"], "Dr. Smith paid $5M on Jan. 5, 2025.");
    assert_eq!(
        pieces[0]["spoken"],
        "doctor Smith paid five million dollars on January fifth, twenty twenty five."
    );
    assert!(pieces[0]["tokens"].as_array().unwrap().len() > 10);
    assert_eq!(pieces[1]["pause_seconds"], 1.5);
    assert_eq!(pieces[1]["spoken"], "");
    assert_eq!(pieces[1]["tokens"], serde_json::json!([]));
    assert_eq!(pieces[2]["spoken"], "It was three pounds too much.");
    assert_eq!(report["warnings"], serde_json::json!([]));
}

#[test]
fn what_is_not_words_is_a_pause_and_text_after_marks_stays() {
    for (written, right) in [
        ("Hello!!!!! How are you?", "Hello!!!!! How are you?"),
        (
            "The first part.\n\n***\n\nThe second part.",
            "The first part. {0.4} The second part.",
        ),
        (
            "The first part.\n\nThe second part.",
            "The first part. {0.4} The second part.",
        ),
        ("***", "{0.4}"),
        ("…", "{0.4}"),
        ("\u{1f600}", "{0.4}"),
        (
            "<speak>Hello <break time=\"1s\"/> world</speak>",
            "Hello {1} world",
        ),
        (
            "See [the manual](https://example.com/a) for more.",
            "See the manual for more.",
        ),
        ("<think>Hm.</think>Fish &amp; chips", "Fish and chips"),
        (
            "Exam\u{ad}ple at 16\u{a0}GB",
            "Example at sixteen gigabytes",
        ),
    ] {
        assert_eq!(said(&read(written)), right, "{written:?}");
    }
}

#[test]
fn a_character_without_a_sound_is_passed_over_with_its_line_or_refused() {
    let written = "Hello there.\nSay \u{434}\u{430} and go on.";
    let report = read(written);
    assert_eq!(said(&report), "Hello there. Say and go on.");
    let warnings = report["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{report}");
    assert_eq!(warnings[0]["line"], 2);
    assert_eq!(warnings[0]["character"], "\u{434}\u{430}");
    let refused = text(&["--unreadable", "refuse", "--", written]);
    assert!(!refused.status.success());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("no sound for"),
        "{refused:?}"
    );
}

#[test]
fn no_piece_is_longer_than_the_model_can_say() {
    let long =
        "so we went to the shop and bought some bread and then we walked home along the river "
            .repeat(20);
    let report = read(&long);
    for piece in report["pieces"].as_array().unwrap() {
        assert!(piece["tokens"].as_array().unwrap().len() <= 24, "{piece}");
    }
    assert_eq!(said(&report).replace(' ', ""), long.replace(' ', ""));
}

#[test]
fn without_normalisation_the_text_stays() {
    let output = text(&["--json", "--normalise", "off", "--", "It costs $5 at 7:30."]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said(&report), "It costs $5 at 7:30.");
}

#[test]
fn people_get_lines_and_nothing_is_an_error() {
    let output = text(&["It is 7:30."]);
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(
        lines.starts_with("It is seven thirty.\n  written: It is 7:30.\n"),
        "{lines}"
    );
    for empty in ["", "  \n", "\u{200b}"] {
        assert!(!text(&["--", empty]).status.success(), "{empty:?}");
    }
    let unknown = text(&["--language", "xx", "Five."]);
    assert!(
        unknown.status.success(),
        "a language without rules is warned of: {unknown:?}"
    );
}
