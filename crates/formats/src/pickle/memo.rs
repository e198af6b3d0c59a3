//! The memo: stored values, and how often each is fetched.

use super::document::Value;
use super::error::{PickleError, PickleErrorKind as Kind};
use super::input::Input;
use super::opcode::{self as op, Argument};
use rustc_hash::FxHashMap;
use std::collections::HashMap;
use std::io::Read;
use std::mem::size_of;
use std::sync::Arc;

/// Number of fetches of each memo entry of a pickle, from a pass over its opcodes that builds
/// nothing.
///
/// Python stores nearly every object in the memo and fetches few of them. With these counts, a
/// [`Parser`](super::Parser) releases an entry after its last fetch. They cost two bits per entry.
#[derive(Debug, Default)]
pub struct MemoUse {
    /// Two bits per entry: 0, 1, 2 fetches, or [`MANY`].
    fetches: Vec<u64>,
}

/// More than two fetches: the entry is kept to the end.
const MANY: u8 = 3;
const ENTRIES_IN_WORD: u64 = 32;
/// Limit of the number of entries (256 MiB of counts); larger pickles are read without counts.
const ENTRY_COUNT_MAX: u64 = 1 << 30;

impl MemoUse {
    /// Counts the fetches of the pickle at the start of `source`. `None` if the counts are unknown:
    /// for a malformed pickle, whose error is left to the parser, and for a pickle that does not
    /// number its entries consecutively, as Python does.
    pub fn scan(source: impl Read) -> Option<MemoUse> {
        let mut scan = Scan {
            input: Input::new(source),
            uses: MemoUse::default(),
            stored: 0,
        };
        while scan.step().ok()?? {}
        Some(scan.uses)
    }

    fn of(&self, index: u64) -> u8 {
        let word = self.fetches.get((index / ENTRIES_IN_WORD) as usize);
        word.map_or(0, |word| (word >> shift(index)) as u8 & MANY)
    }

    fn count(&mut self, index: u64) {
        let word = (index / ENTRIES_IN_WORD) as usize;
        if word >= self.fetches.len() {
            self.fetches.resize(word + 1, 0);
        }
        if self.of(index) < MANY {
            self.fetches[word] += 1 << shift(index);
        }
    }
}

fn shift(index: u64) -> u64 {
    index % ENTRIES_IN_WORD * 2
}

struct Scan<R> {
    input: Input<R>,
    uses: MemoUse,
    /// Entries stored so far.
    stored: u64,
}

impl<R: Read> Scan<R> {
    /// Skips one opcode. `Some(false)` after the last, `None` if the counts are unknown.
    fn step(&mut self) -> Result<Option<bool>, PickleError> {
        let opcode = self.input.byte()?;
        match opcode {
            op::STOP => return Ok(Some(false)),
            op::MEMOIZE => self.stored += 1,
            op::PUT | op::BINPUT | op::LONG_BINPUT => {
                if memo_index(&mut self.input, opcode)? != self.stored {
                    return Ok(None);
                }
                self.stored += 1;
            }
            op::GET | op::BINGET | op::LONG_BINGET => {
                let index = memo_index(&mut self.input, opcode)?;
                if index >= self.stored {
                    return Ok(None);
                }
                self.uses.count(index);
            }
            _ => {
                let bytes = match op::argument(opcode) {
                    None => return Ok(None),
                    Some(Argument::Bytes(count)) => count,
                    Some(Argument::Counted) => match length(&mut self.input, opcode)? {
                        Some(count) => count,
                        None => return Ok(None),
                    },
                    Some(Argument::Lines(count)) => {
                        for _ in 0..count {
                            self.input.line()?;
                        }
                        0
                    }
                };
                self.input.skip(bytes)?;
            }
        }
        Ok((self.stored < ENTRY_COUNT_MAX).then_some(true))
    }
}

