//! Numbers with units.

use super::numbers::fraction_words;
use super::{Reading, Setting, modifies_noun};
use crate::text::normalise::language::{Language, Unit, holds};
use crate::text::normalise::number::Number;
use crate::text::normalise::scan::{Cursor, Scan, first_word};

/// Bits per second of the slowest line that people write about.
const BITS_PER_SECOND_MIN: u64 = 300;

/// A unit's words.
pub(super) struct Measured {
    pub one: String,
    pub several: String,
}

impl Measured {
    pub fn of(&self, is_one: bool) -> &str {
        if is_one { &self.one } else { &self.several }
    }
}

/// `12kg`, `3.5 GHz`, `1/2 km`, `12/kg`, `7.2-mm`.
pub(super) fn measure(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    if !cursor.starts_word() {
        return None;
    }
    let mut scan = cursor.scan();
    if let Some(words) = height(language, &mut scan) {
        return Reading::new(words, scan.used);
    }
    if let Some(words) = arc(language, &mut scan) {
        return Reading::new(words, scan.used);
    }
    if cursor.previous() == Some('.') && cursor.rest().starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if let Some(words) = length(language, cursor, &mut scan) {
        return Reading::new(words, scan.used);
    }
    let mut part = scan;
    if let Some(words) = fraction_words(language, &mut part) {
        // `2 1/2`: more than one.
        let mixed = cursor.rest()[..part.used].contains([' ', '-']);
        let mut joined = part;
        if joined.take('-')
            && let Some(unit) = unit(language, &mut joined)
        {
            return Reading::new(format!("{words} {}", unit.one), joined.used);
        }
        if let Some(unit) = unit_after(language, &mut part) {
            // `120/80 mmHg`: more than one.
            let one = !mixed && !words.contains(language.words.over);
            return Reading::new(format!("{words} {}", unit.of(one)), part.used);
        }
    }
    let number = Number::read(&mut scan)?;
    let words = number.words(language);
    if scan.rest.starts_with('/') {
        let mut ahead = scan;
        ahead.take('/');
        if let Some(unit) = unit(language, &mut ahead) {
            return Reading::new(
                format!("{words} {} {}", language.words.per, unit.one),
                ahead.used,
            );
        }
        // `8/day`
        let mut timed = ahead;
        if let Some(name) = period(language, &mut timed)
            && timed.ends_word()
        {
            let words = format!("{words} {} {name}", language.words.per);
            return Reading::new(words, timed.used);
        }
        let letter = ahead.letters();
        if letter.len() == 1 && ahead.ends_word() && !cursor.continues_chain() {
            return Reading::new(
                format!("{words} {} {letter}", language.words.per),
                ahead.used,
            );
        }
        return None;
    }
    // Also singular before a noun: `a 5-km run`.
    if scan.rest.starts_with('-') {
        let mut ahead = scan;
        ahead.take('-');
        // `3-d` has no days.
        let dimensions = ahead.rest.starts_with(['d', 'D']);
        let short = ahead;
        let unit = unit(language, &mut ahead)?;
        let length = ahead.used - short.used;
        if dimensions && length == 1 {
            return None;
        }
        // `room 12-A`, `invoice 00123-A`: a letter behind a number is a unit only before its noun.
        let noun = ahead.rest.strip_prefix([' ', '-']);
        let modifies = noun.is_some_and(|noun| noun.starts_with(char::is_lowercase));
        let code = number.whole.len() > 1 && number.whole.starts_with('0');
        if length == 1 && (!modifies || code) {
            return None;
        }
        // `12-oz. cans`: the full stop of an abbreviation.
        let mut stop = ahead;
        let goes_on = stop.take('.') && stop.space() && stop.peek().is_some_and(char::is_lowercase);
        if goes_on && length <= 3 {
            ahead.take('.');
        }
        return Reading::new(format!("{words} {}", unit.one), ahead.used);
    }
    // `98.6F`, `350F`: too long or too exact for a seat.
    let exact = number.part.is_some() || number.whole.len() == 3;
    if exact && let Some(letter) = scan.take_any(&['F', 'C']) {
        let degrees = if letter == 'F' { "°F" } else { "°C" };
        let unit =
            known(language, degrees).filter(|_| scan.ends_word() && !scan.goes_on_as_chain())?;
        return Reading::new(format!("{words} {}", unit.several), scan.used);
    }
    let unit = unit_after(language, &mut scan)?;
    // `5W-30`, `gate 12A`: a letter, not a unit.
    let mut written = cursor.rest()[..scan.used].chars().rev();
    let letter = written.next().is_some_and(char::is_alphabetic)
        && written.next().is_some_and(|c| c.is_ascii_digit());
    if letter && (scan.goes_on_as_chain() || holds(language.lettered, cursor.previous_word())) {
        return None;
    }
    // `25 bps` of interest: no line is so slow.
    let read = cursor.rest()[..scan.used].strip_suffix("bps");
    let rate = read.is_some_and(|number| !number.ends_with(char::is_alphabetic));
    let slow = number
        .value()
        .is_some_and(|value| value < BITS_PER_SECOND_MIN);
    let unit = (known(language, "basis points").filter(|_| rate && slow)).unwrap_or(unit);
    let noun = scan.rest.starts_with(' ') && holds(language.measured, first_word(scan.rest));
    let one = number.is_one() || noun || modifies_noun(setting, cursor, &scan);
    let mut words = format!("{words} {}", unit.of(one));
    // `10 L/100 km`, but not `6 ft/1.8 m`, the same in other units.
    let mut below = scan;
    if below.take('/')
        && let Some(number) = Number::read(&mut below)
        && let Some(divisor) = unit_after(language, &mut below)
        && !language.same_quantity(&unit.one, &divisor.one)
    {
        let many = number.words(language);
        words = format!("{words} {} {many} {}", language.words.per, divisor.several);
        scan = below;
    }
    Reading::new(words, scan.used)
}

