//! Folders with the official layout: spoken with a recording's voice, converted, and damaged in
//! many ways.

mod common;

use common::{ENCODER_FILE, SOUND_FILE, T3_FILE, clip, config, write_model};
use sottovoce::{
    Engine, EngineOptions, Error, MemoryReport, PrecisionChoice, Source, StreamOptions, Voice,
    VoiceSource, VoiceStore, inspect,
};
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::convert::convert_model;
use sottovoce_chatterbox::voice::PreparedVoice;
use sottovoce_chatterbox::weights::WeightSource;
use sottovoce_formats::safetensors::read_header;
use sottovoce_tensor::Precision;
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

/// Template folder of the tests.
static MODEL: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &config());
    folder
});

fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &config());
    folder
}

fn options(precision: PrecisionChoice) -> EngineOptions {
    EngineOptions {
        precision,
        streams_max: 1,
        ..EngineOptions::default()
    }
}

fn load(folder: &Path) -> Result<Engine, Error> {
    Engine::load(
        Source::Directory(folder.to_owned()),
        options(PrecisionChoice::F32),
    )
}

fn voice(engine: &Engine) -> Voice {
    engine
        .voice(VoiceSource::ClipBytes {
            name: "a buzz".into(),
            bytes: clip(6.0, 22_050),
        })
        .unwrap()
}

fn speak(engine: &Engine, voice: &Voice, text: &str) -> Result<Vec<f32>, Error> {
    let mut samples = Vec::new();
    for chunk in engine.stream(text, voice, StreamOptions::default())? {
        samples.extend(chunk?.samples);
    }
    Ok(samples)
}

/// Byte range of a tensor in a file.
fn place(file: &[u8], tensor: &str) -> Range<usize> {
    read_header(file).unwrap().tensors[tensor].bytes.clone()
}

/// Damages a file of a copied folder; returns the error of loading.
fn damaged(file: &str, damage: impl FnOnce(&mut Vec<u8>)) -> String {
    let folder = copy();
    let path = folder.path().join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    damage(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    load(folder.path()).err().map_or_else(
        || panic!("a damaged {file} must be refused"),
        |error| error.to_string(),
    )
}

#[test]
fn a_recording_gives_a_voice_that_is_kept_and_speaks_the_same_again() {
    let store = VoiceStore::new(tempfile::tempdir().unwrap().keep());
    let options = EngineOptions {
        voices: Some(store.folder().to_owned()),
        ..options(PrecisionChoice::F32)
    };
    let engine = Engine::load(Source::Directory(MODEL.path().to_owned()), options).unwrap();
    let before = engine.memory_report();
    let voice = voice(&engine);
    let after = engine.memory_report();
    let held = |report: &MemoryReport| {
        let others = report.owners.iter().filter(|owner| owner.region != "voice");
        others.map(|owner| owner.bytes).sum::<u64>()
    };
    assert_eq!(
        held(&after),
        held(&before),
        "what preparation took must be given back"
    );
    assert!(after.reserved_bytes - before.reserved_bytes < 1 << 20);
    let (_, path) = store.prepare("buzz").unwrap();
    voice.save(&path).unwrap();
    let kept = engine.voice(VoiceSource::Name("buzz".into())).unwrap();
    let spoken = speak(&engine, &voice, "Hello there.").unwrap();
    assert!(!spoken.is_empty());
    assert!(spoken == speak(&engine, &kept, "Hello there.").unwrap());
    std::fs::remove_dir_all(store.folder()).unwrap();
}

#[test]
fn preparing_a_voice_never_holds_a_whole_tokenizer() {
    let engine = load(MODEL.path()).unwrap();
    voice(&engine);
    let held = (engine.memory_report().owners)
        .iter()
        .find(|owner| owner.region == "weights" && owner.tag == "speech tokenizer")
        .map(|owner| (owner.bytes, owner.peak_bytes))
        .unwrap();
    let inspection = inspect(&Source::Directory(MODEL.path().to_owned())).unwrap();
    let whole = (inspection.parts.iter())
        .find(|part| part.part == "speech tokenizer")
        .map(|part| part.loaded_bytes["f32"])
        .unwrap();
    // The small tokenizer has two blocks, which are most of it.
    assert_eq!(held.0, 0, "nothing stays");
    assert!(held.1 > 0 && held.1 < whole * 7 / 10, "{held:?} of {whole}");
}

#[test]
fn a_folder_without_a_voice_of_its_own_asks_for_one() {
    let engine = load(MODEL.path()).unwrap();
    let error = engine
        .voice(VoiceSource::Default)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("conds.pt"), "{error}");
}

