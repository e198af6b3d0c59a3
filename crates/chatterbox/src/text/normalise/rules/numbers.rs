//! Plain numbers: cardinals, ordinals, fractions, years, codes, versions.

use super::{Reading, Setting};
use crate::text::normalise::language::{Language, holds};
use crate::text::normalise::number::Number;
use crate::text::normalise::scan::{Cursor, Scan, first_word, is_capitalised};

/// Digits of a number without further context; longer ones are read digit by digit like a code.
const PLAIN_DIGITS_MAX: usize = 4;
/// Limit of a denominator's digits.
const FRACTION_DIGITS_MAX: usize = 4;
/// Largest denominator under a larger numerator that is read as a fraction's.
const PLAIN_DENOMINATOR_MAX: u64 = 32;
/// Four digits that are a year by default.
pub(super) const YEARS: std::ops::Range<u64> = 1100..2100;
/// Four digits that are a year after certain words.
const EARLY_YEARS: std::ops::Range<u64> = 1000..1100;

/// Whether a word is countable: a plural, or an irregular one.
fn is_counted(word: &str) -> bool {
    const IRREGULAR: &[&str] = &[
        "people", "men", "women", "children", "feet", "mice", "sheep", "fish",
    ];
    const NO_PLURALS: &[&str] = &[
        "was",
        "is",
        "has",
        "this",
        "as",
        "us",
        "its",
        "his",
        "does",
        "thus",
        "always",
        "perhaps",
        "across",
        "plus",
        "minus",
        "versus",
        "less",
        "unless",
        "besides",
        "whereas",
        "towards",
        "sometimes",
        "yes",
    ];
    if !word.chars().all(|c| c.is_lowercase()) {
        return false;
    }
    IRREGULAR.contains(&word)
        || (word.len() > 3
            && word.ends_with('s')
            && !word.ends_with("ss")
            && !NO_PLURALS.contains(&word))
}

/// `3/4`, `3 1/2`, `3-1/2`, `1/4th`, `10/10`, `rated 8/10`.
pub(super) fn fraction(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    if !cursor.starts_word() || cursor.continues_chain() {
        return None;
    }
    let mut scan = cursor.scan();
    if let Some(words) = score(setting.language, cursor, &mut scan) {
        return Reading::new(words, scan.used);
    }
    let words = fraction_words(setting.language, &mut scan)?;
    Reading::new(words, scan.used)
}

/// `10/10`, `4.5/5`, and any part of ten or a hundred shortly after a word such as `rated`.
fn score(language: &Language, cursor: &Cursor<'_>, scan: &mut Scan<'_>) -> Option<String> {
    /// How many words before a score may announce it.
    const WORDS: usize = 3;
    /// A whole below it is a fraction: `2/2`.
    const FULL_MARKS_MIN: u64 = 5;
    let mut ahead = *scan;
    let points = Number::read(&mut ahead)?;
    if !ahead.take('/') {
        return None;
    }
    let marks: u64 = ahead.digits().parse().ok()?;
    let goes_on = ahead
        .rest
        .strip_prefix('.')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if !ahead.ends_word() || ahead.goes_on_as_chain() || goes_on {
        return None;
    }
    let full = points.integer() == Some(marks) && marks >= FULL_MARKS_MIN;
    let announced = [5, 10, 20, 100].contains(&marks)
        && points.approximately() <= marks as f64
        && cursor
            .before()
            .split_whitespace()
            .rev()
            .take(WORDS)
            .any(|word| holds(language.score_words, word));
    // `9/10 dentists`, `2/10 would not come again`; `3/10 miles` are a fraction.
    let next = first_word(ahead.rest);
    let followed = ahead.rest.starts_with(' ')
        && (is_counted(next) && !language.divided.contains(&next)
            || language.verdicts.contains(&next));
    let of_ten = marks == 10 && points.integer().is_some_and(|points| points < 10) && followed;
    // No fraction has a decimal point; `2.5/5 = 0.5` is a division.
    let decimal = points.part.is_some()
        && [5, 10, 20, 100].contains(&marks)
        && points.approximately() <= marks as f64
        && !ahead.rest.trim_start().starts_with('=');
    if !full && !announced && !of_ten && !decimal {
        return None;
    }
    *scan = ahead;
    Some(format!(
        "{} {} {}",
        points.words(language),
        language.words.out_of,
        (language.cardinal)(marks)
    ))
}

