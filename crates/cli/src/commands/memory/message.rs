//! `sottovoce memory advise --message`: explains PyTorch's out-of-memory message.

use super::Outcome;
use crate::output::print::output;
use sottovoce_memory::message::{Accelerator, MESSAGE_BYTES_MAX, OutOfMemoryMessage, other_error};
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

pub fn run(path: &Path, json: bool) -> Outcome {
    let is_standard_input = path == Path::new("-");
    let source: Box<dyn Read> = if is_standard_input {
        Box::new(std::io::stdin())
    } else {
        let file = std::fs::File::open(path);
        Box::new(file.map_err(|error| format!("{}: {error}", path.display()))?)
    };
    let mut bytes = Vec::new();
    source
        .take(MESSAGE_BYTES_MAX as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    // Some shells write what they redirect as UTF-16, with a mark.
    let (text, ..) = encoding_rs::UTF_8.decode(&bytes);
    let message = OutOfMemoryMessage::parse(&text).ok_or_else(|| match other_error(&text) {
        Some(meaning) => format!(
            "{}: this is no message of PyTorch's allocators for devices: {meaning}",
            path.display()
        ),
        None => format!(
            "{}: there is no out-of-memory message of PyTorch in it (\"Tried to allocate …\")",
            path.display()
        ),
    })?;
    let explanation = message.explain();
    let mut out = output();
    if json {
        writeln!(out, "{}", serde_json::to_string(&explanation)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for finding in &explanation.findings {
        writeln!(out, "{finding}")?;
    }
    if let Some(line) = &explanation.line {
        writeln!(out, "    {line}")?;
    }
    // The driver's own pool records no history.
    if matches!(message.accelerator, Accelerator::Cuda | Accelerator::Rocm) && !message.driver_pool
    {
        writeln!(
            out,
            "For what a run would take under each setting, record a snapshot and give it to `sottovoce memory advise`."
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
