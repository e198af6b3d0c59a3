//! Dates, decades, and the years in dates.

use super::{Reading, Setting};
use crate::text::normalise::language::{Language, Month, holds};
use crate::text::normalise::scan::{Cursor, Scan, first_word, is_capitalised};

/// Years in dates.
const YEARS: std::ops::Range<u64> = 1000..3000;
/// Years that may stand beside a month in digits.
const RECENT_YEARS: std::ops::Range<u64> = 1900..2100;

/// `July 25, 2012`, `25 July 2012`, `2016/07/03`, `15.01.2020`, `Jan-15`.
pub(super) fn date(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    if !cursor.starts_word() || cursor.continues_chain() {
        return None;
    }
    let language = setting.language;
    let scan = cursor.scan();
    let article = !cursor
        .previous_word()
        .eq_ignore_ascii_case(language.words.the);
    let forms: [Form<'_>; 7] = [
        &|scan| in_digits(language, article, scan),
        &|scan| month_and_day(language, cursor, scan),
        &|scan| month_and_year(language, scan),
        &|scan| months(language, scan),
        &|scan| month_first(language, cursor, scan),
        &|scan| day_first(language, article, scan),
        &|scan| month_alone(language, scan),
    ];
    forms.iter().find_map(|form| {
        let mut ahead = scan;
        let words = form(&mut ahead)?;
        with_stop(setting, cursor, words, ahead.used)
    })
}

/// A date, with the full stop of its last month's abbreviation if that also ends the sentence.
fn with_stop(
    setting: &Setting,
    cursor: &Cursor<'_>,
    words: String,
    length: usize,
) -> Option<Reading> {
    let (written, rest) = cursor.rest().split_at(length);
    let ends = written.ends_with('.') && super::abbreviations::ends_sentence(setting, rest);
    Reading::new(format!("{words}{}", if ends { "." } else { "" }), length)
}