/// The words of a fraction, for rules that add a unit.
pub(super) fn fraction_words(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let first = ahead.digits();
    if first.is_empty() || first.len() > FRACTION_DIGITS_MAX || ahead.rest.starts_with(',') {
        return None;
    }
    let mut mixed = ahead;
    // `3-1/2`, but not `2026-06/09`.
    let hyphen = first.len() <= 2 && mixed.rest.starts_with('-') && !mixed.rest.starts_with("-0");
    let apart = mixed.space() || (hyphen && mixed.take('-'));
    let words = if apart && !mixed.digits().is_empty() && mixed.rest.starts_with('/') {
        ahead.take_any(&[' ', '-']);
        let numerator = ahead.digits();
        let part = below(language, numerator, &mut ahead)?;
        let whole = (language.cardinal)(first.parse().ok()?);
        format!("{whole} {} {part}", language.words.and)
    } else {
        below(language, first, &mut ahead)?
    };
    *scan = ahead;
    Some(words)
}

/// The slash and the denominator.
fn below(language: &Language, numerator: &str, scan: &mut Scan<'_>) -> Option<String> {
    if !scan.take('/') {
        return None;
    }
    let denominator = scan.digits();
    let fits = (1..=FRACTION_DIGITS_MAX).contains(&denominator.len());
    if !fits || numerator.len() > FRACTION_DIGITS_MAX {
        return None;
    }
    for ending in language.ordinal_endings {
        let mut ahead = *scan;
        if ahead.take_ignoring_case(ending) {
            // `7/8ths`
            ahead.take('s');
            if ahead.ends_word() {
                *scan = ahead;
            }
        }
    }
    let followed_by_digit = scan
        .rest
        .strip_prefix(['.', ','])
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    // `3/4-full` is a fraction, `3/4-5` is not.
    let chained = scan.goes_on_as_chain()
        && !(scan.rest.starts_with('-') && scan.rest[1..].starts_with(char::is_alphabetic));
    if !scan.ends_word() || chained || followed_by_digit {
        return None;
    }
    let (above, below) = (numerator.parse().ok()?, denominator.parse().ok()?);
    if above > below && below > 0 && scan.rest.trim_start().starts_with('=') {
        // `12/4=3`, a division.
        let cardinal = language.cardinal;
        let divided_by = language.words.divided_by;
        return Some(format!(
            "{} {divided_by} {}",
            cardinal(above),
            cardinal(below)
        ));
    }
    if above > below && below > PLAIN_DENOMINATOR_MAX {
        // `120/80`, a blood pressure.
        let cardinal = language.cardinal;
        let over = language.words.over;
        return Some(format!("{} {over} {}", cardinal(above), cardinal(below)));
    }
    Some((language.fraction)(above, below))
}

/// `23rd`, `1,000th`; a wrong ending is read after the number.
pub(super) fn ordinal(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let mut scan = cursor.scan();
    let words = ordinal_words(setting.language, &mut scan)?;
    // `the 18th c.`
    let mut century = scan;
    if century.space() && century.take('c') && century.take('.') {
        let ends = century.rest.trim_start().is_empty() || is_capitalised(first_word(century.rest));
        let mark = if ends { "." } else { "" };
        let name = setting.language.counted_in_order[0];
        return Reading::new(format!("{words} {name}{mark}"), century.used);
    }
    Reading::new(words, scan.used)
}

/// An ordinal's words.
pub(super) fn ordinal_words(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let value = Number::read(&mut ahead)?.integer()?;
    let ending =
        (language.ordinal_endings.iter()).find(|ending| ahead.take_ignoring_case(ending))?;
    if !ahead.ends_word() {
        return None;
    }
    *scan = ahead;
    Some(match *ending == (language.ordinal_ending)(value) {
        true => (language.ordinal)(value),
        false => format!("{} {ending}", (language.cardinal)(value)),
    })
}

