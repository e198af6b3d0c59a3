//! Hints for names that other programs of this kind have: letters alone would lead elsewhere.

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;

/// Options of other programs, and the one here.
const OPTIONS: [(&[&str], &str); 9] = [
    (
        &[
            "--rate",
            "--tempo",
            "--length-scale",
            "--length_scale",
            "--pace",
        ],
        "--speed",
    ),
    (
        &[
            "--speaker",
            "--spk",
            "--reference",
            "--ref-audio",
            "--audio-prompt",
            "--speaker-wav",
        ],
        "--voice",
    ),
    (&["--host", "--bind", "--listen", "--ip"], "--address"),
    (&["-p"], "--port"),
    (&["--gpu", "--cuda", "--cpu"], "--device"),
    (&["--vram", "--ram", "--budget", "--max-memory"], "--memory"),
    (&["--input", "--text-file", "-f"], "--file"),
    (
        &["--output-format", "--response-format", "--codec"],
        "--format",
    ),
    (&["--jobs", "--cpus", "-j"], "--threads"),
];

/// Commands of other programs, and the one here.
const COMMANDS: [(&[&str], &str); 6] = [
    (
        &[
            "say",
            "tts",
            "generate",
            "synthesize",
            "synthesise",
            "text-to-speech",
        ],
        "speak",
    ),
    (&["run", "server", "start", "web", "ui", "api"], "serve"),
    (&["clone", "speakers", "voices"], "voice"),
    (&["download", "pull", "list", "ls", "models"], "model"),
    (&["check", "health", "info", "status"], "doctor"),
    (&["delete", "rm"], "remove"),
];

/// Replaces the suggestion of a usage error where a name is one of those above.
pub fn suggest(error: &mut clap::Error, command: &Command, arguments: &[OsString]) {
    let given = |kind| match error.get(kind) {
        Some(ContextValue::String(name)) => Some(name.clone()),
        _ => None,
    };
    let asked = asked(command, arguments);
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let name = given(ContextKind::InvalidArg);
            let meant = name.and_then(|name| meant(&OPTIONS, &name));
            let is_here = |meant: &&str| {
                let longs = asked.get_arguments().filter_map(|option| option.get_long());
                longs
                    .into_iter()
                    .any(|long| meant.strip_prefix("--") == Some(long))
            };
            if let Some(meant) = meant.filter(is_here) {
                error.insert(
                    ContextKind::SuggestedArg,
                    ContextValue::String(meant.to_owned()),
                );
            }
        }
        ErrorKind::InvalidSubcommand => {
            let name = given(ContextKind::InvalidSubcommand);
            let meant = name.and_then(|name| meant(&COMMANDS, &name));
            if let Some(meant) = meant.filter(|meant| asked.find_subcommand(meant).is_some()) {
                error.insert(
                    ContextKind::SuggestedSubcommand,
                    ContextValue::Strings(vec![meant.to_owned()]),
                );
            }
        }
        _ => {}
    }
}

/// The command that the arguments begin with.
fn asked<'c>(command: &'c Command, arguments: &[OsString]) -> &'c Command {
    let mut asked = command;
    for argument in arguments.iter().skip(1) {
        match asked.find_subcommand(argument) {
            Some(further) => asked = further,
            None => break,
        }
    }
    asked
}

fn meant(table: &[(&[&'static str], &'static str)], name: &str) -> Option<&'static str> {
    let (_, meant) = table.iter().find(|(names, _)| names.contains(&name))?;
    Some(meant)
}

#[cfg(test)]
mod tests {
    use crate::commands::Arguments;
    use clap::{CommandFactory, Parser};
    use std::ffi::OsString;

    /// What is printed for these arguments.
    fn refusal(arguments: &[&str]) -> String {
        let arguments: Vec<OsString> = std::iter::once("sottovoce")
            .chain(arguments.iter().copied())
            .map(OsString::from)
            .collect();
        let mut error = Arguments::try_parse_from(arguments.clone()).err().unwrap();
        super::suggest(&mut error, &Arguments::command(), &arguments);
        error.to_string()
    }

    #[test]
    fn names_of_other_programs_lead_to_the_right_ones() {
        for (arguments, meant) in [
            (&["speak", "Hi.", "--rate=1"][..], "'--speed'"),
            (&["speak", "Hi.", "--speaker", "x"], "'--voice'"),
            (&["speak", "Hi.", "--gpu"], "'--device'"),
            (&["serve", "--host", "0.0.0.0"], "'--address'"),
            (&["serve", "-p", "80"], "'--port'"),
            (&["say", "Hi."], "'speak'"),
            (&["clone", "me.wav"], "'voice'"),
            (&["list"], "'model'"),
            (&["voice", "delete", "me"], "'remove'"),
            // Letters are enough.
            (&["speak", "Hi.", "--speeed=1"], "'--speed'"),
            (&["speek", "Hi."], "'speak'"),
        ] {
            let refusal = refusal(arguments);
            assert!(refusal.contains(meant), "{arguments:?}: {refusal}");
        }
        let elsewhere = refusal(&["speak", "Hi.", "--host", "x"]);
        assert!(!elsewhere.contains("--address"), "{elsewhere}");
    }
}
