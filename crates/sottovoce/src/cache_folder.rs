//! A folder of results that would otherwise be computed again at every start: converted weights,
//! voices prepared from recordings, and T3's keys and values of voices.
//!
//! An entry's name is a digest of everything that it was computed from, so an entry is never
//! stale: another model, recording, precision or layout has another name. Entries appear by rename
//! when they are complete, carry checksums, and may be removed at any time; a damaged one is
//! computed again. Failures never reach the caller, who then computes without the folder.
//!
//! Reading gigabytes of weights only to find their entry would cost as much as the entry saves.
//! The digest of a large file is therefore kept too, with the file's length, times and identity;
//! it holds until one of them changes.

mod digest;
mod prefixes;

use crate::error::Error;
use crate::voice::VoiceParts;
use digest::{Digest, file_digest, hexadecimal, of_parts};
pub(crate) use prefixes::PrefixCache;
use serde::Serialize;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::convert::convert_speaking;
use sottovoce_chatterbox::voice::{PreparedVoice, VOICE_LAYOUT_VERSION};
use sottovoce_chatterbox::weights::{Component, LAYOUT_VERSION, WeightSource};
use sottovoce_formats::output::write_whole;
use sottovoce_tensor::Precision;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Version of what is computed. Any change of the conversion or of voice preparation that changes
/// results, but not their layout, must increase it.
const COMPUTATION_VERSION: u32 = 1;
/// Bytes that stay free on the file system.
const ROOM_LEFT_BYTES: u64 = 1 << 30;
/// Longest recording file whose voice is kept; longer ones take too long to read.
const CLIP_BYTES_MAX: u64 = 64 << 20;
/// Most weight files; the ones not used for longest go first.
const WEIGHTS_MAX: usize = 8;
/// Most voices.
const VOICES_MAX: usize = 500;
/// Most keys and values of voices, which take tens of megabytes each.
const PREFIXES_MAX: usize = 16;
/// Most digests of large files.
const DIGESTS_MAX: usize = 100;
/// Upper bound of a voice's or a digest's file, for which there must be room.
const SMALL_FILE_BYTES: u64 = 1 << 20;

const ENTRY: &str = "safetensors";
const LOCK: &str = "lock";
/// Marks the folder for backup programs (<https://bford.info/cachedir/>).
const TAG_FILE: &str = "CACHEDIR.TAG";
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # Converted weights and prepared voices; `sottovoce cache clear` removes them.\n";

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheKind {
    /// Converted weights of a model.
    Weights,
    /// A voice prepared from a recording.
    Voice,
    /// T3's keys and values of a voice's conditioning.
    Prefix,
    /// The digest of a large file.
    Digest,
}

impl CacheKind {
    /// Every kind.
    pub const ALL: [CacheKind; 4] = [
        CacheKind::Weights,
        CacheKind::Voice,
        CacheKind::Prefix,
        CacheKind::Digest,
    ];

    /// Subfolder of its entries.
    fn subfolder(self) -> &'static str {
        match self {
            CacheKind::Weights => "weights",
            CacheKind::Voice => "voices",
            CacheKind::Prefix => "prefixes",
            CacheKind::Digest => "digests",
        }
    }

    fn count_max(self) -> usize {
        match self {
            CacheKind::Weights => WEIGHTS_MAX,
            CacheKind::Voice => VOICES_MAX,
            CacheKind::Prefix => PREFIXES_MAX,
            CacheKind::Digest => DIGESTS_MAX,
        }
    }
}

/// A file in the cache folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    /// What it holds.
    pub kind: CacheKind,
    /// Its file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
}

/// A cache folder, which need not exist. Its entries are bounded: at most 8 weight files, 500
/// voices and 16 voices' keys and values, and never the file system's last GiB.
#[derive(Clone, Debug)]
pub struct CacheFolder {
    folder: PathBuf,
}

