//! Times of words in the delivered sound.

use sottovoce::{
    Chunk, DeliveryMode, Engine, EngineOptions, ModelConfig, SAMPLE_RATE, Source, StreamOptions,
    Voice, VoiceSource, WordTime,
};
use sottovoce_chatterbox::t3::{AlignedWord, T3, VoiceConditioning, WordAligner};
use sottovoce_chatterbox::text::TextFrontEnd;
use sottovoce_chatterbox::voice::PreparedVoice;
use sottovoce_chatterbox::weights::{Component, WeightSource, load};
use sottovoce_memory::{Memory, Owner, Region};
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{CachePrecision, Context, Precision, Threads, Workspace};
use std::path::Path;
use std::sync::{Arc, LazyLock};

const TEXT: &str = "“Dr. Smith paid $1,250.75,” she said.\n\nThen — at 5 p.m. — [pause:700ms] we all \
    went home, and nobody spoke of the forty-two boats again.";
const WORDS: [&str; 21] = [
    "Dr.",
    "Smith",
    "paid",
    "$1,250.75",
    "she",
    "said",
    "Then",
    "at",
    "5 p.m.",
    "we",
    "all",
    "went",
    "home",
    "and",
    "nobody",
    "spoke",
    "of",
    "the",
    "forty-two",
    "boats",
    "again",
];

static ENGINE: LazyLock<(Engine, Voice)> = LazyLock::new(|| {
    let options = EngineOptions {
        whole_tokens_max: Some(256),
        ..EngineOptions::default()
    };
    let engine = Engine::load(Source::Embedded, options).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    (engine, voice)
});

fn options(delivery: DeliveryMode, speed: f32) -> StreamOptions {
    StreamOptions {
        word_times: true,
        delivery: Some(delivery),
        speed,
        ..StreamOptions::default()
    }
}

fn spoken(text: &str, options: StreamOptions) -> Vec<Chunk> {
    let (engine, voice) = &*ENGINE;
    let stream = engine.stream(text, voice, options).unwrap();
    stream.map(Result::unwrap).collect()
}

fn words(chunks: &[Chunk]) -> Vec<WordTime> {
    chunks
        .iter()
        .flat_map(|chunk| chunk.words.clone())
        .collect()
}

fn samples(chunks: &[Chunk]) -> Vec<f32> {
    let samples = chunks.iter().flat_map(|chunk| &chunk.samples);
    samples.copied().collect()
}

/// The characters of a text that a word names.
fn named(text: &str, word: &WordTime) -> String {
    let characters = text.chars().skip(word.text_start);
    characters.take(word.text_end - word.text_start).collect()
}

/// Loudness of a part of the sound.
fn power(samples: &[f32], seconds: std::ops::Range<f64>) -> f32 {
    let place = |seconds: f64| (seconds * f64::from(SAMPLE_RATE)) as usize;
    let part = &samples[place(seconds.start)..place(seconds.end).min(samples.len())];
    part.iter().map(|sample| sample * sample).sum::<f32>() / part.len().max(1) as f32
}

#[test]
fn each_written_word_is_told_once_with_its_place_in_the_text_and_in_the_sound() {
    for delivery in [DeliveryMode::Stream, DeliveryMode::Whole] {
        for speed in [1.0, 1.3] {
            let chunks = spoken(TEXT, options(delivery, speed));
            let all = words(&chunks);
            let written: Vec<&str> = all.iter().map(|word| &*word.word).collect();
            assert_eq!(written, WORDS, "{delivery:?} {speed}");
            let samples = samples(&chunks);
            let seconds = samples.len() as f64 / f64::from(SAMPLE_RATE);
            let mut end = 0.0;
            for word in &all {
                assert_eq!(named(TEXT, word), word.word);
                assert!(word.start >= end && word.end > word.start, "{all:?}");
                end = word.end;
            }
            assert!(end <= seconds);
            // A word comes with the chunk in which it begins, or later.
            let mut delivered = 0;
            for chunk in &chunks {
                delivered += chunk.samples.len();
                let until = delivered as f64 / f64::from(SAMPLE_RATE);
                assert!(chunk.words.iter().all(|word| word.start <= until));
            }
            // The pause of 0.7 s and that between the paragraphs lie between words.
            let pauses = [("said", "Then", 0.4), ("5 p.m.", "we", 0.7)];
            for (before, after, pause) in pauses {
                let at = written.iter().position(|word| *word == before).unwrap();
                assert_eq!(written[at + 1], after);
                let gap = all[at + 1].start - all[at].end;
                assert!(gap > pause - 1e-6, "{before} {after}: {gap} s");
                let middle = (all[at].end + all[at + 1].start) / 2.0;
                let silence = power(&samples, middle - 0.1..middle + 0.1);
                assert!(silence < 1e-5, "{before} {after}: {silence}");
            }
            for word in ["paid", "home", "boats"] {
                let word = all.iter().find(|known| known.word == word).unwrap();
                assert!(power(&samples, word.start..word.end) > 1e-4, "{word:?}");
            }
        }
    }
}

