//! Many streams in one engine.

use sottovoce::{
    Engine, EngineOptions, Error, ModelConfig, Source, Stream, StreamOptions, Voice, VoiceSource,
    WhenFull,
};

const TEXT: &str = "We counted forty two boats before it got dark.";

fn engine(options: EngineOptions) -> (Engine, Voice) {
    let engine = Engine::load(Source::Embedded, options).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    (engine, voice)
}

fn options(seed: u64) -> StreamOptions {
    StreamOptions {
        seed,
        ..StreamOptions::default()
    }
}

fn samples(stream: Stream) -> Vec<f32> {
    stream.flat_map(|chunk| chunk.unwrap().samples).collect()
}

/// A text long enough that its stream is still running when it is checked.
fn long_text() -> String {
    format!("{TEXT} ").repeat(200)
}

#[test]
fn streams_beyond_the_places_wait_and_sound_as_they_do_alone() {
    let (engine, voice) = engine(EngineOptions {
        streams_max: 2,
        ..EngineOptions::default()
    });
    let alone: Vec<_> = (0..6)
        .map(|seed| samples(engine.stream(TEXT, &voice, options(seed)).unwrap()))
        .collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..6)
            .map(|seed| {
                let stream = engine.stream(TEXT, &voice, options(seed)).unwrap();
                scope.spawn(move || samples(stream))
            })
            .collect();
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect()
    });
    assert!(
        together == alone,
        "no stream may sound different because of the others"
    );
    assert_eq!(engine.metrics().streams_finished, 12);
}

#[test]
fn who_will_not_wait_is_refused_with_a_time_and_the_line_has_an_end() {
    let (engine, voice) = engine(EngineOptions {
        streams_max: 1,
        waiting_max: 1,
        ..EngineOptions::default()
    });
    let text = long_text();
    let mut first = engine.stream(&text, &voice, options(1)).unwrap();
    first.next().unwrap().unwrap();
    let unwilling = StreamOptions {
        when_full: WhenFull::Refuse,
        ..options(2)
    };
    let refusal = engine.stream(TEXT, &voice, unwilling).err().unwrap();
    assert!(refusal.retry_after().is_some(), "{refusal}");
    let second = engine.stream(TEXT, &voice, options(3)).unwrap();
    assert!(matches!(
        engine.stream(TEXT, &voice, options(4)),
        Err(Error::Busy { waiting: 1, .. })
    ));
    drop(first);
    assert!(
        !samples(second).is_empty(),
        "the one in line speaks once the place is free"
    );
}

#[test]
fn who_leaves_the_line_gives_the_place_in_it_and_the_voice_back() {
    let (engine, voice) = engine(EngineOptions {
        streams_max: 1,
        waiting_max: 1,
        ..EngineOptions::default()
    });
    let text = long_text();
    let mut first = engine.stream(&text, &voice, options(1)).unwrap();
    first.next().unwrap().unwrap();
    let before = engine.memory_report().allocated_bytes;
    for seed in 0..4 {
        let own = engine.varied_voice(&voice, seed).unwrap();
        let waiting = engine.stream(TEXT, &own, options(seed));
        let waiting = waiting.expect("those before it left the line");
        drop(own);
        match seed % 2 {
            0 => drop(waiting),
            _ => waiting.canceller().cancel(),
        }
        assert_eq!(engine.metrics().streams_waiting, 0);
        assert_eq!(engine.memory_report().allocated_bytes, before);
    }
    assert_eq!(engine.metrics().streams_cancelled, 4);
    assert!(first.next().unwrap().is_ok(), "who speaks speaks on");
}

#[test]
fn a_voice_of_another_engine_is_refused_and_ends_nobody() {
    let (pico, voice) = engine(EngineOptions::default());
    let (same_model, _) = engine(EngineOptions::default());
    let config = Box::new(ModelConfig::tiny_turbo());
    let other_model = Engine::load(Source::Random(config), EngineOptions::default()).unwrap();
    for other in [same_model, other_model] {
        let refusal = other.stream(TEXT, &voice, options(1)).err();
        assert!(matches!(refusal, Some(Error::Voice { .. })), "{refusal:?}");
    }
    assert!(!samples(pico.stream(TEXT, &voice, options(1)).unwrap()).is_empty());
}

