//! Splitting of sentences that are too long for one T3 run.

use super::normalise::{Span, join};
use std::ops::Range;

/// Clause marks, after which a long sentence is split first.
const CLAUSE_MARKS: &[char] = &[
    ',', ';', ':', '—', '–', '，', '、', '；', '：', '،', '؛', '.', '!', '?',
];
/// Those of them that no space follows.
const WIDE_CLAUSE_MARKS: &[char] = &['，', '、', '；', '：'];
/// Closing marks that may follow a clause mark.
const CLOSERS: &[char] = &['"', '\'', '”', '’', ')', ']', '»'];
/// Words that begin a clause: a split before them sounds like a breath.
const CONJUNCTIONS: &[&str] = &[
    "and", "but", "or", "because", "which", "who", "that", "while", "where", "when", "although",
    "though", "so", "then", "if", "until", "since", "before", "after", "unless", "whereas", "as",
    "with", "without", "from", "into", "at", "in", "on", "for", "to", "by",
];

/// A part of a sentence that fits one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Its spans.
    pub spans: Range<usize>,
    /// Its spoken text.
    pub spoken: String,
}

/// Splits a sentence into parts of at most `token_count_max` tokens, as counted by `count`: after
/// clause marks first, then before conjunctions, then between words, and never within a span (a
/// number, an abbreviation) that fits by itself.
pub(super) fn cut(
    spans: &[Span],
    token_count_max: usize,
    count: &dyn Fn(&str) -> usize,
) -> Vec<Part> {
    let mut parts = Vec::new();
    let whole = 0..spans.len();
    let mut waiting = Vec::from([whole]);
    while let Some(range) = waiting.pop() {
        let spoken = join(&spans[range.clone()]);
        if count(&spoken) <= token_count_max {
            parts.push(Part {
                spans: range,
                spoken,
            });
        } else if let Some(at) = middle(spans, range.clone()) {
            waiting.push(at..range.end);
            waiting.push(range.start..at);
        } else {
            let pieces = cut_words(spoken, token_count_max, count);
            parts.extend(pieces.into_iter().map(|spoken| Part {
                spans: range.clone(),
                spoken,
            }));
        }
    }
    parts
}

/// Where to split spans in two: near the middle, at the best kind of border within the inner half,
/// otherwise anywhere.
fn middle(spans: &[Span], range: Range<usize>) -> Option<usize> {
    // Lengths of the spoken text, which are to be balanced.
    let total: usize = spans[range.clone()]
        .iter()
        .map(|span| span.spoken.len() + 1)
        .sum();
    let mut before = 0;
    let mut best: Option<(usize, usize, usize)> = None;
    for at in range.clone() {
        if at > range.start && spans[at].after_space {
            let inner = before * 4 >= total && before * 4 <= total * 3;
            let kind = if !inner {
                3
            } else {
                kind(&spans[at - 1], &spans[at])
            };
            let candidate = (kind, before.abs_diff(total / 2), at);
            best = best.min(Some(candidate)).or(Some(candidate));
        }
        before += spans[at].spoken.len() + 1;
    }
    best.map(|(_, _, at)| at)
}

/// Kind of a border between two spans: 0 after a clause, 1 before a conjunction, 2 between words.
fn kind(left: &Span, right: &Span) -> usize {
    if left
        .spoken
        .trim_end_matches(CLOSERS)
        .ends_with(CLAUSE_MARKS)
    {
        0
    } else if CONJUNCTIONS.contains(&right.spoken.trim()) {
        1
    } else {
        2
    }
}

