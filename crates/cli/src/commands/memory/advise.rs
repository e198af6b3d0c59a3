//! `sottovoce memory advise`: allocator settings that would help, and problems that no setting
//! solves.

use super::{Outcome, Trace, message, print_refusals};
use crate::environment;
use crate::output::memory_plot;
use crate::output::print::{Output, output};
use crate::output::progress::Reading;
use crate::output::size::{mebibytes, parse_bytes};
use crate::output::table::Table;
use clap::Args;
use sottovoce_formats::output::write_whole;
use sottovoce_memory::pool::{Backend, PoolConfiguration};
use sottovoce_memory::trace::advise::{Advice, AdviseOptions, Share, Tried, advise};
use sottovoce_memory::trace::{Reader, TraceError};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce memory advise run.trace.gz
  sottovoce memory advise snapshot.pickle --device-memory 8GiB --plot advice.html
  sottovoce memory advise run.trace.gz --json
  sottovoce memory advise --message error.txt
  python train.py 2>&1 | tail -n 5 | sottovoce memory advise --message -

Each setting is compared with today's: a snapshot's own, else those in the environment (SOTTOVOCE_ALLOC_CONF, PYTORCH_ALLOC_CONF,
PYTORCH_CUDA_ALLOC_CONF), else the defaults; and with the lower bound, the most bytes that are live at once.";

/// Owners that are printed.
const OWNERS_SHOWN: usize = 8;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    trace: OptionalTrace,
    /// Explain PyTorch's out-of-memory message in this file, or on standard input for `-`.
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["device_memory", "plot", "path", "device"])]
    message: Option<PathBuf>,
    /// Memory of the device, such as 8GiB. Default: the size in the snapshot; else 24564 MiB, as a
    /// 24 GB card has, or the recorded bytes if they are more.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    device_memory: Option<u64>,
    /// Plot live and reserved bytes over the trace to this .svg or .html file.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print one JSON object, bytes throughout.
    #[arg(long)]
    json: bool,
}

/// A trace, unless a message is given.
#[derive(Args)]
struct OptionalTrace {
    /// A trace (text, plain or gzip) or a PyTorch snapshot, told apart by content.
    #[arg(value_name = "TRACE", required_unless_present = "message")]
    path: Option<PathBuf>,
    /// Device to read from a snapshot of several. Default: the one that held the most memory.
    #[arg(long, value_name = "N")]
    device: Option<u64>,
}

pub fn run(arguments: &Arguments) -> Outcome {
    if let Some(path) = &arguments.message {
        return message::run(path, arguments.json);
    }
    // Clap requires it unless there is a message.
    let trace = Trace {
        path: arguments.trace.path.clone().unwrap_or_default(),
        device: arguments.trace.device,
    };
    advise_trace(arguments, &trace)
}