/// A date format: returns its words and advances the scan.
type Form<'f> = &'f dyn Fn(&mut Scan<'_>) -> Option<String>;

fn day_before_month(language: &Language, article: bool, day: u64, month: &Month) -> String {
    let words = format!(
        "{} {} {}",
        (language.ordinal)(day),
        language.words.of,
        month.name
    );
    match article {
        true => format!("{} {words}", language.words.the),
        false => words,
    }
}

fn year_words(language: &Language, digits: &str) -> Option<String> {
    let value: u64 = digits.parse().ok()?;
    match digits.len() {
        2 => Some(language.pair(value)),
        4 if YEARS.contains(&value) => Some((language.year)(value)),
        _ => None,
    }
}

/// `2016/07/03`, `01.10.2010`, `01/07/98`: the month follows a leading year; otherwise it comes
/// first if it can.
fn in_digits(language: &Language, article: bool, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let first = ahead.digits();
    let mark = ahead.take_any(&['-', '/', '.'])?;
    let second = ahead.digits();
    if !ahead.take(mark) {
        return None;
    }
    let third = ahead.digits();
    let (year, month, day, day_leads) = match (first.len(), second.len(), third.len()) {
        (4, 1..=2, 1..=2) => (first, second, third, false),
        (1..=2, 1..=2, 4 | 2) if mark != '.' || third.len() == 4 || first.len() == 2 => {
            let month_can_lead = (1..=12).contains(&first.parse::<u64>().ok()?);
            match month_can_lead {
                true => (third, first, second, false),
                false => (third, second, first, true),
            }
        }
        _ => return None,
    };
    let month: usize = month.parse().ok()?;
    let day: u64 = day.parse().ok()?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let at_time =
        ahead.rest.starts_with('T') && ahead.rest[1..].starts_with(|c: char| c.is_ascii_digit());
    let decimal = ahead
        .rest
        .strip_prefix('.')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if !(ahead.ends_word() || at_time) || ahead.goes_on_as_chain() || decimal {
        return None;
    }
    let month = &language.months[month - 1];
    let year = year_words(language, year)?;
    let mut words = match day_leads {
        true => format!("{} {year}", day_before_month(language, article, day, month)),
        false => format!("{} {}, {year}", month.name, (language.ordinal)(day)),
    };
    if at_time {
        let mut clock = ahead;
        clock.take('T');
        if let Some(time) = super::times::time_words(language, &mut clock) {
            words = format!("{words} {time}");
            ahead = clock;
        }
    }
    *scan = ahead;
    Some(words)
}

/// `on 3/4`, `Friday, 12/25`: without such words it is a fraction.
fn month_and_day(language: &Language, cursor: &Cursor<'_>, scan: &mut Scan<'_>) -> Option<String> {
    let before = cursor.previous_word();
    let sure = before.eq_ignore_ascii_case(language.words.on)
        || language.weekday(before).is_some()
        || holds(language.dated, before);
    let mut ahead = *scan;
    let month: usize = ahead.digits().parse().ok()?;
    if !ahead.take('/') || !(1..=12).contains(&month) {
        return None;
    }
    let (day, _) = day(language, &mut ahead)?;
    // `by 11/30`: nobody counts in thirtieths, but in sixteenths.
    let likely = holds(language.deadlines, before) && day > 12 && !matches!(day, 16 | 20 | 25);
    (sure || likely).then_some(())?;
    let of = first_word(ahead.rest) == language.words.of;
    if of || ahead.goes_on_as_chain() {
        return None;
    }
    *scan = ahead;
    Some(format!(
        "{} {}",
        language.months[month - 1].name,
        (language.ordinal)(day)
    ))
}

/// `10/2020`, `2020/10`, `2020-10`, `2019/20`.
fn month_and_year(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let first = ahead.digits();
    let mark = ahead.take_any(&['/', '-'])?;
    let second = ahead.digits();
    if mark == '-' && first.len() != 4 {
        return None;
    }
    let (month, year) = match (first.len(), second.len()) {
        (2, 4) => (first, second),
        (4, 2) => (second, first),
        (4, 4) if mark == '/' => return school_year(language, first, second, ahead, scan),
        _ => return None,
    };
    if let Some(words) = season(language, first, second).filter(|_| ahead.ends_word()) {
        *scan = ahead;
        return Some(words);
    }
    let month: usize = month.parse().ok()?;
    let recent = RECENT_YEARS.contains(&year.parse().ok()?);
    // `10/2000 of a second` is a fraction.
    let of = first_word(ahead.rest) == language.words.of;
    if !(1..=12).contains(&month) || !recent || of || !ahead.ends_word() || ahead.goes_on_as_chain()
    {
        return None;
    }
    let words = format!(
        "{} {}",
        language.months[month - 1].name,
        year_words(language, year)?
    );
    *scan = ahead;
    Some(words)
}

/// `2019/20`: a year and the next one's last two digits, where they cannot be a month.
fn season(language: &Language, first: &str, second: &str) -> Option<String> {
    let (from, to): (u64, u64) = (first.parse().ok()?, second.parse().ok()?);
    let follows = first.len() == 4 && to == (from + 1) % 100 && (to > 12 || to == 0);
    let last = match to {
        0 => (language.year)(from + 1),
        _ => (language.cardinal)(to),
    };
    (follows && RECENT_YEARS.contains(&from)).then(|| format!("{} {last}", (language.year)(from)))
}

/// `2023/2024`: a year and the next one.
fn school_year<'a>(
    language: &Language,
    first: &str,
    second: &str,
    after: Scan<'a>,
    scan: &mut Scan<'a>,
) -> Option<String> {
    let (from, to): (u64, u64) = (first.parse().ok()?, second.parse().ok()?);
    let follows = to == from + 1 && RECENT_YEARS.contains(&from);
    (follows && after.ends_word() && !after.goes_on_as_chain()).then_some(())?;
    *scan = after;
    Some(format!("{} {}", (language.year)(from), (language.year)(to)))
}

/// `5–9 November`, `3-5 Jan. 2024`: days of one month.
pub(super) fn days(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let mut scan = cursor.scan();
    let (first, _) = day(language, &mut scan)?;
    super::ranges::dash(&mut scan)?;
    let (last, ending) = day(language, &mut scan)?;
    if first >= last || !scan.space() {
        return None;
    }
    let (month, sure) = month(language, &mut scan)?;
    let year = year_after(language, &mut scan);
    // `1-5 may be enough`.
    let meant = sure || ending || year.is_some() || ends_phrase(language, scan.rest);
    if !meant || !scan.ends_word() {
        return None;
    }
    let words = &language.words;
    let article = cursor.previous_word().eq_ignore_ascii_case(words.the);
    let mut spoken = format!(
        "{}{} {} {}",
        if article {
            String::new()
        } else {
            format!("{} ", words.the)
        },
        (language.ordinal)(first),
        words.to,
        day_before_month(language, true, last, month)
    );
    if let Some(year) = year {
        spoken = format!("{spoken} {year}");
    }
    with_stop(setting, cursor, spoken, scan.used)
}

