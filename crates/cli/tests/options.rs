//! Tests of everything generated from the option tables: list, reference page, completions, manual
//! pages.

use std::process::{Command, Output};

fn sottovoce(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sottovoce"))
        .args(arguments)
        .output()
        .unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = sottovoce(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_generated_references_are_fresh() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/");
    for (file, arguments) in [
        ("configuration.md", ["options", "--markdown"]),
        ("openapi.json", ["serve", "--openapi"]),
    ] {
        let text = std::fs::read_to_string(format!("{docs}{file}")).unwrap();
        assert!(
            text == printed(&arguments),
            "docs/{file} is out of date: `sottovoce {}` prints it",
            arguments.join(" ")
        );
    }
}

#[test]
fn options_are_listed_for_people_and_for_programs() {
    let list: serde_json::Value = serde_json::from_str(&printed(&["options", "--json"])).unwrap();
    let speed = (list.as_array().unwrap().iter())
        .find(|option| option["name"] == "speed")
        .unwrap();
    assert_eq!(speed["type"], "number");
    assert_eq!(speed["default"], 1.0);
    assert_eq!(speed["domain"]["most"], 4.0);
    assert_eq!(speed["scope"], "stream");
    let one = printed(&["options", "exaggeration"]);
    assert!(
        one.contains("base, flash, multilingual only") && !one.contains("speed"),
        "{one}"
    );
    let unknown = sottovoce(&["options", "sped"]);
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("sped"));
}

#[test]
fn every_flag_of_the_help_names_an_option_of_the_list() {
    let list: serde_json::Value = serde_json::from_str(&printed(&["options", "--json"])).unwrap();
    for (command, scopes) in [
        ("speak", &["engine", "stream"][..]),
        ("serve", &["engine", "server"]),
        ("validate", &["engine"]),
    ] {
        let help = printed(&[command, "--help"]);
        for option in list.as_array().unwrap() {
            let flag = format!("--{} <", option["name"].as_str().unwrap().replace('_', "-"));
            // What the laboratory runs is computed again.
            let left_out = command == "validate" && option["name"] == "cache_dir";
            if scopes.contains(&option["scope"].as_str().unwrap()) && !left_out {
                assert!(help.contains(&flag), "{command} has {flag}");
            }
        }
    }
}

#[test]
fn a_value_outside_its_range_is_refused_with_its_flag_before_anything_is_loaded() {
    let output = sottovoce(&[
        "speak",
        "Hello.",
        "--speed",
        "9",
        "--model",
        "no such model",
    ]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("--speed") && error.contains("0.25 to 4"),
        "{error}"
    );
}

#[test]
fn shells_complete_commands_flags_and_words() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("sottovoce"), "{shell}");
        for word in ["speak", "normalise"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
        // Other shells' scripts do not complete words.
        if ["bash", "zsh", "fish"].contains(&shell) {
            assert!(script.contains("aggressive"), "{shell} knows no profile");
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let page = printed(&["man", "speak"]);
    for part in [".TH", "NAME", "\\-\\-temperature", "sottovoce speak"] {
        assert!(page.contains(part), "{part} is missing");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("man1");
    printed(&["man", "--out", path.to_str().unwrap()]);
    for file in [
        "sottovoce.1",
        "sottovoce-speak.1",
        "sottovoce-memory-replay.1",
    ] {
        assert!(path.join(file).is_file(), "{file} is missing");
    }
    assert!(!sottovoce(&["man", "sing"]).status.success());
}
