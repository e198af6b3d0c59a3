//! The engine's memory: every byte has an owner, little is idle, and shortages in the middle of a
//! sentence are survived.

use sottovoce::{
    Chunk, DeliveryMode, Engine, EngineOptions, Error, MemoryReport, ModelConfig, Profile, Source,
    Stream, StreamOptions, Voice, VoiceSource,
};
use sottovoce_memory::driver::{FaultScript, HostDriver, Scripted};
use sottovoce_memory::{Memory, PoolConfiguration};

const FRAGMENTATION_MAX: f64 = 0.05;
/// Digits may take far longer to say than most letters.
const TEXT: &str = "Go to 12345678.";

/// Random weights never end a sentence: it runs to the limit, far beyond its likely length.
fn random() -> Source {
    let mut config = ModelConfig::tiny_base();
    config.t3.sampling.token_count_max = 200;
    config.voice.prompt.flow_seconds_max = 1.0;
    Source::Random(Box::new(config))
}

fn options() -> EngineOptions {
    EngineOptions {
        profile: Profile::Balanced,
        threads: Some(1),
        ..EngineOptions::default()
    }
}

/// An engine whose driver follows a script.
fn scripted(source: Source, options: EngineOptions) -> (Engine, Voice, FaultScript) {
    let driver = Scripted::new(HostDriver::new(1 << 40));
    let script = driver.script();
    let memory = Memory::with_driver(Box::new(driver), PoolConfiguration::default());
    let engine = Engine::load_in(memory, source, options).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    (engine, voice, script)
}

/// Less than the planned size, so that a smaller workspace suffices.
fn small(seed: u64) -> StreamOptions {
    StreamOptions {
        seed,
        chunk_size: Some(10),
        context_window: 10,
        buffered_chunks_max: 1,
        ..StreamOptions::default()
    }
}

fn rest(stream: Stream) -> Result<(Vec<f32>, Vec<String>), Error> {
    let (mut samples, mut actions) = (Vec::new(), Vec::new());
    for chunk in stream {
        let Chunk {
            samples: more,
            metrics,
            ..
        } = chunk?;
        samples.extend(more);
        actions.extend(metrics.actions);
    }
    Ok((samples, actions))
}

/// Leaves `bytes` free; another process takes the rest.
fn leave(engine: &Engine, script: &FaultScript, bytes: u64) {
    script.set_capacity(engine.memory_report().reserved_bytes + bytes);
}

/// Bytes of the workspaces.
fn workspace(report: &MemoryReport) -> u64 {
    let owners = report.owners.iter();
    let of_workspace = owners.filter(|owner| owner.region == "workspace");
    of_workspace.map(|owner| owner.bytes).sum()
}

fn count(report: &MemoryReport, action: &str) -> u64 {
    let same = report.actions.iter().filter(|done| done.action == action);
    same.map(|done| done.count).sum()
}

#[test]
fn when_memory_runs_short_the_workspace_shrinks_and_the_stream_goes_on_with_the_same_audio() {
    let (engine, voice, script) = scripted(random(), options());
    let speak = |seed| engine.stream(TEXT, &voice, small(seed)).unwrap();
    let expected = rest(speak(7)).unwrap().0;
    let before = workspace(&engine.memory_report());
    let mut stream = speak(7);
    let mut samples = stream.next().unwrap().unwrap().samples;
    leave(&engine, &script, 0);
    let (more, actions) = rest(stream).unwrap();
    samples.extend(more);
    assert!(
        samples == expected,
        "the sound must not depend on the memory"
    );
    let report = engine.memory_report();
    assert_eq!(count(&report, "shrink_workspace"), 1, "{actions:?}");
    assert!(
        workspace(&report) < before,
        "{} of {before}",
        workspace(&report)
    );
    assert!(
        actions.iter().any(|action| action.contains("workspace")),
        "{actions:?}"
    );
    script.set_capacity(1 << 40);
    let larger = StreamOptions {
        seed: 7,
        ..StreamOptions::default()
    };
    let (again, _) = rest(engine.stream(TEXT, &voice, larger).unwrap()).unwrap();
    assert_eq!(
        again.len(),
        expected.len(),
        "it grows again when it is needed"
    );
}

