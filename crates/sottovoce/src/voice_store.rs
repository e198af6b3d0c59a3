//! Named voices, one file each, shared by the command line and the server.

use crate::error::Error;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

const EXTENSION: &str = "safetensors";
const NAME_CHARACTERS_MAX: usize = 64;
/// File systems limit a file name to 255 bytes, including its extension.
const NAME_BYTES_MAX: usize = 200;

/// A folder of prepared voices. A file is named after its voice. Names are compared regardless of
/// case and Unicode form.
#[derive(Clone, Debug)]
pub struct VoiceStore {
    folder: PathBuf,
}

/// A stored voice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVoice {
    /// Its name, as first written.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Time of the last preparation.
    pub changed: SystemTime,
}

/// Normalises a name for storage: trimmed, in composed Unicode form (NFC).
pub fn voice_name(name: &str) -> String {
    name.trim().nfc().collect()
}

/// Whether two names are equal regardless of case and Unicode form.
pub fn same_voice_name(one: &str, other: &str) -> bool {
    folded(one) == folded(other)
}

/// One spelling of a name for all cases and Unicode forms.
fn folded(name: &str) -> String {
    let compatible = name.trim().nfkc();
    compatible.flat_map(char::to_lowercase).nfc().collect()
}

/// Refuses names that could lead out of the folder, that are too long, or that have neither a
/// letter nor a digit.
///
/// # Errors
/// States the rule that the name breaks.
pub fn check_voice_name(name: &str) -> Result<(), Error> {
    let fits = name.chars().any(char::is_alphanumeric)
        && name.chars().count() <= NAME_CHARACTERS_MAX
        && name.len() <= NAME_BYTES_MAX;
    let sign = |c| is_combining_mark(c) || matches!(c, '-' | '_' | '.' | ' ');
    let plain = name.chars().all(|c| c.is_alphanumeric() || sign(c));
    // Hidden files are not voices, and some systems drop trailing dots and spaces.
    let ends = |c| matches!(c, '.' | ' ');
    if fits && plain && !name.starts_with(ends) && !name.ends_with(ends) {
        return Ok(());
    }
    Err(voice_error(
        name,
        "a voice's name has letters and digits, and -, _, . or spaces between them: 64 of them and 200 bytes at most",
    ))
}

impl VoiceStore {
    /// The store in `folder`, which need not exist.
    pub fn new(folder: impl Into<PathBuf>) -> VoiceStore {
        VoiceStore {
            folder: folder.into(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Path of the file for a voice called `name`, existing or not.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{EXTENSION}"))
    }

    /// The voice called `name`, if it is stored: by its exact spelling, or else regardless of case
    /// and Unicode form.
    ///
    /// # Errors
    /// If the name is invalid, or the folder cannot be read.
    pub fn look_up(&self, name: &str) -> Result<Option<StoredVoice>, Error> {
        let name = voice_name(name);
        check_voice_name(&name)?;
        let path = self.path(&name);
        if let Some(changed) = file_time(&path) {
            return Ok(Some(StoredVoice {
                name,
                path,
                changed,
            }));
        }
        let mut voices = self.voices()?.into_iter();
        Ok(voices.find(|voice| same_voice_name(&voice.name, &name)))
    }

    /// The voice called `name`.
    ///
    /// # Errors
    /// If there is none; lists the stored voices.
    pub fn find(&self, name: &str) -> Result<StoredVoice, Error> {
        if let Some(voice) = self.look_up(name)? {
            return Ok(voice);
        }
        let known: Vec<String> = self.voices()?.into_iter().map(|voice| voice.name).collect();
        let known = if known.is_empty() {
            "none is prepared".to_owned()
        } else {
            format!("there are {}", known.join(", "))
        };
        Err(voice_error(
            name,
            &format!("no such voice in {}; {known}", self.folder.display()),
        ))
    }

    /// All voices that [`find`](Self::find) can find, by name. A missing folder has none.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn voices(&self) -> Result<Vec<StoredVoice>, Error> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file(&self.folder, error)),
        };
        let mut voices: Vec<StoredVoice> = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let name = path.file_name()?.to_str()?;
                let name = name.strip_suffix(EXTENSION)?.strip_suffix('.')?.to_owned();
                check_voice_name(&name).ok()?;
                let changed = file_time(&path)?;
                Some(StoredVoice {
                    name,
                    path,
                    changed,
                })
            })
            .collect();
        voices.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(voices)
    }

    /// Creates the folder, if it is missing.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create_folder(&self) -> Result<(), Error> {
        std::fs::create_dir_all(&self.folder).map_err(|source| Error::file(&self.folder, source))
    }

    /// Creates the folder and returns name and path for a voice to be stored: those of the stored
    /// voice of that name, if there is one.
    ///
    /// # Errors
    /// If the name is invalid, or the folder cannot be created or read.
    pub fn prepare(&self, name: &str) -> Result<(String, PathBuf), Error> {
        let composed = voice_name(name);
        check_voice_name(&composed)?;
        self.create_folder()?;
        Ok(match self.look_up(&composed)? {
            Some(voice) => (voice.name, voice.path),
            None => {
                let path = self.path(&composed);
                (composed, path)
            }
        })
    }

    /// Renames a voice; its time is kept.
    ///
    /// # Errors
    /// If there is no such voice, the new name is invalid or taken, or the file cannot be renamed.
    pub fn rename(&self, from: &str, to: &str) -> Result<StoredVoice, Error> {
        let voice = self.find(from)?;
        let name = voice_name(to);
        check_voice_name(&name)?;
        if let Some(other) = self
            .look_up(&name)?
            .filter(|other| other.name != voice.name)
        {
            return Err(voice_error(
                &other.name,
                "there is a voice of that name already; choose another",
            ));
        }
        let path = self.path(&name);
        std::fs::rename(&voice.path, &path).map_err(|source| Error::file(&voice.path, source))?;
        Ok(StoredVoice {
            name,
            path,
            changed: voice.changed,
        })
    }

    /// Removes voices, ignoring duplicate names; returns the removed ones in order.
    ///
    /// # Errors
    /// If one does not exist, none is removed. If a file cannot be removed, those before it are
    /// gone.
    pub fn remove(&self, names: &[impl AsRef<str>]) -> Result<Vec<String>, Error> {
        let mut found = BTreeMap::new();
        for name in names {
            let voice = self.find(name.as_ref())?;
            found.insert(voice.name, voice.path);
        }
        for path in found.values() {
            std::fs::remove_file(path).map_err(|source| Error::file(path, source))?;
        }
        Ok(found.into_keys().collect())
    }
}

