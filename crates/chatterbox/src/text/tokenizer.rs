//! The two tokenizers of the family, through the `tokenizers` crate.

use super::TextError;
use crate::config::{TextConfig, TokenizerKind};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Pipeline};

/// The multilingual models' tokenizer.
pub(crate) const MULTILINGUAL_FILE: &str = "grapheme_mtl_merged_expanded_v1.json";
const SPACE: &str = "[SPACE]";
const START: &str = "[START]";
const STOP: &str = "[STOP]";
const UNKNOWN: &str = "[UNK]";

/// A source of tokenizer files: a folder, or the texts inside a single weight file.
pub trait TokenizerFiles {
    /// The text of the file `name`, if there is one.
    ///
    /// # Errors
    /// [`TextError::Unusable`] if the file exists but is not text.
    fn text(&self, name: &str) -> Result<Option<String>, TextError>;
}

impl TokenizerFiles for HashMap<String, String> {
    fn text(&self, name: &str) -> Result<Option<String>, TextError> {
        Ok(self.get(name).cloned())
    }
}

/// Token ids, and the byte range of each token in the text.
pub(super) type EncodedText = (Vec<u32>, Vec<(usize, usize)>);

/// Text to token ids.
pub struct Tokenizer {
    kind: Kind,
}

enum Kind {
    /// A trained tokenizer; with `spaced`, every space is a token of its own.
    Trained {
        pipeline: Box<Pipeline>,
        spaced: bool,
    },
    /// Each character is a token of a vocabulary of this size.
    Characters { vocabulary: u32 },
}

#[derive(Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    added_tokens_decoder: BTreeMap<u32, AddedEntry>,
}

#[derive(Deserialize)]
struct AddedEntry {
    content: String,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

pub(super) fn unusable(file: &str, reason: impl ToString) -> TextError {
    TextError::Unusable {
        file: file.into(),
        reason: reason.to_string(),
    }
}

/// The token that precedes a text in a language.
pub(super) fn language_tag(language: &str) -> String {
    format!("[{language}]")
}

fn required(files: &dyn TokenizerFiles, file: &str) -> Result<String, TextError> {
    files
        .text(file)?
        .ok_or_else(|| TextError::Missing { file: file.into() })
}

impl Tokenizer {
    /// Loads the tokenizer that a model's config specifies.
    ///
    /// # Errors
    /// [`TextError`] names the missing or invalid file.
    pub fn load(config: &TextConfig, files: &dyn TokenizerFiles) -> Result<Tokenizer, TextError> {
        let spaced = config.tokenizer == TokenizerKind::Spaced;
        let file = match config.languages.is_empty() {
            true => "tokenizer.json",
            false => MULTILINGUAL_FILE,
        };
        let whole = files.text(file)?;
        let pipeline = match whole {
            Some(json) => (json.parse::<Pipeline>()).map_err(|error| unusable(file, error))?,
            None if spaced => {
                return Err(TextError::Missing { file: file.into() });
            }
            None => byte_pairs(files)?,
        };
        if spaced {
            let tags = (config.languages.iter()).map(|language| language_tag(language));
            for token in [START, STOP].map(str::to_owned).into_iter().chain(tags) {
                if pipeline.token_to_id(&token).is_none() {
                    return Err(unusable(file, format!("it has no token {token}")));
                }
            }
        }
        let pipeline = Box::new(pipeline);
        Ok(Tokenizer {
            kind: Kind::Trained { pipeline, spaced },
        })
    }

    /// A tokenizer with one token per character, for models without one.
    pub fn characters(vocabulary: usize) -> Tokenizer {
        let vocabulary = u32::try_from(vocabulary).unwrap_or(u32::MAX).max(1);
        Tokenizer {
            kind: Kind::Characters { vocabulary },
        }
    }

    /// Tags such as `[laugh]` that are single tokens, without their brackets. Tags of languages and
    /// of phonetic script do not count.
    pub fn tags(&self) -> Vec<String> {
        let Kind::Trained { pipeline, .. } = &self.kind else {
            return Vec::new();
        };
        let mut tags: Vec<(u32, String)> = (pipeline.get_added_tokens_decoder().into_iter())
            .filter_map(|(id, token)| {
                let name = token.content.strip_prefix('[')?.strip_suffix(']')?;
                let small = name.chars().all(|c| c.is_ascii_lowercase() || c == ' ');
                (small && name.len() > 2 && name != "ipa").then(|| (id, name.to_owned()))
            })
            .collect();
        tags.sort();
        tags.into_iter().map(|(_, name)| name).collect()
    }

    /// Whether all ids are the unknown token.
    pub fn are_unknown(&self, ids: &[u32]) -> bool {
        let Kind::Trained { pipeline, .. } = &self.kind else {
            return false;
        };
        let unknown = pipeline.token_to_id(UNKNOWN);
        unknown.is_some() && ids.iter().all(|id| Some(*id) == unknown)
    }