impl CacheFolder {
    /// The cache in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> CacheFolder {
        CacheFolder {
            folder: folder.into(),
        }
    }

    /// The cache of an engine's option; an empty path means none.
    pub(crate) fn of_option(folder: Option<&Path>) -> Option<CacheFolder> {
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty())?;
        Some(CacheFolder::new(folder))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All entries, by kind and last use. A missing folder has none.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn entries(&self) -> Result<Vec<CacheEntry>, Error> {
        let mut entries = Vec::new();
        for kind in CacheKind::ALL {
            entries.extend(self.entries_of(kind)?);
        }
        Ok(entries)
    }

    /// Removes all entries, and the temporary files of interrupted runs; returns the bytes.
    ///
    /// # Errors
    /// If a file cannot be removed; those before it are gone.
    pub fn clear(&self) -> Result<u64, Error> {
        let mut bytes = 0;
        for kind in CacheKind::ALL {
            for (path, metadata) in self.files_of(kind)? {
                match std::fs::remove_file(&path) {
                    Ok(()) => bytes += metadata.len(),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(Error::file(&path, error)),
                }
            }
        }
        Ok(bytes)
    }

    /// All files of a kind's subfolder; the cache has no other files.
    fn files_of(&self, kind: CacheKind) -> Result<Vec<(PathBuf, std::fs::Metadata)>, Error> {
        let folder = self.folder.join(kind.subfolder());
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file(&folder, error)),
        };
        let files = entries.filter_map(|entry| {
            let entry = entry.ok()?;
            let metadata = entry.metadata().ok()?;
            metadata.is_file().then(|| (entry.path(), metadata))
        });
        Ok(files.collect())
    }

    fn entries_of(&self, kind: CacheKind) -> Result<Vec<CacheEntry>, Error> {
        let extension = match kind {
            CacheKind::Digest => digest::EXTENSION,
            CacheKind::Prefix => prefixes::EXTENSION,
            CacheKind::Weights | CacheKind::Voice => ENTRY,
        };
        let files = self.files_of(kind)?.into_iter();
        let mut entries: Vec<CacheEntry> = files
            .filter(|(path, _)| {
                let name = path.file_name().and_then(|name| name.to_str());
                let ends = path.extension().is_some_and(|found| found == extension);
                ends && name.is_some_and(|name| !name.starts_with('.'))
            })
            .map(|(path, metadata)| CacheEntry {
                kind,
                path,
                bytes: metadata.len(),
                used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            })
            .collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
        Ok(entries)
    }

    /// The networks of `source` that speak, at `precision`, from the folder; converted now if they
    /// are not there yet. `bytes` is their size. `None` if there is nothing to convert, no room, or
    /// another process is converting the same.
    pub(crate) fn weights(
        &self,
        source: &WeightSource,
        precision: Precision,
        bytes: u64,
    ) -> Option<CachedWeights> {
        // At 32 bits loading converts nothing.
        if precision == Precision::F32 || source.is_packed() {
            return None;
        }
        let files = self.model_digest(source, &Component::SPEAKING)?;
        let key = of_parts(&[
            b"weights in blocks, tables as far as used",
            &COMPUTATION_VERSION.to_le_bytes(),
            &LAYOUT_VERSION.to_le_bytes(),
            precision.to_string().as_bytes(),
            source.config().to_json().as_bytes(),
            &files,
        ]);
        let path = self.entry(CacheKind::Weights, &key, ENTRY);
        let of_file = |path: PathBuf| {
            let weights = source.converted(&path).ok()?;
            mark_used(&path);
            Some(CachedWeights { weights, path })
        };
        if let Some(found) = of_file(path.clone()) {
            return Some(found);
        }
        self.make_room(CacheKind::Weights, bytes)?;
        let lock = File::create(self.entry(CacheKind::Weights, &key, LOCK)).ok()?;
        match lock.try_lock() {
            Ok(()) => {}
            // Locks that the file system lacks only save work: entries appear by rename.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(_) => return None,
        }
        // Another process may have finished since the look above.
        if let Some(found) = of_file(path.clone()) {
            return Some(found);
        }
        convert_speaking(source, &path, precision).ok()?;
        // If files were replaced meanwhile, the weights do not match the entry's name.
        if self.model_digest(source, &Component::SPEAKING)? != files {
            let _ = std::fs::remove_file(&path);
            return None;
        }
        self.prune(CacheKind::Weights);
        of_file(path)
    }

    /// The place of a voice that `source`'s networks prepare from a recording; `None` if it cannot
    /// be kept.
    pub(crate) fn voice(&self, source: &WeightSource, clip: &Path) -> Option<VoicePlaceholder> {
        if std::fs::metadata(clip).ok()?.len() > CLIP_BYTES_MAX {
            return None;
        }
        let networks = self.model_digest(source, &Component::VOICE)?;
        let clip = file_digest(clip).ok()?;
        let key = of_parts(&[
            b"voice",
            &COMPUTATION_VERSION.to_le_bytes(),
            &VOICE_LAYOUT_VERSION.to_le_bytes(),
            source.config().to_json().as_bytes(),
            &networks,
            &clip,
        ]);
        Some(VoicePlaceholder {
            cache: self.clone(),
            path: self.entry(CacheKind::Voice, &key, ENTRY),
        })
    }

    /// The digest of the files with these networks; `None` if they lie in no file.
    fn model_digest(&self, source: &WeightSource, components: &[Component]) -> Option<Digest> {
        let paths = source.paths_of(components);
        if paths.is_empty() {
            return None;
        }
        let digests = paths.into_iter().map(|path| self.kept_digest(path));
        let digests: Vec<Digest> = digests.collect::<Option<_>>()?;
        let parts: Vec<&[u8]> = digests.iter().map(|digest| &digest[..]).collect();
        Some(of_parts(&parts))
    }

    /// A large file's digest, computed only if the file is new or changed.
    fn kept_digest(&self, path: &Path) -> Option<Digest> {
        let path = path.canonicalize().ok()?;
        let stamp = self.entry(
            CacheKind::Digest,
            &of_parts(&[path.as_os_str().as_encoded_bytes()]),
            digest::EXTENSION,
        );
        let before = digest::Identity::of(&path).ok()?;
        if let Some(known) = digest::read_stamp(&stamp, &before) {
            return Some(known);
        }
        let found = file_digest(&path).ok()?;
        if digest::Identity::of(&path).ok()? != before {
            return None;
        }
        if before.is_at_rest()
            && self
                .make_room(CacheKind::Digest, SMALL_FILE_BYTES)
                .is_some()
        {
            // A failure only means that the file is read again next time.
            let _ = write_whole(&stamp, digest::stamp(&before, &found).as_bytes());
            self.prune(CacheKind::Digest);
        }
        Some(found)
    }

    fn entry(&self, kind: CacheKind, key: &Digest, extension: &str) -> PathBuf {
        let folder = self.folder.join(kind.subfolder());
        folder.join(format!("{}.{extension}", hexadecimal(key)))
    }

    /// Creates the folder and checks that the file system has room for `bytes` more.
    fn make_room(&self, kind: CacheKind, bytes: u64) -> Option<()> {
        let folder = self.folder.join(kind.subfolder());
        create_private(&folder).ok()?;
        let tag = self.folder.join(TAG_FILE);
        if !tag.exists() {
            write_whole(&tag, TAG.as_bytes()).ok()?;
        }
        let free = fs4::available_space(&folder).ok()?;
        (free >= bytes.saturating_add(ROOM_LEFT_BYTES)).then_some(())
    }

    /// Removes the entries beyond a kind's bound.
    fn prune(&self, kind: CacheKind) {
        let entries = self.entries_of(kind).unwrap_or_default();
        for entry in entries.iter().skip(kind.count_max()) {
            // Another process may have removed it, or it is open on a system that forbids this.
            let _ = std::fs::remove_file(&entry.path);
            let _ = std::fs::remove_file(entry.path.with_extension(LOCK));
        }
    }
}

