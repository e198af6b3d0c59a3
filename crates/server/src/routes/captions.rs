//! Sound with the times of its words as JSON: a line per piece, or one object for all of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::json;
use sottovoce::WordTime;

/// Bytes that Base64 encodes together.
const GROUP_BYTES: usize = 3;

/// A word as captions tell it.
#[derive(Serialize)]
struct CaptionWord {
    word: String,
    /// In seconds from the start of the sound.
    start_time: f64,
    end_time: f64,
}

impl From<WordTime> for CaptionWord {
    fn from(word: WordTime) -> CaptionWord {
        CaptionWord {
            word: word.word,
            start_time: word.start,
            end_time: word.end,
        }
    }
}

/// Shape of captioned sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// An object with a piece of the sound and its words, per line.
    Lines,
    /// One object, written as its sound is made.
    Whole,
}

/// Writes captioned sound piece by piece. Nothing of the sound is kept.
pub(crate) struct Captions {
    shape: Shape,
    media_type: &'static str,
    /// Words that are not written yet; `None` if none are told.
    words: Option<Vec<CaptionWord>>,
    /// Bytes of a Base64 group that is not complete.
    rest: Vec<u8>,
    begun: bool,
}

impl Captions {
    /// Captions of sound of this media type, line by line or whole; `told` is whether words are.
    pub(crate) fn new(lines: bool, media_type: &'static str, told: bool) -> Captions {
        Captions {
            shape: if lines { Shape::Lines } else { Shape::Whole },
            media_type,
            words: told.then(Vec::new),
            rest: Vec::new(),
            begun: false,
        }
    }

    /// Adds words to the next piece.
    pub(crate) fn add(&mut self, words: Vec<WordTime>) {
        if let Some(kept) = &mut self.words {
            kept.extend(words.into_iter().map(CaptionWord::from));
        }
    }

    /// JSON for the next bytes of the sound.
    pub(crate) fn piece(&mut self, bytes: Vec<u8>, last: bool) -> Vec<u8> {
        match self.shape {
            Shape::Lines => self.line(&bytes, last),
            Shape::Whole => self.part(bytes, last),
        }
    }

    fn line(&mut self, bytes: &[u8], last: bool) -> Vec<u8> {
        let waiting = self.words.as_ref().is_some_and(|words| !words.is_empty());
        if bytes.is_empty() && !(last && waiting) {
            return Vec::new();
        }
        let line = json!({
            "audio": BASE64.encode(bytes),
            "audio_format": self.media_type,
            "timestamps": self.words,
        });
        self.words.iter_mut().for_each(Vec::clear);
        format!("{line}\n").into_bytes()
    }

    fn part(&mut self, bytes: Vec<u8>, last: bool) -> Vec<u8> {
        let mut text = String::new();
        if !std::mem::replace(&mut self.begun, true) {
            text.push_str(&format!(
                "{{\"audio_format\":\"{}\",\"audio\":\"",
                self.media_type
            ));
        }
        self.rest.extend(bytes);
        let whole = match last {
            true => self.rest.len(),
            false => self.rest.len() / GROUP_BYTES * GROUP_BYTES,
        };
        BASE64.encode_string(&self.rest[..whole], &mut text);
        self.rest.drain(..whole);
        if last {
            text.push_str(&format!("\",\"timestamps\":{}}}", json!(self.words)));
        }
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn word(word: &str, start: f64) -> WordTime {
        WordTime {
            word: word.into(),
            start,
            end: start + 0.5,
            text_start: 0,
            text_end: 1,
        }
    }

    /// What is written for sound in pieces of these lengths, with a word before each.
    fn written(lines: bool, told: bool, lengths: &[usize]) -> String {
        let mut captions = Captions::new(lines, "audio/wav", told);
        let mut all = Vec::new();
        for (index, &length) in lengths.iter().enumerate() {
            captions.add(vec![word(&format!("w{index}"), index as f64)]);
            all.extend(captions.piece(vec![index as u8; length], index + 1 == lengths.len()));
        }
        String::from_utf8(all).unwrap()
    }

    fn sound(value: &Value) -> Vec<u8> {
        BASE64.decode(value["audio"].as_str().unwrap()).unwrap()
    }

    #[test]
    fn one_object_has_all_of_the_sound_wherever_its_pieces_end() {
        for lengths in [&[5, 1, 0, 4][..], &[3, 3], &[1, 1, 1, 1], &[0]] {
            let value: Value = serde_json::from_str(&written(false, true, lengths)).unwrap();
            let expected: Vec<u8> = (lengths.iter().zip(0..))
                .flat_map(|(&length, index)| vec![index; length])
                .collect();
            assert_eq!(sound(&value), expected);
            assert_eq!(value["audio_format"], "audio/wav");
            let words = value["timestamps"].as_array().unwrap();
            assert_eq!(words.len(), lengths.len());
            assert_eq!(
                words[0],
                json!({"word": "w0", "start_time": 0.0, "end_time": 0.5})
            );
        }
    }

    #[test]
    fn each_line_has_the_words_since_the_last_and_none_is_lost() {
        let written = written(true, true, &[4, 0, 5, 0]);
        let lines: Vec<Value> = (written.lines())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let counts: Vec<_> = (lines.iter())
            .map(|line| {
                (
                    sound(line).len(),
                    line["timestamps"].as_array().unwrap().len(),
                )
            })
            .collect();
        assert_eq!(counts, [(4, 1), (5, 2), (0, 1)]);
    }

    #[test]
    fn without_word_times_there_are_none_and_no_empty_line() {
        let lines = written(true, false, &[4, 0]);
        assert_eq!(lines.lines().count(), 1);
        for text in [lines, written(false, false, &[4, 0])] {
            let value: Value = serde_json::from_str(text.trim()).unwrap();
            assert_eq!(value["timestamps"], Value::Null);
        }
    }
}
