//! Text normalisation: written English to spoken English, for voices that were trained on words.
//!
//! A text is read from left to right. At each position the first matching rule returns the spoken
//! text and the length it covers; without a match, a word passes unchanged. The rules ([`rules`])
//! are the grammar, and a [`Language`] has the words: signs, units, months, abbreviations.
//! Ambiguous cases follow a listener's expectation: `13000 people` are thirteen thousand, a bare
//! `13000` is read digit by digit like a code.

mod english;
mod language;
mod number;
mod rules;
mod scan;

use english::ENGLISH;
use language::Language;
use rules::{Reading, Setting};
use scan::Cursor;
use std::ops::Range;

/// A part of a text that is read as one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Byte range in the text.
    pub written: Range<usize>,
    /// The spoken text.
    pub spoken: String,
    /// Whether a space precedes it; a sentence may be split only there.
    pub after_space: bool,
}

/// The rules of one language.
#[derive(Clone, Copy)]
pub struct Normaliser {
    language: &'static Language,
    capitals: bool,
}

impl Normaliser {
    /// The rules of a language code; `None` for languages without tables. With `capitals`, words in
    /// capitals that are not read letter by letter become lower case.
    pub fn of(language: &str, capitals: bool) -> Option<Normaliser> {
        // A region, as in en-GB, does not change the rules.
        let language = match language.split(['-', '_']).next() {
            Some("en") => &ENGLISH,
            _ => return None,
        };
        Some(Normaliser { language, capitals })
    }

    /// The spoken text.
    pub fn normalise(&self, text: &str) -> String {
        join(&self.spans(text))
    }

    /// The spans of a text in order, separated by white space.
    pub fn spans(&self, text: &str) -> Vec<Span> {
        let setting = Setting {
            language: self.language,
            capitals: self.capitals,
            shouting: self.capitals && is_shouting(text),
        };
        let mut spans = Spans::default();
        let mut at = 0;
        while let Some(character) = text[at..].chars().next() {
            if character.is_whitespace() {
                spans.space();
                at += character.len_utf8();
                continue;
            }
            let cursor = Cursor { text, at };
            if let Some(Reading { spoken, length }) = rules::read(&setting, &cursor) {
                spans.reading(at..at + length, &spoken);
                at += length;
                continue;
            }
            let length = plain_length(&text[at..]);
            spans.plain(at..at + length, &text[at..at + length]);
            at += length;
        }
        spans.done
    }
}

/// The spoken text of consecutive spans.
pub(super) fn join(spans: &[Span]) -> String {
    let mut text = String::new();
    for span in spans {
        if span.after_space && !text.is_empty() && !text.ends_with(' ') {
            text.push(' ');
        }
        text.push_str(&span.spoken);
    }
    text.truncate(text.trim_end().len());
    text
}

/// Length of a word, or of one other character.
fn plain_length(text: &str) -> usize {
    let is_word = |c: char| c.is_alphabetic() || is_mark(c);
    let Some(first) = text.chars().next() else {
        return 0;
    };
    if !first.is_alphabetic() {
        return first.len_utf8();
    }
    // `iπ`: a Greek letter behind Latin ones is a symbol of its own.
    let symbol = |c: char| first.is_ascii() && matches!(c, '\u{370}'..='\u{3ff}');
    let end = text
        .find(|c| (!is_word(c) && c != '\'' && c != '’') || symbol(c))
        .unwrap_or(text.len());
    // An apostrophe at the end may be a quotation mark, and before digits it starts a decade.
    text[..end].trim_end_matches(['\'', '’']).len()
}

/// Whether a character is a combining mark.
fn is_mark(character: char) -> bool {
    unicode_normalization::char::is_combining_mark(character)
}

/// Whether a word in capitals is read letter by letter (see [`Normaliser::of`]): at least two
/// capitals, and at most a lower-case `s` after them.
pub(super) fn is_initialism(word: &str) -> bool {
    rules::is_capital(word)
}

/// Whether most words of a text are in capitals, and not just its initialisms.
fn is_shouting(text: &str) -> bool {
    /// Letters of a word that is no initialism.
    const WORD_LETTERS_MIN: usize = 5;
    let mut words = 0;
    let mut capital = 0;
    let mut long = false;
    for word in text
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| word.chars().count() > 1)
    {
        let is_capital = word.chars().all(char::is_uppercase);
        words += 1;
        capital += usize::from(is_capital);
        long |= is_capital && word.chars().count() >= WORD_LETTERS_MIN;
    }
    words > 1 && capital * 3 > words * 2 && (long || capital == words)
}

/// Collects spans, and adds the spaces that speech needs but the text lacks.
#[derive(Default)]
struct Spans {
    done: Vec<Span>,
    after_space: bool,
    /// The last spoken character.
    last: Option<char>,
    /// Whether the last span was a reading, or a closing mark after one.
    after_reading: bool,
}

impl Spans {
    fn space(&mut self) {
        self.after_space = true;
        self.after_reading = false;
    }

    fn reading(&mut self, written: Range<usize>, spoken: &str) {
        let starts = spoken.starts_with(char::is_alphanumeric);
        let touches = self
            .last
            .is_some_and(|c| c.is_alphanumeric() || matches!(c, '?' | '!' | ',' | ';' | '.' | ':'));
        self.push(written, spoken, starts && touches);
        self.after_reading = true;
    }

    fn plain(&mut self, written: Range<usize>, text: &str) {
        let starts = text.starts_with(char::is_alphanumeric);
        let touches = self.after_reading
            && self
                .last
                .is_some_and(|c| !matches!(c, '\'' | '’' | '"' | '-' | '/' | '(' | ' '));
        self.push(written, text, starts && touches);
        // Marks directly after a reading: the next word still needs a space.
        self.after_reading &= !starts && text.starts_with([')', ']', ',', ';', '?', '!', '.', ':']);
    }

    fn push(&mut self, written: Range<usize>, spoken: &str, apart: bool) {
        let space = if apart && !self.after_space { " " } else { "" };
        let glued = !self.after_space
            && spoken.starts_with(' ')
            && self.last.is_some_and(char::is_whitespace);
        let spoken = if glued { spoken.trim_start() } else { spoken };
        // What is not spoken leaves its space to the next span.
        let left = self.last.filter(|_| !self.after_space).or(Some(' '));
        self.last = spoken.chars().next_back().or(left);
        self.done.push(Span {
            written,
            spoken: format!("{space}{spoken}"),
            after_space: std::mem::take(&mut self.after_space),
        });
    }
}

#[cfg(test)]
mod pasted_tests;
#[cfg(test)]
mod tests;
