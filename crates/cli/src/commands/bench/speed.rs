//! `sottovoce bench speed`: time of each stage with full-size random weights.

use crate::commands::Outcome;
use crate::commands::speak::WHOLE_TOKENS;
use crate::options::count_of;
use crate::output::print::output;
use crate::output::size::{mebibytes, parse_bytes};
use sottovoce::{DeviceChoice, EngineOptions, Source, Variant, parse_variant};
use sottovoce_lab::bench::{self, SpeedOptions, UtteranceOptions, speed};
use sottovoce_tensor::Precision;
use std::io::Write;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce bench speed --synthetic nano
  sottovoce bench speed --synthetic turbo --utterances 2.5,5,10,40 --threads 2
  sottovoce bench speed --synthetic base --sound turbo --utterances 10 --threads 2
  sottovoce bench speed --synthetic base --precision f16 --threads 2 --t3-only --json
  sottovoce bench speed --synthetic base --utterances 5 --streams 8 --device cuda
  sottovoce bench speed --synthetic nano --device cuda --json";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Sizes of base, flash, multilingual, turbo or nano.
    #[arg(long, value_parser = parse_variant, required_unless_present = "utterances")]
    synthetic: Option<Variant>,
    /// How all weights are kept: f32, f16, int8 or q4.
    #[arg(long, default_value = "int8")]
    precision: Precision,
    /// Threads for arithmetic; 0 takes all.
    #[arg(long, default_value = "0", value_parser = count_of::<EngineOptions>("threads"), allow_negative_numbers = true)]
    threads: usize,
    /// What computes: cpu, cuda, cuda:N (counted from 0), or auto. CUDA is experimental: it has
    /// run on an NVIDIA H200 only.
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// In place of stages, time utterances of these lengths, streamed and whole, in seconds;
    /// without --synthetic, pico's.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    utterances: Vec<f64>,
    /// Take S3Gen and the vocoder of base, turbo or nano.
    #[arg(long, value_parser = parse_variant, requires = "utterances", requires = "synthetic")]
    sound: Option<Variant>,
    /// Most memory to use for utterances.
    #[arg(long, value_parser = parse_bytes, value_name = "SIZE", requires = "utterances")]
    memory: Option<u64>,
    /// Rounds of each utterance; the best is shown.
    #[arg(
        long,
        default_value_t = 1,
        requires = "utterances",
        allow_negative_numbers = true
    )]
    rounds: usize,
    /// Streams that speak each utterance at the same time; 0 is one.
    #[arg(
        long,
        default_value = "1",
        value_parser = count_of::<EngineOptions>("streams_max"),
        requires = "utterances",
        value_name = "COUNT"
    )]
    streams: usize,
    /// Time T3 alone.
    #[arg(long)]
    t3_only: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let variant = match arguments.synthetic {
        Some(variant) if arguments.utterances.is_empty() => variant,
        _ => return utterances(arguments),
    };
    let report = speed(&SpeedOptions {
        variant,
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
    for (name, milliseconds) in [
        ("T3, the prompt", report.t3_prompt_ms),
        ("T3, one token", report.t3_token_ms),
        ("T3, one token, the median", report.t3_token_median_ms),
        ("T3, one token of eight streams", report.t3_step8_ms),
        ("the same, the median", report.t3_step8_median_ms),
    ] {
        writeln!(out, "{name:<34} {milliseconds:>10.2} ms")?;
    }
    if let Some(share) = report.t3_watch_share {
        writeln!(
            out,
            "{:<34} {:>10.2} %",
            "watching the alignment adds",
            share * 100.0
        )?;
    }
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

/// Seconds that an utterance may have: an hour.
const UTTERANCE_SECONDS_MAX: f64 = 3600.0;

fn utterances(arguments: &Arguments) -> Outcome {
    let within = |seconds: &f64| *seconds > 0.0 && *seconds <= UTTERANCE_SECONDS_MAX;
    if !arguments.utterances.iter().all(within) {
        return Err("--utterances: use seconds above 0 and at most 3600".into());
    }
    let figures = bench::utterances(&UtteranceOptions {
        source: match (arguments.synthetic, arguments.sound) {
            (None, _) => Source::Embedded,
            (Some(variant), None) => Source::Synthetic(variant),
            (Some(variant), Some(sound)) => Source::Paired {
                model: Box::new(Source::Synthetic(variant)),
                sound: Box::new(Source::Synthetic(sound)),
            },
        },
        engine: EngineOptions {
            memory: arguments.memory,
            precision: arguments.precision.to_string().parse()?,
            device: arguments.device,
            threads: (arguments.threads > 0).then_some(arguments.threads),
            ..EngineOptions::default()
        },
        seconds: arguments.utterances.clone(),
        whole_tokens: WHOLE_TOKENS,
        rounds: arguments.rounds,
        streams: arguments.streams.max(1),
    })?;
    let mut out = output();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&figures)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "{:<9} {:>7} {:>8} {:>8} {:>12} {:>12} {:>8} {:>6} {:>7} {:>14}",
        "delivery",
        "streams",
        "asked",
        "speech",
        "first sound",
        "without gap",
        "total",
        "RTF",
        "chunks",
        "peak reserved"
    )?;
    for figure in figures {
        writeln!(
            out,
            "{:<9} {:>7} {:>6.1} s {:>6.2} s {:>10.2} s {:>10.2} s {:>6.2} s {:>6.2} {:>7} {:>14}",
            figure.delivery,
            figure.streams,
            figure.asked_seconds,
            figure.audio_seconds,
            figure.first_audio_seconds,
            figure.uninterrupted_seconds,
            figure.total_seconds,
            figure.rtf,
            figure.chunks,
            mebibytes(figure.peak_reserved_bytes)
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
