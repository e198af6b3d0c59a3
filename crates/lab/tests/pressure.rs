//! Memory pressure through the whole engine, with a fault at each driver call: loading, a voice
//! from a recording, two concurrent streams whose sentences exceed their likely length, and a
//! switch of voices.

use sottovoce::{EngineOptions, ModelConfig, Source};
use sottovoce_lab::validate::{Pressure, ValidateOptions, pressure};

fn pressed(source: Source, faults_max: usize) -> Pressure {
    let options = ValidateOptions {
        source,
        engine: EngineOptions {
            threads: Some(1),
            ..EngineOptions::default()
        },
        audio_seconds: 1.0,
        voices: 1,
        switches: 1,
        streams: 1,
        streams_in_budget: 1,
        faults_max,
        sentence_tokens_max: None,
    };
    pressure(&options, &mut |_| {}).unwrap()
}

fn check(pressure: &Pressure) {
    let said = format!("{pressure:#?}");
    assert!(
        pressure.minimum_works && pressure.one_page_less_refused,
        "{said}"
    );
    assert!(
        pressure.one_page_less.contains("bytes") || pressure.one_page_less.contains("MiB"),
        "{said}"
    );
    let devices: Vec<_> = pressure
        .devices
        .iter()
        .map(|device| device.device.as_str())
        .collect();
    assert_eq!(devices, ["host", "simulated"]);
    for faults in pressure.devices.iter().flat_map(|device| &device.faults) {
        assert!(faults.held && faults.runs > 0, "{said}");
    }
    assert!(pressure.held, "{said}");
}

#[test]
fn every_stream_of_the_programs_own_voice_finishes_the_same_or_ends_with_its_error() {
    check(&pressed(Source::Embedded, 4));
}

#[test]
fn every_stream_in_a_recordings_voice_finishes_the_same_or_ends_with_its_error() {
    let mut config = ModelConfig::tiny_base();
    // Random weights never end a sentence, so that it exceeds its likely length.
    config.t3.sampling.token_count_max = 140;
    config.voice.prompt.flow_seconds_max = 1.0;
    check(&pressed(Source::Random(Box::new(config)), 8));
}
