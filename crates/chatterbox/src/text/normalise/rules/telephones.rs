//! Telephone numbers, other digits in fixed groups, and IP addresses.

use super::{Reading, Setting};
use crate::text::normalise::language::{Language, holds};
use crate::text::normalise::scan::{Cursor, Scan};

/// Separators between groups.
const MARKS: [char; 4] = ['-', '.', ' ', '–'];
/// Verbs before the numbers of emergency and service lines.
const CALLED: [&str; 3] = ["call", "dial", "ring"];
/// Other digits in groups of fixed lengths, and their separators.
const GROUPED: &[(&[usize], &[char])] = &[
    // Social security numbers, local numbers, cards.
    (&[3, 2, 4], &['-']),
    (&[3, 4], &['-', '.']),
    // Postal codes.
    (&[5, 4], &['-']),
    (&[4, 4, 4, 4], &['-', ' ']),
    (&[4, 6, 5], &['-', ' ']),
];

/// A telephone number format: returns the groups and advances the scan.
type Form = fn(&Language, &mut Scan<'_>) -> Option<Vec<String>>;

/// A telephone number, in groups.
pub(super) fn telephone(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let first = cursor.rest().chars().next()?;
    if !cursor.starts_word()
        || cursor.continues_chain()
        || !(first.is_ascii_digit() || matches!(first, '+' | '('))
    {
        return None;
    }
    let forms: [Form; 5] = [with_letters, national, international, trunk, grouped];
    for form in forms {
        let mut scan = cursor.scan();
        if let Some(mut groups) = form(language, &mut scan) {
            extension(language, &mut scan, &mut groups);
            if scan.ends_word() && !scan.goes_on_as_chain() {
                return Reading::new(groups.join(", "), scan.used);
            }
        }
    }
    let mut scan = cursor.scan();
    let digits = scan.digits();
    if digits.len() == 3 && scan.ends_word() && is_called(cursor.before()) {
        return Reading::new(language.one_by_one(digits), scan.used);
    }
    None
}

/// `Call`, `dial 911 or`: what comes before the number of a service line.
fn is_called(before: &str) -> bool {
    let mut words = before.split_whitespace().rev().map(str::to_ascii_lowercase);
    let mut last = words.next();
    if matches!(last.as_deref(), Some("or" | "and")) {
        let number = words.next();
        if !number
            .is_some_and(|number| number.len() == 3 && number.bytes().all(|c| c.is_ascii_digit()))
        {
            return false;
        }
        last = words.next();
    }
    last.is_some_and(|word| CALLED.contains(&word.as_str()))
}

/// `DE89 3704 0044 0532 0130 00`: an international bank account number, group by group.
pub(super) fn account(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    /// Fewest and most characters of an account's number.
    const LENGTH: std::ops::RangeInclusive<usize> = 15..=34;
    const GROUP: usize = 4;
    if !cursor.starts_word() || cursor.continues_chain() {
        return None;
    }
    let mut scan = cursor.scan();
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    let first = scan.take_while(is_part);
    let country = first.get(..2)?.bytes().all(|c| c.is_ascii_uppercase());
    let checked = first.get(2..4)?.bytes().all(|c| c.is_ascii_digit());
    let mut written = first.to_owned();
    while first.len() == GROUP {
        let mut ahead = scan;
        let group = ahead.space().then(|| ahead.take_while(is_part))?;
        if group.is_empty() || group.len() > GROUP || !ahead.ends_word() {
            break;
        }
        written.push_str(group);
        scan = ahead;
        if group.len() < GROUP {
            break;
        }
    }
    let digits = written.bytes().filter(u8::is_ascii_digit).count();
    let fits = country && checked && LENGTH.contains(&written.len()) && 2 * digits > written.len();
    if !fits || !scan.ends_word() || scan.goes_on_as_chain() {
        return None;
    }
    let groups: Vec<String> = (written.as_bytes().chunks(GROUP))
        .map(|group| spelt(setting.language, &String::from_utf8_lossy(group)))
        .collect();
    Reading::new(groups.join(", "), scan.used)
}

/// Digits one by one, except round hundreds.
fn group(language: &Language, digits: &str) -> String {
    match digits.as_bytes() {
        [b'1'..=b'9', b'0', b'0'] => (language.cardinal)(digits.parse().unwrap_or(0)),
        _ => language.one_by_one(digits),
    }
}

/// `+1`, `1-`: the country code of the North American plan.
fn country(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let plus = ahead.take('+');
    if !ahead.take('1') {
        return None;
    }
    let mark = ahead.take_any(&MARKS).is_some();
    if !mark && !ahead.rest.starts_with('(') {
        return None;
    }
    *scan = ahead;
    let one = language.one_by_one("1");
    Some(match plus {
        true => format!("{} {one}", language.words.plus),
        false => one,
    })
}

/// `(123) 123-5678`, `+1 123-123-5678`.
fn national(language: &Language, scan: &mut Scan<'_>) -> Option<Vec<String>> {
    let mut groups: Vec<String> = country(language, scan).into_iter().collect();
    let bracketed = scan.take('(');
    groups.push(group(language, scan.exact_digits(3)?));
    if bracketed && !scan.take(')') {
        return None;
    }
    let marked = scan.take_any(&MARKS).is_some();
    if !marked && !bracketed {
        return None;
    }
    groups.push(group(language, scan.exact_digits(3)?));
    scan.take_any(&MARKS)?;
    groups.push(group(language, scan.exact_digits(4)?));
    Some(groups)
}

/// `1-800-GO-2-HAUL`.
fn with_letters(language: &Language, scan: &mut Scan<'_>) -> Option<Vec<String>> {
    let mut groups: Vec<String> = country(language, scan).into_iter().collect();
    let area = scan
        .exact_digits(3)
        .filter(|area| area.starts_with(['8', '9']))?;
    groups.push(group(language, area));
    let mut named: Vec<(bool, String)> = Vec::new();
    while scan.rest.starts_with('-') {
        let mut ahead = *scan;
        ahead.take('-');
        let part = ahead.take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        if part.is_empty() {
            break;
        }
        let digits = part.bytes().all(|c| c.is_ascii_digit());
        if !digits && part.bytes().any(|c| c.is_ascii_digit()) {
            return None;
        }
        *scan = ahead;
        match named.last_mut() {
            // A digit between letters belongs to the group before it.
            Some((false, before)) if digits => {
                *before = format!("{before} {}", language.one_by_one(part));
            }
            _ if digits => named.push((true, group(language, part))),
            _ => named.push((false, part.to_owned())),
        }
    }
    let has_letters = named.iter().any(|(digits, _)| !digits);
    groups.extend(named.into_iter().map(|(_, words)| words));
    has_letters.then_some(groups)
}

/// `+44 20 7946 0958`, `+442079460958`.
fn international(language: &Language, scan: &mut Scan<'_>) -> Option<Vec<String>> {
    if !scan.take('+') {
        return None;
    }
    let first = scan.digits();
    let mut count = first.len();
    let mut groups = vec![format!(
        "{} {}",
        language.words.plus,
        language.one_by_one(first)
    )];
    let mut after_trunk = false;
    loop {
        let mut ahead = *scan;
        let mark = ahead.take_any(&MARKS).is_some();
        let bracketed = ahead.take('(');
        let digits = ahead.digits();
        if digits.is_empty()
            || !(mark || bracketed || after_trunk)
            || (bracketed && !ahead.take(')'))
        {
            break;
        }
        // `+49 (0)30 901820`: the zero is dialled within the country only.
        after_trunk = bracketed && digits == "0";
        if after_trunk {
            *scan = ahead;
            continue;
        }
        count += digits.len();
        groups.push(language.one_by_one(digits));
        *scan = ahead;
    }
    let long_enough = (7..=15).contains(&count);
    let grouped = (1..=3).contains(&first.len()) && groups.len() > 2;
    (!first.is_empty() && long_enough && (grouped || groups.len() == 1)).then_some(groups)
}

/// `020 7946 0958`, `01 23 45 67 89`, `0044 20 7946 0958`: groups after the zero of a trunk line.
fn trunk(language: &Language, scan: &mut Scan<'_>) -> Option<Vec<String>> {
    // `(02) 9374 4000`
    let bracketed = scan.take('(');
    let first = scan.digits();
    if !first.starts_with('0') || !(2..=5).contains(&first.len()) || bracketed != scan.take(')') {
        return None;
    }
    let mark = scan.peek().filter(|mark| matches!(mark, ' ' | '-'))?;
    let mut groups = vec![first];
    loop {
        let mut ahead = *scan;
        let marked = ahead.take(mark);
        let digits = ahead.digits();
        if !marked || !(2..=6).contains(&digits.len()) {
            break;
        }
        groups.push(digits);
        *scan = ahead;
    }
    let count: usize = groups.iter().map(|digits| digits.len()).sum();
    // After two zeros the country's code follows.
    let most = if first.starts_with("00") { 15 } else { 11 };
    if groups.len() < 2 || !(9..=most).contains(&count) {
        return None;
    }
    let words = groups.iter().map(|digits| language.one_by_one(digits));
    Some(words.collect())
}

fn grouped(language: &Language, scan: &mut Scan<'_>) -> Option<Vec<String>> {
    'forms: for (lengths, marks) in GROUPED {
        let mut ahead = *scan;
        let mut groups = Vec::new();
        let mut mark = None;
        for (index, length) in lengths.iter().enumerate() {
            if index > 0 {
                let Some(found) = ahead.take_any(marks) else {
                    continue 'forms;
                };
                if *mark.get_or_insert(found) != found {
                    continue 'forms;
                }
            }
            let Some(digits) = ahead.exact_digits(*length) else {
                continue 'forms;
            };
            groups.push(digits);
        }
        // `100-1000` is more likely a range.
        let range = groups.len() == 2 && groups.iter().any(|digits| digits.ends_with("00"));
        if range {
            continue;
        }
        *scan = ahead;
        return Some(
            groups
                .iter()
                .map(|digits| group(language, digits))
                .collect(),
        );
    }
    None
}

