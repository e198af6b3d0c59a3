//! Text against the reference: 600 lines of prose, foreign scripts, marks and spaces in every
//! mixture (`reference/text.py`).

use serde::Deserialize;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::text::{
    Normalise, PARALINGUISTIC_TAGS, Piece, Script, SentenceBuffer, TextFrontEnd, TextOptions,
    normalise,
};
use std::collections::HashMap;
use unicode_normalization::UnicodeNormalization;

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

/// What is said, whatever the case, the marks and the compatibility form.
fn said(text: &str) -> String {
    text.nfkc()
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
            let found = front_end.ids(text, None).unwrap();
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
        let mut whole: String = (side.lines.iter())
            .map(|(text, ..)| format!("{text}\n"))
            .collect();
        let sentences = front_end.sentences(&whole).unwrap();
        // A tag that makes no sound in a model is markup to it.
        for tag in PARALINGUISTIC_TAGS {
            if !front_end.tags().contains(&tag.name.to_owned()) {
                whole = whole.replace(&format!("[{}]", tag.name), "");
            }
        }
        // So are the marks of language models.
        whole = whole.replace("<|endoftext|>", "");
        let spoken: String = sentences
            .iter()
            .map(|sentence| said(&sentence.text))
            .collect();
        let expected = said(&whole);
        let same = (spoken.chars().zip(expected.chars()))
            .take_while(|(a, b)| a == b)
            .count();
        let next = |text: &str| -> String { text.chars().skip(same).take(40).collect() };
        assert!(
            spoken == expected,
            "{}: after {same} characters {:?} is said, not {:?}",
            config.variant,
            next(&spoken),
            next(&expected)
        );
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

/// A front end over one side's tokenizer, for models that know words alone if `spell_out`.
fn front_end(side: usize, spell_out: bool) -> TextFrontEnd {
    let (mut config, side) = sides().into_iter().nth(side).unwrap();
    config.text.spell_out = spell_out;
    config.t3.text_vocabulary = 60_000;
    TextFrontEnd::new(&config, &side.files).unwrap()
}

/// What is said, pauses as their seconds.
fn script(front_end: &TextFrontEnd, text: &str, options: &TextOptions) -> (Vec<String>, usize) {
    let script = front_end.script(text, options).unwrap();
    let pieces = (script.pieces.into_iter())
        .map(|piece| match piece {
            Piece::Words(sentence) => sentence.text,
            Piece::Pause { seconds, .. } => seconds.to_string(),
        })
        .collect();
    (pieces, script.warnings.len())
}

#[test]
fn off_leaves_a_text_to_the_references_rules_and_on_writes_it_out() {
    let front_end = front_end(0, false);
    let text = "It costs $5 at 7:30, Dr. Smith said.";
    for (normalise, said) in [
        (Normalise::Auto, text),
        (Normalise::Off, text),
        (
            Normalise::On,
            "It costs five dollars at seven thirty, doctor Smith said.",
        ),
    ] {
        let options = TextOptions {
            normalise,
            ..TextOptions::default()
        };
        assert_eq!(
            script(&front_end, text, &options),
            (vec![said.to_owned()], 0)
        );
    }
    let off = front_end.sentences(text).unwrap();
    let ids = front_end.ids(text, None).unwrap();
    assert_eq!(off[0].tokens[1..off[0].tokens.len() - 1], ids);
}

#[test]
fn pauses_that_nobody_measured_do_not_add_up_and_asked_ones_do() {
    let front_end = front_end(0, true);
    for (text, said) in [
        (
            "One day.\n\n***\n\n---\n\nTwo days.",
            vec!["One day.", "0.4", "Two days."],
        ),
        (
            "One day.\n\n[pause:1s]\n\nTwo days.",
            vec!["One day.", "1", "Two days."],
        ),
        (
            "One day. [pause:1s] [pause:250ms]",
            vec!["One day.", "1", "0.25"],
        ),
        ("One day.\n\n", vec!["One day."]),
        ("***\n\n[pause:2s]", vec!["2"]),
    ] {
        let (pieces, _) = script(&front_end, text, &TextOptions::default());
        assert_eq!(pieces, said, "{text:?}");
    }
}

#[test]
fn what_is_written_is_the_texts_own() {
    let front_end = front_end(0, true);
    let text = "Exam\u{ad}ple <b>one</b>: it is 7:30. And the second one costs $5!";
    let script = front_end.script(text, &TextOptions::default()).unwrap();
    let written: Vec<String> = script
        .into_sentences()
        .into_iter()
        .map(|s| s.written)
        .collect();
    assert_eq!(
        written,
        [
            "Exam\u{ad}ple <b>one</b>: it is 7:30.",
            "And the second one costs $5!"
        ]
    );
}

#[test]
fn a_text_without_a_space_is_written_once_however_often_it_is_cut() {
    let front_end = front_end(0, true);
    let mut cuts = 0;
    for text in ["x".repeat(6_000), "7".repeat(6_000), "ab,".repeat(2_000)] {
        let script = front_end.script(&text, &TextOptions::default()).unwrap();
        let sentences = script.into_sentences();
        cuts += sentences.len() - 1;
        let written: String = sentences.into_iter().map(|one| one.written).collect();
        assert!(written == text, "{} of {} bytes", written.len(), text.len());
    }
    assert!(cuts > 2, "{cuts} cuts");
}

#[test]
fn a_text_in_pieces_has_the_pieces_of_the_whole_text() {
    for (config, side) in sides() {
        let front_end = TextFrontEnd::new(&config, &side.files).unwrap();
        let options = TextOptions::default();
        for text in [
            "We waited for the boat. Then it came into the harbour.\n\nNobody had seen it before.",
            "It is a list of three:\n- the first of them.\n- another one is here.\n\nAnd so on.",
            "Take the first turn. - It is the shorter one. > Not a quote of anything at all.",
            "We waited there. [pause:1s] And we left.\n\n[pause:2s] It was late.\n\n…",
            "# A heading\nThen the text begins here.\n\n***\n\nAnother part of it.",
        ] {
            let whole = front_end.script(text, &options).unwrap();
            for size in [1, 5, 1000] {
                let mut buffer = SentenceBuffer::default();
                let mut pieces = Vec::new();
                let mut take = |text: &str| {
                    let after_words = matches!(pieces.last(), Some(Piece::Words(_)));
                    let script = front_end.further_script(text, after_words, &options);
                    pieces.extend(script.unwrap().pieces);
                };
                let characters: Vec<char> = text.chars().collect();
                for piece in characters.chunks(size) {
                    let piece: String = piece.iter().collect();
                    buffer.push(&piece, 300).iter().for_each(|text| take(text));
                }
                buffer.flush().iter().for_each(|text| take(text));
                let seconds = |pieces: &[Piece]| -> Vec<f64> {
                    let pauses = pieces.iter().map(|piece| match piece {
                        Piece::Words(_) => 0.0,
                        Piece::Pause { seconds, .. } => *seconds,
                    });
                    pauses.collect()
                };
                assert_eq!(
                    seconds(&pieces),
                    seconds(&whole.pieces),
                    "{text:?} by {size}"
                );
                let words = |pieces: Vec<Piece>| {
                    let script = Script {
                        pieces,
                        warnings: vec![],
                    };
                    let mut sentences = script.into_sentences();
                    // Characters count from the start of each piece.
                    for word in sentences
                        .iter_mut()
                        .flat_map(|sentence| &mut sentence.words)
                    {
                        word.characters = 0..0;
                    }
                    sentences
                };
                assert_eq!(
                    words(pieces),
                    words(whole.pieces.clone()),
                    "{text:?} by {size}"
                );
            }
        }
    }
}
