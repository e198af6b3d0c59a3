//! A whole model at another precision.

use crate::s3gen::Flow;
use crate::t3::T3;
use crate::vocoder::Vocoder;
use crate::voice::{SpeakerVector, SpeechTokenizer, VoiceEncoder};
use crate::weights::{self, Component, ComponentLoader, Converted, Loader, Source, WeightsError};
use sottovoce_tensor::Precision;
use std::path::Path;

/// Small files that belong to a model beside its weights.
const TEXTS: [&str; 5] = [
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
];
/// The voice that comes with a model.
const VOICE: &str = "conds.pt";

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
    let sound = sound_precision(precision);
    let bands = config.flow.mel_bands();
    let voice = &config.voice;
    let t3 = |loader: &mut Loader<'_>| T3::load(loader, &config.t3).map(drop);
    let flow = |loader: &mut Loader<'_>| Flow::load(loader, &config.flow).map(drop);
    let vocoder = |loader: &mut Loader<'_>| Vocoder::load(loader, &config.vocoder, bands).map(drop);
    let encoder = |loader: &mut Loader<'_>| VoiceEncoder::load(loader, &voice.encoder).map(drop);
    let tokenizer =
        |loader: &mut Loader<'_>| SpeechTokenizer::load(loader, &voice.tokenizer).map(drop);
    let vector =
        |loader: &mut Loader<'_>| SpeakerVector::load(loader, &voice.speaker_vector).map(drop);
    let mut components: Vec<ComponentLoader<'_>> = vec![
        (Component::T3, precision, &t3),
        (Component::Flow, sound, &flow),
        (Component::Vocoder, sound, &vocoder),
        (Component::VoiceEncoder, Precision::F32, &encoder),
        (Component::SpeechTokenizer, Precision::F32, &tokenizer),
        (Component::SpeakerVector, Precision::F32, &vector),
    ];
    // A model with a voice of its own may have no networks that prepare others.
    components.retain(|(component, ..)| source.holds(*component));
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
    let converted = weights::convert(source, folder, &components, &texts)?;
    let path = folder.join("config.json");
    std::fs::write(&path, config.to_json()).map_err(|error| refuse(&path, error))?;
    if let Some(from) = source
        .folder()
        .map(|folder| folder.join(VOICE))
        .filter(|path| path.is_file())
    {
        std::fs::copy(&from, folder.join(VOICE)).map_err(|error| refuse(&from, error))?;
    }
    Ok(converted)
}