/// `-1`, ` x123`, ` ext. 123` after a number.
fn extension(language: &Language, scan: &mut Scan<'_>, groups: &mut Vec<String>) {
    let mut ahead = *scan;
    if ahead.take('-') {
        let digits = ahead.digits();
        if (1..=5).contains(&digits.len()) && ahead.ends_word() {
            groups.push(language.one_by_one(digits));
            *scan = ahead;
        }
        return;
    }
    ahead.take(',');
    ahead.space();
    let named = ahead.take_ignoring_case("extension")
        || ahead.take_ignoring_case("ext")
        || ahead.take_ignoring_case("x");
    if !named {
        return;
    }
    ahead.take('.');
    ahead.space();
    let digits = ahead.digits();
    if !digits.is_empty() {
        groups.push(format!(
            "{} {}",
            language.words.extension,
            language.one_by_one(digits)
        ));
        *scan = ahead;
    }
}

/// `ISBN 978-3-16-148410-0`: a code's groups of digits, one by one.
pub(super) fn code(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    const DIGITS_MIN: usize = 6;
    let language = setting.language;
    if !cursor.starts_word() || !holds(language.code_words, cursor.previous_word()) {
        return None;
    }
    let mut scan = cursor.scan();
    let first = scan.digits();
    let mut groups = vec![language.one_by_one(first)];
    let mut count = first.len();
    loop {
        let mut ahead = scan;
        let mark = ahead.take('-');
        let digits = ahead.digits();
        if !mark || digits.is_empty() {
            break;
        }
        count += digits.len();
        groups.push(language.one_by_one(digits));
        scan = ahead;
    }
    let whole = !first.is_empty() && groups.len() > 1 && count >= DIGITS_MIN;
    (whole && scan.ends_word() && !scan.goes_on_as_chain()).then_some(())?;
    Reading::new(groups.join(", "), scan.used)
}

