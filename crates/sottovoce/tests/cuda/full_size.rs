//! Models of full size on a card, against the processor. The stand-in runs every thread of every
//! kernel: a minute or more of work each, so on request only.

use cuda_stand_in::client::StandIn;
use sottovoce::{
    DeviceChoice, Engine, EngineOptions, PrecisionChoice, Source, StreamOptions, Variant,
    VoiceSource,
};
use std::time::Instant;

/// Samples of one chunk of at most so many speech tokens.
fn say(variant: Variant, tokens: usize, device: DeviceChoice) -> Vec<f32> {
    let started = Instant::now();
    let options = EngineOptions {
        device,
        precision: PrecisionChoice::F16,
        streams_max: 1,
        chunk_tokens_max: Some(tokens),
        context_tokens_max: tokens,
        ..EngineOptions::default()
    };
    let engine = Engine::load(Source::Synthetic(variant), options).unwrap();
    let loaded = started.elapsed();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let options = StreamOptions {
        seed: 7,
        temperature: Some(0.0),
        sentence_tokens_max: Some(tokens),
        chunk_size: Some(tokens),
        context_window: 0,
        prompt_tokens: Some(10),
        ..StreamOptions::default()
    };
    let mut samples = Vec::new();
    for chunk in engine.stream("Go on.", &voice, options).unwrap() {
        samples.extend(chunk.unwrap().samples);
    }
    println!(
        "{device}: {} samples in {:.0} s, after {:.0} s of loading",
        samples.len(),
        (started.elapsed() - loaded).as_secs_f64(),
        loaded.as_secs_f64()
    );
    samples
}

/// The tests run side by side, each on a card of its own. Of generation 9.0 fine attention is on
/// the matrix units as well.
fn expect_the_same_on_a_card(
    ordinal: u32,
    generation: &str,
    variant: Variant,
    tokens: usize,
    memory: u64,
) {
    let settings = format!("memory={memory} order=shuffled:3 {generation}");
    let card = StandIn::new(ordinal, &settings);
    let expected = say(variant, tokens, DeviceChoice::Cpu);
    let samples = say(variant, tokens, DeviceChoice::Cuda(card.ordinal()));
    assert_eq!(samples.len(), expected.len());
    let square = |value: f32| f64::from(value).powi(2);
    let off: f64 = (samples.iter().zip(&expected))
        .map(|(a, b)| square(a - b))
        .sum();
    let whole: f64 = expected.iter().map(|&value| square(value)).sum();
    let difference = (off / whole).sqrt();
    println!("relative L2 of the samples: {difference:.2e}");
    assert!(difference < 1e-3, "{difference:.2e}");
}

#[test]
#[ignore = "a minute of work"]
fn nano_at_full_size_speaks_on_a_card_as_on_the_processor() {
    expect_the_same_on_a_card(50, "generation=90", Variant::Nano, 15, 4 << 30);
}

#[test]
#[ignore = "minutes of work, 4 GB of memory"]
fn base_at_full_size_speaks_on_a_card_as_on_the_processor() {
    expect_the_same_on_a_card(51, "", Variant::Base, 2, 6 << 30);
}

#[test]
#[ignore = "minutes of work, 2 GB of memory"]
fn turbo_at_full_size_speaks_on_a_card_as_on_the_processor() {
    expect_the_same_on_a_card(52, "", Variant::Turbo, 4, 4 << 30);
}
