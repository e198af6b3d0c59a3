//! Sentence boundaries.

use super::markup::hidden_parts;
use super::punctuation::is_space;
use std::borrow::Cow;
use std::ops::Range;

/// Marks that end a sentence in any position.
const ENDERS_ALONE: &[char] = &[
    '。', '！', '？', '｡', '।', '॥', '؟', '۔', '։', '።', '፧', '။',
];
/// Marks that end a sentence before a space.
const ENDERS: &[char] = &['.', '!', '?', '…'];
/// Marks that may follow the end mark within a sentence.
const CLOSERS: &[char] = &['"', '\'', '”', '’', '»', ')', ']', '}', '」', '』', '）'];
/// Abbreviations after which a sentence always continues, in lower case without the last full stop.
const NEVER_LAST: &[&str] = &[
    "mr", "mrs", "ms", "mx", "dr", "prof", "st", "ste", "gen", "col", "capt", "cpt", "lt", "sgt",
    "cpl", "maj", "adm", "cmdr", "rev", "hon", "gov", "sen", "rep", "pres", "fr", "mt", "ft", "vs",
    "e.g", "i.e", "eg", "ie", "cf", "viz", "approx", "ca", "al", "fig", "figs", "vol", "vols",
    "nos", "pp", "sens", "reps", "profs", "messrs", "mme", "mlle", "univ", "dept", "tel", "incl",
    "excl", "esp", "v",
];
/// Abbreviations that may end a sentence: they do if the next word usually begins one.
const MAYBE_LAST: &[&str] = &[
    "etc", "inc", "ltd", "co", "corp", "bros", "jr", "sr", "esq", "no", "p", "pg", "ch", "sec",
    "min", "max", "est", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sept", "sep", "oct",
    "nov", "dec", "mon", "tue", "tues", "wed", "thu", "thur", "thurs", "fri", "sat", "sun", "ave",
    "blvd", "rd", "ln", "hwy", "a.m", "p.m", "u.s", "u.k", "u.n", "e.u", "d.c", "ph.d", "b.c",
    "a.d", "m.d", "b.a", "m.a",
];
/// Abbreviations that end no sentence before a number.
const BEFORE_NUMBERS: &[&str] = &[
    "no", "p", "pg", "ch", "sec", "min", "max", "est", "mar", "sat", "sun", "apt", "bldg", "chap",
    "eq", "ext", "fl", "op", "ed", "c", "wt", "art", "cl", "wk", "ep", "lvl", "nr", "para", "qty",
    "rm", "sect", "ver", "cor", "deut", "eph", "ezek", "heb", "isa", "jer", "matt", "pet", "phil",
    "ps", "rom", "thess", "tim",
];
/// Words that begin sentences far more often than they are capitalised within one.
const BEGINNERS: &[&str] = &[
    "A", "After", "All", "Although", "An", "And", "Are", "As", "At", "Because", "Before", "But",
    "By", "Can", "Could", "Did", "Do", "Does", "Each", "Every", "Finally", "For", "From", "Had",
    "Has", "Have", "He", "Her", "Here", "His", "How", "However", "I", "I'm", "I've", "If", "In",
    "Is", "It", "It's", "Its", "Just", "Let", "Many", "Maybe", "My", "No", "Not", "Nothing", "Now",
    "On", "Once", "One", "Only", "Or", "Our", "Perhaps", "Please", "She", "Since", "So", "Some",
    "That", "The", "Their", "Then", "There", "These", "They", "This", "Those", "Though", "To",
    "Today", "Was", "We", "Were", "What", "When", "Where", "Which", "While", "Who", "Why", "Will",
    "With", "Would", "Yes", "Yet", "You", "Your",
];
/// Shorter sentences are joined to a neighbour: T3 is unreliable on single words.
const LETTERS_MIN: usize = 16;
/// What is between two paragraphs.
const PARAGRAPH_BREAK: &str = "\n\n";

