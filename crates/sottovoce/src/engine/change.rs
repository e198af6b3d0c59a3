//! Voice changes: recorded speech in another voice.

use super::Engine;
use crate::accounts::check_possible;
use crate::device;
use crate::error::Error;
use crate::listener::{Listener, TokenInput, TokenReceiver};
use crate::loading::{CHANGES_NO_VOICES, tokenizer_plan};
use crate::options::StreamOptions;
use crate::plan::{listener_bytes, reading_bytes, reading_bytes_max};
use crate::recorded_speech::RecordedSpeech;
use crate::stream::Stream;
use crate::text_input::TextInput;
use crate::voice::Voice;
use crate::worker::ChangeTokens;
use sottovoce_chatterbox::weights::Component;
use sottovoce_memory::stats::Bytes;
use std::sync::Arc;

impl Engine {
    /// Speaks recorded speech again in another voice, with its words and its rhythm. The recording
    /// may have any length: it is read, rendered and delivered piece by piece in constant memory.
    /// Options of the text and of T3 have no effect.
    ///
    /// A thread of its own reads the recording, once for its loudness and once for its speech
    /// tokens, 30 s at a time, while the worker renders earlier ones.
    ///
    /// # Errors
    /// A recording that cannot be opened, a model without a speech tokenizer, an option out of
    /// range, a voice of another engine, [`Error::Budget`] if the model and voices leave too little
    /// for a listener, or [`Error::Busy`] if the queue is full. A recording that
    /// cannot be decoded ends the stream with [`Error::Recording`].
    pub fn change_voice(
        &self,
        speech: RecordedSpeech,
        voice: &Voice,
        options: StreamOptions,
    ) -> Result<Stream, Error> {
        let shared = &self.handle.shared;
        let decoding_bytes = speech.check(shared.model.config().voice.tokenizer.mel.sample_rate)?;
        if !shared.model.holds(Component::SpeechTokenizer) {
            let model = shared.model.name();
            return Err(speech.refuse(format!("not with model {model}: {CHANGES_NO_VOICES}")));
        }
        let host = device::host(self.options().threads.unwrap_or(0));
        let plan = match shared.tokenizer.get() {
            Some(plan) => plan.clone(),
            None => {
                let plan = Arc::new(tokenizer_plan(&shared.model, &*host)?);
                shared.tokenizer.get_or_init(|| plan).clone()
            }
        };
        let reading_bytes = reading_bytes(shared.model.config(), decoding_bytes);
        let input = Arc::new(TokenInput::default());
        let listener_bytes = listener_bytes(&plan, reading_bytes);
        check_possible(shared.accounts.host_memory(), listener_bytes, || {
            format!(
                "the speech tokenizer and the recording that it reads {}",
                Bytes(listener_bytes)
            )
        })?;
        let tokens = ChangeTokens {
            receiver: TokenReceiver(input.clone()),
            listener_bytes,
        };
        let stream = self.start(TextInput::whole(""), Some(tokens), voice, options)?;
        let listener = Listener {
            shared: shared.clone(),
            speech,
            reading_bytes,
            input,
            plan,
            device: host,
        };
        let thread = std::thread::Builder::new()
            .name("sottovoce-listener".into())
            .spawn(move || listener.run())
            .map_err(|error| Error::Synthesis {
                reason: format!("no thread for the listener: {error}"),
            })?;
        let mut listeners = self.handle.listeners();
        listeners.retain(|listener| !listener.is_finished());
        listeners.push(thread);
        Ok(stream)
    }

    /// Bytes that a voice change needs beside the model at most: the speech tokenizer at work, and
    /// the recording being read.
    ///
    /// # Errors
    /// If the model has no speech tokenizer.
    pub fn change_bytes(&self) -> Result<u64, Error> {
        let host = device::host(1);
        let model = &self.handle.shared.model;
        let plan = tokenizer_plan(model, &*host)?;
        Ok(listener_bytes(&plan, reading_bytes_max(model.config())))
    }
}