/// Reads a length prefix; `None` if it is negative.
pub(super) fn length<R: Read>(
    input: &mut Input<R>,
    opcode: u8,
) -> Result<Option<u64>, PickleError> {
    Ok(Some(match opcode {
        op::SHORT_BINUNICODE | op::SHORT_BINSTRING | op::SHORT_BINBYTES | op::LONG1 => {
            input.byte()?.into()
        }
        op::BINUNICODE8 | op::BINBYTES8 | op::BYTEARRAY8 => u64::from_le_bytes(input.array()?),
        op::BINSTRING | op::LONG4 => {
            return Ok(u64::try_from(i32::from_le_bytes(input.array()?)).ok());
        }
        _ => u32::from_le_bytes(input.array()?).into(),
    }))
}

/// Reads the memo index of an opcode.
pub(super) fn memo_index<R: Read>(input: &mut Input<R>, opcode: u8) -> Result<u64, PickleError> {
    Ok(match opcode {
        op::BINPUT | op::BINGET => input.byte()?.into(),
        op::LONG_BINPUT | op::LONG_BINGET => u32::from_le_bytes(input.array()?).into(),
        _ => {
            let line = input.line()?;
            let text = std::str::from_utf8(&line).ok();
            text.and_then(|text| text.trim().parse().ok())
                .ok_or_else(|| input.fail(Kind::Malformed("memo index")))?
        }
    })
}

/// The stored values.
#[derive(Default)]
pub(super) struct Memo {
    /// Number of fetches of each entry, if known.
    uses: Option<Arc<MemoUse>>,
    /// Number of entries so far, which is the index of Python's next entry.
    count: u64,
    /// Consecutive entries, if the counts are unknown.
    dense: Vec<Value>,
    /// Other entries, which Python never writes.
    sparse: HashMap<u64, Value>,
    /// Entries that are still to be fetched, if the counts are known. Their numbers are
    /// consecutive, so a file cannot choose them to collide in a fast hash.
    awaited: FxHashMap<u64, Awaited>,
}

struct Awaited {
    value: Value,
    fetches: u8,
}

/// Approximate memory of an entry in bytes.
pub(super) const ENTRY_BYTES: usize = 2 * size_of::<Awaited>();

/// Result of storing a value.
pub(super) enum Stored {
    /// Dropped: it is never fetched.
    Passed,
    /// Stored in an empty entry.
    Kept,
    /// Stored in place of another value.
    Replaced(Value),
}

/// A value fetched.
pub(super) struct Fetched {
    pub(super) value: Value,
    /// Whether this was the last fetch, which removed the entry.
    pub(super) last: bool,
}

impl Memo {
    pub(super) fn new(uses: Option<Arc<MemoUse>>) -> Memo {
        Memo {
            uses,
            ..Memo::default()
        }
    }

    /// The next free index.
    pub(super) fn next(&self) -> u64 {
        self.count
    }

    pub(super) fn store(&mut self, index: u64, value: Value) -> Stored {
        if index == self.count {
            self.count += 1;
            if let Some(uses) = &self.uses {
                let fetches = uses.of(index);
                if fetches == 0 {
                    return Stored::Passed;
                }
                self.awaited.insert(index, Awaited { value, fetches });
                return Stored::Kept;
            }
            if index == self.dense.len() as u64 {
                self.dense.push(value);
                return Stored::Kept;
            }
        }
        let slot = usize::try_from(index)
            .ok()
            .and_then(|index| self.dense.get_mut(index));
        if let Some(slot) = slot {
            return Stored::Replaced(std::mem::replace(slot, value));
        }
        match self.sparse.insert(index, value) {
            Some(old) => Stored::Replaced(old),
            None => {
                self.count = (self.dense.len() + self.sparse.len()) as u64;
                Stored::Kept
            }
        }
    }

    pub(super) fn fetch(&mut self, index: u64) -> Option<Fetched> {
        if let Some(awaited) = self.awaited.get_mut(&index) {
            let value = awaited.value;
            let last = awaited.fetches == 1;
            if last {
                self.awaited.remove(&index);
            } else if awaited.fetches < MANY {
                awaited.fetches -= 1;
            }
            return Some(Fetched { value, last });
        }
        let dense = usize::try_from(index)
            .ok()
            .and_then(|index| self.dense.get(index));
        let value = *dense.or_else(|| self.sparse.get(&index))?;
        Some(Fetched { value, last: false })
    }
}
