//! A lexicon of Japanese words with their readings, in the layout that
//! `assets/japanese/build.py` describes: sorted surfaces, searched in place.

use super::super::super::TextError;
use super::super::super::tokenizer::unusable;
use std::ops::Range;

const FILE: &str = "assets/japanese/dictionary.bin";
const MAGIC: &[u8; 8] = b"kana-01\n";
/// The code point before that of a reading's first letter.
const BEFORE_HIRAGANA: u32 = 0x3040;

/// Words, their classes and costs, and the costs of a class after another.
pub(super) struct Lexicon<'b> {
    classes: usize,
    costs: &'b [u8],
    surface_ends: &'b [u8],
    units: &'b [u8],
    entry_ends: &'b [u8],
    entry_classes: &'b [u8],
    entry_costs: &'b [u8],
    reading_ends: &'b [u8],
    readings: &'b [u8],
}

/// A use of a word: its grammatical class and its cost, which is lower for more likely uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub index: usize,
    pub class: u16,
    pub cost: i16,
}

/// Takes parts from the front of a file.
struct Parts<'b>(&'b [u8]);

impl<'b> Parts<'b> {
    /// `count` values of `bytes` each, and the bytes after them up to a multiple of four.
    fn take(&mut self, count: usize, bytes: usize) -> Option<&'b [u8]> {
        let length = count.checked_mul(bytes)?;
        let part = self.0.get(..length)?;
        self.0 = self.0.get(length.checked_next_multiple_of(4)?..)?;
        Some(part)
    }
}

