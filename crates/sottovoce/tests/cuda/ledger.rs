//! The engine's device ledger equals the device's own count.

use crate::scene::{long_stream, options, source, stream};
use cuda_stand_in::client::{self, StandIn};
use sottovoce::{Engine, EngineOptions, ModelConfig, Source, Voice, VoiceSource, read_in_turn};
use std::path::Path;

/// Compares the ledger with the device's own count.
fn compare(engine: &Engine, device: StandIn, when: &str) {
    let (report, used) = loop {
        // The worker may be running, so both figures must be of the same moment.
        let before = device.count("used");
        let report = engine.memory_report();
        if device.count("used") == before {
            break (report, before);
        }
    };
    assert_eq!(
        report.reserved_bytes + report.driver_bytes,
        used,
        "{when}: {:?}",
        report.owners
    );
}

fn speak_and_compare(source: Source, options: EngineOptions, device: StandIn) {
    let engine = Engine::load(source, options).unwrap();
    compare(&engine, device, "loaded");
    let (report, plan) = (engine.memory_report(), engine.plan());
    assert!(
        report.driver_bytes <= plan.device_bytes,
        "{} of {} reckoned with",
        report.driver_bytes,
        plan.device_bytes
    );
    let voice = engine.voice(VoiceSource::Default).unwrap();
    compare(&engine, device, "with a voice");
    let speak = |voice: &Voice, seed| {
        for chunk in stream(&engine, voice, seed).unwrap() {
            chunk.unwrap();
            compare(&engine, device, "in mid-sentence");
        }
        while engine.metrics().streams_live > 0 {
            std::thread::yield_now();
        }
    };
    speak(&voice, 0);
    let settled = engine.memory_report();
    compare(&engine, device, "settled");
    speak(&voice, 1);
    compare(&engine, device, "settled again");
    let again = engine.memory_report();
    assert_eq!(settled.reserved_bytes, again.reserved_bytes);
    let plan = engine.plan();
    let peak = again.reserved_peak_bytes + again.driver_bytes;
    assert!(
        peak <= plan.total_bytes(1),
        "{peak} of {} planned",
        plan.total_bytes(1)
    );
    assert!(device.count("used_peak") <= plan.total_bytes(1));
    engine.trim();
    compare(&engine, device, "trimmed");
    drop((voice, engine));
    device.expect_clean("after the engine");
}

/// Runs in a process of its own, which also finds the management library: the context's size is
/// known from there.
#[test]
fn the_ledger_is_what_the_device_counts_to_the_byte() {
    if client::child_argument().is_none() {
        let folder = tempfile::tempdir().unwrap();
        client::install(folder.path(), &[]).unwrap();
        let test = "ledger::the_ledger_is_what_the_device_counts_to_the_byte";
        return client::run_in_child(test, "", Some(folder.path()));
    }
    client::load(Path::new("libcuda.so"));
    let own = "context=314572800 module=5242880 graph=65536 node=4096 threads=100000";
    for (ordinal, (source, ranges)) in [
        (source(), "on"),
        (source(), "off"),
        (Source::Embedded, "on"),
    ]
    .into_iter()
    .enumerate()
    {
        let settings = format!("memory=2147483648 taken=1048576 ranges={ranges} {own}");
        let device = StandIn::new(ordinal as u32, &settings);
        let options = EngineOptions {
            streams_max: 1,
            ..options(device)
        };
        speak_and_compare(source, options, device);
    }
}

/// The last byte of the budget is in the plan: nothing is taken from the driver for itself later.
fn hold_every_number_of_streams(ordinal: u32, source: impl Fn() -> Source) {
    let own = "module=5242880 graph=65536 node=4096 threads=100000";
    let device = StandIn::new(ordinal, &format!("memory=2147483648 {own}"));
    let options = EngineOptions {
        streams_max: 3,
        ..options(device)
    };
    let planned = Engine::plan_for(&source(), &options).unwrap();
    assert_eq!(planned.streams_fit, 3);
    let budget = planned.total_bytes(3);
    let with = |bytes| EngineOptions {
        memory: Some(bytes),
        ..options.clone()
    };
    let fewer = Engine::plan_for(&source(), &with(budget - 1)).unwrap();
    assert_eq!(fewer.streams_fit, 2);
    let engine = Engine::load(source(), with(budget)).unwrap();
    assert_eq!(engine.plan().streams_fit, 3);
    let own_bytes = engine.memory_report().driver_bytes;
    let graphs = || device.count("cuGraphInstantiateWithFlags");
    let (made, launched) = (graphs(), device.count("cuGraphLaunch"));
    let voice = engine.voice(VoiceSource::Default).unwrap();
    for count in [3, 1, 2] {
        let streams = (0..count).map(|seed| long_stream(&engine, &voice, seed));
        for (samples, ending) in read_in_turn(streams) {
            ending.unwrap();
            assert!(!samples.is_empty());
        }
        assert_eq!(engine.memory_report().driver_bytes, own_bytes);
        assert_eq!(graphs(), made, "{count} streams");
        compare(&engine, device, "after some streams");
    }
    assert!(device.count("cuGraphLaunch") > launched);
    let peak = device.count("used_peak");
    assert!(peak <= budget, "{peak} of {budget}");
    drop((voice, engine));
    device.expect_clean("after the engine");
}

#[test]
fn a_budget_full_to_the_last_byte_holds_every_number_of_streams() {
    hold_every_number_of_streams(5, source);
}

#[test]
fn a_budget_full_to_the_last_byte_holds_every_kind_of_pass_over_blocks() {
    hold_every_number_of_streams(44, || {
        let mut config = ModelConfig::tiny_flash();
        config.t3.sampling.token_count_max = 40;
        config.voice.prompt.flow_seconds_max = 0.2;
        Source::Random(Box::new(config))
    });
}

#[test]
fn pinned_memory_is_in_the_hosts_ledger_and_its_plan() {
    let device = StandIn::new(3, "memory=1073741824");
    let engine = Engine::load(source(), options(device)).unwrap();
    let host = engine.memory_report().host.unwrap();
    let pinned = host.owners.iter().find(|owner| owner.tag == "pinned");
    let pinned = pinned.expect("an owner").bytes;
    assert_eq!(pinned, device.count("pinned"));
    assert_eq!(engine.plan().host.unwrap().staging_bytes, pinned);
    assert!(pinned > 0 && host.promised_bytes >= pinned);
}
