//! `sottovoce convert`: a model folder at another precision, which loads faster and takes less room.

use super::Outcome;
use crate::output::print::output;
use crate::output::size::mebibytes;
use sottovoce_chatterbox::convert::convert_model;
use sottovoce_chatterbox::weights::Source;
use sottovoce_tensor::Precision;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Arguments {
    /// The model's folder.
    model: PathBuf,
    /// The folder to write; made if it is not there.
    out: PathBuf,
    /// T3's precision: f32, f16, int8 or q4. With q4, flow and vocoder keep 8 bits; the voice networks stay at 32.
    #[arg(long)]
    precision: Precision,
}

pub fn run(arguments: Arguments) -> Outcome {
    let source = Source::open(&arguments.model)?;
    let converted = convert_model(&source, &arguments.out, arguments.precision)?;
    writeln!(
        output(),
        "{}: {} tensors, {}",
        arguments.out.display(),
        converted.tensors,
        mebibytes(converted.bytes)
    )?;
    Ok(ExitCode::SUCCESS)
}
