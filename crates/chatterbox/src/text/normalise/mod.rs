//! Written English into spoken English, for voices that were trained on words.
//!
//! A text is read from left to right. At each place the first rule that fits says what is spoken
//! and for how many characters that stands; where none fits, a word passes as it is. The rules
//! ([`rules`]) hold the grammar, a [`Language`] holds the words: signs, units, months, short forms.
//! Where a reading is a matter of taste the rules say what a listener expects: `13000 people` are
//! thirteen thousand, a bare `13000` is read digit by digit as codes are.

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

/// A part of a text that is read as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Where it stands, in bytes.
    pub written: Range<usize>,
    /// What is said for it.
    pub spoken: String,
    /// Whether a space stands before it; only there may a sentence be cut.
    pub after_space: bool,
}

/// The rules of one language.
#[derive(Clone, Copy)]
pub struct Normaliser {
    language: &'static Language,
    capitals: bool,
}

impl Normaliser {
    /// The rules of a language, by its code; none for languages without a table. With `capitals`,
    /// words in capitals that are not read letter by letter are written small.
    pub fn of(language: &str, capitals: bool) -> Option<Normaliser> {
        // A region, as in en-GB, does not change the rules.
        let language = match language.split(['-', '_']).next() {
            Some("en") => &ENGLISH,
            _ => return None,
        };
        Some(Normaliser { language, capitals })
    }

    /// What is said for a text.
    pub fn normalise(&self, text: &str) -> String {
        join(&self.spans(text))
    }

    /// A text's parts, in order; what is between them is white space.
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

/// The spoken text of spans that follow each other.
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

/// A word, or one other character.
fn plain_length(text: &str) -> usize {
    let is_word = |c: char| c.is_alphabetic() || is_mark(c);
    let Some(first) = text.chars().next() else {
        return 0;
    };
    if !first.is_alphabetic() {
        return first.len_utf8();
    }
    let end = text
        .find(|c| !is_word(c) && c != '\'' && c != '’')
        .unwrap_or(text.len());
    // An apostrophe at the end may be a quotation mark, and before digits a decade.
    text[..end].trim_end_matches(['\'', '’']).len()
}

/// Whether a character is written over or under a letter.
fn is_mark(character: char) -> bool {
    unicode_normalization::char::is_combining_mark(character)
}

/// Whether a word is read letter by letter where [`Normaliser::of`] was told to tell words in
/// capitals apart: at least two capitals, and a small `s` at most behind them.
pub(super) fn is_initialism(word: &str) -> bool {
    rules::is_capital(word)
}

/// Whether most letters of a text of several words are capitals.
fn is_shouting(text: &str) -> bool {
    let mut words = 0;
    let mut capital = 0;
    for word in text
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| word.chars().count() > 1)
    {
        words += 1;
        capital += usize::from(word.chars().all(char::is_uppercase));
    }
    words > 1 && capital * 3 > words * 2
}

/// Spans as they are found, with the spaces that speech needs and writing has not.
#[derive(Default)]
struct Spans {
    done: Vec<Span>,
    after_space: bool,
    /// The last character that is spoken.
    last: Option<char>,
    /// How the last span came: a reading, or a closing mark after one.
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
        // Marks right after a reading: the next word needs its space still.
        self.after_reading &= !starts && text.starts_with([')', ']', ',', ';', '?', '!', '.', ':']);
    }

    fn push(&mut self, written: Range<usize>, spoken: &str, apart: bool) {
        let space = if apart && !self.after_space { " " } else { "" };
        let glued = !self.after_space
            && spoken.starts_with(' ')
            && self.last.is_some_and(char::is_whitespace);
        let spoken = if glued { spoken.trim_start() } else { spoken };
        self.last = spoken.chars().next_back().or(self.last);
        self.done.push(Span {
            written,
            spoken: format!("{space}{spoken}"),
            after_space: std::mem::take(&mut self.after_space),
        });
    }
}

#[cfg(test)]
mod tests;
