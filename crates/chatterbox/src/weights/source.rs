//! Sources of weights.

use super::convert::{CONFIG_KEY, PACKED_KEY, PackedTensor};
use super::file::{StoredTensor, WeightFile};
use super::mapped::Bytes;
use super::{Component, WeightsError};
use crate::config::{ModelConfig, Variant};
use crate::text::{TextError, TokenizerFiles};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Limit of small files that are read whole, such as a tokenizer.
const TEXT_BYTES_MAX: u64 = 64 << 20;
const CONFIG_FILE: &str = "config.json";
/// The only weight file of a converted folder.
pub const CONVERTED_FILE: &str = "model.safetensors";

/// The watermark's weights, which no official folder contains; they may be placed beside a model's.
const WATERMARK: &str = "perth";

/// An official checkpoint of T3, and what it needs beside it.
struct Checkpoint {
    /// The stem of T3's file, which identifies the model.
    t3: &'static str,
    variant: Variant,
    /// Languages of a checkpoint that was fine-tuned to them.
    languages: &'static [&'static str],
    /// Stems of the decoder's file, the best first.
    decoders: &'static [&'static str],
}

impl Checkpoint {
    const fn new(
        t3: &'static str,
        variant: Variant,
        decoders: &'static [&'static str],
    ) -> Checkpoint {
        Checkpoint {
            t3,
            variant,
            languages: &[],
            decoders,
        }
    }

    /// The multilingual model, fine-tuned to one language.
    const fn tuned(t3: &'static str, languages: &'static [&'static str]) -> Checkpoint {
        Checkpoint {
            languages,
            ..Checkpoint::new(t3, Variant::Multilingual, V3_DECODERS)
        }
    }

    fn config(&self) -> ModelConfig {
        let mut config = match self.languages {
            [] => ModelConfig::preset(self.variant),
            languages => ModelConfig::multilingual(languages),
        };
        if self.variant == Variant::Multilingual && self.t3 != MULTILINGUAL_V2 {
            // As in the reference's later releases, which published v3.
            config.t3.sampling.repetition_penalty = 1.2;
        }
        config
    }
}

const MULTILINGUAL_V2: &str = "t3_mtl23ls_v2";
/// V3 came with a vocoder of its own; the reference's loader pairs it with v2's.
const V3_DECODERS: &[&str] = &["s3gen_v3", "s3gen"];

/// The official checkpoints. In a folder with several, the first in this order is opened, unless a
/// path names the file of another one.
const OFFICIAL: [Checkpoint; 12] = [
    Checkpoint::new("t3_nano_v1", Variant::Nano, &["s3gen_meanflow"]),
    Checkpoint::new("t3_turbo_v1", Variant::Turbo, &["s3gen_meanflow"]),
    Checkpoint::new("t3_cfg", Variant::Base, &["s3gen"]),
    Checkpoint::new("t3_flash", Variant::Flash, &["s3gen"]),
    Checkpoint::tuned("t3_zh_cmn", &["zh"]),
    Checkpoint::tuned("t3_hi", &["hi"]),
    Checkpoint::tuned("t3_es_es", &["es"]),
    Checkpoint::tuned("t3_es_mx_latam", &["es"]),
    Checkpoint::tuned("t3_pt_pt", &["pt"]),
    Checkpoint::tuned("t3_pt_br", &["pt"]),
    Checkpoint::new("t3_mtl23ls_v3", Variant::Multilingual, V3_DECODERS),
    Checkpoint::new(MULTILINGUAL_V2, Variant::Multilingual, &["s3gen"]),
];

/// S3Gen's file in official folders, and a variant that has it.
const SOUND: [(&str, Variant); 3] = [
    ("s3gen", Variant::Base),
    ("s3gen_v3", Variant::Multilingual),
    ("s3gen_meanflow", Variant::Turbo),
];
/// The voice encoder's file in official folders.
const VOICE_ENCODER: &str = "ve";

/// A model's weights and config, opened but not loaded.
#[derive(Debug)]
pub struct WeightSource {
    config: ModelConfig,
    name: String,
    folder: Option<PathBuf>,
    files: Vec<WeightFile>,
    /// Index of the file that holds each tensor.
    index: BTreeMap<String, usize>,
    seed: Option<u64>,
}

