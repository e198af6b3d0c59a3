//! Signs read by name.

use super::{Reading, Setting};
use crate::text::normalise::language::{Language, holds};
use crate::text::normalise::scan::{Cursor, Scan, first_word, last_word};

/// `:)`, `:-D`, `;P`, `<3`: faces and hearts, which are not read.
pub(super) fn emoticon(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    const NOSES: [char; 3] = ['-', '\'', '^'];
    const MOUTHS: [char; 10] = [')', '(', 'D', 'P', 'p', 'O', 'o', '|', '*', ']'];
    /// Who is loved: `I <3 you`.
    const LOVED: [&str; 9] = ["you", "u", "it", "this", "him", "her", "them", "my", "your"];
    if cursor.previous().is_some_and(|c| !c.is_whitespace()) {
        return None;
    }
    let mut scan = cursor.scan();
    let heart = scan.rest.starts_with("<3");
    if heart {
        scan.skip(2);
    } else {
        scan.take_any(&[':', ';'])?;
        scan.take_any(&NOSES);
        scan.take_any(&MOUTHS)?;
        scan.take_while(|c| matches!(c, ')' | '('));
    }
    let ends = |c: char| c.is_whitespace() || matches!(c, '.' | ',' | '!' | '?' | '…');
    if !scan.peek().is_none_or(ends) {
        return None;
    }
    let next = first_word(scan.rest);
    let name = match heart && scan.rest.starts_with(' ') {
        true if holds(&LOVED, next) => name_of(setting.language, '♥')?,
        // `<3 items`
        true if !next.is_empty() => return None,
        _ => "",
    };
    Reading::new(name, scan.used)
}

/// `==`, `<=`, `->`: an operator of several characters.
pub(super) fn operator(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    /// Signs of an operator or an arrow; a longer run of them is decoration, and is not read.
    const OPERATOR_MAX: usize = 3;
    let mut scan = cursor.scan();
    let run = scan.take_while(|c| matches!(c, '=' | '<' | '>' | '~' | '-'));
    if run.len() >= OPERATOR_MAX && run.contains(['=', '<', '>', '~']) {
        let between = cursor.before().ends_with(' ') && scan.rest.starts_with(' ');
        let arrow = run.ends_with('>') && !run.starts_with('<');
        let name = if arrow && between {
            name_of(setting.language, '→')?
        } else {
            ""
        };
        return Reading::new(name, run.len());
    }
    let scan = cursor.scan();
    let (sign, name) =
        (setting.language.operators.iter()).find(|(sign, _)| scan.rest.starts_with(sign))?;
    let next = scan.rest[sign.len()..].chars().next();
    let left = if cursor.previous().is_none_or(char::is_whitespace) {
        ""
    } else {
        " "
    };
    let right = if next.is_some_and(|c| !c.is_whitespace()) {
        " "
    } else {
        ""
    };
    Reading::new(format!("{left}{name}{right}"), sign.len())
}

/// `-5`, `(-5)`, `−.5`, and ` - ` in an equation: a hyphen as a minus sign.
pub(super) fn minus(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let mut scan = cursor.scan();
    let sign = scan.take_any(&['-', '−', '–'])?;
    // A dash before a number is a sign at the beginning of a phrase, and directly before the number
    // behind a word in small letters: `it was –3 °C`, but not `June 5 –7` or `left – 3 came`.
    let phrase = cursor.before().trim_end();
    let begins = phrase.is_empty() || phrase.ends_with(['(', ':', ',', ';']);
    let word = phrase.rsplit(char::is_whitespace).next().unwrap_or("");
    let behind_word = cursor.before().ends_with(' ')
        && scan.rest.starts_with(|c: char| c.is_ascii_digit())
        && word.chars().all(char::is_lowercase);
    if sign == '–' && !begins && !behind_word {
        return None;
    }
    if scan.rest.starts_with(' ') && is_equation(cursor, scan.rest) {
        return Reading::new(setting.language.words.minus, scan.used);
    }
    if sign == '-' && is_mark_of_a_school(cursor, scan.rest) {
        return Reading::new(format!(" {}", setting.language.words.minus), scan.used);
    }
    // `UTC-5`, `T-10 seconds`.
    let clock = matches!(cursor.previous_word(), "UTC" | "GMT")
        || cursor.previous_word() == "T" && is_countdown(setting.language, scan.rest);
    if clock
        && !cursor.before().ends_with(' ')
        && scan.rest.starts_with(|c: char| c.is_ascii_digit())
    {
        return Reading::new(format!(" {} ", setting.language.words.minus), scan.used);
    }
    let joined = cursor.previous().is_some_and(|c| {
        c.is_alphanumeric() || matches!(c, ')' | ']' | '-' | '"' | '%' | '°' | '/')
    });
    let mut digits = scan.rest.chars();
    let number = match digits.next() {
        Some(c) if c.is_ascii_digit() => true,
        Some('.') => digits.next().is_some_and(|c| c.is_ascii_digit()),
        _ => false,
    };
    (number && !joined).then_some(())?;
    Reading::new(format!("{} ", setting.language.words.minus), scan.used)
}

