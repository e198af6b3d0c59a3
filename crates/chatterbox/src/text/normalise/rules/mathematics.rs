//! LaTeX as people paste it: commands by name, delimiters not at all.

use super::{Reading, Setting};
use crate::text::normalise::language::Language;
use crate::text::normalise::scan::{Cursor, Scan};

/// Longest group in braces that is read as a limit.
const GROUP_BYTES_MAX: usize = 40;
/// Longest formula between two delimiters.
const FORMULA_BYTES_MAX: usize = 300;

/// `\alpha`, `\leq`, `\int_0^1`, `\frac{a}{b}`; a command without a name is read as a word.
pub(super) fn command(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let language = setting.language;
    let mut scan = cursor.scan();
    if scan.take('}') {
        // Behind `_{12` or `^{2`.
        let open = cursor.before().rfind('{');
        let raised = |open: &usize| {
            let (formula, group) = cursor.before().split_at(*open);
            formula.ends_with(['_', '^']) && !group.contains('}')
        };
        if open.filter(raised).is_some() {
            return Reading::new("", scan.used);
        }
        // Between the parts of a fraction.
        let fraction = cursor.before().rfind("\\frac{");
        let above = &cursor.before()[fraction? + "\\frac{".len()..];
        let balanced = above.matches('{').count() == above.matches('}').count();
        let over = format!(" {} ", language.words.over);
        if scan.take('{') {
            return balanced.then(|| Reading::new(over, scan.used)).flatten();
        }
        // Behind the lower part.
        let lower = above.rsplit_once("}{").map(|(_, lower)| lower);
        let ends = lower.is_some_and(|lower| !lower.contains(['{', '}']));
        return ends.then(|| Reading::new("", scan.used)).flatten();
    }
    if !scan.take('\\') {
        return None;
    }
    let name = scan.take_while(|c| c.is_ascii_alphabetic());
    if name == "frac" && scan.take('{') {
        return Reading::new("", scan.used);
    }
    let (_, spoken) = language.commands.iter().find(|(known, _)| *known == name)?;
    let mut words = (*spoken).to_owned();
    for (mark, link) in [('_', language.words.from), ('^', language.words.to)] {
        let mut ahead = scan;
        if matches!(name, "int" | "sum" | "prod")
            && ahead.take(mark)
            && let Some(limit) = limit(language, &mut ahead)
        {
            words = format!("{words} {link} {limit}");
            scan = ahead;
        }
    }
    if matches!(name, "int" | "sum" | "prod") {
        words = format!("{words} {}", language.words.of);
    }
    let apart = cursor.previous().is_some_and(char::is_alphanumeric);
    let left = if apart { " " } else { "" };
    // `\alpha^2` goes on, `\alpha x` has its space.
    let right = if scan.ends_word() { "" } else { " " };
    Reading::new(format!("{left}{words}{right}"), scan.used)
}

/// A limit after `_` or `^`: a letter, a digit, a command, or a group in braces.
fn limit(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let braced = ahead.take('{');
    let written = match braced {
        true => ahead.take_while(|c| !matches!(c, '{' | '}')),
        false if ahead.rest.starts_with('\\') => {
            let length = 1 + ahead.rest[1..]
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(ahead.rest.len() - 1);
            ahead.skip(length)
        }
        false => {
            let length = ahead.peek().filter(|c| c.is_alphanumeric())?.len_utf8();
            ahead.skip(length)
        }
    };
    if written.is_empty() || written.len() > GROUP_BYTES_MAX || (braced && !ahead.take('}')) {
        return None;
    }
    *scan = ahead;
    let equals = super::signs::name_of(language, '=')?;
    let terms = written.split('=').map(|term| {
        let term = term.trim();
        let named = |name: &str| language.commands.iter().find(|(known, _)| *known == name);
        match (term.parse(), term.strip_prefix('\\').and_then(named)) {
            (Ok(value), _) => (language.cardinal)(value),
            (_, Some((_, words))) => (*words).to_owned(),
            _ => term.chars().filter(|c| c.is_alphabetic()).collect(),
        }
    });
    let terms: Vec<String> = terms.collect();
    Some(terms.join(&format!(" {equals} ")))
}

/// `$` and `$$` around a formula.
pub(super) fn delimiter(_: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let mut scan = cursor.scan();
    let length = scan.take_while(|c| c == '$').len();
    if !(1..=2).contains(&length) {
        return None;
    }
    let opens = (scan.rest.find('$')).is_some_and(|end| is_formula(&scan.rest[..end], length));
    let before = cursor.before();
    let closes = (before.rfind('$')).is_some_and(|start| is_formula(&before[start + 1..], length));
    (opens || closes)
        .then(|| Reading::new("", length))
        .flatten()
}

/// Whether the text between two dollar signs is a formula and not prose between two amounts.
fn is_formula(text: &str, delimiter_length: usize) -> bool {
    let starts = !text.starts_with(|c: char| c.is_whitespace() || c.is_ascii_digit());
    // Two signs never begin an amount.
    (delimiter_length == 2 || (starts && !text.ends_with(char::is_whitespace)))
        && text.len() <= FORMULA_BYTES_MAX
        && text.contains(['\\', '^', '_', '=', '{'])
}
