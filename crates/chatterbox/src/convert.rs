//! Conversion of a whole model to another precision.

use crate::components::{precision_within, visit};
use crate::text::{CANGJIE_FILE, MULTILINGUAL_FILE};
use crate::weights::{self, Component, Converted, WeightSource, WeightsError};
use sottovoce_formats::output::{OutputFile, write_whole};
use sottovoce_tensor::Precision;
use std::io;
use std::path::Path;

/// Small files of a model, kept in the converted file's metadata.
const TEXTS: [&str; 7] = [
    "tokenizer.json",
    MULTILINGUAL_FILE,
    CANGJIE_FILE,
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
];
/// Files that are copied unchanged: the model's own voice, and the watermark's weights.
const BESIDE: [&str; 4] = [
    "voice.safetensors",
    "conds.pt",
    "perth.safetensors",
    "perth.pt",
];
/// The precision of the flow and the vocoder in a model at `precision`. In a 4-bit model they stay
/// at 8 bits: 4 bits would save little and be audible.
pub fn sound_precision(precision: Precision) -> Precision {
    match precision {
        Precision::Q4 => Precision::Int8,
        other => other,
    }
}

/// Writes `model.safetensors` and `config.json` to `folder`, which may be new: T3 at `precision`,
/// flow and vocoder at [`sound_precision`], its voice networks at 32 bits, the tokenizer in the
/// file's metadata and the model's voice beside it.
///
/// # Errors
/// As for loading, and the operating system's errors about the files.
pub fn convert_model(
    source: &WeightSource,
    folder: &Path,
    precision: Precision,
) -> Result<Converted, WeightsError> {
    let config = source.config();
    let refuse = |path: &Path, source| WeightsError::File {
        path: path.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(|error| refuse(folder, error))?;
    if let Some(from) = source.folder()
        && is_same_folder(from, folder)
    {
        let reason = "this is the model's own folder: convert into another one";
        return Err(refuse(
            folder,
            io::Error::new(io::ErrorKind::AlreadyExists, reason),
        ));
    }
    // A model that comes with a voice may lack the networks of voice preparation.
    let components: Vec<(Component, Precision)> = (Component::SPEAKING.into_iter())
        .chain(Component::VOICE)
        .filter(|component| source.holds(*component))
        .map(|component| (component, precision_within(component, precision)))
        .collect();
    let mut texts = Vec::new();
    for name in TEXTS {
        if let Some(text) = source.text_file(name)? {
            texts.push((name, text));
        }
    }
    let texts: Vec<(&str, &str)> = texts
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let load = |component, loader: &mut weights::Loader<'_>| visit(component, config, loader);
    let file = folder.join(weights::CONVERTED_FILE);
    let converted = weights::convert(source, &file, &components, &load, &texts)?;
    let path = folder.join("config.json");
    write_whole(&path, config.to_json().as_bytes()).map_err(|error| refuse(&path, error))?;
    for name in BESIDE {
        if let Some(from) =
            (source.folder().map(|from| from.join(name))).filter(|path| path.is_file())
        {
            copy_whole(&from, &folder.join(name)).map_err(|error| refuse(&from, error))?;
        }
    }
    Ok(converted)
}

/// Writes the networks that speak, T3, flow and vocoder, to one file, each at its precision in a
/// model at `precision`. [`WeightSource::converted`] opens it.
///
/// # Errors
/// As [`convert_model`].
pub fn convert_speaking(
    source: &WeightSource,
    file: &Path,
    precision: Precision,
) -> Result<Converted, WeightsError> {
    let components =
        Component::SPEAKING.map(|component| (component, precision_within(component, precision)));
    let load =
        |component, loader: &mut weights::Loader<'_>| visit(component, source.config(), loader);
    weights::convert(source, file, &components, &load, &[])
}

/// Copies a file through a temporary file and a rename, so that it appears only when complete.
fn copy_whole(from: &Path, to: &Path) -> io::Result<()> {
    let mut output = OutputFile::create(to)?;
    io::copy(&mut sottovoce_formats::file::open(from)?, &mut output)?;
    output.commit()
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
