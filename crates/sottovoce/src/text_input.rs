//! Text passed from a caller to the worker. It may still be written while its beginning is spoken.

use crate::engine::Handle;
use crate::error::Error;
use crate::options::TEXT_CHARACTERS_MAX;
use crate::text_filter::TextFilter;
use sottovoce_chatterbox::text::{SentenceBuffer, is_blank};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Most characters held back while a sentence has no end.
const UNENDED_CHARACTERS_MAX: usize = 300;

/// Text that the worker takes.
#[derive(Debug, PartialEq)]
pub(crate) struct TakenText {
    pub text: String,
    /// Whether the text ends with it.
    pub last: bool,
    /// Characters of white space that were written before a character of `text` and left out.
    skips: Vec<(usize, usize)>,
}

impl TakenText {
    /// Characters written before a character of `text`, counted from where `text` begins.
    pub fn written(&self, character: usize) -> usize {
        let before = self.skips.iter().filter(|(at, _)| *at <= character);
        character + before.map(|(_, skipped)| skipped).sum::<usize>()
    }
}

/// The text of one stream that the worker has not taken yet.
#[derive(Default)]
pub(crate) struct TextInput {
    state: Mutex<TextState>,
    /// Changes the sentences on the writer's thread, as text of a language.
    filter: Option<(Arc<TextFilter>, String)>,
    /// Held while sentences are on their way through the filter, so that they stay in order.
    filtering: Mutex<()>,
}

#[derive(Default)]
struct TextState {
    /// Sentences whose ends are certain.
    whole: String,
    /// Characters taken before `whole`.
    taken: usize,
    /// Text after them.
    rest: SentenceBuffer,
    /// Speak the text so far without waiting for more.
    flushed: bool,
    /// The text is complete.
    finished: bool,
    /// The text was given whole.
    at_once: bool,
}

impl TextInput {
    /// A complete text.
    pub fn whole(text: &str) -> TextInput {
        TextInput {
            state: Mutex::new(TextState {
                whole: text.to_owned(),
                finished: true,
                at_once: true,
                ..TextState::default()
            }),
            ..TextInput::default()
        }
    }

    /// A text that is written later.
    pub fn open() -> TextInput {
        TextInput::default()
    }

    /// A text in a language that is written later and goes through a filter.
    pub fn filtered(filter: Arc<TextFilter>, language: &str) -> TextInput {
        TextInput {
            filter: Some((filter, language.to_owned())),
            ..TextInput::default()
        }
    }

    /// The text, if it was given whole.
    pub fn whole_text(&self) -> Option<String> {
        let state = self.state();
        state.at_once.then(|| state.whole.clone())
    }

    /// Takes the sentences whose ends are certain.
    pub fn take(&self) -> TakenText {
        let mut state = self.state();
        if std::mem::take(&mut state.flushed) || state.finished {
            let rest = state.rest.flush();
            state.add(rest);
        }
        let text = std::mem::take(&mut state.whole);
        let before = state.taken;
        state.taken += text.chars().count();
        let taken = state.taken;
        let skips = state.rest.take_skips(taken).into_iter();
        TakenText {
            // A filter may have changed the length of the text; characters are then counted in the
            // filtered text.
            skips: (skips.map(|(at, count)| (at.saturating_sub(before), count))).collect(),
            text,
            last: state.finished,
        }
    }

    /// Sentences of the state, as the filter changes them. If it fails, they are spoken as they
    /// are.
    fn pass(
        &self,
        sentences: impl FnOnce(&mut TextState) -> Result<Vec<String>, Error>,
    ) -> Result<(), Error> {
        let _in_order = self
            .filter
            .as_ref()
            .map(|_| (self.filtering.lock()).unwrap_or_else(PoisonError::into_inner));
        let mut state = self.state();
        let mut found = sentences(&mut state)?;
        let mut failure = Ok(());
        if let Some((filter, language)) = &self.filter {
            // The worker must not wait for the program.
            drop(state);
            for sentence in found.iter_mut().filter(|sentence| !is_blank(sentence)) {
                match filter.apply(sentence, language) {
                    Ok(changed) => *sentence = changed,
                    Err(error) => {
                        failure = Err(error);
                        break;
                    }
                }
            }
            state = self.state();
        }
        state.add(found);
        failure
    }