/// `100s of people`, `F-16s`, `two 911s`: a number in the plural, which is no time in seconds.
pub(super) fn several(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let mut scan = cursor.scan();
    let number = Number::read(&mut scan)?;
    let value = number.integer()?;
    let digits = number.whole.as_str();
    if !cursor.starts_word() || digits.starts_with('0') || !scan.take('s') || !scan.ends_word() {
        return None;
    }
    let counts = scan.rest.starts_with(' ') && first_word(scan.rest) == language.words.of;
    let words = (language.cardinal)(value);
    if counts && matches!(value, 10 | 100 | 1000 | 1_000_000) {
        // `hundreds of`, not `one hundreds of`.
        let one = format!("{} ", (language.cardinal)(1));
        let bare = words.strip_prefix(&one).unwrap_or(&words);
        return Reading::new((language.plural)(bare), scan.used);
    }
    if number.grouped {
        return None;
    }
    let model = cursor.before().ends_with('-') && cursor.continues_chain();
    let counted = digits.len() == 3 && holds(language.several_words, cursor.previous_word());
    (model || counted)
        .then(|| Reading::new((language.plural)(&words), scan.used))
        .flatten()
}

/// `v1.2.3`, `1.2.3`.
pub(super) fn version(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let mut scan = cursor.scan();
    if !cursor.starts_word() {
        return None;
    }
    let named = scan.take_any(&['v', 'V']).is_some();
    // `1.000.000` is a number in groups.
    if !named && Number::read(&mut cursor.scan()).is_some_and(|number| number.grouped) {
        return None;
    }
    let mut parts = vec![part_of_version(language, scan.digits())?];
    while scan.rest.starts_with('.') {
        let mut ahead = scan;
        ahead.take('.');
        let Some(part) = part_of_version(language, ahead.digits()) else {
            break;
        };
        parts.push(part);
        scan = ahead;
    }
    if !scan.ends_word() || parts.len() < if named { 2 } else { 3 } {
        return None;
    }
    let mut numbers = parts.join(&format!(" {} ", language.words.point));
    if let Some(words) = pre_release(language, &mut scan) {
        numbers = format!("{numbers} {words}");
    }
    match named {
        true => Reading::new(format!("{} {numbers}", language.words.version), scan.used),
        false => Reading::new(numbers, scan.used),
    }
}

/// `-beta.2`, `-rc1` after a version.
fn pre_release(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    const NAMES: [&str; 6] = ["alpha", "beta", "rc", "dev", "pre", "preview"];
    let mut ahead = *scan;
    if !ahead.take('-') {
        return None;
    }
    let name = ahead.letters();
    if !holds(&NAMES, name) {
        return None;
    }
    let mut words = match name.len() {
        2 => name.to_uppercase(),
        _ => name.to_lowercase(),
    };
    let mut numbered = ahead;
    numbered.take('.');
    if let Some(number) = part_of_version(language, numbered.digits()) {
        words = format!("{words} {number}");
        ahead = numbered;
    }
    ahead.ends_word().then(|| {
        *scan = ahead;
        words
    })
}

fn part_of_version(language: &Language, digits: &str) -> Option<String> {
    match digits {
        "" => None,
        _ if digits.len() > 3 || (digits.len() > 1 && digits.starts_with('0')) => {
            Some(language.one_by_one(digits))
        }
        _ => Some((language.cardinal)(digits.parse().ok()?)),
    }
}

/// `3:1`, if it cannot be a time.
pub(super) fn ratio(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    if !cursor.starts_word() || cursor.continues_chain() {
        return None;
    }
    let mut scan = cursor.scan();
    let first = ratio_part(&mut scan)?;
    if !scan.take(':') {
        return None;
    }
    let second = ratio_part(&mut scan)?;
    if !scan.ends_word() || scan.rest.starts_with(':') {
        return None;
    }
    let cardinal = language.cardinal;
    // `Psalm 23:1-4`: verses.
    let mut verses = scan;
    if verses.take_any(&['-', '–']).is_some()
        && let Some(last) = ratio_part(&mut verses).filter(|last| *last > second)
        && verses.ends_word()
        && !verses.goes_on_as_chain()
    {
        let to = language.words.to;
        let words = [
            cardinal(first),
            cardinal(second),
            to.to_owned(),
            cardinal(last),
        ];
        return Reading::new(words.join(" "), verses.used);
    }
    let words = format!(
        "{} {} {}",
        cardinal(first),
        language.words.to,
        cardinal(second)
    );
    Reading::new(words, scan.used)
}

/// `1:50,000`: the scale of a map or a model, whose second part no time of the day has.
pub(super) fn scale(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let mut scan = cursor.scan();
    if !cursor.starts_word() || cursor.continues_chain() || !scan.take('1') || !scan.take(':') {
        return None;
    }
    let digits = scan.rest;
    let second = ratio_part(&mut scan).filter(|second| *second > 99)?;
    let is_long = digits.len() - scan.rest.len() > 3;
    if !is_long || !scan.ends_word() || scan.rest.starts_with(':') {
        return None;
    }
    let language = setting.language;
    let (one, to) = ((language.cardinal)(1), language.words.to);
    Reading::new(
        format!("{one} {to} {}", (language.cardinal)(second)),
        scan.used,
    )
}