    /// As [`Tokenizer::encode`], with the byte range of each token in `text`.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub(super) fn encode_with_offsets(&self, text: &str) -> Result<EncodedText, TextError> {
        let (pipeline, spaced) = match &self.kind {
            Kind::Trained { pipeline, spaced } => (pipeline, *spaced),
            Kind::Characters { .. } => {
                let offsets = text.char_indices();
                let offsets = offsets.map(|(at, letter)| (at, at + letter.len_utf8()));
                return Ok((self.encode(text)?, offsets.collect()));
            }
        };
        let given = match spaced {
            true => text.replace(' ', SPACE),
            false => text.to_owned(),
        };
        let encoding = (pipeline.encode(given.as_str(), true)).map_err(refused)?;
        let offsets = encoding.get_offsets().iter();
        let offsets = match spaced {
            true => {
                let places = unspaced(&given);
                let place = |at: usize| places.get(at).copied().unwrap_or(text.len());
                offsets
                    .map(|&(start, end)| (place(start), place(end)))
                    .collect()
            }
            false => offsets.copied().collect(),
        };
        Ok((encoding.get_ids().to_vec(), offsets))
    }

    /// Encodes a normalised text.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoded = match &self.kind {
            Kind::Trained {
                pipeline,
                spaced: true,
            } => pipeline.encode_fast(text.replace(' ', SPACE), true),
            Kind::Trained {
                pipeline,
                spaced: false,
            } => pipeline.encode_fast(text, true),
            Kind::Characters { vocabulary } => {
                return Ok(text
                    .chars()
                    .map(|letter| letter as u32 % vocabulary)
                    .collect());
            }
        };
        encoded
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(refused)
    }
}

fn refused(error: impl ToString) -> TextError {
    TextError::Refused {
        reason: error.to_string(),
    }
}

/// For each byte of a text with `[SPACE]` in place of spaces, the byte of the text with spaces.
fn unspaced(given: &str) -> Vec<usize> {
    let mut places = Vec::with_capacity(given.len());
    let mut place = 0;
    for (index, part) in given.split(SPACE).enumerate() {
        if index > 0 {
            places.resize(places.len() + SPACE.len(), place);
            place += 1;
        }
        places.extend(place..place + part.len());
        place += part.len();
    }
    places
}

/// GPT-2's tokenizer from separate files.
fn byte_pairs(files: &dyn TokenizerFiles) -> Result<Pipeline, TextError> {
    let vocabulary: HashMap<String, u32> = serde_json::from_str(&required(files, "vocab.json")?)
        .map_err(|error| unusable("vocab.json", error))?;
    let merges: Vec<(String, String)> = required(files, "merges.txt")?
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.is_empty())
        .enumerate()
        .map(|(index, line)| {
            let pair = line.split_once(' ').ok_or_else(|| {
                unusable(
                    "merges.txt",
                    format!("merge {} is not two parts", index + 1),
                )
            })?;
            Ok((pair.0.to_owned(), pair.1.trim_end().to_owned()))
        })
        .collect::<Result<_, TextError>>()?;
    let model = BPE::builder()
        .vocab_and_merges(
            vocabulary
                .into_iter()
                .collect::<tokenizers::models::bpe::Vocab>(),
            merges,
        )
        .build()
        .map_err(|error| unusable("merges.txt", error))?;
    let mut pipeline = Pipeline::new(model);
    pipeline.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    pipeline.with_decoder(Some(ByteLevel::default()));
    add_tokens(&mut pipeline, files)?;
    Ok(pipeline)
}

/// Adds the tokens beyond the vocabulary, such as `[laugh]`, in the order of their ids, so that
/// each gets its own.
fn add_tokens(pipeline: &mut Pipeline, files: &dyn TokenizerFiles) -> Result<(), TextError> {
    const FILES: [&str; 2] = ["tokenizer_config.json", "added_tokens.json"];
    let mut added: BTreeMap<u32, AddedToken> = BTreeMap::new();
    if let Some(json) = files.text(FILES[1])? {
        let ids: BTreeMap<String, u32> =
            serde_json::from_str(&json).map_err(|error| unusable(FILES[1], error))?;
        added.extend(
            ids.into_iter()
                .map(|(content, id)| (id, AddedToken::from(content, false))),
        );
    }
    if let Some(json) = files.text(FILES[0])? {
        let config: TokenizerConfig =
            serde_json::from_str(&json).map_err(|error| unusable(FILES[0], error))?;
        for (id, entry) in config.added_tokens_decoder {
            let token = AddedToken::from(entry.content, entry.special)
                .lstrip(entry.lstrip)
                .rstrip(entry.rstrip)
                .single_word(entry.single_word)
                .normalized(entry.normalized);
            added.insert(id, token);
        }
    }
    for (id, token) in added {
        let content = token.content.clone();
        let result = if token.special {
            pipeline.add_special_tokens([token])
        } else {
            pipeline.add_tokens([token])
        };
        result.map_err(|error| unusable(FILES[1], error))?;
        let given = pipeline.token_to_id(&content);
        if given != Some(id) {
            let given = given.map_or("none".to_owned(), |given| given.to_string());
            return Err(unusable(
                FILES[1],
                format!("{content} should have id {id} but gets {given}"),
            ));
        }
    }
    Ok(())
}