impl WeightSource {
    /// Opens a folder (official or converted), T3's file in an official folder that has several,
    /// or a single weight file with a config in its metadata.
    ///
    /// # Errors
    /// [`WeightsError`] names the file that is missing, damaged or unknown.
    pub fn open(path: &Path) -> Result<WeightSource, WeightsError> {
        let metadata = std::fs::metadata(path).map_err(|source| WeightsError::File {
            path: path.to_owned(),
            source,
        })?;
        if metadata.is_dir() {
            return WeightSource::open_folder(path, &OFFICIAL);
        }
        let stem = path.file_stem().and_then(OsStr::to_str);
        let named = OFFICIAL
            .iter()
            .position(|checkpoint| Some(checkpoint.t3) == stem);
        let file = WeightFile::open(path)?;
        if let Some(index) = named
            && !file.metadata.contains_key(CONFIG_KEY)
        {
            // A bare file name lies in the working folder, whose path is empty.
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            return WeightSource::open_folder(folder, &OFFICIAL[index..=index]);
        }
        WeightSource::single(file, path.parent().map(Path::to_owned))
    }

    /// As [`WeightSource::open`], for a model of which only S3Gen and the vocoder are used: T3 and
    /// the voice encoder may be missing.
    ///
    /// # Errors
    /// As [`WeightSource::open`].
    pub fn open_sound(path: &Path) -> Result<WeightSource, WeightsError> {
        let has_t3 = OFFICIAL
            .iter()
            .any(|checkpoint| find_weights(path, checkpoint.t3).is_some());
        let sound = SOUND
            .into_iter()
            .find_map(|(stem, variant)| Some((find_weights(path, stem)?, variant)));
        let Some((decoder, variant)) = sound.filter(|_| !has_t3) else {
            return WeightSource::open(path);
        };
        let own_config = path.join(CONFIG_FILE);
        let config = match read_text(&own_config)? {
            Some(json) if json.contains("\"variant\"") => {
                parse_config(&own_config.display().to_string(), &json)?
            }
            _ => ModelConfig::preset(variant),
        };
        let mut paths = vec![decoder];
        paths.extend(find_weights(path, VOICE_ENCODER));
        WeightSource::of_files(config, path, &paths)
    }

    /// This model with the S3Gen and the vocoder of another one; `sound` is opened as by
    /// [`WeightSource::open_sound`].
    ///
    /// # Errors
    /// [`WeightsError::Sound`] if they do not fit.
    pub fn with_sound(self, sound: WeightSource) -> Result<WeightSource, WeightsError> {
        let refuse = |reason: String| WeightsError::Sound {
            sound: sound.name.clone(),
            reason,
        };
        if self.is_synthetic() != sound.is_synthetic() {
            let reason = "random weights go with random weights, and files with files";
            return Err(refuse(reason.into()));
        }
        let config = self.config.with_sound_of(&sound.config).map_err(refuse)?;
        let name = format!("{} with the sound of {}", self.name, sound.name);
        if self.is_synthetic() {
            return Ok(WeightSource {
                config,
                name,
                ..self
            });
        }
        let is_of_sound = |name: &str| {
            let owner = Component::ALL.into_iter().find(|part| part.owns(name));
            owner.is_some_and(Component::is_of_sound)
        };
        let mut files = self.files;
        for file in &mut files {
            file.tensors.retain(|name, _| !is_of_sound(name));
        }
        for mut file in sound.files {
            file.tensors.retain(|name, _| is_of_sound(name));
            // A converted file's metadata hold the tokenizer of its own model.
            file.metadata.clear();
            files.push(file);
        }
        files.retain(|file| !file.tensors.is_empty());
        WeightSource::assemble(config, name, self.folder, files)
    }

    fn of_files(
        config: ModelConfig,
        folder: &Path,
        paths: &[PathBuf],
    ) -> Result<WeightSource, WeightsError> {
        let mut files = Vec::new();
        for path in paths.iter().chain(&find_weights(folder, WATERMARK)) {
            files.push(WeightFile::open(path)?);
        }
        let name = folder.display().to_string();
        WeightSource::assemble(config, name, Some(folder.to_owned()), files)
    }

    /// Opens a weight file embedded in the program.
    ///
    /// # Errors
    /// If the file is damaged, or has no config.
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Result<WeightSource, WeightsError> {
        WeightSource::single(
            WeightFile::read(name.to_owned(), Bytes::Embedded(bytes))?,
            None,
        )
    }

    /// Random weights of a model: every requested tensor exists.
    pub fn synthetic(config: ModelConfig, seed: u64) -> WeightSource {
        let name = format!("synthetic {}", config.variant);
        WeightSource {
            config,
            name,
            folder: None,
            files: Vec::new(),
            index: BTreeMap::new(),
            seed: Some(seed),
        }
    }

