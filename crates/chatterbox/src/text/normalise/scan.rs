//! Scanning a text from left to right: a position, and the text around it.

/// How far a rule looks to either side: longer than anything that is read as one unit, and short
/// enough that the cost per character does not grow with the text.
const REACH_BYTES: usize = 512;

/// A position in a text that is being normalised.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    /// The whole text.
    pub text: &'a str,
    /// Byte offset of the position.
    pub at: usize,
}

impl<'a> Cursor<'a> {
    /// The text after the position, as far as any rule looks.
    pub fn rest(&self) -> &'a str {
        let end = self.text.floor_char_boundary(self.at + REACH_BYTES);
        &self.text[self.at..end]
    }

    /// The text before the position, as far as any rule looks.
    pub fn before(&self) -> &'a str {
        let start = self
            .text
            .ceil_char_boundary(self.at.saturating_sub(REACH_BYTES));
        &self.text[start..self.at]
    }

    pub fn previous(&self) -> Option<char> {
        self.before().chars().next_back()
    }

    /// Whether no letter or digit precedes the position.
    pub fn starts_word(&self) -> bool {
        self.previous().is_none_or(|c| !c.is_alphanumeric())
    }

    /// The previous word, skipping spaces; with marks inside it, without those around it.
    pub fn previous_word(&self) -> &'a str {
        last_word(self.before().trim_end())
    }

    /// Whether the position continues a chain such as `te-b-1` or `3/4/5`: a joining mark, and a
    /// letter or digit before it.
    pub fn continues_chain(&self) -> bool {
        let mut before = self.before().chars().rev();
        matches!(before.next(), Some('-' | '/' | '.' | ':' | '_'))
            && before.next().is_some_and(char::is_alphanumeric)
    }

    /// A scan from the position on.
    pub fn scan(&self) -> Scan<'a> {
        Scan {
            rest: self.rest(),
            used: 0,
        }
    }
}

/// The last word of a text, without the marks around it.
pub(super) fn last_word(text: &str) -> &str {
    let word = text
        .rsplit(|c: char| c.is_whitespace())
        .next()
        .unwrap_or("");
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

/// The first word of a text, skipping spaces, without the marks around it.
pub(super) fn first_word(text: &str) -> &str {
    let word = text.split_whitespace().next().unwrap_or("");
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

/// Whether a word begins with a capital letter.
pub(super) fn is_capitalised(word: &str) -> bool {
    word.chars().next().is_some_and(char::is_uppercase)
}

/// The text left to scan. A copy is a position to return to.
#[derive(Clone, Copy)]
pub(super) struct Scan<'a> {
    /// The remaining text.
    pub rest: &'a str,
    /// Number of bytes consumed.
    pub used: usize,
}

impl<'a> Scan<'a> {
    pub fn new(rest: &'a str) -> Scan<'a> {
        Scan { rest, used: 0 }
    }

    pub fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Consumes `bytes` bytes.
    pub fn skip(&mut self, bytes: usize) -> &'a str {
        let (read, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        self.used += bytes;
        read
    }

    pub fn take(&mut self, character: char) -> bool {
        let found = self.rest.starts_with(character);
        if found {
            self.skip(character.len_utf8());
        }
        found
    }

    pub fn take_any(&mut self, characters: &[char]) -> Option<char> {
        let character = self.peek().filter(|c| characters.contains(c))?;
        self.skip(character.len_utf8());
        Some(character)
    }

    /// Consumes `text`, ignoring case.
    pub fn take_ignoring_case(&mut self, text: &str) -> bool {
        let found = self
            .rest
            .get(..text.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(text));
        if found {
            self.skip(text.len());
        }
        found
    }

    pub fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        self.skip(end)
    }

    /// Consumes digits, possibly none.
    pub fn digits(&mut self) -> &'a str {
        self.take_while(|c| c.is_ascii_digit())
    }

    /// Consumes exactly `count` digits, if no further one follows.
    pub fn exact_digits(&mut self, count: usize) -> Option<&'a str> {
        let mut ahead = *self;
        let digits = ahead.digits();
        if digits.len() != count {
            return None;
        }
        *self = ahead;
        Some(digits)
    }

    /// Consumes letters, possibly none.
    pub fn letters(&mut self) -> &'a str {
        self.take_while(char::is_alphabetic)
    }

    /// Consumes at most one space.
    pub fn space(&mut self) -> bool {
        self.take(' ')
    }

    /// Whether no letter or digit follows the position.
    pub fn ends_word(&self) -> bool {
        self.peek().is_none_or(|c| !c.is_alphanumeric())
    }

    /// Whether a chain such as `1-413-te` continues: a joining mark, and a letter or digit after
    /// it.
    pub fn goes_on_as_chain(&self) -> bool {
        let mut rest = self.rest.chars();
        matches!(rest.next(), Some('-' | '/' | '_'))
            && rest.next().is_some_and(char::is_alphanumeric)
    }
}
