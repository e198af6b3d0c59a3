//! Options of engine and stream as command-line arguments, generated from their tables.

use crate::environment::cache_folder;
use crate::source::{model_source, sound_folder, with_sound_folder};
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueHint};
use serde_json::Value;
use sottovoce::options::{Domain, OptionDescription, OptionTable, Scope};
use sottovoce::{EngineOptions, Error, Profile, Source, StreamOptions};
use sottovoce_server::Limits;
use std::ffi::OsStr;
use std::marker::PhantomData;

/// Aliases of flags.
const ALIASES: [(&str, &str); 4] = [
    ("key_value_precision", "cache-precision"),
    ("streams_max", "streams"),
    ("queue_wait", "queue-seconds"),
    ("connections_per_caller", "connections-per-address"),
];

/// The options of a table that a command takes, and their defaults.
pub trait Selection: Clone + Send + Sync + 'static {
    /// The table.
    type Table: OptionTable;
    /// Heading in the help; empty for none.
    const HEADING: &'static str = "";

    /// Whether the command takes the option.
    fn takes(option: &OptionDescription) -> bool;

    /// Default values.
    fn defaults() -> Self::Table {
        Self::Table::default()
    }
}

/// Options chosen per text.
#[derive(Clone)]
pub struct ForStream;

impl Selection for ForStream {
    type Table = StreamOptions;
    const HEADING: &'static str = "How it is spoken";

    fn takes(option: &OptionDescription) -> bool {
        option.scope == Scope::Stream
    }
}

/// Options chosen per voice change.
#[derive(Clone)]
pub struct ForChange;

impl Selection for ForChange {
    type Table = StreamOptions;
    const HEADING: &'static str = "How it sounds";

    fn takes(option: &OptionDescription) -> bool {
        ForStream::takes(option) && StreamOptions::is_of_sound(option)
    }
}

/// Options of the text front end.
#[derive(Clone)]
pub struct ForText;

impl Selection for ForText {
    type Table = StreamOptions;

    fn takes(option: &OptionDescription) -> bool {
        ["normalise", "language", "letter_case", "unreadable"].contains(&option.name)
    }
}

/// Options of an engine with one caller.
#[derive(Clone)]
pub struct ForEngine;

impl Selection for ForEngine {
    type Table = EngineOptions;

    fn takes(option: &OptionDescription) -> bool {
        option.scope == Scope::Engine
    }
}

/// Options of an engine with several callers.
#[derive(Clone)]
pub struct ForServer;

impl Selection for ForServer {
    type Table = EngineOptions;

    fn takes(option: &OptionDescription) -> bool {
        matches!(option.scope, Scope::Engine | Scope::Server)
    }
}

/// Limits on a server's callers.
#[derive(Clone)]
pub struct ForLimits;

impl Selection for ForLimits {
    type Table = Limits;
    const HEADING: &'static str = "What callers may take";

    fn takes(option: &OptionDescription) -> bool {
        option.scope == Scope::Server
    }
}

/// Options of an engine whose precisions and profiles are benchmarked in turn.
#[derive(Clone)]
pub struct ForBench;

impl Selection for ForBench {
    type Table = EngineOptions;

    fn takes(option: &OptionDescription) -> bool {
        ForEngine::takes(option) && !["precision", "profile", "cache_dir"].contains(&option.name)
    }

    fn defaults() -> EngineOptions {
        EngineOptions {
            streams_max: 1,
            ..EngineOptions::default()
        }
    }
}

/// Options of an engine under validation.
#[derive(Clone)]
pub struct ForValidation;

impl Selection for ForValidation {
    type Table = EngineOptions;

    fn takes(option: &OptionDescription) -> bool {
        ForEngine::takes(option) && option.name != "cache_dir"
    }

    fn defaults() -> EngineOptions {
        EngineOptions {
            profile: Profile::Balanced,
            ..EngineOptions::default()
        }
    }
}

/// Options from the command line, with defaults for the others.
#[derive(Clone)]
pub struct Chosen<S: Selection> {
    options: S::Table,
    selection: PhantomData<S>,
}

