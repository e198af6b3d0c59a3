//! End-to-end tests of `sottovoce doctor`.
#![cfg(target_os = "linux")]

use std::process::Command;

#[test]
fn a_limit_of_the_shell_bounds_the_budget() {
    let kibibytes = 2_000_000_u64;
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -v {kibibytes}; exec \"$0\" doctor --json"))
        .arg(env!("CARGO_BIN_EXE_sottovoce"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let limit = &report["machine"]["memory_limit"];
    assert!(limit["left_bytes"].as_u64().unwrap() <= kibibytes * 1024);
    assert!(report["budget_bytes"].as_u64().unwrap() < kibibytes * 1024);
    // A container with a lower limit would be named instead.
    if limit["by"] == "address_space" {
        assert_eq!(limit["bytes"], kibibytes * 1024);
        let notes = report["machine"]["notes"].to_string();
        assert!(notes.contains("ulimit"), "{notes}");
    }
}

#[test]
fn without_variables_the_users_folders_are_not_in_the_working_directory() {
    // A container's user may have no record.
    let known = Command::new("id").arg("-un").output();
    if !known.is_ok_and(|output| output.status.success()) {
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_sottovoce"))
        .env_clear()
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = report.to_string();
    for folder in [
        "sottovoce/voices",
        ".cache/sottovoce",
        ".cache/huggingface/hub",
    ] {
        let end = text
            .find(folder)
            .unwrap_or_else(|| panic!("{folder}: {text}"));
        let start = text[..end].rfind('"').unwrap() + 1;
        assert!(
            text[start..].starts_with('/'),
            "{folder}: {}",
            &text[start..end]
        );
    }
}
