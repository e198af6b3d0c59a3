//! Subtitles from word times: SubRip (`.srt`) and WebVTT (`.vtt`).

use crate::word_times::WordTime;
use sottovoce_chatterbox::text::ends_sentence;
use std::fmt::Write;
use std::path::Path;

/// Characters of a line.
const LINE_CHARACTERS_MAX: usize = 42;
/// Lines of a cue.
const LINES_MAX: usize = 2;
/// Longest time that a cue is shown, in seconds.
const SECONDS_MAX: f64 = 7.0;
/// Shortest time that a cue is shown, in seconds, unless the next one begins earlier.
const SECONDS_MIN: f64 = 1.0;
/// A silence of this length ends a cue, in seconds.
const SILENCE_SECONDS: f64 = 0.8;

/// Format of a subtitle file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubtitleFormat {
    /// SubRip.
    Srt,
    /// WebVTT.
    Vtt,
}

impl SubtitleFormat {
    /// The format that a file's extension names.
    ///
    /// # Errors
    /// If it is neither `srt` nor `vtt`.
    pub fn from_path(path: &Path) -> Result<SubtitleFormat, UnknownFormat> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("srt") => Ok(SubtitleFormat::Srt),
            Some("vtt") => Ok(SubtitleFormat::Vtt),
            _ => Err(UnknownFormat {
                file: path.display().to_string(),
            }),
        }
    }
}

/// The extension of a subtitle file is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: subtitles are written as .srt or .vtt; give the file one of these extensions")]
pub struct UnknownFormat {
    file: String,
}

/// One subtitle.
#[derive(Clone, Debug, PartialEq)]
pub struct Cue {
    /// When it appears, in seconds.
    pub start: f64,
    /// When it disappears, in seconds.
    pub end: f64,
    /// Its lines.
    pub lines: Vec<String>,
}

/// Cues of a text: of at most two lines and seven seconds, ended by sentences and silences.
pub fn cues(text: &str, words: &[WordTime]) -> Vec<Cue> {
    let characters: Vec<char> = text.chars().collect();
    let mut cues: Vec<Cue> = Vec::new();
    let mut first = 0;
    while first < words.len() {
        let mut end = first + 1;
        while end < words.len() && joins(&characters, &words[first..=end]) {
            end += 1;
        }
        let group = &words[first..end];
        let written: Vec<String> = (0..group.len())
            .map(|index| {
                let next = words.get(first + index + 1);
                shown(&characters, &group[index], next)
            })
            .collect();
        cues.push(Cue {
            start: group[0].start,
            end: group[group.len() - 1].end,
            lines: lines(&written),
        });
        first = end;
    }
    for index in 0..cues.len() {
        let next = cues.get(index + 1).map_or(f64::INFINITY, |next| next.start);
        let cue = &mut cues[index];
        cue.end = cue.end.max((cue.start + SECONDS_MIN).min(next));
    }
    cues
}

/// Whether the last of these words belongs to the cue of those before it.
fn joins(characters: &[char], words: &[WordTime]) -> bool {
    let [first, .., before, last] = words else {
        let [before, last] = words else { return true };
        return joins_after(characters, before, before, last);
    };
    let written: Vec<String> = (words.windows(2))
        .map(|pair| shown(characters, &pair[0], Some(&pair[1])))
        .chain([shown(characters, last, None)])
        .collect();
    lines(&written).len() <= LINES_MAX && joins_after(characters, first, before, last)
}

fn joins_after(characters: &[char], first: &WordTime, before: &WordTime, last: &WordTime) -> bool {
    let between = between(characters, before, Some(last));
    let marks = between
        .split(char::is_whitespace)
        .next()
        .unwrap_or_default();
    let marks = marks.trim_end_matches(['“', '‘', '«']);
    let paragraph = between.matches('\n').count() > 1;
    let sentence = paragraph || ends_sentence(marks) == Some(true);
    !sentence && last.start - before.end < SILENCE_SECONDS && last.end - first.start <= SECONDS_MAX
}

/// The text between a word and the next one, or up to the end of its marks.
fn between(characters: &[char], word: &WordTime, next: Option<&WordTime>) -> String {
    let end = next.map_or(characters.len(), |next| next.text_start);
    let part = characters.get(word.text_end..end.max(word.text_end));
    part.unwrap_or_default().iter().collect()
}

