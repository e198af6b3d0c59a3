//! Text from an argument, a file or standard input.

use encoding_rs::Encoding;
use std::error::Error;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;

/// A little more than the longest text in four-byte characters.
const BYTES_MAX: u64 = 4 * sottovoce::TEXT_CHARACTERS_MAX as u64 + 1;

/// Most bytes of a script: a long book.
const SCRIPT_BYTES_MAX: u64 = 64 << 20;

/// Text of a script's file, which may be longer than one stream's text.
///
/// # Errors
/// If it cannot be read, it is too long, or its encoding is unknown.
pub fn read_script(file: Option<&Path>) -> Result<String, Box<dyn Error>> {
    read_bytes(None, file, SCRIPT_BYTES_MAX)
}

/// Text of the argument, or else of the file, or else of standard input.
///
/// # Errors
/// If there is none, it is too long, or its encoding is unknown.
pub fn read(argument: Option<&str>, file: Option<&Path>) -> Result<String, Box<dyn Error>> {
    read_bytes(argument, file, BYTES_MAX)
}

fn read_bytes(
    argument: Option<&str>,
    file: Option<&Path>,
    bytes_max: u64,
) -> Result<String, Box<dyn Error>> {
    let (bytes, name) = match (argument, file) {
        (Some(text), _) => return Ok(text.to_owned()),
        (None, Some(path)) => {
            let name = path.display().to_string();
            let failed = |error| format!("{name}: {error}");
            let file = File::open(path).map_err(failed)?;
            (read_limited(file, bytes_max).map_err(failed)?, name)
        }
        (None, None) if std::io::stdin().is_terminal() => {
            return Err("nothing to say: give a text, --file, or text on standard input".into());
        }
        (None, None) => (
            read_limited(std::io::stdin(), bytes_max)?,
            "standard input".into(),
        ),
    };
    if bytes.len() as u64 == bytes_max {
        let most = bytes_max / 4;
        return Err(format!("the text is longer than {most} characters; split it").into());
    }
    decode(&bytes).ok_or_else(|| {
        let hint = "write it as UTF-8, for example with `iconv -f WINDOWS-1252 -t UTF-8`";
        format!("{name}: the text is neither UTF-8 nor UTF-16 with a byte order mark: {hint}")
            .into()
    })
}

fn read_limited(source: impl Read, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// UTF-8, with or without a byte order mark, or UTF-16 with one.
fn decode(bytes: &[u8]) -> Option<String> {
    let (encoding, mark_bytes) = Encoding::for_bom(bytes).unwrap_or((encoding_rs::UTF_8, 0));
    let text = encoding
        .decode_without_bom_handling_and_without_replacement(&bytes[mark_bytes..])?
        .into_owned();
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn text_with_a_byte_order_mark_is_read_in_its_encoding() {
        let wide = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            ("\u{feff}".to_owned() + text)
                .encode_utf16()
                .flat_map(bytes)
                .collect()
        };
        for text in ["Déjà vu.", "😀", ""] {
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(text));
            let marked = format!("\u{feff}{text}");
            assert_eq!(decode(marked.as_bytes()).as_deref(), Some(text));
            assert_eq!(decode(&wide(text, u16::to_le_bytes)).as_deref(), Some(text));
            assert_eq!(decode(&wide(text, u16::to_be_bytes)).as_deref(), Some(text));
        }
    }

    #[test]
    fn text_in_another_encoding_is_refused() {
        assert_eq!(decode(b"d\xe9j\xe0 vu"), None, "Windows-1252");
        assert_eq!(
            decode(b"\xff\xfe\x00\xd8"),
            None,
            "half of a surrogate pair"
        );
    }
}
