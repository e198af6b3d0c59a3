//! A model's text front end: its tokenizer, its languages, and the scripts they make.

use super::graphemes::{Graphemes, lacks, language_code};
use super::letters;
use super::markup::{Element, JOINT, PAUSE_SECONDS, elements};
use super::punctuation::{normalise, tidy};
use super::script_builder::{PauseLength, ScriptBuilder};
use super::tokenizer::{EncodedText, language_tag};
use super::warning::Warnings;
use super::{
    Normalise, Normaliser, Script, Sentence, TextError, TextOptions, Tokenizer, TokenizerFiles,
    is_blank,
};
use crate::config::{LetterCase, ModelConfig};

/// Characters of an unknown language's code that a message repeats.
const LANGUAGE_CHARACTERS_MAX: usize = 32;

/// A model's text front end.
pub struct TextFrontEnd {
    pub(super) config: ModelConfig,
    pub(super) tokenizer: Tokenizer,
    /// Rules of each language, for models with language tags and a tokenizer.
    graphemes: Option<Graphemes>,
    /// Tags known to the tokenizer, without brackets.
    pub(super) tags: Vec<String>,
}

/// How a spoken text becomes the tokenizer's input.
#[derive(Clone, Copy)]
pub(super) struct EncodingOptions<'t> {
    /// Whether it was normalised to words.
    pub normalised: bool,
    /// One of the model's languages, or any code for a model of English.
    pub language: &'t str,
    pub letter_case: LetterCase,
}

impl TextFrontEnd {
    /// A front end with a model's tokenizer.
    ///
    /// # Errors
    /// [`TextError`] names the missing or invalid tokenizer file.
    pub fn new(
        config: &ModelConfig,
        files: &dyn TokenizerFiles,
    ) -> Result<TextFrontEnd, TextError> {
        let tokenizer = Tokenizer::load(&config.text, files)?;
        let mut front_end = TextFrontEnd::over(config, tokenizer);
        if !config.text.languages.is_empty() {
            front_end.graphemes = Some(Graphemes::load(&config.text, files)?);
        }
        Ok(front_end)
    }

    /// A front end with one token per character, for models with random weights and no tokenizer.
    pub fn characters(config: &ModelConfig) -> TextFrontEnd {
        let tokenizer = Tokenizer::characters(config.t3.text_vocabulary);
        TextFrontEnd::over(config, tokenizer)
    }

    fn over(config: &ModelConfig, tokenizer: Tokenizer) -> TextFrontEnd {
        TextFrontEnd {
            config: config.clone(),
            tags: tokenizer.tags(),
            tokenizer,
            graphemes: None,
        }
    }

    /// Tags that the model knows, such as `laugh`, without brackets.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Token ids of one text, normalised but neither split nor framed by start and stop tokens: the
    /// result of the reference's tokenizer. Without a `language`, the model's default.
    ///
    /// # Errors
    /// If the model does not speak the language, or the tokenizer cannot encode the text.
    pub fn ids(&self, text: &str, language: Option<&str>) -> Result<Vec<u32>, TextError> {
        let encoding = EncodingOptions {
            normalised: false,
            language: self.language(language)?,
            letter_case: self.config.text.letter_case,
        };
        self.encode(text, encoding)
    }

    /// The code of a language that the model speaks, or its default. A model of English alone takes
    /// any code.
    ///
    /// # Errors
    /// [`TextError::Language`] if the model does not speak it.
    pub fn language<'t>(&'t self, asked: Option<&'t str>) -> Result<&'t str, TextError> {
        let text = &self.config.text;
        match asked {
            None => Ok(text.default_language()),
            Some(asked) if text.languages.is_empty() => Ok(asked),
            Some(asked) => {
                language_code(&text.languages, asked).ok_or_else(|| TextError::Language {
                    language: asked.chars().take(LANGUAGE_CHARACTERS_MAX).collect(),
                    has: text.languages.join(", "),
                })
            }
        }
    }

    /// Prepares a text as words and pauses, each piece within the model's token limit. A text
    /// without a word is one short pause.
    ///
    /// # Errors
    /// [`TextError::Empty`] for an empty text, [`TextError::Unreadable`] if `options` refuse
    /// unspeakable characters, and otherwise if the tokenizer fails or returns an id without an
    /// embedding.
    pub fn script(&self, text: &str, options: &TextOptions) -> Result<Script, TextError> {
        if is_blank(text) {
            return Err(TextError::Empty);
        }
        self.further_script(text, false, options)
    }

