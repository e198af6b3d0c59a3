//! What can be wrong with a pickle.

use std::fmt;
use std::io;

/// A pickle that could not be read, with the byte at which that became clear.
#[derive(Debug, thiserror::Error)]
#[error("pickle: {kind} (byte {offset})")]
pub struct PickleError {
    /// Offset of the opcode at fault, in bytes from the start of the pickle.
    pub offset: u64,
    /// What is wrong.
    pub kind: PickleErrorKind,
}

/// The ways in which a pickle can be wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum PickleErrorKind {
    /// The file could not be read.
    Io(io::Error),
    /// The file ends within an opcode, or before the last one.
    Truncated,
    /// A byte that is no opcode of protocols 0 to 5.
    UnknownOpcode(u8),
    /// A protocol that this reader does not know.
    UnknownProtocol(u8),
    /// An opcode took more from the stack than there was.
    StackUnderflow,
    /// An opcode needs a mark and there is none.
    NoMark,
    /// An opcode met a value of the wrong kind, such as an append to a number.
    WrongKind(&'static str),
    /// A memo entry that was never stored.
    UnknownMemo(u64),
    /// A number, string or length that is not well formed.
    Malformed(&'static str),
    /// The pickle names code, which the caller has refused.
    GlobalRefused(String),
    /// The pickle refers to an object outside itself, which the caller has refused.
    PersistentIdRefused,
    /// More memory would be needed than the limit allows.
    MemoryLimit {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The listener found something wrong.
    Refused(String),
}

impl fmt::Display for PickleErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(formatter, "cannot read: {error}"),
            Self::Truncated => write!(formatter, "the file ends early"),
            Self::UnknownOpcode(byte) => write!(formatter, "0x{byte:02x} is no opcode"),
            Self::UnknownProtocol(version) => {
                write!(formatter, "protocol {version} is unknown, 5 is the newest")
            }
            Self::StackUnderflow => write!(formatter, "an opcode takes more than the stack holds"),
            Self::NoMark => write!(formatter, "an opcode needs a mark that is not there"),
            Self::WrongKind(expected) => write!(formatter, "an opcode needs {expected}"),
            Self::UnknownMemo(index) => write!(formatter, "memo entry {index} holds nothing"),
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
