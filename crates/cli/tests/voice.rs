//! End-to-end tests of `sottovoce voice`.

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