/// Byte ranges of a paragraph's sentences, in order, without the white space between them. Very
/// short ones are joined to the next one, the last to the previous one.
pub fn sentences(paragraph: &str) -> Vec<Range<usize>> {
    let mut sentences: Vec<(Range<usize>, usize)> = Vec::new();
    let mut start = 0;
    while start < paragraph.len() {
        let end =
            sentence_end(&paragraph[start..], true).map_or(paragraph.len(), |end| start + end);
        let sentence = paragraph[start..end].trim_matches(is_space);
        let from = start
            + (paragraph[start..end].len()
                - paragraph[start..end].trim_start_matches(is_space).len());
        start = end;
        if sentence.is_empty() {
            continue;
        }
        let letters = letters(sentence);
        let range = from..from + sentence.len();
        match sentences.last_mut() {
            Some((last, before)) if *before < LETTERS_MIN => {
                last.end = range.end;
                *before += letters;
            }
            _ => sentences.push((range, letters)),
        }
    }
    let mut ranges: Vec<Range<usize>> = Vec::with_capacity(sentences.len());
    let last = sentences.len().saturating_sub(1);
    for (index, (range, letters)) in sentences.into_iter().enumerate() {
        match ranges.last_mut() {
            Some(before) if index == last && letters < LETTERS_MIN => before.end = range.end,
            _ => ranges.push(range),
        }
    }
    ranges
}

/// Byte offset of the end of a text's first sentence: after its end mark and closing marks. `None`
/// while no end is certain.
///
/// If more text may follow (`is_all` is false), an end mark is certain once the next word has
/// begun; after an abbreviation, once the next word is complete; and at once if the mark ends
/// sentences in any position.
pub fn sentence_end(text: &str, is_all: bool) -> Option<usize> {
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let alone = ENDERS_ALONE.contains(&character);
        if !alone && !ENDERS.contains(&character) {
            continue;
        }
        let mut end = at + character.len_utf8();
        while let Some(&(next, follower)) = characters.peek() {
            let more = [ENDERS, ENDERS_ALONE, CLOSERS]
                .iter()
                .any(|marks| marks.contains(&follower));
            if !more {
                break;
            }
            end = next + follower.len_utf8();
            characters.next();
        }
        let rest = &text[end..];
        if alone {
            return Some(end);
        }
        if rest.is_empty() {
            return is_all.then_some(end);
        }
        if !rest.starts_with(is_space) {
            continue;
        }
        let after = rest.trim_start_matches(is_space);
        let Some(first) = after.chars().next() else {
            return is_all.then_some(end);
        };
        let single_stop = character == '.' && end == at + 1;
        let word = word_before(&text[..at]);
        let word_end = after.find(is_space);
        if !is_all && word_end.is_none() && single_stop && is_abbreviation(word) {
            // The next word decides, and has only begun.
            return None;
        }
        let next = &after[..word_end.unwrap_or(after.len())];
        let goes_on = first.is_lowercase() || (single_stop && belongs_to_word(word, next));
        if !goes_on {
            return Some(end);
        }
    }
    None
}

/// Splits text that arrives in pieces into sentences as soon as they are complete, at the same
/// boundaries as [`sentences`], so that a text sent in pieces is spoken like the whole. The one
/// exception is a very short last sentence: it stands alone here, while [`sentences`] joins it to
/// the previous one.
///
/// A sentence keeps the white space before it, which separates paragraphs: the concatenated
/// sentences are the text.
#[derive(Debug, Default)]
pub struct SentenceBuffer {
    text: String,
    /// Characters returned so far.
    returned: usize,
    /// White space left out: characters returned before it, and its length.
    skips: Vec<(usize, usize)>,
}

