//! Errors of the text front end.

/// Why a text cannot be tokenised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The model has no tokenizer file.
    #[error("the model has no {file}; it belongs beside the weights")]
    Missing {
        /// The missing file.
        file: String,
    },
    /// An invalid tokenizer file.
    #[error("{file} is not usable as a tokenizer: {reason}")]
    Unusable {
        /// The file.
        file: String,
        /// The problem.
        reason: String,
    },
    /// The tokenizer failed on a text.
    #[error("the tokenizer refused the text: {reason}")]
    Refused {
        /// The tokenizer's error.
        reason: String,
    },
    /// The text is empty.
    #[error("there is nothing in the text to speak")]
    Empty,
    /// Characters that the model cannot speak, if those are to be refused.
    #[error(
        "this model has no sound for {found:?}: remove it, allow it to be skipped, or use a model for its language"
    )]
    Unreadable {
        /// The characters.
        found: String,
    },
    /// A language that the model does not speak.
    #[error("this model does not speak {language:?}: use {has}")]
    Language {
        /// The language.
        language: String,
        /// Its languages' codes.
        has: String,
    },
    /// Tokenizer and model do not match.
    #[error(
        "the tokenizer gave id {id}, but the model's text vocabulary has {vocabulary}; do they belong together?"
    )]
    IdOutOfRange {
        /// The id.
        id: u32,
        /// Rows of the text embedding.
        vocabulary: usize,
    },
}
