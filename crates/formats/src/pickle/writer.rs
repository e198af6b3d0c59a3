//! Writes plain data as a pickle of protocol 4, incrementally.

use super::opcode as op;
use std::collections::HashMap;
use std::io::{self, Write};

/// Strings up to this length are written once and fetched from the memo afterwards.
const REMEMBERED_LENGTH_MAX: usize = 256;
/// Number of strings in the memo, which bounds the writer's memory.
const REMEMBERED_COUNT_MAX: usize = 1 << 16;
/// Size of the batches in which Python's reader takes items from the stack.
const BATCH_ITEMS: u32 = 1000;

/// Writes lists, dictionaries, strings and numbers; memory use does not grow with what is written.
///
/// ```
/// use sottovoce_formats::pickle::{self, PickleLimits, PickleWriter};
///
/// let mut file = Vec::new();
/// let mut writer = PickleWriter::new(&mut file)?;
/// writer.begin_dictionary()?;
/// writer.text("sizes")?;
/// writer.begin_list()?;
/// writer.integer(512)?;
/// writer.end()?;
/// writer.end()?;
/// writer.finish()?;
/// let document = pickle::read(&file[..], &PickleLimits::default())?;
/// let sizes = document.root().entry("sizes").and_then(|sizes| sizes.items());
/// assert_eq!(sizes.map(|items| items.len()), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PickleWriter<W: Write> {
    sink: W,
    open: Vec<Open>,
    remembered: HashMap<Box<str>, u32>,
}

/// An open container.
struct Open {
    dictionary: bool,
    /// Values since the last complete batch.
    pending: u32,
}

impl<W: Write> PickleWriter<W> {
    /// A writer to `sink`, which should be buffered.
    ///
    /// # Errors
    /// If the sink fails, as for all methods.
    pub fn new(mut sink: W) -> io::Result<PickleWriter<W>> {
        sink.write_all(&[op::PROTO, 4])?;
        Ok(PickleWriter {
            sink,
            open: Vec::new(),
            remembered: HashMap::new(),
        })
    }

    /// Begins a value, after closing a full batch of the container.
    fn value(&mut self) -> io::Result<()> {
        if let Some(open) = self.open.last_mut() {
            if open.pending == BATCH_ITEMS {
                let close = if open.dictionary {
                    op::SETITEMS
                } else {
                    op::APPENDS
                };
                self.sink.write_all(&[close, op::MARK])?;
                open.pending = 0;
            }
            open.pending += 1;
        }
        Ok(())
    }

    /// Opens a list. The following values are its items, until [`PickleWriter::end`].
    ///
    /// # Errors
    /// If the sink fails.
    pub fn begin_list(&mut self) -> io::Result<()> {
        self.value()?;
        self.open.push(Open {
            dictionary: false,
            pending: 0,
        });
        self.sink.write_all(&[op::EMPTY_LIST, op::MARK])
    }

    /// Opens a dictionary. The following values are its keys and values in turn, until
    /// [`PickleWriter::end`].
    ///
    /// # Errors
    /// If the sink fails.
    pub fn begin_dictionary(&mut self) -> io::Result<()> {
        self.value()?;
        self.open.push(Open {
            dictionary: true,
            pending: 0,
        });
        self.sink.write_all(&[op::EMPTY_DICT, op::MARK])
    }

    /// Closes the innermost list or dictionary.
    ///
    /// # Errors
    /// If none is open, if the last key of a dictionary has no value, or if the sink fails.
    pub fn end(&mut self) -> io::Result<()> {
        match self.open.pop() {
            Some(open) if open.dictionary && open.pending % 2 == 1 => {
                Err(io::Error::other("a dictionary key without a value"))
            }
            Some(open) if open.dictionary => self.sink.write_all(&[op::SETITEMS]),
            Some(_) => self.sink.write_all(&[op::APPENDS]),
            None => Err(io::Error::other("no list or dictionary is open")),
        }
    }

    /// Writes a string.
    ///
    /// # Errors
    /// If the sink fails.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.value()?;
        if let Some(&index) = self.remembered.get(text) {
            return match u8::try_from(index) {
                Ok(index) => self.sink.write_all(&[op::BINGET, index]),
                Err(_) => {
                    self.sink.write_all(&[op::LONG_BINGET])?;
                    self.sink.write_all(&index.to_le_bytes())
                }
            };
        }
        match u8::try_from(text.len()) {
            Ok(length) => self.sink.write_all(&[op::SHORT_BINUNICODE, length])?,
            Err(_) => match u32::try_from(text.len()) {
                Ok(length) => {
                    self.sink.write_all(&[op::BINUNICODE])?;
                    self.sink.write_all(&length.to_le_bytes())?;
                }
                Err(_) => {
                    self.sink.write_all(&[op::BINUNICODE8])?;
                    self.sink.write_all(&(text.len() as u64).to_le_bytes())?;
                }
            },
        }
        self.sink.write_all(text.as_bytes())?;
        let index = self.remembered.len();
        if text.len() <= REMEMBERED_LENGTH_MAX && index < REMEMBERED_COUNT_MAX {
            self.remembered.insert(text.into(), index as u32);
            self.sink.write_all(&[op::MEMOIZE])?;
        }
        Ok(())
    }

    /// Writes an integer from 0 to 2^64 − 1.
    ///
    /// # Errors
    /// If the sink fails.
    pub fn unsigned(&mut self, value: u64) -> io::Result<()> {
        match i64::try_from(value) {
            Ok(value) => self.integer(value),
            Err(_) => {
                self.value()?;
                self.sink.write_all(&[op::LONG1, 9])?;
                self.sink.write_all(&value.to_le_bytes())?;
                self.sink.write_all(&[0])
            }
        }
    }

    /// Writes an integer.
    ///
    /// # Errors
    /// If the sink fails.
    pub fn integer(&mut self, value: i64) -> io::Result<()> {
        self.value()?;
        if let Ok(value) = u8::try_from(value) {
            return self.sink.write_all(&[op::BININT1, value]);
        }
        if let Ok(value) = u16::try_from(value) {
            self.sink.write_all(&[op::BININT2])?;
            return self.sink.write_all(&value.to_le_bytes());
        }
        if let Ok(value) = i32::try_from(value) {
            self.sink.write_all(&[op::BININT])?;
            return self.sink.write_all(&value.to_le_bytes());
        }
        self.sink.write_all(&[op::LONG1, 8])?;
        self.sink.write_all(&value.to_le_bytes())
    }

    /// Writes a float.
    ///
    /// # Errors
    /// If the sink fails.
    pub fn float(&mut self, value: f64) -> io::Result<()> {
        self.value()?;
        self.sink.write_all(&[op::BINFLOAT])?;
        self.sink.write_all(&value.to_be_bytes())
    }

    /// Writes a boolean.
    ///
    /// # Errors
    /// If the sink fails.
    pub fn boolean(&mut self, value: bool) -> io::Result<()> {
        self.value()?;
        self.sink
            .write_all(&[if value { op::NEWTRUE } else { op::NEWFALSE }])
    }

    /// Writes `None`.
    ///
    /// # Errors
    /// If the sink fails.
    pub fn none(&mut self) -> io::Result<()> {
        self.value()?;
        self.sink.write_all(&[op::NONE])
    }

    /// Ends the pickle and returns the sink.
    ///
    /// # Errors
    /// If a list or dictionary is still open, or if the sink fails.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.open.is_empty() {
            return Err(io::Error::other("a list or dictionary is still open"));
        }
        self.sink.write_all(&[op::STOP])?;
        self.sink.flush()?;
        Ok(self.sink)
    }
}
