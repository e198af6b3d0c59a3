//! Models and voices as named on the command line, resolved to the engine's sources.

use crate::environment;
use sottovoce::{EngineOptions, Source, Variant, VoiceSource, parse_variant};
use sottovoce_hub::{OfficialModel, official_names};
use std::path::{Path, PathBuf};

/// The model of a command that also takes random weights.
#[derive(clap::Args)]
pub struct ModelChoice {
    /// pico, the name of a fetched model (`model list` shows them all), or a model's folder; of a
    /// folder with several, T3's file.
    #[arg(long, default_value = "pico", conflicts_with = "synthetic")]
    model: String,
    /// Full-size random weights of this variant instead: base, flash, multilingual, turbo or
    /// nano.
    #[arg(long, value_parser = parse_variant)]
    synthetic: Option<Variant>,
}

impl ModelChoice {
    /// Source of the model's weights.
    ///
    /// # Errors
    /// As [`model_source`].
    pub fn source(&self) -> Result<Source, String> {
        match self.synthetic {
            Some(variant) => Ok(Source::Synthetic(variant)),
            None => model_source(&self.model),
        }
    }
}

/// `pico`, the name of a fetched official model, or a folder.
///
/// # Errors
/// If the name is that of an official model that is not in the hub's cache, or neither a model's
/// nor a path's; the message says which command downloads it, or lists the names.
pub fn model_source(model: &str) -> Result<Source, String> {
    if model == "pico" {
        return Ok(Source::Embedded);
    }
    if let Some(official) = OfficialModel::named(model).filter(|_| !Path::new(model).is_dir()) {
        let folder = official.cached(&environment::hub_settings());
        let name = official.name;
        return folder.map(Source::Directory).ok_or_else(|| {
            format!("model {name} is not here yet: run `sottovoce model download {name}`")
        });
    }
    if Path::new(model).exists() {
        Ok(Source::Directory(PathBuf::from(model)))
    } else {
        Err(format!(
            "model {model:?} is neither pico, {} nor a folder",
            official_names()
        ))
    }
}

/// The folder of the model whose sound is taken, given as the option names it.
///
/// # Errors
/// As [`model_source`], and for pico, which has no folder.
pub fn sound_folder(sound: &Path) -> Result<PathBuf, String> {
    if sound.is_dir() {
        return Ok(sound.to_owned());
    }
    match model_source(&sound.to_string_lossy())? {
        Source::Directory(folder) => Ok(folder),
        _ => Err("pico speaks with its own sound only: use base, turbo, nano or a folder".into()),
    }
}

/// Options in which the model whose sound is taken is named by its folder, if it has one.
pub fn with_sound_folder(options: EngineOptions) -> EngineOptions {
    let sound = options
        .sound
        .map(|sound| sound_folder(&sound).unwrap_or(sound));
    EngineOptions { sound, ..options }
}

/// Resolves a voice: a name without a file is a prepared voice's name; the extension of a file
/// separates prepared voices from recordings.
pub fn voice_source(name: Option<&str>) -> VoiceSource {
    let Some(name) = name else {
        return VoiceSource::Default;
    };
    let path = Path::new(name);
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or("");
    match extension.to_ascii_lowercase().as_str() {
        "safetensors" | "pt" => VoiceSource::Prepared(path.to_owned()),
        "wav" | "flac" | "mp3" | "ogg" => VoiceSource::Clip(path.to_owned()),
        _ if path.is_file() => VoiceSource::Clip(path.to_owned()),
        _ => VoiceSource::Name(name.to_owned()),
    }
}
