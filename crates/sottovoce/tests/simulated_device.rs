//! The engine on a device whose memory the host cannot access.

use sottovoce::{
    Engine, EngineOptions, Error, HostReport, MemoryReport, ModelConfig, PrecisionChoice, Source,
    StreamOptions, Voice, VoiceSource,
};
use sottovoce_memory::Memory;
use sottovoce_memory::driver::DriverError;
use sottovoce_tensor::Device;
use sottovoce_tensor::simulated::SimulatedDevice;
use std::sync::Arc;

const TEXT: &str = "We counted forty two boats. Then we went home.";

fn tiny() -> Source {
    Source::Random(Box::new(ModelConfig::tiny_base()))
}

fn options(precision: PrecisionChoice) -> EngineOptions {
    EngineOptions {
        precision,
        threads: Some(1),
        ..EngineOptions::default()
    }
}

fn simulated(source: Source, options: EngineOptions) -> (Engine, Arc<SimulatedDevice>) {
    let (device, memory, _) = SimulatedDevice::new(1 << 32, 1);
    let device = Arc::new(device);
    let engine = Engine::load_on(device.clone(), memory, source, options).unwrap();
    (engine, device)
}

fn speak(engine: &Engine, voice: &Voice, tokens_max: usize) -> Result<Vec<f32>, Error> {
    let options = StreamOptions {
        seed: 11,
        chunk_size: Some(20),
        sentence_tokens_max: Some(tokens_max),
        ..StreamOptions::default()
    };
    let mut samples = Vec::new();
    for chunk in engine.stream(TEXT, voice, options)? {
        samples.extend(chunk?.samples);
    }
    Ok(samples)
}

fn held(owners: &[sottovoce::OwnerBytes], region: &str) -> u64 {
    let own = owners.iter().filter(|owner| owner.region == region);
    own.map(|owner| owner.bytes).sum()
}

fn host(report: &MemoryReport) -> &HostReport {
    report.host.as_ref().expect("a ledger of its own")
}

#[test]
fn it_says_the_same_as_the_processor_to_the_bit() {
    use PrecisionChoice::{F16, F32, Int8, Q4};
    for (source, precisions) in [
        (Source::Embedded, &[F16, Int8][..]),
        (tiny(), &[F32, F16, Int8, Q4]),
    ] {
        for &precision in precisions {
            let on_processor = Engine::load(source.clone(), options(precision)).unwrap();
            let (on_device, device) = simulated(source.clone(), options(precision));
            let [expected, got] = [&on_processor, &on_device].map(|engine| {
                let voice = engine.voice(VoiceSource::Default).unwrap();
                speak(engine, &voice, 25).unwrap()
            });
            assert!(!expected.is_empty() && expected == got, "at {precision}");
            assert!(device.operations() > 1000);
        }
    }
}

#[test]
fn voices_are_in_the_hosts_ledger_and_everything_else_in_the_devices() {
    let (engine, _) = simulated(tiny(), options(PrecisionChoice::F16));
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let further = engine.varied_voice(&voice, 3).unwrap();
    speak(&engine, &further, 25).unwrap();
    let report = engine.memory_report();
    let on_host = host(&report);
    for region in ["weights", "workspace"] {
        assert!(held(&report.owners, region) > 0, "{region}");
        assert_eq!(held(&on_host.owners, region), 0, "{region}");
    }
    let voices = report.owners.iter().filter(|owner| owner.region == "voice");
    assert!(
        voices.clone().all(|owner| owner.tag == "prefix"),
        "keys and values of a voice alone: {:?}",
        report.owners
    );
    assert!(held(&on_host.owners, "voice") > 0);
    // Rounded up to whole system pages.
    assert!(
        on_host.allocated_bytes - held(&on_host.owners, "voice") < 2 * 4096,
        "nothing else is on the host: {on_host:?}"
    );
    let before = on_host.reserved_bytes;
    drop(further);
    let report = engine.memory_report();
    assert!(host(&report).reserved_bytes < before);
}

