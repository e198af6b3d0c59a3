//! Text of many languages against the reference's multilingual tokenizer
//! (`reference/multilingual.py`).

use serde::Deserialize;
use sottovoce_chatterbox::config::{LetterCase, ModelConfig, Variant};
use sottovoce_chatterbox::parity::Parity;
use sottovoce_chatterbox::text::{LANGUAGES, Normalise, TextFrontEnd, TextOptions, Unreadable};
use sottovoce_chatterbox::weights::WeightSource;
use sottovoce_formats::safetensors::read_header;
use sottovoce_memory::Memory;
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{Precision, Threads};
use std::collections::{BTreeMap, HashMap};

#[derive(Deserialize)]
struct Fixture {
    files: HashMap<String, String>,
    /// By language: text and ids.
    lines: BTreeMap<String, Vec<(String, Vec<u32>)>>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/multilingual.json")).unwrap()
}

fn front_end() -> TextFrontEnd {
    TextFrontEnd::new(&ModelConfig::tiny_multilingual(), &fixture().files).unwrap()
}

fn in_language(language: &str) -> TextOptions {
    TextOptions {
        language: Some(language.into()),
        ..TextOptions::default()
    }
}

/// Holds every line against its ids, and returns the number of lines by language.
fn compare(fixture: &Fixture) -> BTreeMap<String, usize> {
    let config = ModelConfig::preset(Variant::Multilingual);
    let front_end = TextFrontEnd::new(&config, &fixture.files).unwrap();
    // The fixture's words are not separated.
    let unlike = |language: &str| cfg!(feature = "chinese") && language == "zh";
    for (language, lines) in fixture.lines.iter().filter(|(code, _)| !unlike(code)) {
        for (text, expected) in lines {
            let found = front_end.ids(text, Some(language)).unwrap();
            assert_eq!(&found, expected, "{language}: {text:?}");
        }
    }
    let counts = fixture.lines.iter();
    counts
        .map(|(language, lines)| (language.clone(), lines.len()))
        .collect()
}

#[test]
fn every_line_gets_the_references_ids() {
    let counts = compare(&fixture());
    assert_eq!(counts.len(), 22, "all languages but Japanese: {counts:?}");
}

/// Many lines with the official tokenizer, made by `reference/multilingual.py`: `TEXT_EXPECTED`
/// names their file.
#[test]
#[ignore = "needs a file of reference/multilingual.py"]
#[allow(
    clippy::disallowed_methods,
    reason = "a file that only a developer has"
)]
fn every_line_of_a_file_gets_the_references_ids() {
    let path = std::env::var_os("TEXT_EXPECTED").expect("TEXT_EXPECTED names a file");
    let fixture: Fixture = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    println!("{:?}", compare(&fixture));
}

/// `reference/t3.py`: logits and mel of the small model.
#[test]
fn the_same_logits_and_mel_as_the_references() {
    let fixture = include_bytes!("fixtures/t3_multilingual.safetensors");
    let source = WeightSource::synthetic(ModelConfig::tiny_multilingual(), 1);
    let parity = Parity {
        source: &source,
        device: &Cpu::new(Threads::new(1)),
        memory: &Memory::host(1 << 30),
        precision: Precision::F32,
    };
    let computed = parity.compute(fixture).unwrap();
    let floats = |file: &[u8], name: &str| {
        let info = &read_header(file).unwrap().tensors[name];
        let mut values = vec![0.0; info.shape.iter().product()];
        info.dtype.read_f32(&file[info.bytes.clone()], &mut values);
        values
    };
    // Of the logits' columns the fixture keeps each thirteenth.
    let logits = floats(&computed, "t3_logits");
    let rows = logits.chunks_exact(source.config().t3.speech_vocabulary);
    let logits: Vec<f32> = rows
        .flat_map(|row| row.iter().step_by(13).copied())
        .collect();
    for (name, found) in [("t3_logits", logits), ("mel", floats(&computed, "mel"))] {
        let expected = floats(fixture, name);
        assert_eq!(found.len(), expected.len(), "{name}");
        let square = |x: f32| f64::from(x) * f64::from(x);
        let apart: f64 = (found.iter().zip(&expected))
            .map(|(a, b)| square(a - b))
            .sum();
        let error = (apart / expected.iter().map(|&b| square(b)).sum::<f64>()).sqrt();
        assert!(error <= 1e-4, "{name}: relative L2 error {error:e}");
    }
}

#[test]
fn a_sentence_is_framed_and_begins_with_its_language() {
    let front_end = front_end();
    let config = ModelConfig::tiny_multilingual();
    let (start, stop) = config.t3.text_start_stop.unwrap();
    for (code, _) in LANGUAGES.iter().filter(|(code, _)| *code != "zh") {
        let script = front_end.script("A da, a da.", &in_language(code)).unwrap();
        let tokens = &script.into_sentences()[0].tokens;
        let tag = front_end.ids("a", Some(code)).unwrap()[0];
        assert_eq!(tokens[..2], [start, tag], "{code}");
        assert_eq!(tokens.last(), Some(&stop), "{code}");
    }
}

