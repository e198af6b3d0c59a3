//! Text front end.

use serde::{Deserialize, Serialize};

/// Which punctuation rules the reference applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalisation {
    /// Base: also rewrites `...`, ` - ` and `;`.
    Base,
    /// Turbo and nano: leaves those three alone.
    Turbo,
}

/// How text becomes ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// `tokenizer.json`; every space is written `[SPACE]` first.
    Spaced,
    /// GPT-2's byte-level pairs: `vocab.json`, `merges.txt`, `added_tokens.json`, or a `tokenizer.json` of that kind.
    BytePairs,
}

/// Text front end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Punctuation rules.
    pub normalisation: Normalisation,
    /// Tokenizer.
    pub tokenizer: TokenizerKind,
    /// Whether numbers and abbreviations are spelt out (English) before tokenising. The official models learnt to read them.
    pub spell_out: bool,
    /// Sentences are cut so that no T3 run is given more text tokens than this.
    pub token_count_max: usize,
    /// Language tags that may stand before the text; empty for models of one language.
    pub languages: Vec<String>,
}

impl TextConfig {
    pub(super) fn base() -> TextConfig {
        TextConfig {
            normalisation: Normalisation::Base,
            tokenizer: TokenizerKind::Spaced,
            spell_out: false,
            // A token of base's vocabulary is about two letters and half as many speech tokens as letters follow: 180 keep a
            // run well under the 1,000 speech tokens that the reference allows, and a stream under 300 MB of keys and values.
            token_count_max: 180,
            languages: Vec::new(),
        }
    }

    pub(super) fn turbo() -> TextConfig {
        TextConfig {
            normalisation: Normalisation::Turbo,
            tokenizer: TokenizerKind::BytePairs,
            spell_out: false,
            // About four letters a token, so half of base's limit.
            token_count_max: 100,
            languages: Vec::new(),
        }
    }
}
