//! A recording in a file, valid after every piece.

use super::{AudioFormat, Encoder};
use crate::error::Error;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Writes a recording to a file and keeps its header true, so that the file can be played whenever writing stops.
pub struct FileSink {
    path: PathBuf,
    file: File,
    encoder: Encoder,
    buffer: Vec<u8>,
    /// Devices and pipes have no header to go back to.
    seekable: bool,
}

impl FileSink {
    /// Creates or replaces the file at `path`; its name says the format.
    pub fn create(path: &Path, sample_rate: u32) -> Result<FileSink, Error> {
        let format = AudioFormat::from_path(path)?;
        let encoder = Encoder::new(format, sample_rate)?;
        let file = File::create(path).map_err(|source| Error::file(path, source))?;
        let seekable = file.metadata().is_ok_and(|metadata| metadata.is_file());
        Ok(FileSink {
            path: path.to_owned(),
            file,
            encoder,
            buffer: Vec::new(),
            seekable,
        })
    }

    /// Adds samples.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), Error> {
        self.encoder.encode(samples, &mut self.buffer)?;
        self.flush()
    }

    /// Writes what the encoder still holds and the final header.
    pub fn finish(mut self) -> Result<(), Error> {
        self.encoder.finish(&mut self.buffer)?;
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Error> {
        let outcome = self.write_and_patch();
        outcome.map_err(|source| Error::file(&self.path, source))
    }

    fn write_and_patch(&mut self) -> std::io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        if !self.seekable {
            return Ok(());
        }
        for patch in self.encoder.patches() {
            self.file.seek(SeekFrom::Start(patch.offset))?;
            self.file.write_all(&patch.bytes)?;
        }
        self.file.seek(SeekFrom::End(0)).map(|_| ())
    }
}
