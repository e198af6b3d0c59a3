//! Output files that are replaced atomically: a failed run leaves them unchanged.

use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// An output file in progress.
///
/// The new contents are written to a temporary file in the same folder, which
/// [`OutputFile::commit`] renames over an existing regular file. Symbolic links are followed and
/// stay links. Devices, pipes and paths in `/dev` and `/proc` are written in place.
pub struct OutputFile {
    target: Target,
}

enum Target {
    InPlace { file: File, seekable: bool },
    Temporary { file: NamedTempFile, path: PathBuf },
}

impl OutputFile {
    /// Starts an output that appears at `path` only once it is complete.
    ///
    /// # Errors
    /// If `path` cannot be written. Nothing was changed then.
    pub fn create(path: &Path) -> io::Result<OutputFile> {
        OutputFile::open(path, |folder| temporary(folder, None).map(Some))
    }

    /// As [`OutputFile::create`], but a new file is created at once and can be read while it grows.
    ///
    /// # Errors
    /// If `path` cannot be written. Nothing was changed then.
    pub fn create_growing(path: &Path) -> io::Result<OutputFile> {
        OutputFile::open(path, |_| Ok(None))
    }

    fn open(
        path: &Path,
        new_file: impl Fn(&Path) -> io::Result<Option<NamedTempFile>>,
    ) -> io::Result<OutputFile> {
        let in_place = |file: File| {
            let seekable = file.metadata().is_ok_and(|metadata| metadata.is_file());
            OutputFile {
                target: Target::InPlace { file, seekable },
            }
        };
        if path.starts_with("/dev") || path.starts_with("/proc") {
            return File::create(path).map(in_place);
        }
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => replace(path, &metadata),
            Ok(_) => File::create(path).map(in_place),
            // A dangling link: the system creates its target.
            Err(_) if path.is_symlink() => File::create(path).map(in_place),
            Err(_) => match new_file(folder_of(path))? {
                Some(file) => Ok(OutputFile {
                    target: Target::Temporary {
                        file,
                        path: path.to_owned(),
                    },
                }),
                None => File::create(path).map(in_place),
            },
        }
    }

    /// Whether earlier bytes can be rewritten, which devices and pipes do not support.
    pub fn is_seekable(&self) -> bool {
        match &self.target {
            Target::InPlace { seekable, .. } => *seekable,
            Target::Temporary { .. } => true,
        }
    }

    /// Whether the output appears, or replaces another file, only when it is committed.
    pub fn is_temporary(&self) -> bool {
        matches!(self.target, Target::Temporary { .. })
    }

    /// Moves the complete output to its path.
    ///
    /// # Errors
    /// If the rename fails; a file that was to be replaced is unchanged then.
    pub fn commit(self) -> io::Result<()> {
        match self.target {
            Target::InPlace { .. } => Ok(()),
            Target::Temporary { file, path } => match file.persist(path) {
                Ok(_) => Ok(()),
                Err(error) => Err(error.error),
            },
        }
    }

    fn file(&mut self) -> &mut File {
        match &mut self.target {
            Target::InPlace { file, .. } => file,
            Target::Temporary { file, .. } => file.as_file_mut(),
        }
    }
}

/// Bytes of a block of a [`BlockWriter`]: a huge page of most processors.
const BLOCK_BYTES: usize = 2 << 20;

/// Writes whole blocks of 2 MiB, at multiples of their size if the sink begins at one. File systems
/// then keep the file in the system's cache in huge pages, and as such it can be mapped.
pub struct BlockWriter<W: Write> {
    sink: W,
    block: Vec<u8>,
}

impl<W: Write> BlockWriter<W> {
    /// A writer to `sink`.
    pub fn new(sink: W) -> BlockWriter<W> {
        BlockWriter {
            sink,
            block: Vec::with_capacity(BLOCK_BYTES),
        }
    }

    /// Writes what is left and returns the sink.
    ///
    /// # Errors
    /// If the sink fails.
    pub fn into_inner(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.sink)
    }

    fn write_block(&mut self) -> io::Result<()> {
        self.sink.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }
}

