//! End-to-end tests of `sottovoce voice`.

use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::convert::convert_model;
use sottovoce_chatterbox::weights::WeightSource;
use sottovoce_tensor::Precision;
use std::path::Path;
use std::process::{Command, Output};

fn voice(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sottovoce"))
        .arg("voice")
        .args(arguments)
        .env("SOTTOVOCE_VOICES", folder)
        .output()
        .unwrap()
}

fn list(folder: &Path) -> String {
    String::from_utf8(voice(folder, &["list"]).stdout).unwrap()
}

#[test]
fn what_is_listed_can_be_removed_and_nothing_goes_when_a_name_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b", "my voice"] {
        let file = format!("{name}.safetensors");
        std::fs::write(folder.path().join(file), b"voice").unwrap();
    }
    std::fs::create_dir(folder.path().join("c.safetensors")).unwrap();
    assert_eq!(list(folder.path()), "a\nb\nmy voice\n");
    let refused = voice(folder.path(), &["remove", "a", "missing"]);
    assert!(!refused.status.success());
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("missing"), "{words}");
    assert_eq!(list(folder.path()), "a\nb\nmy voice\n", "all or none");
    let removed = voice(folder.path(), &["remove", "a", "A", "my voice", "--json"]);
    assert!(removed.status.success());
    let removed: serde_json::Value = serde_json::from_slice(&removed.stdout).unwrap();
    assert_eq!(removed["removed"], serde_json::json!(["a", "my voice"]));
    assert_eq!(list(folder.path()), "b\n");
}

#[test]
fn a_voice_is_prepared_for_a_model_that_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("me.wav");
    std::fs::write(&clip, b"no sound at all").unwrap();
    let clip = clip.to_str().unwrap();
    for (arguments, named) in [
        (&["prepare", clip][..], "--model"),
        (
            &["prepare", clip, "--model", "pico"],
            "base, turbo and nano",
        ),
    ] {
        let refused = voice(folder.path(), arguments);
        assert!(!refused.status.success(), "{arguments:?} must fail");
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(words.contains(named), "{arguments:?}: {words}");
    }
}

/// Seconds of a buzz at 16 kHz, as 16-bit WAV.
fn write_recording(path: &Path, seconds: u32) {
    let samples = (0..16_000 * seconds).flat_map(|index| {
        let buzz = (index % 131) as i16 - 65;
        (buzz * (100 + (index / 4000 % 3) as i16 * 40)).to_le_bytes()
    });
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    file.extend(16_000u32.to_le_bytes());
    file.extend(32_000u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend((32_000 * seconds).to_le_bytes());
    file.extend(samples);
    std::fs::write(path, file).unwrap();
}

#[test]
fn a_recording_is_spoken_again_in_another_voice() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let source = WeightSource::synthetic(ModelConfig::tiny_turbo(), 1);
    convert_model(&source, &folder.path().join("model"), Precision::F32).unwrap();
    write_recording(&folder.path().join("talk.wav"), 3);
    write_recording(&folder.path().join("her.wav"), 6);
    let (talk, her, model) = (path("talk.wav"), path("her.wav"), path("model"));
    let change = |more: &[&str]| {
        let asked = ["change", &talk, "--voice", &her, "--model", &model];
        voice(folder.path(), &[&asked, more].concat())
    };
    let out = path("out.wav");
    let changed = change(&["-o", &out, "--json"]);
    let words = String::from_utf8_lossy(&changed.stderr).into_owned();
    assert!(changed.status.success(), "{words}");
    let figures: serde_json::Value = serde_json::from_slice(&changed.stdout).unwrap();
    assert_eq!(figures["total_audio_duration"], 3.0);
    assert_eq!(std::fs::metadata(&out).unwrap().len(), 44 + 3 * 24_000 * 2);
    let owners = figures["memory"]["owners"].as_array().unwrap();
    assert!(
        owners.iter().all(|owner| owner["tag"] != "t3"),
        "{owners:?}"
    );
    let piped = change(&["-o", "-", "--format", "pcm", "--seed", "0"]);
    assert_eq!(piped.stdout.len(), 3 * 24_000 * 2);
    std::fs::write(&out, b"kept").unwrap();
    for (arguments, named) in [
        (
            &["change", "/no/talk.wav", "--model", &model, "--voice", &her][..],
            "/no/talk.wav",
        ),
        (
            &["change", &talk, "--model", "pico"],
            "base, turbo and nano",
        ),
        (
            &["change", &talk, "--model", &model, "--voice", "nobody"],
            "nobody",
        ),
        (
            &["change", &model, "--model", &model, "--voice", &her],
            "model",
        ),
    ] {
        let refused = voice(folder.path(), &[arguments, &["-o", &out]].concat());
        assert!(!refused.status.success(), "{arguments:?} must fail");
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(words.contains(named), "{arguments:?}: {words}");
        assert_eq!(std::fs::read(&out).unwrap(), b"kept");
    }
}
