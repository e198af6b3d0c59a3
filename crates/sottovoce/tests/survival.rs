//! Panics inside the program, provoked by a driver: the affected stream ends with an error, and the
//! engine goes on or reports that it is dead.

mod trap;

use sottovoce::{
    Engine, EngineOptions, Error, ModelConfig, Source, Stream, StreamOptions, Voice, VoiceSource,
};
use std::time::{Duration, Instant};
use trap::{Trap, Trigger};

/// Random weights never end a sentence: it runs to the limit, far beyond its likely length.
fn loaded() -> (Engine, Voice, Trap) {
    let mut config = ModelConfig::tiny_base();
    config.t3.sampling.token_count_max = 400;
    config.voice.prompt.flow_seconds_max = 1.0;
    let options = EngineOptions {
        threads: Some(1),
        ..EngineOptions::default()
    };
    let trap = Trap::default();
    let source = Source::Random(Box::new(config));
    let engine = Engine::load_in(trap.memory(), source, options).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    (engine, voice, trap)
}

fn speak(engine: &Engine, voice: &Voice, seed: u64) -> Stream {
    let options = StreamOptions {
        seed,
        chunk_size: Some(10),
        context_window: 10,
        ..StreamOptions::default()
    };
    engine
        .stream("Good day to you all.", voice, options)
        .unwrap()
}

/// Reads to the end; returns the error, if there was one.
fn end_of(stream: Stream) -> Option<Error> {
    stream.filter_map(Result::err).last()
}

#[test]
fn a_fault_as_a_stream_begins_ends_it_alone() {
    let (engine, voice, trap) = loaded();
    let mut other = speak(&engine, &voice, 1);
    assert!(other.next().unwrap().is_ok());
    trap.arm(Trigger::Acquire);
    let hit = end_of(speak(&engine, &voice, 2));
    assert!(matches!(hit, Some(Error::Fault { .. })), "{hit:?}");
    assert!(trap.is_sprung() && engine.is_alive());
    assert!(end_of(other).is_none(), "who was under way goes on");
    assert!(end_of(speak(&engine, &voice, 3)).is_none());
}

#[test]
fn a_fault_in_a_step_ends_its_batch_and_the_engine_speaks_on_the_same() {
    let (engine, voice, trap) = loaded();
    let before: Vec<f32> = speak(&engine, &voice, 7)
        .flat_map(|chunk| chunk.unwrap().samples)
        .collect();
    let mut streams: Vec<Stream> = (1..=2).map(|seed| speak(&engine, &voice, seed)).collect();
    for stream in &mut streams {
        assert!(stream.next().unwrap().is_ok());
    }
    trap.arm(Trigger::Acquire);
    let ends: Vec<Option<Error>> = streams.into_iter().map(end_of).collect();
    assert!(
        trap.is_sprung(),
        "the sentences must outgrow what was likely"
    );
    let hit = |end: &Option<Error>| matches!(end, Some(Error::Fault { .. }));
    assert!(ends.iter().any(hit), "{ends:?}");
    assert!(
        ends.iter()
            .flatten()
            .all(|error| matches!(error, Error::Fault { .. }))
    );
    assert!(engine.is_alive());
    let after: Vec<f32> = speak(&engine, &voice, 7)
        .flat_map(|chunk| chunk.unwrap().samples)
        .collect();
    assert_eq!(before, after, "the fault left nothing behind");
}

#[test]
fn a_worker_that_cannot_go_on_is_told_dead_and_nobody_waits_for_it() {
    let (engine, voice, trap) = loaded();
    let mut streams: Vec<Stream> = (1..=2).map(|seed| speak(&engine, &voice, seed)).collect();
    for stream in &mut streams {
        assert!(stream.next().unwrap().is_ok());
    }
    trap.arm(Trigger::Kill);
    let ends: Vec<Option<Error>> = streams.into_iter().map(end_of).collect();
    assert!(trap.is_sprung());
    assert!(ends.iter().all(Option::is_some), "{ends:?}");
    let asked = Instant::now();
    while engine.is_alive() {
        assert!(
            asked.elapsed() < Duration::from_secs(60),
            "a dead engine says so"
        );
        std::thread::yield_now();
    }
    let refused = engine
        .stream("Hello.", &voice, StreamOptions::default())
        .err();
    assert!(matches!(refused, Some(Error::Stopped)), "{refused:?}");
}
