//! `sottovoce bench bandwidth`: products of a few rows against the memory's speed.

use crate::commands::Outcome;
use crate::options::count_of;
use crate::output::print::output;
use crate::output::size::parse_bytes;
use sottovoce::EngineOptions;
use sottovoce_lab::bench::{BandwidthOptions, bandwidth};
use std::io::Write;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce bench bandwidth
  sottovoce bench bandwidth --threads 1,2,4,8 --weights 2GiB --json";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Threads for arithmetic, each number in turn; 0 takes all.
    #[arg(long, value_delimiter = ',', default_value = "1,0", value_parser = count_of::<EngineOptions>("threads"), allow_negative_numbers = true)]
    threads: Vec<usize>,
    /// Weights at each precision; more than the processor's caches.
    #[arg(long, default_value = "512MiB", value_parser = parse_bytes, value_name = "SIZE")]
    weights: u64,
    /// Passes over the weights, of which the best counts.
    #[arg(long, default_value_t = 5, allow_negative_numbers = true)]
    passes: usize,
    /// Print one JSON list.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let figures = bandwidth(&BandwidthOptions {
        threads: arguments.threads.clone(),
        bytes: usize::try_from(arguments.weights)?,
        passes: arguments.passes,
    })?;
    let mut out = output();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&figures)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "{:<9} {:>7} {:>4} {:>12} {:>12} {:>8}",
        "precision", "threads", "rows", "product", "read loop", "of it"
    )?;
    for figure in figures {
        writeln!(
            out,
            "{:<9} {:>7} {:>4} {:>7.1} GB/s {:>7.1} GB/s {:>6.0} %",
            figure.precision,
            figure.threads,
            figure.rows,
            figure.product_bytes_per_second / 1e9,
            figure.read_bytes_per_second / 1e9,
            100.0 * figure.product_bytes_per_second / figure.read_bytes_per_second
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
