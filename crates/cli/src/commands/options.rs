//! `sottovoce options`: all options of engine and stream, by their names in every interface.

use super::Outcome;
use crate::environment::VARIABLES;
use crate::output::print::output;
use serde_json::{Value, json};
use sottovoce::options::{OptionDescription, OptionTable, Scope};
use sottovoce::{EngineOptions, StreamOptions};
use sottovoce_server::Limits;
use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce options
  sottovoce options temperature
  sottovoce options --json | jq '.[] | select(.scope == \"stream\") | .name'
  sottovoce options --markdown > docs/configuration.md";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Show these options only.
    names: Vec<String>,
    /// Print one JSON list.
    #[arg(long)]
    json: bool,
    /// Print the reference page in Markdown.
    #[arg(long, conflicts_with_all = ["json", "names"])]
    markdown: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let mut out = output();
    let all = groups();
    if arguments.markdown {
        write!(out, "{}", page(&all))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = || all.iter().flat_map(|group| &group.rows);
    let is_known = |name: &&String| rows().any(|row| row.name() == **name);
    if let Some(unknown) = arguments.names.iter().find(|name| !is_known(name)) {
        return Err(
            format!("there is no option {unknown:?}; `sottovoce options` lists all").into(),
        );
    }
    let is_shown = |row: &&Row| {
        arguments.names.is_empty() || arguments.names.iter().any(|name| name == row.name())
    };
    if arguments.json {
        let rows: Vec<Value> = rows()
            .filter(is_shown)
            .map(Row::in_json)
            .collect::<Result<_, _>>()?;
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for group in &all {
        let rows: Vec<&Row> = group.rows.iter().filter(is_shown).collect();
        if !rows.is_empty() {
            writeln!(out, "{}:", group.title)?;
        }
        for row in rows {
            writeln!(out, "  {}", row.name())?;
            writeln!(out, "      {}", row.option.help())?;
            writeln!(
                out,
                "      {}; default: {}",
                row.values(),
                row.default_in_words()
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An option and its default.
struct Row {
    option: &'static OptionDescription,
    default: Value,
}

impl Row {
    fn name(&self) -> &'static str {
        self.option.name
    }

    fn in_json(&self) -> Result<Value, serde_json::Error> {
        let mut row = serde_json::to_value(self.option)?;
        row["type"] = json!(self.option.domain.json_type());
        row["default"] = self.default.clone();
        Ok(row)
    }

    /// Its values, their unit, and the models that have it.
    fn values(&self) -> String {
        let option = self.option;
        let values = format!("{} {}", option.domain.description(), option.unit);
        match option.needs {
            Some(needed) => format!("{}; {}", values.trim(), needed.owners()),
            None => values.trim().to_owned(),
        }
    }

    fn default_in_words(&self) -> String {
        match &self.default {
            Value::Null => self.option.unset.to_owned(),
            Value::String(word) => word.clone(),
            value => value.to_string(),
        }
    }
}

/// Options that are given in the same place.
struct Group {
    title: &'static str,
    /// Who gives them, and where.
    introduction: &'static str,
    rows: Vec<Row>,
}

impl Group {
    fn of<T: OptionTable>(scope: Scope, title: &'static str, introduction: &'static str) -> Group {
        let defaults = T::default();
        let options = T::DESCRIPTIONS
            .iter()
            .filter(|option| option.scope == scope);
        let rows = options.map(|option| Row {
            option,
            default: defaults.get(option.name).unwrap_or_default(),
        });
        Group {
            title,
            introduction,
            rows: rows.collect(),
        }
    }
}

/// Every option of every table.
fn groups() -> [Group; 6] {
    [
        Group::of::<StreamOptions>(
            Scope::Stream,
            "Options of a stream",
            "Chosen for each text: flags of `speak`, fields of a request, arguments in Python.",
        ),
        Group::of::<EngineOptions>(
            Scope::Engine,
            "Options of an engine",
            "Chosen when a model is loaded: flags of `speak`, `serve`, `bench` and `validate`, \
             arguments in Python.",
        ),
        Group::of::<EngineOptions>(
            Scope::Server,
            "Options of an engine with several callers",
            "Chosen when a model is loaded for more than one stream: flags of `serve`, arguments in \
             Python.",
        ),
        Group::of::<Limits>(
            Scope::Server,
            "Limits of a server",
            "What callers may take: flags of `serve`. Its other flags, such as those for keys and \
             addresses, are in `sottovoce serve --help`.",
        ),
        Group::of::<StreamOptions>(
            Scope::Program,
            "Options of a stream for programs",
            "Chosen by a program that embeds the engine: Rust and Python only.",
        ),
        Group::of::<EngineOptions>(
            Scope::Program,
            "Options of an engine for programs",
            "Chosen by a program that embeds the engine: Rust and Python only.",
        ),
    ]
}

/// The reference page.
fn page(groups: &[Group]) -> String {
    let mut page = "# Configuration\n\n\
        Every interface takes the same options by the same names; the command line writes `-` for \
        `_`. `sottovoce options` prints this list, `sottovoce options --json` for programs, and \
        `sottovoce COMMAND --help` the flags of one command. This page is made by `sottovoce options \
        --markdown`.\n"
        .to_owned();
    for Group {
        title,
        introduction,
        rows,
    } in groups
    {
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "\n## {title}\n\n{introduction}\n\n| option | meaning | values | default |\n\
             |---|---|---|---|\n"
        );
        for row in rows {
            let default = match row.default {
                Value::Null => row.default_in_words(),
                _ => format!("`{}`", row.default_in_words()),
            };
            let (name, help, values) = (row.name(), row.option.help(), row.values());
            let _ = writeln!(page, "| `{name}` | {help} | {values} | {default} |");
        }
    }
    page.push_str(
        "\n## Environment\n\nRead by the command line alone.\n\n| variable | meaning |\n|---|---|\n",
    );
    for (name, meaning) in VARIABLES {
        let _ = writeln!(page, "| `{name}` | {meaning} |");
    }
    page
}
