//! Tests of every command's help.

use std::process::Command;

fn help(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sottovoce"))
        .args(command)
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Names in the command list of a help text.
fn subcommands(help: &str) -> Vec<String> {
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    list.lines()
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

fn visit(command: &[&str], leaves: &mut usize) {
    let text = help(command);
    let inner = subcommands(&text);
    for name in &inner {
        visit(&[command, &[name]].concat(), leaves);
    }
    if inner.is_empty() {
        *leaves += 1;
        assert!(text.contains("Examples:"), "{command:?} shows no example");
        assert!(
            text.contains(&format!("sottovoce {}", command.join(" "))),
            "{command:?}: no example is of it"
        );
    }
}

#[test]
fn every_command_shows_examples_of_itself() {
    let mut leaves = 0;
    visit(&[], &mut leaves);
    assert!(leaves > 15, "only {leaves} commands were found");
}
