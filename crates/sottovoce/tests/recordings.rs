//! The memory of recordings that become voices: within the budget, owned, one at a time.

#[allow(dead_code, reason = "what only other tests use")]
mod common;

use common::{clip, config};
use sottovoce::{
    Engine, EngineOptions, Error, OwnerBytes, Source, StreamOptions, Voice, VoiceSource,
};

const TEXT: &str = "Go to 12345678.";
const RATE: u32 = 24_000;

fn source() -> Source {
    Source::Random(Box::new(config()))
}

fn options(memory: Option<u64>) -> EngineOptions {
    EngineOptions {
        memory,
        streams_max: 1,
        threads: Some(1),
        ..EngineOptions::default()
    }
}

fn voice(engine: &Engine, seconds: f32) -> Result<Voice, Error> {
    engine.voice(VoiceSource::ClipBytes {
        name: "me.wav".into(),
        bytes: clip(seconds, RATE),
    })
}

/// The entry of recordings in the ledger.
fn recordings(engine: &Engine) -> OwnerBytes {
    let owners = engine.memory_report().owners;
    let found = owners.into_iter().find(|owner| owner.tag == "recording");
    found.unwrap_or_default()
}

#[test]
fn a_recording_is_counted_in_the_ledger_while_it_becomes_a_voice() {
    let engine = Engine::load(source(), options(None)).unwrap();
    let before = engine.memory_report().reserved_bytes;
    drop(voice(&engine, 3.0).unwrap());
    let OwnerBytes {
        region,
        bytes,
        peak_bytes,
        ..
    } = recordings(&engine);
    assert_eq!((region.as_str(), bytes), ("staging", 0));
    // The 60 s that are used, for two mixes.
    assert!(peak_bytes > 2 * 4 * 60 * u64::from(RATE), "{peak_bytes}");
    let report = engine.memory_report();
    assert_eq!(report.reserved_bytes, before);
    assert!(report.reserved_peak_bytes >= before + peak_bytes);
}

#[test]
fn of_several_recordings_one_at_a_time_is_in_memory() {
    let engine = Engine::load(source(), options(None)).unwrap();
    drop(voice(&engine, 3.0).unwrap());
    let one = recordings(&engine).peak_bytes;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| voice(&engine, 3.0).unwrap());
        }
    });
    assert_eq!(recordings(&engine).peak_bytes, one);
}

#[test]
fn a_recording_of_any_length_takes_the_memory_of_the_part_that_is_used() {
    let engine = Engine::load(source(), options(None)).unwrap();
    let mut peaks = Vec::new();
    // Files beyond 8 MiB have the same bound.
    for seconds in [200.0, 400.0] {
        drop(voice(&engine, seconds).unwrap());
        peaks.push(recordings(&engine).peak_bytes);
    }
    assert_eq!(peaks[0], peaks[1]);
}

#[test]
fn a_recording_that_the_budget_never_holds_is_refused_with_the_figures() {
    let plan = Engine::plan_for(&source(), &options(None)).unwrap();
    let total = plan.total_bytes(1);
    let engine = Engine::load(source(), options(Some(total))).unwrap();
    let before = engine.memory_report().promised_bytes;
    let Err(Error::Budget {
        budget_bytes,
        needed_bytes,
        ..
    }) = voice(&engine, 3.0)
    else {
        panic!("it was not refused");
    };
    assert_eq!(budget_bytes, total);
    assert_eq!(engine.memory_report().promised_bytes, before);
    // What the message asks for suffices.
    let engine = Engine::load(source(), options(Some(needed_bytes))).unwrap();
    voice(&engine, 3.0).unwrap();
}

#[test]
fn the_networks_that_prepare_a_voice_are_reserved_and_take_no_more() {
    let engine = Engine::load(source(), options(None)).unwrap();
    let networks_bytes = engine.preparation_bytes().unwrap();
    let [promised, before] = {
        let report = engine.memory_report();
        [report.promised_bytes, report.reserved_bytes]
    };
    let mut recording_bytes = 0;
    for seconds in [0.7, 3.0, 70.0] {
        drop(voice(&engine, seconds).unwrap());
        recording_bytes = recordings(&engine).peak_bytes;
        let peak = engine.memory_report().reserved_peak_bytes - before;
        assert!(peak <= recording_bytes + networks_bytes, "{seconds} s");
    }
    // The refusal names both, and they are all that is lacking.
    let plan = engine.plan().clone();
    let engine = Engine::load(source(), options(Some(plan.total_bytes(1)))).unwrap();
    let Err(refusal) = voice(&engine, 70.0) else {
        panic!("it was not refused");
    };
    let message = refusal.to_string();
    assert!(message.contains("the networks that hear it"), "{message}");
    let Error::Budget { needed_bytes, .. } = refusal else {
        panic!("{message}");
    };
    assert_eq!(needed_bytes, promised + recording_bytes + networks_bytes);
}

#[test]
fn a_voice_is_prepared_beside_streams_only_in_what_their_worst_case_leaves() {
    let free = Engine::load(source(), options(None)).unwrap();
    drop(voice(&free, 3.0).unwrap());
    let needed = recordings(&free).peak_bytes + free.preparation_bytes().unwrap();
    let total = free.plan().total_bytes(1);
    drop(free);
    let stream_options = StreamOptions {
        buffered_chunks_max: 1,
        ..StreamOptions::default()
    };
    // Room for both, and a byte less.
    for (lacking, fits) in [(0, true), (1, false)] {
        let engine = Engine::load(source(), options(Some(total + needed - lacking))).unwrap();
        let own = engine.voice(VoiceSource::Default).unwrap();
        // More text may come: the stream stays under way.
        let mut stream = engine.open_stream(&own, stream_options.clone()).unwrap();
        let text = stream.text();
        text.push(TEXT).unwrap();
        text.flush();
        stream.next().unwrap().unwrap();
        match (voice(&engine, 3.0), fits) {
            (Ok(_), true) | (Err(Error::NoRoom { .. }), false) => (),
            (other, _) => panic!("{lacking}: {:?}", other.map(drop)),
        }
        assert_eq!(engine.streams_live(), 1);
        text.finish();
        stream.for_each(|chunk| drop(chunk.unwrap()));
    }
}

#[test]
fn a_recording_waits_for_the_memory_of_a_stream() {
    let plan = Engine::plan_for(&source(), &options(None)).unwrap();
    let engine = Engine::load(source(), options(Some(plan.total_bytes(1)))).unwrap();
    let Err(Error::Budget { needed_bytes, .. }) = voice(&engine, 3.0) else {
        panic!("it was not refused");
    };
    drop(engine);
    // Room for the recording or for a stream.
    let engine = Engine::load(source(), options(Some(needed_bytes))).unwrap();
    let own = engine.voice(VoiceSource::Default).unwrap();
    let stream_options = StreamOptions {
        buffered_chunks_max: 1,
        ..StreamOptions::default()
    };
    let mut stream = engine.stream(TEXT, &own, stream_options.clone()).unwrap();
    stream.next().unwrap().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| voice(&engine, 3.0));
        drop(stream);
        waiting.join().unwrap().unwrap();
    });
    // A stream that was queued meanwhile is admitted afterwards.
    let spoken = engine.stream(TEXT, &own, stream_options).unwrap();
    assert!(spoken.map(Result::unwrap).count() > 0);
}
