//! The voices that callers can name: the model's own, and those prepared from uploaded clips.
//!
//! Prepared voices are files in one folder, which replicas may share. A file is named after the hexadecimal form of the voice's
//! name, so that no name can reach another path. Names are the same in any case and any Unicode form.

use crate::aliases::{Alias, Aliases};
use crate::error::ServerError;
use crate::host::Loaded;
use serde::Serialize;
use sottovoce::{Voice, VoiceSource};
use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
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
    /// Always `audio.voice`.
    pub(crate) object: &'static str,
    /// Always `audio_sample`: every voice was made of a recording.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// Seconds since 1970 at which it was made; of the model's own voice, 0.
    pub(crate) created_at: u64,
    /// Whether it was uploaded (and can be deleted).
    pub(crate) uploaded: bool,
    /// The voice that it stands for, where it is only a further name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alias_of: Option<String>,
}

impl VoiceEntry {
    fn new(name: String, made: Option<SystemTime>) -> VoiceEntry {
        let since = made.and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        VoiceEntry {
            id: name.clone(),
            name,
            object: "audio.voice",
            kind: "audio_sample",
            created_at: since.map_or(0, |since| since.as_secs()),
            uploaded: made.is_some(),
            alias_of: None,
        }
    }
}

/// The uploaded voices, and the aliases.
pub(crate) struct Voices {
    directory: Option<PathBuf>,
    voices_max: usize,
    pub(crate) aliases: Aliases,
}

