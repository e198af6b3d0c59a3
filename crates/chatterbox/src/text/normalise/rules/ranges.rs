//! Ranges: two values of one kind with a dash between them.

use super::dates::{days, decade_words};
use super::measures::unit_after;
use super::money::{amount, spread};
use super::numbers::ordinal_words;
use super::times::time_words;
use super::{Part, Reading, Setting};
use crate::text::normalise::language::Language;
use crate::text::normalise::number::Number;
use crate::text::normalise::scan::{Cursor, Scan};

/// Operators, beside which a hyphen between numbers is a minus sign.
const OPERATORS: [char; 7] = ['=', '+', '*', '×', '÷', '^', '≠'];

/// `1980-1986`, `5pm-7 pm`, `$250–$300`, `2-5lb`, `40–60 °C`.
pub(super) fn range(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    if !cursor.starts_word() || cursor.continues_chain() {
        return None;
    }
    if let Some(reading) = days(setting, cursor).or_else(|| spread(language, cursor)) {
        return Some(reading);
    }
    let kinds: [Part; 4] = [time_words, amount, decade_words, ordinal_words];
    for kind in kinds {
        let mut scan = cursor.scan();
        if let Some(first) = kind(language, &mut scan)
            && dash(&mut scan).is_some()
            && let Some(second) = kind(language, &mut scan)
            && scan.ends_word()
        {
            return joined(language, &first, &second, scan.used);
        }
    }
    if let Some(reading) = time_and_hour(language, cursor) {
        return Some(reading);
    }
    let mut scan = cursor.scan();
    let low = Number::read(&mut scan)?;
    // The left side may also have a unit: `5 km - 10 km`.
    let mut left = scan;
    let left_unit = unit_after(language, &mut left);
    if left_unit.is_some() {
        scan = left;
    }
    let dash = dash(&mut scan)?;
    if let (None, mut late) = (&left_unit, scan)
        && low.whole.len() <= 2
        && low.part.is_none()
        && let Some(time) = time_words(language, &mut late)
    {
        return joined(language, &low.words(language), &time, late.used);
    }
    // `-10--5`, `-10–-5`.
    let mut signed = scan;
    if signed.take_any(&['-', '−']).is_some()
        && let Some(number) = Number::read(&mut signed)
    {
        let minus = language.words.minus;
        let second = format!("{minus} {}", number.words(language));
        let mut measured = signed;
        if let Some(unit) = unit_after(language, &mut measured) {
            let second = format!("{second} {}", unit.several);
            return joined(language, &low.words(language), &second, measured.used);
        }
        if signed.ends_word() {
            return joined(language, &low.words(language), &second, signed.used);
        }
    }
    let high = Number::read(&mut scan)?;
    let ascending = low.approximately() < high.approximately();
    if let Some(unit) = unit_after(language, &mut scan) {
        let first = match left_unit.filter(|left| left.several != unit.several) {
            Some(left) => format!("{} {}", low.words(language), left.of(low.is_one())),
            None => low.words(language),
        };
        let second = format!("{} {}", high.words(language), unit.of(high.is_one()));
        return joined(language, &first, &second, scan.used);
    }
    // `5-10x`
    let mut several = scan;
    if ascending && several.take('x') && several.ends_word() {
        let second = format!("{} {}", high.words(language), language.words.times);
        return joined(language, &low.words(language), &second, several.used);
    }
    if left_unit.is_some() || !scan.ends_word() || scan.goes_on_as_chain() {
        return None;
    }
    let behind = scan.rest.trim_start();
    if cursor.before().trim_end().ends_with(OPERATORS) || behind.starts_with(OPERATORS) {
        let words = format!(
            "{} {} {}",
            low.words(language),
            language.words.minus,
            high.words(language)
        );
        return Reading::new(words, scan.used);
    }
    // `12-3456789`: a code in two parts; a round number is no code.
    let digits = |number: &Number<'_>| match number.grouped {
        true => 0,
        false => number.whole.len(),
    };
    let long = digits(&high) > 4 && digits(&high) > digits(&low) + 2;
    let is_round = high.part.is_some() || high.whole.ends_with("00");
    if long && !is_round {
        return None;
    }
    // `2005 - 2008`
    let is_year = |number: &Number<'_>| {
        let year = number.integer();
        digits(number) == 4 && year.is_some_and(|year| super::numbers::YEARS.contains(&year))
    };
    if dash == Dash::Spaced && !(ascending && is_year(&low) && is_year(&high)) {
        return None;
    }
    if let Some(years) = years(language, &low, &high) {
        return joined(language, &years[0], &years[1], scan.used);
    }
    if is_month_of_year(&low, &high) {
        return None;
    }
    let from = cursor
        .previous_word()
        .eq_ignore_ascii_case(language.words.from);
    if !ascending && !from && !is_day_of_work(language, cursor, &low, &high) {
        // A score, or a number in two parts.
        let words = format!("{} - {}", low.words(language), high.words(language));
        return Reading::new(words, scan.used);
    }
    joined(
        language,
        &low.words(language),
        &high.words(language),
        scan.used,
    )
}