    fn single(file: WeightFile, folder: Option<PathBuf>) -> Result<WeightSource, WeightsError> {
        let name = file.name.clone();
        let config = match file.metadata.get(CONFIG_KEY) {
            Some(json) => json.clone(),
            None => match folder
                .as_deref()
                .map(|folder| read_text(&folder.join(CONFIG_FILE)))
                .transpose()?
                .flatten()
            {
                Some(json) => json,
                None => {
                    return Err(WeightsError::NoModel {
                        path: name.into(),
                        expected: vec![format!("{CONFIG_KEY} in the file's metadata")],
                    });
                }
            },
        };
        let config = parse_config(&name, &config)?;
        WeightSource::assemble(config, name, folder, vec![file])
    }

    /// Opens a folder with one of these checkpoints, or a converted one.
    fn open_folder(
        folder: &Path,
        checkpoints: &'static [Checkpoint],
    ) -> Result<WeightSource, WeightsError> {
        let official = checkpoints
            .iter()
            .find_map(|checkpoint| Some((find_weights(folder, checkpoint.t3)?, checkpoint)));
        let converted = folder.join(CONVERTED_FILE);
        let own_config = folder.join(CONFIG_FILE);
        let config = match read_text(&own_config)? {
            Some(json) => match (
                parse_config(&own_config.display().to_string(), &json),
                &official,
            ) {
                (Ok(config), _) => Some(config),
                // Official folders may contain another library's config.json.
                (Err(_), Some(_)) if !json.contains("\"variant\"") => None,
                (Err(error), _) => return Err(error),
            },
            None => None,
        };
        let config = match (config, &official) {
            (Some(config), _) => config,
            (None, Some((_, checkpoint))) => checkpoint.config(),
            (None, None) if converted.is_file() => {
                return WeightSource::single(
                    WeightFile::open(&converted)?,
                    Some(folder.to_owned()),
                );
            }
            (None, None) => {
                let expected = checkpoints
                    .iter()
                    .map(|checkpoint| format!("{}.safetensors", checkpoint.t3))
                    .collect();
                return Err(WeightsError::NoModel {
                    path: folder.to_owned(),
                    expected,
                });
            }
        };
        let missing = |file: &str| WeightsError::MissingFile {
            path: folder.to_owned(),
            variant: config.variant.to_string(),
            file: format!("{file}.safetensors"),
        };
        let paths = match official {
            None if converted.is_file() => vec![converted],
            None => {
                let mut checkpoints = checkpoints.iter();
                let t3 = checkpoints.find(|checkpoint| checkpoint.variant == config.variant);
                return Err(missing(t3.map_or("model", |checkpoint| checkpoint.t3)));
            }
            Some((t3, checkpoint)) => {
                let mut decoders = checkpoint.decoders.iter();
                let decoder = decoders.find_map(|stem| find_weights(folder, stem));
                let decoder = decoder.ok_or_else(|| missing(checkpoint.decoders[0]))?;
                let encoder =
                    find_weights(folder, VOICE_ENCODER).ok_or_else(|| missing(VOICE_ENCODER))?;
                vec![t3, decoder, encoder]
            }
        };
        WeightSource::of_files(config, folder, &paths)
    }

