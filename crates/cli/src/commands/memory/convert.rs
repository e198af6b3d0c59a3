//! `sottovoce memory convert`: converts a trace to another format.

use super::{Outcome, Trace};
use crate::output::print::output;
use crate::output::progress::Reading;
use clap::{Args, ValueEnum};
use serde_json::json;
use sottovoce_formats::output::OutputFile;
use sottovoce_memory::trace::{self, Reader, TraceFormat, WriteError};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce memory convert snapshot.pickle run.trace.gz
  sottovoce memory convert run.trace.gz run.pickle
  python -m torch.cuda._memory_viz trace_plot run.pickle -o run.html

The name of OUT says the format: .pickle and .pkl are PyTorch's snapshot, anything else is text; .gz behind it compresses. A trace
has no addresses: a snapshot made of one shows those that PyTorch's allocator would give by default.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    trace: Trace,
    /// The output file.
    out: PathBuf,
    /// Format of the output; without it, the one that OUT's extension names.
    #[arg(long, value_enum)]
    to: Option<Format>,
    /// Print one JSON object when done.
    #[arg(long)]
    json: bool,
}

/// A format of traces.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One event a line.
    Text,
    /// PyTorch's memory snapshot.
    Snapshot,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let name = arguments.out.to_string_lossy().to_ascii_lowercase();
    let (name, compressed) = match name.strip_suffix(".gz") {
        Some(name) => (name, true),
        None => (name.as_str(), false),
    };
    let format = arguments
        .to
        .unwrap_or(if name.ends_with(".pickle") || name.ends_with(".pkl") {
            Format::Snapshot
        } else {
            Format::Text
        });
    let mut reader = arguments.trace.open()?;
    let reading = Reading::begin(reader.progress());
    arguments.trace.note_device(&mut reader)?;
    let failed = |error| format!("{}: {error}", arguments.out.display());
    let mut out = OutputFile::create(&arguments.out).map_err(failed)?;
    let outcome = write(&mut reader, format, compressed, &mut out);
    drop(reading);
    let events = outcome.map_err(|error| match error {
        WriteError::Io(error) => failed(error).into(),
        other => Box::<dyn std::error::Error>::from(other),
    })?;
    out.commit().map_err(failed)?;
    let bytes = std::fs::metadata(&arguments.out)?.len();
    let format = match format {
        Format::Text => "text",
        Format::Snapshot => "snapshot",
    };
    let mut out = output();
    if arguments.json {
        writeln!(
            out,
            "{}",
            json!({ "events": events, "format": format, "compressed": compressed, "bytes": bytes })
        )?;
    } else {
        writeln!(
            out,
            "{events} events, {bytes} bytes of {format} in {}",
            arguments.out.display()
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(
    reader: &mut Reader,
    format: Format,
    compressed: bool,
    out: &mut OutputFile,
) -> Result<u64, WriteError> {
    let file = BufWriter::with_capacity(1 << 18, out);
    let format = match format {
        Format::Text => TraceFormat::Text,
        Format::Snapshot => TraceFormat::Snapshot,
    };
    trace::write(reader, format, compressed, file)
}