#[test]
fn english_is_the_default_and_a_language_may_have_a_region() {
    let front_end = front_end();
    let ids = |language| front_end.ids("Anna", language).unwrap();
    assert_eq!(ids(None), ids(Some("en")));
    assert_eq!(ids(Some("pt-BR")), ids(Some("pt")));
    assert_ne!(ids(Some("pt")), ids(Some("en")));
    let tuned = ModelConfig::multilingual(&["hi"]);
    let tuned = TextFrontEnd::new(&tuned, &fixture().files).unwrap();
    assert_eq!(tuned.ids("Anna", None).unwrap(), ids(Some("hi")));
}

#[test]
fn a_language_that_the_model_has_not_is_refused_with_those_it_has() {
    let tuned = ModelConfig::multilingual(&["hi"]);
    let tuned = TextFrontEnd::new(&tuned, &fixture().files).unwrap();
    for (front_end, language, has) in [
        (front_end(), "xx", "ar, da, de"),
        (front_end(), "", "ar, da, de"),
        (tuned, "en", "use hi"),
    ] {
        let error = front_end
            .script("Anna", &in_language(language))
            .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(&format!("{language:?}")) && message.contains(has),
            "{message}"
        );
    }
    let long = "x".repeat(10_000);
    let error = front_end().script("Anna", &in_language(&long)).unwrap_err();
    assert!(
        error.to_string().len() < 300,
        "a refusal repeats little of it"
    );
}

#[test]
fn a_tokenizer_without_a_language_is_refused_by_name() {
    let config = ModelConfig::multilingual(&["xy"]);
    let error = TextFrontEnd::new(&config, &fixture().files).err().unwrap();
    assert!(error.to_string().contains("[xy]"), "{error}");
    let error = TextFrontEnd::new(&config, &HashMap::new()).err().unwrap();
    assert!(error.to_string().contains("grapheme_mtl"), "{error}");
}

#[test]
fn languages_are_no_tags_of_sounds() {
    let tags = front_end().tags().to_vec();
    assert!(tags.contains(&"laughter".into()), "{tags:?}");
    assert!(tags.iter().all(|tag| tag.len() > 2), "{tags:?}");
}

#[test]
fn case_is_kept_if_a_stream_or_the_model_asks_for_it() {
    let mut config = ModelConfig::multilingual(&["en"]);
    let files = fixture().files;
    let lower = TextFrontEnd::new(&config, &files).unwrap();
    config.text.letter_case = LetterCase::Kept;
    let kept = TextFrontEnd::new(&config, &files).unwrap();
    let tokens = |front_end: &TextFrontEnd, letter_case| {
        let options = TextOptions {
            letter_case,
            ..TextOptions::default()
        };
        let script = front_end.script("an Oasis", &options).unwrap();
        script.into_sentences().remove(0).tokens
    };
    assert_eq!(tokens(&kept, None), tokens(&lower, Some(LetterCase::Kept)));
    assert_eq!(tokens(&lower, None), tokens(&kept, Some(LetterCase::Lower)));
    assert_ne!(tokens(&kept, None), tokens(&lower, None));
    assert_ne!(
        kept.ids("An oasis", None).unwrap(),
        kept.ids("an oasis", None).unwrap(),
        "no first letter is raised"
    );
}

#[test]
fn chinese_without_its_table_is_an_error_that_names_it() {
    let mut files = fixture().files;
    files.remove("Cangjie5_TC.json");
    let front_end = TextFrontEnd::new(&ModelConfig::tiny_multilingual(), &files).unwrap();
    let error = front_end.script("明", &in_language("zh")).unwrap_err();
    assert!(error.to_string().contains("Cangjie5_TC.json"), "{error}");
    front_end.script("明 Anna", &in_language("de")).unwrap();
}

#[test]
fn mixed_scripts_and_right_to_left_text_lose_nothing() {
    let front_end = front_end();
    for (language, text) in [
        ("de", "Anna und Ahmad haben am 3. Mai Tee getrunken."),
        ("ar", "مرحبا Anna، كيف الحال؟"),
        ("he", "אנה אמרה: Hello, ואז הלכה."),
        ("ru", "Анна сказала: «Hello», и ушла."),
        ("hi", "अन्ना ने कहा: Hello।"),
        ("ko", "안나는 Hello라고 말했다."),
    ] {
        let script = front_end.script(text, &in_language(language)).unwrap();
        let written: String = (script.into_sentences().iter())
            .map(|sentence| format!("{} ", sentence.written))
            .collect();
        assert_eq!(written.trim(), text, "{language}");
    }
}

#[test]
fn unknown_characters_are_warned_of_and_refused_on_request() {
    let front_end = front_end();
    let script = front_end.script("Anna 𓀀 da.", &in_language("de")).unwrap();
    assert_eq!(script.warnings.len(), 1, "{:?}", script.warnings);
    assert_eq!(script.warnings[0].character, "𓀀");
    let options = TextOptions {
        unreadable: Unreadable::Refuse,
        ..in_language("de")
    };
    assert!(front_end.script("Anna 𓀀 da.", &options).is_err());
}