#[test]
fn word_times_change_no_sample_and_are_told_only_when_asked_for() {
    for delivery in [DeliveryMode::Stream, DeliveryMode::Whole] {
        let told = spoken(TEXT, options(delivery, 1.0));
        let silent = StreamOptions {
            word_times: false,
            ..options(delivery, 1.0)
        };
        let silent = spoken(TEXT, silent);
        assert!(samples(&told) == samples(&silent));
        assert_eq!(words(&silent), []);
        assert_eq!(told.len(), silent.len());
    }
}

#[test]
fn both_deliveries_give_the_same_times() {
    let streamed = words(&spoken(TEXT, options(DeliveryMode::Stream, 1.0)));
    let whole = words(&spoken(TEXT, options(DeliveryMode::Whole, 1.0)));
    assert_eq!(streamed, whole);
}

#[test]
fn a_text_in_pieces_has_the_words_of_the_whole_at_the_same_characters() {
    let (engine, voice) = &*ENGINE;
    let text = format!(
        "The first sentence is here.{}The second one came soon after it.\n\nThe third one is last.",
        " ".repeat(700)
    );
    let whole = words(&spoken(&text, options(DeliveryMode::Stream, 1.0)));
    for size in [1, 20, 2000] {
        let options = options(DeliveryMode::Stream, 1.0);
        let stream = engine.open_stream(voice, options).unwrap();
        let writer = stream.text();
        let characters: Vec<char> = text.chars().collect();
        for piece in characters.chunks(size) {
            writer.push(&piece.iter().collect::<String>()).unwrap();
        }
        writer.finish();
        let chunks: Vec<Chunk> = stream.map(Result::unwrap).collect();
        assert_eq!(words(&chunks), whole, "pieces of {size}");
        assert!(whole.iter().all(|word| named(&text, word) == word.word));
    }
}

#[test]
fn streams_side_by_side_have_their_own_words() {
    let (engine, voice) = &*ENGINE;
    let texts = [
        "One two three four five.",
        "The boats came home again.",
        "A last text.",
    ];
    let alone: Vec<Vec<WordTime>> = (texts.iter())
        .map(|text| words(&spoken(text, options(DeliveryMode::Stream, 1.0))))
        .collect();
    let together: Vec<Vec<WordTime>> = std::thread::scope(|scope| {
        let readers = texts.map(|text| {
            scope.spawn(move || {
                let options = options(DeliveryMode::Stream, 1.0);
                let stream = engine.stream(text, voice, options).unwrap();
                words(&stream.map(Result::unwrap).collect::<Vec<_>>())
            })
        });
        readers.map(|reader| reader.join().unwrap()).into()
    });
    assert_eq!(together, alone);
}

#[test]
fn a_text_without_words_has_none() {
    assert_eq!(
        words(&spoken(
            "… [pause:1s] ***",
            options(DeliveryMode::Stream, 1.0)
        )),
        []
    );
}

/// A sentence that pico spoke, and which of its speech tokens are the phones of each word: see
/// `training/alignment.py`.
#[derive(serde::Deserialize)]
struct Truth {
    text: String,
    speech: Vec<u32>,
    words: Vec<[usize; 2]>,
}