/// Digits without a leading zero, possibly in groups.
fn ratio_part(scan: &mut Scan<'_>) -> Option<u64> {
    let mut grouped = *scan;
    if let Some(number) = Number::read(&mut grouped)
        && number.grouped
        && scan.rest[..grouped.used - scan.used].contains(',')
    {
        *scan = grouped;
        return number.integer();
    }
    let digits = scan.digits();
    let plain = (1..=4).contains(&digits.len()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain)
}

/// `0x1F`, `0b101`, digit by digit.
pub(super) fn hexadecimal(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let mut scan = cursor.scan();
    if !cursor.starts_word() || !scan.take('0') {
        return None;
    }
    let base = scan.take_any(&['x', 'X', 'b'])?;
    let digits = match base {
        'b' => scan.take_while(|c| matches!(c, '0' | '1')),
        _ => scan.take_while(|c| c.is_ascii_hexdigit()),
    };
    if digits.is_empty() || !scan.ends_word() {
        return None;
    }
    let language = setting.language;
    let digits = super::telephones::spelt(language, digits);
    let base = base.to_ascii_uppercase();
    Reading::new(
        format!("{} {base} {digits}", language.one_by_one("0")),
        scan.used,
    )
}

/// `1.5e-3`, `1e6`.
pub(super) fn scientific(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    if !cursor.starts_word() || cursor.continues_chain() {
        return None;
    }
    let mut scan = cursor.scan();
    let number = Number::read(&mut scan)?;
    let mark = scan.take_any(&['e', 'E'])?;
    let negative = scan.take_any(&['-', '−']).is_some();
    scan.take('+');
    let digits = scan.digits();
    // `3E5` may be a code.
    let certain = number.part.is_some() || mark == 'e' || negative;
    if !certain || !(1..=3).contains(&digits.len()) || !scan.ends_word() || scan.goes_on_as_chain()
    {
        return None;
    }
    let words = &language.words;
    let sign = match negative {
        true => format!("{} ", words.minus),
        false => String::new(),
    };
    let power = format!(
        "{} {} {} {} {sign}{}",
        number.words(language),
        words.times,
        words.ten,
        words.to_the_power_of,
        (language.cardinal)(digits.parse().ok()?)
    );
    match super::measures::unit_after(language, &mut scan) {
        Some(unit) => Reading::new(format!("{power} {}", unit.several), scan.used),
        None => Reading::new(power, scan.used),
    }
}

/// Any number that no other rule matched.
pub(super) fn number(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let mut scan = cursor.scan();
    // The full stop of `Nos.5` is not a decimal point.
    // Nor is the last one of `10...20`.
    let dotted = cursor.previous() == Some('.');
    if scan.rest.starts_with('.') && (!cursor.starts_word() || dotted) {
        return None;
    }
    let number = Number::read(&mut scan)?;
    if number.part.is_some() || number.grouped {
        let mut words = number.words(language);
        if let Some(name) = magnitude(language, number.part.is_some(), &mut scan) {
            words = format!("{words} {name}");
            // `1.5M km`
            let mut measured = scan;
            if scan.rest.starts_with(' ')
                && let Some(unit) = super::measures::unit_after(language, &mut measured)
            {
                words = format!("{words} {}", unit.several);
                scan = measured;
            }
        } else if number.part.is_some() {
            // `7.2-millimeter`: after a decimal point the hyphen would be read as a minus sign.
            let mut noun = scan;
            if noun.take('-') && noun.peek().is_some_and(char::is_alphabetic) {
                words.push(' ');
                scan = noun;
            }
        }
        return Reading::new(words, scan.used);
    }
    let Some(value) = number.integer() else {
        return Reading::new(language.one_by_one(&number.whole), scan.used);
    };
    let mut large = scan;
    if let Some(name) =
        magnitude(language, false, &mut large).filter(|_| !scan.rest.starts_with(' '))
    {
        let words = format!("{} {name}", (language.cardinal)(value));
        return Reading::new(words, large.used);
    }
    // `720p`: the lines of a screen.
    let mut lines = scan;
    if number.whole.len() == 3
        && (lines.take('p') || lines.take('i'))
        && lines.ends_word()
        && cursor.starts_word()
    {
        let (head, rest) = ((language.cardinal)(value / 100), language.pair(value % 100));
        return Reading::new(format!("{head} {rest}"), scan.used);
    }
    let alone = cursor.starts_word() && scan.ends_word();
    let words = match number.whole.len() {
        4 if !alone => match YEARS.contains(&value) || EARLY_YEARS.contains(&value) {
            true => (language.year)(value),
            false => language.one_by_one(&number.whole),
        },
        0..=2 => (language.cardinal)(value),
        _ if is_code(language, cursor) => language.one_by_one(&number.whole),
        4.. if cursor.previous() == Some('#') => language.one_by_one(&number.whole),
        3 => (language.cardinal)(value),
        4 if is_year(language, cursor, &scan, value) => (language.year)(value),
        4..=PLAIN_DIGITS_MAX => (language.cardinal)(value),
        _ if alone && is_amount(cursor, &scan, value) => (language.cardinal)(value),
        _ => language.one_by_one(&number.whole),
    };
    Reading::new(words, scan.used)
}