impl SentenceBuffer {
    /// Adds a piece, and returns the sentences completed by it. Text without a boundary is returned
    /// from `characters_max` characters on, split after a clause if possible, otherwise at a space.
    pub fn push(&mut self, piece: &str, characters_max: usize) -> Vec<String> {
        self.text.push_str(piece);
        let mut whole = Vec::new();
        while let Some(end) = self.end().or_else(|| self.forced_end(characters_max)) {
            let spoken = self.text[..end].trim_end().len();
            if spoken > 0 {
                let rest = self.text.split_off(spoken);
                self.returned += self.text.chars().count();
                whole.push(std::mem::replace(&mut self.text, rest));
                continue;
            }
            // Long white space is shortened to what it means.
            let lines = self.text[..end].matches('\n').count();
            let meant = if lines > 1 { PARAGRAPH_BREAK } else { "" };
            let skipped = self.text[..end].chars().count() - meant.chars().count();
            match self.skips.last_mut() {
                Some((at, count)) if *at == self.returned => *count += skipped,
                _ => self.skips.push((self.returned, skipped)),
            }
            self.text.replace_range(..end, meant);
        }
        whole
    }

    /// The remaining text, without white space at its end.
    pub fn flush(&mut self) -> Option<String> {
        let spoken = self.text.trim_end().len();
        let rest = self.text.split_off(spoken);
        let text = std::mem::replace(&mut self.text, rest);
        self.returned += text.chars().count();
        (!text.is_empty()).then_some(text)
    }

    /// Takes the white space that was left out before the first `returned` characters of all
    /// returned text: the number of characters returned before each, and its length in characters.
    pub fn take_skips(&mut self, returned: usize) -> Vec<(usize, usize)> {
        let count = self.skips.partition_point(|(at, _)| *at < returned);
        self.skips.drain(..count).collect()
    }

    /// Number of buffered characters.
    pub fn characters(&self) -> usize {
        self.text.chars().count()
    }

    /// The text, with placeholders for ranges that are not spoken and must not be split.
    fn shown(&self) -> Cow<'_, str> {
        let hidden = hidden_parts(&self.text);
        if hidden.is_empty() {
            return Cow::Borrowed(&self.text);
        }
        let mut shown = self.text.clone();
        for part in hidden {
            let length = part.len();
            shown.replace_range(part, &"_".repeat(length));
        }
        Cow::Owned(shown)
    }

    /// End of a paragraph, or of a sentence that is long enough to stand alone.
    fn end(&self) -> Option<usize> {
        let shown = self.shown();
        let paragraph = paragraph_end(&shown);
        let text = &shown[..paragraph.unwrap_or(shown.len())];
        let mut end = 0;
        while let Some(further) = sentence_end(&text[end..], paragraph.is_some()) {
            end += further;
            if letters(&text[..end]) >= LETTERS_MIN {
                return Some(end);
            }
        }
        paragraph
    }

    fn forced_end(&self, characters_max: usize) -> Option<usize> {
        // A range that is not spoken may be long: only the text before it is split.
        let open = match hidden_parts(&self.text).first() {
            Some(hidden) => &self.text[..hidden.start],
            None => &self.text,
        };
        let (limit, _) = open.char_indices().nth(characters_max)?;
        let text = &open[..limit];
        let after_mark = text.char_indices().rev().find(|(at, space)| {
            is_space(*space) && text[..*at].ends_with([',', ';', ':', '—', '–']) && at * 3 > limit
        });
        let space = || {
            text.char_indices()
                .rev()
                .find(|(_, space)| is_space(*space))
        };
        after_mark
            .or_else(space)
            .map(|(at, space)| at + space.len_utf8())
            .or(Some(limit))
    }
}

/// Offset of an empty line after the first paragraph, if the paragraph is not empty.
fn paragraph_end(text: &str) -> Option<usize> {
    let mut start = 0;
    let mut spoken = false;
    for line in text.split_inclusive('\n') {
        let blank = line.trim().is_empty();
        start += line.len();
        if blank && spoken && line.ends_with('\n') {
            return Some(start);
        }
        spoken |= !blank;
    }
    None
}

fn letters(text: &str) -> usize {
    text.chars()
        .filter(|character| character.is_alphanumeric())
        .count()
}

/// The word before a full stop, without the marks before it.
fn word_before(text: &str) -> &str {
    text.rsplit(is_space)
        .next()
        .unwrap_or("")
        .trim_start_matches(|character: char| !character.is_alphanumeric())
}

/// Whether a full stop after `word` may belong to an abbreviation.
fn is_abbreviation(word: &str) -> bool {
    let lower = word.to_lowercase();
    let single = word.chars().count() == 1;
    single || lower.contains('.') || is_listed(&lower)
}

