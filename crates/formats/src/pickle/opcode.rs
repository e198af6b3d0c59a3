//! The opcodes of protocols 0 to 5, named as in Python's `pickletools`.

macro_rules! opcodes {
    ($($name:ident = $byte:expr,)*) => { $(pub(super) const $name: u8 = $byte;)* };
}

opcodes! {
    MARK = b'(',
    STOP = b'.',
    POP = b'0',
    POP_MARK = b'1',
    DUP = b'2',
    FLOAT = b'F',
    INT = b'I',
    BININT = b'J',
    BININT1 = b'K',
    LONG = b'L',
    BININT2 = b'M',
    NONE = b'N',
    PERSID = b'P',
    BINPERSID = b'Q',
    REDUCE = b'R',
    STRING = b'S',
    BINSTRING = b'T',
    SHORT_BINSTRING = b'U',
    UNICODE = b'V',
    BINUNICODE = b'X',
    APPEND = b'a',
    BUILD = b'b',
    GLOBAL = b'c',
    DICT = b'd',
    EMPTY_DICT = b'}',
    APPENDS = b'e',
    GET = b'g',
    BINGET = b'h',
    INST = b'i',
    LONG_BINGET = b'j',
    LIST = b'l',
    EMPTY_LIST = b']',
    OBJ = b'o',
    PUT = b'p',
    BINPUT = b'q',
    LONG_BINPUT = b'r',
    SETITEM = b's',
    TUPLE = b't',
    EMPTY_TUPLE = b')',
    SETITEMS = b'u',
    BINFLOAT = b'G',
    PROTO = 0x80,
    NEWOBJ = 0x81,
    EXT1 = 0x82,
    EXT2 = 0x83,
    EXT4 = 0x84,
    TUPLE1 = 0x85,
    TUPLE2 = 0x86,
    TUPLE3 = 0x87,
    NEWTRUE = 0x88,
    NEWFALSE = 0x89,
    LONG1 = 0x8a,
    LONG4 = 0x8b,
    BINBYTES = b'B',
    SHORT_BINBYTES = b'C',
    SHORT_BINUNICODE = 0x8c,
    BINUNICODE8 = 0x8d,
    BINBYTES8 = 0x8e,
    EMPTY_SET = 0x8f,
    ADDITEMS = 0x90,
    FROZENSET = 0x91,
    NEWOBJ_EX = 0x92,
    STACK_GLOBAL = 0x93,
    MEMOIZE = 0x94,
    FRAME = 0x95,
    BYTEARRAY8 = 0x96,
    NEXT_BUFFER = 0x97,
    READONLY_BUFFER = 0x98,
}

/// The argument of an opcode.
pub(super) enum Argument {
    /// A fixed number of bytes.
    Bytes(u64),
    /// A length prefix and as many bytes.
    Counted,
    /// Lines of text.
    Lines(u32),
}

/// The argument of an opcode; `None` for a byte that is not an opcode.
pub(super) fn argument(opcode: u8) -> Option<Argument> {
    Some(match opcode {
        MARK | STOP | POP | POP_MARK | DUP | NONE | BINPERSID | REDUCE | APPEND | BUILD | DICT
        | EMPTY_DICT | APPENDS | LIST | EMPTY_LIST | OBJ | SETITEM | TUPLE | EMPTY_TUPLE
        | SETITEMS | NEWOBJ | TUPLE1 | TUPLE2 | TUPLE3 | NEWTRUE | NEWFALSE | EMPTY_SET
        | ADDITEMS | FROZENSET | NEWOBJ_EX | STACK_GLOBAL | MEMOIZE | NEXT_BUFFER
        | READONLY_BUFFER => Argument::Bytes(0),
        BININT1 | PROTO | EXT1 | BINPUT | BINGET => Argument::Bytes(1),
        BININT2 | EXT2 => Argument::Bytes(2),
        BININT | EXT4 | LONG_BINPUT | LONG_BINGET => Argument::Bytes(4),
        BINFLOAT | FRAME => Argument::Bytes(8),
        BINSTRING | SHORT_BINSTRING | BINUNICODE | SHORT_BINUNICODE | BINUNICODE8 | BINBYTES
        | SHORT_BINBYTES | BINBYTES8 | BYTEARRAY8 | LONG1 | LONG4 => Argument::Counted,
        FLOAT | INT | LONG | STRING | UNICODE | PERSID | PUT | GET => Argument::Lines(1),
        GLOBAL | INST => Argument::Lines(2),
        _ => return None,
    })
}
