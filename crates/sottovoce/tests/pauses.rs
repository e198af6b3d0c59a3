//! Pauses in the text, and texts without words.

use sottovoce::options::{Normalise, Unreadable};
use sottovoce::{
    Engine, EngineOptions, SAMPLE_RATE, Source, StreamOptions, TOKENS_PER_SECOND, Voice,
    VoiceSource,
};
use std::ops::Range;
use std::sync::LazyLock;

/// A pause of unspecified length: 0.4 s.
const USUAL: usize = 9_600;

static ENGINE: LazyLock<(Engine, Voice)> = LazyLock::new(|| {
    let engine = Engine::load(Source::Embedded, EngineOptions::default()).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    (engine, voice)
});

fn spoken_with(text: &str, options: StreamOptions) -> Vec<f32> {
    let (engine, voice) = &*ENGINE;
    let stream = engine.stream(text, voice, options).unwrap();
    stream.flat_map(|chunk| chunk.unwrap().samples).collect()
}

fn spoken(text: &str) -> Vec<f32> {
    spoken_with(text, StreamOptions::default())
}

/// Speaks a text that arrives in pieces.
fn written(pieces: impl Iterator<Item = String>) -> Vec<f32> {
    let (engine, voice) = &*ENGINE;
    let stream = engine.open_stream(voice, StreamOptions::default()).unwrap();
    let text = stream.text();
    for piece in pieces {
        text.push(&piece).unwrap();
    }
    text.finish();
    stream.flat_map(|chunk| chunk.unwrap().samples).collect()
}

fn letters(text: &str) -> impl Iterator<Item = String> {
    text.chars().map(String::from)
}

/// Ranges of at least a tenth of a second of silence.
fn silences(samples: &[f32]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (at, sample) in samples.iter().enumerate() {
        match found.last_mut() {
            _ if *sample != 0.0 => {}
            Some(last) if last.end == at => last.end += 1,
            _ => found.push(at..at + 1),
        }
    }
    found.retain(|silence| silence.len() >= SAMPLE_RATE as usize / 10);
    found
}

#[test]
fn a_pause_has_exactly_the_samples_asked_for_and_changes_nothing_else() {
    let text = |pause: &str| format!("We waited for the boat. {pause} Then it came.");
    let half = spoken(&text("[pause:500ms]"));
    let [silence]: [Range<usize>; 1] = silences(&half).try_into().unwrap();
    // The fade-in starts with a zero sample.
    assert!((12_000..=12_001).contains(&silence.len()), "{silence:?}");
    for (pause, samples) in [
        ("<break time=\"1s\"/>", 24_000),
        ("[pause:1.001s]", 24_024),
        ("\n\n", USUAL),
        ("…\n\n***\n\n", USUAL),
    ] {
        let other = spoken(&text(pause));
        assert_eq!(other.len() - samples, half.len() - 12_000, "{pause:?}");
        assert!(other[..silence.start] == half[..silence.start], "{pause:?}");
        let after = silence.start + samples;
        assert!(
            other[after..] == half[silence.start + 12_000..],
            "{pause:?}"
        );
    }
}

#[test]
fn pauses_are_the_same_however_the_text_comes_and_however_fast_it_is_spoken() {
    let text = "[pause:0.3s]We waited for the boat.\n\nThen it came. [pause:700ms]\n\n👍 Nobody had \
                seen it before. <break time='1s'/>";
    let whole = spoken(text);
    let lengths = |samples: &[f32]| -> Vec<usize> {
        silences(samples)
            .iter()
            .map(|silence| silence.len() / 24)
            .collect()
    };
    assert_eq!(lengths(&whole), [300, 400, 700, 1000]);
    let options = |chunk_size, speed| StreamOptions {
        chunk_size,
        speed,
        ..StreamOptions::default()
    };
    assert_eq!(spoken_with(text, options(Some(5), 1.0)).len(), whole.len());
    assert_eq!(
        lengths(&spoken_with(text, options(None, 2.0))),
        lengths(&whole)
    );
    let written = written(letters(text));
    assert_eq!(written.len(), whole.len());
    assert_eq!(lengths(&written), lengths(&whole));
}

#[test]
fn a_text_without_words_is_one_short_silence_and_an_empty_one_an_error() {
    for text in ["👍", "…", "-", "***", "?!—", "\u{0}", "[pause]"] {
        for samples in [spoken(text), written(letters(text))] {
            assert_eq!(samples.len(), USUAL, "{text:?}");
            assert!(samples.iter().all(|sample| *sample == 0.0), "{text:?}");
        }
    }
    let (engine, voice) = &*ENGINE;
    for text in ["", " \n\t", "\u{200b}"] {
        let refusal = engine.stream(text, voice, StreamOptions::default());
        assert!(refusal.is_err_and(|error| error.is_input()), "{text:?}");
    }
    assert!(written(letters(" \n")).is_empty());
}

#[test]
fn a_long_pause_comes_in_chunks_no_larger_than_those_of_speech() {
    let (engine, voice) = &*ENGINE;
    let options = StreamOptions {
        chunk_size: Some(10),
        ..StreamOptions::default()
    };
    let stream = engine.stream("[pause:20s]", voice, options).unwrap();
    let chunks: Vec<usize> = stream.map(|chunk| chunk.unwrap().samples.len()).collect();
    assert_eq!(chunks.iter().sum::<usize>(), 20 * SAMPLE_RATE as usize);
    let most = 10 * (SAMPLE_RATE / TOKENS_PER_SECOND) as usize;
    assert!(chunks.iter().all(|chunk| *chunk <= most), "{chunks:?}");
}

#[test]
fn what_is_passed_over_is_told_with_its_line_and_refused_where_that_is_asked_for() {
    let (engine, voice) = &*ENGINE;
    let text = "A plain line.\n\nThis has 漢 in it.";
    let mut stream = engine
        .stream(text, voice, StreamOptions::default())
        .unwrap();
    stream.next().unwrap().unwrap();
    let warnings = stream.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!((warnings[0].line, &*warnings[0].character), (3, "漢"));
    let mut stream = engine.open_stream(voice, StreamOptions::default()).unwrap();
    for letter in letters(text) {
        stream.text().push(&letter).unwrap();
    }
    // What a piece repeats is not told again.
    stream.text().push("\nAnd 漢 once more.").unwrap();
    stream.text().finish();
    assert!(stream.by_ref().all(|chunk| chunk.is_ok()));
    assert_eq!(stream.warnings(), warnings);
    let refusing = StreamOptions {
        unreadable: Unreadable::Refuse,
        ..StreamOptions::default()
    };
    let refusal = engine.stream(text, voice, refusing).unwrap().next();
    let message = refusal.unwrap().unwrap_err().to_string();
    assert!(message.contains('漢'), "{message}");
}

#[test]
fn whether_numbers_become_words_is_an_option() {
    let options = |normalise| StreamOptions {
        normalise,
        ..StreamOptions::default()
    };
    let said = |normalise| spoken_with("It took 12 days.", options(normalise));
    let words = spoken("It took twelve days.");
    assert!(said(Normalise::Auto) == words && said(Normalise::On) == words);
    assert!(said(Normalise::Off) != words);
}