    /// Sends the text after the last whole sentence through the filter, if there is one.
    fn pass_rest(&self) -> Result<(), Error> {
        match self.filter {
            Some(_) => self.pass(|state| Ok(state.rest.flush().into_iter().collect())),
            None => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, TextState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TextState {
    /// Adds sentences whose ends are certain.
    fn add(&mut self, sentences: impl IntoIterator<Item = String>) {
        self.whole.extend(sentences);
    }

    fn characters(&self) -> usize {
        self.whole.chars().count() + self.rest.characters()
    }
}

/// Writes the text of an open stream.
#[derive(Clone)]
pub struct TextWriter {
    pub(crate) input: Arc<TextInput>,
    pub(crate) handle: Weak<Handle>,
}

impl TextWriter {
    /// Appends a piece of text, split anywhere. Each sentence is spoken as soon as its end is
    /// certain.
    ///
    /// # Errors
    /// If the text was finished, or more of it is waiting than one stream accepts. If the text
    /// filter fails, its error; the text is spoken as it is.
    pub fn push(&self, piece: &str) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Text { reason });
        let passed = self.input.pass(|state| {
            if state.finished {
                return refuse("it was finished".into());
            }
            let characters = state.characters() + piece.chars().count();
            if characters > TEXT_CHARACTERS_MAX {
                return refuse(format!(
                    "{characters} characters wait; {TEXT_CHARACTERS_MAX} may"
                ));
            }
            let sentences = state.rest.push(piece, UNENDED_CHARACTERS_MAX);
            Ok(sentences)
        });
        self.wake();
        passed
    }

    /// Speaks the text so far without waiting for the end of its sentence.
    pub fn flush(&self) {
        // If the filter fails, the text is spoken unfiltered.
        let _ = self.input.pass_rest();
        self.input.state().flushed = true;
        self.wake();
    }

    /// Ends the text; the stream ends once it is spoken.
    pub fn finish(&self) {
        let _ = self.input.pass_rest();
        self.input.state().finished = true;
        self.wake();
    }

    /// Characters waiting for the worker, which takes text as it speaks.
    pub fn waiting(&self) -> usize {
        self.input.state().characters()
    }

    fn wake(&self) {
        if let Some(handle) = self.handle.upgrade() {
            handle.shared.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sottovoce_chatterbox::text::sentences;

    /// Pieces taken while `text` arrives letter by letter and then ends.
    fn taken(text: &str) -> Vec<String> {
        let input = Arc::new(TextInput::open());
        let writer = TextWriter {
            input: input.clone(),
            handle: Weak::new(),
        };
        let mut pieces = Vec::new();
        for letter in text.chars() {
            writer.push(letter.encode_utf8(&mut [0; 4])).unwrap();
            pieces.push(input.take().text);
        }
        writer.finish();
        pieces.push(input.take().text);
        pieces.retain(|piece| !piece.trim().is_empty());
        pieces.iter().map(|piece| piece.trim().to_owned()).collect()
    }

    #[test]
    fn a_text_in_pieces_is_cut_as_the_same_text_in_one() {
        for text in [
            "We asked them and then Dr. Smith came to help.",
            "Use simple tools, e.g. a hammer and a saw.",
            "The quick brown fox\njumps over the lazy dog.",
            "She was born on Jan. 5 in the morning.",
            "It costs 3.5 dollars in the shop. Shall we go there tomorrow?",
            "Hi. How are you today, my friend? I am quite well, thank you!",
        ] {
            let whole: Vec<&str> = sentences(text).into_iter().map(|at| &text[at]).collect();
            assert_eq!(taken(text), whole, "{text:?}");
        }
    }

    #[test]
    fn a_sentence_leaves_when_the_next_begins() {
        let input = Arc::new(TextInput::open());
        let writer = TextWriter {
            input: input.clone(),
            handle: Weak::new(),
        };
        writer.push("It is half past three. ").unwrap();
        assert_eq!(input.take().text, "", "a small letter could go on with it");
        writer.push("Shall we").unwrap();
        let taken = input.take();
        assert_eq!(
            (&*taken.text, taken.last),
            ("It is half past three.", false)
        );
        assert_eq!(input.take().text, "");
        writer.flush();
        assert_eq!(input.take().text, " Shall we");
        assert!(input.whole_text().is_none());
        writer.finish();
        let taken = input.take();
        assert_eq!((&*taken.text, taken.last), ("", true));
        assert!(writer.push("more").is_err());
    }

    #[test]
    fn characters_are_counted_as_they_were_written_however_much_white_space_is_left_out() {
        let spaces = |count| " ".repeat(count);
        let text = format!(
            "{}The first sentence is here.{}And the second one is there.{}\n\nA third one comes.",
            spaces(700),
            spaces(1000),
            spaces(5)
        );
        let written: Vec<char> = text.chars().collect();
        for size in [1, 50, 5000] {
            let input = Arc::new(TextInput::open());
            let writer = TextWriter {
                input: input.clone(),
                handle: Weak::new(),
            };
            let mut base = 0;
            let mut check = |taken: TakenText| {
                for (at, character) in taken.text.chars().enumerate() {
                    if character.is_alphabetic() {
                        assert_eq!(written[base + taken.written(at)], character, "{size}");
                    }
                }
                base += taken.written(taken.text.chars().count());
            };
            for piece in written.chunks(size) {
                writer.push(&piece.iter().collect::<String>()).unwrap();
                check(input.take());
            }
            writer.finish();
            check(input.take());
            assert!(base <= written.len() && base + 5 > written.len());
        }
    }

    #[test]
    fn text_without_an_end_is_not_held_back_for_ever_and_nothing_is_lost() {
        let words = "word ".repeat(500);
        let pieces = taken(&words);
        assert!(pieces.len() > 2);
        assert_eq!(pieces.join(" ").split_whitespace().count(), 500);
    }

    #[test]
    fn more_than_one_stream_takes_is_refused() {
        let writer = TextWriter {
            input: Arc::new(TextInput::open()),
            handle: Weak::new(),
        };
        assert!(writer.push(&"x".repeat(TEXT_CHARACTERS_MAX)).is_ok());
        assert!(writer.push("x").is_err());
    }
}
