//! Times of the day.

use super::{Reading, Setting};
use crate::text::normalise::language::Language;
use crate::text::normalise::scan::{Cursor, Scan, first_word};

/// `7:30`, `5pm`, `1.59 p.m. EST`, `14:10:30`.
pub(super) fn time(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    if !cursor.starts_word() || cursor.continues_chain() {
        return None;
    }
    let mut scan = cursor.scan();
    let words = (lap(setting.language, &mut scan))
        .or_else(|| time_words(setting.language, &mut scan))
        .or_else(|| four_digits(setting.language, cursor, &mut scan))
        .or_else(|| with_letter(setting.language, cursor, &mut scan))?;
    Reading::new(words, scan.used)
}

/// `26:17.53`: minutes, seconds and parts of them, as a race takes.
fn lap(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let digits = ahead.digits();
    let minutes: u64 = digits.parse().ok().filter(|_| digits.len() <= 2)?;
    let seconds = (ahead.take(':')).then(|| sixtieths(&mut ahead))??;
    let part = (ahead.take('.')).then(|| ahead.digits())?;
    if !(1..=3).contains(&part.len()) || !ahead.ends_word() || ahead.goes_on_as_chain() {
        return None;
    }
    *scan = ahead;
    let words = &language.words;
    Some(format!(
        "{} {} {} {}",
        counted(language, minutes, words.minutes),
        words.and,
        point_seconds(language, seconds, part),
        words.seconds[1]
    ))
}

fn counted(language: &Language, value: u64, [one, several]: [&str; 2]) -> String {
    let name = if value == 1 { one } else { several };
    format!("{} {name}", (language.cardinal)(value))
}

fn point_seconds(language: &Language, seconds: u64, part: &str) -> String {
    format!(
        "{} {} {}",
        (language.cardinal)(seconds),
        language.words.point,
        language.one_by_one(part)
    )
}

/// Words before a time of the day.
const AT: [&str; 7] = ["at", "by", "from", "until", "till", "to", "before"];

/// `0600 hrs`, `at 0800`, `at 1900 hours`: a time of the day in four digits.
fn four_digits(language: &Language, cursor: &Cursor<'_>, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let digits = ahead.exact_digits(4)?;
    let (hour, minute): (u64, u64) = (digits[..2].parse().ok()?, digits[2..].parse().ok()?);
    let mut named = ahead;
    let word = if named.space() { named.letters() } else { "" };
    let named = matches!(word, "hours" | "hrs" | "h");
    let announced = AT.contains(&cursor.previous_word().to_ascii_lowercase().as_str());
    let early = digits.starts_with('0');
    // `at 0800`, `0800 hours`, `at 1900 hours`
    let enough = [named, announced, early]
        .iter()
        .filter(|sign| **sign)
        .count()
        > 1;
    if !enough || hour > 23 || minute > 59 || !ahead.ends_word() || ahead.goes_on_as_chain() {
        return None;
    }
    *scan = ahead;
    let minutes = match minute {
        0 => language.words.hundred.to_owned(),
        _ => language.pair(minute),
    };
    Some(format!("{} {minutes}", language.pair(hour)))
}

/// `at 10h15`, `17h30`: hours and minutes around their letter.
fn with_letter(language: &Language, cursor: &Cursor<'_>, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let hour: u64 = ahead.digits().parse().ok().filter(|hour| *hour < 24)?;
    let minute = (ahead.take('h')).then(|| sixtieths(&mut ahead))??;
    if !ahead.ends_word() || ahead.goes_on_as_chain() {
        return None;
    }
    *scan = ahead;
    let announced = AT.contains(&cursor.previous_word().to_ascii_lowercase().as_str());
    if announced || hour > 12 {
        return Some(format!(
            "{} {}",
            (language.cardinal)(hour),
            language.pair(minute)
        ));
    }
    let hours = counted(language, hour, language.words.hours);
    Some(format!(
        "{hours} {}",
        counted(language, minute, language.words.minutes)
    ))
}