#[test]
fn a_reader_that_stands_still_does_not_hold_up_the_others() {
    let (engine, voice) = engine(EngineOptions {
        streams_max: 2,
        ..EngineOptions::default()
    });
    let text = long_text();
    let still = engine
        .stream(
            &text,
            &voice,
            StreamOptions {
                buffered_chunks_max: 1,
                ..options(1)
            },
        )
        .unwrap();
    for seed in 2..5 {
        assert!(!samples(engine.stream(TEXT, &voice, options(seed)).unwrap()).is_empty());
    }
    drop(still);
}

#[test]
fn dropping_streams_anywhere_gives_everything_back() {
    let (engine, voice) = engine(EngineOptions::default());
    samples(engine.stream(TEXT, &voice, options(0)).unwrap());
    let before = engine.memory_report().allocated_bytes;
    let text = long_text();
    for chunks in 0..4 {
        let mut stream = engine.stream(&text, &voice, options(chunks)).unwrap();
        for _ in 0..chunks {
            stream.next().unwrap().unwrap();
        }
        drop(stream);
    }
    // A queued stream starts only once their places are free.
    samples(engine.stream(TEXT, &voice, options(9)).unwrap());
    while engine.metrics().streams_live > 0 {
        std::thread::yield_now();
    }
    let report = engine.memory_report();
    assert_eq!(
        report.allocated_bytes, before,
        "in use: {:?}",
        report.owners
    );
    assert!(
        report.streams.is_empty(),
        "no stream may hold anything: {:?}",
        report.streams
    );
}

#[test]
fn a_stream_outlives_the_engine_it_came_from_and_stopping_ends_it_with_an_error() {
    let (first, voice) = engine(EngineOptions::default());
    let stream = first.stream(TEXT, &voice, options(1)).unwrap();
    drop(first);
    assert!(!samples(stream).is_empty());
    let (second, voice) = engine(EngineOptions::default());
    let text = long_text();
    let mut stream = second.stream(&text, &voice, options(1)).unwrap();
    stream.next().unwrap().unwrap();
    second.stop();
    let last = stream.by_ref().find_map(Result::err);
    assert!(
        matches!(last, Some(Error::Stopped)),
        "the reader must learn that it was not the end: {last:?}"
    );
    assert!(matches!(
        second.stream(TEXT, &voice, options(2)),
        Err(Error::Stopped)
    ));
}

#[test]
fn cancelling_from_another_thread_ends_the_iterator() {
    let (engine, voice) = engine(EngineOptions::default());
    let text = long_text();
    let mut stream = engine.stream(&text, &voice, options(1)).unwrap();
    stream.next().unwrap().unwrap();
    let canceller = stream.canceller();
    std::thread::spawn(move || canceller.cancel())
        .join()
        .unwrap();
    assert!(stream.next().is_none());
}

#[test]
fn two_engines_in_one_process_know_nothing_of_each_other() {
    let (first, voice) = engine(EngineOptions::default());
    let (second, _) = engine(EngineOptions::default());
    samples(first.stream(TEXT, &voice, options(1)).unwrap());
    assert_eq!(
        (
            first.metrics().streams_finished,
            second.metrics().streams_finished
        ),
        (1, 0)
    );
}

#[test]
fn the_speed_changes_the_length_and_chunks_grow() {
    let (engine, voice) = engine(EngineOptions::default());
    let plain = samples(engine.stream(TEXT, &voice, options(1)).unwrap());
    let fast = samples(
        engine
            .stream(
                TEXT,
                &voice,
                StreamOptions {
                    speed: 2.0,
                    ..options(1)
                },
            )
            .unwrap(),
    );
    assert_eq!(fast.len(), plain.len().div_ceil(2));
    let chunks: Vec<_> = engine
        .stream(TEXT, &voice, options(1))
        .unwrap()
        .map(|chunk| chunk.unwrap())
        .collect();
    assert!(
        chunks[0].samples.len() < chunks[1].samples.len(),
        "the first chunk is small so that sound comes soon"
    );
    assert_eq!(
        chunks.last().unwrap().metrics.chunk_count,
        chunks.len() as u64
    );
}

#[test]
fn a_stream_under_way_calls_the_driver_not_once() {
    const CHUNKS: usize = 9;
    let (engine, voice) = engine(EngineOptions::default());
    let text = long_text();
    let mut stream = engine.stream(&text, &voice, options(1)).unwrap();
    stream.next().unwrap().unwrap();
    let before = engine.memory_report();
    let chunks = stream
        .take(CHUNKS)
        .inspect(|chunk| {
            assert!(chunk.is_ok());
            let now = engine.memory_report();
            assert_eq!(now.driver_calls, before.driver_calls);
            assert_eq!(now.reserved_bytes, before.reserved_bytes);
        })
        .count();
    assert_eq!(
        chunks, CHUNKS,
        "the stream must go on while it is looked at"
    );
}