/// A voice's file.
struct Stored {
    name: String,
    path: PathBuf,
    changed: SystemTime,
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
    let sign = |c| is_combining_mark(c) || matches!(c, '-' | '_' | '.' | ' ');
    let plain = name.chars().all(|c| c.is_alphanumeric() || sign(c));
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

/// A name in the form in which it is kept.
fn composed(name: &str) -> String {
    name.trim().nfc().collect()
}

/// One spelling of a name for all its cases and Unicode forms.
fn folded(name: &str) -> String {
    name.trim()
        .nfkc()
        .flat_map(char::to_lowercase)
        .nfc()
        .collect()
}

/// Whether two names are the same but for case and Unicode form.
pub(crate) fn same_name(one: &str, other: &str) -> bool {
    folded(one) == folded(other)
}

/// Whether the model's own voice answers to this name.
fn is_own(name: &str) -> bool {
    let name = folded(name);
    name == DEFAULT_VOICE || OPENAI_VOICES.contains(&name.as_str())
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
    pub(crate) fn new(
        directory: Option<PathBuf>,
        voices_max: usize,
        fixed_aliases: BTreeMap<String, String>,
    ) -> Voices {
        Voices {
            aliases: Aliases::new(fixed_aliases, directory.clone()),
            directory,
            voices_max,
        }
    }

    /// The folder of the voices.
    ///
    /// # Errors
    /// If the server keeps none.
    pub(crate) fn directory(&self) -> Result<&Path, ServerError> {
        self.directory
            .as_deref()
            .ok_or_else(|| ServerError::Parameter {
                parameter: "voice",
                reason: "this server keeps no voices; start it with --voices FOLDER".into(),
            })
    }

    /// The voices that are kept, by name.
    fn stored(&self) -> Vec<Stored> {
        let entries = self
            .directory
            .iter()
            .filter_map(|directory| std::fs::read_dir(directory).ok());
        let mut stored: Vec<Stored> = entries
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some(Stored {
                    name: name_of(entry.file_name().to_str()?)?,
                    path: entry.path(),
                    changed: entry.metadata().ok()?.modified().unwrap_or(UNIX_EPOCH),
                })
            })
            .collect();
        stored.sort_by(|one, other| one.name.cmp(&other.name));
        stored
    }

    /// The kept voice of that name: as it is written, or else in another case or Unicode form.
    fn find(&self, name: &str) -> Option<Stored> {
        let path = self.directory.as_ref()?.join(file_name(name));
        if let Ok(metadata) = std::fs::metadata(&path) {
            return Some(Stored {
                name: name.to_owned(),
                path,
                changed: metadata.modified().unwrap_or(UNIX_EPOCH),
            });
        }
        let mut stored = self.stored().into_iter();
        stored.find(|stored| same_name(&stored.name, name))
    }

    /// All voices: the model's own first, then the uploaded ones by name, then the aliases.
    pub(crate) fn list(&self) -> Result<Vec<VoiceEntry>, ServerError> {
        let own = VoiceEntry::new(DEFAULT_VOICE.into(), None);
        let stored = self.stored();
        let uploaded = stored
            .into_iter()
            .map(|stored| VoiceEntry::new(stored.name, Some(stored.changed)));
        let aliases = self.aliases.list()?.into_iter().map(|alias| VoiceEntry {
            alias_of: Some(alias.voice),
            ..VoiceEntry::new(alias.alias, None)
        });
        Ok(std::iter::once(own)
            .chain(uploaded)
            .chain(aliases)
            .collect())
    }

    /// The voice of that name, made ready. Blocks while its file is read.
    pub(crate) fn voice(&self, loaded: &Loaded, name: &str) -> Result<Voice, ServerError> {
        let name = composed(name);
        let unknown = || ServerError::Parameter {
            parameter: "voice",
            reason: format!(
                "there is no voice {name:?}; GET /v1/audio/voices lists those there are"
            ),
        };
        check_name(&name).map_err(|_| unknown())?;
        let meant = self.aliases.voice(&name)?;
        let meant = meant.as_deref().unwrap_or(&name);
        let stored = self.find(meant);
        let (key, changed) = match &stored {
            Some(stored) => (stored.name.as_str(), Some(stored.changed)),
            None if is_own(meant) => (DEFAULT_VOICE, None),
            None => return Err(unknown()),
        };
        if let Some((known, voice)) = loaded.voices.table().get(key)
            && *known == changed
        {
            return Ok(voice.clone());
        }
        let source = match &stored {
            Some(stored) => VoiceSource::Prepared(stored.path.clone()),
            None => VoiceSource::Default,
        };
        let voice = loaded.engine.voice(source)?;
        let mut ready = loaded.voices.table();
        if ready.len() >= READY_MAX {
            ready.clear();
        }
        ready.insert(key.to_owned(), (changed, voice.clone()));
        Ok(voice)
    }

    /// Prepares a voice from a recording's file and keeps it under `name`, in place of one that has the name. Blocks while it is
    /// prepared.
    pub(crate) fn add(
        &self,
        loaded: &Loaded,
        name: &str,
        clip: &Path,
    ) -> Result<VoiceEntry, ServerError> {
        let taken = |reason: String| ServerError::Parameter {
            parameter: "name",
            reason,
        };
        let name = self.free_name(name)?;
        let directory = self.directory()?;
        let before = self.find(&name);
        let uploaded = self.stored().len();
        if uploaded >= self.voices_max && before.is_none() {
            let reason = format!("{uploaded} voices are kept, as many as may; delete one first");
            return Err(taken(reason));
        }
        // A voice keeps the spelling of its name.
        let name = before.map_or(name, |before| before.name);
        let path = directory.join(file_name(&name));
        let voice = loaded.engine.voice(VoiceSource::Clip(clip.to_owned()));
        let voice = voice.map_err(|error| match error {
            // Where the recording was kept meanwhile is nobody's business.
            sottovoce::Error::Voice { reason, .. } => sottovoce::Error::Voice {
                name: name.clone(),
                reason,
            },
            error => error,
        })?;
        voice.save(&path)?;
        loaded.voices.table().remove(&name);
        Ok(VoiceEntry::new(name, Some(SystemTime::now())))
    }

    /// A name for an uploaded voice in the form in which it is kept.
    ///
    /// # Errors
    /// If it is none, or belongs to the model's own voice or an alias.
    pub(crate) fn free_name(&self, name: &str) -> Result<String, ServerError> {
        let name = composed(name);
        check_name(&name)?;
        let taken = |reason: String| {
            Err(ServerError::Parameter {
                parameter: "name",
                reason,
            })
        };
        if is_own(&name) {
            return taken(format!(
                "{name:?} is the model's own voice; choose another name, and an alias for it where a client insists"
            ));
        }
        if let Some(voice) = self.aliases.voice(&name)? {
            return taken(format!(
                "{name:?} stands for the voice {voice:?}; choose another name"
            ));
        }
        Ok(name)
    }

    /// Lets `alias` stand for a voice that is there.
    pub(crate) fn set_alias(&self, alias: &str, voice: &str) -> Result<Alias, ServerError> {
        let voice = composed(voice);
        check_name(&voice)?;
        let voice = match self.find(&voice) {
            Some(stored) => stored.name,
            None if same_name(&voice, DEFAULT_VOICE) => DEFAULT_VOICE.to_owned(),
            None => {
                return Err(ServerError::Parameter {
                    parameter: "voice",
                    reason: format!(
                        "there is no voice {voice:?}; GET /v1/audio/voices lists those there are"
                    ),
                });
            }
        };
        let alias = composed(alias);
        if self.find(&alias).is_some() {
            return Err(ServerError::Parameter {
                parameter: "alias",
                reason: format!("there is a voice {alias:?}; choose another name"),
            });
        }
        self.aliases.set(&alias, &voice)
    }

    /// Deletes an uploaded voice, also from those that the model has ready; its name.
    pub(crate) fn remove(
        &self,
        loaded: Option<&Loaded>,
        name: &str,
    ) -> Result<String, ServerError> {
        let name = composed(name);
        let missing = || ServerError::NotFound {
            what: format!("an uploaded voice {name:?}"),
        };
        check_name(&name).map_err(|_| missing())?;
        let Stored { name, path, .. } = self.find(&name).ok_or_else(missing)?;
        std::fs::remove_file(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => missing(),
            _ => sottovoce::Error::File { path, source }.into(),
        })?;
        if let Some(loaded) = loaded {
            loaded.voices.table().remove(&name);
        }
        Ok(name)
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
    fn a_voice_is_found_in_any_case_and_unicode_form() {
        let folder = tempfile::tempdir().unwrap();
        let voices = Voices::new(Some(folder.path().to_owned()), 10, BTreeMap::new());
        for name in ["Zoë", "MAX"] {
            std::fs::write(folder.path().join(file_name(name)), b"voice").unwrap();
        }
        for (asked, found) in [
            ("Zoë", Some("Zoë")),
            ("zoe\u{308}", Some("Zoë")),
            (" ZOË ", Some("Zoë")),
            ("max", Some("MAX")),
            ("ｍａｘ", Some("MAX")),
            ("zoe", None),
        ] {
            let stored = voices.find(asked).map(|stored| stored.name);
            assert_eq!(stored.as_deref(), found, "{asked:?}");
        }
        assert!(is_own("Alloy") && is_own("DEFAULT") && !is_own("max"));
    }

    #[test]
    fn an_alias_stands_for_a_voice_that_is_there_and_takes_no_name_away() {
        let folder = tempfile::tempdir().unwrap();
        let voices = Voices::new(Some(folder.path().to_owned()), 10, BTreeMap::new());
        std::fs::write(folder.path().join(file_name("Me")), b"voice").unwrap();
        assert!(voices.set_alias("alloy", "you").is_err(), "there is none");
        assert_eq!(voices.set_alias("alloy", "me").unwrap().voice, "Me");
        assert!(
            voices.set_alias("ME", "default").is_err(),
            "it is a voice's name"
        );
        assert!(voices.free_name("Alloy").is_err());
        let list = voices.list().unwrap();
        let ids: Vec<&str> = list.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["default", "Me", "alloy"]);
        assert_eq!(list[2].alias_of.as_deref(), Some("Me"));
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
        let voices = Voices::new(None, 10, BTreeMap::new());
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
        let list = Voices::new(None, 10, BTreeMap::new()).list().unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].id, DEFAULT_VOICE);
    }
}
