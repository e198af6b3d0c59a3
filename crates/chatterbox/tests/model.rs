//! Whole models without weights of their own: conversion, and voices from recordings that are not
//! there, too short, silent or foreign.

use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::convert::convert_model;
use sottovoce_chatterbox::parity::Parity;
use sottovoce_chatterbox::voice::Preparer;
use sottovoce_chatterbox::weights::WeightSource;
use sottovoce_formats::audio::Recording;
use sottovoce_formats::dtype::Dtype;
use sottovoce_formats::safetensors::{Entry, SafetensorsWriter, TensorInfo, read_header};
use sottovoce_memory::Memory;
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{Precision, Threads};

fn cpu() -> Cpu {
    Cpu::new(Threads::new(2))
}

fn noise(seconds: usize, rate: usize) -> Vec<f32> {
    let mut state = 1u32;
    (0..seconds * rate)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 24) as f32 * 0.4 - 0.2
        })
        .collect()
}

#[test]
fn a_converted_model_computes_what_the_original_does() {
    let samples = noise(1, 16_000);
    let entries = [Entry::new("wav_16k", Dtype::F32, &[samples.len()])];
    let mut writer = SafetensorsWriter::begin(Vec::new(), &entries, &[]).unwrap();
    writer
        .tensor(
            "wav_16k",
            &samples
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect::<Vec<u8>>(),
        )
        .unwrap();
    let inputs = writer.finish().unwrap();
    let memory = Memory::host(1 << 32);
    for config in [ModelConfig::tiny_base(), ModelConfig::tiny_turbo()] {
        let original = WeightSource::synthetic(config, 3);
        let folder = tempfile::tempdir().unwrap();
        convert_model(&original, folder.path(), Precision::Int8).unwrap();
        let converted = WeightSource::open(folder.path()).unwrap();
        let compute = |source: &WeightSource| {
            Parity {
                source,
                device: &cpu(),
                memory: &memory,
                precision: Precision::Int8,
            }
            .compute(&inputs)
            .unwrap()
        };
        assert!(
            compute(&original) == compute(&converted),
            "the outputs must be the same to the bit"
        );
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

#[test]
fn inputs_that_no_output_can_be_computed_from_are_refused_by_name() {
    let source = WeightSource::synthetic(ModelConfig::tiny_base(), 3);
    let compute = |inputs: &[(&str, Dtype, &[usize], &[u8])]| -> Result<(), String> {
        let entries: Vec<Entry> = (inputs.iter())
            .map(|(name, dtype, shape, _)| Entry::new(*name, *dtype, shape))
            .collect();
        let mut writer = SafetensorsWriter::begin(Vec::new(), &entries, &[]).unwrap();
        for (name, _, _, bytes) in inputs {
            writer.tensor(name, bytes).unwrap();
        }
        let parity = Parity {
            source: &source,
            device: &cpu(),
            memory: &Memory::host(1 << 32),
            precision: Precision::F32,
        };
        let computed = parity.compute(&writer.finish().unwrap());
        computed.map(|_| ()).map_err(|error| error.to_string())
    };
    let wave = |shape: &[usize], value: f32| {
        let samples = bytes_of(&vec![value; shape.iter().product()]);
        compute(&[("wav_24k", Dtype::F32, shape, &samples)])
    };
    let speech = |tokens: &[i64], prompt: usize| {
        let tokens: Vec<u8> = (tokens.iter())
            .flat_map(|token| token.to_le_bytes())
            .collect();
        let speaker = bytes_of(&vec![0.1; source.config().t3.speaker_embedding]);
        compute(&[
            ("text_tokens", Dtype::U8, &[3], &[255, 7, 0]),
            ("speech_in", Dtype::I64, &[tokens.len() / 8], &tokens),
            (
                "cond_speaker_embedding",
                Dtype::F32,
                &[speaker.len() / 4],
                &speaker,
            ),
            ("cond_prompt_tokens", Dtype::U8, &[prompt], &vec![1; prompt]),
            ("emotion", Dtype::F32, &[1], &bytes_of(&[0.5])),
        ])
    };
    assert_eq!(wave(&[721], 0.1), Ok(()));
    assert_eq!(
        wave(&[1, 721], 0.1),
        Ok(()),
        "a batch of one is what it holds"
    );
    assert_eq!(speech(&[3, 4], 5), Ok(()));
    for (refused, reason) in [
        (wave(&[720], 0.1), "wav_24k has 720"),
        (wave(&[2, 800], 0.1), "wav_24k is [2, 800]"),
        (wave(&[721], f32::NAN), "wav_24k holds NaN"),
        (compute(&[]), "nothing"),
        (compute(&[("mistyped", Dtype::U8, &[1], &[0])]), "mistyped"),
        (speech(&[], 5), "speech_in has 0"),
        // The last is only predicted.
        (speech(&[3, 70_000], 5), "70000"),
        (speech(&[3, 4], 151), "cond_prompt_tokens has 151"),
    ] {
        let message = refused.unwrap_err();
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn recordings_without_a_voice_are_refused_with_the_reason() {
    let source = WeightSource::synthetic(ModelConfig::tiny_turbo(), 3);
    let memory = Memory::host(1 << 32);
    let preparer = Preparer::new(&source, &memory).unwrap();
    let refused = |samples: Vec<f32>| {
        preparer
            .prepare(
                &cpu(),
                &Recording {
                    samples,
                    sample_rate: 24_000,
                },
            )
            .unwrap_err()
            .to_string()
    };
    assert!(refused(vec![0.0; 24_000 * 6]).contains("silent"));
    assert!(refused(noise(5, 24_000)).contains("more than 5 s"));
    assert!(refused(Vec::new()).contains("0.0 s"));
}

#[test]
fn a_prepared_voice_has_the_models_sizes_and_its_networks_are_given_back() {
    let config = ModelConfig::tiny_turbo();
    let source = WeightSource::synthetic(config.clone(), 3);
    let memory = Memory::host(1 << 32);
    let preparer = Preparer::new(&source, &memory).unwrap();
    let voice = preparer
        .prepare(
            &cpu(),
            &Recording {
                samples: noise(16, 8_000),
                sample_rate: 8_000,
            },
        )
        .unwrap();
    assert_eq!(voice.t3_prompt_tokens.len(), 375);
    assert_eq!(voice.flow_prompt_tokens.len(), 250);
    assert_eq!(voice.prompt_mel.len(), 500 * config.flow.mel_bands());
    memory.trim();
    assert_eq!(
        memory.statistics().held_bytes(),
        0,
        "what preparation took must be given back"
    );
}

#[test]
fn the_voice_networks_give_the_references_outputs() {
    let file = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/voice.safetensors"
    ))
    .unwrap();
    let header = read_header(&file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.safetensors"), &file).unwrap();
    std::fs::write(
        folder.path().join("config.json"),
        ModelConfig::tiny_base().to_json(),
    )
    .unwrap();
    let source = WeightSource::open(folder.path()).unwrap();
    let memory = Memory::host(1 << 32);
    let parity = Parity {
        source: &source,
        device: &cpu(),
        memory: &memory,
        precision: Precision::F32,
    };
    let outputs = parity.compute(&file).unwrap();
    let computed = read_header(&outputs).unwrap();
    for name in ["speaker_embedding", "x_vector"] {
        let values = |file: &[u8], info: &TensorInfo| {
            let mut values = vec![0.0; info.shape.iter().product()];
            info.dtype.read_f32(&file[info.bytes.clone()], &mut values);
            values
        };
        let expected = values(&file, &header.tensors[&format!("expected.{name}")]);
        let found = values(&outputs, &computed.tensors[name]);
        let difference: f32 = found
            .iter()
            .zip(&expected)
            .map(|(found, expected)| (found - expected).powi(2))
            .sum();
        let size: f32 = expected.iter().map(|value| value * value).sum();
        assert!(
            (difference / size).sqrt() <= 1e-4,
            "{name}: relative L2 error {:e}",
            (difference / size).sqrt()
        );
    }
    let tokens =
        |file: &[u8], info: &TensorInfo| info.dtype.read_i64(&file[info.bytes.clone()]).unwrap();
    let expected = tokens(&file, &header.tensors["expected.speech_tokens"]);
    assert_eq!(
        tokens(&outputs, &computed.tensors["speech_tokens"]),
        expected
    );
    assert!(
        expected.len() > 30 && expected.windows(2).any(|pair| pair[0] != pair[1]),
        "the tokens say something"
    );
}

#[test]
fn a_model_without_networks_for_voices_is_converted_without_them() {
    let pico = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../sottovoce/assets/pico/model.safetensors"
    );
    let source = WeightSource::open(pico.as_ref()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let converted = convert_model(&source, folder.path(), Precision::Int8).unwrap();
    assert_eq!(converted.tensors, source.tensor_names().count());
    WeightSource::open(folder.path()).unwrap();
}
