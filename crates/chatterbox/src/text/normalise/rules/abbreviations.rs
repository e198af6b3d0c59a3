//! Abbreviations, dotted initials, Roman numerals.

use super::{Reading, Setting};
use crate::text::normalise::language::{When, holds};
use crate::text::normalise::scan::{Cursor, Scan, first_word, is_capitalised, last_word};

/// Letters of a Roman numeral that is a year without further context.
const ROMAN_YEAR_LETTERS_MIN: usize = 4;
/// Letters of a Roman numeral between an article and a noun.
const ROMAN_ORDINAL_LETTERS_MIN: usize = 3;
/// Limit of Roman numerals after a name that is not known to be numbered.
const ROMAN_AFTER_NAMES_MAX: u64 = 39;

/// Phrases with a reading of their own.
pub(super) fn phrase(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    if !cursor.starts_word() || cursor.continues_chain() {
        return None;
    }
    for (written, spoken) in setting.language.phrases {
        let mut scan = cursor.scan();
        if !scan.take_ignoring_case(written) {
            continue;
        }
        let closed = !written.ends_with(char::is_alphanumeric);
        if (closed || scan.ends_word()) && !scan.goes_on_as_chain() && !is_site_like(&scan) {
            let keeps_stop = written.ends_with('.') && ends_sentence(setting, scan.rest);
            let stop = if keeps_stop { "." } else { "" };
            return Reading::new(format!("{spoken}{stop}"), scan.used);
        }
    }
    None
}

/// Whether letters follow a full stop without a space.
fn is_site_like(scan: &Scan<'_>) -> bool {
    let mut rest = scan.rest.chars();
    rest.next() == Some('.') && rest.next().is_some_and(char::is_alphanumeric)
}

/// Whether the full stop of an abbreviation also ends the sentence.
pub(super) fn ends_sentence(setting: &Setting, rest: &str) -> bool {
    rest.starts_with(' ')
        && holds(setting.language.function_words, first_word(rest))
        && is_capitalised(first_word(rest))
}

/// `Dr. Evil`, `No. 5`, `etc.`.
pub(super) fn abbreviation(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    if !cursor.starts_word() || matches!(cursor.previous(), Some('\'' | '’')) {
        return None;
    }
    for abbreviation in setting.language.abbreviations {
        let mut scan = cursor.scan();
        if !scan.take_ignoring_case(abbreviation.short) {
            continue;
        }
        let stop = scan.take('.');
        let numbered = stop && abbreviation.when == When::BeforeNumber;
        // `Mr.Smith`
        let glued = stop
            && abbreviation.when == When::Title
            && abbreviation.short.len() > 1
            && is_capitalised(scan.rest);
        if !(scan.ends_word() || numbered || glued)
            || (!stop && scan.rest.starts_with(['\'', '’', '-']))
        {
            continue;
        }
        let written = cursor.rest();
        let capitalised = is_capitalised(written);
        let next = first_word(scan.rest);
        let near = scan.rest.starts_with(' ') || glued;
        let name = near && is_capitalised(next);
        let after = scan.rest.trim_start_matches(' ');
        let digit = (after.strip_prefix('#').unwrap_or(after))
            .starts_with(|c: char| c.is_ascii_digit())
            || (near && roman_value(next).is_some() && next != "I")
            // `serial no. XJ-900`
            || (near && is_capitalised(next) && next.contains(|c: char| c.is_ascii_digit()));
        let fits = match abbreviation.when {
            When::Always => stop,
            When::Plain => stop || !capitalised,
            When::BeforeName => stop && capitalised && name,
            // `Mr. and Mrs. Brown`.
            When::Title if capitalised => name || (stop && next == setting.language.words.and),
            When::Title => {
                stop && near && is_small_title(setting, cursor, abbreviation.short, next)
            }
            When::BeforeNumber => stop && digit,
        };
        if !fits {
            continue;
        }
        let titled = matches!(
            abbreviation.when,
            When::BeforeName | When::Title | When::BeforeNumber
        );
        let keeps_stop = stop && !titled && ends_sentence(setting, scan.rest);
        let mark = if keeps_stop { "." } else { "" };
        let space = if abbreviation.when == When::BeforeNumber && !near {
            " "
        } else {
            ""
        };
        return Reading::new(format!("{}{mark}{space}", abbreviation.word), scan.used);
    }
    None
}

/// `st. john`, `the dr. said`: a title in a text without capitals, before a name. What may also be
/// a street begins a phrase, or follows a word that no street is named by.
fn is_small_title(setting: &Setting, cursor: &Cursor<'_>, short: &str, next: &str) -> bool {
    let words = setting.language.function_words;
    let street = setting
        .language
        .streets
        .iter()
        .any(|(name, _)| *name == short);
    let before = cursor.before().trim_end();
    let begins = before.is_empty() || before.ends_with([',', ';', ':', '(', '"', '-']);
    (!street || begins || holds(words, cursor.previous_word()))
        && next.starts_with(char::is_lowercase)
        && !holds(words, next)
}

