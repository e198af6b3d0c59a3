//! Postal addresses: house numbers, streets, compass directions, states with their codes.

use super::{Reading, Setting};
use crate::text::normalise::language::{Language, holds};
use crate::text::normalise::scan::{Cursor, Scan, first_word, is_capitalised, last_word};

/// Limit of words between a house number and the street type.
const NAME_WORDS_MAX: usize = 4;
/// Letters after a house number.
const HOUSE_LETTERS: [char; 12] = ['A', 'B', 'C', 'D', 'E', 'F', 'a', 'b', 'c', 'd', 'e', 'f'];

fn street_word(language: &Language, word: &str) -> Option<&'static str> {
    let (_, name) =
        (language.streets.iter()).find(|(short, _)| short.eq_ignore_ascii_case(word))?;
    Some(name)
}

fn is_direction(language: &Language, word: &str) -> bool {
    language.directions.iter().any(|(short, _)| *short == word)
}

/// Whether a word may be part of a street name.
fn is_name_word(language: &Language, word: &str) -> bool {
    let capitalised = is_capitalised(word) && !holds(language.function_words, word);
    let numbered = word.starts_with(|c: char| c.is_ascii_digit())
        && language
            .ordinal_endings
            .iter()
            .any(|ending| word.to_ascii_lowercase().ends_with(ending));
    capitalised || numbered
}

/// A house number, recognised by the street after it: `2788 San Tomas Expy`.
pub(super) fn house(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    if !cursor.starts_word() || cursor.continues_chain() {
        return None;
    }
    let mut scan = cursor.scan();
    let digits = scan.digits();
    // `221B Baker St`: the letter is read after the number.
    let mut street = scan;
    street.take_any(&HOUSE_LETTERS);
    if !(1..=5).contains(&digits.len()) || digits.starts_with('0') || !street.rest.starts_with(' ')
    {
        return None;
    }
    if !leads_to_street(language, street.rest) {
        return None;
    }
    Reading::new(house_number(language, digits), digits.len())
}

fn leads_to_street(language: &Language, rest: &str) -> bool {
    let words = rest.split_whitespace().take(NAME_WORDS_MAX + 1);
    for (names, written) in words.enumerate() {
        let word = written.trim_end_matches(['.', ',', ';', '?', '!']);
        if names > 0 && street_word(language, word).is_some() {
            return true;
        }
        if written.ends_with([',', ';', '?', '!']) || !is_name_word(language, word) {
            return false;
        }
    }
    false
}

/// Digits in pairs: `fourteen twenty eight`, `one twenty three`, `twelve hundred`.
fn house_number(language: &Language, digits: &str) -> String {
    let value: u64 = digits.parse().unwrap_or(0);
    let (head, rest) = (value / 100, value % 100);
    match digits.len() {
        0..=2 => (language.cardinal)(value),
        3 | 4 if rest == 0 && head % 10 != 0 => {
            format!("{} {}", (language.cardinal)(head), language.words.hundred)
        }
        3 | 4 if head % 10 == 0 && rest < 10 => (language.cardinal)(value),
        3 | 4 => format!("{} {}", (language.cardinal)(head), language.pair(rest)),
        _ => language.one_by_one(digits),
    }
}

/// `Boeing 737-800`, `RTX 4090`: the number of a model, in pairs of digits.
pub(super) fn model(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let mut scan = cursor.scan();
    if !cursor.starts_word() || !holds(language.paired, cursor.previous_word()) {
        return None;
    }
    let digits = scan.digits();
    let fits = |digits: &str| (3..=4).contains(&digits.len()) && !digits.starts_with('0');
    if !cursor.before().ends_with(' ') || !fits(digits) {
        return None;
    }
    let mut words = house_number(language, digits);
    let mut variant = scan;
    if variant.take('-') {
        let second = variant.digits();
        if fits(second) {
            words = format!("{words} {}", house_number(language, second));
            scan = variant;
        }
    }
    scan.ends_word().then_some(())?;
    Reading::new(words, scan.used)
}

/// `Hwy 101`, `I-95`, `Route 66`, `Room 404`: a numbered road or room.
pub(super) fn road(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let mut scan = cursor.scan();
    let word = scan.letters();
    let (_, name) = language.roads.iter().find(|(short, _)| *short == word)?;
    let stop = scan.take('.');
    let mark = scan.take_any(&[' ', '-'])?;
    // `I 5` is a person, and a hyphen joins no whole word to its number.
    let joined = word.len() < 3 && word.chars().all(char::is_uppercase);
    let digits = scan.digits();
    // `Apt 4B`
    let mut lettered = scan;
    let letter = lettered
        .take_any(&HOUSE_LETTERS[..6])
        .filter(|_| lettered.ends_word());
    if letter.is_some() {
        scan = lettered;
    }
    let plain = (1..=4).contains(&digits.len()) && !digits.starts_with('0');
    if !cursor.starts_word()
        || cursor.continues_chain()
        || !plain
        || !scan.ends_word()
        || scan.goes_on_as_chain()
        || (mark == '-') != joined
        || (stop && joined)
    {
        return None;
    }
    let mut words = format!("{name} {}", house_number(language, digits));
    if let Some(letter) = letter {
        words = format!("{words} {letter}");
    }
    Reading::new(words, scan.used)
}