#[test]
fn a_converted_folder_speaks_at_its_precision() {
    for (precision, choice) in [
        (Precision::F16, PrecisionChoice::F16),
        (Precision::Int8, PrecisionChoice::Int8),
        (Precision::Q4, PrecisionChoice::Q4),
    ] {
        let target = tempfile::tempdir().unwrap();
        let source = WeightSource::open(MODEL.path()).unwrap();
        convert_model(&source, target.path(), precision).unwrap();
        let spoken = |folder: &Path| {
            let engine = Engine::load(Source::Directory(folder.to_owned()), options(choice));
            let engine = engine.unwrap();
            speak(&engine, &voice(&engine), "Hello there.").unwrap()
        };
        assert!(
            spoken(target.path()) == spoken(MODEL.path()),
            "{precision}: a converted model sounds as one converted while it is loaded"
        );
    }
}

#[test]
fn a_model_is_not_converted_onto_itself() {
    let folder = copy();
    std::fs::write(folder.path().join("conds.pt"), b"a voice").unwrap();
    let source = WeightSource::open(folder.path()).unwrap();
    let error = convert_model(&source, folder.path(), Precision::Int8).unwrap_err();
    assert!(error.to_string().contains("into another"), "{error}");
    assert_eq!(
        std::fs::read(folder.path().join("conds.pt")).unwrap(),
        b"a voice"
    );
}

#[test]
fn weights_that_end_early_are_refused_by_file() {
    for file in [T3_FILE, SOUND_FILE, ENCODER_FILE] {
        for keep in [0, 7, 8, 100] {
            let message = damaged(file, |bytes| bytes.truncate(keep));
            assert!(message.contains(file), "{message}");
        }
        let message = damaged(file, |bytes| bytes.truncate(bytes.len() - 1));
        assert!(
            message.contains(file) && message.contains("cut short"),
            "{message}"
        );
    }
}

#[test]
fn headers_that_claim_the_impossible_are_refused_by_file() {
    for claim in [u64::MAX, 1 << 62, 33 << 20, 0] {
        let message = damaged(T3_FILE, |bytes| {
            bytes[..8].copy_from_slice(&claim.to_le_bytes());
        });
        assert!(message.contains(T3_FILE), "{message}");
    }
}

#[test]
fn a_missing_tensor_is_named_with_its_file_and_shape() {
    let message = damaged(T3_FILE, |bytes| {
        let at = bytes
            .windows(17)
            .position(|window| window == b"speech_emb.weight")
            .unwrap();
        bytes[at] = b'x';
    });
    assert!(
        message.contains(T3_FILE)
            && message.contains("speech_emb.weight is missing")
            && message.contains("[6563, 64]"),
        "{message}"
    );
}

#[test]
fn swapped_files_are_refused_with_the_first_tensor_that_is_not_there() {
    let folder = copy();
    std::fs::copy(MODEL.path().join(ENCODER_FILE), folder.path().join(T3_FILE)).unwrap();
    let message = load(folder.path()).err().unwrap().to_string();
    assert!(message.contains("is also in"), "{message}");
    // A file of another network in T3's place.
    let folder = copy();
    std::fs::rename(folder.path().join(SOUND_FILE), folder.path().join(T3_FILE)).unwrap();
    std::fs::copy(MODEL.path().join(T3_FILE), folder.path().join(SOUND_FILE)).unwrap();
    assert!(
        load(folder.path()).is_ok(),
        "a tensor's name says what it is, whatever its file is called"
    );
}

#[test]
fn another_models_weights_are_refused_by_tensor_and_shape() {
    let folder = copy();
    let mut config = common::config();
    config.t3.backbone.feed_forward = 256;
    std::fs::write(folder.path().join("config.json"), config.to_json()).unwrap();
    let message = load(folder.path()).err().unwrap().to_string();
    assert!(
        message.contains(T3_FILE) && message.contains("[128, 64]") && message.contains("[256, 64]"),
        "{message}"
    );
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    for (file, tensor) in [
        (T3_FILE, "speech_head.weight"),
        (T3_FILE, "tfmr.norm.weight"),
        (SOUND_FILE, "flow.encoder_proj.weight"),
        (SOUND_FILE, "mel2wav.conv_pre.weight"),
    ] {
        for value in [f32::NAN, f32::INFINITY] {
            let message = damaged(file, |bytes| {
                let at = place(bytes, tensor).start;
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            });
            assert!(
                message.contains(file) && message.contains(tensor),
                "{message}"
            );
        }
    }
}

