//! `sottovoce memory replay`: replays a trace through the pool.

use super::{Outcome, Trace, print_refusals};
use crate::environment;
use crate::output::print::{Output, note, output};
use crate::output::progress::Reading;
use crate::output::size::{mebibytes, parse_bytes};
use crate::output::table::Table;
use clap::{Args, ValueEnum};
use sottovoce_memory::driver::cuda::CudaDriver;
use sottovoce_memory::driver::{Driver, HostDriver, SimulatedDriver};
use sottovoce_memory::pool::{Backend, PoolConfiguration};
use sottovoce_memory::trace::advise::device_bytes;
use sottovoce_memory::trace::replay::{Replay, ReplayReport};
use sottovoce_memory::trace::{Beginning, SnapshotSummary};
use std::io::{self, Write};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce memory replay run.trace.gz
  sottovoce memory replay run.trace.gz --conf expandable_segments:True,max_split_size_mb:128 --json
  sottovoce memory replay run.trace.gz --device-memory 8GiB --clear-every-chunk 1
  sottovoce memory replay snapshot.pickle

A trace is text, plain or gzip: `a ID BYTES TAG [stream=N]` allocates, `f ID` frees, `m TEXT` marks a phase; `m chunk ...`
marks a chunk and `m clear` empties the cache. An allocation that fails is counted and skipped, its free too.
A snapshot of PyTorch (torch.cuda.memory._dump_snapshot) will do as well: without --conf it is replayed under its own settings,
from the state in which its recording began, and compared with what it recorded in the end. Traces and snapshots of any size take
some megabytes; only the distinct stack frames of a snapshot are kept, 1 GiB at most.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    trace: Trace,
    /// Options in the syntax of PYTORCH_CUDA_ALLOC_CONF. By default a snapshot's own; else those of
    /// SOTTOVOCE_ALLOC_CONF, PYTORCH_ALLOC_CONF or PYTORCH_CUDA_ALLOC_CONF.
    #[arg(long, value_name = "CONF")]
    conf: Option<String>,
    /// Memory of the device, such as 8GiB. Default: the size in the snapshot; else 24564 MiB, as a
    /// 24 GB card has, or the recorded bytes if they are more; for cuda all that the device has.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    device_memory: Option<u64>,
    /// Empty the cache at every N-th `m chunk` marker.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    clear_every_chunk: Option<u32>,
    /// Where memory comes from.
    #[arg(long, value_enum, default_value_t = DriverKind::Simulated)]
    driver: DriverKind,
    /// Print one JSON object, bytes throughout.
    #[arg(long)]
    json: bool,
}