/// Whether a house number occurs a few words before.
fn follows_number(language: &Language, before: &str) -> bool {
    let words = before.trim_end().rsplit(' ').take(NAME_WORDS_MAX + 1);
    for written in words {
        let word = written.trim_matches(|c: char| !c.is_alphanumeric());
        let number = word.strip_suffix(HOUSE_LETTERS).unwrap_or(word);
        if !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()) {
            return true;
        }
        if !is_name_word(language, word) {
            return false;
        }
    }
    false
}

/// The abbreviation of a street type after its name: `Elm St.`, `Arques Ave`.
pub(super) fn street(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let mut scan = cursor.scan();
    let word = scan.letters();
    if !cursor.starts_word() || !cursor.before().ends_with(' ') || !scan.ends_word() {
        return None;
    }
    let name = street_word(language, word).filter(|name| !name.eq_ignore_ascii_case(word))?;
    let before = cursor.previous_word();
    if !is_name_word(language, before) || cursor.before().trim_end().ends_with(['.', ',', '!', '?'])
    {
        return None;
    }
    let stop = scan.take('.');
    let after = scan.rest;
    let next = first_word(after);
    let numbered = follows_number(language, cursor.before());
    // `42nd st`, `3rd Ave`; a doctor may be the third too.
    let ordinal = before.starts_with(|c: char| c.is_ascii_digit())
        && !(after.starts_with(' ') && is_capitalised(next));
    if !numbered && !ordinal {
        // Without a number, `Main St.` is a street but `Dr. No` is not: it needs a full stop, and
        // no name may follow.
        let names_follow =
            after.starts_with(' ') && is_capitalised(next) && !holds(language.function_words, next);
        if !stop || !is_capitalised(word) || names_follow {
            return None;
        }
    }
    let ends_sentence = stop
        && after.starts_with(' ')
        && is_capitalised(next)
        && !is_direction(language, next)
        && !language.roads.iter().any(|(short, _)| *short == next);
    let length = word.len() + usize::from(stop);
    match ends_sentence {
        true => Reading::new(format!("{name}."), length),
        false => Reading::new(name, length),
    }
}

/// `E` in `1211 E Arques Ave`.
pub(super) fn direction(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let mut scan = cursor.scan();
    let word = scan.letters();
    if !cursor.starts_word() || !scan.ends_word() || !is_direction(language, word) {
        return None;
    }
    let stop = scan.take('.');
    let numbered = follows_number(language, cursor.before());
    let leads = leads_to_street(language, scan.rest);
    let after_street =
        numbered && street_word(language, last_word(cursor.before().trim_end())).is_some();
    if !(numbered && leads || after_street) {
        return None;
    }
    let (_, name) = language
        .directions
        .iter()
        .find(|(short, _)| *short == word)?;
    Reading::new(*name, word.len() + usize::from(stop))
}

/// `, CA 95051`, `City, NY`.
pub(super) fn state(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let mut scan = cursor.scan();
    let word = scan.letters();
    let (_, name) = language.states.iter().find(|(short, _)| *short == word)?;
    let before = cursor.before().strip_suffix(", ")?;
    if !scan.ends_word() || !is_capitalised(last_word(before)) {
        return None;
    }
    if let Some(code) = postal_code(language, &mut scan) {
        return Reading::new(format!("{name} {code}"), scan.used);
    }
    // Also ordinary words.
    const WORDS: [&str; 7] = ["HI", "ID", "IN", "ME", "OH", "OK", "OR"];
    let ends =
        scan.rest.trim_start().is_empty() || scan.rest.starts_with(['.', ',', ';', ')', '?', '!']);
    if WORDS.contains(&word) || !(ends || scan.rest.starts_with(' ')) {
        return None;
    }
    Reading::new(*name, word.len())
}

fn postal_code(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    ahead.space();
    let digits = ahead.exact_digits(5)?;
    let mut words = language.one_by_one(digits);
    let mut more = ahead;
    if more.take('-')
        && let Some(digits) = more.exact_digits(4)
    {
        words = format!("{words}, {}", language.one_by_one(digits));
        ahead = more;
    }
    if !ahead.ends_word() {
        return None;
    }
    *scan = ahead;
    Some(words)
}
