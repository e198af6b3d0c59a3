//! Text that arrives in pieces, spoken utterance by utterance, whatever the protocol.

use crate::app::App;
use crate::error::ServerError;
use crate::record::RequestRecord;
use crate::speaking::{MARKS, Request, Speaker, Speaking};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use sottovoce::text::{ends_sentence, is_blank};
use sottovoce::{Chunk, ChunkMetrics, SAMPLE_RATE, StreamOptions, WordTime};
use sottovoce_audio::{AudioFormat, Encoder};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause after a sentence end mark, after which the text so far is spoken. The next letter would
/// show whether the sentence continues, but may never come.
const PAUSE: Duration = Duration::from_millis(400);
/// How long an utterance that has been spoken so far waits for more text. Its last tenth of a
/// second is held back meanwhile, so the wait must be shorter than the listener's buffer.
const REST_MAX: Duration = Duration::from_millis(300);
/// How long an utterance keeps its place while no text comes.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// Voice and options of utterances.
pub(crate) struct Manner {
    pub(crate) voice: Speaker,
    pub(crate) options: StreamOptions,
    /// Fields that were sent with them but are not known.
    pub(crate) unknown: Vec<String>,
}

/// An event of a conversation.
pub(crate) enum Heard {
    /// Sound of a chunk.
    Sound(Sound),
    /// An utterance could not begin or ended early.
    Failed(ServerError),
    /// An utterance ended.
    Ended,
}

/// Sound of a chunk.
pub(crate) struct Sound {
    /// 16-bit little-endian samples, mono, 24 kHz.
    pub(crate) pcm: Bytes,
    pub(crate) metrics: ChunkMetrics,
    /// Words in it, if their times are wanted.
    pub(crate) words: Vec<WordTime>,
    /// Options that were sent but have no effect with the model.
    pub(crate) without_effect: Vec<&'static str>,
    /// How its utterance is spoken.
    pub(crate) manner: Arc<Manner>,
}

/// Text of an utterance that has no stream yet.
struct Waiting {
    text: String,
    /// `None` after a refused choice: it is not spoken.
    manner: Option<Arc<Manner>>,
    /// Whether it was flushed.
    finished: bool,
}

impl Waiting {
    /// Whether a stream can begin with it.
    fn is_speakable(&self) -> bool {
        let words = self.text.chars().any(char::is_alphanumeric);
        words || (self.finished && !self.text.is_empty())
    }
}

/// The utterance under way.
struct Utterance {
    speaking: Speaking,
    manner: Arc<Manner>,
    encoder: Encoder,
    /// Whether its text is complete; further text starts another utterance.
    finished: bool,
    /// Whether the text so far ends with a sentence end mark.
    ended: bool,
    /// Time of the last text.
    written: Instant,
    /// Whether the engine was told not to wait for the next letter.
    flushed_early: bool,
    /// Time at which all of its text had been spoken.
    rests: Option<Instant>,
}

impl Utterance {
    fn new(speaking: Speaking, manner: Arc<Manner>) -> Result<Utterance, ServerError> {
        Ok(Utterance {
            speaking,
            manner,
            encoder: Encoder::new(AudioFormat::Pcm, SAMPLE_RATE)?,
            finished: false,
            ended: false,
            written: Instant::now(),
            flushed_early: false,
            rests: None,
        })
    }

    fn write(&mut self, text: &str) -> Result<(), ServerError> {
        self.speaking.write(text)?;
        self.ended = ends_sentence(text).unwrap_or(self.ended);
        self.written = Instant::now();
        self.flushed_early = false;
        self.rests = None;
        Ok(())
    }

    /// Marks the text as complete.
    fn finish(&mut self) {
        self.finished = true;
        self.speaking.finish();
    }

    /// Time of the next check without an event.
    fn deadline(&self) -> Option<Instant> {
        if self.finished {
            return None;
        }
        let silent = self.written + SILENT_MAX;
        Some(match self.rests {
            Some(since) => since + REST_MAX,
            None if self.ended && !self.flushed_early => self.written + PAUSE,
            None => silent,
        })
    }
}

type Starting = BoxFuture<'static, Result<Speaking, ServerError>>;

