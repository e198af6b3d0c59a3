//! Text from an argument, a file or standard input.

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};
use sottovoce::TextWriter;
use sottovoce::text::ends_sentence;
use std::error::Error;
use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// A little more than the longest text in four-byte characters.
const BYTES_MAX: u64 = 4 * sottovoce::TEXT_CHARACTERS_MAX as u64 + 1;

/// Name of standard input on the command line.
const STANDARD_INPUT: &str = "-";
/// Read size of standard input.
const PIECE_BYTES: usize = 4 << 10;
/// Characters that may wait to be spoken before no more is read.
const WAITING_MAX: usize = 4 * PIECE_BYTES;
/// Interval between checks whether text was spoken.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Pause after a sentence end mark, after which the text so far is spoken.
const PAUSE: Duration = Duration::from_millis(400);

/// Why reading a text failed.
pub type ReadFailure = Box<dyn Error + Send + Sync>;

/// A text to be spoken.
pub enum SpokenText {
    /// Of an argument or a file.
    Whole(String),
    /// Of standard input.
    Arriving(ArrivingText),
}

/// The text to be spoken: of the argument, or else of the file, or else of standard input, which
/// `-` names too.
///
/// # Errors
/// If there is none, a file is too long, or the encoding is unknown.
pub fn open(argument: Option<&str>, file: Option<&Path>) -> Result<SpokenText, Box<dyn Error>> {
    let names_input = argument == Some(STANDARD_INPUT) || file == Some(STANDARD_INPUT.as_ref());
    if names_input || (argument.is_none() && file.is_none()) {
        let input = std::io::stdin();
        if !names_input && input.is_terminal() {
            return Err(NOTHING.into());
        }
        return Ok(SpokenText::Arriving(ArrivingText::new(input, INPUT_NAME)));
    }
    // A pipe gives its text as it comes, whatever name leads to it.
    if let (None, Some(path)) = (argument, file)
        && std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
    {
        let name = path.display().to_string();
        let source = File::open(path).map_err(|error| format!("{name}: {error}"))?;
        return Ok(SpokenText::Arriving(ArrivingText::new(source, name)));
    }
    Ok(SpokenText::Whole(read(argument, file)?))
}

const INPUT_NAME: &str = "standard input";

const NOTHING: &str = "nothing to say: give a text, --file, or text on standard input";

/// Text that is read as it arrives, in UTF-8 or in UTF-16 with a byte order mark.
pub struct ArrivingText {
    source: Box<dyn Read + Send>,
    /// What to call the source in messages.
    name: String,
    decoder: Decoder,
    /// Characters so far, and how many of them were NUL.
    characters: usize,
    nuls: usize,
    ended: bool,
}

impl ArrivingText {
    fn new(source: impl Read + Send + 'static, name: impl Into<String>) -> ArrivingText {
        ArrivingText {
            source: Box::new(source),
            name: name.into(),
            decoder: UTF_8.new_decoder(),
            characters: 0,
            nuls: 0,
            ended: false,
        }
    }

    /// The next piece, as soon as some text is available; empty if only a part of a character came.
    /// `None` at the end.
    ///
    /// # Errors
    /// If standard input cannot be read, or its encoding is unknown.
    fn piece(&mut self) -> Result<Option<String>, ReadFailure> {
        if self.ended {
            return Ok(None);
        }
        let mut bytes = [0; PIECE_BYTES];
        let count = loop {
            match self.source.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.ended = count == 0;
        let mut text = String::new();
        let longest = (self.decoder).max_utf8_buffer_length_without_replacement(count);
        text.reserve(longest.unwrap_or(4 * PIECE_BYTES));
        let (result, _) = self.decoder.decode_to_string_without_replacement(
            &bytes[..count],
            &mut text,
            self.ended,
        );
        self.characters += text.chars().count();
        self.nuls += text.matches('\0').count();
        match result {
            _ if is_wide(self.characters, self.nuls) => {
                Err(unknown_encoding(&self.name, "UTF-16LE").into())
            }
            DecoderResult::InputEmpty => Ok(Some(text)),
            _ => Err(unknown_encoding(&self.name, CODE_PAGE).into()),
        }
    }

    /// All of the text.
    ///
    /// # Errors
    /// If it cannot be read, is too long, or its encoding is unknown.
    pub fn whole(mut self) -> Result<String, Box<dyn Error>> {
        let mut text = String::new();
        while let Some(piece) = self.piece().map_err(|error| error as Box<dyn Error>)? {
            text.push_str(&piece);
            if text.len() as u64 >= BYTES_MAX {
                return Err(too_long(BYTES_MAX).into());
            }
        }
        Ok(text)
    }

    /// The text up to and including its first piece with a letter or a sign.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn beginning(&mut self) -> Result<String, Box<dyn Error>> {
        let mut text = String::new();
        loop {
            match self.piece().map_err(|error| error as Box<dyn Error>)? {
                Some(piece) => text.push_str(&piece),
                None => return Err(NOTHING.into()),
            }
            if text.chars().any(|character| !character.is_whitespace()) {
                return Ok(text);
            }
            // White space before the text is skipped.
            text.clear();
        }
    }

