//! Text that keeps the source position of each character.

use super::characters::is_invisible;
use std::ops::Range;
use unicode_normalization::char::is_combining_mark;

/// A text derived from a source text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Traced {
    text: String,
    /// For each byte of the text, the source byte that it came from.
    origins: Vec<u32>,
    /// End offset in the source.
    end: u32,
}

impl Traced {
    /// A text of one character that has no source, at the beginning.
    pub fn beginning(character: char) -> Traced {
        let text = String::from(character);
        Traced {
            origins: vec![0; text.len()],
            text,
            end: 0,
        }
    }

    /// Appends a character that came from source byte `origin`.
    pub fn push(&mut self, character: char, origin: u32) {
        self.text.push(character);
        self.origins.resize(self.text.len(), origin);
        self.end = self.end.max(origin + character.len_utf8() as u32);
    }

    /// Extends the source range of this text to `end`.
    pub fn extend_to(&mut self, end: u32) {
        self.end = self.end.max(end);
    }

    /// Removes white space at the end.
    pub fn trim_end(&mut self) {
        let length = self.text.trim_end().len();
        self.text.truncate(length);
        self.origins.truncate(length);
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The source byte that a byte of the text came from; at the text's end, the source range's
    /// end.
    pub fn origin(&self, at: usize) -> usize {
        self.origins.get(at).copied().unwrap_or(self.end) as usize
    }

    /// The characters with their source bytes.
    pub fn characters(&self) -> impl Iterator<Item = (char, u32)> {
        (self.text.char_indices()).map(|(at, character)| (character, self.origins[at]))
    }

    /// The source bytes of a part of the text whose last character is spoken: up to that
    /// character's end, with the marks that combine with it.
    pub fn source_range(&self, source: &str, part: Range<usize>) -> Range<usize> {
        let start = source.floor_char_boundary(self.origin(part.start));
        let last = self.text[..part.end].char_indices().next_back();
        let last = last.map_or(part.start, |(at, _)| at);
        let from = source.floor_char_boundary(self.origin(last));
        let limit = source.ceil_char_boundary(self.origin(part.end));
        let mut characters = source[from..limit.max(from)].char_indices();
        let first = characters.next().map_or(0, |(_, first)| first.len_utf8());
        let joined = characters
            .take_while(|(_, next)| is_combining_mark(*next) || is_invisible(*next))
            .last();
        let length = joined.map_or(first, |(at, mark)| at + mark.len_utf8());
        start..(from + length).max(start)
    }

    /// The source text of a part of the text.
    pub fn written<'s>(&self, source: &'s str, part: Range<usize>) -> &'s str {
        let start = source.floor_char_boundary(self.origin(part.start));
        let end = source.ceil_char_boundary(self.origin(part.end));
        source[start..end.max(start)].trim()
    }
}