/// `8:30–9`, `John 3:16-18`: a time, or a verse, to a number without minutes.
fn time_and_hour(language: &Language, cursor: &Cursor<'_>) -> Option<Reading> {
    let mut scan = cursor.scan();
    let first = time_words(language, &mut scan)?;
    let whole = cursor.rest()[..scan.used]
        .bytes()
        .all(|c| c.is_ascii_digit() || c == b':');
    (dash(&mut scan)? == Dash::Close && whole).then_some(())?;
    let digits = scan.digits();
    if !(1..=2).contains(&digits.len()) || !scan.ends_word() || scan.goes_on_as_chain() {
        return None;
    }
    // `3:16-18.5` and `10:30-2:` are something else.
    let goes_on = scan.rest.starts_with(':')
        || (scan.rest.strip_prefix('.'))
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let last = (language.cardinal)(digits.parse().ok()?);
    (!goes_on).then(|| joined(language, &first, &last, scan.used))?
}

/// `Mon-Fri 9-5`: from the morning to the evening.
fn is_day_of_work(
    language: &Language,
    cursor: &Cursor<'_>,
    low: &Number<'_>,
    high: &Number<'_>,
) -> bool {
    let hours = |number: &Number<'_>| {
        number
            .integer()
            .is_some_and(|hour| (1..=12).contains(&hour))
    };
    let before = cursor.previous_word();
    let last = before.rsplit(['-', '–']).next().unwrap_or("");
    hours(low) && hours(high) && language.weekday(last).is_some()
}

/// `A-Z`, `A–F`: letters far enough apart that no name is meant.
pub(super) fn letters(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    const APART_MIN: u32 = 3;
    if !cursor.starts_word() || cursor.continues_chain() {
        return None;
    }
    let mut scan = cursor.scan();
    let first = scan.peek().filter(char::is_ascii_alphabetic)?;
    scan.skip(1);
    scan.take_any(&['-', '–'])?;
    let last = scan.peek().filter(char::is_ascii_alphabetic)?;
    scan.skip(1);
    let ascending = u32::from(last) >= u32::from(first) + APART_MIN;
    let one_case = first.is_ascii_uppercase() == last.is_ascii_uppercase();
    // `(D-N.Y.)`: initials.
    let initials =
        (scan.rest.strip_prefix('.')).is_some_and(|rest| rest.starts_with(char::is_alphabetic));
    if !ascending || !one_case || !scan.ends_word() || scan.goes_on_as_chain() || initials {
        return None;
    }
    let (first, last) = (first.to_ascii_uppercase(), last.to_ascii_uppercase());
    joined(
        setting.language,
        &first.to_string(),
        &last.to_string(),
        scan.used,
    )
}

fn joined(language: &Language, first: &str, second: &str, length: usize) -> Option<Reading> {
    Reading::new(format!("{first} {} {second}", language.words.to), length)
}

/// `1980-1986`, `1980-86`.
fn years(language: &Language, low: &Number<'_>, high: &Number<'_>) -> Option<[String; 2]> {
    // `2005-06`: the second may begin with a zero.
    let (first, last) = (low.integer()?, high.whole.parse().ok()?);
    high.part.is_none().then_some(())?;
    let year = |number: &Number<'_>, value: u64| {
        !number.grouped && number.whole.len() == 4 && super::numbers::YEARS.contains(&value)
    };
    if !year(low, first) {
        return None;
    }
    let last = match high.whole.len() {
        4 if year(high, last) && first < last => (language.year)(last),
        2 if last > first % 100 => match last {
            0..10 => language.pair(last),
            _ => (language.cardinal)(last),
        },
        _ => return None,
    };
    Some([(language.year)(first), last])
}

/// `2019-12`: a year and a month.
fn is_month_of_year(low: &Number<'_>, high: &Number<'_>) -> bool {
    let year = low
        .integer()
        .filter(|_| low.whole.len() == 4 && !low.grouped);
    let month: Option<u64> = high.whole.parse().ok();
    year.is_some_and(|year| (1900..2100).contains(&year))
        && high.whole.len() == 2
        && high.part.is_none()
        && month.is_some_and(|month| (1..=12).contains(&month))
}

/// The space around a dash.
#[derive(PartialEq, Eq)]
pub(super) enum Dash {
    Close,
    Spaced,
}

/// A hyphen or a dash, possibly between spaces; between spaces only a long dash is certainly a
/// range.
pub(super) fn dash(scan: &mut Scan<'_>) -> Option<Dash> {
    let mut ahead = *scan;
    let spaced = ahead.space();
    let mark = ahead.take_any(&['-', '–', '—', '−', '~'])?;
    if ahead.space() != spaced || (mark == '−' && !spaced) || (mark == '~' && spaced) {
        return None;
    }
    *scan = ahead;
    Some(match spaced && mark != '–' {
        true => Dash::Spaced,
        false => Dash::Close,
    })
}
