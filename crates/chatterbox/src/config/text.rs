//! Configuration of the text front end.

use serde::{Deserialize, Serialize};

/// The reference's punctuation rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalisation {
    /// Base: also rewrites `...`, ` - ` and `;`.
    Base,
    /// Turbo and nano: keeps those three.
    Turbo,
    /// Multilingual: base's, and full-width marks may end a sentence.
    Multilingual,
    /// Flash: only white space, dashes and quotation marks change, as its texts are words already.
    Flash,
}

/// Treatment of letters by a multilingual model's front end, before its tokenizer. The two public
/// front ends of the same checkpoints differ; which one a checkpoint was trained with is a property
/// of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LetterCase {
    /// Lower case, then NFKD, then the language's own rules: the reference package's.
    #[default]
    Lower,
    /// Case is kept, and the first letter is not capitalised. Chinese becomes codes before NFKD;
    /// Japanese and Korean have no rules of their own: as in the reference's hosted demonstration
    /// of v3.
    Kept,
}

impl LetterCase {
    fn is_lower(&self) -> bool {
        *self == LetterCase::Lower
    }
}

/// Kind of tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// `tokenizer.json`, or the multilingual models' `grapheme_mtl_merged_expanded_v1.json`; every
    /// space becomes `[SPACE]` first.
    Spaced,
    /// GPT-2's byte-level BPE: `vocab.json`, `merges.txt`, `added_tokens.json`, or a
    /// `tokenizer.json` of that kind.
    BytePairs,
}

/// Configuration of the text front end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Punctuation rules.
    pub normalisation: Normalisation,
    /// Tokenizer.
    pub tokenizer: TokenizerKind,
    /// Whether numbers and abbreviations are normalised to words (English) before tokenisation. The
    /// official models learnt to read them.
    pub spell_out: bool,
    /// Limit of text tokens per T3 run; longer sentences are split.
    pub token_count_max: usize,
    /// Languages whose tag precedes the text, in the order of menus; empty for models of English,
    /// which have no tags.
    pub languages: Vec<String>,
    /// Treatment of letters, for models with language tags.
    #[serde(default, skip_serializing_if = "LetterCase::is_lower")]
    pub letter_case: LetterCase,
}

impl TextConfig {
    pub(super) fn base() -> TextConfig {
        TextConfig {
            normalisation: Normalisation::Base,
            tokenizer: TokenizerKind::Spaced,
            spell_out: false,
            // A token of base's vocabulary is about two letters, and there are half as many speech
            // tokens as letters. 180 tokens keep a run well under the reference's 1,000 speech
            // tokens, and a stream under 300 MB of KV cache.
            token_count_max: 180,
            languages: Vec::new(),
            letter_case: LetterCase::Lower,
        }
    }

    pub(super) fn flash() -> TextConfig {
        TextConfig {
            normalisation: Normalisation::Flash,
            spell_out: true,
            ..TextConfig::base()
        }
    }

    pub(super) fn multilingual(languages: &[&str]) -> TextConfig {
        TextConfig {
            normalisation: Normalisation::Multilingual,
            languages: languages.iter().map(|&code| code.to_owned()).collect(),
            ..TextConfig::base()
        }
    }

    /// The language of a text that names none: English where the model has it.
    pub fn default_language(&self) -> &str {
        let english = self.languages.iter().find(|code| *code == "en");
        english.or(self.languages.first()).map_or("en", |code| code)
    }

    pub(super) fn turbo() -> TextConfig {
        TextConfig {
            normalisation: Normalisation::Turbo,
            tokenizer: TokenizerKind::BytePairs,
            spell_out: false,
            // About four letters per token, so half of base's limit.
            token_count_max: 100,
            languages: Vec::new(),
            letter_case: LetterCase::Lower,
        }
    }
}
