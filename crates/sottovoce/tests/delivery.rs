//! Delivery modes: growing chunks, or whole.

use sottovoce::{
    Chunk, DeliveryMode, Engine, EngineOptions, ModelConfig, Source, StreamOptions, Voice,
    VoiceSource,
};

const TEXT: &str = "We counted forty two boats before it got dark. Nobody on the quay spoke above \
    a whisper, and the last of them was late.\n\nThen we went home.";

fn load(source: Source, whole_tokens_max: Option<usize>) -> (Engine, Voice) {
    let options = EngineOptions {
        whole_tokens_max,
        threads: Some(1),
        ..EngineOptions::default()
    };
    let engine = Engine::load(source, options).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    (engine, voice)
}

fn chunks(
    engine: &Engine,
    voice: &Voice,
    delivery: DeliveryMode,
    limit: Option<usize>,
) -> Vec<Chunk> {
    let options = StreamOptions {
        delivery: Some(delivery),
        sentence_tokens_max: limit,
        ..StreamOptions::default()
    };
    let stream = engine.stream(TEXT, voice, options).unwrap();
    stream.map(Result::unwrap).collect()
}

fn samples(chunks: &[Chunk]) -> Vec<f32> {
    chunks
        .iter()
        .flat_map(|chunk| chunk.samples.clone())
        .collect()
}

#[test]
fn whole_delivery_has_the_length_of_the_stream_and_is_the_same_each_time() {
    let tiny = Source::Random(Box::new(ModelConfig::tiny_base()));
    for (source, limit) in [(Source::Embedded, None), (tiny, Some(200))] {
        let (engine, voice) = load(source, None);
        let streamed = chunks(&engine, &voice, DeliveryMode::Stream, limit);
        let whole = chunks(&engine, &voice, DeliveryMode::Whole, limit);
        assert!(whole.len() < streamed.len(), "{} passes", whole.len());
        assert_eq!(samples(&whole).len(), samples(&streamed).len());
        let again = chunks(&engine, &voice, DeliveryMode::Whole, limit);
        assert!(samples(&again) == samples(&whole), "the same samples");
        let streamed_again = chunks(&engine, &voice, DeliveryMode::Stream, limit);
        assert!(samples(&streamed_again) == samples(&streamed));
    }
}

#[test]
fn a_larger_window_is_planned_where_the_budget_holds_it_and_else_what_fits() {
    let plan = |memory: Option<u64>, whole_tokens_max| {
        let options = EngineOptions {
            memory,
            whole_tokens_max,
            streams_max: 2,
            ..EngineOptions::default()
        };
        Engine::plan_for(&Source::Embedded, &options).unwrap()
    };
    let small = plan(None, None);
    let large = plan(None, Some(1000));
    assert_eq!(large.whole_tokens, 1000);
    assert!(large.workspace_bytes > small.workspace_bytes);
    let exact = plan(Some(small.total_bytes(2)), Some(1000));
    // Up to this size the window is free: other stages need as much.
    assert!(small.whole_tokens <= exact.whole_tokens && exact.whole_tokens < 1000);
    assert_eq!(
        (exact.workspace_bytes, exact.streams_fit),
        (small.workspace_bytes, 2)
    );
    let between = (large.total_bytes(2) + small.total_bytes(2)) / 2;
    let between = plan(Some(between), Some(1000));
    assert_eq!(between.streams_fit, 2, "nobody stays away for it");
    assert!(exact.whole_tokens <= between.whole_tokens && between.whole_tokens < 1000);
}

#[test]
fn whole_streams_keep_the_promise_beside_others() {
    let (engine, voice) = load(Source::Embedded, Some(500));
    let spoken: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let modes = [
            DeliveryMode::Whole,
            DeliveryMode::Stream,
            DeliveryMode::Whole,
        ];
        let readers = modes.map(|mode| {
            let (engine, voice) = (&engine, &voice);
            scope.spawn(move || samples(&chunks(engine, voice, mode, None)))
        });
        readers.map(|reader| reader.join().unwrap()).into()
    });
    assert!(spoken[0] == spoken[2]);
    let alone = samples(&chunks(&engine, &voice, DeliveryMode::Stream, None));
    assert!(
        spoken[1] == alone,
        "nobody sounds different because of others"
    );
    let metrics = engine.metrics();
    assert_eq!((metrics.streams_finished, metrics.streams_failed), (4, 0));
    assert_eq!(metrics.run_ons, 0);
    assert_eq!(metrics.uninterrupted.count(), 4);
}
