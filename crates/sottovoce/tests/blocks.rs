//! Streams of a model that decodes in blocks.

#[allow(dead_code, reason = "what only other tests use")]
mod common;

use sottovoce::{
    Engine, EngineOptions, ModelConfig, Source, Stream, StreamOptions, Voice, VoiceSource,
};

const TEXT: &str = "Two boats. And then seven more, all of them red.";

fn config() -> ModelConfig {
    let mut config = ModelConfig::tiny_flash();
    config.voice.prompt.flow_seconds_max = 0.4;
    config.t3.sampling.token_count_max = 40;
    config
}

fn load(options: EngineOptions) -> (Engine, Voice) {
    let engine = Engine::load(Source::Random(Box::new(config())), options).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    (engine, voice)
}

fn options() -> EngineOptions {
    EngineOptions {
        threads: Some(1),
        streams_max: 3,
        ..EngineOptions::default()
    }
}

fn seeded(seed: u64) -> StreamOptions {
    StreamOptions {
        seed,
        ..StreamOptions::default()
    }
}

fn samples(stream: Stream) -> Vec<f32> {
    stream.flat_map(|chunk| chunk.unwrap().samples).collect()
}

#[test]
fn streams_together_sound_as_they_do_alone_within_their_plan() {
    let (engine, voice) = load(options());
    let speak = |seed| engine.stream(TEXT, &voice, seeded(seed)).unwrap();
    let alone: Vec<Vec<f32>> = (1..4).map(|seed| samples(speak(seed))).collect();
    assert!(alone.iter().all(|samples| samples.len() > 960));
    assert_ne!(alone[0], alone[1], "the seed");
    assert_eq!(samples(speak(1)), alone[0]);
    let together: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let readers: Vec<_> = (1..4)
            .map(|seed| {
                let stream = speak(seed);
                scope.spawn(move || samples(stream))
            })
            .collect();
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect()
    });
    assert!(together == alone);
    let (report, plan) = (engine.memory_report(), engine.plan());
    let (peak, planned) = (report.reserved_peak_bytes, plan.total_bytes(3));
    assert!(peak <= planned, "{peak} bytes held of {planned}");
}

#[test]
fn at_temperature_zero_only_the_sound_depends_on_the_seed() {
    let (engine, voice) = load(options());
    let tokens = |seed, temperature| {
        let options = StreamOptions {
            temperature: Some(temperature),
            ..seeded(seed)
        };
        let chunks: Vec<_> = (engine.stream(TEXT, &voice, options).unwrap())
            .map(Result::unwrap)
            .collect();
        chunks.last().unwrap().metrics.tokens
    };
    assert_eq!(tokens(1, 0.0), tokens(2, 0.0));
    assert!(tokens(1, 0.0) > 0);
}

#[test]
fn a_limit_of_tokens_is_kept_in_the_middle_of_a_block() {
    let (engine, voice) = load(options());
    for most in [1, 15, 17, 20] {
        let options = StreamOptions {
            sentence_tokens_max: Some(most),
            ..seeded(5)
        };
        let sound = samples(engine.stream("Boats.", &voice, options).unwrap());
        assert!(
            sound.len() <= most * 960,
            "{} samples of {most} tokens",
            sound.len()
        );
    }
}

#[test]
fn options_of_other_models_are_told_to_have_no_effect() {
    let (engine, voice) = load(options());
    let options = StreamOptions {
        top_p: Some(0.5),
        repetition_penalty: Some(2.0),
        min_p: Some(0.2),
        alignment_watch: true,
        word_times: true,
        cfg_weight: Some(0.5),
        ..seeded(1)
    };
    let stream = engine.stream("One.", &voice, options).unwrap();
    assert_eq!(
        stream.options_without_effect(),
        [
            "top_p",
            "min_p",
            "repetition_penalty",
            "alignment_watch",
            "word_times"
        ]
    );
}

#[test]
fn an_official_folder_is_known_by_its_t3_and_needs_a_voice() {
    let folder = tempfile::tempdir().unwrap();
    common::write_model(folder.path(), &config());
    let path = |name: &str| folder.path().join(name);
    std::fs::rename(path(common::T3_FILE), path("t3_flash.safetensors")).unwrap();
    let engine = Engine::load(Source::Directory(folder.path().to_owned()), options()).unwrap();
    assert!(engine.voice(VoiceSource::Default).is_err());
    let clip = VoiceSource::ClipBytes {
        name: "clip.wav".into(),
        bytes: common::clip(3.0, 24_000),
    };
    let voice = engine.voice(clip).unwrap();
    assert!(!samples(engine.stream("Boats.", &voice, seeded(1)).unwrap()).is_empty());
    // Without a config of its own it has the official sizes.
    std::fs::remove_file(path("config.json")).unwrap();
    let refused = Engine::load(Source::Directory(folder.path().to_owned()), options());
    let message = refused.err().unwrap().to_string();
    assert!(
        message.contains("8194") || message.contains("1024"),
        "{message}"
    );
}
