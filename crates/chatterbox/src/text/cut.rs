//! Cutting text into sentences, and sentences that are too long into pieces.

use super::normalise::is_space;

/// Marks that end a sentence wherever they stand.
const ENDERS_ALONE: &[char] = &[
    '。', '！', '？', '｡', '।', '॥', '؟', '۔', '։', '።', '፧', '။',
];
/// Marks that end a sentence before a space.
const ENDERS: &[char] = &['.', '!', '?', '…'];
/// What may still belong to a sentence after its end mark.
const CLOSERS: &[char] = &['"', '\'', '”', '’', '»', ')', ']', '}', '」', '』', '）'];
/// Marks between clauses, where a long sentence may be cut.
const CLAUSE_MARKS: &[char] = &[',', ';', ':', '—', '–', '，', '、', '；', '：', '،', '؛'];
/// Words whose full stop is part of them. Lower case.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "vs", "etc", "e.g", "i.e", "no", "vol",
    "fig", "inc", "ltd", "co", "gen", "col", "capt", "lt", "sgt", "rev", "hon", "mt", "ft",
    "approx", "dept", "est",
];
/// A sentence shorter than this is spoken together with its neighbour: T3 stumbles on single words.
const LETTERS_MIN: usize = 16;

/// Whether a character can neither be said nor shape what is said: controls, zero-width and direction marks, unassigned noise.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffd}')
}

/// A text's sentences, in order: cleaned, at paragraphs and end marks, very short ones joined. Text without anything to say has none.
pub fn sentences(text: &str) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    for paragraph in paragraphs(text) {
        let first = sentences.len();
        for sentence in split_at_ends(&paragraph) {
            let sentence = sentence.trim_matches(is_space);
            if sentence.is_empty() {
                continue;
            }
            // Only within a paragraph: a heading stays alone however short.
            let joins = sentences.len() > first
                && sentences.last().is_some_and(|last| {
                    letters(last) < LETTERS_MIN || letters(sentence) < LETTERS_MIN
                });
            match sentences.last_mut() {
                Some(last) if joins => {
                    last.push(' ');
                    last.push_str(sentence);
                }
                _ => sentences.push(sentence.to_owned()),
            }
        }
    }
    sentences
}

/// As [`sentences`], and each piece holds at most `token_count_max` tokens as `count` counts them, if a single character does.
pub fn cut(text: &str, token_count_max: usize, count: &dyn Fn(&str) -> usize) -> Vec<String> {
    let mut pieces = Vec::new();
    for sentence in sentences(text) {
        let mut waiting = vec![sentence];
        while let Some(piece) = waiting.pop() {
            if count(&piece) <= token_count_max {
                pieces.push(piece);
                continue;
            }
            let Some(at) = middle_cut(&piece) else {
                pieces.push(piece);
                continue;
            };
            let (left, right) = piece.split_at(at);
            for half in [right, left] {
                let half = half.trim_matches(is_space);
                if !half.is_empty() {
                    waiting.push(half.to_owned());
                }
            }
        }
    }
    pieces
}

fn letters(text: &str) -> usize {
    text.chars()
        .filter(|character| character.is_alphanumeric())
        .count()
}

/// Lines joined to paragraphs, which end at an empty line; invisible characters become spaces.
fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in text.lines() {
        let line: String = line
            .chars()
            .map(|character| {
                if is_invisible(character) {
                    ' '
                } else {
                    character
                }
            })
            .collect();
        let line = line.trim_matches(is_space);
        let current = paragraphs.last_mut().expect("there is always one");
        if line.is_empty() {
            if !current.is_empty() {
                paragraphs.push(String::new());
            }
            continue;
        }
        if !current.is_empty() {
            current.push(' ');
        }
        current.push_str(line);
    }
    paragraphs
}

fn split_at_ends(paragraph: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut start = 0;
    let mut characters = paragraph.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let alone = ENDERS_ALONE.contains(&character);
        if !alone && !ENDERS.contains(&character) {
            continue;
        }
        let mut end = at + character.len_utf8();
        while let Some(&(next, follower)) = characters.peek() {
            if !ENDERS.contains(&follower)
                && !ENDERS_ALONE.contains(&follower)
                && !CLOSERS.contains(&follower)
            {
                break;
            }
            end = next + follower.len_utf8();
            characters.next();
        }
        let followed = paragraph[end..].chars().next();
        let complete = alone || followed.is_none_or(is_space);
        let abbreviated =
            character == '.' && end == at + 1 && is_abbreviation(&paragraph[start..at]);
        let continues = paragraph[end..]
            .trim_start_matches(is_space)
            .chars()
            .next()
            .is_some_and(|next| next.is_lowercase());
        if complete && !abbreviated && (alone || !continues) {
            sentences.push(&paragraph[start..end]);
            start = end;
        }
    }
    sentences.push(&paragraph[start..]);
    sentences
}

