//! Voices kept under a name, one file each.

use crate::error::Error;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const EXTENSION: &str = "safetensors";
const NAME_BYTES_MAX: usize = 64;

/// A folder of prepared voices.
#[derive(Clone, Debug)]
pub struct VoiceStore {
    folder: PathBuf,
}

impl VoiceStore {
    /// The store in `folder`, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> VoiceStore {
        VoiceStore {
            folder: folder.into(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of the voice called `name`, whether it is there or not. A name that could lead out of the folder is refused.
    pub fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let allowed =
            |character: char| character.is_alphanumeric() || character == '-' || character == '_';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(allowed) {
            return Err(voice_error(
                name,
                "a name has letters, digits, - and _, at most 64 bytes of them",
            ));
        }
        Ok(self.folder.join(name).with_extension(EXTENSION))
    }

    /// The file of the voice called `name`.
    pub fn find(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path(name)?;
        if path.is_file() {
            return Ok(path);
        }
        let known = self.names()?;
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

    /// The names of all voices that [`find`](Self::find) finds, in order.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file(&self.folder, error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let name = path.file_stem()?.to_str()?;
                let findable = self.path(name).is_ok_and(|named| named == path);
                (findable && path.is_file()).then(|| name.to_owned())
            })
            .collect();
        names.sort();
        Ok(names)
    }

    /// Makes the folder and tells the file for a new voice.
    pub fn prepare(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path(name)?;
        std::fs::create_dir_all(&self.folder)
            .map_err(|source| Error::file(&self.folder, source))?;
        Ok(path)
    }

    /// Takes voices away, a name given twice only once; those that were taken away, in order.
    ///
    /// # Errors
    /// If one is not there: then none is taken away. If a file cannot be removed: those before it are gone.
    pub fn remove(&self, names: &[impl AsRef<str>]) -> Result<Vec<String>, Error> {
        let mut found = BTreeMap::new();
        for name in names {
            found.insert(name.as_ref().to_owned(), self.find(name.as_ref())?);
        }
        for path in found.values() {
            std::fs::remove_file(path).map_err(|source| Error::file(path, source))?;
        }
        Ok(found.into_keys().collect())
    }
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
        let store = VoiceStore::new("/voices");
        for name in [
            "",
            ".",
            "..",
            "../etc",
            "a/b",
            "a\\b",
            "a.b",
            "a\0b",
            &"x".repeat(65),
        ] {
            assert!(store.path(name).is_err(), "{name:?} must be refused");
        }
        assert_eq!(
            store.path("Joe_2").unwrap(),
            Path::new("/voices/Joe_2.safetensors")
        );
    }

    #[test]
    fn voices_are_listed_found_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = VoiceStore::new(folder.path().join("voices"));
        assert!(store.names().unwrap().is_empty());
        for name in ["b", "a"] {
            std::fs::write(store.prepare(name).unwrap(), b"voice").unwrap();
        }
        for other in ["notes.txt", "my voice.safetensors", "c.SAFETENSORS"] {
            std::fs::write(store.folder().join(other), b"").unwrap();
        }
        std::fs::create_dir(store.folder().join("d.safetensors")).unwrap();
        assert_eq!(
            store.names().unwrap(),
            ["a", "b"],
            "only what can be found is listed"
        );
        assert!(store.remove(&["a", "c"]).is_err());
        assert_eq!(store.names().unwrap(), ["a", "b"], "all or none");
        assert_eq!(store.remove(&["a", "a"]).unwrap(), ["a"]);
        let error = store.find("a").unwrap_err().to_string();
        assert!(
            error.contains('b'),
            "{error} must name the voices that are there"
        );
    }
}