/// A word such as `million` after a number and one space.
fn magnitude<'l>(language: &'l Language, has_part: bool, scan: &mut Scan<'_>) -> Option<&'l str> {
    /// What is run over so many kilometres: `a 5k run`.
    const RUNS: [&str; 6] = ["run", "runs", "race", "races", "runner", "walk"];
    let mut ahead = *scan;
    let apart = ahead.space();
    let word = ahead.letters();
    let run = ahead.rest.starts_with(' ') && RUNS.contains(&first_word(ahead.rest));
    // Single letters may be anything, but not before what is counted: `1M users`. `5bn` and `50k`
    // are numbers without a currency too; `4K` is not.
    let counts = ahead.rest.starts_with(' ') && is_counted(first_word(ahead.rest));
    let large = |short: &str| match word {
        // After a decimal part they are nothing else: `1.5M`.
        "M" | "B" => (counts || has_part && ahead.ends_word()) && word.eq_ignore_ascii_case(short),
        "k" => !run && short == word && ahead.ends_word() && !ahead.goes_on_as_chain(),
        _ => word == short && short.len() > 1,
    };
    let (_, name) = (language.magnitudes.iter()).find(|(short, name)| match apart {
        true => short == name && word.eq_ignore_ascii_case(name),
        false => large(short),
    })?;
    *scan = ahead;
    Some(name)
}

/// Whether a word shortly before indicates a code.
fn is_code(language: &Language, cursor: &Cursor<'_>) -> bool {
    let before = cursor.before().trim_end();
    let mut words = before
        .rsplit(|c: char| c.is_whitespace())
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    let last = words.next().unwrap_or("");
    let second = words.next().unwrap_or("");
    const LINKS: &[&str] = &["is", "number", "no", "in", "was"];
    holds(language.code_words, last)
        || (holds(LINKS, last) && (holds(language.code_words, second) || second == "ending"))
}

fn is_year(language: &Language, cursor: &Cursor<'_>, scan: &Scan<'_>, value: u64) -> bool {
    let announced = holds(language.year_words, cursor.previous_word());
    let next = first_word(scan.rest);
    if language.words.bc.contains(&next) {
        return YEARS.contains(&value);
    }
    let counted = is_counted(next) && scan.rest.starts_with(' ');
    // `Q1 2024 results`
    let quarter = cursor.previous_word();
    if matches!(quarter, "Q1" | "Q2" | "Q3" | "Q4" | "H1" | "H2" | "FY") {
        return YEARS.contains(&value);
    }
    if EARLY_YEARS.contains(&value) {
        return announced && !counted;
    }
    YEARS.contains(&value) && !counted
}

/// Whether a number of five digits or more is an amount: something is counted, or a round number is
/// part of a sentence.
fn is_amount(cursor: &Cursor<'_>, scan: &Scan<'_>, value: u64) -> bool {
    let next = first_word(scan.rest);
    let counts = scan.rest.starts_with(' ') && next.starts_with(char::is_lowercase);
    let before = cursor.previous_word();
    let in_sentence = before.starts_with(char::is_lowercase) && !is_capitalised(before);
    counts || (value.is_multiple_of(100) && in_sentence)
}
