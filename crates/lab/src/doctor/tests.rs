//! Speech of a CUDA device (the stand-in) equals the CPU's.

use super::self_test::relative_l2;
use super::speech::say;
use cuda_stand_in::client::StandIn;
use sottovoce::{DeviceChoice, PrecisionChoice, Source};
use sottovoce_chatterbox::config::ModelConfig;

const TOKENS_MAX: usize = 20;

#[test]
fn cuda_says_what_the_processor_says() {
    let stand_in = StandIn::new(0, "memory=1073741824 order=shuffled:7");
    let tiny = Source::Random(Box::new(ModelConfig::tiny_base()));
    for (source, precision, most) in [
        (&tiny, PrecisionChoice::F32, 1e-4),
        (&tiny, PrecisionChoice::Q4, 1e-3),
        (&Source::Embedded, PrecisionChoice::Auto, 4e-3),
    ] {
        let expected = say(DeviceChoice::Cpu, source, precision, TOKENS_MAX).unwrap();
        let said = say(DeviceChoice::Cuda(0), source, precision, TOKENS_MAX).unwrap();
        assert_eq!(
            (expected.tokens, said.tokens > 0),
            (said.tokens, true),
            "at {precision}"
        );
        assert_eq!(said.samples.len(), expected.samples.len());
        assert_eq!(
            said.reads_a_chunk, 2,
            "one of a flow chunk, one of a vocoder chunk"
        );
        let off = relative_l2(&said.samples, &expected.samples);
        println!("{precision}: {} tokens, relative L2 {off:.2e}", said.tokens);
        assert!(off < most, "at {precision}: {off}");
        stand_in.expect_clean("after the engine");
    }
}
