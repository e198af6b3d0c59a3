//! The rules, each a function that reads what begins at a place or passes.

mod abbreviations;
mod addresses;
mod capitals;
mod dates;
mod electronic;
mod measures;
mod money;
mod numbers;
mod ranges;
mod signs;
mod telephones;
mod times;

pub(super) use capitals::is_capital;

use super::language::Language;
use super::scan::{Cursor, Scan};

/// What is said for a part of a text.
#[derive(Debug)]
pub(super) struct Reading {
    pub spoken: String,
    /// How many bytes it stands for; at least one.
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

/// What rules may ask for beyond the text.
pub(super) struct Setting {
    pub language: &'static Language,
    /// Whether words in capitals are to be told apart: read as words, or letter by letter.
    pub capitals: bool,
    /// Whether most of the text is in capitals.
    pub shouting: bool,
}

type Rule = fn(&Setting, &Cursor<'_>) -> Option<Reading>;

/// Where more than one fits, the first wins.
const RULES: &[Rule] = &[
    abbreviations::phrase,
    electronic::address,
    telephones::telephone,
    telephones::internet_address,
    ranges::range,
    times::time,
    numbers::ratio,
    dates::date,
    addresses::house,
    money::money,
    numbers::hexadecimal,
    measures::product,
    dates::decade,
    measures::measure,
    numbers::fraction,
    numbers::ordinal,
    numbers::version,
    numbers::number,
    addresses::street,
    addresses::direction,
    addresses::state,
    abbreviations::abbreviation,
    abbreviations::dotted,
    abbreviations::roman,
    abbreviations::weekday,
    capitals::capitals,
    electronic::handle,
    signs::minus,
    signs::power,
    signs::sign,
];

/// The reading of what begins at a place.
pub(super) fn read(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    RULES.iter().find_map(|rule| rule(setting, cursor))
}

/// What can stand on both sides of a range, or be read alone: the words, and the rest of the scan
/// moved on.
type Part = fn(&Language, &mut Scan<'_>) -> Option<String>;