/// `people/km2`, `per km²`, `per min`: a unit without a number that something is counted by. Or its
/// number is a word, as in `2 million km`.
pub(super) fn divisor(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let per = language.words.per;
    let mut scan = cursor.scan();
    let slash = scan.take('/');
    let before = cursor.previous_word();
    let apart = cursor.before().ends_with(' ');
    let divides = match slash {
        true => cursor.previous().is_some_and(char::is_lowercase),
        false => apart && before == per,
    };
    let large = |(short, name): &(&str, &str)| short == name && *name == before;
    let multiplied = !slash && apart && language.magnitudes.iter().any(large);
    if !divides && !multiplied {
        return None;
    }
    let start = scan;
    let unit = unit(language, &mut scan)?;
    let written = &start.rest[..scan.used - start.used];
    let raised = written.ends_with(|c: char| c.is_ascii_digit());
    let sure = |unit: &Unit| {
        unit.distance.allows(true) && written.len() > 1 && unit.short.contains(&written)
    };
    if !scan.ends_word() || !(raised || (!slash && language.units.iter().any(sure))) {
        return None;
    }
    match slash {
        true => Reading::new(format!(" {per} {}", unit.one), scan.used),
        false => Reading::new(unit.of(divides), scan.used),
    }
}

/// `40°42'46"`, with its direction: degrees, minutes and seconds of an arc.
fn arc(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let counted = |number: &Number<'_>, [one, several]: [&str; 2]| {
        let name = if number.is_one() { one } else { several };
        format!("{} {name}", number.words(language))
    };
    let degrees = Number::read(&mut ahead)?;
    ahead.take_any(&['°'])?;
    ahead.space();
    let minutes = Number::read(&mut ahead)?;
    ahead.take_any(&['\'', '’', '′'])?;
    let unit = known(language, "°")?;
    let mut words = vec![
        format!("{} {}", degrees.words(language), unit.of(degrees.is_one())),
        counted(&minutes, language.words.minutes),
    ];
    let mut finer = ahead;
    finer.space();
    if let Some(seconds) = Number::read(&mut finer)
        && (finer.take_any(&['"', '”', '″']).is_some() || finer.take_ignoring_case("′′"))
    {
        words.push(counted(&seconds, language.words.seconds));
        ahead = finer;
    }
    let mut facing = ahead;
    facing.space();
    let letter = facing.letters();
    let named = language
        .directions
        .iter()
        .find(|(short, _)| *short == letter);
    if let Some((_, name)) = named.filter(|_| letter.len() == 1) {
        words.push(name.to_lowercase());
        ahead = facing;
    }
    ahead.ends_word().then_some(())?;
    *scan = ahead;
    Some(words.join(" "))
}

/// `3x a day`, `1.5x faster`: a number of times.
pub(super) fn multiple(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    const AFTER: [&str; 14] = [
        "a", "an", "per", "daily", "weekly", "monthly", "yearly", "faster", "slower", "more",
        "larger", "bigger", "smaller", "better",
    ];
    let language = setting.language;
    if !cursor.starts_word() {
        return None;
    }
    let mut scan = cursor.scan();
    let number = Number::read(&mut scan)?;
    scan.take_any(&['x', '×'])?;
    if !scan.rest.starts_with(' ') || !AFTER.contains(&first_word(scan.rest)) {
        return None;
    }
    let words = format!("{} {}", number.words(language), language.words.times);
    Reading::new(words, scan.used)
}