impl<W: Write> Write for BlockWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == BLOCK_BYTES {
            self.write_block()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_block()?;
        self.sink.flush()
    }
}

impl<W: Write + Seek> Seek for BlockWriter<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.write_block()?;
        self.sink.seek(to)
    }
}

/// Writes `bytes` to `path` atomically.
///
/// # Errors
/// If the file cannot be written; an existing file is unchanged then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut output = OutputFile::create(path)?;
    output.write_all(bytes)?;
    output.commit()
}

fn replace(path: &Path, metadata: &Metadata) -> io::Result<OutputFile> {
    let path = path.canonicalize()?;
    // Checks the write permission before any work is done.
    let existing = File::options().write(true).open(&path)?;
    let target = match temporary(folder_of(&path), Some(metadata)) {
        Ok(file) => Target::Temporary { file, path },
        // A folder without permission for new files leaves only writing in place.
        Err(_) => {
            existing.set_len(0)?;
            Target::InPlace {
                file: existing,
                seekable: true,
            }
        }
    };
    Ok(OutputFile { target })
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A temporary file with the permissions of the file that it will replace, or of a new file.
fn temporary(folder: &Path, replaced: Option<&Metadata>) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".partial");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The process's umask applies, as to any new file.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let file = builder.tempfile_in(folder)?;
    if let Some(replaced) = replaced {
        file.as_file().set_permissions(replaced.permissions())?;
    }
    Ok(file)
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

impl Seek for OutputFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file().seek(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn blocks_are_whole_and_nothing_is_lost() {
        /// Sizes of the writes that arrive.
        #[derive(Default)]
        struct Sink(std::io::Cursor<Vec<u8>>, Vec<usize>);
        impl Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1.push(bytes.len());
                self.0.write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        impl Seek for Sink {
            fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
                self.0.seek(to)
            }
        }
        let content: Vec<u8> = (0..2 * BLOCK_BYTES + 12_345).map(|at| at as u8).collect();
        let mut writer = BlockWriter::new(Sink::default());
        for part in content.chunks(700_001) {
            writer.write_all(part).unwrap();
        }
        writer.seek(SeekFrom::Start(5)).unwrap();
        writer.write_all(b"five").unwrap();
        let Sink(written, sizes) = writer.into_inner().unwrap();
        assert_eq!(sizes, [BLOCK_BYTES, BLOCK_BYTES, 12_345, 4]);
        let mut expected = content;
        expected[5..9].copy_from_slice(b"five");
        assert!(written.into_inner() == expected);
    }

    #[test]
    fn a_file_appears_only_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut output = OutputFile::create(&path).unwrap();
        output.write_all(b"new").unwrap();
        assert!(!path.exists());
        output.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn an_existing_file_stays_until_the_commit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(&path, b"old").unwrap();
        for open in [OutputFile::create, OutputFile::create_growing] {
            let mut output = open(&path).unwrap();
            output.write_all(b"new").unwrap();
            drop(output);
            assert_eq!(fs::read(&path).unwrap(), b"old");
        }
        let count = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(count, 1, "a dropped output must leave nothing behind");
        write_whole(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_growing_file_can_be_read_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut output = OutputFile::create_growing(&path).unwrap();
        output.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(OutputFile::create(&folder.path().join("none/out")).is_err());
        assert!(OutputFile::create(folder.path()).is_err(), "a folder");
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_links_and_permissions_stay() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&target, b"old").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("a", &link).unwrap();
        write_whole(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");
        let mode = fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        fs::remove_file(&target).unwrap();
        write_whole(&link, b"again").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"again");
        assert!(link.is_symlink());
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_in_place() {
        use std::os::unix::fs::FileTypeExt;
        write_whole(Path::new("/dev/null"), b"bytes").unwrap();
        let kind = fs::metadata("/dev/null").unwrap().file_type();
        assert!(kind.is_char_device());
    }
}
