//! Files as they are found: what is no file is refused before it is opened.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Opens a file to read. A folder, a pipe or a device is refused: opening a pipe waits for who writes into it, a device may have no
/// end, and the length that either claims is none.
///
/// # Errors
/// What the system says of the path, or that it is no ordinary file.
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
    fn only_files_are_opened() {
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