/// A month's name or abbreviation, and whether it is unambiguous.
fn month(language: &'static Language, scan: &mut Scan<'_>) -> Option<(&'static Month, bool)> {
    let mut ahead = *scan;
    let word = ahead.letters();
    let months = &language.months;
    for month in months {
        let long = word.eq_ignore_ascii_case(month.name);
        let short = month
            .short
            .iter()
            .any(|short| word.eq_ignore_ascii_case(short));
        if !long && !short {
            continue;
        }
        // The abbreviation of March is unambiguous beside a day.
        let sure = !month.ambiguous || is_capitalised(word) || short;
        if short {
            ahead.take('.');
        }
        *scan = ahead;
        return Some((month, sure));
    }
    None
}

/// A day of the month, and whether it has an ordinal ending.
fn day(language: &Language, scan: &mut Scan<'_>) -> Option<(u64, bool)> {
    let mut ahead = *scan;
    let digits = ahead.digits();
    if !(1..=2).contains(&digits.len()) {
        return None;
    }
    let value: u64 = digits.parse().ok().filter(|day| (1..=31).contains(day))?;
    let ending = ahead.take_ignoring_case((language.ordinal_ending)(value));
    let decimal = ahead
        .rest
        .strip_prefix(['.', ',', ':'])
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    // `20/Jan` is one, `3/4` is not.
    let fraction =
        (ahead.rest.strip_prefix('/')).is_some_and(|rest| !rest.starts_with(char::is_alphabetic));
    if !ahead.ends_word() || decimal || fraction || ahead.rest.starts_with(['%', '°']) {
        return None;
    }
    *scan = ahead;
    Some((value, ending))
}

/// A year after a day or a month: `, 2012`, ` 2012`, ` '98`, `-2020`, `/2020`.
fn year_after(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    if ahead.take_any(&['-', '/']).is_none() {
        ahead.take(',');
        if !ahead.space() {
            return None;
        }
    }
    let short = ahead.take_any(&['\'', '’']).is_some();
    let digits = ahead.digits();
    if digits.len() != if short { 2 } else { 4 }
        || !ahead.ends_word()
        || ahead.rest.starts_with(':')
    {
        return None;
    }
    let words = year_words(language, digits)?;
    *scan = ahead;
    Some(words)
}

/// `Jan-Mar`, `June–July 2015`: from one month to another.
fn months(language: &'static Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let (first, _) = month(language, &mut ahead)?;
    super::ranges::dash(&mut ahead)?;
    let (last, _) = month(language, &mut ahead)?;
    let capitals = is_capitalised(scan.rest);
    let ends = ahead.ends_word();
    let mut words = format!("{} {} {}", first.name, language.words.to, last.name);
    let year = year_after(language, &mut ahead);
    if !(capitals || year.is_some()) || !ends {
        return None;
    }
    if let Some(year) = year {
        words = format!("{words} {year}");
    }
    *scan = ahead;
    Some(words)
}

/// `July 25`, `July 25th, 2012`, `Jan. 5-7`, `Jan. 28 - Feb. 2`.
fn month_first(
    language: &'static Language,
    cursor: &Cursor<'_>,
    scan: &mut Scan<'_>,
) -> Option<String> {
    let mut ahead = *scan;
    let (month, sure) = month(language, &mut ahead)?;
    ahead.take_any(&[' ', '-'])?;
    let mut article = ahead;
    if article.take_ignoring_case(language.words.the) && article.space() {
        ahead = article;
    }
    let (first, ending) = day(language, &mut ahead)?;
    let mut words = format!("{} {}", month.name, (language.ordinal)(first));
    // `may 5, the day`, but not `may 5 people come`.
    let mut meant = ends_phrase(language, ahead.rest) && !is_verb_before(language, cursor);
    let mut last = ahead;
    if super::ranges::dash(&mut last).is_some() {
        let mut other = last;
        if let Some((day, _)) = day(language, &mut last)
            && day > first
        {
            words = format!("{words} {} {}", language.words.to, (language.ordinal)(day));
            meant = ends_phrase(language, last.rest) && !is_verb_before(language, cursor);
            ahead = last;
        } else if let Some((next, _)) = self::month(language, &mut other)
            && other.space()
            && let Some((day, _)) = day(language, &mut other)
        {
            let day = (language.ordinal)(day);
            words = format!("{words} {} {} {day}", language.words.to, next.name);
            ahead = other;
        }
    }
    let year = year_after(language, &mut ahead);
    if !sure && !ending && year.is_none() && !meant {
        return None;
    }
    if let Some(year) = year {
        words = format!("{words}, {year}");
    }
    *scan = ahead;
    Some(words)
}