#[test]
fn what_cannot_be_saved_ends_alone_and_newcomers_are_held_until_then() {
    let (engine, voice, script) = scripted(random(), options());
    let speak = |seed| engine.stream(TEXT, &voice, small(seed)).unwrap();
    let alone: Vec<_> = (1..4).map(|seed| rest(speak(seed)).unwrap().0).collect();
    // Afterwards the workspace is as small as it can be.
    let mut smaller = speak(1);
    smaller.next().unwrap().unwrap();
    leave(&engine, &script, 0);
    rest(smaller).unwrap();
    script.set_capacity(1 << 40);
    let (mut first, mut second) = (speak(1), speak(2));
    let [mut heard, _] =
        [&mut first, &mut second].map(|stream| stream.next().unwrap().unwrap().samples);
    while engine.metrics().streams_live < 2 {
        std::thread::yield_now();
    }
    // Enough for one of them to go on to its end, and not for both.
    leave(&engine, &script, 150 << 10);
    let third = speak(3);
    let (first, second, third) = std::thread::scope(|scope| {
        let readers = [first, second, third].map(|stream| scope.spawn(move || rest(stream)));
        let [first, second, third] = readers.map(|reader| reader.join().unwrap());
        (first, second, third)
    });
    heard.extend(first.unwrap().0);
    assert!(
        heard == alone[0],
        "the first one has what the second gave back"
    );
    let error = second.unwrap_err();
    assert!(matches!(error, Error::OutOfMemory(_)), "{error}");
    assert!(third.unwrap().0 == alone[2]);
    assert_eq!(engine.metrics().streams_live, 0);
    let report = engine.memory_report();
    assert!(report.streams.is_empty(), "{:?}", report.streams);
}

#[test]
fn the_report_adds_up_by_owner_region_and_stream() {
    let (engine, voice, _) = scripted(random(), options());
    let streams: Vec<_> = (0..3)
        .map(|seed| {
            engine
                .stream("Go on, please.", &voice, small(seed))
                .unwrap()
        })
        .collect();
    for (ended, mut stream) in streams.into_iter().enumerate() {
        let id = stream.id();
        stream.next().unwrap().unwrap();
        // Figures read while a stream begins or ends may mix two moments.
        while engine.metrics().streams_live != 3 - ended {
            std::thread::yield_now();
        }
        let report = engine.memory_report();
        let owners: u64 = report.owners.iter().map(|owner| owner.bytes).sum();
        // Bytes in use are exact by owner; bytes held are whole system pages.
        assert!(
            owners <= report.reserved_bytes,
            "{owners} of {}",
            report.reserved_bytes
        );
        assert!(
            report.reserved_bytes - owners <= 64 << 10,
            "{:?}",
            report.owners
        );
        let last = report.timeline.last().unwrap().regions;
        let regions = last.weights + last.key_value + last.workspace + last.voice + last.staging;
        assert!(regions <= report.reserved_peak_bytes);
        let own = report
            .streams
            .iter()
            .find(|entry| entry.stream == id)
            .unwrap();
        assert!(own.bytes > 0 && own.bytes <= own.promised_bytes, "{own:?}");
        let promised: u64 = report
            .streams
            .iter()
            .map(|entry| entry.promised_bytes)
            .sum();
        assert!(
            promised < report.promised_bytes,
            "weights and workspace are promised too"
        );
    }
}

fn assert_little_idle(fragmentation: f64, when: &str) {
    assert!(
        fragmentation <= FRAGMENTATION_MAX,
        "{:.1} % idle {when}",
        fragmentation * 100.0
    );
}

/// Four streams at a time, beginning and ending. Idle bytes are checked by the worker after each
/// chunk, and here between utterances; in between, a reader could observe a stream's pages during
/// their release.
fn come_and_go(source: Source, texts: [&str; 4], rounds: usize) {
    let (engine, voice, _) = scripted(source, options());
    std::thread::scope(|scope| {
        for (reader, text) in texts.into_iter().enumerate() {
            let (engine, voice) = (&engine, &voice);
            scope.spawn(move || {
                for round in 0..rounds {
                    let seed = (reader * rounds + round) as u64;
                    let options = StreamOptions {
                        seed,
                        // Many chunks, so that one driver call per chunk would be noticed.
                        chunk_size: Some(25),
                        ..StreamOptions::default()
                    };
                    for chunk in engine.stream(text, voice, options).unwrap() {
                        assert_little_idle(chunk.unwrap().metrics.fragmentation, "after a chunk");
                    }
                }
            });
        }
    });
    let report = engine.memory_report();
    assert_little_idle(report.fragmentation, "at the end");
    assert!(
        report.allocated_peak_bytes as f64 >= 0.98 * report.reserved_peak_bytes as f64,
        "at the peak {} of {} bytes were in use",
        report.allocated_peak_bytes,
        report.reserved_peak_bytes
    );
    // The driver is called when a stream begins, ends, or exceeds its likely length, independent of
    // the number of chunks.
    let streams = 4 * rounds as u64;
    let chunks = engine.metrics().chunks;
    assert!(chunks > 3 * streams, "{chunks} chunks");
    println!(
        "{} driver calls, {chunks} chunks, {streams} streams",
        report.driver_calls
    );
    assert_eq!(engine.metrics().streams_finished, streams);
}

