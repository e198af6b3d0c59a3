//! Voice aliases, through which clients with a fixed list of names reach the server's own voices.

use crate::error::ServerError;
use crate::voices::DEFAULT_VOICE;
use serde::Serialize;
use sottovoce::{check_voice_name, same_voice_name};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use utoipa::ToSchema;

/// File in the voices' folder with the aliases that calls have set.
const FILE: &str = "aliases.json";
/// Largest file; this server never writes a longer one.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most aliases.
const ALIASES_MAX: usize = 1000;

/// An alias of a voice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Alias {
    /// The alternative name.
    pub(crate) alias: String,
    /// The voice that it stands for.
    pub(crate) voice: String,
    /// Whether it was given at start-up, so that no call can change it.
    pub(crate) fixed: bool,
}

/// Aliases given at start-up, and those set by calls.
pub(crate) struct Aliases {
    fixed: BTreeMap<String, String>,
    folder: Option<PathBuf>,
    /// Whether calls may set and delete aliases.
    changeable: bool,
    /// Held while the file is rewritten.
    changing: Mutex<()>,
}

/// Refuses aliases that no request can name, or whose voice is impossible.
pub(crate) fn check(aliases: &BTreeMap<String, String>) -> Result<(), ServerError> {
    for (alias, voice) in aliases {
        for name in [alias, voice] {
            check_voice_name(name).map_err(|error| ServerError::Setting {
                option: "voice-alias",
                value: format!("{alias}={voice}"),
                reason: error.to_string(),
            })?;
        }
        if same_voice_name(alias, DEFAULT_VOICE) {
            return Err(ServerError::Setting {
                option: "voice-alias",
                value: format!("{alias}={voice}"),
                reason: "the model's own voice keeps its name".into(),
            });
        }
    }
    Ok(())
}

impl Aliases {
    pub(crate) fn new(
        fixed: BTreeMap<String, String>,
        folder: Option<PathBuf>,
        changeable: bool,
    ) -> Aliases {
        Aliases {
            fixed,
            folder,
            changeable,
            changing: Mutex::new(()),
        }
    }

    fn path(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(FILE))
    }

    /// The voice behind `name`, if it is an alias. Blocks while the file is read.
    pub(crate) fn voice(&self, name: &str) -> Result<Option<String>, ServerError> {
        let find = |table: &BTreeMap<String, String>| {
            let found = table.iter().find(|(alias, _)| same_voice_name(alias, name));
            found.map(|(_, voice)| voice.clone())
        };
        match find(&self.fixed) {
            Some(voice) => Ok(Some(voice)),
            None => Ok(find(&self.read()?)),
        }
    }

    /// All aliases, by name.
    pub(crate) fn list(&self) -> Result<Vec<Alias>, ServerError> {
        let entry = |fixed| {
            move |(alias, voice)| Alias {
                alias,
                voice,
                fixed,
            }
        };
        let mut set = self.read()?;
        set.retain(|alias, _| !self.fixed.keys().any(|fixed| same_voice_name(fixed, alias)));
        let fixed = self.fixed.clone().into_iter().map(entry(true));
        let mut list: Vec<Alias> = fixed.chain(set.into_iter().map(entry(false))).collect();
        list.sort_by(|one, other| one.alias.cmp(&other.alias));
        Ok(list)
    }

    /// Sets `alias` to `voice`.
    pub(crate) fn set(&self, alias: &str, voice: &str) -> Result<Alias, ServerError> {
        check_voice_name(alias)?;
        if same_voice_name(alias, DEFAULT_VOICE) {
            return Err(ServerError::Parameter {
                parameter: "alias",
                reason: "the model's own voice keeps its name".into(),
            });
        }
        self.change(alias, |table| {
            if table.len() >= ALIASES_MAX {
                return Err(ServerError::Parameter {
                    parameter: "alias",
                    reason: format!(
                        "{ALIASES_MAX} aliases are kept, as many as may; delete one first"
                    ),
                });
            }
            table.insert(alias.to_owned(), voice.to_owned());
            Ok(())
        })?;
        Ok(Alias {
            alias: alias.to_owned(),
            voice: voice.to_owned(),
            fixed: false,
        })
    }

    /// Deletes `alias`.
    pub(crate) fn remove(&self, alias: &str) -> Result<(), ServerError> {
        let missing = || ServerError::NotFound {
            what: format!("an alias {alias:?}"),
        };
        check_voice_name(alias).map_err(|_| missing())?;
        if self.voice(alias)?.is_none() {
            return Err(missing());
        }
        self.change(alias, |_| Ok(()))
    }

    /// Removes `alias` from the table, lets `change` insert its replacement, and writes the table.
    fn change(
        &self,
        alias: &str,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), ServerError>,
    ) -> Result<(), ServerError> {
        if self.fixed.keys().any(|fixed| same_voice_name(fixed, alias)) {
            return Err(ServerError::Parameter {
                parameter: "alias",
                reason: "it was given at the server's start and stays".into(),
            });
        }
        let (Some(path), Some(folder), true) = (self.path(), &self.folder, self.changeable) else {
            return Err(ServerError::Parameter {
                parameter: "alias",
                reason: "this server keeps no voices: it was started without a folder for them"
                    .into(),
            });
        };
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = self.read()?;
        table.retain(|known, _| !same_voice_name(known, alias));
        change(&mut table)?;
        write(folder, &path, &table).map_err(|source| failed(&path, source))
    }

    /// The aliases set by calls; empty if there are none.
    fn read(&self) -> Result<BTreeMap<String, String>, ServerError> {
        let Some(path) = self.path() else {
            return Ok(BTreeMap::new());
        };
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(failed(&path, error)),
        };
        let mut json = Vec::new();
        file.take(FILE_BYTES_MAX)
            .read_to_end(&mut json)
            .and_then(|_| serde_json::from_slice(&json).map_err(std::io::Error::other))
            .map_err(|error| failed(&path, error))
    }
}

