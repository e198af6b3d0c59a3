//! How a text is to be read.

use crate::config::LetterCase;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Whether a text is normalised to words before it is tokenised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalise {
    /// As the model was trained: on for models that know words alone, off for the others.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never: only the reference's rules are applied before the tokenizer.
    Off,
}

impl FromStr for Normalise {
    type Err = String;

    fn from_str(text: &str) -> Result<Normalise, String> {
        match text {
            "auto" => Ok(Normalise::Auto),
            "on" => Ok(Normalise::On),
            "off" => Ok(Normalise::Off),
            _ => Err(format!("{text:?} is neither auto, on nor off")),
        }
    }
}

/// Treatment of characters that a model cannot speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unreadable {
    /// They are skipped with a warning.
    #[default]
    Skip,
    /// The text is refused.
    Refuse,
}

/// Options of reading a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextOptions {
    /// Whether the text is normalised to words.
    pub normalise: Normalise,
    /// Language code; the model's default if absent.
    pub language: Option<String>,
    /// Treatment of letters by models with language tags; the model's own if absent.
    pub letter_case: Option<LetterCase>,
    /// Treatment of characters that the model cannot speak.
    pub unreadable: Unreadable,
}

impl Default for TextOptions {
    fn default() -> TextOptions {
        TextOptions {
            normalise: Normalise::Auto,
            language: None,
            letter_case: None,
            unreadable: Unreadable::Skip,
        }
    }
}
