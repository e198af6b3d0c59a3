//! Text that remembers where in its source each character came from.

use std::ops::Range;

/// A text made from another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Traced {
    text: String,
    /// For each byte of the text, the byte of the source that it came from.
    origins: Vec<u32>,
    /// Where in the source it ends.
    end: u32,
}

impl Traced {
    /// The beginning of a text that no source has.
    pub fn beginning(character: char) -> Traced {
        let text = String::from(character);
        Traced {
            origins: vec![0; text.len()],
            text,
            end: 0,
        }
    }

    /// Adds a character that came from the byte `origin` of the source.
    pub fn push(&mut self, character: char, origin: u32) {
        self.text.push(character);
        self.origins.resize(self.text.len(), origin);
        self.end = self.end.max(origin + character.len_utf8() as u32);
    }

    /// Says that the source of this text goes on up to `end`.
    pub fn extend_to(&mut self, end: u32) {
        self.end = self.end.max(end);
    }

    /// Takes white space away from the end.
    pub fn trim_end(&mut self) {
        let length = self.text.trim_end().len();
        self.text.truncate(length);
        self.origins.truncate(length);
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The byte of the source that a byte of the text came from; the source's end at the text's
    /// end.
    pub fn origin(&self, at: usize) -> usize {
        self.origins.get(at).copied().unwrap_or(self.end) as usize
    }

    /// The characters with their origins.
    pub fn characters(&self) -> impl Iterator<Item = (char, u32)> {
        (self.text.char_indices()).map(|(at, character)| (character, self.origins[at]))
    }

    /// What was written for a part of the text.
    pub fn written<'s>(&self, source: &'s str, part: Range<usize>) -> &'s str {
        let start = source.floor_char_boundary(self.origin(part.start));
        let end = source.ceil_char_boundary(self.origin(part.end));
        source[start..end.max(start)].trim()
    }
}
