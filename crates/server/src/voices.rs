//! The voices that callers can name: the model's own, and those prepared from uploaded clips.
//!
//! Prepared voices are files in one folder, which replicas may share. A file is named after the hexadecimal form of the voice's name, so
//! that no name can reach another path.

use crate::error::ServerError;
use crate::host::Loaded;
use serde::Serialize;
use sottovoce::{Voice, VoiceSource};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use utoipa::ToSchema;

/// The model's own voice goes by this name.
pub(crate) const DEFAULT_VOICE: &str = "default";
/// OpenAI's voice names; clients insist on sending one, and get the model's own voice for it.
const OPENAI_VOICES: [&str; 13] = [
    "alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse",
    "marin", "cedar",
];
const NAME_CHARACTERS_MAX: usize = 64;
/// Its file's name has two digits a byte, and file systems take 255 bytes.
const NAME_BYTES_MAX: usize = 120;
/// Voices kept ready together. Each may hold what it conditions the model with; the others are read again when they are asked for.
const READY_MAX: usize = 16;
const EXTENSION: &str = "safetensors";

/// A voice as `/v1/audio/voices` lists it.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct VoiceEntry {
    /// What requests call it.
    pub(crate) id: String,
    /// The same, for people.
    pub(crate) name: String,
    /// Whether it was uploaded (and can be deleted).
    pub(crate) uploaded: bool,
}

/// The uploaded voices.
pub(crate) struct Voices {
    directory: Option<PathBuf>,
    voices_max: usize,
}

type ReadyTable = HashMap<String, (Option<SystemTime>, Voice)>;

/// A loaded model's voices in use, by name, with the change time of their file: a replica may have replaced it. They go with the model
/// whose memory they are in.
#[derive(Default)]
pub(crate) struct ReadyVoices(Mutex<ReadyTable>);

impl ReadyVoices {
    fn table(&self) -> MutexGuard<'_, ReadyTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses names that are long, have no letter or digit, or hold anything but letters, digits, `-`, `_`, `.` and spaces.
pub(crate) fn check_name(name: &str) -> Result<(), ServerError> {
    let fits = name.chars().any(char::is_alphanumeric)
        && name.chars().count() <= NAME_CHARACTERS_MAX
        && name.len() <= NAME_BYTES_MAX;
    let plain = name
        .chars()
        .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' '));
    if fits && plain {
        Ok(())
    } else {
        Err(ServerError::Parameter {
            parameter: "name",
            reason: format!(
                "a voice's name has 1 to {NAME_CHARACTERS_MAX} letters, digits, '-', '_', '.' or spaces ({NAME_BYTES_MAX} bytes at most), and not only signs"
            ),
        })
    }
}

fn file_name(name: &str) -> String {
    use std::fmt::Write;
    let mut file = String::with_capacity(2 * name.len() + EXTENSION.len() + 1);
    for byte in name.bytes() {
        // Writing to a string cannot fail.
        let _ = write!(file, "{byte:02x}");
    }
    file + "." + EXTENSION
}

fn name_of(file: &str) -> Option<String> {
    let hexadecimal = file.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    if hexadecimal.len() % 2 != 0 || !hexadecimal.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = (0..hexadecimal.len() / 2)
        .map(|i| u8::from_str_radix(&hexadecimal[2 * i..2 * i + 2], 16).ok())
        .collect();
    let name = String::from_utf8(bytes?).ok()?;
    check_name(&name).ok()?;
    // Other spellings of the digits are not found under that name.
    (file_name(&name) == file).then_some(name)
}

impl Voices {
    pub(crate) fn new(directory: Option<PathBuf>, voices_max: usize) -> Voices {
        Voices {
            directory,
            voices_max,
        }
    }

    fn directory(&self) -> Result<&PathBuf, ServerError> {
        self.directory
            .as_ref()
            .ok_or_else(|| ServerError::Parameter {
                parameter: "voice",
                reason: "this server keeps no voices; start it with --voices FOLDER".into(),
            })
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.directory
            .as_ref()
            .map(|directory| directory.join(file_name(name)))
    }

    /// All voices: the model's own first, then the uploaded ones by name.
    pub(crate) fn list(&self) -> Vec<VoiceEntry> {
        let mut uploaded: Vec<String> = self
            .directory
            .iter()
            .filter_map(|directory| std::fs::read_dir(directory).ok())
            .flatten()
            .filter_map(|entry| name_of(entry.ok()?.file_name().to_str()?))
            .collect();
        uploaded.sort();
        let entry = |name: String, uploaded| VoiceEntry {
            id: name.clone(),
            name,
            uploaded,
        };
        std::iter::once(entry(DEFAULT_VOICE.into(), false))
            .chain(uploaded.into_iter().map(|name| entry(name, true)))
            .collect()
    }