    /// Passes the rest on as it arrives and is spoken, and finishes the text. A sentence is spoken
    /// after a pause too: the next letter would show whether it goes on, but may never come.
    ///
    /// # Errors
    /// As [`beginning`](Self::beginning). The text is finished nevertheless.
    pub fn pass_on(mut self, beginning: &str, writer: &TextWriter) -> Result<(), ReadFailure> {
        let mut ended = ends_sentence(beginning).unwrap_or(false);
        let (sender, pieces) = sync_channel(1);
        let thread = std::thread::Builder::new().name("standard input".into());
        let reading = thread.spawn(move || {
            loop {
                let piece = self.piece().transpose();
                let last = !matches!(piece, Some(Ok(_)));
                if piece.is_some_and(|piece| sender.send(piece).is_err()) || last {
                    return;
                }
            }
        });
        let pieces = reading.map(|_| pieces)?;
        let passed = loop {
            match pieces.recv_timeout(PAUSE) {
                Ok(Ok(piece)) => {
                    ended = ends_sentence(&piece).unwrap_or(ended);
                    while writer.waiting() > WAITING_MAX {
                        std::thread::sleep(LOOK_EVERY);
                    }
                    if let Err(error) = writer.push(&piece) {
                        break Err(error.into());
                    }
                }
                Ok(Err(error)) => break Err(error),
                Err(RecvTimeoutError::Timeout) if ended => {
                    ended = false;
                    writer.flush();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
            }
        };
        writer.finish();
        passed
    }
}

fn too_long(bytes_max: u64) -> String {
    format!(
        "the text is longer than {} characters; split it",
        bytes_max / 4
    )
}

fn unknown_encoding(name: &str, encoding: &str) -> String {
    let hint = format!("write it as UTF-8, for example with `iconv -f {encoding} -t UTF-8`");
    format!("{name}: the text is neither UTF-8 nor UTF-16 with a byte order mark: {hint}")
}

/// What a file is that holds a text among other things, by its first bytes.
fn document(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 6] = [
        (
            b"PK\x03\x04",
            "a zip archive, as office documents and e-books are",
        ),
        (b"%PDF-", "a PDF document"),
        (b"{\\rtf", "a rich text document"),
        (b"\xd0\xcf\x11\xe0", "an office document"),
        (b"\x1f\x8b", "gzip data"),
        (b"7z\xbc\xaf", "a 7z archive"),
    ];
    let kind = KINDS.iter().find(|(mark, _)| bytes.starts_with(mark))?;
    Some(kind.1)
}

/// The usual encoding of text that is no Unicode.
const CODE_PAGE: &str = "WINDOWS-1252";

/// Whether so many characters are NUL that they are halves of wider ones.
fn is_wide(characters: usize, nuls: usize) -> bool {
    characters >= 4 && nuls >= characters.div_ceil(4)
}

/// The encoding of text in UTF-16 without a byte order mark or in UTF-32, as far as its first bytes
/// tell: letters of the Latin alphabet have NULs beside them.
fn wide_encoding(bytes: &[u8]) -> Option<&'static str> {
    const BYTES: usize = 256;
    if bytes.starts_with(b"\xff\xfe\0\0") || bytes.starts_with(b"\0\0\xfe\xff") {
        return Some("UTF-32");
    }
    if Encoding::for_bom(bytes).is_some() {
        return None;
    }
    let first = &bytes[..bytes.len().min(BYTES)];
    let nuls = |start: usize| (first.iter().skip(start).step_by(2)).filter(|&&byte| byte == 0);
    let (even, odd) = (nuls(0).count(), nuls(1).count());
    is_wide(first.len(), even + odd).then(|| match (even, odd) {
        _ if 8 * (even + odd) >= 5 * first.len() && first[0] == 0 => "UTF-32BE",
        _ if 8 * (even + odd) >= 5 * first.len() => "UTF-32LE",
        (even, odd) if even > odd => "UTF-16BE",
        _ => "UTF-16LE",
    })
}

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
            return Err(NOTHING.into());
        }
        (None, None) => (
            read_limited(std::io::stdin(), bytes_max)?,
            "standard input".into(),
        ),
    };
    if bytes.len() as u64 == bytes_max {
        return Err(too_long(bytes_max).into());
    }
    if let Some(kind) = document(&bytes) {
        return Err(format!("{name}: this is {kind}, not a text: save it as plain text").into());
    }
    let wide = wide_encoding(&bytes);
    let text = decode(&bytes).filter(|_| wide.is_none());
    text.ok_or_else(|| unknown_encoding(&name, wide.unwrap_or(CODE_PAGE)).into())
}

