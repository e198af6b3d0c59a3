//! Scripts: chapters, and lines of `VOICE: text`.

use std::collections::BTreeSet;

/// Longest name of a speaker, in characters.
const NAME_CHARACTERS_MAX: usize = 40;
/// Most words of a speaker's name.
const NAME_WORDS_MAX: usize = 3;

/// A chapter of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chapter {
    /// Its title; empty before the first title.
    pub title: String,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// A line: the text of one speaker up to the next name or empty line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Number of its first line in the file, from 1.
    pub number: usize,
    /// The speaker as written; empty for the default voice.
    pub speaker: String,
    /// The text, which may contain pauses.
    pub text: String,
}

/// Parses a script.
///
/// `# Title` begins a chapter. `NAME: text` is spoken by NAME, and so is what follows, until the
/// next name. An empty line begins a new line of the same speaker. A line that is indented is text
/// in any case. Lines before the first name are spoken by the default voice.
pub fn parse(script: &str) -> Vec<Chapter> {
    let mut chapters: Vec<Chapter> = Vec::new();
    let mut speaker = String::new();
    let mut apart = true;
    for (index, written) in script.lines().enumerate() {
        let text = written.trim();
        let title = written.strip_prefix("# ");
        if title.is_some() || chapters.is_empty() {
            chapters.push(Chapter {
                title: title.unwrap_or_default().trim().to_owned(),
                lines: Vec::new(),
            });
            apart = true;
        }
        if title.is_some() {
            continue;
        }
        if text.is_empty() {
            apart = true;
            continue;
        }
        let named = match written.starts_with(char::is_whitespace) {
            true => None,
            false => name_of(text),
        };
        let text = match named {
            Some((name, text)) => {
                speaker = name.to_owned();
                apart = true;
                text
            }
            None => text,
        };
        let Some(chapter) = chapters.last_mut() else {
            continue;
        };
        match chapter.lines.last_mut() {
            Some(line) if !apart => {
                line.text.push(' ');
                line.text.push_str(text);
            }
            _ => chapter.lines.push(Line {
                number: index + 1,
                speaker: speaker.clone(),
                text: text.to_owned(),
            }),
        }
        apart = false;
    }
    for chapter in &mut chapters {
        chapter.lines.retain(|line| !line.text.is_empty());
    }
    chapters.retain(|chapter| !chapter.lines.is_empty());
    chapters
}

/// The name at the beginning of a line, and the text after it.
fn name_of(line: &str) -> Option<(&str, &str)> {
    let (name, text) = line.split_once(':')?;
    // The colon of a time, a ratio or an address ends no name.
    if !(text.is_empty() || text.starts_with(char::is_whitespace)) {
        return None;
    }
    let sign = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | '\'' | '’');
    let valid = name.starts_with(char::is_alphanumeric)
        && name.chars().all(sign)
        && name.chars().count() <= NAME_CHARACTERS_MAX
        && name.split_whitespace().count() <= NAME_WORDS_MAX;
    valid.then(|| (name.trim(), text.trim()))
}

/// The speakers of a script, each with the number of its first line.
pub fn speakers(chapters: &[Chapter]) -> Vec<(String, usize)> {
    let mut seen = BTreeSet::new();
    let lines = chapters.iter().flat_map(|chapter| &chapter.lines);
    let first = lines.filter(|line| seen.insert(line.speaker.clone()));
    first
        .map(|line| (line.speaker.clone(), line.number))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(script: &str) -> Vec<(usize, String, String)> {
        let lines = parse(script).into_iter().flat_map(|chapter| chapter.lines);
        lines
            .map(|line| (line.number, line.speaker, line.text))
            .collect()
    }

    fn line(number: usize, speaker: &str, text: &str) -> (usize, String, String) {
        (number, speaker.to_owned(), text.to_owned())
    }

    #[test]
    fn chapters_and_speakers_are_found() {
        let script = "# One\\n\\nAnn: Good day.\\nHow are you?\\n\\nBob Smith: Well, it is 5:30.\\n# Two\\nFine.\\n"
            .replace("\\n", "\n");
        let chapters = parse(&script);
        let titles: Vec<&str> = chapters.iter().map(|chapter| &*chapter.title).collect();
        assert_eq!(titles, ["One", "Two"]);
        assert_eq!(
            lines(&script),
            [
                line(3, "Ann", "Good day. How are you?"),
                line(6, "Bob Smith", "Well, it is 5:30."),
                line(8, "Bob Smith", "Fine."),
            ]
        );
        assert_eq!(
            speakers(&chapters),
            [("Ann".to_owned(), 3), ("Bob Smith".to_owned(), 6)]
        );
    }

    #[test]
    fn an_empty_line_begins_another_line_of_the_same_speaker() {
        assert_eq!(
            lines("Ann: One.\n\nTwo.\n[pause:1s]\n"),
            [line(1, "Ann", "One."), line(3, "Ann", "Two. [pause:1s]")]
        );
    }

    #[test]
    fn what_only_looks_like_a_name_is_text() {
        for text in [
            "https://example.org is an address",
            "5:30 is a time",
            "He said what nobody had said before: nothing.",
            " Ann: indented",
            "“Ann”: quoted",
        ] {
            assert_eq!(lines(text), [line(1, "", text.trim())], "{text:?}");
        }
    }

    #[test]
    fn a_script_without_lines_has_no_chapters() {
        for script in ["", "\n\n", "# Title\n", "Ann:\n"] {
            assert_eq!(parse(script), [], "{script:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_script_is_parsed(script in "(\\PC|[a-zA:# \n]){0,200}") {
            for (number, _, text) in lines(&script) {
                proptest::prop_assert!(number >= 1 && !text.is_empty());
            }
        }
    }
}