/// A word with the marks after it, without the next word's opening marks and without markup.
fn shown(characters: &[char], word: &WordTime, next: Option<&WordTime>) -> String {
    let between = between(characters, word, next);
    let marks = between.split(|c: char| c.is_whitespace() || matches!(c, '<' | '['));
    let marks = marks.into_iter().next().unwrap_or_default();
    let before = characters.get(..word.text_start).unwrap_or_default().iter();
    let opening: Vec<char> = (before.rev())
        .take_while(|c| matches!(c, '"' | '“' | '‘' | '(' | '¿' | '¡' | '«'))
        .copied()
        .collect();
    let glued = !between.contains(char::is_whitespace) && next.is_some();
    let mut shown: String = opening.into_iter().rev().collect();
    shown.push_str(&word.word);
    // Opening marks right before the next word belong to it.
    shown.push_str(match glued {
        true => marks.trim_end_matches(['"', '“', '‘', '(', '¿', '¡', '«']),
        false => marks,
    });
    if !glued {
        shown.push(' ');
    }
    shown
}

/// Words in as few lines as possible; two lines are of about equal length.
fn lines(words: &[String]) -> Vec<String> {
    let whole: String = words.concat();
    let length = |text: &str| text.trim_end().chars().count();
    let limit = match length(&whole) {
        short if short <= LINE_CHARACTERS_MAX => LINE_CHARACTERS_MAX,
        long if long <= LINES_MAX * LINE_CHARACTERS_MAX => {
            // The shortest limit with which two lines suffice.
            (long.div_ceil(LINES_MAX)..=LINE_CHARACTERS_MAX)
                .find(|limit| wrapped(words, *limit).len() <= LINES_MAX)
                .unwrap_or(LINE_CHARACTERS_MAX)
        }
        _ => LINE_CHARACTERS_MAX,
    };
    wrapped(words, limit)
}

fn wrapped(words: &[String], limit: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        let length = word.trim_end().chars().count();
        match lines.last_mut() {
            Some(line) if line.chars().count() + length <= limit => line.push_str(word),
            _ => lines.push(word.clone()),
        }
    }
    let trimmed = lines.into_iter().map(|line| line.trim_end().to_owned());
    trimmed.collect()
}

/// A subtitle file of these cues.
pub fn file(cues: &[Cue], format: SubtitleFormat) -> String {
    let mut file = String::new();
    if format == SubtitleFormat::Vtt {
        file.push_str("WEBVTT\n\n");
    }
    for (index, cue) in cues.iter().enumerate() {
        let (start, end) = (stamp(cue.start, format), stamp(cue.end, format));
        // Writing to a string does not fail.
        let _ = write!(file, "{}\n{start} --> {end}\n", index + 1);
        for line in &cue.lines {
            match format {
                SubtitleFormat::Srt => file.push_str(line),
                SubtitleFormat::Vtt => {
                    let line = line.replace('&', "&amp;").replace('<', "&lt;");
                    file.push_str(&line.replace('>', "&gt;"));
                }
            }
            file.push('\n');
        }
        file.push('\n');
    }
    file
}

