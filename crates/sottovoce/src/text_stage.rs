//! From text to sentences of tokens: by the model's front end, or one token per character for
//! random weights, which have no tokenizer.

use crate::error::Error;
use sottovoce_chatterbox::text::{Script, TextError, TextFrontEnd, TextOptions};
use sottovoce_chatterbox::weights::WeightSource;

/// A model's text front end.
pub(crate) struct TextStage {
    front_end: TextFrontEnd,
}

impl TextStage {
    /// The front end of a model.
    pub fn open(source: &WeightSource) -> Result<TextStage, Error> {
        let front_end = if source.is_synthetic() {
            TextFrontEnd::characters(source.config())
        } else {
            TextFrontEnd::new(source.config(), source)
                .map_err(|error| Error::model(source.name(), error))?
        };
        Ok(TextStage { front_end })
    }

    /// Sentences and pauses of a text; each sentence fits T3's limit.
    pub fn script(&self, text: &str, options: &TextOptions) -> Result<Script, Error> {
        self.front_end.script(text, options).map_err(refusal)
    }

    /// As [`TextStage::script`], for text that continues an earlier one, `after_words` or after a
    /// pause.
    pub fn further_script(
        &self,
        text: &str,
        after_words: bool,
        options: &TextOptions,
    ) -> Result<Script, Error> {
        (self.front_end)
            .further_script(text, after_words, options)
            .map_err(refusal)
    }

    /// Tags that the model supports, without brackets.
    pub fn tags(&self) -> &[String] {
        self.front_end.tags()
    }
}

fn refusal(error: TextError) -> Error {
    Error::Text {
        reason: error.to_string(),
    }
}
