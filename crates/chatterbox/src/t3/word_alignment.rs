//! Word times from the alignment heads' attention: the most likely monotonic path through the text,
//! with a fixed delay, so that words are known while a sentence is under way.

use std::collections::VecDeque;
use std::ops::Range;

/// Speech tokens after which the path to a token is decided. It is less than the flow's look-ahead,
/// so that a chunk's words are known when the chunk is made.
const DELAY: usize = 6;
/// Added to every weight, so that a row without attention to the text has no influence.
const FLOOR: f32 = 1e-2;
/// Most text tokens that a path may advance in one speech token.
const ADVANCE_MAX: usize = 4;
/// Cost of each skipped text token.
const PASS_COST: f32 = 1.0;

/// A word and the speech tokens that speak it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlignedWord {
    /// Index of the word in its sentence.
    pub word: usize,
    /// Its speech tokens, counted from the sentence's first; empty if it was skipped.
    pub speech: Range<usize>,
}

/// Word alignment of one sentence under way.
#[derive(Debug, Clone)]
pub struct WordAligner {
    /// Text tokens of each word.
    words: Vec<Range<usize>>,
    /// Log likelihood of the best path to each text token.
    scores: Vec<f32>,
    /// For each of the last tokens, how far the best path to each text token advanced.
    advances: VecDeque<Vec<u8>>,
    /// Speech tokens whose place in the text is decided.
    decided: usize,
    /// The last decided place.
    place: usize,
    /// Start of the current word.
    started: Option<usize>,
    /// The current word.
    word: usize,
}

impl WordAligner {
    /// An alignment of words, given the text tokens of each in order, in a text of `text` tokens.
    pub fn new(words: Vec<Range<usize>>, text: usize) -> WordAligner {
        let mut scores = vec![f32::NEG_INFINITY; text];
        if let Some(first) = scores.first_mut() {
            *first = 0.0;
        }
        WordAligner {
            words,
            scores,
            advances: VecDeque::with_capacity(DELAY + 1),
            decided: 0,
            place: 0,
            started: None,
            word: 0,
        }
    }

    /// Takes the attention of the next speech token to the text
    /// ([`AlignmentRows`](super::AlignmentRows)) and returns the words that ended.
    ///
    /// # Panics
    /// If `attention` has another length than the text.
    pub fn see(&mut self, attention: &[f32]) -> Vec<AlignedWord> {
        assert_eq!(
            attention.len(),
            self.scores.len(),
            "one weight per text token"
        );
        let mut advances = vec![0; attention.len()];
        let mut scores = vec![f32::NEG_INFINITY; attention.len()];
        for (place, (score, advance)) in scores.iter_mut().zip(&mut advances).enumerate() {
            for step in 0..=ADVANCE_MAX.min(place) {
                let passed = step.saturating_sub(1) as f32;
                let candidate = self.scores[place - step] - PASS_COST * passed;
                if candidate > *score {
                    (*score, *advance) = (candidate, step as u8);
                }
            }
            *score += (attention[place] + FLOOR).ln();
        }
        // Only differences count; small sums keep their precision.
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        scores.iter_mut().for_each(|score| *score -= most);
        self.scores = scores;
        self.advances.push_back(advances);
        let mut ended = Vec::new();
        if self.advances.len() > DELAY {
            let path = self.path();
            self.advances.pop_front();
            self.decide(path[0], &mut ended);
        }
        ended
    }

    /// The words that have not ended, at the end of the sentence.
    pub fn finish(&mut self) -> Vec<AlignedWord> {
        let mut ended = Vec::new();
        let path = self.path();
        self.advances.clear();
        for place in path {
            self.decide(place, &mut ended);
        }
        self.decide(usize::MAX, &mut ended);
        ended
    }

    /// Places of the undecided tokens on the best path.
    fn path(&self) -> Vec<usize> {
        let best = (self.scores.iter().enumerate()).max_by(|left, right| left.1.total_cmp(right.1));
        let mut place = best.map_or(0, |(place, _)| place);
        let mut places = Vec::with_capacity(self.advances.len());
        for advances in self.advances.iter().rev() {
            places.push(place);
            place -= advances
                .get(place)
                .map_or(0, |advance| usize::from(*advance));
        }
        places.reverse();
        places
    }

