//! Rules of the multilingual models: the text of a language to the graphemes that their tokenizer
//! knows. Source: the reference's `models/tokenizers/tokenizer.py`.
//!
//! Hebrew and Russian are read as the reference reads them without its optional packages: vowel
//! points and stress marks are spoken where the text has them, and none are added.

mod cangjie;

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

/// The code by which a model has a language, if it has it: in any case, with or without a region,
/// as in `pt-BR`.
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

/// The rules of one model.
pub(super) struct Graphemes {
    cangjie: Option<Cangjie>,
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
        Ok(Graphemes { cangjie })
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

    fn coded(&self, text: &str) -> Result<String, TextError> {
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
        let without = Graphemes { cangjie: None };
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
