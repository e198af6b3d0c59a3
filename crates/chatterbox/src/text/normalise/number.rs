//! Parsing of written numbers.

use super::language::Language;
use super::scan::Scan;

/// Digits of the largest number with a name.
const DIGITS_MAX: usize = 18;
/// Separators between groups of three digits.
const GROUP_MARKS: [char; 5] = [',', ' ', '\'', '_', '.'];

/// A number's digits with groups and a decimal part; no sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Number<'a> {
    /// Digits without separators; empty in `.5`.
    pub whole: String,
    /// Digits after the decimal point.
    pub part: Option<&'a str>,
    /// Whether the digits are grouped.
    pub grouped: bool,
}

impl<'a> Number<'a> {
    /// Parses a number.
    pub fn read(scan: &mut Scan<'a>) -> Option<Number<'a>> {
        let mut ahead = *scan;
        let first = ahead.digits();
        let mut number = Number {
            whole: first.to_owned(),
            part: None,
            grouped: false,
        };
        if (1..=3).contains(&first.len()) && !first.starts_with('0') {
            for mark in GROUP_MARKS {
                if let Some((groups, after)) = groups(ahead, mark) {
                    number
                        .whole
                        .extend(groups.chars().filter(char::is_ascii_digit));
                    number.grouped = true;
                    ahead = after;
                    break;
                }
            }
        }
        if !number.grouped
            && let Some(after) = indian_groups(first, ahead)
        {
            let groups = &ahead.rest[..after.used - ahead.used];
            (number.whole).extend(groups.chars().filter(char::is_ascii_digit));
            number.grouped = true;
            ahead = after;
        }
        let mut decimal = ahead;
        // After groups separated by spaces or full stops, the decimal separator is a comma.
        let european = number.grouped && !scan.rest[..ahead.used - scan.used].contains([',', '_']);
        if european && decimal.take(',') {
            let part = decimal.digits();
            if (1..=2).contains(&part.len()) && decimal.ends_word() {
                number.part = Some(part);
                *scan = decimal;
                return Some(number);
            }
            decimal = ahead;
        }
        if decimal.take('.') {
            let part = decimal.digits();
            // `1.2.3` is a version or an address, not a decimal.
            let goes_on = decimal
                .rest
                .strip_prefix('.')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            if !part.is_empty() && !goes_on {
                number.part = Some(part);
                ahead = decimal;
            }
        }
        if number.whole.is_empty() && number.part.is_none() {
            return None;
        }
        *scan = ahead;
        Some(number)
    }

    /// The integer part, if it has a name.
    pub fn value(&self) -> Option<u64> {
        if self.whole.is_empty() {
            return Some(0);
        }
        let padded = self.whole.len() > 1 && self.whole.starts_with('0');
        if padded || self.whole.len() > DIGITS_MAX {
            return None;
        }
        self.whole.parse().ok()
    }

    /// The value of an integer that has a name.
    pub fn integer(&self) -> Option<u64> {
        self.value().filter(|_| self.part.is_none())
    }

    pub fn is_one(&self) -> bool {
        self.integer() == Some(1)
    }

    /// Words of a quantity: `forty five thousand point five`.
    pub fn words(&self, language: &Language) -> String {
        let whole = match self.value() {
            Some(value) => (language.cardinal)(value),
            None => language.one_by_one(&self.whole),
        };
        match self.part {
            Some(part) if self.whole.is_empty() => {
                format!("{} {}", language.words.point, language.one_by_one(part))
            }
            Some(part) => format!(
                "{whole} {} {}",
                language.words.point,
                language.one_by_one(part)
            ),
            None => whole,
        }
    }

    /// Approximate value for comparisons; exact in the range of the rules for ranges.
    pub fn approximately(&self) -> f64 {
        let text = format!("{}.{}", self.whole, self.part.unwrap_or("0"));
        text.parse().unwrap_or(f64::INFINITY)
    }
}

/// Groups of three digits after the first one, each preceded by `mark`; the text and the scan after
/// it. Groups separated by full stops need at least two, because one is a decimal.
fn groups(start: Scan<'_>, mark: char) -> Option<(&str, Scan<'_>)> {
    let mut ahead = start;
    let mut count = 0;
    loop {
        let mut next = ahead;
        if !next.take(mark) || next.exact_digits(3).is_none() {
            break;
        }
        ahead = next;
        count += 1;
    }
    // `1.234,56`: a comma before two digits shows that the full stop is none.
    let mut cents = ahead;
    let decimals = cents.take(',') && cents.exact_digits(2).is_some() && cents.ends_word();
    let least = if mark == '.' && !decimals { 2 } else { 1 };
    // `1,234,56` is not a grouped number, and `12 345-678` is not a quantity.
    let broken = ahead.rest.starts_with(mark)
        && mark != ' '
        && ahead.rest[mark.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
    let chained = mark == ' ' && ahead.goes_on_as_chain();
    if count < least || broken || chained {
        return None;
    }
    Some((&start.rest[..ahead.used - start.used], ahead))
}

/// `1,00,000`: pairs after the first digits, and three at the end.
fn indian_groups<'a>(first: &str, start: Scan<'a>) -> Option<Scan<'a>> {
    let mut ahead = start;
    let mut pairs = 0;
    loop {
        let mut next = ahead;
        if !next.take(',') {
            return None;
        }
        if next.exact_digits(2).is_some() {
            pairs += 1;
            ahead = next;
            continue;
        }
        next.exact_digits(3)?;
        let fits = (1..=2).contains(&first.len()) && !first.starts_with('0') && pairs > 0;
        let goes_on = next
            .rest
            .strip_prefix(',')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        return (fits && !goes_on).then_some(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, Option<String>, usize)> {
        let mut scan = Scan::new(text);
        let number = Number::read(&mut scan)?;
        Some((number.whole, number.part.map(str::to_owned), scan.used))
    }

    #[test]
    fn groups_and_decimals_are_read_as_people_write_them() {
        for (text, whole, part, used) in [
            ("1,234 men", "1234", None, 5),
            ("10 000 men", "10000", None, 6),
            ("1'000'000", "1000000", None, 9),
            ("1.000.000", "1000000", None, 9),
            ("1.000", "1", Some("000"), 5),
            ("1.234,56 €", "1234", Some("56"), 8),
            ("9000,000", "9000", None, 4),
            ("1,00,000", "100000", None, 8),
            ("1.234.567,50", "1234567", Some("50"), 12),
            ("1 000,5 kg", "1000", Some("5"), 7),
            ("1,234,56", "1", None, 1),
            ("1,2345", "1", None, 1),
            ("2010 500", "2010", None, 4),
            (".5 g", "", Some("5"), 2),
            ("3.", "3", None, 1),
            ("1.2.3", "1", None, 1),
        ] {
            let expected = Some((whole.to_owned(), part.map(str::to_owned), used));
            assert_eq!(read(text), expected, "{text}");
        }
        assert_eq!(read(". 5"), None);
    }
}
