//! `sottovoce memory check`: explains each option of an allocator configuration.

use super::Outcome;
use crate::output::print::{Output, output};
use crate::output::size::mebibytes;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde_json::json;
use sottovoce_memory::pool::explain::{self, Measured, OptionExplanation, Platform, Verdict};
use sottovoce_memory::pool::options_of_line;
use std::io::{self, Write};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce memory check expandable_segments:True,max_split_size_mb:128
  sottovoce memory check \"$PYTORCH_CUDA_ALLOC_CONF\" --platform windows
  sottovoce memory check garbage_collection_threshold:0.8 --json
  sottovoce memory check 'export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True'

The exit status is 1 if PyTorch would stop with an error.";

/// Columns that explanations are wrapped to.
const WIDTH: usize = 100;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Options in the syntax of PYTORCH_CUDA_ALLOC_CONF, or a whole line that sets them in a shell,
    /// a batch file, YAML, an .env file or a program.
    #[arg(allow_hyphen_values = true)]
    conf: String,
    /// Platform that PyTorch runs on.
    #[arg(long, value_parser = platforms(), default_value = Platform::Linux.name())]
    platform: Platform,
    /// Print one JSON object, bytes throughout.
    #[arg(long)]
    json: bool,
}

/// Parses a platform by its name.
fn platforms() -> impl TypedValueParser<Value = Platform> {
    let choice =
        |platform: Platform| PossibleValue::new(platform.name()).help(platform.description());
    PossibleValuesParser::new(Platform::ALL.map(choice)).map(|name| {
        let named = |platform: &Platform| platform.name() == name;
        Platform::ALL.into_iter().find(named).unwrap_or_default()
    })
}

pub fn run(arguments: &Arguments) -> Outcome {
    let platform = arguments.platform;
    let conf = options_of_line(&arguments.conf);
    let explanations = explain::explain(&conf, platform);
    let error = sottovoce_memory::PoolConfiguration::parse(&conf).err();
    let mut out = output();
    if arguments.json {
        let error = error
            .as_ref()
            .map(|error| json!({ "text": error.to_string(), "offset": error.offset }));
        writeln!(
            out,
            "{}",
            json!({ "conf": conf, "platform": platform, "valid": error.is_none(), "error": error, "options": explanations })
        )?;
    } else {
        for explanation in &explanations {
            print(&mut out, explanation)?;
        }
        match &error {
            Some(error) => writeln!(out, "PyTorch would stop: {error} (byte {})", error.offset)?,
            None if explanations.is_empty() => {
                writeln!(out, "no options: everything is as by default")?
            }
            None => {}
        }
    }
    Ok(if error.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(out: &mut Output, explanation: &OptionExplanation) -> io::Result<()> {
    let setting = match explanation.value.as_str() {
        "" => explanation.option.clone(),
        value => format!("{}:{value}", explanation.option),
    };
    let since = match &explanation.since {
        Some(since) => format!(" (since PyTorch {since})"),
        None => String::new(),
    };
    writeln!(out, "{setting}  —  {}{since}", verdict(explanation.verdict))?;
    for line in wrap(&explanation.explanation, WIDTH - 4) {
        writeln!(out, "    {line}")?;
    }
    if let Some(measured) = &explanation.measured {
        writeln!(out, "    measured: {}", figures(measured))?;
    }
    if let Some(suggestion) = &explanation.suggestion {
        writeln!(out, "    instead: {suggestion}")?;
    }
    writeln!(out)?;
    Ok(())
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Works => "works",
        Verdict::DoesNothing => "does nothing",
        Verdict::Harms => "harms",
        Verdict::Unsupported => "unsupported",
        Verdict::Misread => "misread",
        Verdict::Misspelt => "misspelt",
        Verdict::Rejected => "rejected",
    }
}

fn figures(measured: &Measured) -> String {
    let change = measured.with_option_bytes as f64 / measured.default_bytes as f64 - 1.0;
    format!(
        "a streaming speech engine, four voices: {} reserved by default, {} ({:+.1} %) with {}",
        mebibytes(measured.default_bytes),
        mebibytes(measured.with_option_bytes),
        change * 100.0,
        measured.configuration
    )
}

/// Breaks a text into lines at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
