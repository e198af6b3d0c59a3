//! Streams of texts.

use super::Engine;
use crate::error::Error;
use crate::options::{StreamOptions, TEXT_CHARACTERS_MAX};
use crate::pipeline::no_speech;
use crate::stream::Stream;
use crate::text_input::TextInput;
use crate::voice::Voice;
use sottovoce_chatterbox::text::is_blank;

impl Engine {
    /// Starts to speak `text`. The returned iterator yields chunks as they are ready. A text
    /// without words is a short silence.
    ///
    /// # Errors
    /// An option out of range, an empty text or one longer than [`TEXT_CHARACTERS_MAX`], a voice of
    /// another engine, or [`Error::Busy`] if the queue is full.
    pub fn stream(
        &self,
        text: &str,
        voice: &Voice,
        options: StreamOptions,
    ) -> Result<Stream, Error> {
        let characters = text.chars().count();
        if characters > TEXT_CHARACTERS_MAX {
            return Err(Error::Text {
                reason: format!(
                    "{characters} characters; one stream takes {TEXT_CHARACTERS_MAX}, split it"
                ),
            });
        }
        if is_blank(text) {
            return Err(Error::Text {
                reason: "there is nothing in it to speak".into(),
            });
        }
        let text = match &self.handle.shared.text_filter {
            Some(filter) => &filter.apply(text, &self.language_of(&options))?,
            None => text,
        };
        self.start_text(TextInput::whole(text), voice, options)
    }

    /// Starts a stream whose text is written later, with [`Stream::text`]. All pieces of text form
    /// one utterance. The stream is queued at once. A chunk without samples means that all text so
    /// far has been spoken.
    ///
    /// # Errors
    /// As [`stream`](Self::stream), except for the text.
    pub fn open_stream(&self, voice: &Voice, options: StreamOptions) -> Result<Stream, Error> {
        let text = match &self.handle.shared.text_filter {
            Some(filter) => TextInput::filtered(filter.clone(), &self.language_of(&options)),
            None => TextInput::open(),
        };
        self.start_text(text, voice, options)
    }

    /// The language that a stream's text is said to be in.
    fn language_of(&self, options: &StreamOptions) -> String {
        let text = &self.handle.shared.model.config().text;
        let asked = options.language.as_deref();
        asked
            .unwrap_or(text.default_language())
            .to_ascii_lowercase()
    }

    fn start_text(
        &self,
        text: TextInput,
        voice: &Voice,
        options: StreamOptions,
    ) -> Result<Stream, Error> {
        if !self.options().speech {
            return Err(no_speech());
        }
        self.start(text, None, voice, options)
    }
}
