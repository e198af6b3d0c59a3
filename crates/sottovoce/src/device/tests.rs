//! A CUDA device, on the stand-in for its driver's library, says what the processor says.

use super::{Opened, open};
use crate::holdings::Holdings;
use crate::loading::{choose, default_voice, model};
use crate::options::{DeviceChoice, EngineOptions, PrecisionChoice, Source, StreamOptions};
use crate::pipeline::Pipeline;
use cuda_stand_in::client::StandIn;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_memory::Memory;
use sottovoce_tensor::CachePrecision;
use std::sync::Weak;

const TEXT: &str = "We counted forty two boats.";
const TOKENS_MAX: usize = 20;

/// What a model says on a device: how many tokens, and the samples. Where weights are in integers,
/// rows are rounded finely.
fn say(source: &Source, precision: PrecisionChoice, choice: DeviceChoice) -> (u64, Vec<f32>) {
    let options = EngineOptions {
        precision,
        key_value_precision: CachePrecision::F32,
        ..EngineOptions::default()
    };
    let Opened { device, memory, .. } = open(choice, 1, Some(1 << 30)).unwrap();
    let weights = model(source).unwrap();
    let chosen = choose(&weights, &options, &*device).unwrap();
    let mut pipeline = Pipeline::load(
        &weights,
        &memory,
        chosen.precision,
        options.key_value_precision,
        chosen.extent,
        &chosen.recordings,
        device.clone(),
    )
    .unwrap();
    pipeline.round_finely();
    let host = Memory::host(1 << 26);
    let voice = default_voice(&weights).unwrap().unwrap();
    let voice = voice.keep(&host, None, Weak::new()).unwrap();
    let holdings = Holdings::new(memory, Some(host), pipeline.pages().clone());
    let spoken = StreamOptions {
        temperature: Some(0.0),
        seed: 3,
        sentence_tokens_max: Some(TOKENS_MAX),
        ..StreamOptions::default()
    };
    let begun = {
        let _open = holdings.open();
        pipeline.begin(1, 0, Some(TEXT), &voice, &spoken, &holdings)
    };
    let mut utterance = begun.unwrap();
    while utterance.speaking() {
        pipeline.step(&mut [&mut utterance], &holdings).unwrap();
    }
    let mut samples = Vec::new();
    while utterance.tokens_waiting() > 0 {
        let count = utterance.tokens_waiting().min(10);
        let reads = || device.traffic().count().reads;
        let before = reads();
        let mel = pipeline.mel(&mut utterance, count, &holdings).unwrap();
        let last = utterance.tokens_waiting() == 0;
        let made = pipeline.samples(&mut utterance, &mel, last, &holdings);
        samples.extend(made.unwrap());
        assert_eq!(
            reads() - before,
            2,
            "one of a flow chunk, one of a vocoder chunk"
        );
    }
    (utterance.tokens_generated(), samples)
}

/// ‖a − b‖ / ‖b‖.
fn relative_l2(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "samples");
    let square = |x: f32| f64::from(x) * f64::from(x);
    let off: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (off / b.iter().copied().map(square).sum::<f64>()).sqrt()
}

#[test]
fn cuda_says_what_the_processor_says() {
    let stand_in = StandIn::new(0, "memory=1073741824 order=shuffled:7");
    let tiny = Source::Random(Box::new(ModelConfig::tiny_base()));
    // The processor rounds rows to 16 bits where weights are in integers; the device does not, and
    // phases of harmonics add up what that makes of frequencies.
    for (source, precision, most) in [
        (&tiny, PrecisionChoice::F32, 1e-4),
        (&tiny, PrecisionChoice::Q4, 1e-3),
        (&Source::Embedded, PrecisionChoice::Auto, 4e-3),
    ] {
        let (tokens, expected) = say(source, precision, DeviceChoice::Cpu);
        let (tokens_there, samples) = say(source, precision, DeviceChoice::Cuda(0));
        assert_eq!(
            (tokens, tokens_there > 0),
            (tokens_there, true),
            "at {precision}"
        );
        let off = relative_l2(&samples, &expected);
        println!("{precision}: {tokens} tokens, relative L2 {off:.2e}");
        assert!(off < most, "at {precision}: {off}");
        stand_in.expect_clean("after the engine");
    }
}