#[test]
fn numbers_become_words_in_english_alone_and_on_request() {
    let front_end = front_end();
    let said = |language: &str, normalise| {
        let options = TextOptions {
            normalise,
            ..in_language(language)
        };
        let script = front_end.script("Anna 42", &options).unwrap();
        let warnings = script.warnings.len();
        (script.into_sentences().remove(0).text, warnings)
    };
    assert_eq!(said("en", Normalise::Auto), ("Anna 42".into(), 0));
    assert_eq!(said("en", Normalise::On), ("Anna forty two".into(), 0));
    assert_eq!(said("de", Normalise::Auto), ("Anna 42".into(), 0));
    assert_eq!(said("de", Normalise::On), ("Anna 42".into(), 1));
}

#[test]
fn a_text_without_spaces_is_cut_after_its_marks_and_within_the_limit() {
    let front_end = front_end();
    let text = "明日朋月明日朋月，".repeat(100);
    let sentences = front_end
        .script(&text, &in_language("zh"))
        .unwrap()
        .into_sentences();
    let most = ModelConfig::tiny_multilingual().text.token_count_max;
    assert!(sentences.len() > 10);
    let said: String = sentences
        .iter()
        .map(|sentence| sentence.text.as_str())
        .collect();
    assert_eq!(said, text);
    for sentence in &sentences {
        assert!(
            sentence.tokens.len() <= most + 2,
            "{}",
            sentence.tokens.len()
        );
        assert!(sentence.text.ends_with('，'), "{:?}", sentence.text);
    }
}

#[test]
fn a_hundred_thousand_characters_without_a_mark_lose_nothing() {
    let front_end = front_end();
    for (language, character) in [("ja", "山"), ("zh", "明"), ("ar", "م")] {
        let text = character.repeat(100_000);
        let script = front_end.script(&text, &in_language(language)).unwrap();
        let sentences = script.into_sentences();
        let written: usize = (sentences.iter())
            .map(|sentence| sentence.text.matches(character).count())
            .sum();
        assert_eq!(written, 100_000, "{language}");
    }
}

/// Ids that would have to be inserted, removed or replaced to make one list of another.
#[cfg(all(feature = "chinese", feature = "japanese"))]
fn distance(left: &[u32], right: &[u32]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, id) in left.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (place, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(id != other);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[right.len()]
}

/// Holds the sentences of `reference/dictionaries.py` against their ids: readings and words are
/// those of other dictionaries than the reference's, so that a few differ.
#[cfg(all(feature = "chinese", feature = "japanese"))]
fn compare_dictionaries(fixture: &Fixture) {
    let config = ModelConfig::multilingual(&["ja", "zh"]);
    let front_end = TextFrontEnd::new(&config, &fixture.files).unwrap();
    for (language, lines) in &fixture.lines {
        let (mut different, mut all) = (0, 0);
        for (text, expected) in lines {
            let found = front_end.ids(text, Some(language)).unwrap();
            let ids = distance(&found, expected);
            if ids > 0 {
                println!("{language} {ids}: {text}");
            }
            (different, all) = (different + ids, all + expected.len());
        }
        let equal = 1.0 - different as f64 / all as f64;
        println!("{language}: {} sentences, {equal:.4} equal", lines.len());
        assert!(equal >= 0.98, "{language}: {equal}");
    }
}

#[cfg(all(feature = "chinese", feature = "japanese"))]
#[test]
fn dictionaries_give_nearly_all_of_the_references_ids() {
    let fixture = serde_json::from_str(include_str!("fixtures/dictionaries.json")).unwrap();
    compare_dictionaries(&fixture);
}

/// `TEXT_EXPECTED` names a file of `reference/dictionaries.py`.
#[cfg(all(feature = "chinese", feature = "japanese"))]
#[test]
#[ignore = "needs a file of reference/dictionaries.py"]
#[allow(
    clippy::disallowed_methods,
    reason = "a file that only a developer has"
)]
fn dictionaries_give_nearly_all_of_the_references_ids_of_a_file() {
    let path = std::env::var_os("TEXT_EXPECTED").expect("TEXT_EXPECTED names a file");
    compare_dictionaries(&serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap());
}

#[test]
fn a_build_without_a_dictionary_says_what_a_text_loses() {
    let front_end = front_end();
    for (language, text, has, word) in [
        (
            "ja",
            "明日、朋。",
            cfg!(feature = "japanese"),
            "kanji have no reading",
        ),
        (
            "zh",
            "明日，朋月。",
            cfg!(feature = "chinese"),
            "words are not separated",
        ),
    ] {
        let script = front_end.script(text, &in_language(language)).unwrap();
        let said = |word: &str| (script.warnings.iter()).any(|found| found.message.contains(word));
        assert_eq!(said(word), !has, "{:?}", script.warnings);
        assert_eq!(script.into_sentences()[0].written, text);
    }
    let kana = front_end
        .script("かな、カナ。", &in_language("ja"))
        .unwrap();
    let lost = |found: &sottovoce_chatterbox::text::Warning| found.message.contains("dictionary");
    assert!(!kana.warnings.iter().any(lost), "{:?}", kana.warnings);
}