impl<'b> Lexicon<'b> {
    /// The lexicon in a file's bytes.
    ///
    /// # Errors
    /// [`TextError::Unusable`] if the parts do not have the lengths that the file states.
    pub fn of(bytes: &'b [u8]) -> Result<Lexicon<'b>, TextError> {
        Lexicon::parts(bytes).ok_or_else(|| unusable(FILE, "its parts do not fit its size"))
    }

    fn parts(bytes: &'b [u8]) -> Option<Lexicon<'b>> {
        let mut parts = Parts(bytes);
        if parts.take(MAGIC.len(), 1)? != MAGIC {
            return None;
        }
        let counts = parts.take(5, 4)?;
        let [classes, surfaces, units, entries, readings] =
            [0, 1, 2, 3, 4].map(|index| number(counts, index));
        Some(Lexicon {
            classes,
            costs: parts.take(classes.checked_mul(classes)?, 2)?,
            surface_ends: parts.take(surfaces, 4)?,
            units: parts.take(units, 2)?,
            entry_ends: parts.take(surfaces, 4)?,
            entry_classes: parts.take(entries, 2)?,
            entry_costs: parts.take(entries, 2)?,
            reading_ends: parts.take(entries, 4)?,
            readings: parts.take(readings, 1)?,
        })
    }

    /// Calls `found` with the length and the entries of each word that begins a text.
    pub fn prefixes(&self, text: &[u16], mut found: impl FnMut(usize, Range<usize>)) {
        let mut range = 0..self.surface_ends.len() / 4;
        for (depth, &unit) in text.iter().enumerate() {
            let start = self.first(range.clone(), |index| self.unit(index, depth) < Some(unit));
            let end = self.first(start..range.end, |index| {
                self.unit(index, depth) == Some(unit)
            });
            if start == end {
                return;
            }
            range = start..end;
            if ends(self.surface_ends, start).len() == depth + 1 {
                found(depth + 1, ends(self.entry_ends, start));
            }
        }
    }

    /// The first surface of a range for which `precedes` is false, by binary search.
    fn first(&self, range: Range<usize>, precedes: impl Fn(usize) -> bool) -> usize {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match precedes(middle) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    fn unit(&self, surface: usize, place: usize) -> Option<u16> {
        let range = ends(self.surface_ends, surface);
        let place = range.start.checked_add(place)?;
        (place < range.end)
            .then(|| short(self.units, place))
            .flatten()
    }

    /// The entry at `index`.
    pub fn entry(&self, index: usize) -> Option<Entry> {
        Some(Entry {
            index,
            class: short(self.entry_classes, index)?,
            cost: short(self.entry_costs, index)?.cast_signed(),
        })
    }

    /// The cost of a class after another; the highest for classes that the lexicon lacks.
    pub fn connection(&self, before: u16, class: u16) -> i16 {
        let index = usize::from(before) * self.classes + usize::from(class);
        short(self.costs, index).map_or(i16::MAX, u16::cast_signed)
    }

    /// An entry's reading in hiragana; nothing for words without kanji.
    pub fn reading(&self, entry: usize) -> impl Iterator<Item = char> {
        let bytes = self.readings.get(ends(self.reading_ends, entry));
        let letters = bytes.unwrap_or_default().iter();
        letters.filter_map(|&byte| char::from_u32(BEFORE_HIRAGANA + u32::from(byte)))
    }
}

/// The range of an item, from a list of the ends of all; empty for one that is not there.
fn ends(list: &[u8], index: usize) -> Range<usize> {
    let start = index
        .checked_sub(1)
        .map_or(0, |before| number(list, before));
    start..number(list, index).max(start)
}

fn number(list: &[u8], index: usize) -> usize {
    let bytes = list.get(index * 4..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
}

fn short(list: &[u8], index: usize) -> Option<u16> {
    let bytes = list.get(index * 2..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The file of a lexicon of one class.
    pub fn file(words: &[(&str, i16, &str)]) -> Vec<u8> {
        let mut words: Vec<(Vec<u16>, i16, &str)> = (words.iter())
            .map(|(surface, cost, reading)| (surface.encode_utf16().collect(), *cost, *reading))
            .collect();
        words.sort();
        let mut parts: [Vec<u8>; 9] = Default::default();
        parts[1] = 0i16.to_le_bytes().to_vec();
        let (mut units, mut letters) = (0u32, 0u32);
        for (index, (surface, cost, reading)) in (0u32..).zip(&words) {
            units += surface.len() as u32;
            parts[2].extend(units.to_le_bytes());
            parts[3].extend(surface.iter().flat_map(|unit| unit.to_le_bytes()));
            parts[4].extend((index + 1).to_le_bytes());
            parts[5].extend(0u16.to_le_bytes());
            parts[6].extend(cost.to_le_bytes());
            parts[8].extend(reading.chars().map(|c| (c as u32 - BEFORE_HIRAGANA) as u8));
            letters = parts[8].len() as u32;
            parts[7].extend(letters.to_le_bytes());
        }
        let count = words.len() as u32;
        parts[0] = [1, count, units, count, letters]
            .iter()
            .flat_map(|count| count.to_le_bytes())
            .collect();
        let mut bytes = MAGIC.to_vec();
        for part in parts {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    fn found(lexicon: &Lexicon<'_>, text: &str) -> Vec<(usize, String)> {
        let units: Vec<u16> = text.encode_utf16().collect();
        let mut words = Vec::new();
        lexicon.prefixes(&units, |length, entries| {
            words.extend(entries.map(|entry| (length, lexicon.reading(entry).collect())));
        });
        words
    }

    #[test]
    fn words_that_begin_a_text_are_found_with_their_readings() {
        let bytes = file(&[
            ("日", 9, "ひ"),
            ("日本", 5, "にほん"),
            ("日本語", 3, "にほんご"),
            ("本", 4, "ほん"),
            ("は", 1, ""),
        ]);
        let lexicon = Lexicon::of(&bytes).unwrap();
        let expected = |words: &[(usize, &str)]| -> Vec<(usize, String)> {
            (words.iter())
                .map(|(length, reading)| (*length, (*reading).into()))
                .collect()
        };
        for (text, words) in [
            ("日本は", &[(1, "ひ"), (2, "にほん")][..]),
            ("日本語", &[(1, "ひ"), (2, "にほん"), (3, "にほんご")]),
            ("は日", &[(1, "")]),
            ("語", &[]),
            ("", &[]),
        ] {
            assert_eq!(found(&lexicon, text), expected(words), "{text}");
        }
        let entry = lexicon.entry(1).unwrap();
        assert_eq!((entry.class, entry.cost), (0, 9));
        assert_eq!(lexicon.entry(5), None);
        assert_eq!(lexicon.connection(0, 0), 0);
        assert_eq!(lexicon.connection(0, 1), i16::MAX);
    }

    #[test]
    fn a_file_that_ends_early_is_refused() {
        let bytes = file(&[("日", 9, "ひ")]);
        assert!(Lexicon::of(&bytes).is_ok());
        for length in 0..bytes.len() {
            assert!(Lexicon::of(&bytes[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_byte_of_a_damaged_file_leads_out_of_it(
            changes in prop::collection::vec((8usize..100, any::<u8>()), 1..8)
        ) {
            let mut bytes = file(&[("日", 9, "ひ"), ("日本", 5, "にほん"), ("本", 4, "ほん")]);
            for (place, byte) in changes {
                if let Some(there) = bytes.get_mut(place) {
                    *there = byte;
                }
            }
            if let Ok(lexicon) = Lexicon::of(&bytes) {
                lexicon.prefixes(&[0x65e5, 0x672c], |_, entries| {
                    for entry in entries.take(10) {
                        let _ = (lexicon.entry(entry), lexicon.reading(entry).count());
                    }
                });
            }
        }
    }
}
