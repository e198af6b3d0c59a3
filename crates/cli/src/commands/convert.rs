//! `sottovoce convert`: converts a model folder to another precision, which loads faster and takes
//! less space.

use super::Outcome;
use crate::output::print::output;
use crate::output::size::mebibytes;
use serde_json::json;
use sottovoce_chatterbox::convert::convert_model;
use sottovoce_chatterbox::weights::WeightSource;
use sottovoce_tensor::Precision;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce convert ./models/nano ./models/nano-int8 --precision int8
  sottovoce convert ./models/base ./models/base-q4 --precision q4 --json
  sottovoce speak \"Half the size.\" --model ./models/nano-int8";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The model's folder.
    model: PathBuf,
    /// The output folder; created if it is missing.
    out: PathBuf,
    /// T3's precision: f32, f16, int8 or q4. With q4, flow and vocoder keep 8 bits; the voice
    /// networks keep 32.
    #[arg(long)]
    precision: Precision,
    /// One JSON object instead of a line.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    let source = WeightSource::open(&arguments.model)?;
    let converted = convert_model(&source, &arguments.out, arguments.precision)?;
    if arguments.json {
        let figures = json!({
            "folder": arguments.out,
            "tensors": converted.tensors,
            "bytes": converted.bytes,
        });
        writeln!(output(), "{figures:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        output(),
        "{}: {} tensors, {}",
        arguments.out.display(),
        converted.tensors,
        mebibytes(converted.bytes)
    )?;
    Ok(ExitCode::SUCCESS)
}
