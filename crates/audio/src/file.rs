//! A recording in a file that is valid after every piece.

use crate::{AudioFormat, Encoder, Error};
use sottovoce_formats::output::OutputFile;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Writes a recording to a file and keeps its header valid, so that the file can be played whenever
/// writing stops. An existing regular file is replaced only by [`AudioFile::finish`].
pub struct AudioFile {
    path: PathBuf,
    output: OutputFile,
    encoder: Encoder,
    buffer: Vec<u8>,
    empty: bool,
}

impl AudioFile {
    /// Starts a recording at `path`, whose extension selects the format.
    ///
    /// # Errors
    /// If the extension is not that of a format, the encoder refuses the rate, or the path cannot
    /// be written. Nothing was changed then.
    pub fn create(path: &Path, sample_rate: u32) -> Result<AudioFile, Error> {
        AudioFile::create_as(path, AudioFormat::from_path(path)?, sample_rate)
    }

    /// As [`AudioFile::create`], in a given format: for outputs without an extension, such as
    /// devices.
    ///
    /// # Errors
    /// As [`AudioFile::create`].
    pub fn create_as(
        path: &Path,
        format: AudioFormat,
        sample_rate: u32,
    ) -> Result<AudioFile, Error> {
        let encoder = Encoder::new(format, sample_rate)?;
        let output =
            OutputFile::create_growing(path).map_err(|source| Error::file(path, source))?;
        Ok(AudioFile {
            path: path.to_owned(),
            output,
            encoder,
            buffer: Vec::new(),
            empty: true,
        })
    }

    /// Adds samples.
    ///
    /// # Errors
    /// If the encoder refuses them or the output cannot be written.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), Error> {
        self.empty &= samples.is_empty();
        self.encoder.encode(samples, &mut self.buffer)?;
        self.flush()
    }

    /// Writes the encoder's remaining bytes and the final header, and moves the recording to its
    /// path.
    ///
    /// # Errors
    /// If the output cannot be written; a file that was to be replaced is unchanged then.
    pub fn finish(mut self) -> Result<(), Error> {
        self.encoder.finish(&mut self.buffer)?;
        self.flush()?;
        (self.output.commit()).map_err(|source| Error::file(&self.path, source))
    }

    /// Ends a recording after a failure: a file that was to be replaced stays, a new file keeps the
    /// samples so far, and an empty new file is removed.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn abandon(self) -> Result<(), Error> {
        if self.output.is_temporary() {
            return Ok(());
        }
        if self.empty && self.output.is_seekable() {
            let path = self.path.clone();
            drop(self);
            return std::fs::remove_file(&path).map_err(|source| Error::file(&path, source));
        }
        self.finish()
    }

    fn flush(&mut self) -> Result<(), Error> {
        let outcome = self.write_and_patch();
        outcome.map_err(|source| Error::file(&self.path, source))
    }

    fn write_and_patch(&mut self) -> std::io::Result<()> {
        self.output.write_all(&self.buffer)?;
        self.buffer.clear();
        if !self.output.is_seekable() {
            return Ok(());
        }
        for patch in self.encoder.patches() {
            self.output.seek(SeekFrom::Start(patch.offset))?;
            self.output.write_all(&patch.bytes)?;
        }
        self.output.seek(SeekFrom::End(0)).map(|_| ())
    }
}
