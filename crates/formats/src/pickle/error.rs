//! Errors of pickles.

use std::fmt;
use std::io;

/// A pickle that could not be read, and where.
#[derive(Debug, thiserror::Error)]
#[error("pickle: {kind} (byte {offset})")]
pub struct PickleError {
    /// Offset of the opcode in question, in bytes from the start of the pickle.
    pub offset: u64,
    /// The problem.
    pub kind: PickleErrorKind,
}

/// The kinds of problems.
#[derive(Debug)]
#[non_exhaustive]
pub enum PickleErrorKind {
    /// The file could not be read.
    Io(io::Error),
    /// The file ends within an opcode, or before the last one.
    Truncated,
    /// A byte that is not an opcode of protocols 0 to 5.
    UnknownOpcode(u8),
    /// A newer protocol.
    UnknownProtocol(u8),
    /// An opcode pops more values than the stack holds.
    StackUnderflow,
    /// An opcode needs a mark, but there is none.
    NoMark,
    /// An opcode met a value of the wrong kind, such as an append to a number.
    WrongKind(&'static str),
    /// A memo entry that was never stored.
    UnknownMemo(u64),
    /// A malformed number, string or length.
    Malformed(&'static str),
    /// The pickle names a class or function, which the caller does not accept.
    GlobalRefused(String),
    /// The pickle refers to an object outside of itself, which the caller does not accept.
    PersistentIdRefused,
    /// The memory limit was exceeded.
    MemoryLimit {
        /// The limit in bytes.
        limit: u64,
    },
    /// The listener refused an item.
    Refused(String),
}

impl fmt::Display for PickleErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(formatter, "cannot read: {error}"),
            Self::Truncated => write!(formatter, "the file is truncated"),
            Self::UnknownOpcode(byte) => write!(formatter, "0x{byte:02x} is not an opcode"),
            Self::UnknownProtocol(version) => {
                write!(formatter, "protocol {version} is unknown, 5 is the newest")
            }
            Self::StackUnderflow => write!(formatter, "an opcode takes more than the stack holds"),
            Self::NoMark => write!(formatter, "an opcode needs a mark that is not there"),
            Self::WrongKind(expected) => write!(formatter, "an opcode needs {expected}"),
            Self::UnknownMemo(index) => write!(formatter, "memo entry {index} is empty"),
            Self::Malformed(what) => write!(formatter, "malformed {what}"),
            Self::GlobalRefused(name) => write!(
                formatter,
                "it names the code `{name}`; only plain data is read here"
            ),
            Self::PersistentIdRefused => write!(
                formatter,
                "it refers to an object outside itself; only plain data is read here"
            ),
            Self::MemoryLimit { limit } => {
                write!(
                    formatter,
                    "its values need more than the {limit} bytes allowed"
                )
            }
            Self::Refused(reason) => write!(formatter, "{reason}"),
        }
    }
}
