//! The reference's alignment analyser: from the attention of a few heads to the text, it decides
//! whether speech may end or must end. Source: `models/t3/inference/alignment_stream_analyzer.py`
//! of the reference's release 0.1.7.
//!
//! [`run_on`](super::run_on) needs only tokens and works for every model; it stays in force beside
//! this one.

/// Whether the next token may, must or must not be the stop token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stop {
    /// Any token: the model decides.
    #[default]
    Free,
    /// Not the stop token: the text has not been read to its end.
    Forbidden,
    /// The stop token: the text has been read, and speech runs on or repeats itself.
    Forced,
}

/// Number of final text tokens; attention to any of them means that the text has been read: the
/// stop token, the last mark and the last letter.
const TAIL: usize = 3;
/// Number of final text tokens that may be attended to again without counting as a repetition.
const END: usize = 5;
/// Sum of attention weights, over the positions after the text has been read, above which speech
/// runs on: full attention for 1/5 s.
const ATTENTION_MAX: f32 = 5.0;
/// Text tokens by which attention may move between two positions.
const STEPS: std::ops::RangeInclusive<isize> = -3..=6;

/// Watches the alignment of one sentence.
#[derive(Debug, Clone)]
pub struct AlignmentWatch {
    /// Text tokens, with start and stop.
    text: usize,
    frame: usize,
    position: usize,
    is_complete: bool,
    /// Attention to each of the last tokens since the text was read.
    tail: [f32; TAIL],
    /// Largest attention to any earlier token, added up since the text was read.
    repeated: f32,
    before: Option<u32>,
}

impl AlignmentWatch {
    /// A watch of a sentence with this many text tokens.
    pub fn new(text: usize) -> AlignmentWatch {
        AlignmentWatch {
            text,
            frame: 0,
            position: 0,
            is_complete: false,
            tail: [0.0; TAIL],
            repeated: 0.0,
            before: None,
        }
    }

    /// Takes the attention of the newest positions to the text, one row each, and the newest token
    /// (at first the start token); returns the rule for the next one. Without rows everything is
    /// free.
    pub fn see<'r>(&mut self, rows: impl Iterator<Item = &'r [f32]>, token: u32) -> Stop {
        let mut newest = None;
        // Attention to text that cannot have been reached yet does not count.
        let reached = (self.frame + 1).min(self.text);
        for row in rows.filter(|row| row.len() == self.text && self.text > 0) {
            let seen = &row[..reached];
            newest = Some(largest(seen).0);
            if self.is_complete {
                let from = self.text.saturating_sub(TAIL);
                for (sum, weight) in self.tail.iter_mut().zip(seen.get(from..).unwrap_or(&[])) {
                    *sum += weight;
                }
                let earlier = &seen[..reached.min(self.text.saturating_sub(END))];
                self.repeated += largest(earlier).1;
            }
        }
        let Some(newest) = newest else {
            return Stop::Free;
        };
        if STEPS.contains(&(newest as isize - self.position as isize)) {
            self.position = newest;
        }
        self.is_complete |= self.position + TAIL >= self.text;
        let is_token_repeated = self.frame >= 2 && self.before == Some(token);
        self.frame += 1;
        self.before = Some(token);
        let is_tail_long = self.tail.iter().any(|sum| *sum >= ATTENTION_MAX);
        if is_tail_long || self.repeated > ATTENTION_MAX || is_token_repeated {
            Stop::Forced
        } else if newest + TAIL < self.text && self.text > END {
            Stop::Forbidden
        } else {
            Stop::Free
        }
    }
}

/// The first of the largest weights, and its value; zero of none.
fn largest(weights: &[f32]) -> (usize, f32) {
    let mut best = (0, 0.0);
    for (index, &weight) in weights.iter().enumerate() {
        if weight > best.1 {
            best = (index, weight);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: usize = 12;

    /// Attention to one place.
    fn row(place: usize) -> Vec<f32> {
        (0..TEXT)
            .map(|index| if index == place { 0.9 } else { 0.01 })
            .collect()
    }

    /// The rules for tokens that differ, whose positions attend to these places.
    fn rules(places: impl IntoIterator<Item = usize>) -> Vec<Stop> {
        let mut watch = AlignmentWatch::new(TEXT);
        let places = places.into_iter().enumerate();
        places
            .map(|(index, place)| watch.see([&row(place)[..]].into_iter(), index as u32))
            .collect()
    }

    #[test]
    fn speech_may_end_only_once_the_text_is_read() {
        let found = rules(0..TEXT);
        assert!(
            found[..TEXT - TAIL]
                .iter()
                .all(|rule| *rule == Stop::Forbidden),
            "{found:?}"
        );
        assert!(
            found[TEXT - TAIL..].iter().all(|rule| *rule == Stop::Free),
            "{found:?}"
        );
    }

    #[test]
    fn attention_ahead_of_what_can_have_been_read_does_not_count() {
        assert_eq!(rules([11, 11, 11]), [Stop::Forbidden; 3]);
    }

    #[test]
    fn a_long_tail_ends_the_speech() {
        let found = rules((0..TEXT).chain([11; 20]));
        let at = found.iter().position(|rule| *rule == Stop::Forced).unwrap();
        // Positions from 11 on attend to the last token, by 0.9 each.
        assert_eq!(at, 11 + 5, "{found:?}");
    }

    #[test]
    fn text_that_is_read_again_ends_the_speech() {
        let found = rules((0..TEXT).chain((0..TEXT).chain(0..TEXT)));
        let at = found.iter().position(|rule| *rule == Stop::Forced).unwrap();
        assert!((TEXT..2 * TEXT).contains(&at), "{found:?}");
    }

    #[test]
    fn a_token_that_comes_twice_ends_the_speech_after_the_first_two() {
        let mut watch = AlignmentWatch::new(TEXT);
        let tokens = [7, 7, 8, 8];
        let found = tokens.map(|token| watch.see([&row(0)[..]].into_iter(), token));
        assert_eq!(found[..3], [Stop::Forbidden; 3]);
        assert_eq!(found[3], Stop::Forced);
    }

    #[test]
    fn short_texts_and_devices_without_rows_are_left_alone() {
        let mut watch = AlignmentWatch::new(END);
        let first: &[f32] = &[0.9, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(watch.see([first].into_iter(), 1), Stop::Free);
        let mut watch = AlignmentWatch::new(TEXT);
        assert_eq!(watch.see(std::iter::empty(), 1), Stop::Free);
        assert_eq!(watch.see(std::iter::empty(), 1), Stop::Free);
        let mut watch = AlignmentWatch::new(0);
        assert_eq!(watch.see([&[][..]].into_iter(), 1), Stop::Free);
    }
}