fn read_limited(source: impl Read, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// UTF-8, with or without a byte order mark, or UTF-16 with one.
fn decode(bytes: &[u8]) -> Option<String> {
    let (encoding, mark_bytes) = Encoding::for_bom(bytes).unwrap_or((UTF_8, 0));
    let text = encoding
        .decode_without_bom_handling_and_without_replacement(&bytes[mark_bytes..])?
        .into_owned();
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one byte per read.
    struct Trickle(Vec<u8>);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = usize::from(!self.0.is_empty());
            buffer[..count].copy_from_slice(&self.0.drain(..count).collect::<Vec<_>>());
            Ok(count)
        }
    }

    #[test]
    fn text_that_arrives_in_bytes_is_the_same_text_in_every_encoding() {
        for text in ["Déjà vu 😀.", "plain"] {
            let wide: Vec<u8> = ("\u{feff}".to_owned() + text)
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect();
            for bytes in [text.as_bytes().to_vec(), wide] {
                let mut arriving = ArrivingText::new(Trickle(bytes), INPUT_NAME);
                let mut read = String::new();
                while let Some(piece) = arriving.piece().unwrap() {
                    read.push_str(&piece);
                }
                assert_eq!(read, text);
            }
        }
    }

    #[test]
    fn text_that_arrives_in_another_encoding_or_ends_within_a_character_is_refused() {
        for bytes in [&b"d\xe9j\xe0 vu"[..], b"half \xc3"] {
            let mut arriving = ArrivingText::new(Trickle(bytes.to_vec()), INPUT_NAME);
            let refused = loop {
                match arriving.piece() {
                    Ok(Some(_)) => {}
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            assert!(refused, "{bytes:?}");
        }
    }

    #[test]
    fn a_document_is_not_taken_for_its_text() {
        for (bytes, named) in [
            (&b"PK\x03\x04\x14\0"[..], Some("zip")),
            (b"%PDF-1.7\n%\xe2\xe3", Some("PDF")),
            (b"{\\rtf1\\ansi Hello}", Some("rich text")),
            (b"PKs are great. {rtf}", None),
            (b"", None),
        ] {
            let kind = document(bytes);
            assert_eq!(kind.is_some(), named.is_some(), "{bytes:?}");
            assert!(kind.is_none_or(|kind| kind.contains(named.unwrap())));
        }
    }

    #[test]
    fn wide_text_without_a_mark_is_refused_with_the_encoding_that_it_has() {
        let text = "Hello there, it is me.";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let marked = ("\u{feff}".to_owned() + text).chars().collect::<Vec<_>>();
        let widest: Vec<u8> = (marked.iter())
            .flat_map(|&character| u32::from(character).to_le_bytes())
            .collect();
        for (bytes, encoding) in [
            (&little, Some("UTF-16LE")),
            (&big, Some("UTF-16BE")),
            (&widest, Some("UTF-32")),
            (&widest[4..].to_vec(), Some("UTF-32LE")),
            (&text.as_bytes().to_vec(), None),
            (&b"a line\0 of an old terminal\0".to_vec(), None),
            (&b"\xff\xfe\x60\x4f\x7d\x59".to_vec(), None),
        ] {
            assert_eq!(wide_encoding(bytes), encoding, "{bytes:?}");
            let mut arriving = ArrivingText::new(Trickle(bytes.clone()), INPUT_NAME);
            let read = std::iter::from_fn(|| arriving.piece().transpose());
            let refused = read.take(BYTES_MAX as usize).any(|piece| piece.is_err());
            assert_eq!(refused, encoding.is_some(), "{bytes:?}");
        }
    }

    #[test]
    fn the_beginning_is_found_behind_white_space_and_missed_where_there_is_none() {
        let mut arriving = ArrivingText::new(Trickle(b" \n\t Hi".to_vec()), INPUT_NAME);
        assert_eq!(arriving.beginning().unwrap(), "H");
        for empty in [&b""[..], b" \n"] {
            let mut arriving = ArrivingText::new(Trickle(empty.to_vec()), INPUT_NAME);
            assert!(arriving.beginning().is_err());
        }
    }

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