/// `B-`, `a C- student`: a mark below a letter's.
fn is_mark_of_a_school(cursor: &Cursor<'_>, behind: &str) -> bool {
    const AFTER: [&str; 8] = [
        "student", "average", "grade", "paper", "in", "on", "for", "work",
    ];
    let before = cursor.before();
    let letter = last_word(before);
    let graded = matches!(letter, "A" | "B" | "C" | "D") && before.ends_with(letter);
    let ends = behind.is_empty() || behind.starts_with(['.', ',', ';', ')', '!', '?']);
    graded && (ends || behind.starts_with(' ') && holds(&AFTER, first_word(behind)))
}

/// Whether a number of minutes or the like follows.
fn is_countdown(language: &Language, behind: &str) -> bool {
    let rest = behind.trim_start_matches(|c: char| c.is_ascii_digit());
    let words = &language.words;
    let named = [words.hours, words.minutes, words.seconds];
    rest.starts_with(' ') && named.iter().flatten().any(|name| *name == first_word(rest))
}

/// Whether a hyphen between spaces stands between two terms of an equation: each a number or a
/// single letter, and an equals sign in the same sentence.
fn is_equation(cursor: &Cursor<'_>, behind: &str) -> bool {
    let before = cursor.before();
    let term = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_digit()) || word.chars().take(2).count() == 1
    };
    let left = before.ends_with(' ') && term(last_word(before.trim_end()));
    let sentence = |text: &str| text.contains(" = ") && !text.contains(". ");
    left && term(first_word(behind))
        && (sentence(before) || sentence(behind.split(". ").next().unwrap_or("")))
}

/// `x^2`, `10^-6`.
pub(super) fn power(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let mut scan = cursor.scan();
    if !scan.take('^')
        || !cursor
            .previous()
            .is_some_and(|c| c.is_alphanumeric() || c == ')')
    {
        return None;
    }
    if let Some(charge) = charge(language, cursor, scan) {
        return Some(charge);
    }
    let braced = scan.take('{');
    let negative = scan.take_any(&['-', '−']).is_some();
    let digits = scan.digits();
    if braced && !digits.is_empty() {
        scan.take('}');
    }
    let words = match (negative, digits) {
        (false, "2") => format!(" {}", language.words.squared),
        (false, "3") => format!(" {}", language.words.cubed),
        (_, "") => format!(" {} ", language.words.to_the_power_of),
        _ => {
            let sign = if negative {
                format!("{} ", language.words.minus)
            } else {
                String::new()
            };
            let number = digits
                .parse()
                .map_or_else(|_| language.one_by_one(digits), language.cardinal);
            format!(" {} {sign}{number}", language.words.to_the_power_of)
        }
    };
    Reading::new(words, scan.used)
}

/// The charge of an ion: `Ca^2+`, `SO4^2-`; `scan` is behind the circumflex.
fn charge(language: &Language, cursor: &Cursor<'_>, mut scan: Scan<'_>) -> Option<Reading> {
    let symbol = last_word(cursor.before());
    let electron = symbol == "e" && scan.rest.starts_with(['-', '−']);
    let is_symbol = electron || (symbol.starts_with(char::is_uppercase) && symbol.len() <= 8);
    let count = scan.digits();
    scan.take('^');
    let sign = scan.take_any(&['+', '-', '−'])?;
    let single = count.len() == 1 && scan.ends_word() && !scan.rest.starts_with(' ');
    let ends = scan.rest.is_empty() || single || scan.rest.starts_with(' ');
    // `E^2 + 1` has a space before its sign, `X^2+Y` something behind it.
    if !is_symbol || count.len() > 1 || !ends || !scan.ends_word() {
        return None;
    }
    let words = &language.words;
    let sign = if sign == '+' { words.plus } else { words.minus };
    let count = count.parse().map_or_else(
        |_| String::new(),
        |count| format!("{} ", (language.cardinal)(count)),
    );
    Reading::new(format!(" {count}{sign}"), scan.used)
}

