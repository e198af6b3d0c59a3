//! Streams of texts, and how any stream is queued.

use super::{Engine, Shared, effects};
use crate::admission::{Refusal, WorstCase};
use crate::error::Error;
use crate::options::{
    DeliveryMode, EngineOptions, OptionTable, StreamOptions, TEXT_CHARACTERS_MAX, WhenFull,
};
use crate::pipeline::no_speech;
use crate::stream::{Delivery, Sender, Stream};
use crate::text_input::TextInput;
use crate::voice::Voice;
use crate::worker::{ChangeTokens, Job};
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::s3gen::Flow;
use sottovoce_chatterbox::text::is_blank;
use std::sync::Arc;
use std::time::Instant;

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

    /// The language of a stream's text: the requested one, or the model's default.
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

    /// Queues a stream of a text, or of the `tokens` of recorded speech.
    pub(super) fn start(
        &self,
        text: TextInput,
        tokens: Option<ChangeTokens>,
        voice: &Voice,
        options: StreamOptions,
    ) -> Result<Stream, Error> {
        let started = Instant::now();
        options.check()?;
        let shared = &self.handle.shared;
        if !voice.is_at(&shared.holdings) {
            return Err(Error::Voice {
                name: voice.name().to_owned(),
                reason: "another engine made it ready: a voice speaks only through the engine whose memory it is in".into(),
            });
        }
        let delivery = Arc::new(Delivery::new(options.buffered_chunks_max));
        let mut requests = shared.requests();
        if requests.closing || requests.draining {
            return Err(Error::Stopped);
        }
        check_workspace(&options, &requests.options, shared.model.config())?;
        let ticket = requests.next_ticket;
        let waits = options.when_full == WhenFull::Wait;
        let worst_case = worst_case(shared, &requests.options, tokens.as_ref(), &options);
        if let Err(refusal) = requests.admission.request(ticket, worst_case, waits) {
            let waiting_max = requests.options.waiting_max;
            drop(requests);
            shared.metrics().streams_refused += 1;
            return Err(match refusal {
                Refusal::Full {
                    waiting,
                    retry_after,
                } => Error::Busy {
                    waiting,
                    waiting_max,
                    retry_after,
                },
                Refusal::NeverFits(error) => Error::OutOfMemory(error),
            });
        }
        requests.next_ticket += 1;
        let text = Arc::new(text);
        let without_effect =
            effects::without_effect(shared, &requests.options, tokens.is_some(), voice, &options);
        requests.jobs.insert(
            ticket,
            Job {
                ticket,
                text: text.clone(),
                tokens,
                voice: voice.clone(),
                options,
                delivery: Sender(delivery.clone()),
                started,
            },
        );
        requests.awake = true;
        drop(requests);
        shared.changed.notify_all();
        Ok(Stream {
            id: ticket,
            without_effect,
            text,
            delivery,
            handle: self.handle.clone(),
        })
    }
}

/// Refuses sizes beyond those for which the engine's workspaces were made.
fn check_workspace(
    options: &StreamOptions,
    engine: &EngineOptions,
    config: &ModelConfig,
) -> Result<(), Error> {
    for (option, value, most) in [
        (
            "chunk_size",
            options.chunk_size.unwrap_or(0),
            engine.chunk_tokens(config),
        ),
        (
            "context_window",
            options.context_window,
            engine.context_tokens_max,
        ),
        (
            "flow_steps",
            options.flow_steps.unwrap_or(0),
            config.flow.solver.steps(),
        ),
    ] {
        if value > most {
            return Err(Error::option(
                option,
                value,
                format!("this engine's workspace was made for at most {most}"),
            ));
        }
    }
    Ok(())
}

/// The most memory that a stream can hold.
fn worst_case(
    shared: &Shared,
    engine: &EngineOptions,
    tokens: Option<&ChangeTokens>,
    options: &StreamOptions,
) -> WorstCase {
    let config = shared.model.config();
    let chunk_tokens = options.chunk_tokens(config);
    let chunk_tokens = chunk_tokens.min(engine.chunk_tokens(config));
    // The last tokens of a sentence are part of the preceding chunk.
    let chunk_tokens = match options.delivery.unwrap_or_default() {
        DeliveryMode::Stream => chunk_tokens + Flow::look_ahead_of(&config.flow),
        DeliveryMode::Whole => shared.plan.whole_tokens,
    };
    let delivery_bytes = options.delivery_bytes(chunk_tokens);
    match (tokens, shared.accounts.host()) {
        (None, _) => WorstCase {
            device: shared.plan.stream_promise_bytes(),
            host: delivery_bytes,
        },
        (Some(tokens), None) => WorstCase {
            device: tokens.listener_bytes,
            host: 0,
        },
        (Some(tokens), Some(_)) => WorstCase {
            device: 0,
            host: delivery_bytes.saturating_add(tokens.listener_bytes),
        },
    }
}