/// `U.S.A.` becomes `USA`, the `J.` of `J. Smith` becomes `J`.
pub(super) fn dotted(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    if !cursor.starts_word() {
        return None;
    }
    let mut scan = cursor.scan();
    let mut letters = String::new();
    loop {
        let mut ahead = scan;
        let letter = ahead.letters();
        if letter.chars().count() != 1 {
            break;
        }
        if !ahead.take('.') {
            // `U.S.A` without its last full stop.
            if letters.chars().count() > 1 && ahead.ends_word() {
                letters.extend(letter.chars().flat_map(char::to_uppercase));
                scan = ahead;
            }
            break;
        }
        letters.extend(letter.chars().flat_map(char::to_uppercase));
        scan = ahead;
    }
    match letters.chars().count() {
        0 => return None,
        1 => {
            // An initial before a name or another initial; `I` more likely ends a sentence.
            let next = first_word(scan.rest);
            let initial =
                is_capitalised(cursor.rest()) && scan.rest.starts_with(' ') && is_capitalised(next);
            // `Plan B. Later`: the letter belongs to the word before it.
            let before = cursor.previous_word();
            let lettered = holds(setting.language.numbered, before)
                || holds(setting.language.lettered, before);
            if !initial
                || letters == "I"
                || lettered
                || holds(setting.language.function_words, next)
            {
                return None;
            }
        }
        _ => {}
    }
    if !scan.ends_word() {
        return None;
    }
    let plural = scan.rest.starts_with("s ") || scan.rest == "s";
    let mark = if ends_sentence(setting, scan.rest) && !plural {
        "."
    } else {
        ""
    };
    Reading::new(format!("{letters}{mark}"), scan.used)
}

/// `Chapter IV`, `World War II`, `Henry VIII`.
pub(super) fn roman(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let mut scan = cursor.scan();
    let written = scan.letters();
    // `XXth`.
    for ending in language.ordinal_endings {
        if let Some(value) = written.strip_suffix(ending).and_then(roman_value)
            && written.len() > ending.len() + 1
            && cursor.starts_word()
            && scan.ends_word()
        {
            return Reading::new((language.ordinal)(value), written.len());
        }
    }
    // `page xii`, `Scene iii`, `section v.`: only after such words, and no pronoun or variable.
    let phrase_ends = scan.rest.is_empty() || scan.rest.starts_with(['.', ',', ';', ':', ')']);
    let long_enough = (2..=6).contains(&written.len());
    if (long_enough || (matches!(written, "v" | "x") && phrase_ends))
        && written.bytes().all(|c| matches!(c, b'i' | b'v' | b'x'))
        && cursor.before().ends_with(' ')
        && scan.ends_word()
        && holds(language.numbered, cursor.previous_word())
        && let Some(value) = roman_value(&written.to_ascii_uppercase())
    {
        return Reading::new((language.cardinal)(value), written.len());
    }
    // `Appendix C`, `Class D`: a letter.
    if matches!(written, "C" | "D" | "L" | "M") {
        return None;
    }
    let value = roman_value(written)?;
    // `Louis the XIV`
    let the = language.words.the;
    let name =
        (cursor.before().trim_end().strip_suffix(the)).map(|name| last_word(name.trim_end()));
    let ruler = cursor.before().ends_with(' ')
        && scan.ends_word()
        && name.is_some_and(|name| holds(language.given_names, name));
    if ruler && value <= ROMAN_AFTER_NAMES_MAX {
        return Reading::new((language.ordinal)(value), written.len());
    }
    // `the XXI Olympic Games`; two letters may be an abbreviation, as in `the IV drip`.
    let placed = written.len() >= ROMAN_ORDINAL_LETTERS_MIN
        && value <= ROMAN_AFTER_NAMES_MAX
        && cursor
            .previous_word()
            .eq_ignore_ascii_case(language.words.the)
        && first_word(scan.rest).starts_with(char::is_alphabetic);
    let in_order = cursor.starts_word()
        && written != "I"
        && scan.rest.starts_with(' ')
        && (placed || holds(language.counted_in_order, first_word(scan.rest)));
    if in_order {
        return Reading::new((language.ordinal)(value), written.len());
    }
    // `MCMXCIV`: long enough that no word or name is meant.
    if written.len() >= ROMAN_YEAR_LETTERS_MIN
        && cursor.starts_word()
        && scan.ends_word()
        && super::numbers::YEARS.contains(&value)
    {
        return Reading::new((language.year)(value), written.len());
    }
    let possessive = matches!(scan.peek(), Some('\'' | '’'));
    if !cursor.before().ends_with(' ') || !scan.ends_word() || (possessive && written.len() < 2) {
        return None;
    }
    let before = cursor.previous_word();
    let numbered = holds(language.numbered, before);
    // `Vol. IX`: the full stop of an abbreviation.
    let near = cursor.before().trim_end();
    let near = match numbered {
        true => near.trim_end_matches('.'),
        false => near,
    };
    if !near.ends_with(before) || before.is_empty() {
        return None;
    }
    if numbered {
        return Reading::new((language.cardinal)(value), written.len());
    }
    let named = is_capitalised(before) && !holds(language.function_words, before);
    // `George V`, `King Charles I`: a single letter may also be an initial or a pronoun.
    let titled = || {
        let title = near.strip_suffix(before).unwrap_or("");
        holds(language.royal_titles, last_word(title.trim_end()))
    };
    // `of Charles I.`: a pronoun does not end a sentence.
    let ends = |rest: &str| {
        let rest = rest.trim_start();
        rest.is_empty()
            || rest.starts_with(['.', ',', ';', ')', '?', '!'])
            || rest.starts_with("of ")
    };
    let ruler = holds(language.given_names, before)
        && (written == "V" || titled() || (written == "I" && ends(scan.rest)));
    if !named
        || (written.len() < 2 && !ruler)
        || value > ROMAN_AFTER_NAMES_MAX
        || written.contains(['L', 'C', 'D', 'M'])
    {
        return None;
    }
    // `King Harold II`, and `William Gates III` by the given name.
    let family = || {
        let title = near.strip_suffix(before).unwrap_or("");
        title.ends_with(' ') && holds(language.given_names, last_word(title.trim_end()))
    };
    match holds(language.given_names, before) || titled() || family() {
        true => Reading::new(
            format!("{} {}", language.words.the, (language.ordinal)(value)),
            written.len(),
        ),
        false => Reading::new((language.cardinal)(value), written.len()),
    }
}