/// Whether the full stop after `before` belongs to its last word: a known abbreviation or an initial.
fn is_abbreviation(before: &str) -> bool {
    let word = before
        .rsplit(is_space)
        .next()
        .unwrap_or("")
        .trim_start_matches(|character: char| !character.is_alphanumeric());
    let mut characters = word.chars();
    let initial = characters
        .next()
        .is_some_and(|character| character.is_uppercase() && character != 'I')
        && characters.next().is_none();
    initial || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

/// Where to cut in two: after the clause mark nearest to the middle, else at the space nearest to it, else between the two middle
/// characters. Marks and spaces in the outer quarters are passed over.
fn middle_cut(text: &str) -> Option<usize> {
    let middle = text.len() / 2;
    let inner = text.len() / 4..text.len() - text.len() / 4;
    let nearest = |cuts: &mut dyn Iterator<Item = usize>| {
        cuts.filter(|at| inner.contains(at))
            .min_by_key(|at| at.abs_diff(middle))
    };
    let mut previous_is_mark = false;
    let mut after_marks = text.char_indices().filter_map(|(at, character)| {
        let cut = previous_is_mark && is_space(character);
        let cut = cut || (previous_is_mark && !character.is_ascii());
        previous_is_mark = CLAUSE_MARKS.contains(&character);
        cut.then_some(at)
    });
    if let Some(at) = nearest(&mut after_marks) {
        return Some(at);
    }
    let mut spaces = text
        .char_indices()
        .filter_map(|(at, character)| is_space(character).then_some(at));
    if let Some(at) = nearest(&mut spaces) {
        return Some(at);
    }
    text.char_indices()
        .map(|(at, _)| at)
        .filter(|&at| at > 0)
        .min_by_key(|at| at.abs_diff(middle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(text: &str) -> String {
        text.chars()
            .filter(|&character| !is_space(character) && !is_invisible(character))
            .collect()
    }

    #[test]
    fn sentences_end_where_a_reader_would_pause() {
        for (text, expected) in [
            (
                "The first sentence is here. And here stands the second one!",
                vec![
                    "The first sentence is here.",
                    "And here stands the second one!",
                ],
            ),
            (
                "Dr. Smith met Mr. J. Doe at 3.5 km.",
                vec!["Dr. Smith met Mr. J. Doe at 3.5 km."],
            ),
            (
                "“Is it really so late?” he asked and left the room.",
                vec!["“Is it really so late?” he asked and left the room."],
            ),
            (
                "Yes. No. Perhaps we should go there.",
                vec!["Yes. No. Perhaps we should go there."],
            ),
            (
                "A heading\n\nThen a line\nwrapped twice.",
                vec!["A heading", "Then a line wrapped twice."],
            ),
            (
                "今天天气很好我们去公园散步好不好呢？明天我们再去看看那里的花开了没有。",
                vec![
                    "今天天气很好我们去公园散步好不好呢？",
                    "明天我们再去看看那里的花开了没有。",
                ],
            ),
            ("", vec![]),
            ("\u{0}\u{1b}\u{200b} \n", vec![]),
        ] {
            assert_eq!(sentences(text), expected, "{text:?}");
        }
    }

    #[test]
    fn long_sentences_are_cut_at_clauses_first() {
        let text = "one two three, four five six";
        assert_eq!(
            cut(text, 15, &|piece| piece.len()),
            ["one two three,", "four five six"]
        );
        assert_eq!(
            cut("abcdefgh", 3, &|piece| piece.len()),
            ["ab", "cd", "ef", "gh"]
        );
    }

    #[test]
    fn a_hundred_thousand_characters_are_cut_within_the_limit() {
        for text in [
            "word ".repeat(20_000),
            "x".repeat(100_000),
            "漢字、".repeat(33_000),
        ] {
            let pieces = cut(&text, 240, &|piece| piece.chars().count());
            assert!(pieces.iter().all(|piece| piece.chars().count() <= 240));
            assert_eq!(said(&pieces.concat()), said(&text));
        }
    }

    proptest! {
        #[test]
        fn nothing_that_can_be_said_is_dropped(text in "(\\PC|[ .,!?\n]){0,200}", limit in 1usize..50) {
            let pieces = cut(&text, limit, &|piece| piece.chars().count());
            prop_assert_eq!(said(&pieces.concat()), said(&text));
            prop_assert!(pieces.iter().all(|piece| piece.chars().count() <= limit));
        }
    }
}
