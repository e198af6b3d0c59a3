//! Reduction of a text to what an English-only voice has learnt: letters by name, one mark for a
//! run of marks, ASCII letters.

use super::normalise::is_initialism;

/// Letters that do not decompose into ASCII letters, in both cases where there are two.
const ENGLISH_LETTERS: [(&str, &str); 11] = [
    ("ßẞ", "ss"),
    ("æÆ", "ae"),
    ("œŒ", "oe"),
    ("øØ", "o"),
    ("łŁ", "l"),
    ("đĐ", "d"),
    ("ðÐþÞ", "th"),
    ("ħĦ", "h"),
    ("ı", "i"),
    ("ŋŊ", "ng"),
    ("ĸ", "k"),
];
/// Limit of a word's letters; the longest English words in use have fewer than 30.
const WORD_LETTERS_MAX: usize = 40;
/// Fewest letters of a word that a comma separates from its repetition.
const REPEATED_LETTERS_MIN: usize = 3;

/// Reduces a spoken text to letters and marks that such a voice has learnt.
pub(super) fn for_words_alone(spoken: &str) -> String {
    let mut text = String::with_capacity(spoken.len());
    let mut rest = spoken;
    let mut previous = "";
    while let Some(first) = rest.chars().next() {
        let length = match first {
            _ if first.is_alphabetic() => {
                let end = rest
                    .find(|c: char| !c.is_alphabetic())
                    .unwrap_or(rest.len());
                let word = &rest[..end];
                if is_repeated(previous, word) && text.ends_with(' ') {
                    text.insert(text.len() - 1, ',');
                }
                push_word(&mut text, word);
                previous = word;
                end
            }
            '.' | '!' | '?' | '…' => {
                let end = rest
                    .find(|c| !matches!(c, '.' | '!' | '?' | '…'))
                    .unwrap_or(rest.len());
                text.push(end_mark(&rest[..end], &rest[end..]));
                end
            }
            ',' | ';' | ':' | '-' | '–' | '—' => {
                let end = rest
                    .find(|c| !matches!(c, ',' | ';' | ':' | '-' | '–' | '—'))
                    .unwrap_or(rest.len());
                // Several hyphens are a dash.
                let several = rest[..end].chars().count() > 1;
                text.push(if several && first == '-' {
                    '—'
                } else {
                    first
                });
                end
            }
            _ => {
                text.push(first);
                first.len_utf8()
            }
        };
        if !first.is_alphabetic() && first != ' ' {
            previous = "";
        }
        rest = &rest[length..];
    }
    // The voice has learnt sentences, which end with a full stop and never with a comma.
    let end = text
        .trim_end_matches([',', ';', ':', '-', '–', '—', ' '])
        .len();
    text.truncate(end);
    text
}

/// Whether a word repeats the one before it. Such a voice loses count in `five five five`; with
/// commas in between it says each word.
fn is_repeated(previous: &str, word: &str) -> bool {
    word.len() >= REPEATED_LETTERS_MIN && previous.eq_ignore_ascii_case(word)
}

/// The mark for a run of marks. At the end of the text, question and exclamation marks win. Before
/// further words the mark is a comma: such a voice has learnt one sentence at a time, and stops at
/// the first full stop.
fn end_mark(run: &str, rest: &str) -> char {
    if rest.contains(char::is_alphanumeric) {
        ','
    } else if run.contains('?') {
        '?'
    } else if run.contains('!') {
        '!'
    } else {
        '.'
    }
}

fn push_word(text: &mut String, word: &str) {
    if is_initialism(word) {
        let (letters, plural) = match word.strip_suffix('s') {
            Some(letters) => (letters, "'s"),
            None => (word, ""),
        };
        for (index, letter) in letters.chars().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            text.push(letter);
        }
        text.push_str(plural);
        return;
    }
    let mut count = 0;
    for letter in word.chars() {
        if count == WORD_LETTERS_MAX {
            text.push(' ');
            count = 0;
        }
        count += 1;
        match ENGLISH_LETTERS
            .iter()
            .find(|(from, _)| from.contains(letter))
        {
            Some((_, letters)) => text.push_str(letters),
            None => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_named_and_a_run_of_marks_is_one() {
        for (spoken, given) in [
            ("HTML and GPUs", "H T M L and G P U's"),
            ("Hello!!!!! How are you?", "Hello, How are you?"),
            ("Well?!?! I am not sure", "Well, I am not sure"),
            ("Wait........ what is that", "Wait, what is that"),
            ("Wait... What is that?!", "Wait, What is that?"),
            ("so,, it -- goes", "so, it — goes"),
            ("came to the party,", "came to the party"),
            ("five five five, two", "five, five, five, two"),
            (
                "Twenty twenty-one, very, very",
                "Twenty, twenty-one, very, very",
            ),
            ("no? No. It is, is", "no, No, It is, is"),
            ("Łódź, Bjørn, Straße", "lódź, Bjorn, Strasse"),
        ] {
            assert_eq!(for_words_alone(spoken), given, "{spoken}");
        }
    }

    #[test]
    fn a_word_that_is_too_long_is_cut_and_keeps_its_letters() {
        let given = for_words_alone(&"abcde".repeat(20));
        assert_eq!(given.replace(' ', ""), "abcde".repeat(20));
        assert!(given.split(' ').all(|word| word.len() <= WORD_LETTERS_MAX));
    }
}
