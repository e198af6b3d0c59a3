//! Digests of files, and stamps that keep them.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// Extension of a stamp's file.
pub const EXTENSION: &str = "json";
/// Bytes read at a time.
const BUFFER_BYTES: usize = 1 << 18;
/// Longest stamp.
const STAMP_BYTES_MAX: u64 = 4096;
/// A file that changed within this time may change again without another time of change: clocks
/// of file systems are coarse.
const REST: Duration = Duration::from_secs(2);

/// The identity of a file: while it is unchanged, so are the file's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u128,
    /// Device, inode and time of the last change of either, where the system has them.
    node: Option<[i64; 4]>,
}

impl Identity {
    /// The identity of the file at `path`.
    pub fn of(path: &Path) -> io::Result<Identity> {
        let metadata = std::fs::metadata(path)?;
        let since = metadata.modified()?.duration_since(UNIX_EPOCH);
        #[cfg(unix)]
        let node = {
            use std::os::unix::fs::MetadataExt;
            Some([
                metadata.dev() as i64,
                metadata.ino() as i64,
                metadata.ctime(),
                metadata.ctime_nsec(),
            ])
        };
        #[cfg(not(unix))]
        let node = None;
        Ok(Identity {
            bytes: metadata.len(),
            modified: since.unwrap_or_default().as_nanos(),
            node,
        })
    }

    /// Whether the file has not changed for a while.
    pub fn is_at_rest(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let rested = self.modified + REST.as_nanos();
        now.is_ok_and(|now| now.as_nanos() >= rested)
    }
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    identity: Identity,
    sha256: String,
    /// Digest of the two.
    check: String,
}

impl Stamp {
    fn new(identity: &Identity, digest: &Digest) -> Stamp {
        let sha256 = hexadecimal(digest);
        let parts = [format!("{identity:?}"), sha256.clone()];
        Stamp {
            identity: identity.clone(),
            check: hexadecimal(&of_parts(&parts.each_ref().map(|part| part.as_bytes()))),
            sha256,
        }
    }
}

/// The text of a stamp.
pub fn stamp(identity: &Identity, digest: &Digest) -> String {
    let stamp = Stamp::new(identity, digest);
    // Numbers and texts are always representable; an empty stamp counts as none.
    serde_json::to_string(&stamp).unwrap_or_default()
}

/// The digest in the stamp at `path`, if it was made of the file as it is now.
pub fn read_stamp(path: &Path, now: &Identity) -> Option<Digest> {
    let file = sottovoce_formats::file::open(path).ok()?;
    let text = io::read_to_string(file.take(STAMP_BYTES_MAX)).ok()?;
    let stamp: Stamp = serde_json::from_str(&text).ok()?;
    let digest = from_hexadecimal(&stamp.sha256)?;
    (stamp == Stamp::new(now, &digest)).then_some(digest)
}

/// The digest of a whole file.
pub fn file_digest(path: &Path) -> io::Result<Digest> {
    let mut file = sottovoce_formats::file::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(digest.finalize().into()),
            Ok(count) => digest.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The digest of parts, each preceded by its length.
pub fn of_parts(parts: &[&[u8]]) -> Digest {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// A digest as text.
pub fn hexadecimal(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hexadecimal(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() || !text.is_ascii() {
        return None;
    }
    for (place, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..][..2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_holds_until_its_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (file, kept) = (folder.path().join("file"), folder.path().join("stamp"));
        std::fs::write(&file, b"weights").unwrap();
        let before = Identity::of(&file).unwrap();
        let digest = file_digest(&file).unwrap();
        assert!(!before.is_at_rest(), "it was written a moment ago");
        std::fs::write(&kept, stamp(&before, &digest)).unwrap();
        assert_eq!(read_stamp(&kept, &before), Some(digest));
        std::fs::write(&file, b"WEIGHTS!").unwrap();
        assert_eq!(read_stamp(&kept, &Identity::of(&file).unwrap()), None);
        for damaged in ["", "{}", "{\"identity\":1}"] {
            std::fs::write(&kept, damaged).unwrap();
            assert_eq!(read_stamp(&kept, &before), None, "{damaged:?}");
        }
    }

    #[test]
    fn digests_are_those_of_the_standard_and_parts_do_not_run_together() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"abc").unwrap();
        let digest = file_digest(&file).unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hexadecimal(&digest), expected);
        assert_eq!(from_hexadecimal(expected), Some(digest));
        assert_eq!(from_hexadecimal("é"), None);
        assert_ne!(of_parts(&[b"ab", b"c"]), of_parts(&[b"a", b"bc"]));
    }
}