impl<S: Selection> Chosen<S> {
    /// The options.
    pub fn options(&self) -> S::Table {
        self.options.clone()
    }
}

fn taken<S: Selection>() -> impl Iterator<Item = &'static OptionDescription> {
    S::Table::DESCRIPTIONS
        .iter()
        .filter(|option| S::takes(option))
}

/// A flag's name without its dashes.
fn flag(option: &OptionDescription) -> String {
    option.name.replace('_', "-")
}

/// Help of an option: its effect, values, owners and default.
fn help(option: &OptionDescription, default: &Value) -> String {
    let mut notes = Vec::new();
    match option.domain {
        // Clap lists the words, and the placeholder names files.
        Domain::Choice { .. } | Domain::Switch | Domain::File | Domain::Folder => {}
        Domain::Bytes => notes.push("a size such as 512MiB or 1GiB".to_owned()),
        domain => notes.push(
            format!("{} {}", domain.description(), option.unit)
                .trim()
                .to_owned(),
        ),
    }
    notes.extend(option.needs.map(|needed| needed.owners()));
    let help = option.help().trim_end_matches('.');
    let notes = match notes.is_empty() {
        true => String::new(),
        false => format!(" ({})", notes.join("; ")),
    };
    let default = match default {
        Value::Null => option.unset.to_owned(),
        Value::String(word) => word.clone(),
        value => value.to_string(),
    };
    format!("{help}{notes} [default: {default}]")
}

fn placeholder(domain: &Domain) -> &'static str {
    match domain {
        Domain::Number { .. } => "NUMBER",
        Domain::Count { .. } => "COUNT",
        Domain::Choice { .. } | Domain::Text { .. } => "WORD",
        Domain::Switch => "BOOLEAN",
        Domain::Bytes => "SIZE",
        Domain::File => "FILE",
        Domain::Folder => "FOLDER",
    }
}

/// A value parser that accepts any text and offers the words to help and completions.
#[derive(Clone)]
struct Words(&'static [&'static str]);

impl TypedValueParser for Words {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        match self.0 {
            [] => None,
            words => Some(Box::new(words.iter().map(PossibleValue::new))),
        }
    }
}

/// A value parser that refuses what the table refuses, with the same message.
fn parser<S: Selection>(option: &'static OptionDescription) -> ValueParser {
    let words = Words(match option.domain {
        Domain::Choice { words } => words,
        Domain::Switch => &["true", "false"],
        _ => &[],
    });
    let checked = move |text: String| match S::defaults().set(option.name, &Value::from(&*text)) {
        Ok(()) => Ok(text),
        Err(Error::Option { reason, .. }) => Err(reason),
        Err(error) => Err(error.to_string()),
    };
    words.try_map(checked).into()
}

/// Parses a count in an option's domain, for commands that take several or use another name.
pub fn count_of<T: OptionTable + 'static>(
    name: &'static str,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| {
        let mut options = T::default();
        (options.set(name, &Value::from(text))).map_err(|error| match error {
            Error::Option { reason, .. } => reason,
            error => error.to_string(),
        })?;
        let count = options.get(name).and_then(|value| value.as_u64());
        count
            .and_then(|count| usize::try_from(count).ok())
            .ok_or_else(|| format!("{name} is no count"))
    }
}

fn argument<S: Selection>(option: &'static OptionDescription) -> Arg {
    let default = S::defaults().get(option.name).unwrap_or_default();
    let further = ALIASES.iter().filter(|(name, _)| *name == option.name);
    let argument = Arg::new(option.name)
        .long(flag(option))
        .visible_aliases(further.map(|(_, alias)| *alias))
        .value_name(placeholder(&option.domain))
        .value_parser(parser::<S>(option))
        .value_hint(match option.domain {
            Domain::File => ValueHint::FilePath,
            Domain::Folder => ValueHint::DirPath,
            _ => ValueHint::Other,
        })
        .allow_negative_numbers(true)
        .help(help(option, &default));
    match S::HEADING {
        "" => argument,
        heading => argument.help_heading(heading),
    }
}

impl<S: Selection> Args for Chosen<S> {
    fn augment_args(command: Command) -> Command {
        command.args(taken::<S>().map(argument::<S>))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Chosen::<S>::augment_args(command)
    }
}

