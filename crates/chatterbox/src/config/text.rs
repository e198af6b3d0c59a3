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
}

/// Kind of tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// `tokenizer.json`; every space becomes `[SPACE]` first.
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
    /// Language tags that may precede the text; empty for models of one language.
    pub languages: Vec<String>,
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
        }
    }

    pub(super) fn turbo() -> TextConfig {
        TextConfig {
            normalisation: Normalisation::Turbo,
            tokenizer: TokenizerKind::BytePairs,
            spell_out: false,
            // About four letters per token, so half of base's limit.
            token_count_max: 100,
            languages: Vec::new(),
        }
    }
}
