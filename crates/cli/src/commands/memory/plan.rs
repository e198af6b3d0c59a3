//! `sottovoce memory plan`: the smallest arena for a trace's allocations, with all lifetimes known.

use super::{Outcome, Trace};
use crate::output::print::{Output, output};
use crate::output::progress::Reading;
use crate::output::size::{mebibytes, parse_bytes};
use clap::Args;
use serde_json::json;
use sottovoce_memory::plan::{self, Lifetime, Plan, SolveOptions};
use sottovoce_memory::trace::Lifetimes;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  sottovoce memory plan run.trace.gz
  sottovoce memory plan run.trace.gz --from stream --json
  sottovoce memory plan A.1048576.csv --capacity 1048576

A trace is what `sottovoce memory replay` takes; a list of buffers (`id,lower,upper,size`) will do as well. Up to 1,000
allocations are searched exactly, for half a minute or so, until a plan fits or none can be better; what stays open is printed
as the gap between the plan and what is proven. The exit status is 1 if a capacity was given and no plan fits it.";

/// Work that the smallest plan is worth: half a minute or so on two threads.
const SMALLEST_EFFORT: u64 = 24_000_000_000;
/// Work that a plan within a capacity is worth, which may be looked for in three ways in turn.
const CAPACITY_EFFORT: u64 = 32_000_000_000;
/// How many lifetimes of an explanation are printed.
const SHOWN_MAX: usize = 20;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    trace: Trace,
    /// Plan only what is allocated after the first marker that begins with this text.
    #[arg(long, value_name = "MARKER")]
    from: Option<String>,
    /// Look for a plan that fits this size, such as 512MiB, and explain if none does.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    capacity: Option<u64>,
    /// Offsets are multiples of this many bytes. Default: 64 for a trace, 1 for a list of buffers.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..=1 << 30), allow_negative_numbers = true)]
    alignment: Option<u64>,
    /// Print one JSON object, bytes throughout.
    #[arg(long)]
    json: bool,
}