impl<S: Selection> FromArgMatches for Chosen<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Chosen<S>, clap::Error> {
        let mut chosen = Chosen {
            options: S::defaults(),
            selection: PhantomData,
        };
        chosen.update_from_arg_matches(matches)?;
        Ok(chosen)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for option in taken::<S>() {
            if let Some(text) = matches.get_one::<String>(option.name) {
                let set = self.options.set(option.name, &Value::from(&**text));
                // Clap has refused all other values.
                set.map_err(|error| {
                    clap::Error::raw(clap::error::ErrorKind::ValueValidation, error)
                })?;
            }
        }
        Ok(())
    }
}

/// The model, and the cache folder.
#[derive(clap::Args)]
pub struct EngineChoice<S: Selection<Table = EngineOptions>> {
    /// pico (in this program), base, turbo, nano (once fetched), or a model's folder.
    #[arg(long, default_value = "pico")]
    pub model: String,
    /// Neither read nor write the cache folder.
    #[arg(long, conflicts_with = "cache_dir")]
    no_cache: bool,
    #[command(flatten)]
    chosen: Chosen<S>,
}

impl<S: Selection<Table = EngineOptions>> EngineChoice<S> {
    /// Source of the weights.
    pub fn source(&self) -> Result<Source, String> {
        if let Some(sound) = &self.chosen.options.sound {
            sound_folder(sound)?;
        }
        model_source(&self.model)
    }

    /// The engine's options.
    pub fn options(&self) -> EngineOptions {
        let options = with_sound_folder(self.chosen.options());
        let given = options.cache_dir.or_else(|| Some(cache_folder()));
        EngineOptions {
            cache_dir: given.filter(|_| !self.no_cache),
            ..options
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program<S: Selection> {
        #[command(flatten)]
        chosen: Chosen<S>,
    }

    fn parse<S: Selection>(arguments: &[&str]) -> Result<S::Table, String> {
        let arguments = ["program"].iter().chain(arguments);
        Program::<S>::try_parse_from(arguments)
            .map(|program| program.chosen.options())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_option_of_the_table_is_an_argument_and_no_program_s_own() {
        let command = Chosen::<ForStream>::augment_args(Command::new("program"));
        for option in StreamOptions::DESCRIPTIONS {
            let found = command
                .get_arguments()
                .find(|argument| argument.get_id() == option.name);
            assert_eq!(
                found.is_some(),
                option.scope == Scope::Stream,
                "{}",
                option.name
            );
        }
    }

    #[test]
    fn arguments_reach_the_options_and_the_others_keep_their_defaults() {
        let options = parse::<ForStream>(&["--speed", "1.5", "--top-k", "40", "--language", "de"]);
        assert_eq!(
            options,
            Ok(StreamOptions {
                speed: 1.5,
                top_k: Some(40),
                language: Some("de".into()),
                ..StreamOptions::default()
            })
        );
        let options = parse::<ForServer>(&[
            "--memory=1GiB",
            "--host-memory=64MiB",
            "--cache-precision=int8",
            "--streams=3",
            "--enable-monitoring=false",
        ]);
        assert_eq!(
            options,
            Ok(EngineOptions {
                memory: Some(1 << 30),
                host_memory: Some(64 << 20),
                key_value_precision: sottovoce::CachePrecision::Int8,
                streams_max: 3,
                enable_monitoring: false,
                ..EngineOptions::default()
            })
        );
    }

    #[test]
    fn a_refusal_names_the_flag_and_what_would_be_right() {
        for (arguments, words) in [
            (["--speed", "9"], ["--speed", "0.25 to 4"]),
            (["--temperature", "-1"], ["--temperature", "0 to 5"]),
            (["--normalise", "maybe"], ["--normalise", "auto, on or off"]),
            (
                ["--language", "not a code"],
                ["--language", "language code"],
            ),
        ] {
            let refusal = parse::<ForStream>(&arguments).unwrap_err();
            for word in words {
                assert!(refusal.contains(word), "{refusal}");
            }
        }
    }
}