/// `2x8 m2`, `1920×1080`, `3 x 4`.
pub(super) fn product(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    if !cursor.starts_word() {
        return None;
    }
    let mut scan = cursor.scan();
    let mut words = factor(language, &mut scan)?;
    let mut crossed = false;
    let mut several = false;
    loop {
        let mut ahead = scan;
        let mut measured = scan;
        // `20 cm x 30 cm`, `8.5" x 11"`: each side may have its unit.
        let side = side_unit(language, &mut measured).filter(|_| measured.rest.starts_with(' '));
        if side.is_some() {
            ahead = measured;
        }
        let apart = ahead.space();
        let Some(sign) = ahead.take_any(&['x', 'X', '×', '*']) else {
            break;
        };
        ahead.space();
        let start = ahead.used;
        let Some(mut next) = factor(language, &mut ahead) else {
            break;
        };
        // `1920×1080`: a screen.
        let pixels =
            |written: &str| written.len() >= 3 && written.bytes().all(|c| c.is_ascii_digit());
        let written = cursor.rest();
        let sides = [&written[..scan.used], &written[start..ahead.used]];
        let screen = !apart && sides.iter().all(|side| pixels(side));
        if screen && !several {
            words = in_pairs(language, sides[0]).unwrap_or(words);
            next = in_pairs(language, sides[1]).unwrap_or(next);
        }
        crossed |= sign != 'x' && sign != 'X' && !(sign == '×' && screen);
        if let Some(unit) = side {
            words.push(' ');
            words.push_str(&unit.several);
        }
        words.push(' ');
        words.push('\u{0}');
        words.push(' ');
        words.push_str(&next);
        several = true;
        scan = ahead;
    }
    if !several {
        return None;
    }
    let unit = side_unit(language, &mut scan);
    if !scan.ends_word() {
        return None;
    }
    let between = match (crossed, &unit) {
        (true, None) => language.words.times,
        _ => language.words.by,
    };
    let mut words = words.replace('\u{0}', between);
    if let Some(unit) = unit {
        words.push(' ');
        words.push_str(&unit.several);
    }
    Reading::new(words, scan.used)
}

/// A unit, or the mark of inches or feet, after a side.
fn side_unit(language: &Language, scan: &mut Scan<'_>) -> Option<Measured> {
    let mut ahead = *scan;
    let mark = ahead.take_any(&['"', '″', '\'', '′']);
    let short = match mark {
        Some('"' | '″') => "in.",
        Some(_) => "ft",
        None => return unit_after(language, scan),
    };
    let ends = ahead.rest.is_empty() || ahead.rest.starts_with([' ', ',', '.', ';', ')']);
    let unit = known(language, short).filter(|_| ends)?;
    *scan = ahead;
    Some(unit)
}

/// `2796`: a side of a screen, in pairs of digits.
fn in_pairs(language: &Language, side: &str) -> Option<String> {
    let value = side.parse().ok()?;
    (side.len() == 4).then(|| (language.year)(value))
}

/// A factor of a product; screen sizes are read like years.
fn factor(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let number = Number::read(scan)?;
    Some(match number.integer() {
        Some(value) if !number.grouped && super::numbers::YEARS.contains(&value) => {
            (language.year)(value)
        }
        Some(value) if !number.grouped && (1000..1100).contains(&value) => (language.year)(value),
        _ => number.words(language),
    })
}

/// `5'10"`, `6 ft 2 in`.
fn height(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let feet = ahead.digits();
    if !(1..=2).contains(&feet.len()) || !length_sign(&mut ahead, &['\'', '’', '′'], "ft") {
        return None;
    }
    ahead.space();
    let inches = ahead.digits();
    if !(1..=2).contains(&inches.len()) || !length_sign(&mut ahead, &['"', '”', '″'], "in") {
        return None;
    }
    let foot = known(language, "ft")?;
    let inch = known(language, "in")?;
    let (feet, inches): (u64, u64) = (feet.parse().ok()?, inches.parse().ok()?);
    *scan = ahead;
    // `5'30"`: no foot has so many inches.
    if inches >= 12 {
        let counted = |value: u64, [one, several]: [&str; 2]| {
            let name = if value == 1 { one } else { several };
            format!("{} {name}", (language.cardinal)(value))
        };
        let minutes = counted(feet, language.words.minutes);
        return Some(format!(
            "{minutes} {}",
            counted(inches, language.words.seconds)
        ));
    }
    Some(format!(
        "{} {} {} {}",
        (language.cardinal)(feet),
        foot.of(feet == 1),
        (language.cardinal)(inches),
        inch.of(inches == 1)
    ))
}

