//! The byte source of the pickle machine: counts, and never trusts a claimed length.

use super::error::{PickleError, PickleErrorKind};
use std::io::{ErrorKind, Read};

const BUFFER_BYTES: usize = 64 << 10;
/// A claimed length is believed in steps of this size, each only after the one before has arrived.
const STEP_BYTES: u64 = 64 << 10;
/// Longest text argument of protocol 0, which ends with a newline. Python writes no longer ones.
const LINE_BYTES_MAX: usize = 16 << 20;

pub(super) struct Input<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes that were taken before the buffer's start.
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

    /// Bytes taken so far.
    pub(super) fn offset(&self) -> u64 {
        self.passed + self.start as u64
    }

    pub(super) fn fail(&self, kind: PickleErrorKind) -> PickleError {
        PickleError {
            offset: self.offset(),
            kind,
        }
    }

    /// Whether nothing follows. Compressed data that ends early is an error here too.
    pub(super) fn at_end(&mut self) -> Result<bool, PickleError> {
        Ok(self.start == self.end && self.fetch()? == 0)
    }

    fn refill(&mut self) -> Result<(), PickleError> {
        match self.fetch()? {
            0 => Err(self.fail(PickleErrorKind::Truncated)),
            _ => Ok(()),
        }
    }

    /// Reads the next bytes into the buffer, which has been used up; 0 at the end.
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

    /// `count` bytes; the result grows only as they arrive.
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

    /// Passes over `count` bytes.
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

    /// Bytes up to a newline, which is taken and dropped.
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
