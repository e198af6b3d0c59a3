//! Rules of the multilingual models: the text of a language to the graphemes that their tokenizer
//! knows. Source: the reference's `models/tokenizers/tokenizer.py`.
//!
//! Hebrew and Russian are read as the reference reads them without its optional packages: vowel
//! points and stress marks are spoken where the text has them, and none are added.

mod cangjie;
#[cfg(feature = "japanese")]
mod japanese;

use super::TextError;
use super::punctuation::is_space;
use super::tokenizer::TokenizerFiles;
use crate::config::{LetterCase, TextConfig};
use cangjie::Cangjie;
pub(crate) use cangjie::FILE as CANGJIE_FILE;
use unicode_normalization::UnicodeNormalization;

/// The languages of the multilingual models: code and English name.
pub const LANGUAGES: [(&str, &str); 23] = [
    ("ar", "Arabic"),
    ("da", "Danish"),
    ("de", "German"),
    ("el", "Greek"),
    ("en", "English"),
    ("es", "Spanish"),
    ("fi", "Finnish"),
    ("fr", "French"),
    ("he", "Hebrew"),
    ("hi", "Hindi"),
    ("it", "Italian"),
    ("ja", "Japanese"),
    ("ko", "Korean"),
    ("ms", "Malay"),
    ("nl", "Dutch"),
    ("no", "Norwegian"),
    ("pl", "Polish"),
    ("pt", "Portuguese"),
    ("ru", "Russian"),
    ("sv", "Swedish"),
    ("sw", "Swahili"),
    ("tr", "Turkish"),
    ("zh", "Chinese"),
];

/// Codes that mean a language with another code.
const SAME_LANGUAGE: [(&str, &str); 4] = [("nb", "no"), ("nn", "no"), ("iw", "he"), ("cmn", "zh")];

/// The model's code of a requested language, or `None` if the model does not speak it. The request
/// may be in any case and name a region, as in `pt-BR`.
pub(super) fn language_code<'m>(languages: &'m [String], asked: &str) -> Option<&'m str> {
    let asked = asked.trim().to_ascii_lowercase();
    let primary = asked.split(['-', '_']).next().unwrap_or_default();
    let same = SAME_LANGUAGE.iter().find(|(other, _)| *other == primary);
    let names = [
        Some(asked.as_str()),
        Some(primary),
        same.map(|(_, code)| *code),
    ];
    let mut names = names.into_iter().flatten();
    names.find_map(|name| {
        languages
            .iter()
            .find(|code| *code == name)
            .map(String::as_str)
    })
}

/// Whether a character is one that the reference reads as kanji.
pub(super) fn is_kanji(character: char) -> bool {
    matches!(character, '\u{4e00}'..='\u{9fff}')
}

/// What is missing for a text in this language if the build has no dictionary for it.
pub(super) fn lacks(language: &str, text: &str) -> Option<&'static str> {
    match language {
        "ja" if !cfg!(feature = "japanese") && text.contains(is_kanji) => Some(
            "this build has no Japanese dictionary, so kanji have no reading: write kana, or build with the cargo feature `japanese`",
        ),
        "zh" if !cfg!(feature = "chinese") => Some(
            "this build has no Chinese dictionary, so words are not separated as the model expects: build with the cargo feature `chinese`",
        ),
        _ => None,
    }
}

/// The rules of one model.
pub(super) struct Graphemes {
    cangjie: Option<Cangjie>,
    #[cfg(feature = "japanese")]
    readings: japanese::Readings,
    /// Chinese words, read with the first text in Chinese.
    #[cfg(feature = "chinese")]
    segmenter: std::sync::OnceLock<jieba_rs::Jieba>,
}

impl Graphemes {
    /// Loads the tables that a model's languages need.
    ///
    /// # Errors
    /// [`TextError`] names the invalid file. A missing table is an error only of a text in the
    /// language that needs it.
    pub fn load(config: &TextConfig, files: &dyn TokenizerFiles) -> Result<Graphemes, TextError> {
        let has_chinese = config.languages.iter().any(|code| code == "zh");
        let cangjie = match has_chinese {
            true => Cangjie::load(files)?,
            false => None,
        };
        Ok(Graphemes {
            cangjie,
            #[cfg(feature = "japanese")]
            readings: japanese::Readings::built_in()?,
            #[cfg(feature = "chinese")]
            segmenter: std::sync::OnceLock::new(),
        })
    }