/// Converted weights of the cache.
pub(crate) struct CachedWeights {
    pub weights: WeightSource,
    path: PathBuf,
}

impl CachedWeights {
    /// Removes the entry, which turned out to be damaged.
    pub fn discard(self) {
        drop(self.weights);
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Where a voice is or will be kept.
pub(crate) struct VoicePlaceholder {
    cache: CacheFolder,
    path: PathBuf,
}

impl VoicePlaceholder {
    /// The kept voice, if it is there and whole.
    pub fn read(&self, config: &ModelConfig) -> Option<PreparedVoice> {
        let parts = VoiceParts::read(&self.path, config).ok()?;
        mark_used(&self.path);
        Some(parts.prepared)
    }

    /// Keeps a voice, if there is room.
    pub fn keep(&self, voice: &PreparedVoice, config: &ModelConfig) {
        let Ok(bytes) = voice.write(config) else {
            return;
        };
        let room = (self.cache).make_room(CacheKind::Voice, bytes.len() as u64);
        if room.is_some() && write_whole(&self.path, &bytes).is_ok() {
            self.cache.prune(CacheKind::Voice);
        }
    }
}

/// Creates a folder that only its owner can read: voices are personal.
fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(folder)
}

/// Sets the time of an entry's last use, which decides what is pruned.
fn mark_used(path: &Path) {
    if let Ok(file) = File::options().write(true).open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aged(cache: &CacheFolder, kind: CacheKind, count: usize) {
        let folder = cache.folder().join(kind.subfolder());
        create_private(&folder).unwrap();
        for age in 0..count {
            let file = File::create(folder.join(format!("{age}.{ENTRY}"))).unwrap();
            let used = SystemTime::now() - std::time::Duration::from_secs(age as u64);
            file.set_modified(used).unwrap();
        }
    }

    #[test]
    fn entries_beyond_the_bound_go_and_those_used_last_stay() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CacheFolder::new(folder.path());
        aged(&cache, CacheKind::Weights, WEIGHTS_MAX + 3);
        cache.prune(CacheKind::Weights);
        let entries = cache.entries().unwrap();
        assert_eq!(entries.len(), WEIGHTS_MAX);
        let newest = entries[0].path.file_stem().unwrap();
        assert_eq!(newest, "0");
        let oldest = entries.last().unwrap().path.file_stem().unwrap();
        assert_eq!(
            oldest.to_str(),
            Some((WEIGHTS_MAX - 1).to_string()).as_deref()
        );
    }

