//! `sottovoce parity`: outputs of every network for given inputs, for comparison with the
//! reference.

use super::Outcome;
use crate::options::count_of;
use sottovoce::{DeviceChoice, EngineOptions, device};
use sottovoce_chatterbox::parity::Parity;
use sottovoce_chatterbox::weights::WeightSource;
use sottovoce_formats::output::write_whole;
use sottovoce_memory::Memory;
use sottovoce_tensor::Precision;
use std::path::PathBuf;
use std::process::ExitCode;

/// Budget of a comparison, which need not save memory.
const CAPACITY_BYTES: u64 = 1 << 40;

const EXAMPLES: &str = "\
Examples:
  sottovoce parity ./models/base inputs.safetensors outputs.safetensors
  sottovoce parity ./models/nano inputs.safetensors outputs.safetensors --precision int8";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The model's folder.
    model: PathBuf,
    /// The inputs. An output is computed if all of its inputs are given.
    inputs: PathBuf,
    /// The file to write the outputs to.
    outputs: PathBuf,
    /// f32, f16, int8 or q4.
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// Threads; without it, as many as the machine has.
    #[arg(long, value_parser = count_of::<EngineOptions>("threads"), allow_negative_numbers = true)]
    threads: Option<usize>,
}

pub fn run(arguments: Arguments) -> Outcome {
    let path = |path: &PathBuf, error: std::io::Error| format!("{}: {error}", path.display());
    let source = WeightSource::open(&arguments.model)?;
    let threads = arguments.threads.unwrap_or(0);
    let device = device::open(DeviceChoice::Cpu, threads, None)?.device;
    let parity = Parity {
        source: &source,
        device: &*device,
        memory: &Memory::host(CAPACITY_BYTES),
        precision: arguments.precision,
    };
    let outputs = parity.compute_file(&arguments.inputs)?;
    write_whole(&arguments.outputs, &outputs).map_err(|error| path(&arguments.outputs, error))?;
    Ok(ExitCode::SUCCESS)
}