    /// The voice of that name, made ready. Blocks while its file is read.
    pub(crate) fn voice(&self, loaded: &Loaded, name: &str) -> Result<Voice, ServerError> {
        let unknown = || ServerError::Parameter {
            parameter: "voice",
            reason: format!(
                "there is no voice {name:?}; GET /v1/audio/voices lists those there are"
            ),
        };
        check_name(name).map_err(|_| unknown())?;
        let changed = self
            .path(name)
            .and_then(|path| std::fs::metadata(path).ok())
            .map(|metadata| metadata.modified().ok());
        let own = name == DEFAULT_VOICE || OPENAI_VOICES.contains(&name);
        let (key, changed) = match changed {
            Some(changed) => (name, changed),
            None if own => (DEFAULT_VOICE, None),
            None => return Err(unknown()),
        };
        if let Some((known, voice)) = loaded.voices.table().get(key)
            && *known == changed
        {
            return Ok(voice.clone());
        }
        let source = match self.path(key) {
            Some(path) if key != DEFAULT_VOICE => VoiceSource::Prepared(path),
            _ => VoiceSource::Default,
        };
        let voice = loaded.engine.voice(source)?;
        let mut ready = loaded.voices.table();
        if ready.len() >= READY_MAX {
            ready.clear();
        }
        ready.insert(key.to_owned(), (changed, voice.clone()));
        Ok(voice)
    }

    /// Prepares a voice from a recording's bytes and keeps it under `name`. Blocks while it is prepared.
    pub(crate) fn add(
        &self,
        loaded: &Loaded,
        name: &str,
        clip: Vec<u8>,
    ) -> Result<VoiceEntry, ServerError> {
        check_name(name)?;
        if name == DEFAULT_VOICE || OPENAI_VOICES.contains(&name) {
            return Err(ServerError::Parameter {
                parameter: "name",
                reason: format!("{name:?} is the model's own voice; choose another name"),
            });
        }
        let directory = self.directory()?;
        let uploaded = self.list().len() - 1;
        let path = directory.join(file_name(name));
        if uploaded >= self.voices_max && !path.exists() {
            return Err(ServerError::Parameter {
                parameter: "name",
                reason: format!("{uploaded} voices are kept, as many as may; delete one first"),
            });
        }
        let voice = loaded.engine.voice(VoiceSource::ClipBytes {
            name: name.to_owned(),
            bytes: clip,
        })?;
        voice.save(&path)?;
        loaded.voices.table().remove(name);
        Ok(VoiceEntry {
            id: name.to_owned(),
            name: name.to_owned(),
            uploaded: true,
        })
    }

    /// Deletes an uploaded voice, also from those that the model has ready.
    pub(crate) fn remove(&self, loaded: Option<&Loaded>, name: &str) -> Result<(), ServerError> {
        let missing = || ServerError::NotFound {
            what: format!("an uploaded voice {name:?}"),
        };
        check_name(name).map_err(|_| missing())?;
        let path = self.path(name).ok_or_else(missing)?;
        std::fs::remove_file(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => missing(),
            _ => sottovoce::Error::File { path, source }.into(),
        })?;
        if let Some(loaded) = loaded {
            loaded.voices.table().remove(name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Admission;
    use sottovoce::{Engine, EngineOptions, Source};
    use std::time::Duration;

    #[test]
    fn a_name_survives_its_file_name() {
        for name in ["Ann", "José 2", "a.b-c_d", &"日".repeat(40)] {
            assert_eq!(name_of(&file_name(name)).as_deref(), Some(name));
        }
    }

    #[test]
    fn names_that_could_be_paths_are_refused() {
        for name in [
            "",
            "  ",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "a\0b",
            "a\nb",
            &"x".repeat(65),
            &"日".repeat(41),
        ] {
            assert!(check_name(name).is_err(), "{name:?} must be refused");
        }
    }

    #[test]
    fn foreign_files_in_the_folder_are_not_voices() {
        for file in [
            "readme.txt",
            "zz.safetensors",
            "abc.safetensors",
            "2e2e2f.safetensors",
            "4A.safetensors",
            "+4+a.safetensors",
            "é.safetensors",
        ] {
            assert_eq!(name_of(file), None, "{file}");
        }
    }

    #[test]
    fn a_voice_that_was_ready_does_not_outlive_its_model() {
        let load = || {
            let engine = Engine::load(Source::Embedded, EngineOptions::default()).unwrap();
            Loaded {
                admission: Admission::new(1, 1, Duration::from_secs(1)),
                voices: ReadyVoices::default(),
                engine,
            }
        };
        let voices = Voices::new(None, 10);
        for loaded in [load(), load()] {
            for _ in 0..2 {
                let voice = voices.voice(&loaded, DEFAULT_VOICE).unwrap();
                let stream = loaded.engine.stream("Hi.", &voice, Default::default());
                stream.expect("a voice speaks with the model that has it");
            }
        }
    }

    #[test]
    fn without_a_folder_only_the_own_voice_is_listed() {
        let list = Voices::new(None, 10).list();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].id, DEFAULT_VOICE);
    }
}
