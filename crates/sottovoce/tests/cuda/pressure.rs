//! Memory pressure on a CUDA device, as in `validate`: a fault at each driver call, and memory
//! taken by another process.

use crate::scene::{options, source, within_patience};
use cuda_stand_in::client::StandIn;
use sottovoce::EngineOptions;
use sottovoce::validate::{ValidateOptions, pressure};

#[test]
fn too_little_memory_on_a_card_costs_nothing_but_an_error() {
    within_patience("pressure", || {
        let device = StandIn::new(30, "memory=1073741824 threads=1000 module=4096");
        let options = ValidateOptions {
            source: source(),
            engine: EngineOptions {
                host_memory: Some(1 << 30),
                // The default of streams.
                context_tokens_max: EngineOptions::default().context_tokens_max,
                ..options(device)
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
