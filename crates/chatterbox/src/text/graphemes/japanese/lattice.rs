//! The most likely words of a Japanese text: the cheapest path through all words that the lexicon
//! finds in it. Source: Kudo, Yamamoto and Matsumoto, "Applying conditional random fields to
//! Japanese morphological analysis", 2004. Classes, and the costs of unknown words by their script,
//! are IPADIC's.

use super::lexicon::Lexicon;
use std::ops::Range;

/// The class of the beginning and the end of a text.
const BORDER: u16 = 0;

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Its UTF-16 units in the text.
    pub range: Range<usize>,
    /// Index of its entry in the lexicon; `None` for an unknown word.
    pub entry: Option<usize>,
}

/// Scripts, by which unknown words are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    Kanji,
    Hiragana,
    Katakana,
    Digit,
    Letter,
    Other,
}

fn script(unit: u16) -> Script {
    match unit {
        0x3041..=0x309f => Script::Hiragana,
        0x30a1..=0x30ff => Script::Katakana,
        0x3005 | 0x3007 | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xd800..=0xdfff | 0xf900..=0xfaff => {
            Script::Kanji
        }
        0x30..=0x39 | 0xff10..=0xff19 => Script::Digit,
        _ if char::from_u32(u32::from(unit)).is_some_and(char::is_alphabetic) => Script::Letter,
        _ => Script::Other,
    }
}

impl Script {
    /// Classes and costs of unknown words.
    fn unknown(self) -> &'static [(u16, i16)] {
        match self {
            Script::Kanji => &[(1285, 11426), (1292, 12649), (1288, 15295)],
            Script::Hiragana => &[(1285, 13069), (1292, 14761), (3, 16989)],
            Script::Katakana => &[(1285, 9461), (1292, 10922), (1293, 13661), (3, 14138)],
            Script::Digit => &[(1295, 27386)],
            Script::Letter => &[(1285, 13398), (1292, 13835)],
            Script::Other => &[(1283, 17585)],
        }
    }

    /// Whether unknown words in this script are considered where the lexicon has a word.
    fn competes(self) -> bool {
        !matches!(self, Script::Kanji | Script::Hiragana)
    }

    /// Lengths of unknown words at the beginning of a run of `run` units: single units, pairs,
    /// whole runs.
    fn lengths(self, run: usize) -> impl Iterator<Item = usize> {
        let short = match self {
            Script::Kanji | Script::Hiragana | Script::Katakana => 2,
            Script::Digit | Script::Letter | Script::Other => 0,
        };
        let whole = (self != Script::Kanji && run > short).then_some(run);
        (1..=short.min(run)).chain(whole)
    }
}

/// A word on a path.
struct Node {
    start: usize,
    class: u16,
    entry: Option<usize>,
    /// Cost of the cheapest path up to the word's end.
    total: i64,
    /// The word before it on that path.
    before: usize,
}

/// The words of a text in UTF-16 units. Time and memory grow with its length.
pub(super) fn words(lexicon: &Lexicon<'_>, text: &[u16]) -> Vec<Word> {
    let mut nodes = vec![Node {
        start: 0,
        class: BORDER,
        entry: None,
        total: 0,
        before: 0,
    }];
    // The words that end at each place.
    let mut ending: Vec<Vec<usize>> = vec![Vec::new(); text.len() + 1];
    ending[0].push(0);
    for start in 0..text.len() {
        if ending[start].is_empty() {
            continue;
        }
        let mut add = |end: usize, class: u16, cost: i16, entry: Option<usize>| {
            if let Some((before, total)) = cheapest(lexicon, &nodes, &ending[start], class) {
                ending[end].push(nodes.len());
                nodes.push(Node {
                    start,
                    class,
                    entry,
                    total: total + i64::from(cost),
                    before,
                });
            }
        };
        let mut known = false;
        lexicon.prefixes(&text[start..], |length, entries| {
            for entry in entries.filter_map(|index| lexicon.entry(index)) {
                known = true;
                add(start + length, entry.class, entry.cost, Some(entry.index));
            }
        });
        let kind = script(text[start]);
        if !known || kind.competes() {
            let rest = text[start..].iter();
            let run = rest.take_while(|unit| script(**unit) == kind).count();
            for length in kind.lengths(run) {
                for &(class, cost) in kind.unknown() {
                    add(start + length, class, cost, None);
                }
            }
        }
    }
    let mut words = Vec::new();
    let mut end = text.len();
    let mut at = cheapest(lexicon, &nodes, &ending[end], BORDER).map_or(0, |(node, _)| node);
    while at != 0 {
        let node = &nodes[at];
        words.push(Word {
            range: node.start..end,
            entry: node.entry,
        });
        (end, at) = (node.start, node.before);
    }
    words.reverse();
    words
}

/// The cheapest of the words in `ending` before a word of `class`, and the cost of the path.
fn cheapest(
    lexicon: &Lexicon<'_>,
    nodes: &[Node],
    ending: &[usize],
    class: u16,
) -> Option<(usize, i64)> {
    let totals = ending.iter().map(|&index| {
        let node = &nodes[index];
        let connection = lexicon.connection(node.class, class);
        (index, node.total + i64::from(connection))
    });
    totals.min_by_key(|&(_, total)| total)
}

#[cfg(test)]
mod tests {
    use super::super::lexicon::tests::file;
    use super::*;

    fn cut(lexicon: &[(&str, i16, &str)], text: &str) -> Vec<(String, bool)> {
        let bytes = file(lexicon);
        let lexicon = Lexicon::of(&bytes).unwrap();
        let units: Vec<u16> = text.encode_utf16().collect();
        (words(&lexicon, &units).into_iter())
            .map(|word| {
                let surface = String::from_utf16(&units[word.range]).unwrap();
                (surface, word.entry.is_some())
            })
            .collect()
    }

    #[test]
    fn the_cheapest_words_are_taken() {
        let cheap_halves = [("東", 1, "ひがし"), ("京都", 1, "きょうと")];
        let mut all = cheap_halves.to_vec();
        all.extend([("東京", 5, "とうきょう"), ("都", 9, "と")]);
        let expected = |words: &[&str]| -> Vec<(String, bool)> {
            words.iter().map(|word| ((*word).into(), true)).collect()
        };
        assert_eq!(cut(&all, "東京都"), expected(&["東", "京都"]));
        all[0].1 = 20;
        assert_eq!(cut(&all, "東京都"), expected(&["東京", "都"]));
    }

    #[test]
    fn what_the_lexicon_lacks_is_kept_in_runs_of_a_script() {
        for (text, expected) in [
            ("", &[][..]),
            ("本", &[("本", true)]),
            ("本ABC", &[("本", true), ("ABC", false)]),
            ("カタカナ", &[("カタカナ", false)]),
            // As in IPADIC, an unknown kanji may take the next with it; here that costs less.
            ("鬱本", &[("鬱本", false)]),
            ("2024本", &[("2024", false), ("本", true)]),
            ("𠮷", &[("𠮷", false)]),
        ] {
            let expected: Vec<(String, bool)> = (expected.iter())
                .map(|(word, known)| ((*word).into(), *known))
                .collect();
            assert_eq!(cut(&[("本", 1, "ほん")], text), expected, "{text}");
        }
    }
}
