//! numpy's scalars, read as the numbers that they are. Python makes one by
//! `numpy.core.multiarray.scalar(numpy.dtype('i8'), b'…')`; nothing is called here.

use super::document::{Node, Value};
use half::f16;

/// What a call of numpy makes.
#[derive(Debug)]
pub(super) enum Made {
    /// A `dtype`, which gets its byte order afterwards.
    Type,
    /// Bytes that an old protocol writes as text.
    Bytes(Box<[u8]>),
    /// A number.
    Number(Value),
    /// A whole number beyond a signed one of 64 bits.
    Large(Box<[u8]>),
}

/// Whether numpy's numbers need this global.
pub(super) fn is_needed(module: &str, name: &str) -> bool {
    maker(module, name).is_some()
}

#[derive(Clone, Copy)]
enum Maker {
    Type,
    Scalar,
    Encode,
}

fn maker(module: &str, name: &str) -> Option<Maker> {
    match (module, name) {
        ("numpy", "dtype") => Some(Maker::Type),
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Some(Maker::Scalar),
        ("_codecs", "encode") => Some(Maker::Encode),
        _ => None,
    }
}

fn node(nodes: &[Node], value: Value) -> Option<&Node> {
    match value {
        Value::Node(id) => nodes.get(id.0 as usize),
        _ => None,
    }
}

fn text(nodes: &[Node], value: Value) -> Option<&str> {
    match node(nodes, value) {
        Some(Node::Text(text)) => Some(text),
        _ => None,
    }
}

fn items(nodes: &[Node], value: Value) -> Option<&[Value]> {
    match node(nodes, value) {
        Some(Node::Tuple(items)) => Some(items),
        _ => None,
    }
}

/// What the call makes; `None` if it is none of those that numbers need.
pub(super) fn made(nodes: &[Node], callable: Value, arguments: Value) -> Option<Made> {
    let Some(Node::Global { module, name }) = node(nodes, callable) else {
        return None;
    };
    let arguments = items(nodes, arguments)?;
    match (maker(module, name)?, arguments) {
        (Maker::Type, [name, ..]) => Kind::of(text(nodes, *name)?).map(|_| Made::Type),
        (Maker::Scalar, [kind, bytes]) => {
            let Some(Node::Bytes(bytes)) = node(nodes, *bytes) else {
                return None;
            };
            scalar(nodes, *kind, bytes)
        }
        (Maker::Encode, [content, encoding]) if text(nodes, *encoding) == Some("latin1") => {
            let bytes = (text(nodes, *content)?.chars()).map(|char| u8::try_from(char).ok());
            Some(Made::Bytes(bytes.collect::<Option<_>>()?))
        }
        _ => None,
    }
}

/// A `dtype` of numbers.
#[derive(Clone, Copy)]
enum Kind {
    Boolean,
    Signed(usize),
    Unsigned(usize),
    Float(usize),
}

impl Kind {
    fn of(name: &str) -> Option<Kind> {
        Some(match name {
            "b1" => Kind::Boolean,
            "i1" => Kind::Signed(1),
            "i2" => Kind::Signed(2),
            "i4" => Kind::Signed(4),
            "i8" => Kind::Signed(8),
            "u1" => Kind::Unsigned(1),
            "u2" => Kind::Unsigned(2),
            "u4" => Kind::Unsigned(4),
            "u8" => Kind::Unsigned(8),
            "f2" => Kind::Float(2),
            "f4" => Kind::Float(4),
            "f8" => Kind::Float(8),
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Kind::Boolean => 1,
            Kind::Signed(bytes) | Kind::Unsigned(bytes) | Kind::Float(bytes) => bytes,
        }
    }
}

fn scalar(nodes: &[Node], kind: Value, bytes: &[u8]) -> Option<Made> {
    let Some(Node::Call(call)) = node(nodes, kind) else {
        return None;
    };
    let name = *items(nodes, call.arguments)?.first()?;
    let kind = Kind::of(text(nodes, name)?)?;
    // The state is a version, the byte order, and what only arrays and records have.
    let order = call.state.and_then(|state| items(nodes, state)?.get(1));
    let is_big = order.is_some_and(|&order| text(nodes, order) == Some(">"));
    if bytes.len() != kind.bytes() {
        return None;
    }
    let mut little = bytes.to_vec();
    if is_big {
        little.reverse();
    }
    let is_negative = matches!(kind, Kind::Signed(_)) && little.last()? & 0x80 != 0;
    let mut wide = [if is_negative { 0xff } else { 0 }; 8];
    wide[..little.len()].copy_from_slice(&little);
    let unsigned = u64::from_le_bytes(wide);
    Some(Made::Number(match kind {
        Kind::Boolean => Value::Boolean(unsigned != 0),
        Kind::Signed(_) => Value::Integer(i64::from_le_bytes(wide)),
        Kind::Unsigned(_) => match i64::try_from(unsigned) {
            Ok(integer) => Value::Integer(integer),
            Err(_) => return Some(Made::Large(u128::from(unsigned).to_le_bytes().into())),
        },
        Kind::Float(2) => Value::Float(f16::from_bits(unsigned as u16).into()),
        Kind::Float(4) => Value::Float(f32::from_bits(unsigned as u32).into()),
        Kind::Float(_) => Value::Float(f64::from_bits(unsigned)),
    }))
}