#[test]
fn a_weight_of_the_voice_networks_that_is_no_number_ends_only_the_voice() {
    let folder = copy();
    let path = folder.path().join(ENCODER_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = place(&bytes, "proj.weight").start;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let engine = load(folder.path()).unwrap();
    let source = VoiceSource::ClipBytes {
        name: "a buzz".into(),
        bytes: clip(6.0, 22_050),
    };
    let message = engine.voice(source).err().unwrap().to_string();
    assert!(
        message.contains(ENCODER_FILE) && message.contains("proj.weight"),
        "{message}"
    );
}

#[test]
fn a_missing_file_is_named() {
    for file in [SOUND_FILE, ENCODER_FILE] {
        let folder = copy();
        std::fs::remove_file(folder.path().join(file)).unwrap();
        let message = load(folder.path()).err().unwrap().to_string();
        assert!(message.contains(file), "{message}");
    }
    let folder = copy();
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let message = load(folder.path()).err().unwrap().to_string();
    assert!(message.contains("tokenizer.json"), "{message}");
}

#[test]
fn a_pickle_with_code_is_refused_and_not_run() {
    let folder = copy();
    std::fs::remove_file(folder.path().join(ENCODER_FILE)).unwrap();
    let code = include_bytes!("../../formats/tests/data/code.pt");
    std::fs::write(folder.path().join("ve.pt"), code).unwrap();
    let message = load(folder.path()).err().unwrap().to_string();
    assert!(
        message.contains("ve.pt") && message.contains("nothing was run"),
        "{message}"
    );
    let engine = load(MODEL.path()).unwrap();
    let path = folder.path().join("conds.pt");
    std::fs::write(&path, code).unwrap();
    let message = engine
        .voice(VoiceSource::Prepared(path))
        .err()
        .unwrap()
        .to_string();
    assert!(message.contains("nothing was run"), "{message}");
}

#[test]
fn recordings_that_give_no_voice_are_refused_with_their_name() {
    let engine = load(MODEL.path()).unwrap();
    for (bytes, reason) in [
        (clip(0.1, 24_000), "0.1 s"),
        (clip(0.0, 24_000), "empty"),
        (Vec::new(), "empty"),
        (b"RIFF and then nothing".to_vec(), "not a recording"),
        (vec![0xaa; 100_000], "not a recording"),
    ] {
        let source = VoiceSource::ClipBytes {
            name: "me.wav".into(),
            bytes,
        };
        let message = engine.voice(source).err().unwrap().to_string();
        assert!(
            message.contains("me.wav") && message.contains(reason),
            "{message}"
        );
    }
    let mut silent = clip(3.0, 24_000);
    silent[44..].fill(0);
    let source = VoiceSource::ClipBytes {
        name: "me.wav".into(),
        bytes: silent,
    };
    let message = engine.voice(source).err().unwrap().to_string();
    assert!(message.contains("silent"), "{message}");
}

#[test]
fn a_voice_of_another_model_is_refused() {
    let engine = load(MODEL.path()).unwrap();
    let voice = voice(&engine);
    let folder = copy();
    let path = folder.path().join("buzz.safetensors");
    voice.save(&path).unwrap();
    let mut config = common::config();
    config.t3.speaker_embedding = 48;
    config.voice.encoder.embedding = 48;
    let other = Engine::load(
        Source::Random(Box::new(config)),
        options(PrecisionChoice::F32),
    );
    let message = other
        .unwrap()
        .voice(VoiceSource::Prepared(path))
        .err()
        .unwrap()
        .to_string();
    assert!(message.contains("another model"), "{message}");
}

#[test]
fn prepared_voices_with_prompts_of_any_length_speak_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    for config in [ModelConfig::tiny_base(), ModelConfig::tiny_turbo()] {
        let (bands, upsampling) = (config.flow.mel_bands(), config.flow.upsampling);
        let (embedding, vector) = (config.t3.speaker_embedding, config.flow.speaker_vector);
        let most = config.t3.prompt_token_count_max;
        let engine = Engine::load(
            Source::Random(Box::new(config.clone())),
            options(PrecisionChoice::F32),
        )
        .unwrap();
        for (t3, flow) in [(0, 0), (1, 0), (0, 1), (most + 9, 400), (0, 0), (20, 20)] {
            let prepared = PreparedVoice {
                speaker_embedding: vec![0.1; embedding],
                t3_prompt_tokens: vec![3; t3],
                flow_prompt_tokens: vec![3; flow],
                prompt_mel: vec![-1.0; flow * upsampling * bands],
                x_vector: vec![0.1; vector],
            };
            let path = folder.path().join(format!("{t3}-{flow}.safetensors"));
            std::fs::write(&path, prepared.write(&config).unwrap()).unwrap();
            let voice = engine.voice(VoiceSource::Prepared(path)).unwrap();
            let short = StreamOptions {
                sentence_tokens_max: Some(12),
                ..StreamOptions::default()
            };
            for chunk in engine.stream("Hello there.", &voice, short).unwrap() {
                chunk.unwrap_or_else(|error| panic!("{t3} and {flow} tokens: {error}"));
            }
            let owners = engine.memory_report().owners.into_iter();
            let workspace = owners.filter(|owner| owner.region == "workspace");
            assert!(
                workspace.map(|owner| owner.peak_bytes).sum::<u64>()
                    <= engine.plan().workspace_bytes,
                "{t3} and {flow} tokens: the workspace stays as planned"
            );
        }
    }
}

