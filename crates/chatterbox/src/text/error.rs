//! What can go wrong between characters and tokens.

/// Why a text cannot be tokenised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The model has no tokenizer.
    #[error("the model has no {file}; it belongs beside the weights")]
    Missing {
        /// The file looked for.
        file: String,
    },
    /// A tokenizer file that cannot be used.
    #[error("{file} is not usable as a tokenizer: {reason}")]
    Unusable {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The tokenizer refused a text.
    #[error("the tokenizer refused the text: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// There is nothing in the text.
    #[error("there is nothing in the text to speak")]
    Empty,
    /// Characters that a model has no sound for, where that is to be refused.
    #[error(
        "this model has no sound for {found:?}: leave that out, let it be passed over, or speak with a model for its language"
    )]
    Unreadable {
        /// What it cannot read.
        found: String,
    },
    /// Tokenizer and model do not belong together.
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