/// `00:1A:2B:3C:4D:5E`, `fe80::1`: a hardware or an internet address in hexadecimal digits.
pub(super) fn hexadecimal_address(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    const GROUPS_MAX: usize = 8;
    let language = setting.language;
    if !cursor.starts_word() || cursor.continues_chain() {
        return None;
    }
    let mut scan = cursor.scan();
    let mut groups = Vec::new();
    let mut marks = 0;
    let mut doubled = false;
    let mut numbered = false;
    let mut lengths = Vec::new();
    loop {
        let group = scan.take_while(|c| c.is_ascii_hexdigit());
        if group.len() > 4 {
            return None;
        }
        if !group.is_empty() {
            lengths.push(group.len());
            numbered |= group.contains(|c: char| c.is_ascii_digit());
            groups.push(spelt(language, group));
        }
        let mut ahead = scan;
        if !ahead.take(':') {
            break;
        }
        if ahead.take(':') {
            doubled = true;
            groups.push(language.words.colon.to_owned());
            groups.push(language.words.colon.to_owned());
        } else if !ahead.peek().is_some_and(|c| c.is_ascii_hexdigit()) {
            break;
        }
        marks += 1;
        scan = ahead;
    }
    let hardware = !doubled && lengths.len() == 6 && lengths.iter().all(|length| *length == 2);
    let internet = lengths.len() <= GROUPS_MAX
        && (doubled && !lengths.is_empty() && lengths.iter().any(|length| *length > 1)
            || lengths.len() == GROUPS_MAX);
    if marks == 0 || !numbered || !(hardware || internet) || !scan.ends_word() {
        return None;
    }
    let between = if doubled { " " } else { ", " };
    Reading::new(groups.join(between), scan.used)
}

