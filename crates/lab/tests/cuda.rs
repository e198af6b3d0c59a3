//! A CUDA device (the stand-in) under memory pressure, as in `validate`; its plan next to the
//! reference.

#![cfg(target_os = "linux")]

use cuda_stand_in::client::{StandIn, within_patience};
use sottovoce::{
    DeviceChoice, Engine, EngineOptions, ModelConfig, PrecisionChoice, Source, Variant,
};
use sottovoce_lab::bench::REFERENCE_PEAK_RESERVED_BYTES;
use sottovoce_lab::validate::{ValidateOptions, pressure};

/// Speech tokens of a chunk.
const CHUNK_TOKENS: usize = 10;

/// The base model's architecture at its smallest: the stand-in runs every thread of every kernel.
fn source() -> Source {
    let mut config = ModelConfig::tiny_base();
    config.t3.sampling.token_count_max = 40;
    config.voice.prompt.flow_seconds_max = 0.2;
    Source::Random(Box::new(config))
}

#[test]
fn too_little_memory_on_a_card_costs_nothing_but_an_error() {
    within_patience("pressure", || {
        let device = StandIn::new(30, "memory=1073741824 threads=1000 module=4096");
        let options = ValidateOptions {
            source: source(),
            engine: EngineOptions {
                host_memory: Some(1 << 30),
                device: DeviceChoice::Cuda(device.ordinal()),
                precision: PrecisionChoice::F16,
                chunk_tokens_max: Some(CHUNK_TOKENS),
                threads: Some(1),
                streams_max: 2,
                ..EngineOptions::default()
            },
            audio_seconds: 1.0,
            voices: 1,
            switches: 1,
            streams: 1,
            streams_in_budget: 1,
            faults_max: 2,
            sentence_tokens_max: Some(6),
        };
        let report = pressure(&options, &mut |_| {}).unwrap();
        assert!(report.held, "{report:#?}");
        assert!(report.one_page_less_refused && report.minimum_works);
        let [card] = &report.devices[..] else {
            panic!("one device: {report:#?}");
        };
        assert_eq!(card.device, "cuda:30");
        let refused: usize = card.faults.iter().map(|faults| faults.refused).sum();
        assert!(refused > 0, "{report:#?}");
        device.expect_clean("after all runs");
    });
}

/// By the plan alone: no weights of this size are loaded. The driver's own memory is not part of
/// the reference's figure either.
#[test]
fn base_on_a_card_takes_as_little_of_the_reference_as_on_the_processor() {
    let device = StandIn::new(4, "memory=25757220864");
    for (precision, share_max) in [
        (PrecisionChoice::F16, 0.45),
        (PrecisionChoice::Int8, 0.30),
        (PrecisionChoice::Q4, 0.22),
    ] {
        let options = EngineOptions {
            device: DeviceChoice::Cuda(device.ordinal()),
            precision,
            threads: Some(1),
            streams_max: 1,
            ..EngineOptions::default()
        };
        let plan = Engine::plan_for(&Source::Synthetic(Variant::Base), &options).unwrap();
        let bytes = plan.total_bytes(1) - plan.device_bytes;
        let share = bytes as f64 / REFERENCE_PEAK_RESERVED_BYTES as f64;
        println!(
            "{precision}: {:.1} % of the reference, {plan:?}",
            share * 100.0
        );
        assert!(share <= share_max, "{precision}: {share}");
    }
    device.expect_clean("after the plans");
}
