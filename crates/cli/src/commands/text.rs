//! `sottovoce text`: shows how a text would be read, without speaking it.

use super::Outcome;
use crate::options::{Chosen, ForText};
use crate::output::print::{note, output};
use crate::source::model_source;
use crate::text_input;
use serde_json::{Value, json};
use sottovoce::text::{Piece, Script, filtered, languages, script};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce text 'Dr. Smith paid $5M on Jan. 5, 2025.'
  sottovoce text --file chapter.md --json
  sottovoce text \"In 1984 [laugh] it was £3.50.\" --model turbo --normalise on
  sottovoce text \"Wait. [pause:1.5s] Now.\" --json | jq '.pieces[].pause_seconds'";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The text; without it and without --file, standard input.
    text: Option<String>,
    /// Read the text from this file.
    #[arg(long, conflicts_with = "text")]
    file: Option<PathBuf>,
    /// pico (in this program), the name of a fetched model, or a model's folder.
    #[arg(long, default_value = "pico")]
    model: String,
    /// Program that changes the text before it is read; the same option as that of speak and serve.
    #[arg(long, value_name = "FILE")]
    text_filter: Option<PathBuf>,
    #[command(flatten)]
    reading: Chosen<ForText>,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    let text = text_input::read(arguments.text.as_deref(), arguments.file.as_deref())?;
    let options = arguments.reading.options().text();
    let source = model_source(&arguments.model)?;
    let text = match &arguments.text_filter {
        Some(program) => {
            let default = languages(&source)?.into_iter().next().unwrap_or_default();
            filtered(
                program,
                &text,
                options.language.as_deref().unwrap_or(&default),
            )?
        }
        None => text,
    };
    let script = script(&source, &text, &options)?;
    match arguments.json {
        true => writeln!(output(), "{:#}", in_json(&script))?,
        false => in_lines(&script)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn in_json(script: &Script) -> Value {
    let pieces: Vec<Value> = (script.pieces.iter())
        .map(|piece| match piece {
            Piece::Words(sentence) => json!({
                "written": sentence.written,
                "spoken": sentence.text,
                "tokens": sentence.tokens,
                "pause_seconds": 0.0,
            }),
            Piece::Pause { written, seconds } => json!({
                "written": written,
                "spoken": "",
                "tokens": [],
                "pause_seconds": seconds,
            }),
        })
        .collect();
    json!({ "pieces": pieces, "warnings": script.warnings })
}

fn in_lines(script: &Script) -> std::io::Result<()> {
    let mut out = output();
    for piece in &script.pieces {
        match piece {
            Piece::Words(sentence) => {
                writeln!(out, "{}", one_line(&sentence.text))?;
                if sentence.text != sentence.written {
                    writeln!(out, "  written: {}", one_line(&sentence.written))?;
                }
                let tokens: Vec<String> = sentence.tokens.iter().map(u32::to_string).collect();
                writeln!(out, "  {} tokens: {}", tokens.len(), tokens.join(" "))?;
            }
            Piece::Pause { written, seconds } if written.is_empty() => {
                writeln!(out, "(a pause of {seconds} s)")?;
            }
            Piece::Pause { written, seconds } => {
                writeln!(out, "(a pause of {seconds} s for {:?})", one_line(written))?;
            }
        }
    }
    for warning in &script.warnings {
        note!("warning: {warning}");
    }
    Ok(())
}

/// White space as single spaces, so that a piece is a line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
