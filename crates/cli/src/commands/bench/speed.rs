//! `sottovoce bench speed`: the time of each stage with full-size random weights.

use crate::commands::Outcome;
use crate::output::print::output;
use sottovoce::bench::{SpeedOptions, speed};
use sottovoce::{DeviceChoice, Variant, parse_variant};
use sottovoce_tensor::Precision;
use std::io::Write;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce bench speed --synthetic nano
  sottovoce bench speed --synthetic base --precision f16 --threads 2 --t3-only --json
  sottovoce bench speed --synthetic nano --device cuda --json";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Sizes of base, turbo or nano.
    #[arg(long, value_parser = parse_variant)]
    synthetic: Variant,
    /// How all weights are kept: f32, f16, int8 or q4.
    #[arg(long, default_value = "int8")]
    precision: Precision,
    /// Threads for arithmetic; 0 takes all.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// What computes: cpu, cuda, cuda:N (counted from 0), or auto. CUDA is experimental: it has not run
    /// on hardware yet.
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Time T3 alone.
    #[arg(long)]
    t3_only: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let report = speed(&SpeedOptions {
        variant: arguments.synthetic,
        precision: arguments.precision,
        threads: arguments.threads,
        device: arguments.device,
        sound: !arguments.t3_only,
    })?;
    let mut out = output();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{} with {} threads", report.device, report.threads)?;
    writeln!(
        out,
        "{:<34} {:>10.1} MiB",
        "weights",
        report.weights_bytes as f64 / 1048576.0
    )?;
    writeln!(out, "{:<34} {:>10.2} s", "loading", report.load_s)?;
    writeln!(
        out,
        "{:<34} {:>10.2} ms",
        "T3, one token", report.t3_token_ms
    )?;
    writeln!(
        out,
        "{:<34} {:>10.2} ms",
        "T3, one token of eight streams", report.t3_step8_ms
    )?;
    for (name, seconds) in [
        ("S3Gen, 75 tokens", report.s3gen_75_s),
        ("S3Gen, 150 tokens", report.s3gen_150_s),
        ("S3Gen, 75 tokens of a stream", report.s3gen_75_cached_s),
        ("vocoder, 6 s", report.hift_6s_s),
    ] {
        if let Some(seconds) = seconds {
            writeln!(out, "{name:<34} {seconds:>10.2} s")?;
        }
    }
    for (stage, work) in &report.work {
        writeln!(
            out,
            "{stage}: {} launches, {} graphs, {} waits, {} library calls, {} bytes written, {} read",
            work.launches,
            work.graph_launches,
            work.waits,
            work.calls,
            work.bytes_written,
            work.bytes_read
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
