//! The byte source of the pickle machine. It counts bytes and never trusts a claimed length.

use super::error::{PickleError, PickleErrorKind};
use std::io::{ErrorKind, Read};

const BUFFER_BYTES: usize = 64 << 10;
/// Claimed lengths are read in steps of this size, so that memory grows only with the bytes
/// received.
const STEP_BYTES: u64 = 64 << 10;
/// Limit of a text argument of protocol 0, which ends with a newline. Python writes none longer.
const LINE_BYTES_MAX: usize = 16 << 20;

pub(super) struct Input<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes consumed before the buffer's start.
    passed: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(source: R) -> Input<R> {
        Input {
            source,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            passed: 0,
        }
    }

    /// Bytes consumed.
    pub(super) fn offset(&self) -> u64 {
        self.passed + self.start as u64
    }

    pub(super) fn fail(&self, kind: PickleErrorKind) -> PickleError {
        PickleError {
            offset: self.offset(),
            kind,
        }
    }

    /// Whether the source is at its end. Truncated compressed data is an error here too.
    pub(super) fn at_end(&mut self) -> Result<bool, PickleError> {
        Ok(self.start == self.end && self.fetch()? == 0)
    }

    fn refill(&mut self) -> Result<(), PickleError> {
        match self.fetch()? {
            0 => Err(self.fail(PickleErrorKind::Truncated)),
            _ => Ok(()),
        }
    }

    /// Fills the exhausted buffer; 0 at the end.
    fn fetch(&mut self) -> Result<usize, PickleError> {
        self.passed += self.end as u64;
        self.start = 0;
        self.end = 0;
        loop {
            match self.source.read(&mut self.buffer) {
                Ok(count) => {
                    self.end = count;
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(self.fail(PickleErrorKind::Truncated));
                }
                Err(error) => return Err(self.fail(PickleErrorKind::Io(error))),
            }
        }
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, PickleError> {
        if self.start == self.end {
            self.refill()?;
        }
        let byte = self.buffer[self.start];
        self.start += 1;
        Ok(byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut array = [0; N];
        for byte in &mut array {
            *byte = self.byte()?;
        }
        Ok(array)
    }

    /// Reads `count` bytes; the result grows as they arrive.
    pub(super) fn bytes(&mut self, count: u64) -> Result<Vec<u8>, PickleError> {
        let mut bytes = Vec::with_capacity(count.min(STEP_BYTES) as usize);
        let mut missing = count;
        while missing > 0 {
            if self.start == self.end {
                self.refill()?;
            }
            let here = ((self.end - self.start) as u64).min(missing) as usize;
            bytes.extend_from_slice(&self.buffer[self.start..self.start + here]);
            self.start += here;
            missing -= here as u64;
        }
        Ok(bytes)
    }

    /// Skips `count` bytes.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), PickleError> {
        let mut missing = count;
        while missing > 0 {
            if self.start == self.end {
                self.refill()?;
            }
            let here = ((self.end - self.start) as u64).min(missing);
            self.start += here as usize;
            missing -= here;
        }
        Ok(())
    }

    /// Reads up to a newline, which is consumed and dropped.
    pub(super) fn line(&mut self) -> Result<Vec<u8>, PickleError> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(line),
                _ if line.len() == LINE_BYTES_MAX => {
                    return Err(self.fail(PickleErrorKind::Malformed("line: too long")));
                }
                byte => line.push(byte),
            }
        }
    }
}
