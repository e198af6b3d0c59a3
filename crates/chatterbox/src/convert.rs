//! A whole model at another precision.

use crate::components::{precision_within, visit};
use crate::weights::{self, Component, Converted, Source, WeightsError};
use sottovoce_formats::output::{OutputFile, write_whole};
use sottovoce_tensor::Precision;
use std::io;
use std::path::Path;

/// Small files that belong to a model beside its weights.
const TEXTS: [&str; 5] = [
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
];
/// Files that stand beside a model's weights: its own voice, and the watermark's weights, which are never converted.
const BESIDE: [&str; 4] = [
    "voice.safetensors",
    "conds.pt",
    "perth.safetensors",
    "perth.pt",
];
/// What is converted.
const COMPONENTS: [Component; 6] = [
    Component::T3,
    Component::Flow,
    Component::Vocoder,
    Component::VoiceEncoder,
    Component::SpeechTokenizer,
    Component::SpeakerVector,
];

/// The precision of the flow and the vocoder in a model at `precision`. Below T3's at 4 bits they keep 8: what they would save is
/// little, what they would lose is heard.
pub fn sound_precision(precision: Precision) -> Precision {
    match precision {
        Precision::Q4 => Precision::Int8,
        other => other,
    }
}

/// Writes `model.safetensors` and `config.json` to `folder`, which may be new: T3 at `precision`, flow and vocoder at
/// [`sound_precision`], the voice networks that it has at 32 bits, the tokenizer within the file and the model's voice beside it.
///
/// # Errors
/// As for loading; and what the operating system says about the files.
pub fn convert_model(
    source: &Source,
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
    // A model with a voice of its own may have no networks that prepare others.
    let components: Vec<(Component, Precision)> = (COMPONENTS.into_iter())
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
    let converted = weights::convert(source, folder, &components, &load, &texts)?;
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

/// Copies a file, which appears only when it is complete.
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
