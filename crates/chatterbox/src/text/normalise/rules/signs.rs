//! Signs read by name.

use super::{Reading, Setting};
use crate::text::normalise::language::Language;
use crate::text::normalise::scan::{Cursor, first_word, last_word};

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
    // A dash before a number is a sign only at the beginning of a phrase.
    let phrase = cursor.before().trim_end();
    if sign == '–' && !(phrase.is_empty() || phrase.ends_with(['(', ':', ','])) {
        return None;
    }
    if scan.rest.starts_with(' ') && is_equation(cursor, scan.rest) {
        return Reading::new(setting.language.words.minus, scan.used);
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
    let negative = scan.take_any(&['-', '−']).is_some();
    let digits = scan.digits();
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

/// Any sign with a name.
pub(super) fn sign(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let scan = cursor.scan();
    let sign = scan.peek()?;
    let previous = cursor.previous();
    let next = scan.rest.chars().nth(1);
    let digit_beside = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let name = match sign {
        '_' if previous.is_some_and(char::is_alphanumeric)
            && next.is_some_and(char::is_alphanumeric) =>
        {
            super::electronic::sign_name(language, '_')?
        }
        '!' if digit_beside(previous) && is_equal_to(&scan.rest[1..]) => language.words.factorial,
        // Between numbers only; elsewhere they are decoration.
        '*' if digit_beside(previous) && digit_beside(next) => language.words.times,
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