/// A time's words.
pub(super) fn time_words(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let digits = ahead.digits();
    if !(1..=2).contains(&digits.len()) {
        return None;
    }
    let hour: u64 = digits.parse().ok().filter(|hour| *hour <= 24)?;
    let hour_words = (language.cardinal)(hour);
    let mut minute = None;
    let mut second = None;
    let mut part = "";
    let mut dotted = false;
    let mut more = ahead;
    if let Some(mark) = more.take_any(&[':', '.'])
        && let Some(value) = sixtieths(&mut more)
    {
        minute = Some(value);
        dotted = mark == '.';
        ahead = more;
        if more.take(':')
            && let Some(value) = sixtieths(&mut more)
        {
            second = Some(value);
            ahead = more;
            if more.take('.') {
                part = more.digits();
                ahead = if part.is_empty() { ahead } else { more };
            }
        }
    }
    let half = half_of_day(language, &mut ahead);
    let zone = zone(language, &mut ahead, half.is_some());
    if (minute.is_none() || dotted) && half.is_none() {
        return None;
    }
    let mut about = ahead;
    let roughly = half.is_none() && about.take_ignoring_case("ish") && about.ends_word();
    if roughly {
        ahead = about;
    }
    if !ahead.ends_word() || ahead.rest.starts_with([':', '%']) {
        return None;
    }
    let mut words = match (minute, second) {
        (Some(minute), Some(second)) => {
            let seconds = match part {
                "" => counted(language, second, language.words.seconds),
                _ => format!(
                    "{} {}",
                    point_seconds(language, second, part),
                    language.words.seconds[1]
                ),
            };
            format!(
                "{} {} {} {seconds}",
                counted(language, hour, language.words.hours),
                counted(language, minute, language.words.minutes),
                language.words.and,
            )
        }
        (None | Some(0), _) if half.is_some() => hour_words,
        (Some(0), _) if (1..=12).contains(&hour) => {
            format!("{hour_words} {}", language.words.o_clock)
        }
        (None | Some(0), _) => format!("{hour_words} {}", language.words.hundred),
        (Some(minute), _) => format!("{hour_words} {}", language.pair(minute)),
    };
    let roughly = roughly.then(|| "ish".to_owned());
    let offset = offset(language, &mut ahead, second.is_some());
    for name in [half, zone, roughly, offset].into_iter().flatten() {
        words.push(' ');
        words.push_str(&name);
    }
    *scan = ahead;
    Some(words)
}

/// `+02:00`, `-0530` directly after a time with seconds: the distance from UTC.
fn offset(language: &Language, scan: &mut Scan<'_>, after_seconds: bool) -> Option<String> {
    let mut ahead = *scan;
    ahead.space();
    let sign = ahead.take_any(&['+', '-', '−']).filter(|_| after_seconds)?;
    let written = ahead.take_while(|c| c.is_ascii_digit() || c == ':');
    let digits = written.replace(':', "");
    if digits.len() != 4 || !ahead.ends_word() {
        return None;
    }
    let (hours, minutes): (u64, u64) = (digits[..2].parse().ok()?, digits[2..].parse().ok()?);
    if hours > 14 || minutes > 59 {
        return None;
    }
    *scan = ahead;
    let words = &language.words;
    let sign = if sign == '+' { words.plus } else { words.minus };
    if hours == 0 && minutes == 0 {
        return Some("UTC".to_owned());
    }
    let hours = (language.cardinal)(hours);
    Some(match minutes {
        0 => format!("UTC {sign} {hours}"),
        _ => format!("UTC {sign} {hours} {}", language.pair(minutes)),
    })
}

fn sixtieths(scan: &mut Scan<'_>) -> Option<u64> {
    scan.exact_digits(2)?
        .parse()
        .ok()
        .filter(|value| *value < 60)
}

/// `am`, `P.M.`, ` a.m`: in capitals, because it is read letter by letter.
fn half_of_day(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    ahead.space();
    let half = ahead.take_any(&['a', 'p', 'A', 'P'])?;
    let dotted = ahead.take('.');
    if dotted {
        let mut spaced = ahead;
        if spaced.space() && spaced.take_any(&['m', 'M']).is_some() {
            ahead.space();
        }
    }
    ahead.take_any(&['m', 'M'])?;
    if dotted {
        let mut stop = ahead;
        // The last full stop also ends the sentence if a new one begins after it.
        if stop.take('.') && !begins_sentence(language, stop.rest) {
            ahead = stop;
        }
    } else if !ahead.ends_word() {
        return None;
    }
    *scan = ahead;
    Some(format!("{}M", half.to_ascii_uppercase()))
}

fn begins_sentence(language: &Language, rest: &str) -> bool {
    let zone = language.time_zones.contains(&first_word(rest));
    rest.strip_prefix(' ')
        .is_some_and(|rest| rest.starts_with(char::is_uppercase) && !zone)
        || rest.starts_with(['?', '!'])
        || rest.starts_with('"')
}

/// `EST`, `e.s.t`, `GMT`.
fn zone(language: &Language, scan: &mut Scan<'_>, after_half: bool) -> Option<String> {
    let mut ahead = *scan;
    ahead.space();
    let word = ahead.take_while(|c| c.is_ascii_alphabetic() || c == '.');
    let plain: String = word.chars().filter(|c| *c != '.').collect();
    let zone = plain.to_ascii_uppercase();
    // In lower case only directly after the half of the day: `at 5 est` may be French.
    let sure = plain == zone || after_half;
    if !sure || !language.time_zones.contains(&zone.as_str()) || (zone.len() < 3 && plain != zone) {
        return None;
    }
    // A full stop that ends the sentence is kept.
    let inner = word.trim_end_matches('.').contains('.');
    let length = if inner {
        word.len()
    } else {
        word.trim_end_matches('.').len()
    };
    let spaces = usize::from(scan.rest.starts_with(' '));
    scan.skip(spaces + length);
    Some(zone)
}