/// The text and the utterances of one caller. Dropping it ends the utterance under way.
pub(crate) struct Conversation {
    app: Arc<App>,
    record: Option<Arc<RequestRecord>>,
    /// How the text that follows is spoken; `None` after a refused choice.
    manner: Option<Arc<Manner>>,
    /// Text without a stream, one entry per utterance.
    waiting: VecDeque<Waiting>,
    starting: Option<Starting>,
    /// Whether the text of the utterance that is starting was complete.
    starts_whole: bool,
    utterance: Option<Utterance>,
    /// Whether anything was spoken since [`Conversation::take_spoke`].
    spoke: bool,
}

impl Conversation {
    pub(crate) fn new(
        app: Arc<App>,
        record: Option<Arc<RequestRecord>>,
        manner: Manner,
    ) -> Conversation {
        Conversation {
            app,
            record,
            manner: Some(Arc::new(manner)),
            waiting: VecDeque::new(),
            starting: None,
            starts_whole: false,
            utterance: None,
            spoke: false,
        }
    }

    /// Sets voice and options of the text that follows; with `None` it is not spoken. The text so
    /// far is spoken as it was to be, and its utterance ends.
    pub(crate) fn speak_as(&mut self, manner: Option<Manner>) {
        let unfinished = self.waiting.back().filter(|waiting| !waiting.finished);
        if unfinished.is_some_and(|waiting| is_blank(&waiting.text)) {
            self.waiting.pop_back();
        }
        self.flush();
        self.manner = manner.map(Arc::new);
    }

    /// Adds text to the utterance under way, or to the last waiting one.
    ///
    /// # Errors
    /// If more text waits than the server allows; the piece is dropped.
    pub(crate) fn write(&mut self, text: &str) -> Result<(), ServerError> {
        let most = self.app.options.limits.text_characters;
        let waiting = self
            .waiting
            .iter()
            .map(|waiting| waiting.text.chars().count());
        let unspoken = self
            .utterance
            .as_ref()
            .map_or(0, |utterance| utterance.speaking.unspoken());
        if waiting.sum::<usize>() + unspoken + text.chars().count() > most {
            return Err(ServerError::Parameter {
                parameter: "text",
                reason: format!(
                    "more than {most} characters wait to be spoken; this piece was dropped"
                ),
            });
        }
        if self.waiting.is_empty()
            && let Some(utterance) = self
                .utterance
                .as_mut()
                .filter(|utterance| !utterance.finished)
        {
            return utterance.write(text);
        }
        match self.waiting.back_mut().filter(|waiting| !waiting.finished) {
            Some(waiting) => waiting.text.push_str(text),
            None => self.waiting.push_back(Waiting {
                text: text.to_owned(),
                manner: self.manner.clone(),
                finished: false,
            }),
        }
        Ok(())
    }

    /// Ends the utterance to which text was last added.
    pub(crate) fn flush(&mut self) {
        if let Some(waiting) = self.waiting.back_mut() {
            waiting.finished = true;
            if !waiting.is_speakable() {
                self.waiting.pop_back();
            }
        } else if let Some(utterance) = self
            .utterance
            .as_mut()
            .filter(|utterance| !utterance.finished)
        {
            utterance.finish();
        }
    }

    /// Ends the utterance under way at once, and forgets the text that waits.
    pub(crate) fn cancel(&mut self) {
        // Dropping the stream ends it and frees its place.
        self.starting = None;
        self.utterance = None;
        self.waiting.clear();
        self.spoke = false;
    }

    /// Finishes the utterance under way and starts no other.
    pub(crate) fn stop(&mut self) {
        self.waiting.clear();
        if let Some(utterance) = &mut self.utterance {
            utterance.finish();
        }
    }

    /// Whether nothing is spoken and nothing waits to be.
    pub(crate) fn is_idle(&self) -> bool {
        let speakable = self.waiting.front().is_some_and(Waiting::is_speakable);
        self.starting.is_none() && self.utterance.is_none() && !speakable
    }

    /// Whether anything was spoken, or dropped for lack of a voice, since the last call.
    pub(crate) fn take_spoke(&mut self) -> bool {
        std::mem::take(&mut self.spoke)
    }

