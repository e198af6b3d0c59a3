//! English, as spoken in the United States.

mod capitals;
mod money;
mod names;
mod numerals;
mod signs;
mod units;
mod words;

use super::language::{Language, Month, Words};

const fn month(name: &'static str, short: &'static [&'static str], ambiguous: bool) -> Month {
    Month {
        name,
        short,
        ambiguous,
    }
}

/// English.
pub(super) static ENGLISH: Language = Language {
    cardinal: numerals::cardinal,
    ordinal: numerals::ordinal,
    year: numerals::year,
    fraction: numerals::fraction,
    plural: numerals::plural,
    digits: [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    ],
    words: Words {
        point: "point",
        minus: "minus",
        plus: "plus",
        from: "from",
        to: "to",
        by: "by",
        times: "times",
        per: "per",
        and: "and",
        the: "the",
        of: "of",
        number: "number",
        hashtag: "hashtag",
        version: "version",
        o_clock: "o'clock",
        oh: "oh",
        hundred: "hundred",
        hours: ["hour", "hours"],
        minutes: ["minute", "minutes"],
        seconds: ["second", "seconds"],
        to_the_power_of: "to the power of",
        factorial: "factorial",
        divided_by: "divided by",
        squared: "squared",
        cubed: "cubed",
        slash: "slash",
        colon: "colon",
        extension: "extension",
        over: "over",
        out_of: "out of",
        on: "on",
        ten: "ten",
        bc: &["BC", "BCE", "AD", "CE"],
    },
    months: [
        month("January", &["jan"], false),
        month("February", &["feb"], false),
        month("March", &["mar"], true),
        month("April", &["apr"], false),
        month("May", &[], true),
        month("June", &["jun"], false),
        month("July", &["jul"], false),
        month("August", &["aug"], false),
        month("September", &["sept", "sep"], false),
        month("October", &["oct"], false),
        month("November", &["nov"], false),
        month("December", &["dec"], false),
    ],
    weekdays: &[
        ("Monday", "mon"),
        ("Tuesday", "tues"),
        ("Tuesday", "tue"),
        ("Wednesday", "wed"),
        ("Thursday", "thurs"),
        ("Thursday", "thur"),
        ("Thursday", "thu"),
        ("Friday", "fri"),
        ("Saturday", "sat"),
        ("Sunday", "sun"),
    ],
    ordinal_endings: &["st", "nd", "rd", "th"],
    ordinal_ending: numerals::ordinal_ending,
    magnitudes: money::MAGNITUDES,
    currencies: money::CURRENCIES,
    periods: units::PERIODS,
    units: units::UNITS,
    abbreviations: words::ABBREVIATIONS,
    phrases: words::PHRASES,
    signs: signs::SIGNS,
    operators: signs::OPERATORS,
    commands: signs::COMMANDS,
    address_signs: signs::ADDRESS_SIGNS,
    streets: names::STREETS,
    roads: names::ROADS,
    directions: names::DIRECTIONS,
    states: names::STATES,
    numbered: names::NUMBERED,
    counted_in_order: names::COUNTED_IN_ORDER,
    given_names: names::GIVEN_NAMES,
    royal_titles: names::ROYAL_TITLES,
    score_words: words::SCORE_WORDS,
    several_words: words::SEVERAL_WORDS,
    indefinite_articles: &["a", "an"],
    articles: &["a", "an", "the"],
    length_words: words::LENGTH_WORDS,
    lettered: words::LETTERED,
    code_words: words::CODE_WORDS,
    year_words: words::YEAR_WORDS,
    function_words: words::FUNCTION_WORDS,
    capital_words: capitals::WORDS,
    initialisms: capitals::INITIALISMS,
    time_zones: names::TIME_ZONES,
};
