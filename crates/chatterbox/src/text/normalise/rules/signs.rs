//! Signs read by name.

use super::{Reading, Setting};
use crate::text::normalise::scan::Cursor;

/// `-5`, `(-5)`, `−.5`: a hyphen as a minus sign.
pub(super) fn minus(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let mut scan = cursor.scan();
    scan.take_any(&['-', '−'])?;
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
        // Between numbers only; elsewhere they are decoration.
        '*' if digit_beside(previous) && digit_beside(next) => language.words.times,
        '/' if previous == Some(' ') && next == Some(' ') => {
            let left = cursor.before().trim_end();
            let right = scan.rest[1..].trim_start();
            match digit_beside(left.chars().next_back()) && digit_beside(right.chars().next()) {
                true => name_of(setting, '÷')?,
                false => language.words.slash,
            }
        }
        '~' if cursor.starts_word()
            && next.is_some_and(|c| c.is_ascii_digit() || matches!(c, '$' | '£' | '€' | '¥')) =>
        {
            name_of(setting, '∼')?
        }
        _ => name_of(setting, sign)?,
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
        Some(c) if c.is_alphanumeric() || name_of(setting, c).is_some() => " ",
        Some('-') if minus => " ",
        _ => "",
    };
    Reading::new(format!("{left}{name}{right}"), sign.len_utf8())
}

fn is_opening(character: char) -> bool {
    matches!(character, '(' | '[' | '{' | '"' | '“' | '\'' | '‘')
}

fn name_of(setting: &Setting, sign: char) -> Option<&'static str> {
    let (_, name) = setting
        .language
        .signs
        .iter()
        .find(|(known, _)| *known == sign)?;
    Some(name)
}