    #[test]
    fn clearing_removes_partial_files_and_locks_but_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CacheFolder::new(folder.path());
        assert_eq!(cache.clear().unwrap(), 0, "a missing folder is empty");
        aged(&cache, CacheKind::Voice, 2);
        let voices = folder.path().join("voices");
        std::fs::write(voices.join(".x.partial"), b"12345").unwrap();
        std::fs::write(voices.join("a.lock"), b"").unwrap();
        std::fs::write(folder.path().join("notes.txt"), b"mine").unwrap();
        assert_eq!(cache.entries().unwrap().len(), 2, "only entries are listed");
        assert_eq!(cache.clear().unwrap(), 5);
        assert_eq!(std::fs::read_dir(&voices).unwrap().count(), 0);
        assert!(folder.path().join("notes.txt").exists());
    }

    #[test]
    fn nothing_is_written_without_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CacheFolder::new(folder.path().join("cache"));
        assert!(cache.make_room(CacheKind::Weights, u64::MAX).is_none());
        assert!(cache.make_room(CacheKind::Weights, 1).is_some());
        assert!(cache.folder().join(TAG_FILE).exists());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_the_folder() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let cache = CacheFolder::new(folder.path().join("a/b"));
        cache.make_room(CacheKind::Voice, 1).unwrap();
        let mode = std::fs::metadata(cache.folder()).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o700);
    }
}
