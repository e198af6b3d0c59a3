//! Numbers as people write them: with a decimal comma, grouped digits, a percent sign or a unit.

/// A number and what follows it, in lower case.
#[derive(Debug, PartialEq)]
pub(super) struct WrittenNumber<'a> {
    /// The number.
    pub value: f64,
    /// The unit; empty for none.
    pub unit: &'a str,
}

/// Units of sizes, each with its MiB. As in PyTorch's own names, "MB" is a MiB.
const SIZES: [(&str, f64); 23] = [
    ("b", 1.0 / 1_048_576.0),
    ("byte", 1.0 / 1_048_576.0),
    ("bytes", 1.0 / 1_048_576.0),
    ("k", 1.0 / 1024.0),
    ("kb", 1.0 / 1024.0),
    ("kib", 1.0 / 1024.0),
    ("kilobytes", 1.0 / 1024.0),
    ("m", 1.0),
    ("mb", 1.0),
    ("mib", 1.0),
    ("mbs", 1.0),
    ("megabyte", 1.0),
    ("megabytes", 1.0),
    ("g", 1024.0),
    ("gb", 1024.0),
    ("gib", 1024.0),
    ("gbs", 1024.0),
    ("gigabyte", 1024.0),
    ("gigabytes", 1024.0),
    ("t", 1_048_576.0),
    ("tb", 1_048_576.0),
    ("tib", 1_048_576.0),
    ("terabytes", 1_048_576.0),
];
const PERCENT: [&str; 3] = ["%", "percent", "pct"];

/// MiB of a unit.
pub(super) fn mebibytes(unit: &str) -> Option<f64> {
    let found = SIZES.iter().find(|(name, _)| *name == unit);
    found.map(|(_, mebibytes)| *mebibytes)
}

/// Whether a unit means hundredths.
pub(super) fn is_percent(unit: &str) -> bool {
    PERCENT.contains(&unit)
}

/// Whether a word belongs to the number before it.
pub(super) fn is_unit(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    mebibytes(&word).is_some() || is_percent(&word)
}

/// Whether a text between commas is only digits, and perhaps a unit: the part of a number behind
/// its decimal comma, or a group of its digits.
pub(super) fn is_rest_of_number(text: &str) -> bool {
    let text = text.trim();
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit = text[digits.len()..].trim_start();
    !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (unit.is_empty() || is_unit(unit.trim_end_matches([';', '.', '"', '\''])))
}

impl WrittenNumber<'_> {
    /// Reads a text in lower case without spaces. Of a number with groups of three digits, a comma
    /// stands between groups if `grouped`; otherwise a single comma is a decimal one. So it is of
    /// gigabytes: no card has a thousand of them.
    pub fn read(text: &str, grouped: bool) -> Option<WrittenNumber<'_>> {
        let end = text
            .char_indices()
            .find(|&(place, character)| {
                let after = text[place + character.len_utf8()..].chars().next();
                let signed = matches!(character, '+' | '-') && text[..place].ends_with('e')
                    || matches!(character, '+' | '-') && place == 0;
                let exponent = character == 'e'
                    && place > 0
                    && after.is_some_and(|after| matches!(after, '0'..='9' | '+' | '-'));
                !(matches!(character, '0'..='9' | '.' | ',' | '_') || signed || exponent)
            })
            .map_or(text.len(), |(place, _)| place);
        let (digits, unit) = text.split_at(end);
        let digits = digits.trim_end_matches([',', '_']).replace('_', "");
        let commas = digits.matches(',').count();
        let groups: Vec<&str> = digits.split(',').collect();
        let in_groups = (groups.iter().skip(1)).all(|group| group.len() == 3)
            && (1..=3).contains(&groups[0].len())
            && groups[0] != "0";
        let unit = unit.trim_end_matches([';', '.']);
        let grouped = grouped && mebibytes(unit).is_none_or(|mebibytes| mebibytes < 1024.0);
        let plain = match commas {
            0 => digits,
            _ if in_groups && (grouped || commas > 1) => digits.replace(',', ""),
            1 if !digits.contains('.') => digits.replace(',', "."),
            _ => return None,
        };
        let value: f64 = plain.parse().ok()?;
        value.is_finite().then_some(WrittenNumber { value, unit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_meant() {
        for (text, grouped, value, unit) in [
            ("0.8", false, 0.8, ""),
            (".8", false, 0.8, ""),
            ("0,8", false, 0.8, ""),
            (",8", false, 0.8, ""),
            ("0,8;", false, 0.8, ""),
            ("80%", false, 80.0, "%"),
            ("8e-1", false, 0.8, ""),
            ("1e3mb", true, 1000.0, "mb"),
            ("1,024", true, 1024.0, ""),
            ("1,024,000kb", true, 1_024_000.0, "kb"),
            ("0,512gb", true, 0.512, "gb"),
            ("1,875gb", true, 1.875, "gb"),
            ("1,875mb", true, 1875.0, "mb"),
            ("1,024,000gb", true, 1_024_000.0, "gb"),
            ("0.5gib", true, 0.5, "gib"),
            ("1_024", true, 1024.0, ""),
            ("+512mb", true, 512.0, "mb"),
            ("-1", true, -1.0, ""),
        ] {
            let read = WrittenNumber::read(text, grouped);
            assert_eq!(read, Some(WrittenNumber { value, unit }), "{text}");
        }
        for text in ["", "mb", "e", "1.024,5", "1,2,3", "--1", "1e999"] {
            assert_eq!(WrittenNumber::read(text, true), None, "{text}");
        }
        assert!(is_rest_of_number("5 GB") && is_rest_of_number(" 8") && is_rest_of_number("8%"));
        assert!(!is_rest_of_number("8x") && !is_rest_of_number("") && !is_rest_of_number("gb"));
    }
}
