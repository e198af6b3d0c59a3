//! Text to sentences of tokens: the model's own front end, or letters as tokens where random weights have no tokenizer.

use crate::error::Error;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::text::{Sentence, TextFrontEnd, cut};
use sottovoce_chatterbox::weights::Source;

/// A model's text front end.
pub(crate) enum TextStage {
    Trained(Box<TextFrontEnd>),
    Letters(Box<ModelConfig>),
}

impl TextStage {
    /// The front end of a model.
    pub fn open(source: &Source) -> Result<TextStage, Error> {
        if source.is_synthetic() {
            return Ok(TextStage::Letters(Box::new(source.config().clone())));
        }
        let front_end = TextFrontEnd::new(source.config(), source)
            .map_err(|error| Error::model(source.name(), error))?;
        Ok(TextStage::Trained(Box::new(front_end)))
    }

    /// Sentences, each within T3's limit.
    pub fn sentences(&self, text: &str) -> Result<Vec<Sentence>, Error> {
        let sentences = match self {
            TextStage::Trained(front_end) => {
                front_end.sentences(text).map_err(|error| Error::Text {
                    reason: error.to_string(),
                })?
            }
            TextStage::Letters(config) => letters(config, text),
        };
        if sentences.is_empty() {
            return Err(Error::Text {
                reason: "there is nothing in it to speak".into(),
            });
        }
        Ok(sentences)
    }
}

fn letters(config: &ModelConfig, text: &str) -> Vec<Sentence> {
    let vocabulary = config.t3.text_vocabulary as u32;
    let token = |letter: char| letter as u32 % vocabulary;
    cut(text, config.text.token_count_max, &|piece| {
        piece.chars().count()
    })
    .into_iter()
    .map(|text| {
        let mut tokens: Vec<u32> = text.chars().map(token).collect();
        if let Some((start, stop)) = config.t3.text_start_stop {
            tokens.insert(0, start);
            tokens.push(stop);
        }
        Sentence { text, tokens }
    })
    .collect()
}
