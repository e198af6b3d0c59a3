//! The same seed, text, voice and precision give the same samples, whatever else is running.

use sottovoce::{
    Engine, EngineOptions, ModelConfig, PrecisionChoice, Profile, Source, StreamOptions,
    VoiceSource,
};

const TEXT: &str = "We counted forty two boats before it got dark. Then we went home.";
const OTHERS: [&str; 2] = [
    "Please put the milk back into the fridge when you are done.",
    "It rained all night, but the morning was clear.",
];
const PROFILES: [Profile; 5] = [
    Profile::Automatic,
    Profile::Aggressive,
    Profile::Balanced,
    Profile::Performance,
    Profile::None,
];

fn options(seed: u64) -> StreamOptions {
    StreamOptions {
        seed,
        sentence_tokens_max: Some(40),
        ..StreamOptions::default()
    }
}

/// Speaks alone and then beside others, and asserts equal samples.
fn samples(source: &Source, options_of_engine: EngineOptions) -> Vec<f32> {
    let engine = Engine::load(source.clone(), options_of_engine).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let speak = |text: &str, seed| -> Vec<f32> {
        let stream = engine.stream(text, &voice, options(seed)).unwrap();
        stream.flat_map(|chunk| chunk.unwrap().samples).collect()
    };
    let alone = speak(TEXT, 5);
    let beside = std::thread::scope(|scope| {
        for (seed, text) in OTHERS.into_iter().enumerate() {
            let speak = &speak;
            scope.spawn(move || speak(text, seed as u64));
        }
        speak(TEXT, 5)
    });
    assert!(alone == beside, "beside others it sounds different");
    alone
}

fn check(source: &Source, precision: PrecisionChoice) {
    let mut first: Option<Vec<f32>> = None;
    for (place, profile) in PROFILES.into_iter().enumerate() {
        let threads = 1 + place % 2;
        let spoken = samples(
            source,
            EngineOptions {
                precision,
                profile,
                threads: Some(threads),
                streams_max: 3,
                ..EngineOptions::default()
            },
        );
        assert!(!spoken.is_empty());
        match &first {
            Some(first) => assert!(
                *first == spoken,
                "with {profile:?} and {threads} threads it sounds different"
            ),
            None => first = Some(spoken),
        }
    }
}

#[test]
fn the_trained_voice_says_the_same_under_every_profile_and_number_of_threads() {
    for precision in [PrecisionChoice::F16, PrecisionChoice::Int8] {
        check(&Source::Embedded, precision);
    }
}

#[test]
fn a_model_with_guidance_says_the_same_too() {
    for precision in [PrecisionChoice::F32, PrecisionChoice::Int8] {
        check(
            &Source::Random(Box::new(ModelConfig::tiny_base())),
            precision,
        );
    }
}

#[test]
fn and_so_does_one_with_a_prompt_and_a_mean_flow() {
    for precision in [PrecisionChoice::F16, PrecisionChoice::Q4] {
        check(
            &Source::Random(Box::new(ModelConfig::tiny_turbo())),
            precision,
        );
    }
}
