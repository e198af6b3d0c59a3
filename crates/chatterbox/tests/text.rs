//! Text against the reference: 600 lines of prose, foreign scripts, marks and spaces in every mixture (`reference/text.py`).

use serde::Deserialize;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::text::{TextFrontEnd, normalise};
use std::collections::HashMap;

#[derive(Deserialize)]
struct Fixture {
    base: Side,
    turbo: Side,
}

#[derive(Deserialize)]
struct Side {
    files: HashMap<String, String>,
    /// Text, as it is normalised, ids.
    lines: Vec<(String, String, Vec<u32>)>,
}

fn sides() -> [(ModelConfig, Side); 2] {
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/text.json")).unwrap();
    [
        (ModelConfig::tiny_base(), fixture.base),
        (ModelConfig::tiny_turbo(), fixture.turbo),
    ]
}

/// What is said, whatever the case and the marks.
fn said(text: &str) -> String {
    text.chars()
        .flat_map(char::to_uppercase)
        .filter(|character| character.is_alphanumeric())
        .collect()
}

#[test]
fn every_line_is_normalised_as_the_reference_does() {
    for (config, side) in sides() {
        assert_eq!(side.lines.len(), 600);
        for (text, expected, _) in &side.lines {
            let found = normalise(text, config.text.normalisation);
            assert_eq!(&found, expected, "{}: {text:?}", config.variant);
        }
    }
}

#[test]
fn every_line_gets_the_references_ids() {
    for (config, side) in sides() {
        let front_end = TextFrontEnd::new(&config, &side.files).unwrap();
        for (text, _, expected) in &side.lines {
            let found = front_end.ids(text).unwrap();
            assert_eq!(&found, expected, "{}: {text:?}", config.variant);
        }
    }
}

#[test]
fn cutting_drops_nothing_and_keeps_within_the_limit() {
    for (mut config, side) in sides() {
        config.text.token_count_max = 30;
        // The reference's vocabulary, so that every id has a row.
        config.t3.text_vocabulary = 704;
        let front_end = TextFrontEnd::new(&config, &side.files).unwrap();
        let whole: String = (side.lines.iter())
            .map(|(text, ..)| format!("{text}\n"))
            .collect();
        let sentences = front_end.sentences(&whole).unwrap();
        let spoken: String = sentences
            .iter()
            .map(|sentence| said(&sentence.text))
            .collect();
        assert_eq!(spoken, said(&whole), "{}", config.variant);
        let framed = if config.t3.text_start_stop.is_some() {
            2
        } else {
            0
        };
        for sentence in &sentences {
            let single = sentence.text.chars().count() <= 3;
            assert!(
                sentence.tokens.len() <= 30 + framed || single,
                "{sentence:?}"
            );
        }
    }
}
