//! Numbers and strings in the encodings of pickles.

use super::document::{Node, Value};
use super::opcode as op;

/// Limit of an integer's length; no reader here has a use for longer ones.
pub(super) const INTEGER_BYTES_MAX: usize = 1 << 16;

/// Decodes UTF-8 with replacement characters for invalid sequences (Python allows lone surrogates).
pub(super) fn utf8(bytes: Vec<u8>) -> Box<str> {
    match String::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into(),
    }
}

/// A `str` of Python 2, which may be text or bytes.
pub(super) fn string_or_bytes(bytes: Vec<u8>) -> Node {
    match String::from_utf8(bytes) {
        Ok(text) => Node::Text(text.into()),
        Err(error) => Node::Bytes(error.into_bytes().into()),
    }
}

/// The name of a global for a message, cut to a readable length.
pub(super) fn shown(module: &str, name: &str) -> String {
    let full = format!("{module}.{name}");
    if full.chars().count() <= 120 {
        return full;
    }
    full.chars().take(120).chain("…".chars()).collect()
}

/// Little-endian two's complement, if it fits 64 bits.
pub(super) fn integer(bytes: &[u8]) -> Option<i64> {
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let fill = if negative { 0xff } else { 0 };
    let (low, high) = bytes.split_at(bytes.len().min(8));
    let mut wide = [fill; 8];
    wide[..low.len()].copy_from_slice(low);
    let value = i64::from_le_bytes(wide);
    (high.iter().all(|&byte| byte == fill) && (value < 0) == negative).then_some(value)
}

/// The argument of `INT`, `LONG` or `FLOAT`: a scalar, or a node for an integer beyond 64 bits.
pub(super) fn number(opcode: u8, line: &[u8]) -> Option<Result<Value, Node>> {
    let text = std::str::from_utf8(line).ok()?.trim();
    match opcode {
        op::FLOAT => text.parse().ok().map(|float| Ok(Value::Float(float))),
        op::INT if text == "00" => Some(Ok(Value::Boolean(false))),
        op::INT if text == "01" => Some(Ok(Value::Boolean(true))),
        _ => {
            let digits = text.strip_suffix('L').unwrap_or(text);
            match digits.parse::<i64>() {
                Ok(integer) => Some(Ok(Value::Integer(integer))),
                // Addresses need at most 64 bits; two digits more are accepted, longer numbers have
                // no use here.
                Err(_) => digits
                    .parse::<i128>()
                    .ok()
                    .map(|integer| Err(Node::BigInteger(integer.to_le_bytes().into()))),
            }
        }
    }
}

/// The argument of `STRING`: quoted, with Python's escapes.
pub(super) fn quoted(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.trim_ascii();
    let (&quote, rest) = line.split_first()?;
    let (&last, inner) = rest.split_last()?;
    if last != quote || !matches!(quote, b'\'' | b'"') {
        return None;
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other @ (b'\\' | b'\'' | b'"') => other,
            _ => return None,
        });
    }
    Some(bytes)
}

/// The argument of `UNICODE`: Latin-1 with `\u` and four, or `\U` and eight, hexadecimal digits.
pub(super) fn raw_unicode(line: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = match (byte, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                text.push(char::from(byte));
                rest = after;
                continue;
            }
        };
        let hex = std::str::from_utf8(after.get(1..=digits)?).ok()?;
        let code = u32::from_str_radix(hex, 16).ok()?;
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = &after[1 + digits..];
    }
    Some(text)
}