/// Splits a span that is too long: after the clause marks of scripts without spaces, between spoken
/// words, then between any two characters.
fn cut_words(spoken: String, token_count_max: usize, count: &dyn Fn(&str) -> usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut waiting = vec![spoken];
    while let Some(piece) = waiting.pop() {
        if count(&piece) <= token_count_max {
            pieces.push(piece);
            continue;
        }
        let half = piece.len() / 2;
        let inner = piece.len() / 4..=piece.len() / 4 * 3;
        let mark = (piece.match_indices(WIDE_CLAUSE_MARKS))
            .map(|(at, mark)| at + mark.len())
            .filter(|at| inner.contains(at))
            .min_by_key(|at| at.abs_diff(half));
        let spaces = piece.match_indices(' ').map(|(at, _)| at);
        let space = spaces
            .filter(|at| *at > 0)
            .min_by_key(|at| at.abs_diff(half));
        let characters = piece.char_indices().map(|(at, _)| at);
        let between = || {
            characters
                .filter(|at| *at > 0)
                .min_by_key(|at| at.abs_diff(half))
        };
        let Some(at) = mark.or(space).or_else(between) else {
            pieces.push(piece);
            continue;
        };
        let (left, right) = piece.split_at(at);
        for part in [right.trim(), left.trim()] {
            if !part.is_empty() {
                waiting.push(part.to_owned());
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::normalise::Normaliser;
    use super::*;
    use proptest::prelude::*;

    fn spans(text: &str) -> Vec<Span> {
        Normaliser::of("en", true).unwrap().spans(text)
    }

    fn parts(text: &str, most: usize, count: &dyn Fn(&str) -> usize) -> Vec<String> {
        cut(&spans(text), most, count)
            .into_iter()
            .map(|part| part.spoken)
            .collect()
    }

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    #[test]
    fn long_sentences_are_cut_at_clauses_first_and_then_before_conjunctions() {
        assert_eq!(
            parts("one two three, four five six", 4, &words),
            ["one two three,", "four five six"]
        );
        assert_eq!(
            parts("we went to the shop because we needed bread", 5, &words),
            ["we went to the shop", "because we needed bread"]
        );
    }

    #[test]
    fn a_number_and_a_short_form_stay_whole() {
        let whole = parts(
            "He paid $1,250.75 to old Dr. Smith and then went home",
            12,
            &words,
        );
        assert_eq!(
            whole,
            [
                "He paid one thousand two hundred fifty dollars and seventy five cents",
                "to old doctor Smith and then went home"
            ]
        );
    }

    #[test]
    fn text_without_borders_is_cut_anywhere() {
        let long = "abcdefgh".repeat(5);
        let cut = parts(&long, 7, &|piece| piece.len());
        assert_eq!(cut.concat(), long);
        assert!(cut.iter().all(|piece| piece.len() <= 7));
        let digits = "7".repeat(400);
        assert!(
            parts(&digits, 24, &words)
                .iter()
                .all(|piece| words(piece) <= 24)
        );
    }

    #[test]
    fn a_hundred_thousand_characters_are_cut_within_the_limit() {
        for text in [
            "word ".repeat(20_000),
            "x".repeat(100_000),
            "漢字、".repeat(33_000),
        ] {
            let pieces = parts(&text, 240, &|piece| piece.chars().count());
            assert!(pieces.iter().all(|piece| piece.chars().count() <= 240));
            let said = |text: &str| {
                text.chars()
                    .filter(|c| !c.is_whitespace())
                    .collect::<String>()
            };
            assert_eq!(said(&pieces.concat()), said(&text));
        }
    }

    proptest! {
        #[test]
        fn every_part_is_within_the_limit_and_every_span_is_in_one(text in "(\\PC|[ .,!?0-9a-z]){0,200}", limit in 1usize..50) {
            let spans = spans(&text);
            let parts = cut(&spans, limit, &|piece| piece.chars().count());
            prop_assert!(parts.iter().all(|part| part.spoken.chars().count() <= limit));
            let mut next = 0;
            for part in &parts {
                prop_assert!(part.spans.start == next || part.spans.end == next);
                next = part.spans.end;
            }
            prop_assert_eq!(next, spans.len());
        }
    }
}
