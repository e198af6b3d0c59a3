//! The reference's punctuation rules.

use crate::config::Normalisation;

/// The reference's replacements in their order, and whether turbo and nano have them too.
const REPLACEMENTS: [(&str, &str, bool); 12] = [
    ("...", ", ", false),
    ("…", ", ", true),
    (":", ",", true),
    (" - ", ", ", false),
    (";", ", ", false),
    ("—", "-", true),
    ("–", "-", true),
    (" ,", ",", true),
    ("“", "\"", true),
    ("”", "\"", true),
    ("‘", "'", true),
    ("’", "'", true),
];

const ENDERS: [char; 5] = ['.', '!', '?', '-', ','];
/// Further end marks of the multilingual models.
const WIDE_ENDERS: [char; 5] = ['、', '，', '。', '？', '！'];

/// Whether a replacement is a mark of the same meaning.
fn is_look_alike(to: &str) -> bool {
    matches!(to, "-" | "\"" | "'")
}

/// Whether Python's `split` splits at it: Unicode white space and the four ASCII separators.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

/// Normalises a text like the reference before its tokenizer: the first letter becomes a capital,
/// runs of white space become one space, rare punctuation is replaced, and a missing end mark is
/// added, but for flash neither capital nor end mark. White space alone becomes the end mark alone.
pub fn normalise(text: &str, rules: Normalisation) -> String {
    if rules == Normalisation::Flash {
        return tidy(text, rules);
    }
    let mut raised = String::with_capacity(text.len() + 1);
    let mut characters = text.chars();
    match characters.next() {
        Some(first) if first.is_lowercase() => raised.extend(first.to_uppercase()),
        Some(first) => raised.push(first),
        None => {}
    }
    raised.push_str(characters.as_str());
    tidy(&raised, rules)
}

/// As [`normalise`], without the capital.
pub(super) fn tidy(text: &str, rules: Normalisation) -> String {
    let words: Vec<&str> = text
        .split(is_space)
        .filter(|word| !word.is_empty())
        .collect();
    let mut text = words.join(" ");
    for (from, to, all) in REPLACEMENTS {
        let applies = match rules {
            Normalisation::Turbo => all,
            Normalisation::Flash => all && is_look_alike(to),
            Normalisation::Base | Normalisation::Multilingual => true,
        };
        if applies && text.contains(from) {
            text = text.replace(from, to);
        }
    }
    text.truncate(text.trim_end_matches(' ').len());
    if rules == Normalisation::Flash && !text.is_empty() {
        return text;
    }
    let ends = text.ends_with(ENDERS)
        || (rules == Normalisation::Multilingual && text.ends_with(WIDE_ENDERS));
    if !ends {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_and_turbo_follow_the_reference() {
        // Computed with the reference's two functions.
        for (text, base, turbo) in [
            ("hello", "Hello.", "Hello."),
            (
                "  two   spaces\n\there ",
                "two spaces here.",
                "two spaces here.",
            ),
            (
                "well... yes; no - maybe: ok",
                "Well,  yes,  no, maybe, ok.",
                "Well... yes; no - maybe, ok.",
            ),
            (
                "“quoted” ‘it’s’ — fine –",
                "\"quoted\" 'it's' - fine -",
                "\"quoted\" 'it's' - fine -",
            ),
            ("wait…", "Wait,", "Wait,"),
            ("a ,b", "A,b.", "A,b."),
            ("ßtraße", "SStraße.", "SStraße."),
            ("ends?", "Ends?", "Ends?"),
            (" ", ".", "."),
            ("你好。", "你好。.", "你好。."),
            ("a\u{1c}b\u{a0}c", "A b c.", "A b c."),
        ] {
            assert_eq!(normalise(text, Normalisation::Base), base, "base {text:?}");
            assert_eq!(
                normalise(text, Normalisation::Turbo),
                turbo,
                "turbo {text:?}"
            );
        }
    }

    #[test]
    fn flash_reads_marks_as_they_are() {
        for (text, expected) in [
            (
                "  well...  yes; no - maybe: ok",
                "well... yes; no - maybe: ok",
            ),
            ("“quoted” ‘it’s’ — fine", "\"quoted\" 'it's' - fine"),
            (" ", "."),
        ] {
            assert_eq!(normalise(text, Normalisation::Flash), expected);
        }
    }

    #[test]
    fn full_width_marks_end_a_multilingual_sentence() {
        for (text, expected) in [
            ("你好。", "你好。"),
            ("好き？", "好き？"),
            ("なら、", "なら、"),
            ("hola; tú…", "Hola,  tú,"),
            ("क्या।", "क्या।."),
        ] {
            assert_eq!(normalise(text, Normalisation::Multilingual), expected);
        }
        assert_eq!(tidy("hola", Normalisation::Multilingual), "hola.");
    }
}
