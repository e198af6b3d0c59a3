//! How a text will be read: what is said, where it pauses, what is passed over; without speaking
//! it.

use crate::error::Error;
use crate::loading::model;
use crate::options::Source;
use crate::text_stage::TextStage;

pub use sottovoce_chatterbox::text::{
    Normalise, PARALINGUISTIC_TAGS, ParalinguisticTag, Piece, Script, Sentence, SentenceBuffer,
    TextOptions, Unreadable, Warning, is_blank, sentence_end, sentences,
};

/// A text as a model will read it. Nothing but the model's tokenizer is loaded.
///
/// # Errors
/// [`Error::Text`] if there is nothing in the text, or it was asked to refuse what the model has no
/// sound for; [`Error::Model`] if the model has no
/// tokenizer.
pub fn script(source: &Source, text: &str, options: &TextOptions) -> Result<Script, Error> {
    TextStage::open(&model(source)?)?.script(text, options)
}

/// Tags such as `laugh` that a model knows, without brackets.
///
/// # Errors
/// [`Error::Model`] if the model has no tokenizer.
pub fn tags(source: &Source) -> Result<Vec<String>, Error> {
    Ok(TextStage::open(&model(source)?)?.tags().to_vec())
}