/// `5′`, `12″`, and with typewriter marks where they cannot be quotation marks: `a 3" pipe`,
/// `5' tall`.
fn length(language: &Language, cursor: &Cursor<'_>, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let (words, is_one) = match fraction_words(language, &mut ahead) {
        Some(words) => (words, !cursor.rest()[..ahead.used].contains([' ', '-'])),
        None => {
            let number = Number::read(&mut ahead)?;
            (number.words(language), number.is_one())
        }
    };
    let mark = match ahead.rest.starts_with("′′") {
        // What compatibility decomposition makes of a double prime.
        true => ahead.skip("′′".len()).chars().next().map(|_| '″')?,
        false => ahead.take_any(&['\'', '’', '′', '"', '″'])?,
    };
    // Marks of inches before it are no quotation marks.
    let inches = |(at, _): &(usize, &str)| {
        let before = &cursor.before()[..*at];
        before.ends_with(|c: char| c.is_ascii_digit())
    };
    let marks = cursor
        .before()
        .match_indices('"')
        .filter(|mark| !inches(mark));
    let quoted = marks.count() % 2 == 1;
    let plausible = match mark {
        '′' | '″' => true,
        '"' => !quoted && (ahead.rest.is_empty() || ahead.rest.starts_with([' ', ',', '.'])),
        _ => {
            let next = first_word(ahead.rest);
            // `a 6' fence`
            let noun = holds(language.indefinite_articles, cursor.previous_word())
                && next.starts_with(char::is_lowercase)
                && !cursor.before().contains(mark);
            ahead.rest.starts_with(' ') && (noun || holds(language.length_words, next))
        }
    };
    if !plausible || !ahead.ends_word() {
        return None;
    }
    let unit = match mark {
        '"' | '″' => known(language, "in.")?,
        _ => known(language, "ft")?,
    };
    // Singular before a noun, as in `a 3" pipe`.
    let noun = holds(language.articles, cursor.previous_word())
        && first_word(ahead.rest).starts_with(char::is_alphabetic)
        && !holds(language.length_words, first_word(ahead.rest));
    *scan = ahead;
    Some(format!("{} {}", words, unit.of(is_one || noun)))
}

/// `2h30m`, `1h 5m 3s`: hours with minutes, and seconds after them.
pub(super) fn duration(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let mut scan = cursor.scan();
    if !cursor.starts_word() || cursor.continues_chain() {
        return None;
    }
    let units = [
        ('h', language.words.hours),
        ('m', language.words.minutes),
        ('s', language.words.seconds),
    ];
    let mut parts = Vec::new();
    for (letter, [one, several]) in units {
        let mut ahead = scan;
        if !parts.is_empty() {
            ahead.space();
        }
        let digits = ahead.digits();
        if !(1..=3).contains(&digits.len()) || !ahead.take(letter) {
            continue;
        }
        let value: u64 = digits.parse().ok()?;
        let name = if value == 1 { one } else { several };
        parts.push(format!("{} {name}", (language.cardinal)(value)));
        scan = ahead;
    }
    if parts.len() < 2 || !scan.ends_word() {
        return None;
    }
    Reading::new(parts.join(" "), scan.used)
}

/// A sign, or an abbreviation possibly apart from its number.
fn length_sign(scan: &mut Scan<'_>, signs: &[char], short: &str) -> bool {
    if scan.take_any(signs).is_some() {
        return true;
    }
    let mut ahead = *scan;
    ahead.space();
    let found = ahead.take_ignoring_case(short) && ahead.ends_word();
    if found {
        ahead.take('.');
        *scan = ahead;
    }
    found
}

fn known(language: &Language, short: &str) -> Option<Measured> {
    unit(language, &mut Scan::new(short))
}