#[test]
fn a_stream_is_promised_its_worst_case_in_both_ledgers() {
    let (engine, _) = simulated(tiny(), options(PrecisionChoice::F16));
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let before = engine.memory_report();
    let options = StreamOptions {
        buffered_chunks_max: 1,
        chunk_size: Some(10),
        ..StreamOptions::default()
    };
    let mut stream = engine.stream(TEXT, &voice, options).unwrap();
    stream.next().unwrap().unwrap();
    let during = engine.memory_report();
    let promised = |report: &MemoryReport| (report.promised_bytes, host(report).promised_bytes);
    assert!(promised(&during).0 > promised(&before).0);
    // The waiting chunk and the one in progress: 960 samples of four bytes per token. A sentence's
    // last chunk also has the nine look-ahead tokens.
    let chunks = 2 * (10 + 9) * 960 * 4;
    assert_eq!(promised(&during).1 - promised(&before).1, chunks);
    drop(stream);
    while engine.metrics().streams_live > 0 {
        std::thread::yield_now();
    }
    assert_eq!(promised(&engine.memory_report()), promised(&before));
}

#[test]
fn a_budget_of_the_host_too_small_for_one_stream_is_refused_with_the_numbers() {
    let (device, memory, _) = SimulatedDevice::new(1 << 32, 1);
    let small = EngineOptions {
        host_memory: Some(4096),
        ..options(PrecisionChoice::F16)
    };
    let refused = Engine::load_on(Arc::new(device), memory, tiny(), small);
    match refused.err().unwrap() {
        Error::Budget {
            budget_bytes,
            needed_bytes,
            plan,
            ..
        } => {
            assert_eq!(budget_bytes, 4096);
            assert!(
                needed_bytes > 4096 && plan.contains("on the host"),
                "{plan}"
            );
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_budget_of_the_host_holds_fewer_streams_than_the_device_would() {
    let plan_of = |host_memory: Option<u64>| {
        let (device, memory, _) = SimulatedDevice::new(1 << 32, 1);
        let options = EngineOptions {
            host_memory,
            ..options(PrecisionChoice::F16)
        };
        let engine = Engine::load_on(Arc::new(device), memory, tiny(), options).unwrap();
        engine.plan().clone()
    };
    let plan = plan_of(Some(1 << 30));
    assert_eq!(plan.streams_fit, 8);
    let three = plan.host.unwrap().total_bytes(3);
    assert_eq!(plan_of(Some(three)).streams_fit, 3);
}

#[test]
fn a_device_that_fails_in_mid_sentence_ends_its_streams_with_the_reason() {
    let (engine, device) = simulated(tiny(), options(PrecisionChoice::F16));
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let options = StreamOptions {
        chunk_size: Some(10),
        buffered_chunks_max: 1,
        ..StreamOptions::default()
    };
    let mut stream = engine.stream(TEXT, &voice, options).unwrap();
    stream.next().unwrap().unwrap();
    device.fail(DriverError::Failed {
        call: "launch",
        message: "it fell off the bus".into(),
    });
    let error = stream.find_map(Result::err).expect("it cannot end well");
    assert!(matches!(error, Error::Device(_)), "{error}");
    assert!(error.to_string().contains("it fell off the bus"), "{error}");
    assert!(device.check().is_err());
    drop((stream, voice, engine));
    let (again, _) = simulated(tiny(), self::options(PrecisionChoice::F16));
    let voice = again.voice(VoiceSource::Default).unwrap();
    assert!(!speak(&again, &voice, 25).unwrap().is_empty());
}

#[test]
fn memory_that_is_not_the_devices_is_refused_by_name() {
    let (device, _, _) = SimulatedDevice::new(1 << 32, 1);
    let loaded = Engine::load_on(
        Arc::new(device),
        Memory::host(1 << 32),
        tiny(),
        options(PrecisionChoice::F16),
    );
    let message = loaded.err().unwrap().to_string();
    assert!(
        message.contains("simulated") && message.contains("host"),
        "{message}"
    );
}