/// Where memory comes from.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DriverKind {
    /// This machine's memory: address space is really taken and given back.
    Host,
    /// A device without bytes.
    Simulated,
    /// The first CUDA device: its memory is really taken and given back.
    Cuda,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let mut reader = arguments.trace.open()?;
    let reading = Reading::begin(reader.progress());
    arguments.trace.note_device(&mut reader)?;
    let recorded = reader.snapshot()?.cloned();
    let own = recorded
        .as_ref()
        .map(|snapshot| snapshot.configuration.as_str());
    let configuration = match (&arguments.conf, own) {
        (None, Some(own)) => configuration(Some(&arguments.trace.known_settings(own)))?,
        (conf, _) => configuration(conf.as_deref())?,
    };
    // A snapshot replayed with its own settings starts with its recorded segments. Other settings
    // would have led to other segments.
    let beginning = if arguments.conf.is_none() {
        reader.take_beginning(&configuration)?.unwrap_or_default()
    } else {
        Beginning::default()
    };
    let bytes = (arguments.device_memory).unwrap_or_else(|| device_bytes(recorded.as_ref()));
    let driver: Box<dyn Driver> = match arguments.driver {
        DriverKind::Host => Box::new(HostDriver::new(bytes)),
        DriverKind::Simulated => {
            Box::new(SimulatedDriver::new(bytes).with_places(&beginning.places))
        }
        DriverKind::Cuda => Box::new(CudaDriver::open(0, arguments.device_memory)?),
    };
    let mut replay = Replay::new(driver, configuration, arguments.clear_every_chunk);
    replay.prime(beginning.events);
    let outcome = replay.run_events(reader);
    drop(reading);
    outcome?;
    let report = replay.report();
    let mut out = output();
    if arguments.json {
        let mut object = serde_json::to_value(report)?;
        if let Some(recorded) = &recorded {
            object["recorded"] = serde_json::to_value(recorded)?;
        }
        writeln!(out, "{object}")?;
    } else {
        print(&mut out, &report)?;
        if let Some(recorded) = &recorded {
            compare(&mut out, &report, recorded)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Sets the end of a snapshot's replay against what was recorded.
fn compare(out: &mut Output, report: &ReplayReport, recorded: &SnapshotSummary) -> io::Result<()> {
    writeln!(out)?;
    writeln!(
        out,
        "recorded on device {} under {}: {} reserved at most, {} in the end",
        recorded.device,
        match recorded.configuration.as_str() {
            "" => "the default settings",
            settings => settings,
        },
        mebibytes(recorded.peak_reserved),
        mebibytes(recorded.end_reserved)
    )?;
    let difference = i128::from(report.end_reserved) - i128::from(recorded.end_reserved);
    match difference {
        _ if recorded.end_reserved == 0 => writeln!(
            out,
            "it has no segments: there is nothing to compare the replay's end with"
        )?,
        0 => writeln!(out, "the replay ends with the same bytes reserved")?,
        _ => writeln!(
            out,
            "the replay ends with {} {} reserved ({:+.2} %)",
            mebibytes(difference.unsigned_abs() as u64),
            if difference > 0 { "more" } else { "less" },
            difference as f64 / recorded.end_reserved.max(1) as f64 * 100.0
        )?,
    }
    print_refusals(out, recorded)?;
    if report.let_in + report.refused_again > 0 {
        writeln!(
            out,
            "of the failed requests {} are let in here, {} fail again",
            report.let_in, report.refused_again
        )?;
    }
    if recorded.entries == 0 {
        writeln!(
            out,
            "it has no history of events (torch.cuda.memory._record_memory_history was off): this is what was live in the end"
        )?;
        return Ok(());
    }
    writeln!(
        out,
        "{} allocations of {} were live before the recording began",
        recorded.start_live_count,
        mebibytes(recorded.start_live)
    )?;
    Ok(())
}

fn configuration(text: Option<&str>) -> Result<PoolConfiguration, Box<dyn std::error::Error>> {
    let configuration = match text {
        Some(text) => PoolConfiguration::parse(text)?,
        None => {
            let lookup = |name: &str| environment::text(name);
            let (configuration, variable) = PoolConfiguration::from_variables(lookup)?;
            if let Some(variable) = variable {
                note!("configuration from {variable}");
            }
            configuration
        }
    };
    if configuration.backend == Backend::CudaMallocAsync {
        return Err("backend:cudaMallocAsync hands allocation to the driver, whose rules a replay does not know: \
                    use backend:native"
            .into());
    }
    Ok(configuration)
}

fn print(out: &mut Output, report: &ReplayReport) -> io::Result<()> {
    let mut table = Table::new(&["", "at most", "at the end"]);
    table.row(&["requested", &mebibytes(report.peak_requested), ""]);
    table.row(&[
        "allocated",
        &mebibytes(report.peak_allocated),
        &mebibytes(report.end_allocated),
    ]);
    table.row(&[
        "reserved",
        &mebibytes(report.peak_reserved),
        &mebibytes(report.end_reserved),
    ]);
    table.row(&[
        "fragmentation",
        &format!("{:.1} %", report.fragmentation_peak * 100.0),
        "",
    ]);
    write!(out, "{table}")?;
    writeln!(out)?;
    writeln!(
        out,
        "{} events, {:.0} ns each",
        report.events, report.ns_per_event
    )?;
    writeln!(
        out,
        "{} driver allocations, {} given back",
        report.driver_allocs, report.driver_frees
    )?;
    writeln!(
        out,
        "{} retries after emptying the cache, {} out of memory",
        report.retries, report.ooms
    )?;
    Ok(())
}