/// `550e8400-e29b-41d4-a716-446655440000`, `9f86d081884c7d65`: identifiers and digests in
/// hexadecimal digits.
pub(super) fn digest(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    const DIGITS_MIN: usize = 12;
    if !cursor.starts_word() || cursor.before().ends_with(['-', '_']) {
        return None;
    }
    let mut scan = cursor.scan();
    let mut groups = Vec::new();
    loop {
        let group = scan.take_while(|c| c.is_ascii_hexdigit());
        if group.is_empty() {
            return None;
        }
        groups.push(group);
        let mut ahead = scan;
        if !(ahead.take('-') && ahead.peek().is_some_and(|c| c.is_ascii_hexdigit())) {
            break;
        }
        scan = ahead;
    }
    let written = groups.concat();
    let letters = written.bytes().filter(u8::is_ascii_alphabetic).count();
    let one_case = !written.contains(|c: char| c.is_ascii_uppercase())
        || !written.contains(|c: char| c.is_ascii_lowercase());
    let mixed = letters > 0 && letters < written.len() && one_case;
    if !mixed || written.len() < DIGITS_MIN || !scan.ends_word() {
        return None;
    }
    let groups: Vec<String> = (groups.iter())
        .map(|group| spelt(setting.language, group))
        .collect();
    Reading::new(groups.join(", "), scan.used)
}

/// Hexadecimal digits one by one, letters by name.
pub(super) fn spelt(language: &Language, digits: &str) -> String {
    let name = |digit: char| match digit.is_ascii_digit() {
        true => language.one_by_one(digit.encode_utf8(&mut [0; 4])),
        false => digit.to_ascii_uppercase().to_string(),
    };
    let names: Vec<String> = digits.chars().map(name).collect();
    names.join(" ")
}

/// `192.168.1.1`, with a port or a mask.
pub(super) fn internet_address(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    if !cursor.starts_word() || cursor.continues_chain() {
        return None;
    }
    let mut scan = cursor.scan();
    let mut parts = Vec::new();
    loop {
        let digits = scan.digits();
        if !(1..=3).contains(&digits.len()) {
            return None;
        }
        parts.push(language.one_by_one(digits));
        if parts.len() == 4 {
            break;
        }
        if !scan.take('.') {
            return None;
        }
    }
    if scan
        .rest
        .strip_prefix('.')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    {
        return None;
    }
    let dot = super::electronic::sign_name(language, '.').unwrap_or(".");
    let mut words = parts.join(&format!(" {dot} "));
    for (mark, name) in [('/', language.words.slash), (':', language.words.colon)] {
        let mut ahead = scan;
        if ahead.take(mark) {
            let digits = ahead.digits();
            if !digits.is_empty() && ahead.ends_word() {
                words = format!("{words} {name} {}", language.one_by_one(digits));
                scan = ahead;
            }
        }
    }
    scan.ends_word().then_some(())?;
    Reading::new(words, scan.used)
}
