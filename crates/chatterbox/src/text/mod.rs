//! The text front end: characters to text tokens. Markup is removed, characters are normalised, and
//! numbers and signs become words where a model needs that. The text is split into sentences, and
//! these into parts that fit one T3 run, which are tokenised.
//!
//! Nothing that can be spoken is dropped. Anything else becomes a pause, or is skipped with a
//! [`Warning`].

mod characters;
mod cut;
mod error;
mod front_end;
mod graphemes;
mod letters;
mod markup;
mod normalise;
mod options;
mod punctuation;
mod script;
mod script_builder;
mod sentences;
mod tokenizer;
mod traced;
mod warning;
mod words;

pub use error::TextError;
pub use front_end::TextFrontEnd;
pub(crate) use graphemes::CANGJIE_FILE;
pub use graphemes::LANGUAGES;
pub use markup::{PARALINGUISTIC_TAGS, ParalinguisticTag};
pub use normalise::{Normaliser, Span};
pub use options::{Normalise, TextOptions, Unreadable};
pub use punctuation::normalise;
pub use script::{Piece, Script, Sentence};
pub use sentences::{SentenceBuffer, ends_sentence, sentence_end, sentences};
pub(crate) use tokenizer::MULTILINGUAL_FILE;
pub use tokenizer::{Tokenizer, TokenizerFiles};
pub use warning::Warning;
pub use words::Word;

/// Whether a text has only white space and invisible characters.
pub fn is_blank(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_whitespace() || characters::is_invisible(c))
}
