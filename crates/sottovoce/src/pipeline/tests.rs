//! Tests of the pipeline, most of them on a device with memory of its own.

use super::*;
use crate::device;
use crate::holdings::Holdings;
use crate::options::{DeliveryMode, EngineOptions, Source as Model, StreamOptions};
use crate::voice::Voice;
use sottovoce_chatterbox::t3::run_on::speech_tokens_max;
use sottovoce_memory::Memory;
use sottovoce_tensor::TrafficCount;
use sottovoce_tensor::simulated::SimulatedDevice;

const TEXT: &str = "We counted forty two boats before it got dark.";

/// A pipeline on a simulated device with memory of its own, and its voice.
fn simulated(source: &Model) -> (Pipeline, Voice, Holdings) {
    let (device, memory, _) = SimulatedDevice::new(1 << 32, 1);
    let device: Arc<dyn Device> = Arc::new(device);
    let Standalone {
        pipeline,
        voice,
        holdings,
    } = Standalone::load(source, &EngineOptions::default(), device, memory).unwrap();
    (pipeline, voice, holdings)
}

#[test]
fn a_sentence_that_loops_or_runs_on_is_ended_and_counted_and_the_next_is_spoken() {
    let (mut pipeline, voice, holdings) = simulated(&Model::Embedded);
    let first = "We counted them all.";
    let text = format!("{first} Then all of us went home again.");
    let looping: &dyn Fn(u32) -> u32 = &|_| 5;
    let endless: &dyn Fn(u32) -> u32 = &|index| 1 + index * index % 300;
    for (forced, most) in [(looping, 78), (endless, speech_tokens_max(first))] {
        let mut utterance = {
            let _open = holdings.open();
            let options = StreamOptions::default();
            (pipeline.begin(1, 0, Some(&text), &voice, &options, &holdings)).unwrap()
        };
        pipeline.step(&mut [&mut utterance], &holdings).unwrap();
        for index in 0.. {
            if utterance.speaking.is_none() {
                break;
            }
            let mut logits = vec![0.0; pipeline.config.t3.speech_vocabulary];
            logits[forced(index) as usize] = 10.0;
            Pipeline::take_token(&pipeline.config, 1, &mut utterance, &logits);
        }
        assert_eq!(utterance.run_ons(), 1);
        assert!(utterance.tokens_generated() <= most as u64);
        assert!(utterance.speaking(), "the next sentence is to come");
        while utterance.speaking() {
            pipeline.step(&mut [&mut utterance], &holdings).unwrap();
        }
        assert_eq!(utterance.run_ons(), 1, "and it ends by itself");
    }
}

#[test]
fn a_step_of_all_streams_a_flow_chunk_and_a_vocoder_chunk_read_from_the_device_once_each() {
    let tiny = Model::Random(Box::new(ModelConfig::tiny_base()));
    for source in [Model::Embedded, tiny] {
        let (mut pipeline, voice, holdings) = simulated(&source);
        let device = pipeline.device().clone();
        let reads = |before: TrafficCount| device.traffic().count().reads - before.reads;
        let options = StreamOptions::default();
        let mut utterances: Vec<Utterance> = {
            let _open = holdings.open();
            (0..3)
                .map(|id| {
                    pipeline
                        .begin(id, id as usize, Some(TEXT), &voice, &options, &holdings)
                        .unwrap()
                })
                .collect()
        };
        let mut batch: Vec<&mut Utterance> = utterances.iter_mut().collect();
        let before = device.traffic().count();
        pipeline.step(&mut batch, &holdings).unwrap();
        assert_eq!(reads(before), 3, "one for the text of each");
        for _ in 0..15 {
            let before = device.traffic().count();
            pipeline.step(&mut batch, &holdings).unwrap();
            assert_eq!(reads(before), 1, "a step");
        }
        let first = &mut utterances[0];
        for last in [false, true] {
            let before = device.traffic().count();
            let count = first.tokens_waiting().min(10);
            let mel = pipeline.mel(first, count, &holdings).unwrap();
            assert_eq!(reads(before), 1, "a flow chunk");
            let before = device.traffic().count();
            let samples = pipeline.samples(first, &mel, last, &holdings).unwrap();
            assert!(!samples.is_empty());
            assert_eq!(reads(before), 1, "a vocoder chunk");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn in_whole_delivery_the_workspace_takes_little_memory_while_t3_speaks() {
    let options = EngineOptions::default();
    let memory = Memory::host(1 << 30);
    let Standalone {
        mut pipeline,
        voice,
        holdings,
    } = Standalone::load(&Model::Embedded, &options, device::host(1), memory).unwrap();
    let stream = StreamOptions {
        delivery: Some(DeliveryMode::Whole),
        ..StreamOptions::default()
    };
    let mut utterances = [1, 2].map(|id| {
        let _open = holdings.open();
        (pipeline.begin(id, 0, Some(TEXT), &voice, &stream, &holdings)).unwrap()
    });
    let [first, second] = &mut utterances;
    let pass = loop {
        pipeline.step(&mut [first], &holdings).unwrap();
        if let Some(pass) = first.due(0) {
            break pass;
        }
    };
    let samples = pipeline.synthesise(first, pass, true, &holdings).unwrap();
    assert!(!samples.is_empty());
    let resident = || holdings.memory().resident().unwrap().bytes;
    let before = resident();
    pipeline.step(&mut [second], &holdings).unwrap();
    let left = before.saturating_sub(resident());
    let workspace = pipeline.workspaces().unwrap().bytes();
    assert!(left > workspace / 4, "{left} of {workspace} bytes");
}
