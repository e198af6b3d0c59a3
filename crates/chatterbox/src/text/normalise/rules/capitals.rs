//! Words in capitals: letter by letter, or as a word.

use super::{Reading, Setting};
use crate::text::normalise::language::holds;
use crate::text::normalise::scan::{Cursor, Scan};

/// Limit of letters; longer words with a vowel are read as words.
const SPELT_LETTERS_MAX: usize = 5;

/// For a voice that knows words alone: words that stay in capitals are read letter by letter, all
/// others become lower case.
pub(super) fn capitals(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let mut scan = cursor.scan();
    let word = scan.letters();
    if !setting.capitals || !is_capital(word) {
        return None;
    }
    // The plural of `GPU` ends in a lower-case letter.
    let singular = word.strip_suffix('s').unwrap_or(word);
    // `H2SO4`: symbols of elements beside their counts.
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let formula = word.len() == 2 && (digit(cursor.previous()) || digit(scan.peek()));
    let ending = contraction(&mut scan);
    let length = scan.used;
    match formula || (!is_contracted(ending) && is_spelt(setting, singular)) {
        true => Reading::new(format!("{word}{}", ending.to_lowercase()), length),
        false => Reading::new(cursor.rest()[..length].to_lowercase(), length),
    }
}

/// The apostrophe and capitals after a word, as in `IT'S` and `DON'T`; empty without them.
fn contraction<'t>(scan: &mut Scan<'t>) -> &'t str {
    let mut ahead = *scan;
    let mark = ahead.take_any(&['\'', '’']).map_or(0, char::len_utf8);
    let letters = ahead.letters();
    if mark == 0 || !ENDINGS.contains(&letters) {
        return "";
    }
    let ending = &scan.rest[..mark + letters.len()];
    *scan = ahead;
    ending
}

/// Whether an ending makes a word of capitals one of the language, as `'T` and `'LL` do; `'S` also
/// follows names.
fn is_contracted(ending: &str) -> bool {
    !ending.is_empty() && !ending.ends_with('S')
}

/// What contractions end with.
const ENDINGS: [&str; 7] = ["S", "T", "D", "M", "LL", "RE", "VE"];

/// At least two capitals, and at most a lower-case `s` after them.
pub(in crate::text::normalise) fn is_capital(word: &str) -> bool {
    let letters = word.strip_suffix('s').unwrap_or(word);
    // A Greek capital beside others is a symbol, as in ΔT.
    let is_capital = |c: char| c.is_uppercase() && !matches!(c, '\u{370}'..='\u{3ff}');
    letters.chars().count() > 1 && letters.chars().all(is_capital)
}

fn is_spelt(setting: &Setting, word: &str) -> bool {
    let language = setting.language;
    let lower = word.to_lowercase();
    if !lower.contains(['a', 'e', 'i', 'o', 'u', 'y']) {
        return true;
    }
    let is_word = holds(language.capital_words, &lower);
    if setting.shouting {
        return holds(language.initialisms, &lower) && !is_word;
    }
    holds(language.initialisms, &lower) || (word.chars().count() <= SPELT_LETTERS_MAX && !is_word)
}