fn is_listed(lower: &str) -> bool {
    MAYBE_LAST.contains(&lower) || BEFORE_NUMBERS.contains(&lower)
}

/// Whether the full stop after `word` belongs to an abbreviation that does not end the sentence,
/// with `next` after it.
fn belongs_to_word(word: &str, next: &str) -> bool {
    let mut characters = word.chars();
    let first = characters.next();
    let begins =
        BEGINNERS.contains(&next.trim_matches(|c: char| !c.is_alphanumeric() && c != '\''));
    let number_next = next.starts_with(|c: char| c.is_ascii_digit());
    let single = first.is_some() && characters.next().is_none();
    if single && first.is_some_and(|first| first.is_uppercase() && first != 'I') {
        return !begins;
    }
    let lower = word.to_lowercase();
    if NEVER_LAST.contains(&lower.as_str()) {
        return true;
    }
    // A list marker: `1. First`.
    let marker = word.len() <= 2 && word.bytes().all(|byte| byte.is_ascii_digit());
    if marker {
        return false;
    }
    let dotted = lower.contains('.') && lower.split('.').all(|part| part.chars().count() == 1);
    if is_listed(&lower) || dotted {
        // `No. Five` is two sentences, `No. 5` and `Jan. 5` are not.
        let needs_number = BEFORE_NUMBERS.contains(&lower.as_str());
        return if needs_number { number_next } else { !begins };
    }
    false
}

