//! Unusable devices: one sentence with the numbers and the remedy, and `auto` falls back.

use crate::scene::{options, source, stream};
use cuda_stand_in::client::StandIn;
use sottovoce::{DeviceChoice, Engine, EngineOptions, Error, ModelConfig, Source, VoiceSource};

fn refused(options: EngineOptions) -> Error {
    match Engine::load(source(), options) {
        Ok(_) => panic!("it loaded"),
        Err(error) => error,
    }
}

fn assert_says(error: &Error, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} in {text:?}");
    }
    assert!(!text.contains('\n'), "{text}");
}

#[test]
fn a_device_that_is_not_there_is_named_with_their_number() {
    let device = StandIn::new(20, "");
    let options = EngineOptions {
        device: DeviceChoice::Cuda(64),
        ..options(device)
    };
    assert_says(
        &refused(options),
        &["no CUDA device 64", "64", "device cpu"],
    );
}

#[test]
fn a_card_that_is_too_small_or_busy_is_refused_with_what_it_has_free() {
    let device = StandIn::new(21, "memory=8388608");
    let error = refused(options(device));
    assert_says(&error, &["8.00 MiB", "are needed", "cuda:21 has free"]);
    let device = StandIn::new(21, "memory=1073741824 taken=1069547520");
    assert_says(&refused(options(device)), &["4.00 MiB", "cuda:21 has free"]);
    let given = EngineOptions {
        memory: Some(512 << 20),
        ..options(device)
    };
    assert_says(
        &refused(given),
        &["512.00 MiB were given", "all that cuda:21 has free"],
    );
    device.expect_clean("after the refusals");
}

#[test]
fn a_budget_too_small_for_the_device_itself_is_refused_as_any_other() {
    let device = StandIn::new(24, "memory=1073741824");
    for bytes in [1, 2_097_151] {
        let given = EngineOptions {
            memory: Some(bytes),
            ..options(device)
        };
        let budget = format!("({bytes} bytes) cannot hold it");
        let words = ["2097152 bytes", "before any model", "1024.00 MiB free"];
        assert_says(&refused(given), &[&[budget.as_str()], &words[..]].concat());
    }
    let device = StandIn::new(24, "memory=67108864 taken=66060288");
    assert_says(
        &refused(options(device)),
        &[
            "(1048576 bytes)",
            "2097152 bytes",
            "cuda:24 has 1024.00 KiB free",
        ],
    );
    device.expect_clean("after the refusals");
}

#[test]
fn a_budget_above_the_cards_memory_is_refused_with_both() {
    let device = StandIn::new(22, "memory=1073741824 taken=1048576");
    let options = EngineOptions {
        memory: Some(2 << 30),
        ..options(device)
    };
    let error = refused(options);
    assert_says(
        &error,
        &["2.00 GiB", "1024.00 MiB", "are free", "give at most"],
    );
    device.expect_clean("after the refusal");
}

#[test]
fn a_card_without_virtual_memory_management_speaks_the_same() {
    let speak = |settings: &str| {
        let device = StandIn::new(23, settings);
        let engine = Engine::load(source(), options(device)).unwrap();
        let voice = engine.voice(VoiceSource::Default).unwrap();
        let samples: Vec<f32> = (stream(&engine, &voice, 0).unwrap())
            .flat_map(|chunk| chunk.unwrap().samples)
            .collect();
        drop((voice, engine));
        device.expect_clean(settings);
        samples
    };
    assert!(speak("memory=1073741824") == speak("memory=1073741824 ranges=off"));
}

#[test]
fn no_more_streams_fit_than_a_step_on_the_card_takes() {
    let device = StandIn::new(25, "memory=274877906944");
    let options = EngineOptions {
        streams_max: 4096,
        ..options(device)
    };
    // Guidance makes two sequences of a stream, of which a launch takes 1,024.
    let plan = Engine::plan_for(&source(), &options).unwrap();
    assert_eq!(plan.streams_fit, 512);
    device.expect_clean("after the plan");
}

#[test]
fn heads_that_are_wider_than_the_kernels_take_are_refused_at_load() {
    let device = StandIn::new(26, "memory=1073741824");
    let mut config = ModelConfig::tiny_turbo();
    config.t3.backbone.head_size = 1024;
    let source = Source::Random(Box::new(config));
    let error = Engine::load(source, options(device)).map(drop).unwrap_err();
    assert_says(&error, &["channels of a head", "1024", "512 at most"]);
    device.expect_clean("after the refusal");
}