#[test]
fn words_are_within_60_milliseconds_of_picos_own_phones() {
    let truth = include_str!("fixtures/pico_words.json");
    let truth: Vec<Truth> = serde_json::from_str(truth).unwrap();
    let memory = Memory::host(1 << 30);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/pico");
    let source = WeightSource::open(&folder).unwrap();
    let config = source.config().clone();
    let front_end = TextFrontEnd::new(&config, &source).unwrap();
    let t3 = load(&source, Component::T3, Precision::Int8, &memory, |loader| {
        T3::load(loader, &config.t3, config.text_token_count_max())
    });
    let t3 = t3.unwrap().network;
    let store = t3.store(&memory, CachePrecision::F16, 1000);
    let workspace = Workspace::pooled(&memory, "words");
    let cpu = Cpu::new(Threads::new(1));
    let ctx = Context::new(&workspace, &cpu);
    let voice = std::fs::read(folder.join("voice.safetensors")).unwrap();
    let voice = PreparedVoice::read(&voice, &config).unwrap();
    let conditioning = VoiceConditioning {
        speaker_embedding: &voice.speaker_embedding,
        prompt_tokens: &voice.t3_prompt_tokens,
    };
    let owner = Owner::new(Region::Voice, "prefix");
    let prefix = Arc::new(t3.prefix(&ctx, &store, owner, &conditioning, 0.0).unwrap());
    let mut errors: Vec<f64> = Vec::new();
    for truth in &truth {
        let [sentence] = &front_end.sentences(&truth.text).unwrap()[..] else {
            panic!("{:?} is one sentence", truth.text);
        };
        let owner = Owner::new(Region::KeyValue, "state");
        let mut state = t3.state(&store, owner, prefix.clone());
        state.watch_alignment(true);
        let forced = t3.teacher_forced(&ctx, &mut state, &sentence.tokens, &truth.speech);
        forced.unwrap();
        let tokens = sentence.words.iter().map(|word| word.tokens.clone());
        let mut aligner = WordAligner::new(tokens.collect(), sentence.tokens.len());
        let rows = state.alignment().unwrap().rows();
        let mut found: Vec<AlignedWord> = rows.flat_map(|row| aligner.see(row)).collect();
        found.extend(aligner.finish());
        assert_eq!(found.len(), truth.words.len(), "{:?}", truth.text);
        for (found, [start, end]) in found.iter().zip(&truth.words) {
            for (found, true_place) in [(found.speech.start, start), (found.speech.end, end)] {
                errors.push(found.abs_diff(*true_place) as f64 * 0.04);
            }
        }
    }
    errors.sort_by(f64::total_cmp);
    let median = errors[errors.len() / 2];
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    println!(
        "{} borders: median {median:.3} s, mean {mean:.3} s",
        errors.len()
    );
    assert!(
        errors.len() > 300 && median <= 0.06 && mean <= 0.06,
        "median {median} s, mean {mean} s"
    );
}

/// Nano's heads are not published; whoever has found them states them in the model's config.
#[test]
fn stated_alignment_heads_give_a_model_word_times() {
    let mut config = ModelConfig::tiny_turbo();
    let load = |config: &ModelConfig| {
        let source = Source::Random(Box::new(config.clone()));
        Engine::load(source, EngineOptions::default()).unwrap()
    };
    let times = options(DeliveryMode::Stream, 1.0);
    let engine = load(&config);
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let stream = engine
        .stream("We went home.", &voice, times.clone())
        .unwrap();
    assert!(stream.options_without_effect().contains(&"word_times"));
    drop((stream, voice, engine));
    config.t3.alignment_heads = Some(vec![[0, 1]].try_into().unwrap());
    let engine = load(&config);
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let stream = engine.stream("We went home.", &voice, times).unwrap();
    assert!(stream.options_without_effect().is_empty());
    let chunks: Vec<Chunk> = stream.map(Result::unwrap).collect();
    let spoken: Vec<String> = words(&chunks).into_iter().map(|word| word.word).collect();
    assert_eq!(spoken, ["We", "went", "home"]);
}
