//! Removal of markup: SSML, HTML, Markdown, a language model's reasoning, pauses and tags.
//!
//! The text is read once from left to right. Spoken text becomes paragraphs, markup is dropped, and
//! a pause becomes an element of its own.

mod entities;
mod tag;

use super::traced::Traced;
use super::warning::Warnings;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use tag::{Effect, Tag};

/// A pause of unspecified length, such as one between paragraphs.
pub(super) const PAUSE_SECONDS: f64 = 0.4;
/// The longest pause.
const PAUSE_SECONDS_MAX: f64 = 60.0;
/// Placeholder for the text before a continuation: an invisible character.
pub(super) const JOINT: char = '\u{2060}';
/// The longest text in brackets that may be a tag.
const BRACKET_BYTES_MAX: usize = 400;
/// A tag of the turbo family, such as `[laugh]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParalinguisticTag {
    /// The name without brackets.
    pub name: &'static str,
    /// Whether the tag is audible. Users report that the tags which name a delivery are accepted
    /// but change nothing.
    pub is_heard: bool,
}

const fn heard(name: &'static str) -> ParalinguisticTag {
    ParalinguisticTag {
        name,
        is_heard: true,
    }
}

const fn unheard(name: &'static str) -> ParalinguisticTag {
    ParalinguisticTag {
        name,
        is_heard: false,
    }
}

/// All tags of the turbo family: sounds first, then deliveries.
pub const PARALINGUISTIC_TAGS: [ParalinguisticTag; 19] = [
    heard("laugh"),
    heard("chuckle"),
    heard("gasp"),
    heard("cough"),
    heard("sigh"),
    heard("groan"),
    heard("sniff"),
    heard("shush"),
    heard("clear throat"),
    unheard("angry"),
    unheard("crying"),
    unheard("dramatic"),
    unheard("fear"),
    unheard("happy"),
    unheard("narration"),
    unheard("sarcastic"),
    unheard("surprised"),
    unheard("whispering"),
    unheard("advertisement"),
];

/// An element of a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Element {
    /// Spoken text: lines joined, markup removed.
    Paragraph(Traced),
    /// A pause in the text.
    Pause {
        seconds: f64,
        /// Byte range in the source.
        written: Range<usize>,
    },
}

/// The elements of a text, in order. `tags` are those that the model knows, without brackets. A
/// text that continues the last paragraph of another (`within_paragraph`) begins with a paragraph
/// of [`JOINT`] alone if it ends that paragraph.
pub(super) fn elements<'s>(
    source: &'s str,
    tags: &[String],
    within_paragraph: bool,
    warnings: &mut Warnings<'s>,
) -> Vec<Element> {
    let mut reader = Reader {
        source,
        at: 0,
        tags,
        warnings,
        elements: Vec::new(),
        paragraph: Traced::default(),
        jumps: BTreeMap::new(),
        closes: HashMap::new(),
        line_ends_paragraph: false,
        row: false,
        spelt: false,
    };
    if within_paragraph {
        reader.paragraph = Traced::beginning(JOINT);
    } else {
        reader.line_start();
    }
    reader.run();
    reader.elements
}

/// Ranges of a text that are not spoken, such as a language model's reasoning, tags included. The
/// last one extends to the text's end if its closing tag has not arrived yet.
pub(super) fn hidden_parts(text: &str) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find('<') {
        let start = at + open;
        at = start + 1;
        let name = text[at..].split(|c: char| !c.is_ascii_alphabetic()).next();
        let name = name.unwrap_or("").to_ascii_lowercase();
        if !tag::HIDDEN.contains(&&*name) {
            continue;
        }
        let close = find_ignoring_case(&text[at..], &format!("</{name}")).map(|close| at + close);
        let end = close.and_then(|close| Some(close + text[close..].find('>')? + 1));
        at = end.unwrap_or(text.len());
        parts.push(start..at);
    }
    parts
}

