//! `sottovoce doctor`: what this machine has, what is limited and why, what fits.

use super::Outcome;
use crate::environment;
use crate::output::print::output;
use crate::output::size::{fit_text, mebibytes, parse_bytes};
use serde_json::{Value, json};
use sottovoce::doctor::{self, Fit};
use sottovoce::hub::OFFICIAL_MODELS;
use sottovoce::{Source, Variant};
use sottovoce_memory::PoolConfiguration;
use std::io::Write;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce doctor
  sottovoce doctor --memory 1GiB
  sottovoce doctor --json";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Say what fits this much memory, in place of what is free.
    #[arg(long, value_parser = parse_bytes, value_name = "SIZE")]
    memory: Option<u64>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    let machine = doctor::machine();
    let budget = arguments.memory.or(machine.budget_max_bytes());
    let hub = environment::hub_settings();
    let fits = what_fits(budget);
    let listed: Vec<Value> = (fits.iter())
        .map(|(model, fit)| {
            json!({
                "model": model,
                "precision": fit.precision,
                "one_stream_bytes": fit.one_stream_bytes,
                "further_stream_bytes": fit.further_stream_bytes,
                "further_stream_8_bit_bytes": fit.further_stream_8_bit_bytes,
                "streams_fit": fit.streams_fit,
            })
        })
        .collect();
    let (origin, options) = match environment::allocator_options() {
        Some((variable, text)) => (variable, text),
        None => ("default", String::new()),
    };
    let refused = PoolConfiguration::parse(&options).err();
    let settings = json!({
        "allocator": {
            "options": options,
            "origin": origin,
            "error": refused.as_ref().map(ToString::to_string),
        },
        "voices": environment::voices_folder(),
        "hub_cache": hub.cache,
        "hub_endpoint": hub.endpoint,
        "hub_offline": hub.offline,
        "hub_token": hub.token.is_some(),
    });
    let mut out = output();
    if arguments.json {
        let report = json!({ "machine": machine, "budget_bytes": budget, "fits": listed, "settings": settings });
        writeln!(out, "{report:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "platform      {}, {} cores, {}",
        machine.platform,
        machine.cores,
        machine.instruction_sets.join(" ")
    )?;
    let shown = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), mebibytes);
    writeln!(
        out,
        "memory        {} in all, {} free",
        shown(machine.memory_total_bytes),
        shown(machine.memory_available_bytes)
    )?;
    if let Some(limit) = machine.memory_limit_bytes {
        writeln!(out, "limit         {}", mebibytes(limit))?;
    }
    for device in &machine.cuda_devices {
        writeln!(
            out,
            "cuda {:<8} {}, {} in all, {} free, driver for CUDA {}.{}",
            device.ordinal,
            device.name,
            mebibytes(device.total_bytes),
            mebibytes(device.free_bytes),
            device.driver_version / 1000,
            device.driver_version % 1000 / 10
        )?;
    }
    writeln!(
        out,
        "voices        {}",
        environment::voices_folder().display()
    )?;
    writeln!(
        out,
        "hub cache     {}{}",
        hub.cache.display(),
        if hub.offline { " (offline)" } else { "" }
    )?;
    for model in &OFFICIAL_MODELS {
        let folder = model.cached(&hub);
        writeln!(
            out,
            "model {:<7} {}",
            model.name,
            folder.map_or_else(
                || "not here".to_owned(),
                |folder| folder.display().to_string()
            )
        )?;
    }
    match (origin, &refused) {
        ("default", _) => writeln!(out, "allocator     PyTorch's defaults (default)")?,
        (variable, None) => writeln!(out, "allocator     {options} ({variable})")?,
        (variable, Some(error)) => {
            writeln!(
                out,
                "allocator     {options} ({variable}), refused: {error}"
            )?;
        }
    }
    for note in &machine.notes {
        writeln!(out, "note          {note}")?;
    }
    writeln!(out, "fits in {}:", shown(budget))?;
    for (model, fit) in &fits {
        writeln!(out, "  {model:<6} {}", fit_text(fit))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// For each model and precision, the streams that fit a budget; nothing is loaded for it.
fn what_fits(budget: Option<u64>) -> Vec<(&'static str, Fit)> {
    let models = [
        ("pico", Source::Embedded),
        ("nano", Source::Synthetic(Variant::Nano)),
        ("turbo", Source::Synthetic(Variant::Turbo)),
        ("base", Source::Synthetic(Variant::Base)),
    ];
    (models.iter())
        .flat_map(|(name, source)| {
            doctor::fits(source, budget)
                .into_iter()
                .map(|fit| (*name, fit))
        })
        .collect()
}
