//! The text format: one event per line.

use super::error::{TraceError, TraceErrorKind as Kind};
use super::event::{Event, TagId, Tags};
use std::collections::HashMap;
use std::io::{BufRead, ErrorKind};

const LINE_BYTES_MAX: usize = 64 << 10;

/// Parses lines, checks ids, and keeps the live ones.
pub(super) struct TextReader {
    source: Box<dyn BufRead + Send>,
    compressed: bool,
    line: Vec<u8>,
    line_number: u64,
    live: HashMap<u64, u64>,
    live_bytes: u64,
    /// The tag of the previous line, which often repeats.
    last_tag: TagId,
    pub(super) tags: Tags,
}

impl TextReader {
    pub(super) fn new(source: Box<dyn BufRead + Send>, compressed: bool) -> TextReader {
        let mut tags = Tags::default();
        TextReader {
            source,
            compressed,
            line: Vec::new(),
            line_number: 0,
            live: HashMap::new(),
            live_bytes: 0,
            last_tag: tags.intern(""),
            tags,
        }
    }

    fn fail<T>(&self, kind: Kind) -> Result<T, TraceError> {
        Err(TraceError::at_line(self.line_number, kind))
    }

    /// The next event, or `None` at the end.
    pub(super) fn next_event(&mut self) -> Result<Option<Event>, TraceError> {
        while self.read_line()? {
            let line = std::mem::take(&mut self.line);
            let event = self.event(&line);
            self.line = line;
            if let Some(event) = event? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Reads a line into `self.line`, without its line end; `false` at the end of the file.
    fn read_line(&mut self) -> Result<bool, TraceError> {
        self.line.clear();
        self.line_number += 1;
        loop {
            let buffer = match self.source.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::UnexpectedEof => return self.fail(Kind::TruncatedGzip),
                    ErrorKind::InvalidInput | ErrorKind::InvalidData if self.compressed => {
                        return self.fail(Kind::DamagedGzip(error));
                    }
                    _ => return self.fail(Kind::Io(error)),
                },
            };
            if buffer.is_empty() {
                return Ok(!self.line.is_empty());
            }
            let end = memchr::memchr(b'\n', buffer);
            let part = &buffer[..end.unwrap_or(buffer.len())];
            let length = part.len();
            if self.line.len() + length > LINE_BYTES_MAX {
                return self.fail(Kind::LineTooLong(LINE_BYTES_MAX));
            }
            self.line.extend_from_slice(part);
            self.source.consume(length + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    fn event(&mut self, line: &[u8]) -> Result<Option<Event>, TraceError> {
        let (kind, rest) = word(line);
        match kind {
            b"a" => {
                let (id, rest) = word(rest);
                let (bytes, rest) = word(rest);
                self.allocate(id, bytes, rest.trim_ascii()).map(Some)
            }
            b"f" => {
                let id = self.id(word(rest).0)?;
                match self.live.remove(&id) {
                    Some(bytes) => {
                        self.live_bytes -= bytes;
                        Ok(Some(Event::Free { id }))
                    }
                    None => self.fail(Kind::UnknownFree(id)),
                }
            }
            b"m" => {
                let text = String::from_utf8_lossy(rest.trim_ascii());
                Ok(Some(Event::Marker(text.into())))
            }
            [] | [b'#', ..] => Ok(None),
            _ => self.fail(Kind::UnknownLine(shown(line))),
        }
    }

    fn allocate(&mut self, id: &[u8], bytes: &[u8], rest: &[u8]) -> Result<Event, TraceError> {
        let id = self.id(id)?;
        let bytes = match number(bytes) {
            Some(bytes) if bytes <= i64::MAX as u64 => bytes,
            _ => return self.fail(Kind::BadSize(shown(bytes))),
        };
        let (tag, stream) = split_stream(rest);
        let stream = match stream.map(number) {
            None => 0,
            Some(Some(stream)) => stream,
            Some(None) => return self.fail(Kind::BadStream(shown(&rest[tag.len()..]))),
        };
        if self.live.insert(id, bytes).is_some() {
            return self.fail(Kind::DoubledId(id));
        }
        // Both are below 2^63: the sum cannot overflow.
        self.live_bytes += bytes;
        if self.live_bytes > i64::MAX as u64 {
            return self.fail(Kind::TooManyBytes);
        }
        if self.tags.name(self.last_tag).as_bytes() != tag {
            self.last_tag = self.tags.intern(&String::from_utf8_lossy(tag));
        }
        Ok(Event::Allocate {
            id,
            bytes,
            tag: self.last_tag,
            stream,
        })
    }

    fn id(&self, text: &[u8]) -> Result<u64, TraceError> {
        match number(text) {
            Some(id) => Ok(id),
            None => self.fail(Kind::BadId(shown(text))),
        }
    }
}

/// The first word, and the rest.
fn word(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii_start();
    let end = line
        .iter()
        .position(|byte| byte.is_ascii_whitespace())
        .unwrap_or(line.len());
    line.split_at(end)
}

/// Splits ` stream=N` off the end of a tag, and returns the text of N.
fn split_stream(rest: &[u8]) -> (&[u8], Option<&[u8]>) {
    let start = rest
        .iter()
        .rposition(|byte| byte.is_ascii_whitespace())
        .map_or(0, |space| space + 1);
    match rest[start..].strip_prefix(b"stream=") {
        Some(stream) => (rest[..start].trim_ascii_end(), Some(stream)),
        None => (rest, None),
    }
}

/// A number from 0 to 2^64 − 1 in decimal digits.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(digit.into())
    })
}

/// Text from the trace for a message, in readable form and limited length.
fn shown(text: &[u8]) -> String {
    let text = text.trim_ascii();
    let cut = &text[..text.len().min(60)];
    let mut shown = cut.escape_ascii().to_string();
    if cut.len() < text.len() {
        shown.push('…');
    }
    shown
}