#[test]
fn any_text_is_spoken_or_refused_with_a_reason() {
    let engine = load(MODEL.path()).unwrap();
    let voice = voice(&engine);
    for text in [
        "Привет, мир.",
        "今天天气很好。",
        "مرحبا بالعالم",
        "e\u{301}\u{200d}\u{202e}\u{0}\u{7}x",
        "Numbers 1,234.5 and 🦀 and ﷽.",
        "x",
    ] {
        assert!(
            !speak(&engine, &voice, text).unwrap().is_empty(),
            "{text:?}"
        );
    }
    for text in ["", " \n\t", "\u{200b}"] {
        let message = speak(&engine, &voice, text).unwrap_err().to_string();
        assert!(
            message.contains("nothing in it to speak"),
            "{text:?}: {message}"
        );
    }
    let message = speak(&engine, &voice, &"x".repeat(100_001))
        .unwrap_err()
        .to_string();
    assert!(message.contains("100000"), "{message}");
}

#[test]
fn a_hundred_thousand_characters_begin_to_sound_at_once() {
    let engine = load(MODEL.path()).unwrap();
    let voice = voice(&engine);
    for text in ["word ".repeat(20_000), "字".repeat(100_000)] {
        let mut stream = engine
            .stream(&text, &voice, StreamOptions::default())
            .unwrap();
        assert!(!stream.next().unwrap().unwrap().samples.is_empty());
    }
}

#[test]
fn what_a_folder_holds_is_told_by_part() {
    let inspection = inspect(&Source::Directory(MODEL.path().to_owned())).unwrap();
    let names: Vec<&str> = inspection
        .parts
        .iter()
        .map(|part| part.part.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "t3",
            "flow",
            "vocoder",
            "voice encoder",
            "speech tokenizer",
            "speaker vector"
        ]
    );
    for part in &inspection.parts {
        assert!(
            part.problem.is_none() && part.surplus.is_empty(),
            "{part:?}"
        );
        assert_eq!(part.stored.stored_bytes, 4 * part.stored.parameters);
        assert!(
            part.loaded_bytes["f16"] < part.loaded_bytes["f32"],
            "{part:?}"
        );
        assert!(
            part.loaded_bytes["q4"] < part.loaded_bytes["f16"],
            "{part:?}"
        );
    }
    let lone = inspect(&Source::Directory(MODEL.path().join(ENCODER_FILE))).unwrap();
    assert_eq!(lone.parts.len(), 1);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        MODEL.path().join(ENCODER_FILE),
        folder.path().join(ENCODER_FILE),
    )
    .unwrap();
    let lone = inspect(&Source::Directory(folder.path().join(ENCODER_FILE))).unwrap();
    assert_eq!((lone.variant, lone.parts[0].stored.tensors), (None, 14));
}

/// Bytes of a folder's files that are mapped and in memory.
#[cfg(target_os = "linux")]
fn resident_file_bytes(folder: &Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let folder = folder.to_str().unwrap();
    let mut within = false;
    let mut kibibytes = 0;
    for line in maps.lines() {
        match line.strip_prefix("Rss:").filter(|_| within) {
            Some(size) => {
                let size = size.trim().trim_end_matches(" kB");
                kibibytes += size.parse::<usize>().unwrap();
                within = false;
            }
            None => within |= line.contains(folder),
        }
    }
    kibibytes << 10
}

#[cfg(target_os = "linux")]
#[test]
fn a_loaded_engine_keeps_no_page_of_the_files_that_it_copied() {
    let folder = copy();
    let engine = load(folder.path()).unwrap();
    speak(&engine, &voice(&engine), "Go.").unwrap();
    assert_eq!(resident_file_bytes(folder.path()), 0);
}