/// Any sign with a name.
pub(super) fn sign(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let scan = cursor.scan();
    let sign = scan.peek()?;
    let previous = cursor.previous();
    let next = scan.rest.chars().nth(1);
    let digit_beside = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    // `f/2.8`
    if sign == '/' && digit_beside(next) && last_word(cursor.before()) == "f" {
        return Reading::new(" ", 1);
    }
    if sign == '_' && is_index(cursor, &scan.rest[1..]) {
        let braced = scan.rest[1..].starts_with('{');
        return Reading::new(" ", 1 + usize::from(braced));
    }
    let name = match sign {
        '_' if previous.is_some_and(char::is_alphanumeric)
            && next.is_some_and(char::is_alphanumeric) =>
        {
            super::electronic::sign_name(language, '_')?
        }
        '!' if digit_beside(previous) && is_equal_to(&scan.rest[1..]) => language.words.factorial,
        // Between numbers only; elsewhere they are decoration.
        '*' if digit_beside(previous) && digit_beside(next) => language.words.times,
        // `f/2.8`
        '/' if is_rate(language, cursor, &scan.rest[1..]) => language.words.per,
        // `dial *67`
        '*' if digit_beside(next)
            && matches!(cursor.previous_word(), "dial" | "Dial" | "press") =>
        {
            language.words.star
        }
        // `$100 x 12`
        'x' if is_cross(cursor, scan.rest) => language.words.times,
        '/' if previous == Some(' ') && next == Some(' ') => {
            let left = cursor.before().trim_end();
            let right = scan.rest[1..].trim_start();
            match digit_beside(left.chars().next_back()) && digit_beside(right.chars().next()) {
                true => name_of(setting.language, '÷')?,
                false => language.words.slash,
            }
        }
        '~' if cursor.starts_word()
            && next.is_some_and(|c| c.is_ascii_digit() || matches!(c, '$' | '£' | '€' | '¥')) =>
        {
            name_of(setting.language, '∼')?
        }
        _ => name_of(setting.language, sign)?,
    };
    // A Greek letter within a Greek word is not read by name; beside Latin letters, as in 2πr, it
    // is a symbol.
    let in_word = [previous, next]
        .into_iter()
        .flatten()
        .any(|c| c.is_alphabetic() && !c.is_ascii());
    if sign.is_alphabetic() && in_word {
        return None;
    }
    let left = if previous.is_none_or(|c| c.is_whitespace() || is_opening(c)) {
        ""
    } else {
        " "
    };
    // `β-carotene` is one word, `√-1` two.
    let minus = digit_beside(scan.rest.chars().nth(2));
    let right = match next {
        Some(c) if c.is_alphanumeric() || name_of(setting.language, c).is_some() => " ",
        Some('-') if minus => " ",
        _ => "",
    };
    Reading::new(format!("{left}{name}{right}"), sign.len_utf8())
}

/// `K_d`, `CO_2`, `C_{12}`: whether an underscore stands between a symbol and its index.
fn is_index(cursor: &Cursor<'_>, behind: &str) -> bool {
    let before = cursor.before();
    let start = before.trim_end_matches(char::is_alphabetic).len();
    let letters = &before[start..];
    // Part of a name, as in `user_a_1`.
    let named = before[..start].ends_with('_');
    let short = !named
        && (1..=2).contains(&letters.len())
        && (letters.len() == 1 || letters.starts_with(char::is_uppercase));
    let mut next = behind.chars();
    let first = next.next();
    let second = next.next();
    let single = first.is_some_and(|c| c.is_ascii_alphanumeric())
        && second.is_none_or(|c| !c.is_alphanumeric() && c != '_' || c.is_uppercase());
    short && (first == Some('{') || single)
}

/// `5 cents/mile`: whether a slash between words stands between a number of things and what each
/// of them is for.
fn is_rate(language: &Language, cursor: &Cursor<'_>, behind: &str) -> bool {
    let mut words = cursor.before().rsplit(' ');
    let (thing, number) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let below = behind
        .split(|c: char| !c.is_alphabetic())
        .next()
        .unwrap_or("");
    let known = |(short, _): &(&str, &str)| *short == below && short.len() > 2;
    !thing.is_empty()
        && thing.chars().all(char::is_lowercase)
        && number.starts_with(|c: char| c.is_ascii_digit())
        && language.periods.iter().any(known)
}

/// Whether an `x` alone stands between two amounts.
fn is_cross(cursor: &Cursor<'_>, rest: &str) -> bool {
    let before = cursor.before();
    let behind = rest.strip_prefix("x ").unwrap_or("");
    let amount = behind
        .trim_start_matches(['$', '£', '€'])
        .starts_with(|c: char| c.is_ascii_digit());
    let left = before.strip_suffix(' ').unwrap_or("");
    amount && left.ends_with(|c: char| c.is_ascii_digit())
}

/// Whether an equals sign is the next thing.
fn is_equal_to(rest: &str) -> bool {
    rest.starts_with(" =")
}

fn is_opening(character: char) -> bool {
    matches!(character, '(' | '[' | '{' | '"' | '“' | '\'' | '‘')
}

pub(super) fn name_of(language: &Language, sign: char) -> Option<&'static str> {
    let (_, name) = language.signs.iter().find(|(known, _)| *known == sign)?;
    Some(name)
}
