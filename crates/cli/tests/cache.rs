//! End-to-end tests of `sottovoce cache`.

use std::path::Path;
use std::process::{Command, Output};

fn sottovoce(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sottovoce"))
        .args(arguments)
        .env("SOTTOVOCE_CACHE", folder)
        .output()
        .unwrap()
}

fn json(folder: &Path, arguments: &[&str]) -> serde_json::Value {
    let output = sottovoce(folder, arguments);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_folder_is_listed_measured_and_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    assert_eq!(json(&cache, &["cache", "list", "--json"])["bytes"], 0);
    for (place, bytes) in [("weights/a.safetensors", 7), ("voices/b.safetensors", 5)] {
        let path = cache.join(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, vec![0; bytes]).unwrap();
    }
    let listed = json(&cache, &["cache", "list", "--json"]);
    assert_eq!(listed["bytes"], 12);
    assert_eq!(listed["entries"][0]["kind"], "weights");
    let text = sottovoce(&cache, &["cache", "list"]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("a.safetensors") && text.contains("voice"),
        "{text}"
    );
    let doctor = json(&cache, &["doctor", "--json"]);
    assert_eq!(doctor["settings"]["cache"]["bytes"], 12);

    let elsewhere = folder.path().join("elsewhere");
    let other = elsewhere.to_str().unwrap();
    let cleared = json(&cache, &["cache", "clear", "--json", "--cache-dir", other]);
    assert_eq!(cleared["removed_bytes"], 0);
    assert_eq!(
        json(&cache, &["cache", "clear", "--json"])["removed_bytes"],
        12
    );
    assert_eq!(json(&cache, &["cache", "list", "--json"])["bytes"], 0);
}

#[test]
fn a_folder_and_no_folder_cannot_both_be_asked_for() {
    let output = sottovoce(
        Path::new("unused"),
        &["speak", "Hello.", "--no-cache", "--cache-dir", "x"],
    );
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("--cache-dir"), "{message}");
}
