//! A model of full size on a card, against the processor. The stand-in runs every thread of every
//! kernel: minutes of work, so on request only.

use cuda_stand_in::client::StandIn;
use sottovoce::{
    DeviceChoice, Engine, EngineOptions, PrecisionChoice, Source, StreamOptions, Variant,
    VoiceSource,
};
use std::time::Instant;

/// Speech tokens: one chunk.
const TOKENS: usize = 15;

fn say(device: DeviceChoice) -> Vec<f32> {
    let started = Instant::now();
    let options = EngineOptions {
        device,
        precision: PrecisionChoice::F16,
        streams_max: 1,
        chunk_tokens_max: Some(TOKENS),
        context_tokens_max: TOKENS,
        ..EngineOptions::default()
    };
    let engine = Engine::load(Source::Synthetic(Variant::Nano), options).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let options = StreamOptions {
        seed: 7,
        temperature: Some(0.0),
        sentence_tokens_max: Some(TOKENS),
        chunk_size: Some(TOKENS),
        context_window: 0,
        prompt_tokens: Some(10),
        ..StreamOptions::default()
    };
    let mut samples = Vec::new();
    for chunk in engine.stream("Go on.", &voice, options).unwrap() {
        samples.extend(chunk.unwrap().samples);
    }
    println!(
        "{device}: {} samples in {:.0} s",
        samples.len(),
        started.elapsed().as_secs_f64()
    );
    samples
}

#[test]
#[ignore = "minutes of work"]
fn nano_at_full_size_speaks_on_a_card_as_on_the_processor() {
    let card = StandIn::new(40, "memory=4294967296 order=shuffled:3");
    let expected = say(DeviceChoice::Cpu);
    let samples = say(DeviceChoice::Cuda(card.ordinal()));
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
