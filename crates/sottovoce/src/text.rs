//! Reading of a text without speaking it: its words, its pauses, and what is skipped.

use crate::error::Error;
use crate::loading::open_model;
use crate::options::Source;
use crate::text_filter::TextFilter;
use crate::text_stage::TextStage;
use std::path::Path;

pub use sottovoce_chatterbox::text::{
    LANGUAGES, Normalise, PARALINGUISTIC_TAGS, ParalinguisticTag, Piece, Script, Sentence,
    SentenceBuffer, TextOptions, Unreadable, Warning, ends_sentence, is_blank, sentence_end,
    sentences,
};

/// A text as the model would read it. Only the model's tokenizer is loaded.
///
/// # Errors
/// [`Error::Text`] if the text is empty, or if the options refuse characters without a sound and it
/// has some; [`Error::Model`] if the model has no tokenizer.
pub fn script(source: &Source, text: &str, options: &TextOptions) -> Result<Script, Error> {
    TextStage::open(&open_model(source)?)?.script(text, options)
}

/// A text in a language as the program of the option `text_filter` changes it.
///
/// # Errors
/// [`Error::Option`] if the program does not start, [`Error::Text`] if it does not answer.
pub fn filtered(program: &Path, text: &str, language: &str) -> Result<String, Error> {
    TextFilter::start(program)?.apply(text, language)
}

/// Codes of the languages that a model speaks, its default first.
///
/// # Errors
/// [`Error::Model`] if the model cannot be opened.
pub fn languages(source: &Source) -> Result<Vec<String>, Error> {
    let model = open_model(source)?;
    let text = &model.config().text;
    let default = text.default_language();
    let others = text.languages.iter().map(String::as_str);
    let codes = [default]
        .into_iter()
        .chain(others.filter(|code| *code != default));
    Ok(codes.map(str::to_owned).collect())
}

/// Tags such as `laugh` that a model supports, without brackets.
///
/// # Errors
/// [`Error::Model`] if the model has no tokenizer.
pub fn tags(source: &Source) -> Result<Vec<String>, Error> {
    Ok(TextStage::open(&open_model(source)?)?.tags().to_vec())
}
