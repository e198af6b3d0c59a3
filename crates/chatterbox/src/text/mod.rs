//! From characters to text tokens: clean, spell out (where a model wants it), cut into sentences, normalise, tokenise.
//!
//! Nothing that can be said is dropped: sentences too long for one run of T3 are cut at clauses, then at spaces, then between any two
//! characters. Control and invisible formatting characters cannot be said and become spaces.

mod cut;
mod error;
mod normalise;
mod spell;
mod tokenizer;

pub use cut::{cut, sentences};
pub use error::TextError;
pub use normalise::normalise;
pub use spell::spell_out;
pub use tokenizer::{Tokenizer, TokenizerFiles};

use crate::config::ModelConfig;
use std::collections::BTreeMap;

/// Characters of an unreadable word that a message shows.
const SHOWN_CHARACTERS_MAX: usize = 20;

/// One sentence ready for T3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// As it was normalised.
    pub text: String,
    /// Its tokens, with the start and stop tokens that the model's T3 expects.
    pub tokens: Vec<u32>,
}

/// A model's text front end.
pub struct TextFrontEnd {
    config: ModelConfig,
    tokenizer: Tokenizer,
}

impl TextFrontEnd {
    /// A front end over a tokenizer.
    ///
    /// # Errors
    /// [`TextError`] names the missing or unreadable tokenizer file.
    pub fn new(
        config: &ModelConfig,
        files: &dyn TokenizerFiles,
    ) -> Result<TextFrontEnd, TextError> {
        let tokenizer = Tokenizer::load(&config.text, files)?;
        Ok(TextFrontEnd {
            config: config.clone(),
            tokenizer,
        })
    }

    /// Ids of one text, normalised but neither cut nor framed by start and stop: what the reference's tokenizer gives.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.tokenizer
            .encode(&normalise(text, self.config.text.normalisation))
    }

    /// Any text as sentences, each within the model's token limit.
    ///
    /// # Errors
    /// [`TextError`] if the tokenizer cannot encode, or gives an id that the model has no embedding for.
    pub fn sentences(&self, text: &str) -> Result<Vec<Sentence>, TextError> {
        let normalisation = self.config.text.normalisation;
        let spelt;
        let text = if self.config.text.spell_out {
            spelt = spell_out(text);
            self.check_readable(&spelt)?;
            &spelt
        } else {
            text
        };
        // A piece that the tokenizer refuses counts as nothing here and is reported below.
        let count = |piece: &str| {
            self.tokenizer
                .encode(&normalise(piece, normalisation))
                .map_or(0, |ids| ids.len())
        };
        cut(text, self.config.text.token_count_max, &count)
            .into_iter()
            .map(|piece| {
                let text = normalise(&piece, normalisation);
                let tokens = self.frame(self.tokenizer.encode(&text)?)?;
                Ok(Sentence { text, tokens })
            })
            .collect()
    }

    /// Whether each letter gives the tokenizer something: one that knows English words alone passes over others in silence.
    fn check_readable(&self, text: &str) -> Result<(), TextError> {
        let mut known = BTreeMap::new();
        for (at, character) in text.char_indices() {
            if character.is_ascii() || !character.is_alphanumeric() {
                continue;
            }
            let lost = match known.get(&character) {
                Some(&lost) => lost,
                None => self.tokenizer.encode(&character.to_string())?.is_empty(),
            };
            known.insert(character, lost);
            if lost {
                let found = text[at..].chars().take(SHOWN_CHARACTERS_MAX);
                return Err(TextError::Unreadable {
                    found: found.take_while(|c| c.is_alphanumeric()).collect(),
                });
            }
        }
        Ok(())
    }

    fn frame(&self, mut ids: Vec<u32>) -> Result<Vec<u32>, TextError> {
        let vocabulary = self.config.t3.text_vocabulary;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(TextError::IdOutOfRange { id, vocabulary });
        }
        if let Some((start, stop)) = self.config.t3.text_start_stop {
            ids.insert(0, start);
            ids.push(stop);
        }
        Ok(ids)
    }
}