    /// Decides the place of the next speech token.
    fn decide(&mut self, place: usize, ended: &mut Vec<AlignedWord>) {
        self.place = self.place.max(place);
        while let Some(tokens) = self.words.get(self.word) {
            if self.started.is_none() && self.place >= tokens.start {
                self.started = Some(self.decided);
            }
            match self.started {
                Some(start) if self.place >= tokens.end => {
                    ended.push(AlignedWord {
                        word: self.word,
                        speech: start..self.decided,
                    });
                    self.word += 1;
                    self.started = None;
                }
                _ => break,
            }
        }
        self.decided += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn aligned(words: &[Range<usize>], text: usize, rows: &[Vec<f32>]) -> Vec<AlignedWord> {
        let mut aligner = WordAligner::new(words.to_vec(), text);
        let mut found: Vec<AlignedWord> = rows.iter().flat_map(|row| aligner.see(row)).collect();
        found.extend(aligner.finish());
        found
    }

    /// Rows that attend to these places.
    fn rows(places: &[usize], text: usize) -> Vec<Vec<f32>> {
        let row = |&place: &usize| {
            let mut row = vec![0.01; text];
            row[place] = 0.7;
            row
        };
        places.iter().map(row).collect()
    }

    #[test]
    fn words_begin_and_end_where_the_attention_moves_on() {
        // Two words, a space, a word of two tokens, an end mark.
        let words = [0..1, 2..4];
        let places = [0, 0, 0, 1, 2, 2, 3, 3, 3, 4, 4];
        let found = aligned(&words, 5, &rows(&places, 5));
        assert_eq!(
            found,
            [
                AlignedWord {
                    word: 0,
                    speech: 0..3
                },
                AlignedWord {
                    word: 1,
                    speech: 4..9
                },
            ]
        );
    }

    #[test]
    fn a_glance_elsewhere_moves_no_border() {
        let words = [0..1, 1..2, 2..3];
        let places = [0, 0, 2, 0, 0, 1, 1, 0, 1, 1, 2, 2, 2, 2];
        let found = aligned(&words, 3, &rows(&places, 3));
        let speech: Vec<_> = found.into_iter().map(|word| word.speech).collect();
        assert_eq!(speech, [0..5, 5..10, 10..14]);
    }

    #[test]
    fn a_word_is_told_a_fixed_delay_after_its_end() {
        let mut aligner = WordAligner::new(vec![0..1, 1..2], 2);
        let places = [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        let told = (rows(&places, 2).iter()).position(|row| !aligner.see(row).is_empty());
        assert_eq!(told, Some(3 + DELAY));
    }

    #[test]
    fn a_sentence_cut_off_early_tells_all_its_words() {
        let words = [0..1, 1..2, 2..2, 2..3];
        let found = aligned(&words, 3, &rows(&[0, 0], 3));
        assert_eq!(found.len(), 4);
        assert_eq!(found[0].speech, 0..2);
        assert!(found[1..].iter().all(|word| word.speech == (2..2)));
        assert_eq!(aligned(&[], 0, &[]), []);
    }

    proptest! {
        #[test]
        fn any_attention_gives_each_word_once_in_order(
            text in 1usize..20, tokens in 0usize..60, seed: u64,
        ) {
            let mut random = seed | 1;
            let mut next = || {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 40) as f32 / (1 << 24) as f32
            };
            let rows: Vec<Vec<f32>> = (0..tokens).map(|_| (0..text).map(|_| next()).collect()).collect();
            let words: Vec<Range<usize>> = (0..text).step_by(2).map(|at| at..at + 1).collect();
            let found = aligned(&words, text, &rows);
            prop_assert_eq!(found.len(), words.len());
            let mut end = 0;
            for (index, word) in found.iter().enumerate() {
                prop_assert_eq!(word.word, index);
                prop_assert!(word.speech.start >= end && word.speech.end >= word.speech.start);
                end = word.speech.end;
            }
            prop_assert!(end <= tokens);
        }
    }
}
