//! The result of the text front end: sentences and pauses, in speaking order.

use super::{Warning, Word};

/// One sentence, or a part of a long one, ready for T3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// The source text.
    pub written: String,
    /// The spoken text.
    pub text: String,
    /// Its tokens, with the start and stop tokens that the model's T3 expects.
    pub tokens: Vec<u32>,
    /// Its words, in order.
    pub words: Vec<Word>,
}

/// A part of a text, in speaking order.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Words for T3.
    Words(Sentence),
    /// Silence.
    Pause {
        /// The source text; empty between paragraphs.
        written: String,
        /// Length in seconds.
        seconds: f64,
    },
}

/// A text prepared for speech.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Script {
    /// Words and pauses.
    pub pieces: Vec<Piece>,
    /// Warnings about what was skipped or changed.
    pub warnings: Vec<Warning>,
}

impl Script {
    /// The pieces with words.
    pub fn into_sentences(self) -> Vec<Sentence> {
        let words = self.pieces.into_iter().filter_map(|piece| match piece {
            Piece::Words(sentence) => Some(sentence),
            Piece::Pause { .. } => None,
        });
        words.collect()
    }
}