    /// As [`TextFrontEnd::script`], for text that continues another one, `after_words` or after a
    /// pause. If a text is split between sentences, its pieces are spoken like the whole. A blank
    /// text has no pieces.
    ///
    /// # Errors
    /// As [`TextFrontEnd::script`], except [`TextError::Empty`].
    pub fn further_script(
        &self,
        text: &str,
        after_words: bool,
        options: &TextOptions,
    ) -> Result<Script, TextError> {
        let mut warnings = Warnings::new(text);
        let on = match options.normalise {
            Normalise::Auto => self.config.text.spell_out,
            Normalise::On => true,
            Normalise::Off => false,
        };
        let capitals = self.config.text.spell_out;
        let language = self.language(options.language.as_deref())?;
        let rules = Normaliser::of(language, capitals);
        let speaks_it = !self.config.text.languages.is_empty();
        if rules.is_none() && (on || !speaks_it) {
            let message = match speaks_it {
                true => {
                    "there are no normalisation rules for this language: its numbers and signs are left to the model"
                }
                false => "this model speaks English alone: the text is read as English",
            };
            warnings.add(0, language, message.into());
        }
        if let Some(message) = lacks(language, text).filter(|_| self.graphemes.is_some()) {
            warnings.add(0, language, message.into());
        }
        let encoding = EncodingOptions {
            normalised: on && rules.is_some(),
            language,
            letter_case: (options.letter_case).unwrap_or(self.config.text.letter_case),
        };
        // The units of English apply to most languages: digits, units, abbreviations.
        let rules = rules.or_else(|| Normaliser::of("en", capitals));
        let mut builder = ScriptBuilder::new(self, text, encoding, rules, options.unreadable);
        for element in elements(text, &self.tags, after_words, &mut warnings) {
            match element {
                Element::Paragraph(joint) if after_words && joint.text().chars().eq([JOINT]) => {
                    builder.pause("", PAUSE_SECONDS, PauseLength::Default);
                }
                Element::Paragraph(paragraph) => builder.paragraph(&paragraph, &mut warnings)?,
                Element::Pause { seconds, written } => {
                    builder.pause(&text[written], seconds, PauseLength::Requested);
                }
            }
        }
        Ok(Script {
            pieces: builder.finish(after_words),
            warnings: warnings.finish(),
        })
    }

    /// The pieces with words of a text, read as the model was trained.
    ///
    /// # Errors
    /// As [`TextFrontEnd::script`].
    pub fn sentences(&self, text: &str) -> Result<Vec<Sentence>, TextError> {
        Ok(self.script(text, &TextOptions::default())?.into_sentences())
    }

    /// The tokenizer's input for a spoken text, without a language's tag.
    pub(super) fn tokenizer_input(
        &self,
        spoken: &str,
        encoding: EncodingOptions<'_>,
    ) -> Result<String, TextError> {
        let rules = self.config.text.normalisation;
        if encoding.normalised && self.config.text.spell_out {
            return Ok(normalise(&letters::for_words_alone(spoken), rules));
        }
        let Some(graphemes) = &self.graphemes else {
            return Ok(normalise(spoken, rules));
        };
        let tidied = match encoding.letter_case {
            LetterCase::Lower => normalise(spoken, rules),
            LetterCase::Kept => tidy(spoken, rules),
        };
        graphemes.of(&tidied, encoding.language, encoding.letter_case)
    }

    /// Token ids of a spoken text.
    pub(super) fn encode(
        &self,
        spoken: &str,
        encoding: EncodingOptions<'_>,
    ) -> Result<Vec<u32>, TextError> {
        let input = self.tokenizer_input(spoken, encoding)?;
        match self.graphemes {
            Some(_) => (self.tokenizer).encode(&(language_tag(encoding.language) + &input)),
            None => self.tokenizer.encode(&input),
        }
    }

    /// The tokenizer's input for a spoken text without the language's tag, its token ids, and the
    /// byte range of each token in that input; the tag's is empty.
    pub(super) fn encode_with_offsets(
        &self,
        spoken: &str,
        encoding: EncodingOptions<'_>,
    ) -> Result<(String, EncodedText), TextError> {
        let input = self.tokenizer_input(spoken, encoding)?;
        let tag = match self.graphemes {
            Some(_) => language_tag(encoding.language),
            None => String::new(),
        };
        let tagged = tag.clone() + &input;
        let (ids, mut offsets) = self.tokenizer.encode_with_offsets(&tagged)?;
        for (start, end) in &mut offsets {
            *start = start.saturating_sub(tag.len());
            *end = end.saturating_sub(tag.len());
        }
        Ok((input, (ids, offsets)))
    }

    /// Adds T3's start and stop tokens to a part's token ids.
    pub(super) fn frame(&self, mut ids: Vec<u32>) -> Result<Vec<u32>, TextError> {
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
