//! `sottovoce doctor`: this machine's resources, the limits and their reasons, and what fits.

mod device;

use super::Outcome;
use crate::environment;
use crate::output::print::output;
use crate::output::size::{fit_text, mebibytes, parse_bytes};
use serde_json::json;
use sottovoce::{CacheFolder, DeviceChoice, EngineOptions, Profile, Source, Variant};
use sottovoce_hub::{HubSettings, OFFICIAL_MODELS};
use sottovoce_lab::doctor::{self, Fit, Machine};
use sottovoce_memory::PoolConfiguration;
use std::io::Write;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce doctor
  sottovoce doctor --memory 1GiB
  sottovoce doctor --json
  sottovoce doctor --device cuda:0 --json";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Show what fits in this much memory, instead of in the free memory.
    #[arg(long, value_parser = parse_bytes, value_name = "SIZE")]
    memory: Option<u64>,
    /// Show the values of this profile on this machine.
    #[arg(long, value_name = "PROFILE")]
    profile: Option<Profile>,
    /// Check this device alone: the memory that it needs for itself, and whether its results equal
    /// the CPU's. CUDA is experimental: it has run on an NVIDIA H200 only.
    #[arg(long)]
    device: Option<DeviceChoice>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    if let Some(choice) = arguments.device {
        return device::check(choice, arguments.memory, arguments.json);
    }
    let machine = doctor::machine();
    let budget = arguments.memory.or(machine.budget_max_bytes);
    let hub = environment::hub_settings();
    let fits = what_fits(budget);
    let listed: Vec<_> = (fits.iter())
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
    let shown_budget = shown(budget);
    let mut values = vec![
        Value::new(
            "budget",
            shown_budget.clone(),
            budget_origin(&arguments, &machine),
        ),
        Value::new(
            "allocator",
            allocator_text(&options, refused.as_ref()),
            origin,
        ),
    ];
    values.extend(profile_values(&arguments));
    values.extend(engine_values(&machine));
    values.extend(environment_values(&hub));
    let cache = CacheFolder::new(environment::cache_folder());
    let entries = cache.entries().unwrap_or_default();
    let cache_bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    values.push(Value::new(
        "cache",
        format!("{}, {}", cache.folder().display(), mebibytes(cache_bytes)),
        environment::origin(&["SOTTOVOCE_CACHE", "XDG_CACHE_HOME"]),
    ));
    let settings = json!({
        "values": values.iter().map(Value::json).collect::<Vec<_>>(),
        "allocator": {
            "options": options,
            "origin": origin,
            "error": refused.as_ref().map(ToString::to_string),
        },
        "voices": environment::voices_folder(),
        "cache": { "folder": cache.folder(), "bytes": cache_bytes },
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
    writeln!(
        out,
        "memory        {} in all, {} free",
        shown(machine.memory_total_bytes),
        shown(machine.memory_available_bytes)
    )?;
    if let Some(limit) = &machine.memory_limit {
        writeln!(out, "limit         {}", mebibytes(limit.bytes))?;
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
    for model in &OFFICIAL_MODELS {
        let folder = model.cached(&hub);
        writeln!(
            out,
            "model {:<15} {}",
            model.name,
            folder.map_or_else(
                || "not here".to_owned(),
                |folder| folder.display().to_string()
            )
        )?;
    }
    for Value {
        name,
        value,
        origin,
    } in &values
    {
        writeln!(out, "{name:<22} {value} ({origin})")?;
    }
    for note in &machine.notes {
        writeln!(out, "note          {note}")?;
    }
    writeln!(out, "fits in {shown_budget}:")?;
    for (model, fit) in &fits {
        writeln!(out, "  {model:<12} {}", fit_text(fit))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// For each model, base with turbo's sound among them, and precision, the streams that fit a
/// budget; nothing is loaded for it.
fn what_fits(budget: Option<u64>) -> Vec<(&'static str, Fit)> {
    let paired = Source::Paired {
        model: Box::new(Source::Synthetic(Variant::Base)),
        sound: Box::new(Source::Synthetic(Variant::Turbo)),
    };
    let models = [
        ("pico", Source::Embedded),
        ("nano", Source::Synthetic(Variant::Nano)),
        ("turbo", Source::Synthetic(Variant::Turbo)),
        ("base", Source::Synthetic(Variant::Base)),
        ("base+turbo", paired),
        ("flash", Source::Synthetic(Variant::Flash)),
        ("multilingual", Source::Synthetic(Variant::Multilingual)),
    ];
    (models.iter())
        .flat_map(|(name, source)| {
            doctor::fits(source, budget)
                .into_iter()
                .map(|fit| (*name, fit))
        })
        .collect()
}

/// A configured value and its origin: an option, a variable, a profile, the machine, or the
/// default.
struct Value {
    name: &'static str,
    value: String,
    origin: &'static str,
}

impl Value {
    fn new(name: &'static str, value: impl ToString, origin: &'static str) -> Value {
        Value {
            name,
            value: value.to_string(),
            origin,
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({ "name": self.name, "value": self.value, "origin": self.origin })
    }
}

fn shown(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unknown".to_owned(), mebibytes)
}

fn budget_origin(arguments: &Arguments, machine: &Machine) -> &'static str {
    match (arguments.memory, &machine.memory_limit) {
        (Some(_), _) => "--memory",
        (None, Some(_)) => "what the limit leaves, less the program's own",
        (None, None) => "what is free, less the program's own",
    }
}

fn allocator_text(options: &str, refused: Option<&impl ToString>) -> String {
    match refused {
        Some(error) => format!("{options}, refused: {}", error.to_string()),
        None if options.is_empty() => "PyTorch's defaults".to_owned(),
        None => options.to_owned(),
    }
}

/// The profile's values within the given budget; without one, an engine has no budget.
fn profile_values(arguments: &Arguments) -> Vec<Value> {
    let (profile, origin) = match arguments.profile {
        Some(profile) => (profile, "--profile"),
        None => (EngineOptions::default().profile, "default"),
    };
    let settings = profile.settings(arguments.memory);
    let interval = settings.cache_interval.map_or_else(
        || "never".to_owned(),
        |interval| format!("every {interval} chunks"),
    );
    vec![
        Value::new("profile", profile, origin),
        Value::new("cache interval", interval, "profile"),
        Value::new("drops caches", settings.collect, "profile"),
        Value::new(
            "fragmentation",
            format!("at most {:.0} %", settings.fragmentation_threshold * 100.0),
            "profile",
        ),
        Value::new(
            "worthwhile",
            mebibytes(settings.worthwhile_bytes),
            "profile",
        ),
    ]
}

/// An engine's values where no option is given.
fn engine_values(machine: &Machine) -> Vec<Value> {
    let options = EngineOptions::default();
    vec![
        Value::new("precision", options.precision, "default"),
        Value::new("keys and values", options.key_value_precision, "default"),
        Value::new("threads", machine.cores, "the machine's cores"),
        Value::new("streams", options.streams_max, "default"),
        Value::new("waiting", options.waiting_max, "default"),
    ]
}

fn environment_values(hub: &HubSettings) -> Vec<Value> {
    let origin = environment::origin;
    let voices = environment::voices_folder();
    let token = if hub.token.is_some() { "set" } else { "none" };
    vec![
        Value::new(
            "voices",
            voices.display(),
            origin(&["SOTTOVOCE_VOICES", "XDG_DATA_HOME"]),
        ),
        Value::new(
            "hub cache",
            hub.cache.display(),
            origin(&["HF_HUB_CACHE", "HF_HOME"]),
        ),
        Value::new("hub endpoint", &hub.endpoint, origin(&["HF_ENDPOINT"])),
        Value::new("hub offline", hub.offline, origin(&["HF_HUB_OFFLINE"])),
        Value::new("hub token", token, origin(&["HF_TOKEN"])),
    ]
}