/// Whether `text` ends with a sentence end mark, marks that may follow it and white space aside.
/// `None` if there is nothing else in it, so that the text before it decides.
pub fn ends_sentence(text: &str) -> Option<bool> {
    let closes = |mark: char| is_space(mark) || CLOSERS.contains(&mark);
    let last = text.trim_end_matches(closes).chars().next_back()?;
    Some(ENDERS.contains(&last) || ENDERS_ALONE.contains(&last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        sentences(text)
            .into_iter()
            .map(|range| &text[range])
            .collect()
    }

    #[test]
    fn a_sentence_ends_with_its_mark_whatever_closes_it() {
        for (text, ends) in [
            ("Well. ", Some(true)),
            ("\"Well?\")\n", Some(true)),
            ("好。", Some(true)),
            ("Well, ", Some(false)),
            ("\" )", None),
            ("", None),
        ] {
            assert_eq!(ends_sentence(text), ends, "{text:?}");
        }
    }

    #[test]
    fn sentences_end_where_a_reader_would_pause() {
        for (text, expected) in [
            (
                "She lives at 742 Evergreen Terrace, Apt. 4B, as in Matt. 5:3 and eq. 2.",
                vec!["She lives at 742 Evergreen Terrace, Apt. 4B, as in Matt. 5:3 and eq. 2."],
            ),
            (
                "The first sentence is here. And here stands the second one!",
                vec![
                    "The first sentence is here.",
                    "And here stands the second one!",
                ],
            ),
            (
                "They heard the symphony in D minor, Op. 125, finished c. 1824 in Vienna.",
                vec!["They heard the symphony in D minor, Op. 125, finished c. 1824 in Vienna."],
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
                "We were there at 5 p.m. The others came an hour later.",
                vec!["We were there at 5 p.m.", "The others came an hour later."],
            ),
            (
                "They will all come on Sat. Nobody knows when the train arrives.",
                vec![
                    "They will all come on Sat.",
                    "Nobody knows when the train arrives.",
                ],
            ),
            (
                "He lives in the U.S. Virgin Islands today.",
                vec!["He lives in the U.S. Virgin Islands today."],
            ),
            (
                "She was born on Jan. 5 in the morning.",
                vec!["She was born on Jan. 5 in the morning."],
            ),
            (
                "Take the No. 5 bus to the old harbour.",
                vec!["Take the No. 5 bus to the old harbour."],
            ),
            (
                "今天天气很好我们去公园散步好不好呢？明天我们再去看看那里的花开了没有。",
                vec![
                    "今天天气很好我们去公园散步好不好呢？",
                    "明天我们再去看看那里的花开了没有。",
                ],
            ),
            ("", vec![]),
        ] {
            assert_eq!(split(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_text_in_pieces_has_the_sentences_of_the_whole_text() {
        for text in [
            "We asked them and then Dr. Smith came to help. Use simple tools, e.g. a hammer and a saw. It works well enough by now!",
            "The quick brown fox\njumps over the lazy dog. She was born on Jan. 5 in the morning of that day.",
            "“Is it really so late?” he asked and left. Yes. No. Perhaps we should go there now.",
            "今天天气很好我们去公园散步好不好呢？明天我们再去看看那里的花开了没有。",
        ] {
            for size in [1, 3, 7, 1000] {
                let characters: Vec<char> = text.chars().collect();
                let mut buffer = SentenceBuffer::default();
                let mut found: Vec<String> = Vec::new();
                for piece in characters.chunks(size) {
                    found.extend(buffer.push(&piece.iter().collect::<String>(), 300));
                }
                found.extend(buffer.flush());
                assert_eq!(found.concat(), text, "in pieces of {size}");
                let found: Vec<&str> = found.iter().map(|sentence| sentence.trim()).collect();
                assert_eq!(found, split(text), "in pieces of {size}");
            }
        }
    }

    #[test]
    fn paragraphs_and_a_text_without_boundaries_are_returned() {
        let mut buffer = SentenceBuffer::default();
        assert_eq!(buffer.push("A heading\n\nThen more", 300), ["A heading"]);
        assert_eq!(buffer.flush().as_deref(), Some("\n\nThen more"));
        assert_eq!(buffer.flush(), None);
        assert!(buffer.push(&"\n".repeat(1000), 300).is_empty());
        assert!(buffer.characters() <= 300, "white space does not pile up");
        assert_eq!(buffer.push("Now. ", 300), Vec::<String>::new());
        let last = buffer.flush().unwrap_or_default();
        assert!(last.starts_with(PARAGRAPH_BREAK) && last.ends_with("Now."));
        assert_eq!(buffer.flush(), None);
        let long = "one two three four five, six seven eight nine ten eleven ".repeat(4);
        let parts = buffer.push(&long, 60);
        assert!(parts.len() > 2 && parts.iter().all(|part| part.chars().count() <= 60));
        assert!(parts[0].ends_with(','), "after a clause: {parts:?}");
        assert_eq!(buffer.push(&"x".repeat(70), 60).len(), 2);
    }

    #[test]
    fn text_that_is_not_spoken_is_never_split() {
        let thought = "<think>They ask for a number. I know it. ".to_owned()
            + &"It is large. ".repeat(50)
            + "</think>";
        let text = format!("{thought}It is forty two. And that is all there is to say.");
        for size in [1, 10, 10_000] {
            let mut buffer = SentenceBuffer::default();
            let mut found = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                found.extend(buffer.push(std::str::from_utf8(piece).unwrap(), 300));
            }
            found.extend(buffer.flush());
            assert_eq!(found.concat(), text);
            assert!(found[0].starts_with(&thought), "in pieces of {size}");
            assert!(found.len() <= 2);
        }
        let mut buffer = SentenceBuffer::default();
        buffer.push("<THINK>It never ends. So it is told at last.", 10);
        assert!(buffer.flush().is_some_and(|text| text.ends_with("last.")));
    }

    #[test]
    fn while_text_arrives_an_end_is_certain_only_once_the_next_word_is_known() {
        assert_eq!(sentence_end("We asked them. ", false), None);
        assert_eq!(sentence_end("We asked them. T", false), Some(14));
        assert_eq!(sentence_end("We came at 5 p.m. The", false), None);
        assert_eq!(sentence_end("We came at 5 p.m. The ", false), Some(17));
        assert_eq!(sentence_end("We asked Dr. Smith then", false), None);
        assert_eq!(sentence_end("Is it 3.", false), None);
        assert_eq!(sentence_end("Is it 3.", true), Some(8));
        assert_eq!(sentence_end("今天。", false), Some("今天。".len()));
    }
}
