//! Times of the written words in the delivered sound.

use crate::options::{SAMPLE_RATE, SAMPLES_PER_TOKEN};
use serde::Serialize;
use std::collections::VecDeque;
use std::ops::Range;

/// A written word, and when it is heard.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WordTime {
    /// The word as written, without the marks around it.
    pub word: String,
    /// Its beginning, in seconds from the start of the stream's sound.
    pub start: f64,
    /// Its end, in seconds from the start of the stream's sound.
    pub end: f64,
    /// Its first character in the stream's text, in Unicode scalar values from 0.
    pub text_start: usize,
    /// The character after its last one.
    pub text_end: usize,
}

/// A word and its speech tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SpokenWord {
    pub word: String,
    /// Characters in the stream's text.
    pub text: Range<usize>,
    /// Speech tokens since the last silence, or since the start.
    pub tokens: Range<usize>,
}

/// The words of a stream on the clock of its samples. Each run of speech between silences begins at
/// a known sample, and a token in it has a fixed length at the stream's speed.
pub(crate) struct WordClock {
    speed: f64,
    /// Samples before the current run of speech.
    run_start: u64,
    /// Words that have not been delivered.
    waiting: VecDeque<WordTime>,
}

impl WordClock {
    /// The clock of a stream at its start.
    pub fn new(speed: f32) -> WordClock {
        WordClock {
            speed: f64::from(speed),
            run_start: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Samples of this many tokens.
    fn samples(&self, tokens: usize) -> u64 {
        ((tokens * SAMPLES_PER_TOKEN) as f64 / self.speed).round() as u64
    }

    /// Adds words of the current run.
    pub fn add(&mut self, words: impl IntoIterator<Item = SpokenWord>) {
        for word in words {
            let time = |tokens: usize| {
                let samples = self.run_start + self.samples(tokens);
                (samples as f64 / f64::from(SAMPLE_RATE) * 1000.0).round() / 1000.0
            };
            let time = WordTime {
                start: time(word.tokens.start),
                end: time(word.tokens.end),
                word: word.word,
                text_start: word.text.start,
                text_end: word.text.end,
            };
            self.waiting.push_back(time);
        }
    }

    /// Ends a run of speech of this many tokens.
    pub fn end_run(&mut self, tokens: usize) {
        self.run_start += self.samples(tokens);
    }

    /// Adds a silence.
    pub fn silence(&mut self, samples: usize) {
        self.run_start += samples as u64;
    }

    /// The words that begin in the first `samples` samples; with `last`, all others too.
    pub fn take(&mut self, samples: u64, last: bool) -> Vec<WordTime> {
        let seconds = samples as f64 / f64::from(SAMPLE_RATE);
        let begun = (self.waiting.iter()).take_while(|word| last || word.start < seconds);
        let count = begun.count();
        self.waiting.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(word: &str, tokens: Range<usize>) -> SpokenWord {
        SpokenWord {
            word: word.into(),
            text: 0..word.len(),
            tokens,
        }
    }

    #[test]
    fn words_follow_silences_and_the_speed() {
        for (speed, rate) in [(1.0, 1.0), (2.0, 0.5), (0.5, 2.0)] {
            let mut clock = WordClock::new(speed);
            clock.add([word("one", 0..5), word("two", 6..25)]);
            clock.end_run(30);
            clock.silence(12_000);
            clock.silence(12_000);
            clock.add([word("three", 2..3)]);
            let times: Vec<_> = (clock.take(0, true).into_iter())
                .map(|word| (word.start, word.end))
                .collect();
            let expected = [
                (0.0, 0.2 * rate),
                (0.24 * rate, 1.0 * rate),
                (1.0 + 1.28 * rate, 1.0 + 1.32 * rate),
            ];
            for (found, expected) in times.iter().zip(expected) {
                assert!((found.0 - expected.0).abs() < 1e-9, "{times:?}");
                assert!((found.1 - expected.1).abs() < 1e-9, "{times:?}");
            }
        }
    }

    #[test]
    fn a_word_comes_with_the_samples_in_which_it_begins() {
        let mut clock = WordClock::new(1.0);
        clock.add([
            word("one", 0..5),
            word("two", 10..15),
            word("three", 20..22),
        ]);
        let taken = |words: Vec<WordTime>| -> Vec<String> {
            words.into_iter().map(|word| word.word).collect()
        };
        assert_eq!(taken(clock.take(9 * 960, false)), ["one"]);
        assert_eq!(taken(clock.take(10 * 960, false)), [""; 0]);
        assert_eq!(taken(clock.take(11 * 960, false)), ["two"]);
        assert_eq!(taken(clock.take(11 * 960, true)), ["three"]);
    }
}