/// What is to be planned.
struct Input {
    lifetimes: Vec<Lifetime>,
    /// What to call each, for an explanation.
    names: Vec<String>,
    events: u64,
    alignment: u64,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let start = Instant::now();
    let input = read(arguments)?;
    let options = SolveOptions {
        alignment: arguments.alignment.unwrap_or(input.alignment),
        effort: match arguments.capacity {
            Some(_) => CAPACITY_EFFORT,
            None => SMALLEST_EFFORT,
        },
    };
    let (plan, refusal) = match arguments.capacity {
        None => (plan::solve(&input.lifetimes, &options), None),
        Some(capacity) => match plan::fit(&input.lifetimes, capacity, &options) {
            Ok(plan) => (plan, None),
            Err(refusal) => (refusal.plan.clone(), Some(refusal)),
        },
    };
    plan::validate(&input.lifetimes, &plan)?;
    let seconds = start.elapsed().as_secs_f64();
    let smallest: Vec<&str> = refusal
        .iter()
        .flat_map(|refusal| &refusal.smallest)
        .map(|&index| input.names[index].as_str())
        .collect();
    let mut out = output();
    if arguments.json {
        let mut object = json!({
            "lower_bound": plan.lower_bound,
            "planned_peak": plan.peak,
            "proven_bytes": plan.proven_bytes,
            "seconds": seconds,
            "events": input.events,
            "lifetimes": input.lifetimes.len(),
            "alignment": options.alignment,
        });
        if let Some(capacity) = arguments.capacity {
            object["capacity"] = json!(capacity);
            object["fits"] = json!(refusal.is_none());
            object["smallest_subset"] = json!(smallest);
        }
        writeln!(out, "{object}")?;
    } else {
        print(&mut out, &input, &plan, seconds)?;
        match (&refusal, arguments.capacity) {
            (Some(refusal), _) => explain(&mut out, refusal, &smallest)?,
            (None, Some(capacity)) => writeln!(out, "it fits {capacity} bytes")?,
            (None, None) => {}
        }
    }
    Ok(if refusal.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read(arguments: &Arguments) -> Result<Input, Box<dyn std::error::Error>> {
    if let Some(lifetimes) = buffer_list(&arguments.trace.path)? {
        if arguments.from.is_some() {
            return Err("--from needs a trace: a list of buffers has no markers".into());
        }
        return Ok(Input {
            names: (0..lifetimes.len())
                .map(|row| format!("buffer {row}"))
                .collect(),
            events: lifetimes.len() as u64,
            alignment: 1,
            lifetimes,
        });
    }
    let mut reader = arguments.trace.open()?;
    let reading = Reading::begin(reader.progress());
    arguments.trace.note_device(&mut reader)?;
    let collected = Lifetimes::collect(reader.by_ref());
    drop(reading);
    let collected = collected?;
    let begin = match &arguments.from {
        None => 0,
        Some(text) => collected
            .phases
            .iter()
            .find(|(_, marker)| marker.starts_with(text.as_str()))
            .map(|(step, _)| *step)
            .ok_or_else(|| format!("no marker begins with {text:?}"))?,
    };
    let mut input = Input {
        lifetimes: Vec::new(),
        names: Vec::new(),
        events: collected.events,
        alignment: SolveOptions::default().alignment,
    };
    let wanted = arguments.capacity.is_some();
    for (lifetime, tag) in collected.lifetimes.iter().zip(&collected.tags) {
        if lifetime.first >= begin {
            input.lifetimes.push(*lifetime);
            if wanted {
                let tag = reader.tags().name(*tag);
                input.names.push(format!(
                    "{} bytes of `{tag}`, step {} to {}",
                    lifetime.bytes, lifetime.first, lifetime.last
                ));
            }
        }
    }
    Ok(input)
}

/// The buffers, if the file begins as a list of them.
fn buffer_list(path: &Path) -> Result<Option<Vec<Lifetime>>, Box<dyn std::error::Error>> {
    let with_path = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(|error| with_path(&error))?;
    let mut text = String::new();
    let header_bytes = plan::CSV_HEADER.len() as u64;
    // A file that is not text is not a list.
    let _ = (&file).take(header_bytes).read_to_string(&mut text);
    if text != plan::CSV_HEADER {
        return Ok(None);
    }
    let mut file = file;
    file.read_to_string(&mut text)
        .map_err(|error| with_path(&error))?;
    Ok(Some(
        plan::read_csv(&text).map_err(|error| with_path(&error))?,
    ))
}

fn print(out: &mut Output, input: &Input, plan: &Plan, seconds: f64) -> io::Result<()> {
    let above = |bytes: u64| match bytes {
        0 => 0.0,
        bytes => (plan.peak as f64 / bytes as f64 - 1.0) * 100.0,
    };
    writeln!(
        out,
        "lower bound   {:>14}   {} bytes: the most that is live at once",
        mebibytes(plan.lower_bound),
        plan.lower_bound
    )?;
    writeln!(
        out,
        "planned peak  {:>14}   {} bytes: {:.2} % above",
        mebibytes(plan.peak),
        plan.peak,
        above(plan.lower_bound)
    )?;
    let proven = mebibytes(plan.proven_bytes);
    let gap = match plan.proven_bytes {
        bytes if bytes == plan.peak => "no plan needs less".to_owned(),
        bytes => format!("every plan needs as much, a gap of {:.2} %", above(bytes)),
    };
    writeln!(
        out,
        "proven        {proven:>14}   {} bytes: {gap}",
        plan.proven_bytes
    )?;
    writeln!(
        out,
        "{} allocations placed and checked in {seconds:.2} s",
        input.lifetimes.len()
    )?;
    Ok(())
}

fn explain(out: &mut Output, refusal: &plan::DoesNotFit, smallest: &[&str]) -> io::Result<()> {
    writeln!(out, "{refusal}")?;
    for name in smallest.iter().take(SHOWN_MAX) {
        writeln!(out, "    {name}")?;
    }
    if smallest.len() > SHOWN_MAX {
        writeln!(out, "    and {} more", smallest.len() - SHOWN_MAX)?;
    }
    Ok(())
}
