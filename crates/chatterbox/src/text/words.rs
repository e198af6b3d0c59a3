//! The written words of a sentence, and the text tokens that speak them.

use super::normalise::{Span, join};
use std::ops::Range;

/// A written word and its text tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word as written, without the marks around it.
    pub written: String,
    /// Its characters in the source text (Unicode scalar values).
    pub characters: Range<usize>,
    /// Its tokens among the sentence's; empty if the tokenizer has none for it.
    pub tokens: Range<usize>,
}

/// A word among the spans of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SpanWord {
    /// Byte range in the normalised text.
    pub range: Range<usize>,
    pub spoken: String,
}

/// The words of spans: spans between spaces, without those at either end that are not spoken.
/// Where a script has no spaces, each of its characters is a word. `text` is the text of the spans'
/// ranges.
pub(super) fn words(spans: &[Span], text: &str) -> Vec<SpanWord> {
    let mut words = Vec::new();
    let mut start = 0;
    for at in 1..=spans.len() {
        if at < spans.len() && !spans[at].after_space {
            continue;
        }
        let word = &spans[start..at];
        start = at;
        let first = word.iter().position(|span| is_spoken(&span.spoken));
        let last = word.iter().rposition(|span| is_spoken(&span.spoken));
        let (Some(first), Some(last)) = (first, last) else {
            continue;
        };
        let word = &word[first..=last];
        let whole = SpanWord {
            range: word[0].written.start..word[word.len() - 1].written.end,
            spoken: join(word).trim_start().to_owned(),
        };
        if text[whole.range.clone()].contains(is_unspaced) {
            words.extend(characters(&whole, text));
        } else {
            words.push(whole);
        }
    }
    words
}

/// The characters of a word in a script without spaces; runs of others stay together. If its
/// reading differs, it is one word.
fn characters(word: &SpanWord, text: &str) -> Vec<SpanWord> {
    let written = &text[word.range.clone()];
    if written != word.spoken {
        return vec![word.clone()];
    }
    let mut parts: Vec<SpanWord> = Vec::new();
    let mut joined = false;
    for (at, character) in written.char_indices() {
        let place = word.range.start + at;
        let range = place..place + character.len_utf8();
        let alone = is_unspaced(character);
        let mark = !character.is_alphanumeric();
        match parts.last_mut() {
            Some(last) if joined && !alone && !mark => {
                last.range.end = range.end;
                last.spoken.push(character);
            }
            _ if mark => {}
            _ => parts.push(SpanWord {
                range,
                spoken: character.to_string(),
            }),
        }
        joined = !alone && !mark;
    }
    parts
}

/// Whether a text has something to speak, other than marks.
fn is_spoken(text: &str) -> bool {
    text.contains(char::is_alphanumeric)
}

/// Whether a character belongs to a script that is written without spaces: Chinese characters,
/// Hiragana, Katakana.
fn is_unspaced(character: char) -> bool {
    matches!(
        character,
        '\u{3041}'..='\u{30ff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}'
    )
}

/// The tokens of each word, given the byte ranges of the tokens in `given`, the tokenizer's input,
/// and the number of letters and digits of each word in it. If those numbers do not add up, tokens
/// are assigned in proportion to the words' letters.
pub(super) fn tokens(
    given: &str,
    offsets: &[(usize, usize)],
    letters: &[usize],
) -> Vec<Range<usize>> {
    let total: usize = letters.iter().sum();
    let found = letter_count(given);
    // The word of the letter with `count` letters before it.
    let word_of = |count: usize| -> Option<usize> {
        let place = match found == total {
            true => count,
            false => count * total / found.max(1),
        };
        let mut end = 0;
        letters.iter().position(|letters| {
            end += letters;
            place < end
        })
    };
    let mut ranges: Vec<Option<Range<usize>>> = vec![None; letters.len()];
    let (mut at, mut before) = (0, 0);
    for (token, &(start, end)) in offsets.iter().enumerate() {
        let Some(part) = given.get(start..end) else {
            continue;
        };
        // Tokens are in order. A token that shares its bytes with the previous one starts over.
        if start < at {
            (at, before) = (0, 0);
        }
        before += letter_count(given.get(at..start).unwrap_or_default());
        at = start;
        if !is_spoken(part) {
            continue;
        }
        if let Some(word) = word_of(before) {
            let range = ranges[word].get_or_insert(token..token);
            range.end = token + 1;
        }
    }
    let mut next = 0;
    let placed = ranges.into_iter().map(|range| {
        let range = range.unwrap_or(next..next);
        next = range.end;
        range
    });
    placed.collect()
}