    fn assemble(
        config: ModelConfig,
        name: String,
        folder: Option<PathBuf>,
        files: Vec<WeightFile>,
    ) -> Result<WeightSource, WeightsError> {
        let mut index: BTreeMap<String, usize> = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            for tensor in file.tensors.keys() {
                if let Some(other) = index.insert(tensor.clone(), number) {
                    return Err(WeightsError::Twice {
                        file: file.name.clone(),
                        other: files[other].name.clone(),
                        tensor: tensor.clone(),
                    });
                }
            }
        }
        Ok(WeightSource {
            config,
            name,
            folder,
            files,
            index,
            seed: None,
        })
    }

    /// The weights of a network in a file of its own, such as the watermark's, for use with this
    /// model.
    ///
    /// # Errors
    /// [`WeightsError`] if the file is missing, damaged or unknown.
    pub fn beside(&self, path: &Path) -> Result<WeightSource, WeightsError> {
        let file = WeightFile::open(path)?;
        WeightSource::assemble(self.config.clone(), file.name.clone(), None, vec![file])
    }

    /// Opens a file of this model's converted networks, in place of this source's own; small files
    /// such as the tokenizer stay this source's. Where memory can be a file's, networks use their
    /// weights in place, as long as they live: the file may be removed or replaced, but nobody may
    /// write into it.
    ///
    /// # Errors
    /// [`WeightsError`] if the file is missing or damaged, or has another layout.
    pub fn converted(&self, path: &Path) -> Result<WeightSource, WeightsError> {
        let mut file = WeightFile::open(path)?;
        file.used_in_place = true;
        for (key, text) in self.files.iter().flat_map(|file| &file.metadata) {
            file.metadata
                .entry(key.clone())
                .or_insert_with(|| text.clone());
        }
        let name = file.name.clone();
        WeightSource::assemble(self.config.clone(), name, self.folder.clone(), vec![file])
    }

    /// Lets the system drop the pages of all files that were read so far. Networks that use their
    /// weights in place have mappings of their own.
    pub(super) fn release_pages(&self) {
        for file in &self.files {
            file.bytes.release(0..file.bytes.len());
        }
    }

    /// Whether any tensor is packed for the kernels already, by a conversion.
    pub fn is_packed(&self) -> bool {
        self.files.iter().any(|file| !file.packed.is_empty())
    }

    /// The files that hold the weights of these networks.
    pub fn paths_of(&self, components: &[Component]) -> Vec<&Path> {
        let holds = |file: &&WeightFile| {
            let mut names = file.tensors.keys();
            names.any(|name| components.iter().any(|component| component.owns(name)))
        };
        let files = self.files.iter().filter(holds);
        files.filter_map(|file| file.path.as_deref()).collect()
    }

    /// The shape of a stored tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.tensor(name)?.1.shape)
    }

    /// The model's config.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Whether its weights are random numbers.
    pub fn is_synthetic(&self) -> bool {
        self.seed.is_some()
    }

    /// Name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of its files, if any.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Names of all tensors; none for a synthetic source.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.index.keys().map(String::as_str)
    }

    /// The file that holds a network's tensors, or the source's name if none does.
    pub(super) fn file_of(&self, component: Component) -> &str {
        (self.files.iter())
            .find(|file| file.tensors.keys().any(|name| component.owns(name)))
            .map_or(&self.name, |file| &file.name)
    }

    /// Whether it has weights of a network.
    pub fn holds(&self, component: Component) -> bool {
        self.is_synthetic() || self.tensor_names().any(|name| component.owns(name))
    }

    /// The text of a small file beside the weights or in their metadata, such as a tokenizer.
    ///
    /// # Errors
    /// If it exists but cannot be read, is too long or is not text.
    pub fn text_file(&self, name: &str) -> Result<Option<String>, WeightsError> {
        if let Some(text) = self.files.iter().find_map(|file| file.metadata.get(name)) {
            return Ok(Some(text.clone()));
        }
        self.folder
            .as_deref()
            .map_or(Ok(None), |folder| read_text(&folder.join(name)))
    }

    pub(super) fn files(&self) -> &[WeightFile] {
        &self.files
    }

    pub(super) fn seed(&self) -> Option<u64> {
        self.seed
    }

    pub(super) fn tensor(&self, name: &str) -> Option<(&WeightFile, &StoredTensor)> {
        let file = &self.files[*self.index.get(name)?];
        Some((file, file.tensors.get(name)?))
    }

    /// Whether a tensor exists; a synthetic source has every tensor in its plain form, but no
    /// variant form such as weight norm.
    pub fn has(&self, name: &str) -> bool {
        match self.seed {
            Some(_) => !name.contains("parametrizations"),
            None => self.index.contains_key(name),
        }
    }
}

impl TokenizerFiles for WeightSource {
    fn text(&self, name: &str) -> Result<Option<String>, TextError> {
        self.text_file(name).map_err(|error| TextError::Unusable {
            file: name.into(),
            reason: error.to_string(),
        })
    }
}

fn parse_config(file: &str, json: &str) -> Result<ModelConfig, WeightsError> {
    ModelConfig::from_json(json).map_err(|source| WeightsError::Config {
        file: file.into(),
        source,
    })
}

/// `stem.safetensors`, or otherwise `stem.pt`.
fn find_weights(folder: &Path, stem: &str) -> Option<PathBuf> {
    ["safetensors", "pt"]
        .iter()
        .map(|extension| folder.join(format!("{stem}.{extension}")))
        .find(|path| path.is_file())
}

fn read_text(path: &Path) -> Result<Option<String>, WeightsError> {
    let refuse = |source| WeightsError::File {
        path: path.to_owned(),
        source,
    };
    let file = match sottovoce_formats::file::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(error)),
    };
    let length = file.metadata().map_err(refuse)?.len();
    if length > TEXT_BYTES_MAX {
        let message = format!("{length} bytes, at most {TEXT_BYTES_MAX} are read");
        return Err(refuse(io::Error::new(ErrorKind::FileTooLarge, message)));
    }
    io::read_to_string(file).map(Some).map_err(refuse)
}

/// The list of packed tensors in a converted file.
pub(super) fn packed_list(
    file: &str,
    metadata: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, PackedTensor>, WeightsError> {
    metadata.get(PACKED_KEY).map_or_else(
        || Ok(BTreeMap::new()),
        |json| {
            serde_json::from_str(json).map_err(|error| WeightsError::PackedList {
                file: file.into(),
                reason: error.to_string(),
            })
        },
    )
}
