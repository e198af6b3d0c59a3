//! An engine with a watermark, by a narrow random network in place of the trained one.

use sottovoce::{Engine, EngineOptions, Error, Source, StreamOptions, VoiceSource};
use std::path::PathBuf;

const TEXT: &str = "We counted forty two boats before it got dark.";

fn weights() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../chatterbox/tests/fixtures/watermark.safetensors")
}

fn engine(watermark: Option<PathBuf>, memory: Option<u64>) -> Result<Engine, Error> {
    Engine::load(
        Source::Embedded,
        EngineOptions {
            memory,
            watermark,
            streams_max: 1,
            ..EngineOptions::default()
        },
    )
}

fn samples(engine: &Engine, chunk_size: usize) -> Vec<f32> {
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let options = StreamOptions {
        chunk_size: Some(chunk_size),
        ..StreamOptions::default()
    };
    let stream = engine.stream(TEXT, &voice, options).unwrap();
    stream.flat_map(|chunk| chunk.unwrap().samples).collect()
}

#[test]
fn a_stream_is_marked_over_its_whole_length_and_within_the_plan() {
    let options = EngineOptions {
        watermark: Some(weights()),
        streams_max: 1,
        ..EngineOptions::default()
    };
    let plan = Engine::plan_for(&Source::Embedded, &options).unwrap();
    let bare = engine(None, None).unwrap();
    assert!(plan.weights_bytes > bare.plan().weights_bytes);
    assert!(plan.workspace_bytes > bare.plan().workspace_bytes);
    let marking = engine(Some(weights()), Some(plan.total_bytes(1))).unwrap();
    let (plain, marked) = (samples(&bare, 25), samples(&marking, 25));
    assert_eq!(plain.len(), marked.len());
    // The random network adds an arbitrary amount, but over the whole length.
    let differs = |range: std::ops::Range<usize>| {
        range.into_iter().any(|place| plain[place] != marked[place])
    };
    for start in (0..plain.len() - 4_800).step_by(4_800) {
        assert!(differs(start..start + 4_800), "not marked from {start}");
    }
    let report = marking.memory_report();
    assert!(report.reserved_peak_bytes <= plan.total_bytes(1));
    let refusal = engine(Some(weights()), Some(plan.total_bytes(1) - 4096)).err();
    assert!(matches!(refusal, Some(Error::Budget { .. })), "{refusal:?}");
}

#[test]
fn a_file_that_holds_no_watermark_is_refused_by_name() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/pico/voice.safetensors");
    let refusal = engine(Some(file.into()), None).err().unwrap().to_string();
    assert!(refusal.contains("voice.safetensors"), "{refusal}");
    assert!(refusal.contains("perth.encoder"), "{refusal}");
}
