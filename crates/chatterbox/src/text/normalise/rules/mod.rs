//! The rules: each is a function that returns a reading of what begins at a position, or `None`.

mod abbreviations;
mod addresses;
mod capitals;
mod dates;
mod electronic;
mod mathematics;
mod measures;
mod money;
mod numbers;
mod ranges;
mod signs;
mod telephones;
mod times;

pub(super) use capitals::is_capital;

use super::language::{Language, holds};
use super::scan::{Cursor, Scan, first_word};

/// A reading of a part of a text.
#[derive(Debug)]
pub(super) struct Reading {
    pub spoken: String,
    /// Number of bytes that it covers; at least one.
    pub length: usize,
}

impl Reading {
    fn new(spoken: impl Into<String>, length: usize) -> Option<Reading> {
        Some(Reading {
            spoken: spoken.into(),
            length,
        })
    }
}

/// Context of the rules beyond the text.
pub(super) struct Setting {
    pub language: &'static Language,
    /// Whether words in capitals are read as words or letter by letter.
    pub capitals: bool,
    /// Whether most of the text is in capitals.
    pub shouting: bool,
}

type Rule = fn(&Setting, &Cursor<'_>) -> Option<Reading>;

/// The rules in order of precedence.
const RULES: &[Rule] = &[
    abbreviations::phrase,
    electronic::address,
    telephones::telephone,
    telephones::internet_address,
    telephones::hexadecimal_address,
    telephones::digest,
    telephones::code,
    telephones::account,
    addresses::model,
    ranges::range,
    ranges::letters,
    numbers::scale,
    times::time,
    numbers::ratio,
    dates::date,
    addresses::house,
    money::money,
    numbers::hexadecimal,
    measures::product,
    measures::duration,
    dates::decade,
    dates::short_year,
    measures::multiple,
    numbers::several,
    measures::measure,
    measures::divisor,
    numbers::fraction,
    numbers::ordinal,
    numbers::version,
    numbers::scientific,
    numbers::number,
    addresses::road,
    addresses::street,
    addresses::direction,
    addresses::state,
    abbreviations::abbreviation,
    abbreviations::dotted,
    abbreviations::roman,
    abbreviations::weekday,
    capitals::capitals,
    electronic::handle,
    mathematics::command,
    mathematics::delimiter,
    signs::emoticon,
    signs::operator,
    signs::minus,
    signs::power,
    signs::sign,
];

/// The reading at a position.
pub(super) fn read(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    RULES.iter().find_map(|rule| rule(setting, cursor))
}

/// Whether an amount modifies a noun and is therefore singular: `a $5 bill`, `a 10 km run`.
fn modifies_noun(setting: &Setting, cursor: &Cursor<'_>, scan: &Scan<'_>) -> bool {
    let language = setting.language;
    let next = first_word(scan.rest);
    language
        .indefinite_articles
        .contains(&cursor.previous_word())
        && scan.rest.starts_with(' ')
        && next.starts_with(char::is_lowercase)
        && !holds(language.function_words, next)
        && !holds(language.length_words, next)
}

/// A side of a range, which can also be read alone: returns its words and advances the scan.
type Part = fn(&Language, &mut Scan<'_>) -> Option<String>;
