//! End-to-end tests of `sottovoce model`.

use std::process::{Command, Output};

fn model(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sottovoce"))
        .arg("model")
        .args(arguments)
        // The user's environment must not affect a test.
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", "/nonexistent")
        .env_remove("HF_HUB_CACHE")
        .output()
        .unwrap()
}

#[test]
fn inspect_tells_parts_sizes_and_what_fits() {
    let output = model(&["inspect", "pico", "--memory", "64MiB", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["model"]["variant"], "pico");
    assert_eq!(report["budget_bytes"], 64 << 20);
    let parts = report["model"]["parts"].as_array().unwrap();
    for name in ["t3", "flow", "vocoder"] {
        let part = parts.iter().find(|part| part["part"] == name).unwrap();
        assert!(part["stored_bytes"].as_u64().unwrap() > 0, "{part}");
        assert!(part["loaded_bytes"]["int8"].as_u64().unwrap() > 0, "{part}");
        assert!(part["problem"].is_null(), "{part}");
    }
    let fits = report["fits"].as_array().unwrap();
    assert_eq!(fits.len(), 4, "one for each precision");
    assert_eq!(report["tags"], serde_json::json!([]), "pico has none");
    let table = model(&["inspect", "pico", "--memory", "64MiB"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("vocoder") && table.contains("fits in 64.0 MiB"),
        "{table}"
    );
}

#[test]
fn what_cannot_be_inspected_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    std::fs::write(&file, b"no weights").unwrap();
    for path in [
        file.to_str().unwrap(),
        folder.path().to_str().unwrap(),
        "no-such-model",
    ] {
        let output = model(&["inspect", path]);
        assert!(!output.status.success());
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(path), "{message}");
    }
}

#[test]
fn offline_nothing_is_fetched_and_the_list_says_what_is_missing() {
    let output = model(&["download", "nano"]);
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("HF_HUB_OFFLINE"), "{message}");
    let list = String::from_utf8(model(&["list"]).stdout).unwrap();
    assert!(list.contains("model download base"), "{list}");
}