/// `25 July`, `25th of July 2012`, `15-Jan-2020`.
fn day_first(language: &'static Language, article: bool, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let (value, ending) = day(language, &mut ahead)?;
    // `20 Jan`, `20-Jan-2020`, `20/Jan/2020`
    ahead.take_any(&[' ', '-', '/'])?;
    let mut of = ahead;
    if of.take_ignoring_case(language.words.of) && of.space() {
        ahead = of;
    }
    let (month, sure) = month(language, &mut ahead)?;
    if !ahead.ends_word() {
        return None;
    }
    let year = year_after(language, &mut ahead);
    if !(sure || ending || year.is_some() || ends_phrase(language, ahead.rest)) {
        return None;
    }
    let words = day_before_month(language, article, value, month);
    *scan = ahead;
    Some(match year {
        Some(year) => format!("{words} {year}"),
        None => words,
    })
}

/// Whether a month's name in small letters is a verb, as in `they march 5, then` and `you may, 5`:
/// somebody is named before it.
fn is_verb_before(language: &Language, cursor: &Cursor<'_>) -> bool {
    let before = cursor.before().trim_end();
    let word = cursor.previous_word();
    let announced = word == language.words.on
        || [language.year_words, language.dated, language.deadlines]
            .iter()
            .any(|words| holds(words, word));
    !before.is_empty()
        && !before.ends_with([',', ';', ':', '.', '(', '-'])
        && !announced
        && language.weekday(word).is_none()
}

/// Whether a phrase may end before `rest`: it does not in `15 may be enough`.
fn ends_phrase(language: &Language, rest: &str) -> bool {
    let next = first_word(rest);
    let linked = [language.words.and, language.words.to, language.words.of].contains(&next);
    !rest.starts_with(' ') || linked || next.starts_with(|c: char| c.is_ascii_digit())
}

/// `July 1876`, `Jan. 2020`, and abbreviations with a full stop alone: `in Sept.`.
fn month_alone(language: &'static Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let (found, sure) = month(language, &mut ahead)?;
    let written = &scan.rest[..ahead.used - scan.used];
    if let Some(year) = year_after(language, &mut ahead) {
        *scan = ahead;
        return Some(format!("{} {year}", found.name));
    }
    // `On the mar.` and `You may.` are not months.
    let short = written.strip_suffix('.')?;
    if !sure || !is_capitalised(short) {
        return None;
    }
    *scan = ahead;
    Some(found.name.to_owned())
}

/// `the winter of '69`.
pub(super) fn short_year(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let mut scan = cursor.scan();
    if cursor.previous().is_some_and(|c| c != ' ') {
        return None;
    }
    scan.take_any(&['\'', '’'])?;
    let value = scan.exact_digits(2)?.parse().ok()?;
    // Between quotation marks it is any number.
    if !scan.ends_word() || scan.rest.starts_with(['\'', '’']) {
        return None;
    }
    Reading::new(setting.language.pair(value), scan.used)
}

/// `1980s`, `'80s`, `80's` before nothing else.
pub(super) fn decade(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    if cursor.previous().is_some_and(char::is_alphanumeric) {
        return None;
    }
    let mut scan = cursor.scan();
    let words = decade_words(setting.language, &mut scan)?;
    // `wait 30s`, `timeout=30s`: seconds.
    let short = cursor.rest()[..scan.used].len() == "30s".len();
    let timed = holds(setting.language.timed, cursor.previous_word())
        || cursor
            .previous()
            .is_some_and(|c| matches!(c, '=' | '<' | '>' | '~' | '≈' | '+'));
    (!short || !timed).then_some(())?;
    Reading::new(words, scan.used)
}

/// A decade's words.
pub(super) fn decade_words(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let short = ahead.take_any(&['\'', '’']).is_some();
    let digits = ahead.digits();
    let value: u64 = digits.parse().ok()?;
    let fits = match digits.len() {
        2 => value.is_multiple_of(10) && value >= 20,
        4 => !short && value.is_multiple_of(10) && YEARS.contains(&value),
        _ => false,
    };
    ahead.take_any(&['\'', '’']);
    if !fits || !ahead.take('s') || !ahead.ends_word() {
        return None;
    }
    *scan = ahead;
    let words = match digits.len() {
        2 => (language.cardinal)(value),
        _ => (language.year)(value),
    };
    Some((language.plural)(&words))
}
