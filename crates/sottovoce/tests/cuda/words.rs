//! Word times on a device: the alignment heads note there what they note on the processor.

use crate::scene::one_stream;
use cuda_stand_in::client::StandIn;
use sottovoce::{DeviceChoice, Engine, Source, StreamOptions, VoiceSource, WordTime};

const TEXT: &str = "Forty-two boats came.";

fn words(device: DeviceChoice) -> Vec<WordTime> {
    let engine = Engine::load(Source::Embedded, one_stream(device)).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let options = StreamOptions {
        seed: 3,
        temperature: Some(0.0),
        word_times: true,
        ..StreamOptions::default()
    };
    let stream = engine.stream(TEXT, &voice, options).unwrap();
    stream.flat_map(|chunk| chunk.unwrap().words).collect()
}

#[test]
fn words_have_the_times_on_a_card_that_they_have_on_the_processor() {
    let card = StandIn::new(41, "memory=1073741824 order=shuffled:3");
    let expected = words(DeviceChoice::Cpu);
    let written: Vec<&str> = expected.iter().map(|word| &*word.word).collect();
    assert_eq!(written, ["Forty-two", "boats", "came"]);
    let found = words(DeviceChoice::Cuda(card.ordinal()));
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.word, expected.word);
        // One token: another rounding may move a border.
        let near = |one: f64, other: f64| (one - other).abs() < 0.041;
        assert!(
            near(found.start, expected.start) && near(found.end, expected.end),
            "{found:?} and {expected:?}"
        );
    }
}