#[test]
fn memory_does_not_grow_with_the_length_of_a_text() {
    let peak = |repeats: usize| {
        let (engine, voice) = engine(EngineOptions {
            streams_max: 1,
            ..EngineOptions::default()
        });
        let text = format!("{TEXT} ").repeat(repeats);
        assert!(!samples(engine.stream(&text, &voice, options(1)).unwrap()).is_empty());
        let report = engine.memory_report();
        (report.reserved_peak_bytes, report.allocated_peak_bytes)
    };
    let (once, often) = (peak(2), peak(12));
    assert_eq!(often, once);
}

#[test]
fn the_timeline_shows_memory_by_region_while_it_is_kept() {
    let (engine, voice) = engine(EngineOptions::default());
    samples(engine.stream(TEXT, &voice, options(1)).unwrap());
    let timeline = engine.memory_report().timeline;
    let last = timeline.last().unwrap();
    assert!(last.regions.weights > 0 && last.regions.workspace > 0 && last.reserved_bytes > 0);
    engine.configure_memory_management(sottovoce::Profile::Balanced, false, None);
    samples(engine.stream(TEXT, &voice, options(1)).unwrap());
    assert!(engine.memory_report().timeline.is_empty());
}

#[test]
fn voices_stand_in_the_ledger_and_a_budget_has_an_end() {
    let options = EngineOptions {
        streams_max: 1,
        ..EngineOptions::default()
    };
    let plan = Engine::plan_for(&Source::Embedded, &options).unwrap();
    let (engine, voice) = engine(EngineOptions {
        memory: Some(plan.total_bytes(1)),
        ..options
    });
    let before = engine.memory_report().allocated_bytes;
    let mut voices = vec![engine.varied_voice(&voice, 0).unwrap()];
    let taken = engine.memory_report().allocated_bytes - before;
    assert_eq!(taken, plan.prepared_voice_bytes);
    let refusal = loop {
        match engine.varied_voice(&voice, voices.len() as u64) {
            Ok(further) => voices.push(further),
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, Error::Budget { .. }), "{refusal}");
    let spoken = samples(
        engine
            .stream(TEXT, &voices[0], StreamOptions::default())
            .unwrap(),
    );
    assert!(!spoken.is_empty(), "voices never take a stream's place");
    drop(voices);
    engine.varied_voice(&voice, 9).unwrap();
}

#[test]
fn the_programs_own_voice_is_a_prepared_voice_like_any_other() {
    let (engine, voice) = engine(EngineOptions::default());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/pico/voice.safetensors");
    let prepared = engine.voice(VoiceSource::Prepared(file.into())).unwrap();
    let by_default = samples(engine.stream(TEXT, &voice, options(1)).unwrap());
    assert!(by_default == samples(engine.stream(TEXT, &prepared, options(1)).unwrap()));
}

#[test]
fn a_stream_may_take_fewer_steps_and_less_of_the_prompt_but_not_more_than_was_planned() {
    let mut config = ModelConfig::tiny_base();
    config.t3.sampling.token_count_max = 40;
    let engine = Engine::load(Source::Random(Box::new(config)), EngineOptions::default()).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let speak = |options: StreamOptions| samples(engine.stream(TEXT, &voice, options).unwrap());
    let whole = speak(options(1));
    for choice in [
        StreamOptions {
            flow_steps: Some(3),
            ..options(1)
        },
        StreamOptions {
            flow_guided_steps: Some(2),
            ..options(1)
        },
        StreamOptions {
            prompt_tokens: Some(5),
            ..options(1)
        },
    ] {
        let other = speak(choice);
        assert_eq!(other.len(), whole.len(), "the tokens are the same");
        assert!(other != whole, "the sound is another");
    }
    let more = StreamOptions {
        flow_steps: Some(11),
        ..options(1)
    };
    let refused = engine.stream(TEXT, &voice, more).err();
    let message = refused.map(|error| error.to_string()).unwrap_or_default();
    assert!(
        message.contains("flow_steps") && message.contains("10"),
        "{message} must name the option and the most"
    );
}
