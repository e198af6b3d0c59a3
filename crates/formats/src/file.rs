//! Opening of regular files; everything else is refused.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Opens a regular file for reading. Folders, pipes and devices are refused: opening a pipe waits
/// for a writer, a device may be endless, and neither has a meaningful length.
///
/// # Errors
/// The system's error, or that the path is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(io::Error::new(
            ErrorKind::IsADirectory,
            "this is a folder; a file is needed",
        ));
    }
    if !kind.is_file() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "this is a pipe or a device; write it into a file first",
        ));
    }
    File::open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let of = |path: &str| open(Path::new(path)).map_err(|error| error.kind());
        assert!(of(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).is_ok());
        assert_eq!(
            of(env!("CARGO_MANIFEST_DIR")).unwrap_err(),
            ErrorKind::IsADirectory
        );
        assert_eq!(of("no such file").unwrap_err(), ErrorKind::NotFound);
        #[cfg(unix)]
        for device in ["/dev/zero", "/dev/null"] {
            assert_eq!(of(device).unwrap_err(), ErrorKind::InvalidInput, "{device}");
        }
    }
}