    /// Starts the next utterance if none is under way.
    pub(crate) fn start_next(&mut self) {
        if self.starting.is_some() || self.utterance.is_some() {
            return;
        }
        while let Some(refused) = self.waiting.pop_front_if(|front| front.manner.is_none()) {
            self.spoke |= refused.is_speakable();
        }
        let front = self.waiting.front().filter(|front| front.is_speakable());
        let Some((front, manner)) = front.and_then(|front| Some((front, front.manner.as_ref()?)))
        else {
            return;
        };
        self.spoke = true;
        // A complete text is passed whole: how an open text is split into pieces depends on timing.
        self.starts_whole = front.finished;
        let whole = front.finished.then(|| front.text.clone());
        let request = Request {
            text: whole.unwrap_or_default(),
            voice: manner.voice.clone(),
            options: manner.options.clone(),
            asked: Instant::now(),
            record: self.record.clone(),
        };
        let app = self.app.clone();
        self.starting = Some(Box::pin(
            async move { Speaking::start(&app, request).await },
        ));
    }

    /// The next event; never completes while nothing is spoken. Sound is not taken while
    /// `takes_sound` is false. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self, takes_sound: bool) -> Heard {
        loop {
            self.start_next();
            let deadline = self.utterance.as_ref().and_then(Utterance::deadline);
            tokio::select! {
                started = started(&mut self.starting), if self.starting.is_some() => {
                    self.starting = None;
                    if let Err(error) = self.began(started) {
                        return Heard::Failed(error);
                    }
                }
                item = next_chunk(&mut self.utterance), if takes_sound && self.utterance.is_some() => {
                    if let Some(heard) = self.chunk(item) {
                        return heard;
                    }
                }
                () = sleep_until(deadline), if deadline.is_some() => self.pause(),
                else => std::future::pending().await,
            }
        }
    }

    /// Handles the utterance's deadline: speaks the text so far, or ends the utterance.
    fn pause(&mut self) {
        let Some(utterance) = &mut self.utterance else {
            return;
        };
        if utterance.rests.is_none() && utterance.ended && !utterance.flushed_early {
            utterance.flushed_early = true;
            utterance.speaking.flush();
        } else {
            utterance.finish();
        }
    }

    /// Handles the start of an utterance. If it was refused, its text is dropped.
    fn began(&mut self, started: Result<Speaking, ServerError>) -> Result<(), ServerError> {
        let Some(Waiting {
            text,
            manner: Some(manner),
            finished,
        }) = self.waiting.pop_front()
        else {
            return Ok(());
        };
        let mut utterance = Utterance::new(started?, manner)?;
        if self.starts_whole {
            utterance.finished = true;
            self.utterance = Some(utterance);
            return Ok(());
        }
        utterance.write(if is_blank(&text) { MARKS } else { &text })?;
        if finished {
            utterance.finish();
        }
        self.utterance = Some(utterance);
        Ok(())
    }

    fn chunk(&mut self, item: Option<Result<Chunk, ServerError>>) -> Option<Heard> {
        let utterance = self.utterance.as_mut()?;
        let heard = match item {
            // All text so far has been spoken.
            Some(Ok(chunk)) if chunk.samples.is_empty() => {
                utterance.rests = Some(Instant::now());
                return None;
            }
            Some(Ok(chunk)) => {
                let mut pcm = Vec::new();
                match utterance.encoder.encode(&chunk.samples, &mut pcm) {
                    Ok(()) => {
                        return Some(Heard::Sound(Sound {
                            pcm: pcm.into(),
                            metrics: chunk.metrics,
                            words: chunk.words,
                            without_effect: utterance.speaking.without_effect().to_vec(),
                            manner: utterance.manner.clone(),
                        }));
                    }
                    Err(error) => Heard::Failed(error.into()),
                }
            }
            Some(Err(error)) => Heard::Failed(error),
            None => Heard::Ended,
        };
        self.utterance = None;
        Some(heard)
    }
}

async fn started(starting: &mut Option<Starting>) -> Result<Speaking, ServerError> {
    match starting {
        Some(starting) => starting.await,
        None => std::future::pending().await,
    }
}

async fn next_chunk(utterance: &mut Option<Utterance>) -> Option<Result<Chunk, ServerError>> {
    match utterance {
        Some(utterance) => utterance.speaking.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