    /// The tokenizer's input for a tidied text in one of the model's languages, without its tag.
    ///
    /// # Errors
    /// [`TextError::Missing`] if the language needs a table that the model lacks.
    pub fn of(
        &self,
        text: &str,
        language: &str,
        letter_case: LetterCase,
    ) -> Result<String, TextError> {
        match letter_case {
            LetterCase::Lower => {
                let text: String = text.to_lowercase().nfkd().collect();
                match language {
                    "zh" => self.coded(&text),
                    "ja" => Ok(self.kana(&text).nfkd().collect()),
                    // NFKD has decomposed the syllables, and may have left a space in front.
                    "ko" => Ok(text.trim_matches(is_space).to_owned()),
                    _ => Ok(text),
                }
            }
            LetterCase::Kept => match language {
                "zh" => Ok(self.coded(text)?.nfkd().collect()),
                _ => Ok(text.nfkd().collect()),
            },
        }
    }

    /// A Japanese text with kana in place of the kanji that have a reading.
    fn kana(&self, text: &str) -> String {
        #[cfg(feature = "japanese")]
        return self.readings.read(text);
        #[cfg(not(feature = "japanese"))]
        text.to_owned()
    }

    /// A Chinese text with spaces between its words, and none at its ends.
    #[cfg(feature = "chinese")]
    fn separated(&self, text: &str) -> String {
        let segmenter = self.segmenter.get_or_init(jieba_rs::Jieba::new);
        let parts = text.split(is_space).filter(|part| !part.is_empty());
        let words: Vec<&str> = parts
            .flat_map(|part| segmenter.cut(part, true))
            .map(|word| word.word)
            .collect();
        words.join(" ")
    }

    fn coded(&self, text: &str) -> Result<String, TextError> {
        #[cfg(feature = "chinese")]
        let text = &self.separated(text);
        match &self.cangjie {
            Some(cangjie) => Ok(cangjie.coded(text)),
            None => Err(TextError::Missing {
                file: CANGJIE_FILE.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn rules() -> Graphemes {
        let table = r#"["日\ta","曰\ta","月\tb","明\tab"]"#;
        let files = HashMap::from([(CANGJIE_FILE.to_owned(), table.to_owned())]);
        let config = TextConfig {
            languages: vec!["zh".into()],
            ..crate::config::ModelConfig::base().text
        };
        Graphemes::load(&config, &files).unwrap()
    }

    #[test]
    fn a_language_is_found_in_any_case_and_with_a_region() {
        let codes: Vec<String> = LANGUAGES.iter().map(|(code, _)| (*code).into()).collect();
        for (asked, code) in [
            ("de", Some("de")),
            (" DE ", Some("de")),
            ("pt-BR", Some("pt")),
            ("zh_Hans_CN", Some("zh")),
            ("nb", Some("no")),
            ("cmn", Some("zh")),
            ("he-IL", Some("he")),
            ("xx", None),
            ("", None),
            ("german", None),
        ] {
            assert_eq!(language_code(&codes, asked), code, "{asked:?}");
        }
        assert_eq!(language_code(&[], "en"), None);
    }

    #[test]
    fn letters_become_small_and_are_decomposed_unless_case_is_kept() {
        let rules = rules();
        for (text, language, lower, kept) in [
            ("Ärger", "de", "a\u{308}rger", "A\u{308}rger"),
            ("İZMİR", "tr", "i\u{307}zmi\u{307}r", "I\u{307}ZMI\u{307}R"),
            ("ΟΔΟΣ", "el", "οδος", "ΟΔΟΣ"),
            ("ﬁn", "fi", "fin", "fin"),
            (
                "한국",
                "ko",
                "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}",
                "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}",
            ),
            (
                "¨하",
                "ko",
                "\u{308}\u{1112}\u{1161}",
                " \u{308}\u{1112}\u{1161}",
            ),
        ] {
            let found = |case| rules.of(text, language, case).unwrap();
            assert_eq!(found(LetterCase::Lower), lower, "{text:?}");
            assert_eq!(found(LetterCase::Kept), kept, "{text:?}");
        }
    }

    #[test]
    fn chinese_needs_its_table() {
        let mut without = rules();
        without.cangjie = None;
        let error = without.of("明", "zh", LetterCase::Lower).unwrap_err();
        assert!(error.to_string().contains("Cangjie5_TC.json"), "{error}");
        assert_eq!(
            without.of("明", "en", LetterCase::Lower).unwrap(),
            "明",
            "another language does not"
        );
        let coded = rules().of("明A", "zh", LetterCase::Lower).unwrap();
        assert_eq!(coded, "[cj_a][cj_b][cj_.]a");
    }
}