#[test]
fn a_short_stream_that_follows_a_long_one_leaves_little_of_its_pages_idle() {
    let one_at_a_time = EngineOptions {
        streams_max: 1,
        ..options()
    };
    let (engine, voice, _) = scripted(Source::Embedded, one_at_a_time);
    let long = "She wrote three letters and forgot to send two of them, so I sent them for her.";
    let long = engine.stream(&long.repeat(3), &voice, small(1)).unwrap();
    let short = engine.stream("Go.", &voice, small(2)).unwrap();
    // The short stream is queued before the long one ends.
    for stream in [long, short] {
        for chunk in stream {
            assert_little_idle(chunk.unwrap().metrics.fragmentation, "after a chunk");
        }
    }
}

#[test]
fn little_lies_idle_while_streams_of_the_programs_own_voice_come_and_go() {
    come_and_go(
        Source::Embedded,
        [
            "We counted forty two boats before it got dark.",
            "Every byte has an owner. It rained all night, but the morning was clear and bright, and nobody minded.",
            "My neighbour plays the piano on Sunday afternoons.",
            "She wrote three letters and forgot to send two of them, so I sent them for her on the way to the harbour.",
        ],
        3,
    );
}

#[test]
fn little_lies_idle_while_streams_that_outgrow_what_was_likely_come_and_go() {
    come_and_go(
        random(),
        [
            "Go to 1234.",
            "Stay 10 days.",
            "Who is there at 12?",
            "No, 1000.",
        ],
        2,
    );
}

#[test]
fn in_whole_delivery_the_flow_works_on_a_long_sentence_once_t3_is_done_with_it() {
    let mut config = ModelConfig::tiny_base();
    config.t3.backbone.layers = 12;
    let engine = Engine::load(Source::Random(Box::new(config)), options()).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let options = StreamOptions {
        delivery: Some(DeliveryMode::Whole),
        sentence_tokens_max: Some(500),
        ..StreamOptions::default()
    };
    let stream = engine.stream(TEXT, &voice, options).unwrap();
    let chunks: Vec<Chunk> = stream.map(Result::unwrap).collect();
    assert!(chunks.len() > 1, "one pass of the flow");
    let tokens: Vec<u64> = (chunks.iter().map(|chunk| chunk.metrics.tokens)).collect();
    assert_eq!(tokens[0], tokens[tokens.len() - 1], "{tokens:?}");
    let at_rest = engine.memory_report().reserved_bytes;
    assert!(chunks[0].metrics.memory_reserved <= at_rest);
}

#[test]
fn the_key_value_cache_is_given_back_before_the_flow_works_on_the_last_sentence() {
    // With as many layers, the keys and values of a sentence are more than what may stay cached.
    let mut config = ModelConfig::tiny_base();
    config.t3.backbone.layers = 12;
    let engine = Engine::load(Source::Random(Box::new(config)), options()).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    for delivery in [DeliveryMode::Whole, DeliveryMode::Stream] {
        let options = StreamOptions {
            delivery: Some(delivery),
            sentence_tokens_max: Some(150),
            ..StreamOptions::default()
        };
        let stream = engine.stream(TEXT, &voice, options).unwrap();
        let chunks: Vec<Chunk> = stream.map(Result::unwrap).collect();
        let last = &chunks[chunks.len() - 1].metrics;
        assert!(
            last.memory_reserved < last.memory_reserved_peak,
            "{delivery:?}: {} bytes still held of {} at the peak",
            last.memory_reserved,
            last.memory_reserved_peak
        );
        let at_rest = engine.memory_report().reserved_bytes;
        assert!(last.memory_reserved <= at_rest, "{delivery:?}");
    }
}