/// Parses a duration as in SSML and plain text: `500ms`, `0.5s`, `2 seconds`, `1`; finite and not
/// negative.
fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+')))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let value: f64 = number.trim_start_matches('+').parse().ok()?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "ms" | "msec" | "millisecond" | "milliseconds" => 0.001,
        "m" | "min" | "minute" | "minutes" => 60.0,
        _ => return None,
    };
    Some(value * factor).filter(|seconds| seconds.is_finite())
}

struct Reader<'s, 'w> {
    source: &'s str,
    at: usize,
    tags: &'w [String],
    warnings: &'w mut Warnings<'s>,
    elements: Vec<Element>,
    paragraph: Traced,
    /// Offsets at which reading continues elsewhere: the ends of links.
    jumps: BTreeMap<usize, usize>,
    /// Offset of the next closing tag of each name, as far as searched.
    closes: HashMap<String, Option<usize>>,
    /// Whether the current line is a heading or a table row.
    line_ends_paragraph: bool,
    row: bool,
    /// Whether the current tag's text is read character by character.
    spelt: bool,
}

impl<'s> Reader<'s, '_> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn run(&mut self) {
        while let Some(character) = self.rest().chars().next() {
            if self.jump() {
                continue;
            }
            let handled = match character {
                '\n' => {
                    self.line_end();
                    true
                }
                '\r' => self.skip(1),
                '\u{1b}' => self.escape(),
                '<' => self.angle(),
                '&' => self.entity(),
                '!' if self.rest().starts_with("![") => self.link(1),
                '[' => self.bracket(),
                '~' | '^' if self.script(character) => true,
                '*' | '_' | '~' => self.emphasis(character),
                '=' => self.highlight(),
                '|' if self.row => {
                    self.push(',');
                    self.push(' ');
                    self.skip(1)
                }
                '\\' if self.rest()[1..]
                    .starts_with(['*', '_', '[', ']', '(', ')', '#', '`', '<']) =>
                {
                    self.skip(1);
                    let escaped = self.rest().chars().next().unwrap_or(' ');
                    self.push(escaped);
                    self.skip(escaped.len_utf8())
                }
                _ => false,
            };
            if !handled {
                self.push(character);
                if self.spelt {
                    self.push(' ');
                }
                self.at += character.len_utf8();
            }
        }
        self.end_paragraph();
    }

    /// Follows a jump at the current offset, if there is one.
    fn jump(&mut self) -> bool {
        while let Some((&from, &to)) = self.jumps.first_key_value()
            && from <= self.at
        {
            self.jumps.remove(&from);
            if from == self.at {
                self.at = to;
                return true;
            }
        }
        false
    }

    /// Offset of the closing tag of a name, from byte `from` on.
    fn close(&mut self, name: &str, from: usize) -> Option<usize> {
        match self.closes.get(name) {
            Some(None) => return None,
            Some(&Some(known)) if known >= from => return Some(known),
            _ => {}
        }
        let mark = format!("</{name}");
        let found = find_ignoring_case(&self.source[from..], &mark).map(|at| from + at);
        self.closes.insert(name.to_owned(), found);
        found
    }

    fn skip(&mut self, bytes: usize) -> bool {
        self.at += bytes;
        true
    }

    fn push(&mut self, character: char) {
        self.paragraph.push(character, self.at as u32);
    }

    fn end_paragraph(&mut self) {
        self.paragraph.extend_to(self.at as u32);
        let mut paragraph = std::mem::take(&mut self.paragraph);
        paragraph.trim_end();
        if !paragraph.text().trim_start().is_empty() {
            self.elements.push(Element::Paragraph(paragraph));
        }
    }

    fn pause(&mut self, seconds: f64, length: usize) {
        self.end_paragraph();
        let written = self.at..self.at + length;
        if seconds > PAUSE_SECONDS_MAX {
            let text = &self.source[written.clone()];
            self.warnings.add(
                self.at,
                text,
                format!("a pause is limited to {PAUSE_SECONDS_MAX} s, and this one is shortened"),
            );
        }
        self.elements.push(Element::Pause {
            seconds: seconds.min(PAUSE_SECONDS_MAX),
            written,
        });
        self.at += length;
    }

    fn line_end(&mut self) {
        if std::mem::take(&mut self.line_ends_paragraph) {
            self.end_paragraph();
        } else {
            self.push(' ');
        }
        self.row = false;
        self.at += 1;
        self.line_start();
    }

    /// Markdown at the beginning of a line.
    fn line_start(&mut self) {
        let line = self.rest().split('\n').next().unwrap_or("");
        let mut body = line.trim();
        if body.is_empty() {
            self.end_paragraph();
            return;
        }
        let fence = body.starts_with("```") || body.starts_with("~~~");
        let definition = body.starts_with('[')
            && body
                .split_once("]: ")
                .is_some_and(|(label, target)| !label.contains(' ') && target.contains("://"));
        let row = body.starts_with('|') && body.ends_with('|') && body.len() > 1;
        let ruler = row && !body.chars().any(char::is_alphanumeric);
        if fence || definition || ruler {
            self.end_paragraph();
            self.at += line.len();
            return;
        }
        // A line of marks alone is a separator.
        if !body
            .chars()
            .any(|c| c.is_alphanumeric() || matches!(c, '<' | '['))
            && body.chars().count() > 2
        {
            self.end_paragraph();
            for (at, character) in line.char_indices() {
                self.paragraph.push(character, (self.at + at) as u32);
            }
            self.at += line.len();
            self.end_paragraph();
            return;
        }
        let start = self.at + (line.len() - line.trim_start().len());
        let mut skipped = 0;
        // `>= 5` is no quotation.
        while body.starts_with('>') && !body.starts_with(">=") {
            let rest = body[1..].trim_start();
            skipped += body.len() - rest.len();
            body = rest;
        }
        if row {
            self.end_paragraph();
            self.at = start + 1;
            self.jumps
                .insert(start + body.len() - 1, start + body.len());
            self.row = true;
            self.line_ends_paragraph = true;
            return;
        }
        let marks = body.len() - body.trim_start_matches('#').len();
        if (1..=6).contains(&marks) && body[marks..].starts_with([' ', '\t']) {
            self.end_paragraph();
            self.at = start + skipped + marks;
            self.line_ends_paragraph = true;
            return;
        }
        if let Some(length) = bullet(body) {
            self.end_paragraph();
            self.at = start + skipped + length;
        } else if is_numbered(body) {
            self.end_paragraph();
        } else if skipped > 0 {
            self.at = start + skipped;
        }
    }

    /// A terminal's control sequence, such as `ESC [ 31 m`.
    fn escape(&mut self) -> bool {
        let rest = &self.rest()[1..];
        let length = rest.strip_prefix('[').and_then(|sequence| {
            let end = sequence
                .bytes()
                .take(BRACKET_BYTES_MAX)
                .position(|byte| !matches!(byte, b' '..=b'?'))?;
            matches!(sequence.as_bytes()[end], b'@'..=b'~').then_some(2 + end)
        });
        self.skip(1 + length.unwrap_or(0))
    }

    /// Markup that begins with `<`.
    fn angle(&mut self) -> bool {
        let rest = self.rest();
        for (open, close) in [("<!--", "-->"), ("<?", "?>")] {
            if !rest.starts_with(open) {
                continue;
            }
            // Searched for once where there is none.
            let known = self.closes.get(open).copied();
            let end = match known {
                Some(None) => None,
                _ => rest.find(close),
            };
            if let Some(end) = end {
                return self.skip(end + close.len());
            }
            self.closes.insert(open.to_owned(), None);
            if open == "<!--" {
                self.warn(open, "this tag is never closed; the text after it is read");
                return self.skip(open.len());
            }
        }
        // `<|im_end|>`: what a language model ends its turns with.
        if let Some(content) = rest.strip_prefix("<|")
            && let Some(end) = (content.bytes().take(MODEL_MARK_BYTES_MAX)).position(|b| b == b'|')
            && content[end..].starts_with("|>")
            && (content[..end].bytes()).all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            return self.skip("<||>".len() + end);
        }
        if let Some(content) = rest.strip_prefix("<![CDATA[") {
            if let Some(end) = content.find("]]>") {
                let end = self.at + 9 + end;
                self.jumps.insert(end, end + 3);
            }
            return self.skip(9);
        }
        if rest
            .get(..9)
            .is_some_and(|start| start.eq_ignore_ascii_case("<!doctype"))
            && let Some(end) = rest.find('>')
        {
            return self.skip(end + 1);
        }
        if let Some(end) = rest
            .bytes()
            .take(TARGET_BYTES_MAX)
            .position(|byte| byte == b'>')
        {
            let inner = &rest[1..end.max(1)];
            let address = inner.contains("://") || (inner.contains('@') && inner.contains('.'));
            if address && !inner.contains([' ', '<', '"']) {
                self.jumps.insert(self.at + end, self.at + end + 1);
                return self.skip(1);
            }
        }
        match Tag::read(rest) {
            Some(tag) => self.tag(&tag),
            None => false,
        }
    }

    fn tag(&mut self, tag: &Tag<'s>) -> bool {
        let written = &self.rest()[..tag.length];
        let after = self.at + tag.length;
        let Some(effect) = tag.effect() else {
            let is_markup = tag.closing
                || tag.self_closing
                || written.contains('=')
                || self.close(&tag.name, after).is_some();
            if is_markup {
                self.warn(written, "this tag is unknown and ignored; its text is read");
                return self.skip(tag.length);
            }
            // `<laugh>`, as other models have it.
            return self.sound(&tag.name, tag.length);
        };
        match effect {
            Effect::Inline => {}
            Effect::Space => self.push(' '),
            Effect::Cell => {
                self.push(',');
                self.push(' ');
            }
            Effect::Block => self.end_paragraph(),
            Effect::Pause if !tag.closing => {
                self.pause(tag.pause_seconds(), tag.length);
                return true;
            }
            Effect::Pause => {}
            Effect::Hidden if tag.closing => {
                self.warn(
                    written,
                    "this tag closes nothing; the text before it is read",
                );
            }
            Effect::Hidden if tag.self_closing => {}
            Effect::Hidden => match self.close(&tag.name, after) {
                Some(close) => {
                    let end = self.source[close..]
                        .find('>')
                        .map_or(self.source.len(), |end| close + end + 1);
                    self.at = end;
                    return true;
                }
                None => self.warn(
                    written,
                    "this tag is never closed; the text after it is read",
                ),
            },
            Effect::Substitute => {
                if let (Some(alias), Some(close)) =
                    (tag.attribute("alias"), self.close(&tag.name, after))
                {
                    for character in alias.chars() {
                        self.push(character);
                    }
                    self.at = close;
                    return true;
                }
            }
            Effect::SayAs => {
                let how = tag.attribute("interpret-as").unwrap_or("");
                let by_character = ["characters", "spell-out", "verbatim", "digits"].contains(&how);
                // One that is never closed must not spell the rest of the text.
                let closed = !tag.closing && self.close(&tag.name, after).is_some();
                self.spelt = closed && by_character;
                self.push(' ');
            }
        }
        self.skip(tag.length)
    }

    fn warn(&mut self, shown: &str, message: &str) {
        self.warnings.add(self.at, shown, message.to_owned());
    }

    fn entity(&mut self) -> bool {
        match entities::entity(self.rest()) {
            Some((character, length)) => {
                self.push(character);
                self.skip(length)
            }
            None => false,
        }
    }

    /// `[pause:0.5s]`, a tag of the model, a link, a footnote.
    fn bracket(&mut self) -> bool {
        let rest = self.rest();
        let Some(end) = rest
            .bytes()
            .take(BRACKET_BYTES_MAX)
            .position(|byte| byte == b']')
        else {
            return false;
        };
        let inner = &rest[1..end];
        let length = end + 1;
        let lower = inner.trim().to_lowercase();
        if let Some(asked) = lower
            .strip_prefix("pause")
            .or_else(|| lower.strip_prefix("silence"))
        {
            let asked = asked.trim_start_matches([':', '=', ' ']);
            let seconds = if asked.is_empty() {
                Some(PAUSE_SECONDS)
            } else {
                seconds(asked)
            };
            match seconds {
                Some(seconds) => self.pause(seconds, length),
                None => {
                    self.warn(
                        &rest[..length],
                        "this is not a pause: write [pause:0.5s] or [pause:500ms]",
                    );
                    self.at += length;
                }
            }
            return true;
        }
        if self.sound(&lower, length) {
            return true;
        }
        if inner.starts_with('^') || is_citation(&self.source[..self.at], inner) {
            // `[^1]: the note`
            let note = inner.starts_with('^') && rest[length..].starts_with(':');
            return self.skip(length + usize::from(note));
        }
        if rest[length..].starts_with(['(', '[']) && self.link(0) {
            return true;
        }
        let words = inner.split(' ').count();
        let like_tag = words <= 2
            && !inner.is_empty()
            && inner.chars().all(|c| c.is_ascii_lowercase() || c == ' ');
        if like_tag {
            self.warn(&rest[..length], "this tag is unknown and read as words");
        }
        false
    }

    /// A sound of this name, written in `length` bytes: the model's tag for it, or nothing.
    fn sound(&mut self, name: &str, length: usize) -> bool {
        if self.tags.iter().any(|tag| tag == name) {
            for character in format!("[{name}]").chars() {
                self.push(character);
            }
            return self.skip(length);
        }
        if PARALINGUISTIC_TAGS.iter().any(|tag| tag.name == name) {
            self.warn(
                &self.rest()[..length],
                "this model does not support this sound; the tag is ignored",
            );
            return self.skip(length);
        }
        false
    }

    /// A link or, `before` characters further on, an image: its text is read, its target is not.
    fn link(&mut self, before: usize) -> bool {
        let rest = &self.rest()[before..];
        let mut depth = 0;
        let close = rest.bytes().take(BRACKET_BYTES_MAX).position(|byte| {
            match byte {
                b'[' => depth += 1,
                b']' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let Some(close) = close else {
            return false;
        };
        let target = &rest[close + 1..];
        // A target ends on its own line; otherwise this is text in brackets.
        let ends_with = |mark: u8, bytes_max: usize| {
            (target.bytes().take(bytes_max))
                .take_while(|&byte| byte != b'\n')
                .position(|byte| byte == mark)
        };
        // A target may have pairs of parentheses in it.
        let mut depth = 0;
        let mut closing = || {
            let mut line =
                (target.bytes().take(TARGET_BYTES_MAX)).take_while(|&byte| byte != b'\n');
            line.position(|byte| {
                depth += i32::from(byte == b'(') - i32::from(byte == b')');
                depth == 0
            })
        };
        let end = match target.bytes().next() {
            Some(b'(') => closing(),
            Some(b'[') => ends_with(b']', BRACKET_BYTES_MAX),
            _ => None,
        };
        let Some(end) = end else {
            return false;
        };
        let start = self.at + before + close;
        self.jumps.insert(start, start + 1 + end + 1);
        self.skip(before + 1)
    }

    /// `H~2~O`, `x^2^`, `19^th^`: a short index or exponent between its marks. That of digits alone
    /// is a power.
    fn script(&mut self, mark: char) -> bool {
        const LETTERS_MAX: usize = 3;
        let rest = self.rest();
        let behind = self.source[..self.at].chars().next_back();
        let inner = rest[1..].split(mark).next().unwrap_or("");
        let closed = rest[1 + inner.len()..].starts_with(mark);
        let short = (1..=LETTERS_MAX).contains(&inner.len())
            && inner.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !closed || !short || !behind.is_some_and(char::is_alphanumeric) {
            return false;
        }
        if mark == '^' && inner.bytes().all(|byte| byte.is_ascii_digit()) {
            self.push(mark);
        }
        let close = self.at + 1 + inner.len();
        self.jumps.insert(close, close + 1);
        self.skip(1)
    }

    /// `==marked words==` on one line.
    fn highlight(&mut self) -> bool {
        const MARK: &str = "==";
        let rest = self.rest();
        let behind = self.source[..self.at].chars().next_back();
        let is_inner = |c: char| !c.is_whitespace() && c != '=';
        let opens = rest.starts_with(MARK)
            && rest[MARK.len()..].starts_with(is_inner)
            && !behind.is_some_and(|c| c.is_alphanumeric() || c == '=');
        if !opens {
            return false;
        }
        let line = rest[MARK.len()..].split('\n').next().unwrap_or("");
        let Some((inner, after)) = line.split_once(MARK) else {
            return false;
        };
        if !inner.ends_with(is_inner)
            || after.starts_with(|c: char| c.is_alphanumeric() || c == '=')
        {
            return false;
        }
        let close = self.at + MARK.len() + inner.len();
        self.jumps.insert(close, close + MARK.len());
        self.skip(MARK.len())
    }

    /// Runs of `*`, `_` and `~~` at a word's border; within a word they are plain characters.
    fn emphasis(&mut self, mark: char) -> bool {
        let rest = self.rest();
        let run = rest.len() - rest.trim_start_matches(mark).len();
        let previous = self.source[..self.at].chars().next_back();
        let next = rest[run..].chars().next();
        let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let space = |c: Option<char>| c.is_none_or(char::is_whitespace);
        let opens = !word(previous) && !space(next);
        let closes = !space(previous) && !word(next);
        let long_enough = if mark == '~' { run == 2 } else { run <= 3 };
        if !long_enough || !(opens || closes) {
            // A run is consumed at once, so that its second half is not mistaken for a border.
            for _ in 0..run {
                self.push(mark);
            }
        }
        self.skip(run)
    }
}

/// Whether a bracket's content is the number of a source or a footnote: directly behind a word, an
/// end mark or another such bracket. An index, as in `a[1]`, follows a short name.
fn is_citation(before: &str, inner: &str) -> bool {
    const NAME_LETTERS_MAX: usize = 3;
    const CONTENT_BYTES_MAX: usize = 16;
    let numbers = inner.len() <= CONTENT_BYTES_MAX
        && inner.starts_with(|c: char| matches!(c, '1'..='9'))
        && (inner.chars()).all(|c| c.is_ascii_digit() || matches!(c, ',' | ' ' | '-' | '–'));
    let word = before.len() - before.trim_end_matches(char::is_lowercase).len();
    let marked = before.ends_with(['.', ',', ';', ':', '!', '?', '"', '”', '’', ']']);
    // `x.y[0]`: a member of something.
    let spaced = before[..before.len() - word].ends_with(char::is_whitespace);
    // `realms.[b]`
    let letter = inner.len() == 1 && inner.starts_with(|c: char| c.is_ascii_lowercase());
    (numbers || (letter && marked)) && (marked || (word > NAME_LETTERS_MAX && spaced))
}

/// Longest name between `<|` and `|>`.
const MODEL_MARK_BYTES_MAX: usize = 40;

/// Limit of a link target's length.
const TARGET_BYTES_MAX: usize = 2000;

/// Length of a list marker with the space after it, and of a check box.
fn bullet(line: &str) -> Option<usize> {
    let rest = line.strip_prefix([
        '-', '*', '+', '•', '‣', '◦', '▪', '●', '☐', '☑', '☒', '✓', '✔', '➤', '►',
    ])?;
    let body = rest.trim_start();
    if body.len() == rest.len() {
        return None;
    }
    let body = ["[ ] ", "[x] ", "[X] "]
        .iter()
        .find_map(|tick| body.strip_prefix(tick))
        .unwrap_or(body);
    Some(line.len() - body.len())
}

/// `1. ` or `12) ` at the beginning of a line.
fn is_numbered(line: &str) -> bool {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    (1..=3).contains(&(line.len() - rest.len()))
        && (rest.starts_with(". ") || rest.starts_with(") "))
}

/// Finds ASCII text, ignoring case.
fn find_ignoring_case(text: &str, wanted: &str) -> Option<usize> {
    text.as_bytes()
        .windows(wanted.len())
        .position(|window| window.eq_ignore_ascii_case(wanted.as_bytes()))
}

#[cfg(test)]
mod tests;