/// The value of a well-formed Roman numeral in capitals.
fn roman_value(written: &str) -> Option<u64> {
    const DIGITS: [(&str, u64); 13] = [
        ("M", 1000),
        ("CM", 900),
        ("D", 500),
        ("CD", 400),
        ("C", 100),
        ("XC", 90),
        ("L", 50),
        ("XL", 40),
        ("X", 10),
        ("IX", 9),
        ("V", 5),
        ("IV", 4),
        ("I", 1),
    ];
    let mut value = 0;
    let mut rest = written;
    for (digit, worth) in DIGITS {
        let most = if digit.len() == 2 || matches!(worth, 500 | 50 | 5) {
            1
        } else {
            3
        };
        for _ in 0..most {
            match rest.strip_prefix(digit) {
                Some(after) => (value, rest) = (value + worth, after),
                None => break,
            }
        }
    }
    (!written.is_empty() && rest.is_empty()).then_some(value)
}

/// `Mon.`, `Tue,` before a date, `Mon-Fri`.
pub(super) fn weekday(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    if !cursor.starts_word() {
        return None;
    }
    let mut scan = cursor.scan();
    let written = scan.letters();
    let day = setting.language.weekday(written);
    let day = day.filter(|day| !day.eq_ignore_ascii_case(written))?;
    let mut last = scan;
    if last.take_any(&['-', '–']).is_some()
        && let Some(end) = setting.language.weekday(last.letters())
        && last.ends_word()
    {
        let words = format!("{day} {} {end}", setting.language.words.to);
        return Reading::new(words, last.used);
    }
    let stop = scan.take('.');
    let mut after = scan;
    let comma = after.take(',');
    after.space();
    let month = setting.language.months.iter().any(|month| {
        let next = first_word(after.rest);
        next == month.name
            || month
                .short
                .iter()
                .any(|short| short.eq_ignore_ascii_case(next))
    });
    let day_follows = after.rest.starts_with(|c: char| c.is_ascii_digit());
    let short = stop && !ends_sentence(setting, scan.rest);
    // `Mon 3 Mar`
    let month_later = after.rest.split_whitespace().nth(1).is_some_and(|word| {
        let word = word.trim_matches(|c: char| !c.is_alphabetic());
        (setting.language.months.iter()).any(|month| {
            is_capitalised(word)
                && (word == month.name
                    || (month.short.iter()).any(|short| short.eq_ignore_ascii_case(word)))
        })
    });
    // `Wed 3/6`
    let mut digits = after;
    let in_digits = !digits.digits().is_empty()
        && digits.take('/')
        && digits.peek().is_some_and(|c| c.is_ascii_digit());
    let dated = month || in_digits || (day_follows && (comma || month_later));
    if !is_capitalised(written) || !scan.ends_word() || !(short || dated) {
        return None;
    }
    Reading::new(day, scan.used)
}

#[cfg(test)]
mod tests {
    use super::roman_value;

    #[test]
    fn roman_numerals_have_one_valid_spelling() {
        for (written, value) in [
            ("II", 2),
            ("IV", 4),
            ("XL", 40),
            ("MCMXCIV", 1994),
            ("XXXIX", 39),
        ] {
            assert_eq!(roman_value(written), Some(value), "{written}");
        }
        for written in ["", "IIII", "VV", "IC", "CIVIL", "ii", "XM"] {
            assert_eq!(roman_value(written), None, "{written}");
        }
    }
}