/// Number of letters and digits.
pub(super) fn letter_count(text: &str) -> usize {
    text.chars().filter(|c| c.is_alphanumeric()).count()
}

#[cfg(test)]
mod tests {
    use super::super::normalise::Normaliser;
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str) -> Vec<(String, String)> {
        let spans = Normaliser::of("en", true).unwrap().spans(text);
        let words = words(&spans, text).into_iter();
        words
            .map(|word| (text[word.range].to_owned(), word.spoken))
            .collect()
    }

    fn written(text: &str) -> Vec<String> {
        found(text)
            .into_iter()
            .map(|(written, _)| written)
            .collect()
    }

    #[test]
    fn words_are_the_written_ones_without_the_marks_around_them() {
        assert_eq!(
            written("“Well-known,” she said (twice) - don’t!"),
            ["Well-known", "she", "said", "twice", "don’t"]
        );
        assert_eq!(
            found("It costs $1,250.75 today."),
            [
                ("It", "It"),
                ("costs", "costs"),
                (
                    "$1,250.75",
                    "one thousand two hundred fifty dollars and seventy five cents"
                ),
                ("today", "today"),
            ]
            .map(|(written, spoken)| (written.to_owned(), spoken.to_owned()))
        );
        assert_eq!(written("... !!! --"), [""; 0]);
    }

    #[test]
    fn where_a_script_has_no_spaces_each_character_is_a_word() {
        assert_eq!(written("今天ABC好。"), ["今", "天", "ABC", "好"]);
    }

    #[test]
    fn tokens_belong_to_the_word_of_their_first_letter() {
        // Hello , [SPACE] it's 5 .
        let given = "Hello, it's 5.";
        let offsets = [
            (0, 3),
            (3, 5),
            (5, 6),
            (6, 7),
            (7, 9),
            (9, 11),
            (12, 13),
            (13, 14),
        ];
        assert_eq!(tokens(given, &offsets, &[5, 3, 1]), [0..2, 4..6, 6..7]);
        // Twice as many letters as known: by their shares.
        assert_eq!(
            tokens("aabbcc", &[(0, 2), (2, 4), (4, 6)], &[1, 1, 1]),
            [0..1, 1..2, 2..3]
        );
        // A word that the tokenizer dropped.
        assert_eq!(
            tokens("ab", &[(0, 1), (1, 2)], &[1, 0, 1]),
            [0..1, 1..1, 1..2]
        );
    }

    proptest! {
        #[test]
        fn words_of_any_text_are_in_order_and_spoken(text in "(\\PC|[ .,!?0-9a-z]){0,100}") {
            let spans = Normaliser::of("en", true).unwrap().spans(&text);
            let mut end = 0;
            for word in words(&spans, &text) {
                prop_assert!(word.range.start >= end && word.range.end > word.range.start);
                prop_assert!(text.get(word.range.clone()).is_some());
                prop_assert!(is_spoken(&word.spoken));
                end = word.range.end;
            }
        }

        #[test]
        fn tokens_of_words_never_go_backwards(
            given in "[a-c ,]{0,30}", letters in prop::collection::vec(0usize..5, 0..8),
        ) {
            let offsets: Vec<(usize, usize)> = (0..given.len()).map(|at| (at, at + 1)).collect();
            let mut end = 0;
            for range in tokens(&given, &offsets, &letters) {
                prop_assert!(range.start >= end && range.end >= range.start);
                prop_assert!(range.end <= offsets.len());
                end = range.end;
            }
        }
    }
}
