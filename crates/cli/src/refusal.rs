//! Refused values in plain words: the standard library's parsers speak of digits and literals.

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::error::Error;
use std::net::AddrParseError;
use std::num::{IntErrorKind, ParseFloatError, ParseIntError};

/// The error with the reason for a refused value as a person would put it.
pub fn in_plain_words(error: clap::Error, command: &Command) -> clap::Error {
    if error.kind() != ErrorKind::ValueValidation {
        return error;
    }
    let Some(reason) = error.source().and_then(reason) else {
        return error;
    };
    let given = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let (option, value) = (
        given(ContextKind::InvalidArg),
        given(ContextKind::InvalidValue),
    );
    // As the other refusals end.
    let text = format!(
        "invalid value '{value}' for '{option}': {reason}\n\nFor more information, try '--help'.\n"
    );
    clap::Error::raw(ErrorKind::ValueValidation, text).with_cmd(command)
}

/// `None` for reasons that are plain already.
fn reason(source: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = source.downcast_ref::<ParseIntError>() {
        return Some(match error.kind() {
            IntErrorKind::PosOverflow => "use a smaller number".to_owned(),
            _ => "use a whole number from 0 on".to_owned(),
        });
    }
    if source.is::<ParseFloatError>() {
        return Some("use a number, such as 1.5".to_owned());
    }
    if source.is::<AddrParseError>() {
        return Some("use an IP address, such as 127.0.0.1, 0.0.0.0 or ::1".to_owned());
    }
    // Of a range, as "70000 is not in 0..=65535".
    let text = source.to_string();
    let (_, range) = text.split_once(" is not in ")?;
    let (least, most) = range.split_once("..=")?;
    Some(format!("use {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use crate::commands::Arguments;
    use clap::{Command, CommandFactory, Parser};

    /// What is printed for these arguments, or nothing if they are taken.
    fn refusal(arguments: &[String]) -> String {
        let error = Arguments::try_parse_from(arguments).err();
        let error = error.map(|error| super::in_plain_words(error, &Arguments::command()));
        error.map(|error| error.to_string()).unwrap_or_default()
    }

    /// The options with values of a command and of those within, each as arguments that end with
    /// it.
    fn options(command: &Command, path: &[String]) -> Vec<Vec<String>> {
        let own = command.get_arguments().filter_map(|option| {
            let long = option.get_long()?;
            let takes = option.get_action().takes_values();
            takes.then(|| [path, &[format!("--{long}")]].concat())
        });
        let within = command.get_subcommands().flat_map(|command| {
            let path = [path, &[command.get_name().to_owned()]].concat();
            options(command, &path)
        });
        own.chain(within).collect()
    }

    #[test]
    fn no_refusal_shows_a_parsers_words() {
        let command = Arguments::command();
        let options = options(&command, &["sottovoce".to_owned()]);
        assert!(options.len() > 200, "{} options", options.len());
        let values = [
            "http",
            "-1",
            "1e3",
            "99999999999999999999999",
            "",
            "0x10",
            "½",
        ];
        for option in &options {
            for value in values {
                let arguments = [&option[..], &[value.to_owned()]].concat();
                let refusal = refusal(&arguments);
                for words in [
                    "digit",
                    "literal",
                    "..=",
                    "syntax",
                    "invalid type",
                    "from empty string",
                    "too large to fit",
                    "variant",
                ] {
                    assert!(!refusal.contains(words), "{arguments:?}: {refusal}");
                }
            }
        }
    }

    #[test]
    fn refused_values_are_told_what_to_use() {
        for (arguments, told) in [
            (
                "serve --port http",
                "'http' for '--port <PORT>': use a port from 0 to 65535",
            ),
            ("serve --port -1", "use a port from 0 to 65535"),
            (
                "serve --address localhost",
                "use an IP address, such as 127.0.0.1",
            ),
            ("serve --idle-unload soon", "use a number"),
            ("validate --switches many", "use a whole number"),
            (
                "validate --voices 99999999999999999999",
                "use a smaller number",
            ),
            ("memory plan x --alignment 0", "use 1 to 1073741824"),
        ] {
            let arguments = ["sottovoce"].into_iter().chain(arguments.split(' '));
            let arguments: Vec<String> = arguments.map(str::to_owned).collect();
            let refusal = refusal(&arguments);
            assert!(refusal.contains(told), "{arguments:?}: {refusal}");
            assert!(refusal.ends_with("'--help'.\n"), "{refusal}");
        }
    }
}
