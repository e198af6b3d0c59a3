//! Tools for out-of-memory errors, based on traces of allocations.

mod advise;
mod check;
mod convert;
mod message;
mod plan;
mod replay;

use super::Outcome;
use crate::output::print::{Output, note};
use crate::output::size::mebibytes;
use clap::{Args, Subcommand};
use sottovoce_memory::PoolConfiguration;
use sottovoce_memory::trace::{Reader, RecordedRefusal, SnapshotSummary, TraceError};
use std::io::{self, Write};
use std::path::PathBuf;

/// Replay allocation traces, and explain allocator settings.
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find allocator settings that would help a trace, and problems that no setting solves.
    Advise(advise::Arguments),
    /// Explain each option of an allocator configuration: without effect, harmful, unsupported,
    /// misspelt.
    Check(check::Arguments),
    /// Write a trace in another format: text, gzip or a PyTorch snapshot.
    Convert(convert::Arguments),
    /// Find the smallest arena that holds the allocations of a trace.
    Plan(plan::Arguments),
    /// Replay a trace through the caching allocator under any configuration.
    Replay(replay::Arguments),
}

/// A trace, and the device to read from it.
#[derive(Args)]
struct Trace {
    /// A trace (text, plain or gzip) or a PyTorch snapshot, told apart by content.
    #[arg(value_name = "TRACE")]
    path: PathBuf,
    /// Device to read from a snapshot of several. Default: the one that held the most memory.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    device: Option<u64>,
}

impl Trace {
    fn open(&self) -> Result<Reader, TraceError> {
        let mut reader = Reader::open(&self.path)?;
        if let Some(device) = self.device {
            reader.choose_device(device)?;
        }
        Ok(reader)
    }

    /// The allocator's settings in a snapshot without unknown options, which are noted.
    fn known_settings(&self, settings: &str) -> String {
        let (known, unknown) = PoolConfiguration::known_options(settings);
        for option in unknown {
            note!("the snapshot's option {option:?} is not known here and left out");
        }
        known
    }

    /// Names the device that is read, where there are several and none was chosen. Reads a snapshot
    /// through.
    fn note_device(&self, reader: &mut Reader) -> Result<(), TraceError> {
        if let Some(summary) = reader.snapshot()?
            && self.device.is_none()
            && summary.devices.len() > 1
        {
            let devices: Vec<String> = summary.devices.iter().map(u64::to_string).collect();
            note!(
                "device {} of {}, which held most; --device chooses another",
                summary.device,
                devices.join(", ")
            );
        }
        Ok(())
    }
}

/// Shows the requests that failed when a snapshot was recorded.
fn print_refusals(out: &mut Output, recorded: &SnapshotSummary) -> io::Result<()> {
    if recorded.ooms > 0 {
        writeln!(
            out,
            "{} of its requests failed on device {}",
            recorded.ooms, recorded.device
        )?;
    }
    for refusal in &recorded.refusals {
        writeln!(out, "    {}", refusal_line(refusal))?;
    }
    Ok(())
}

fn refusal_line(refusal: &RecordedRefusal) -> String {
    let who = match refusal.tag.as_str() {
        "" => "a place that was not recorded",
        tag => tag,
    };
    let free = match refusal.free_bytes {
        Some(bytes) => format!("{} were free", mebibytes(bytes)),
        None => "what was free was not recorded".to_owned(),
    };
    format!(
        "device {}: {} asked for by {who}, while {} were reserved and {free}",
        refusal.device,
        mebibytes(refusal.bytes),
        mebibytes(refusal.reserved_bytes)
    )
}

/// Runs one of the tools.
pub fn run(arguments: Arguments) -> Outcome {
    match arguments.command {
        Command::Advise(arguments) => advise::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
    }
}