/// Time of a file's last change; `None` if there is no file.
fn file_time(path: &Path) -> Option<SystemTime> {
    let metadata = std::fs::metadata(path)
        .ok()
        .filter(|metadata| metadata.is_file())?;
    Some(metadata.modified().unwrap_or(UNIX_EPOCH))
}

fn voice_error(name: &str, reason: &str) -> Error {
    Error::Voice {
        name: name.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_out_of_the_folder_are_refused() {
        for name in [
            "",
            " ",
            ".",
            "..",
            ".hidden",
            "-",
            "../etc",
            "a/b",
            "a\\b",
            "a\0b",
            "a\nb",
            "a\u{202e}b",
            "a.",
            &"x".repeat(65),
            &"日".repeat(67),
        ] {
            assert!(check_voice_name(name).is_err(), "{name:?} must be refused");
        }
        for name in ["Joe_2", "José 2", "a.b-c", &"日".repeat(64), "हिन्दी"] {
            assert!(check_voice_name(name).is_ok(), "{name:?} must be taken");
        }
    }

    #[test]
    fn voices_are_listed_found_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = VoiceStore::new(folder.path().join("voices"));
        assert!(store.voices().unwrap().is_empty());
        for name in ["b", "a", "my voice", "a.b"] {
            std::fs::write(store.prepare(name).unwrap().1, b"voice").unwrap();
        }
        for other in [
            "notes.txt",
            ".x.safetensors",
            "c.SAFETENSORS",
            "a%.safetensors",
        ] {
            std::fs::write(store.folder().join(other), b"").unwrap();
        }
        std::fs::create_dir(store.folder().join("d.safetensors")).unwrap();
        let names = || -> Vec<String> {
            let voices = store.voices().unwrap().into_iter();
            voices.map(|voice| voice.name).collect()
        };
        assert_eq!(
            names(),
            ["a", "a.b", "b", "my voice"],
            "only what can be found is listed"
        );
        assert!(store.remove(&["a", "c"]).is_err());
        assert_eq!(names().len(), 4, "all or none");
        assert_eq!(store.remove(&["A", "a"]).unwrap(), ["a"]);
        let error = store.find("a").unwrap_err().to_string();
        assert!(
            error.contains("my voice"),
            "{error} must name the voices that are there"
        );
    }

    #[test]
    fn a_voice_gets_another_name_but_never_that_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let store = VoiceStore::new(folder.path());
        for name in ["one", "two"] {
            std::fs::write(store.prepare(name).unwrap().1, name).unwrap();
        }
        let refusal = store.rename("one", "TWO").unwrap_err().to_string();
        assert!(refusal.contains("two"), "{refusal}");
        for wrong in ["../one", "", "."] {
            assert!(store.rename("one", wrong).is_err(), "{wrong:?}");
        }
        assert!(store.rename("three", "four").is_err());
        assert_eq!(
            store.rename("one", "One").unwrap().name,
            "One",
            "only its case changes"
        );
        let renamed = store.rename("one", "three").unwrap();
        assert_eq!(std::fs::read(&renamed.path).unwrap(), b"one");
        assert!(store.look_up("one").unwrap().is_none());
        assert_eq!(store.voices().unwrap().len(), 2);
    }

    #[test]
    fn a_voice_is_found_in_any_case_and_unicode_form_and_keeps_its_spelling() {
        let folder = tempfile::tempdir().unwrap();
        let store = VoiceStore::new(folder.path());
        for name in ["Zoe\u{308}", "MAX"] {
            std::fs::write(store.prepare(name).unwrap().1, b"voice").unwrap();
        }
        for (asked, found) in [
            ("Zoë", Some("Zoë")),
            ("zoe\u{308}", Some("Zoë")),
            (" ZOË ", Some("Zoë")),
            ("max", Some("MAX")),
            ("ｍａｘ", Some("MAX")),
            ("zoe", None),
        ] {
            let voice = store.look_up(asked).unwrap().map(|voice| voice.name);
            assert_eq!(voice.as_deref(), found, "{asked:?}");
        }
        assert_eq!(
            store.prepare("mAx").unwrap().0,
            "MAX",
            "one voice, one file"
        );
    }
}