fn advise_trace(arguments: &Arguments, trace: &Trace) -> Outcome {
    let plot_format = match &arguments.plot {
        None => None,
        Some(path) => Some(
            memory_plot::Format::of(path)
                .ok_or_else(|| format!("{}: a plot is an .svg or an .html file", path.display()))?,
        ),
    };
    let mut reader = trace.open()?;
    let reading = Reading::begin(reader.progress());
    trace.note_device(&mut reader)?;
    let recorded = reader
        .snapshot()?
        .map(|snapshot| snapshot.configuration.clone());
    drop(reading);
    let (today, origin) = match recorded {
        Some(settings) => (trace.known_settings(&settings), "the snapshot"),
        None => from_environment(),
    };
    let configuration = PoolConfiguration::parse(&today)
        .map_err(|error| format!("the settings from {origin} are refused: {error}"))?;
    if configuration.backend == Backend::CudaMallocAsync {
        return Err(format!(
            "the settings from {origin} hand allocation to the driver (backend:cudaMallocAsync), where these options do nothing"
        )
        .into());
    }
    let options = AdviseOptions {
        device_bytes: arguments.device_memory,
        today,
        timeline: plot_format.is_some(),
    };
    let mut reading = None;
    let open = || -> Result<Reader, TraceError> {
        let reader = trace.open()?;
        reading = None;
        reading = Some(Reading::begin(reader.progress()));
        Ok(reader)
    };
    let advice = advise(open, &options);
    drop(reading);
    let mut advice = advice?;
    let timeline = advice.timeline.take();
    if let (Some(path), Some(format), Some(timeline)) = (&arguments.plot, plot_format, &timeline) {
        write_whole(
            path,
            memory_plot::draw(&advice, timeline, format).as_bytes(),
        )
        .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let mut out = output();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(&advice)?)?;
    } else {
        print(&mut out, &advice, origin)?;
        if let Some(path) = &arguments.plot {
            writeln!(out, "\nplot: {}", path.display())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn from_environment() -> (String, &'static str) {
    match environment::allocator_options() {
        Some((name, text)) => (text, name),
        None => (String::new(), "the defaults"),
    }
}

fn print(out: &mut Output, advice: &Advice, origin: &str) -> io::Result<()> {
    writeln!(
        out,
        "{} events on a device of {}; today's settings are from {origin}",
        advice.events,
        mebibytes(advice.device_bytes)
    )?;
    if let Some(recorded) = &advice.recorded {
        writeln!(
            out,
            "recorded: {} reserved at most, {} in the end",
            mebibytes(recorded.peak_reserved),
            mebibytes(recorded.end_reserved)
        )?;
        print_refusals(out, recorded)?;
        if recorded.start_live_count > 0 {
            writeln!(
                out,
                "each setting begins with the {} that were live before the recording, allocated again",
                mebibytes(recorded.start_live)
            )?;
        }
    }
    writeln!(out)?;
    let mut table = Table::new(&[
        "settings, best first",
        "peak reserved",
        "to today",
        "to live",
        "driver calls",
        "retries",
        "failed",
        "let in",
    ]);
    for tried in &advice.tried {
        table.row(&[
            &row_name(tried),
            &mebibytes(tried.peak_reserved),
            &format!("{:+.1} MiB", tried.versus_today as f64 / f64::from(1 << 20)),
            &format!("{:+.1} %", (tried.versus_lower_bound - 1.0) * 100.0),
            &tried.driver_calls.to_string(),
            &tried.retries.to_string(),
            &tried.ooms.to_string(),
            &match tried.let_in + tried.refused_again {
                0 => "-".to_owned(),
                all => format!("{} of {all}", tried.let_in),
            },
        ]);
    }
    write!(out, "{table}")?;
    writeln!(out)?;
    let peak = &advice.at_peak;
    writeln!(
        out,
        "most is live at event {}{}: {}",
        peak.event,
        match peak.phase.as_str() {
            "" => String::new(),
            phase => format!(" (phase `{phase}`)"),
        },
        mebibytes(peak.bytes)
    )?;
    print_shares(out, "allocated by", &peak.by_tag, peak.bytes)?;
    print_shares(out, "allocated in phase", &peak.by_phase, peak.bytes)?;
    writeln!(out)?;
    writeln!(
        out,
        "no option can save {}: these bytes are live at once; only the program can free or shrink them",
        mebibytes(advice.beyond_options)
    )?;
    writeln!(out)?;
    writeln!(out, "{}", advice.recommendation.reason)?;
    if let Some(line) = &advice.recommendation.line {
        writeln!(out, "    {line}")?;
    }
    if let Some(program) = &advice.recommendation.program {
        writeln!(out, "{program}")?;
    }
    Ok(())
}

fn row_name(tried: &Tried) -> String {
    let mark = if tried.today { "  (today)" } else { "" };
    tried.name() + mark
}

fn print_shares(out: &mut Output, title: &str, shares: &[Share], total: u64) -> io::Result<()> {
    let mut table = Table::new(&[title, "bytes", "share", "allocations"]);
    for share in shares.iter().take(OWNERS_SHOWN) {
        let percent = share.bytes as f64 / total.max(1) as f64 * 100.0;
        table.row(&[
            &format!("  {}", share.name),
            &mebibytes(share.bytes),
            &format!("{percent:.1} %"),
            &share.count.to_string(),
        ]);
    }
    write!(out, "{table}")?;
    Ok(())
}
