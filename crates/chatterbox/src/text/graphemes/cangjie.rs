//! Chinese characters as Cangjie codes, the multilingual tokenizer's alphabet for them.

use super::super::TextError;
use super::super::tokenizer::{TokenizerFiles, unusable};
use std::collections::HashMap;
use std::fmt::Write;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// The table: a list of `CHARACTER⇥CODE`.
pub(crate) const FILE: &str = "Cangjie5_TC.json";

/// A table of Cangjie codes.
pub(super) struct Cangjie {
    /// Characters in order, with the place of their code in `codes`.
    characters: Vec<(char, u32, u8)>,
    codes: String,
}

impl Cangjie {
    /// The table beside a model's weights, if there is one.
    ///
    /// # Errors
    /// [`TextError::Unusable`] if the file is not such a table.
    pub fn load(files: &dyn TokenizerFiles) -> Result<Option<Cangjie>, TextError> {
        let Some(json) = files.text(FILE)? else {
            return Ok(None);
        };
        // Owned, because the reference's file escapes the tab.
        let entries: Vec<String> =
            serde_json::from_str(&json).map_err(|error| unusable(FILE, error))?;
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        Cangjie::of(&entries).map(Some)
    }

    /// Only letters without case are coded, though the table also has marks. Of a character's
    /// codes, the last one is used. Characters that share a code are counted in the order of the
    /// table; from the second on, the number belongs to the code.
    fn of(entries: &[&str]) -> Result<Cangjie, TextError> {
        let mut numbers: HashMap<(&str, &str), usize> = HashMap::new();
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let mut last: HashMap<char, (&str, &str)> = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let mut parts = entry.split('\t');
            let (Some(word), Some(code)) = (parts.next(), parts.next()) else {
                let reason = format!("entry {} is not a character and its code", index + 1);
                return Err(unusable(FILE, reason));
            };
            let count = counts.entry(code).or_default();
            numbers.entry((word, code)).or_insert(*count);
            *count += 1;
            let mut characters = word.chars();
            if let (Some(character), None) = (characters.next(), characters.next())
                && character.general_category() == GeneralCategory::OtherLetter
            {
                last.insert(character, (word, code));
            }
        }
        let mut found: Vec<(char, (&str, &str))> = last.into_iter().collect();
        found.sort_unstable();
        let mut table = Cangjie {
            characters: Vec::with_capacity(found.len()),
            codes: String::new(),
        };
        for (character, key) in found {
            let start = table.codes.len();
            table.codes.push_str(key.1);
            if let Some(number) = numbers.get(&key).filter(|number| **number > 0) {
                table.codes.push_str(&number.to_string());
            }
            let place = u32::try_from(start).ok();
            let length = u8::try_from(table.codes.len() - start).ok();
            let (Some(place), Some(length)) = (place, length) else {
                return Err(unusable(
                    FILE,
                    format!("the code of {character} is too long"),
                ));
            };
            table.characters.push((character, place, length));
        }
        Ok(table)
    }

    fn code(&self, character: char) -> Option<&str> {
        let find = |(known, ..): &(char, u32, u8)| known.cmp(&character);
        let index = self.characters.binary_search_by(find).ok()?;
        let (_, start, length) = self.characters[index];
        self.codes
            .get(start as usize..start as usize + usize::from(length))
    }

    /// The text with each known character replaced by its code: a token per sign, and one for the
    /// end. Other characters are unchanged.
    pub fn coded(&self, text: &str) -> String {
        let mut coded = String::with_capacity(text.len() * 8);
        for character in text.chars() {
            match self.code(character) {
                Some(code) => {
                    for sign in code.chars() {
                        // Writing to a string cannot fail.
                        let _ = write!(coded, "[cj_{sign}]");
                    }
                    coded.push_str("[cj_.]");
                }
                None => coded.push(character),
            }
        }
        coded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_with_one_code_are_numbered_from_the_second_on() {
        let table = Cangjie::of(&[
            "日\ta",
            "曰\ta",
            "昌昌\taa",
            "昌\taa",
            "月\tb",
            "日\tb",
            "，\tb",
        ])
        .unwrap();
        for (text, coded) in [
            ("曰", "[cj_a][cj_1][cj_.]"),
            ("昌", "[cj_a][cj_a][cj_1][cj_.]"),
            ("月", "[cj_b][cj_.]"),
            // Its last code, under which it is the second.
            ("日", "[cj_b][cj_1][cj_.]"),
            ("か A，", "か A，"),
            ("", ""),
        ] {
            assert_eq!(table.coded(text), coded, "{text}");
        }
    }

    #[test]
    fn a_damaged_table_is_refused_by_name() {
        for json in ["{}", "[3]", "[\"日\"]"] {
            let files = HashMap::from([(FILE.to_owned(), json.to_owned())]);
            let error = Cangjie::load(&files).err().unwrap().to_string();
            assert!(error.contains(FILE), "{error}");
        }
        assert!(Cangjie::load(&HashMap::new()).unwrap().is_none());
    }
}
