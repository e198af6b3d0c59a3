//! A small model in a folder with the official layout.

use sottovoce::ModelConfig;
use sottovoce_chatterbox::components::visit;
use sottovoce_chatterbox::weights::{Component, WeightSource, WeightsError, measure};
use sottovoce_formats::dtype::Dtype;
use sottovoce_formats::safetensors::{Entry, SafetensorsWriter};
use sottovoce_tensor::Precision;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

pub const T3_FILE: &str = "t3_cfg.safetensors";
pub const SOUND_FILE: &str = "s3gen.safetensors";
pub const ENCODER_FILE: &str = "ve.safetensors";

const FILES: [(&str, &[Component]); 3] = [
    (T3_FILE, &[Component::T3]),
    (
        SOUND_FILE,
        &[
            Component::Flow,
            Component::Vocoder,
            Component::SpeechTokenizer,
            Component::SpeakerVector,
        ],
    ),
    (ENCODER_FILE, &[Component::VoiceEncoder]),
];

/// The base model's architecture, with utterances of at most a second.
pub fn config() -> ModelConfig {
    let mut config = ModelConfig::tiny_base();
    config.t3.sampling.token_count_max = 25;
    config
}

/// Writes the folder: seeded random weights, a tokenizer of letters, the config; no voice.
pub fn write_model(folder: &Path, config: &ModelConfig) {
    // Finding the tensors takes longer than most tests.
    static WRITTEN: Mutex<BTreeMap<String, Vec<Vec<u8>>>> = Mutex::new(BTreeMap::new());
    let json = config.to_json();
    std::fs::write(folder.join("config.json"), &json).unwrap();
    std::fs::write(folder.join("tokenizer.json"), tokenizer()).unwrap();
    let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(files) = written.get(&json) {
        for ((name, _), bytes) in FILES.iter().zip(files) {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
        return;
    }
    let mut files: Vec<Vec<Entry>> = FILES.iter().map(|_| Vec::new()).collect();
    for (entries, (file, _)) in files.iter().zip(FILES) {
        write_header(&folder.join(file), entries);
    }
    for (place, (file, components)) in FILES.into_iter().enumerate() {
        for &component in components {
            grow(folder, file, component, config, &mut files[place]);
        }
        write_weights(&folder.join(file), &files[place]);
    }
    let of_file = |(name, _): &(&str, _)| std::fs::read(folder.join(name)).unwrap();
    written.insert(json, FILES.iter().map(of_file).collect());
}

/// Adds the tensors that a network requests, one at a time, until loading succeeds.
fn grow(
    folder: &Path,
    file: &str,
    component: Component,
    config: &ModelConfig,
    entries: &mut Vec<Entry>,
) {
    loop {
        let source = WeightSource::open(folder).unwrap();
        let visited = measure(&source, component, Precision::F32, |loader| {
            visit(component, config, loader)
        });
        match visited {
            Ok(_) => return,
            Err(WeightsError::MissingTensor { tensor, shape, .. }) => {
                entries.push(Entry::new(tensor, Dtype::F32, &shape));
            }
            Err(error) => panic!("{error}"),
        }
        write_header(&folder.join(file), entries);
    }
}

/// A file whose weights are all zero.
fn write_header(path: &Path, entries: &[Entry]) {
    let weights: usize = entries.iter().map(Entry::byte_count).sum();
    let mut header = Vec::new();
    SafetensorsWriter::begin(&mut header, entries, &[])
        .map(|_| ())
        .unwrap();
    std::fs::write(path, &header).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len((header.len() + weights) as u64).unwrap();
}

fn write_weights(path: &Path, entries: &[Entry]) {
    let mut writer = SafetensorsWriter::begin(Vec::new(), entries, &[]).unwrap();
    for entry in entries {
        let bytes: Vec<u8> = values(entry)
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        writer.tensor(&entry.name, &bytes).unwrap();
    }
    std::fs::write(path, writer.finish().unwrap()).unwrap();
}

/// Weights that roughly preserve the scale of signals.
fn values(entry: &Entry) -> Vec<f32> {
    let mut state = entry.name.bytes().fold(1u32, |state, byte| {
        state.wrapping_mul(31).wrapping_add(byte.into())
    });
    let inputs: usize = entry.shape.iter().skip(1).product();
    let is_gain = entry.shape.len() == 1
        && ["weight", "alpha", "running_var"]
            .iter()
            .any(|end| entry.name.ends_with(end));
    let (middle, width) = match entry.shape.len() {
        1 => (if is_gain { 1.0 } else { 0.0 }, 0.1),
        _ => (0.0, (12.0 / inputs as f32).sqrt()),
    };
    (0..entry.shape.iter().product())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            middle + width * ((state >> 8) as f32 / (1 << 24) as f32 - 0.5)
        })
        .collect()
}

/// Every ASCII letter and mark is a token of its own.
fn tokenizer() -> String {
    let mut vocabulary = serde_json::Map::new();
    let mut tokens = vec!["[STOP]".to_owned(), "[UNK]".into(), "[SPACE]".into()];
    tokens.extend((33..127u8).map(|byte| char::from(byte).to_string()));
    for (id, token) in tokens.into_iter().enumerate() {
        vocabulary.insert(token, id.into());
    }
    vocabulary.insert("[START]".into(), 255.into());
    let added: Vec<serde_json::Value> = [("[STOP]", 0), ("[SPACE]", 2), ("[START]", 255)]
        .into_iter()
        .map(|(content, id)| {
            serde_json::json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null, "decoder": null,
        "added_tokens": added,
        "pre_tokenizer": { "type": "Whitespace" },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "[UNK]", "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": [],
        },
    })
    .to_string()
}

/// A WAV file of a buzz with varying volume.
pub fn clip(seconds: f32, rate: u32) -> Vec<u8> {
    let count = (seconds * rate as f32) as u32;
    let samples = (0..count).flat_map(|index| {
        let time = index as f32 / rate as f32;
        let level = 0.2 + 0.2 * (time * 9.0).sin();
        let sample = level * ((time * 140.0).fract() - 0.5);
        ((sample * 32_767.0) as i16).to_le_bytes()
    });
    let data: Vec<u8> = samples.collect();
    let mut file = b"RIFF".to_vec();
    file.extend((36 + data.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(rate.to_le_bytes());
    file.extend((2 * rate).to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}
