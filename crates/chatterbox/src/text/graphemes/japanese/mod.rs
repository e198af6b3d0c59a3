//! Japanese: kanji in kana, as the reference reads them with pykakasi. Words that contain kanji
//! become hiragana, and a space separates a reading that begins with は or へ from the particles
//! of those names. Everything else stays.

mod lattice;
mod lexicon;

use super::super::TextError;
use lexicon::Lexicon;
use unicode_normalization::UnicodeNormalization;

/// IPADIC's words; see `assets/japanese`.
static DICTIONARY: &[u8] = include_bytes!("../../../../assets/japanese/dictionary.bin");
/// Characters of a clause that are read together; longer ones are read in parts.
const CLAUSE_CHARACTERS_MAX: usize = 256;

/// Readings of Japanese words.
pub(super) struct Readings {
    lexicon: Lexicon<'static>,
}

impl Readings {
    /// The readings that are part of the program.
    ///
    /// # Errors
    /// [`TextError::Unusable`] if the dictionary was damaged when the program was built.
    pub fn built_in() -> Result<Readings, TextError> {
        let lexicon = Lexicon::of(DICTIONARY)?;
        Ok(Readings { lexicon })
    }

    /// A text with kana in place of kanji. Kanji without a reading stay.
    pub fn read(&self, text: &str) -> String {
        // The dictionary's words are composed, while the tokenizer's text is not.
        let text: Vec<char> = text.nfc().collect();
        let mut read = String::with_capacity(text.len() * 6);
        for run in text.chunk_by(|left, right| is_of_word(*left) == is_of_word(*right)) {
            for clause in run.chunks(CLAUSE_CHARACTERS_MAX) {
                match clause.iter().any(|letter| super::is_kanji(*letter)) {
                    true => self.read_clause(clause, &mut read),
                    false => read.extend(clause),
                }
            }
        }
        read
    }

    fn read_clause(&self, clause: &[char], read: &mut String) {
        let wide: String = clause.iter().map(|letter| full_width(*letter)).collect();
        let units: Vec<u16> = wide.encode_utf16().collect();
        let mut written = clause.iter();
        for word in lattice::words(&self.lexicon, &units) {
            let surface = &units[word.range];
            // A character outside of the basic plane has two units, which no word separates.
            let count = char::decode_utf16(surface.iter().copied()).count();
            let letters: Vec<char> = written.by_ref().take(count).copied().collect();
            let mut reading = word
                .entry
                .map(|entry| self.lexicon.reading(entry).peekable());
            match reading.as_mut().and_then(|reading| reading.peek().copied()) {
                Some(first) if letters.iter().any(|letter| super::is_kanji(*letter)) => {
                    if matches!(first, 'は' | 'へ') {
                        read.push(' ');
                    }
                    read.extend(reading.into_iter().flatten());
                }
                _ => read.extend(letters),
            }
        }
        read.extend(written);
    }
}

/// Letters, digits and the marks inside of words.
fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '・' | '〆' | '\u{3099}' | '\u{309a}')
}

/// The dictionary's form of ASCII.
fn full_width(character: char) -> char {
    match character {
        '!'..='~' => char::from_u32(character as u32 + 0xfee0).unwrap_or(character),
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_kanji_are_read_in_hiragana() {
        let readings = Readings::built_in().unwrap();
        for (written, read) in [
            ("今日は天気が良いです。", "きょうはてんきがよいです。"),
            (
                "彼女は東京の大学で働く。",
                "かのじょはとうきょうのだいがくで はたらく。",
            ),
            ("花と部屋", " はなと へや"),
            ("カタカナとひらがな", "カタカナとひらがな"),
            ("人々、日々。", "ひとびと、ひび。"),
            ("3人でGPUを買った", "3にんでGPUをかった"),
            ("", ""),
            ("𠮷", "𠮷"),
        ] {
            assert_eq!(readings.read(written), read, "{written}");
            let decomposed: String = written.nfkd().collect();
            assert_eq!(readings.read(&decomposed), read, "{written}, decomposed");
        }
    }

    #[test]
    fn a_clause_of_any_length_keeps_all_its_letters() {
        let readings = Readings::built_in().unwrap();
        let read = readings.read(&"山ア".repeat(2_000));
        assert_eq!(read.matches("ア").count(), 2_000);
        assert!(!read.contains('山'));
    }
}
