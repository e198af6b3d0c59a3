//! A model with the sound of another one.

#[allow(dead_code, reason = "what only other tests use")]
mod common;

use sottovoce::{
    Engine, EngineOptions, Error, ModelConfig, Source, StreamOptions, Variant, Voice, VoiceSource,
};
use sottovoce_chatterbox::convert::convert_model;
use sottovoce_chatterbox::voice::PreparedVoice;
use sottovoce_chatterbox::weights::WeightSource;
use sottovoce_tensor::Precision;
use std::path::{Path, PathBuf};

fn random(config: ModelConfig) -> Source {
    Source::Random(Box::new(config))
}

fn paired(model: Source, sound: Source) -> Source {
    Source::Paired {
        model: Box::new(model),
        sound: Box::new(sound),
    }
}

fn base() -> ModelConfig {
    let mut config = ModelConfig::tiny_base();
    config.voice.prompt.flow_seconds_max = 1.0;
    config
}

fn options() -> EngineOptions {
    EngineOptions {
        threads: Some(1),
        streams_max: 1,
        ..EngineOptions::default()
    }
}

fn speak(engine: &Engine, voice: &Voice) -> (Vec<f32>, u64) {
    let options = StreamOptions {
        seed: 3,
        sentence_tokens_max: Some(40),
        ..StreamOptions::default()
    };
    let (mut samples, mut tokens) = (Vec::new(), 0);
    for chunk in engine.stream("Ten boats.", voice, options).unwrap() {
        let chunk = chunk.unwrap();
        samples.extend(chunk.samples);
        tokens = chunk.metrics.tokens;
    }
    (samples, tokens)
}

#[test]
fn bases_t3_speaks_with_turbos_sound_and_both_are_in_the_plan() {
    let load = |source| {
        let engine = Engine::load(source, options()).unwrap();
        let voice = engine.voice(VoiceSource::Default).unwrap();
        (engine, voice)
    };
    let turbo = ModelConfig::tiny_turbo();
    let (alone, voice) = load(random(base()));
    let (own, own_tokens) = speak(&alone, &voice);
    let (engine, voice) = load(paired(random(base()), random(turbo.clone())));
    let (samples, tokens) = speak(&engine, &voice);
    assert_eq!(tokens, own_tokens, "T3 is the same");
    let silence = turbo.flow.silence_token_count * turbo.samples_per_token();
    assert_eq!(
        samples.len(),
        own.len() + silence,
        "turbo's flow ends with a silence"
    );
    assert!(samples.iter().any(|sample| sample.abs() > 1e-3));
    let capabilities = engine.capabilities();
    assert!(
        capabilities.has(sottovoce::options::Capability::Emotion),
        "of base"
    );
    assert!(
        !capabilities.has(sottovoce::options::Capability::GuidedFlow),
        "of turbo"
    );
    let owners = engine.memory_report().owners;
    assert!(owners.iter().any(|owner| owner.tag == "t3"));
    let bytes = |source| Engine::plan_for(&source, &options()).unwrap().weights_bytes;
    let only_base = EngineOptions {
        speech: false,
        ..options()
    };
    let sound_of = |config| {
        Engine::plan_for(&random(config), &only_base)
            .unwrap()
            .weights_bytes
    };
    assert_eq!(
        bytes(paired(random(base()), random(turbo.clone()))) + sound_of(base()),
        bytes(random(base())) + sound_of(turbo)
    );
}

/// A converted folder of random weights.
fn write(folder: &Path, name: &str, config: ModelConfig, seed: u64) -> PathBuf {
    let path = folder.join(name);
    convert_model(
        &WeightSource::synthetic(config, seed),
        &path,
        Precision::F32,
    )
    .unwrap();
    path
}

#[test]
fn a_voice_is_prepared_by_the_networks_of_both() {
    let folder = tempfile::tempdir().unwrap();
    let model = write(folder.path(), "base", base(), 1);
    let sound = write(folder.path(), "turbo", ModelConfig::tiny_turbo(), 2);
    let prepared = |model: &Path, sound: Option<&Path>| {
        // No tokenizer is here: the folders only change voices.
        let options = EngineOptions {
            speech: false,
            sound: sound.map(Path::to_owned),
            ..options()
        };
        let source = Source::Directory(model.to_owned());
        let engine = Engine::load(source, options).unwrap();
        let clip = VoiceSource::ClipBytes {
            name: "clip.wav".into(),
            bytes: common::clip(6.0, 24_000),
        };
        let path = folder.path().join("voice.safetensors");
        engine.voice(clip).unwrap().save(&path).unwrap();
        PreparedVoice::read(&std::fs::read(path).unwrap(), &base()).unwrap()
    };
    let both = prepared(&model, Some(&sound));
    let of_model = prepared(&model, None);
    assert_eq!(both.speaker_embedding, of_model.speaker_embedding);
    assert_ne!(both.x_vector, of_model.x_vector);
    assert_ne!(both.flow_prompt_tokens, of_model.flow_prompt_tokens);
    assert_eq!(both.prompt_mel, of_model.prompt_mel, "the recording's own");
}

#[test]
fn pairs_that_cannot_work_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let model = write(folder.path(), "base", base(), 1);
    let mut other = ModelConfig::tiny_turbo();
    other.flow.vocabulary = 6_400;
    let tokens = write(folder.path(), "tokens", other, 1);
    let embedded = Source::Embedded;
    let directory = |path: &Path| Source::Directory(path.to_owned());
    let synthetic = Source::Synthetic(Variant::Base);
    for (model, sound, words) in [
        (directory(&model), tokens.clone(), "6400 speech tokens"),
        (embedded, tokens.clone(), "pico"),
        (synthetic, tokens, "random weights go with random weights"),
        (directory(&model), "/no/such/model".into(), "/no/such/model"),
    ] {
        let options = EngineOptions {
            sound: Some(sound),
            ..options()
        };
        let refused = Engine::load(model, options).err().unwrap();
        assert!(matches!(refused, Error::Model { .. }), "{refused}");
        assert!(refused.to_string().contains(words), "{refused}");
    }
}
