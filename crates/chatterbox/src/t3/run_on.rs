//! Detection of run-on speech: a loop, or far more tokens than any reading of the text takes.
//!
//! The reference detects this from the attention of a few heads, in its multilingual model only.
//! This detector needs only the tokens and works for every model.

use std::collections::VecDeque;

/// Longest period of a loop, in tokens: 1 s.
const PERIOD_MAX: usize = 25;
/// Tokens of repetition after which a sequence counts as a loop: 3 s. Silence within a sentence is
/// shorter.
const LOOPED_TOKENS: usize = 75;

/// Tokens allowed for any text: 3 s.
const TOKENS_AT_LEAST: usize = 75;
/// Tokens allowed per letter. Speakers read 12 to 18 letters a second, so this is less than half
/// the slowest rate.
const TOKENS_A_LETTER: usize = 4;
/// Per capital letter, which may be read by its name.
const TOKENS_A_CAPITAL: usize = 12;
/// Per sign that is read as a word or a syllable: digits, symbols, letters of syllabic scripts.
const TOKENS_A_SIGN: usize = 24;
/// Per punctuation mark with a pause.
const TOKENS_A_MARK: usize = 12;
/// Per bracketed sound, such as a laugh.
const TOKENS_A_SOUND: usize = 100;

/// Most speech tokens of any reading of a text.
pub fn speech_tokens_max(spoken: &str) -> usize {
    let tokens = spoken.chars().map(|character| match character {
        '[' => TOKENS_A_SOUND,
        _ if character.is_whitespace() => 0,
        _ if character.is_ascii_punctuation() => TOKENS_A_MARK,
        _ if character.is_lowercase() => TOKENS_A_LETTER,
        _ if character.is_uppercase() => TOKENS_A_CAPITAL,
        _ => TOKENS_A_SIGN,
    });
    TOKENS_AT_LEAST + tokens.sum::<usize>()
}

/// Why a sentence is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOn {
    /// The same tokens repeat.
    Loop,
    /// More tokens than the text can take.
    Length,
}

/// Run-on detector for the tokens of one sentence.
#[derive(Debug, Clone)]
pub struct RunOnWatch {
    left: usize,
    recent: VecDeque<u32>,
    /// For each period, the number of successive tokens equal to the one a period earlier.
    repeated: [usize; PERIOD_MAX],
}

impl RunOnWatch {
    /// A detector for a sentence of at most `tokens_max` tokens.
    pub fn new(tokens_max: usize) -> RunOnWatch {
        RunOnWatch {
            left: tokens_max,
            recent: VecDeque::with_capacity(PERIOD_MAX),
            repeated: [0; PERIOD_MAX],
        }
    }

    /// Takes the next token. Returns a reason if the sentence must end with it.
    pub fn see(&mut self, token: u32) -> Option<RunOn> {
        for (before, repeated) in self.recent.iter().zip(&mut self.repeated) {
            *repeated = if *before == token { *repeated + 1 } else { 0 };
        }
        self.recent.truncate(PERIOD_MAX - 1);
        self.recent.push_front(token);
        self.left = self.left.saturating_sub(1);
        if self.repeated.iter().any(|count| *count >= LOOPED_TOKENS) {
            Some(RunOn::Loop)
        } else {
            (self.left == 0).then_some(RunOn::Length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended_at(tokens: impl IntoIterator<Item = u32>, most: usize) -> Option<(usize, RunOn)> {
        let mut watch = RunOnWatch::new(most);
        let ends = tokens.into_iter().map(|token| watch.see(token));
        ends.enumerate()
            .find_map(|(index, end)| Some((index + 1, end?)))
    }

    #[test]
    fn a_loop_of_up_to_a_second_ends_after_three_seconds_of_it() {
        for period in [1, 2, 7, 25] {
            let speech = (0..40u32).map(|token| 1000 + token * token);
            let tokens = speech.chain((0..500).map(|token| token % period));
            assert_eq!(
                ended_at(tokens, 10_000),
                Some((40 + period as usize + LOOPED_TOKENS, RunOn::Loop)),
                "period {period}"
            );
        }
        let slow = (0..2000u32).map(|token| token % 26);
        assert_eq!(ended_at(slow, 10_000), None, "longer ones may be speech");
    }

    #[test]
    fn silences_and_repeated_words_are_no_loops() {
        let silence = std::iter::repeat_n(9, 60);
        let tokens = silence.clone().chain(0..80).chain(silence).chain(0..80);
        assert_eq!(ended_at(tokens, 10_000), None);
    }

    #[test]
    fn a_sentence_ends_where_no_reading_of_it_would_go_on() {
        assert_eq!(ended_at(0..1000, 200), Some((200, RunOn::Length)));
    }

    #[test]
    fn slow_readers_stay_within_the_length() {
        for (text, seconds) in [
            ("Yes.", 2.0),
            ("We counted forty two boats before it got dark.", 8.0),
            ("1,234,567.89", 10.0),
            ("HTML, USB and SQL.", 7.0),
            ("[laugh] You said it.", 6.0),
            ("今天天气很好", 4.0),
            ("$5m", 3.0),
        ] {
            let most = speech_tokens_max(text) as f64 / 25.0;
            assert!(most > seconds, "{text:?} may take {most} s");
        }
        let prose = "the quick brown fox jumps over the lazy dog ".repeat(4);
        let usual = prose.len() * 25 / 15;
        assert!(speech_tokens_max(&prose) < 3 * usual + TOKENS_AT_LEAST);
    }
}
