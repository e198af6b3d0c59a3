//! Downloads of whole models into the cache.

use crate::error::hub_error;
use crate::fetch::{Fetch, partial_name, safe_name};
use crate::{Error, HubSettings, OfficialModel};
use sottovoce_formats::output::write_whole;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub(crate) const REVISION: &str = "main";

/// Receives the progress of a file: its name, the bytes received and the total bytes.
/// [`ControlFlow::Break`] ends the download; received bytes stay.
pub type DownloadProgress<'a> = dyn FnMut(&str, u64, u64) -> ControlFlow<()> + 'a;

/// A file of a model on the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Name in the repository.
    pub name: &'static str,
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes of the file that are in the cache.
    pub here_bytes: u64,
}

impl OfficialModel {
    /// The model's folder in the cache, or T3's file in a folder of several models, if all its
    /// files are there.
    pub fn cached(&self, settings: &HubSettings) -> Option<PathBuf> {
        let folder = repository_folder(settings, self.repository);
        let commit = std::fs::read_to_string(folder.join("refs").join(REVISION)).ok()?;
        let commit = safe_name(commit.trim())?;
        let snapshot = folder.join("snapshots").join(commit);
        self.remote()
            .all(|(_, file)| snapshot.join(file).is_file())
            .then(|| self.opened(snapshot))
    }

    /// Asks the hub for the size of every file and the cache for the bytes it has of each.
    ///
    /// # Errors
    /// [`Error::Download`] names the file whose size the hub does not give.
    pub fn remote_files(&self, settings: &HubSettings) -> Result<Vec<RemoteFile>, Error> {
        if settings.offline {
            return Err(self.offline());
        }
        let length = |path: PathBuf| std::fs::metadata(path).map(|blob| blob.len()).ok();
        let files = self.remote().map(|(repository, name)| {
            let blobs = repository_folder(settings, repository).join("blobs");
            let facts = Fetch::new(settings, repository, name)?.facts()?;
            let here = length(blobs.join(&facts.tag))
                .or_else(|| length(blobs.join(partial_name(&facts.tag))));
            Ok(RemoteFile {
                name,
                bytes: facts.size,
                here_bytes: here.unwrap_or(0).min(facts.size),
            })
        });
        files.collect()
    }

    fn offline(&self) -> Error {
        hub_error(
            self.repository,
            "not in the cache, and offline mode (HF_HUB_OFFLINE) forbids fetching it",
        )
    }

    /// Downloads the missing files and returns what [`OfficialModel::cached`] does. `progress` may
    /// end the download.
    ///
    /// # Errors
    /// [`Error::Download`] names the file and the reason, [`Error::Cancelled`] the file at which
    /// `progress` ended the download. Files received so far stay, and the next call resumes.
    pub fn download(
        &self,
        settings: &HubSettings,
        progress: &mut DownloadProgress<'_>,
    ) -> Result<PathBuf, Error> {
        if let Some(folder) = self.cached(settings) {
            return Ok(folder);
        }
        if settings.offline {
            return Err(self.offline());
        }
        let folder = repository_folder(settings, self.repository);
        let mut commits: BTreeMap<&str, String> = BTreeMap::new();
        for (repository, file) in self.remote() {
            let fetch = Fetch::new(settings, repository, file)?;
            let blobs = repository_folder(settings, repository);
            let facts = fetch.run(&blobs, progress)?;
            // All files of a repository must come from one commit.
            let expected = (commits.entry(repository)).or_insert_with(|| facts.commit.clone());
            if *expected != facts.commit {
                return Err(hub_error(
                    file,
                    "the repository changed while its files were being fetched: start again",
                ));
            }
            // Shared files are linked beside the model's own, which come first.
            let commit = commits.get(self.repository).map_or("", String::as_str);
            let entry = folder.join("snapshots").join(commit).join(file);
            link(&blobs, &entry, &facts.tag)?;
        }
        let commit = commits.remove(self.repository).unwrap_or_default();
        write_file(&folder.join("refs").join(REVISION), commit.as_bytes())?;
        Ok(self.opened(folder.join("snapshots").join(commit)))
    }
}

fn repository_folder(settings: &HubSettings, repository: &str) -> PathBuf {
    settings
        .cache
        .join(format!("models--{}", repository.replace('/', "--")))
}

/// Links a file's entry in a snapshot to its blob in a repository's folder.
fn link(repository: &Path, entry: &Path, tag: &str) -> Result<(), Error> {
    if entry.is_file() {
        return Ok(());
    }
    create_parent(entry)?;
    #[cfg(unix)]
    let linked = {
        // Relative to the snapshot, so that the cache can be moved.
        let name = repository.file_name().unwrap_or_default();
        let blobs = match entry.starts_with(repository) {
            true => Path::new("../../blobs").to_owned(),
            false => Path::new("../../..").join(name).join("blobs"),
        };
        std::os::unix::fs::symlink(blobs.join(tag), entry)
    };
    #[cfg(not(unix))]
    let linked = { std::fs::hard_link(repository.join("blobs").join(tag), entry) };
    linked.map_err(|source| Error::file(entry, source))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    create_parent(path)?;
    write_whole(path, bytes).map_err(|source| Error::file(path, source))
}

pub(crate) fn create_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|source| Error::file(parent, source))
}