/// A unit directly after a number, or after one space if it is unambiguous.
pub(super) fn unit_after(language: &Language, scan: &mut Scan<'_>) -> Option<Measured> {
    let mut ahead = *scan;
    let apart = ahead.space();
    let start = ahead;
    let found = unit(language, &mut ahead)?;
    let read = &start.rest[..ahead.used - start.used];
    let written = |unit: &&Unit| unit.short.contains(&read);
    if !(language.units.iter().filter(written)).all(|unit| unit.distance.allows(apart)) {
        return None;
    }
    // `2 tbsp. sugar`: the full stop belongs to the unit if the sentence continues.
    let mut stop = ahead;
    let goes_on = |mut rest: Scan<'_>| {
        // `5 lb. 3 oz`
        let again = Number::read(&mut rest).is_some() && rest.space();
        rest.peek().is_some_and(char::is_lowercase)
            && (!again || unit(language, &mut rest).is_some())
    };
    // In `4-6 hrs., at most` it belongs to the unit too.
    // After a power it ends the sentence, whatever begins the next one.
    let raised = read.ends_with(|c: char| c.is_ascii_digit());
    if !raised && stop.take('.') && (stop.rest.starts_with(", ") || stop.space() && goes_on(stop)) {
        ahead.take('.');
    }
    *scan = ahead;
    Some(found)
}

/// A unit with its power and its divisor.
pub(super) fn unit(language: &Language, scan: &mut Scan<'_>) -> Option<Measured> {
    let mut ahead = *scan;
    let mut measured = simple_unit(language, &mut ahead)?;
    let mut divided = ahead;
    if divided.take('/')
        && let Some(below) = simple_unit(language, &mut divided).or_else(|| {
            period(language, &mut divided).map(|name| Measured {
                one: name.into(),
                several: name.into(),
            })
        })
    {
        for name in [&mut measured.one, &mut measured.several] {
            *name = format!("{name} {} {}", language.words.per, below.one);
        }
        ahead = divided;
    }
    *scan = ahead;
    Some(measured)
}

/// A period after a slash, as in `$20/mo`.
pub(super) fn period<'l>(language: &'l Language, scan: &mut Scan<'_>) -> Option<&'l str> {
    let mut ahead = *scan;
    let word = ahead.letters();
    let (_, name) =
        (language.periods.iter()).find(|(short, _)| short.eq_ignore_ascii_case(word))?;
    *scan = ahead;
    Some(name)
}

fn simple_unit(language: &Language, scan: &mut Scan<'_>) -> Option<Measured> {
    let mut best: Option<(usize, &[&'static str; 2], &str)> = None;
    for unit in language.units {
        for short in unit.short {
            let mut ahead = *scan;
            let loose = short.len() > 2 && short.is_ascii();
            let found = match loose {
                true => ahead.take_ignoring_case(short),
                false => ahead.rest.starts_with(short) && !ahead.skip(short.len()).is_empty(),
            };
            if !found || !ends_unit(&ahead) {
                continue;
            }
            let exact = scan.rest.starts_with(short);
            let length = ahead.used - scan.used;
            let better = match best {
                None => true,
                Some((longest, ..)) => length > longest || (length == longest && exact),
            };
            if better {
                best = Some((length, &unit.names, short));
            }
        }
    }
    let (length, names, _) = best?;
    scan.skip(length);
    let power = power(scan);
    let [one, several] = names;
    let length = ["meter", "foot", "inch", "mile", "yard"]
        .iter()
        .any(|end| one.ends_with(end));
    Some(match power {
        Some(2) if length => Measured {
            one: format!("square {one}"),
            several: format!("square {several}"),
        },
        Some(3) if length => Measured {
            one: format!("cubic {one}"),
            several: format!("cubic {several}"),
        },
        Some(2) => Measured {
            one: format!("{one} {}", language.words.squared),
            several: format!("{several} {}", language.words.squared),
        },
        Some(_) => Measured {
            one: format!("{one} {}", language.words.cubed),
            several: format!("{several} {}", language.words.cubed),
        },
        None => Measured {
            one: (*one).into(),
            several: (*several).into(),
        },
    })
}

/// Whether a unit's abbreviation may end here: at a mark, or before its power.
fn ends_unit(scan: &Scan<'_>) -> bool {
    if scan.ends_word() {
        return true;
    }
    let mut ahead = *scan;
    power(&mut ahead).is_some()
}

/// `2`, `3`, `^2`, `^3`.
fn power(scan: &mut Scan<'_>) -> Option<u8> {
    let mut ahead = *scan;
    ahead.take('^');
    let digits = ahead.digits();
    let power = match digits {
        "2" => 2,
        "3" => 3,
        _ => return None,
    };
    if !ahead.ends_word() {
        return None;
    }
    *scan = ahead;
    Some(power)
}