/// Hours, minutes, seconds and milliseconds.
fn stamp(seconds: f64, format: SubtitleFormat) -> String {
    let milliseconds = (seconds * 1000.0).round() as u64;
    let mark = match format {
        SubtitleFormat::Srt => ',',
        SubtitleFormat::Vtt => '.',
    };
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let (minutes, hours) = (seconds / 60 % 60, seconds / 3600);
    format!("{hours:02}:{minutes:02}:{:02}{mark}{rest:03}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Words of a text, half a second each.
    fn timed(text: &str) -> Vec<WordTime> {
        let characters: Vec<char> = text.chars().collect();
        let is_word = |at: usize| {
            // Tags are not spoken.
            let open = characters[..at].iter().rposition(|c| *c == '<');
            let closed = characters[..at].iter().rposition(|c| *c == '>');
            open <= closed && (characters[at].is_alphanumeric() || characters[at] == '’')
        };
        let mut words: Vec<WordTime> = Vec::new();
        for (at, character) in characters.iter().enumerate() {
            if !is_word(at) {
                continue;
            }
            match words.last_mut() {
                Some(word) if word.text_end == at => {
                    word.word.push(*character);
                    word.text_end += 1;
                }
                _ => {
                    let start = words.len() as f64 * 0.5;
                    words.push(WordTime {
                        word: character.to_string(),
                        start,
                        end: start + 0.5,
                        text_start: at,
                        text_end: at + 1,
                    });
                }
            }
        }
        words
    }

    fn shown(text: &str) -> Vec<Vec<String>> {
        let cues = cues(text, &timed(text)).into_iter();
        cues.map(|cue| cue.lines).collect()
    }

    #[test]
    fn a_cue_ends_with_its_sentence_and_keeps_the_marks() {
        assert_eq!(
            shown("“Well,” she said (once), “it’s late!” He left."),
            [
                vec!["“Well,” she said (once), “it’s late!”"],
                vec!["He left."]
            ]
        );
        assert_eq!(shown("One <b>two</b> three"), [["One two three"]]);
        assert_eq!(shown("A title\n\nThe text"), [["A title"], ["The text"]]);
    }

    #[test]
    fn long_sentences_become_cues_of_two_balanced_lines() {
        let text = "the quick brown fox jumps over the lazy dog and runs";
        assert_eq!(shown(text).len(), 1);
        let lines = &shown(text)[0];
        assert_eq!(
            lines,
            &["the quick brown fox jumps", "over the lazy dog and runs"]
        );
        assert!(shown(&"word ".repeat(40)).len() > 2);
    }

    #[test]
    fn a_silence_ends_a_cue_and_a_short_one_stays_while_nothing_follows() {
        let mut words = timed("one two three");
        words[1].start += 2.0;
        words[1].end += 2.0;
        words[2].start += 2.0;
        words[2].end += 2.0;
        let cues = cues("one two three", &words);
        assert_eq!(cues.len(), 2);
        assert_eq!((cues[0].start, cues[0].end), (0.0, 1.0));
        assert_eq!(cues[1].lines, ["two three"]);
    }

    #[test]
    fn files_have_the_form_of_their_format() {
        let cues = [Cue {
            start: 3661.0625,
            end: 3662.5,
            lines: vec!["R&D <now>".into(), "on".into()],
        }];
        assert_eq!(
            file(&cues, SubtitleFormat::Srt),
            "1\n01:01:01,063 --> 01:01:02,500\nR&D <now>\non\n\n"
        );
        assert_eq!(
            file(&cues, SubtitleFormat::Vtt),
            "WEBVTT\n\n1\n01:01:01.063 --> 01:01:02.500\nR&amp;D &lt;now&gt;\non\n\n"
        );
        assert_eq!(file(&[], SubtitleFormat::Vtt), "WEBVTT\n\n");
    }

    #[test]
    fn the_extension_names_the_format() {
        let of = |path: &str| SubtitleFormat::from_path(Path::new(path));
        assert_eq!(of("a.SRT"), Ok(SubtitleFormat::Srt));
        assert_eq!(of("a.vtt"), Ok(SubtitleFormat::Vtt));
        assert!(
            of("a.txt")
                .unwrap_err()
                .to_string()
                .starts_with("a.txt: subtitles")
        );
    }

    proptest! {
        #[test]
        fn cues_of_any_text_are_in_order_and_show_every_word(text in "(\\PC|[ a-z.,\n]){0,200}") {
            let words = timed(&text);
            let cues = cues(&text, &words);
            let lines: Vec<String> = cues.iter().flat_map(|cue| cue.lines.clone()).collect();
            let all = lines.join(" ");
            let mut at = 0;
            for word in &words {
                let found = all[at..].find(&word.word);
                prop_assert!(found.is_some(), "{:?} in {all:?}", word.word);
                at += found.unwrap_or(0) + word.word.len();
            }
            for pair in cues.windows(2) {
                prop_assert!(pair[0].end <= pair[1].start && pair[0].start < pair[0].end);
            }
            for cue in &cues {
                prop_assert!(!cue.lines.is_empty() && cue.end - cue.start <= SECONDS_MAX);
            }
        }
    }
}