/// Writes the table to a temporary file and renames it, so that no reader sees a partial table. The
/// folder is created if it is missing.
fn write(folder: &Path, path: &Path, table: &BTreeMap<String, String>) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(serde_json::to_string_pretty(table)?.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn failed(path: &Path, source: std::io::Error) -> ServerError {
    sottovoce::Error::File {
        path: path.to_owned(),
        source,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_that_was_set_stays_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let aliases = || Aliases::new(BTreeMap::new(), Some(folder.path().to_owned()), true);
        assert_eq!(aliases().voice("alloy").unwrap(), None);
        aliases().set("alloy", "me").unwrap();
        aliases().set("Nova", "you").unwrap();
        aliases().set("ALLOY", "her").unwrap();
        assert_eq!(aliases().voice("Alloy").unwrap().as_deref(), Some("her"));
        let names: Vec<String> = aliases()
            .list()
            .unwrap()
            .into_iter()
            .map(|a| a.alias)
            .collect();
        assert_eq!(
            names,
            ["ALLOY", "Nova"],
            "one entry a name, whatever its case"
        );
        aliases().remove("alloy").unwrap();
        assert!(matches!(
            aliases().remove("alloy"),
            Err(ServerError::NotFound { .. })
        ));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_alias_of_the_start_stays_and_needs_no_folder() {
        let fixed = BTreeMap::from([("alloy".to_owned(), "me".to_owned())]);
        let aliases = Aliases::new(fixed, None, true);
        assert_eq!(aliases.voice("ALLOY").unwrap().as_deref(), Some("me"));
        assert!(aliases.set("alloy", "you").is_err());
        assert!(aliases.remove("alloy").is_err());
        assert!(
            aliases.set("echo", "you").is_err(),
            "there is no folder to keep it"
        );
    }

    #[test]
    fn a_folder_that_is_missing_has_no_aliases_and_is_made_for_the_first_one() {
        let folder = tempfile::tempdir().unwrap();
        let voices = folder.path().join("kept/voices");
        let aliases = Aliases::new(BTreeMap::new(), Some(voices.clone()), true);
        assert_eq!(aliases.list().unwrap(), []);
        aliases.set("alloy", "me").unwrap();
        std::fs::remove_dir_all(&voices).unwrap();
        aliases.set("nova", "me").unwrap();
        assert_eq!(aliases.list().unwrap().len(), 1);
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let aliases = Aliases::new(BTreeMap::new(), Some(folder.path().to_owned()), true);
        for alias in ["", "..", "a/b", "default", "Default"] {
            assert!(aliases.set(alias, "me").is_err(), "{alias:?}");
            let table = BTreeMap::from([(alias.to_owned(), "me".to_owned())]);
            assert!(check(&table).is_err(), "{alias:?}");
        }
        let table = BTreeMap::from([("alloy".to_owned(), "../me".to_owned())]);
        assert!(check(&table).is_err());
    }

    #[test]
    fn a_file_that_is_none_is_told_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "[]").unwrap();
        let aliases = Aliases::new(BTreeMap::new(), Some(folder.path().to_owned()), true);
        let error = aliases.voice("alloy").unwrap_err().to_string();
        assert!(error.contains(FILE), "{error}");
    }
}
