//! A stream under way.

use super::Job;
use crate::admission::Promise;
use crate::chunking::Pass;
use crate::error::Error;
use crate::holdings::Holdings;
use crate::options::SAMPLE_RATE;
use crate::pipeline::{Pipeline, Utterance};
use crate::post_process::PostProcess;
use crate::scheduler::{COMPANION_STEPS_MAX, StreamStatus};
use crate::stream::{Chunk, ChunkMetrics};
use crate::word_times::WordClock;
use sottovoce_chatterbox::text::Warning;
use sottovoce_memory::OutOfMemory;
use std::time::Instant;

/// Most pending sentences and silences that are taken from an open text.
const COMING_MAX: usize = 2;

/// A pass that is due.
#[derive(Clone, Copy)]
pub(super) struct Due {
    pub pass: Pass,
    /// Whether it ends the stream or is followed by a silence, so that later passes do not depend
    /// on it.
    pub whole: bool,
    /// Whether it ends the stream.
    pub last: bool,
}

/// A live stream.
pub(super) struct Live {
    pub job: Job,
    /// Its reservation.
    pub promise: Promise,
    pub utterance: Utterance,
    pub post_process: PostProcess,
    pub words: WordClock,
    pub admitted: Instant,
    pub last_turn: u64,
    pub metrics: ChunkMetrics,
    /// Samples so far.
    pub samples: u64,
    /// Actions of the memory policy since the previous chunk.
    pub actions: Vec<String>,
    /// Warnings about the text since the previous chunk.
    pub warnings: Vec<Warning>,
    /// Number of rendered chunks, including those whose samples are held back entirely; silences do
    /// not count.
    pub chunk: u64,
    /// Whether the reader was told that all text so far has been spoken.
    pub rests: bool,
}

impl Live {
    /// A stream whose `utterance` begins now, in the worker's turn `turn`.
    pub fn new(job: Job, promise: Promise, utterance: Utterance, turn: u64) -> Live {
        Live {
            post_process: PostProcess::new(&job.options),
            words: WordClock::new(job.options.speed),
            job,
            promise,
            utterance,
            admitted: Instant::now(),
            last_turn: turn,
            metrics: ChunkMetrics::default(),
            samples: 0,
            actions: Vec::new(),
            warnings: Vec::new(),
            chunk: 0,
            rests: false,
        }
    }

    /// Commits its present bytes to its reservation.
    ///
    /// # Errors
    /// If it holds more than was reserved.
    pub fn settle(&mut self) -> Result<(), OutOfMemory> {
        let promise = &mut self.promise.device;
        let (has, entered) = (self.utterance.bytes(), promise.balance().committed);
        promise.release(entered.saturating_sub(has));
        promise.commit(has.saturating_sub(entered))
    }

    /// Whether its KV cache is to be given back. Driver calls never delay the first sound of a
    /// stream that is heard as it comes.
    pub fn gives_back_cache(&self) -> bool {
        let heard = self.metrics.chunk_count > 0 || self.utterance.is_delivered_whole();
        heard && self.utterance.is_done_with_cache()
    }

    /// Whether all available text has become tokens and more may come.
    fn waits_for_text(&self) -> bool {
        self.utterance.is_open() && self.utterance.is_said()
    }

    /// Takes new text of an open stream. A chunk without samples tells the reader that all of it so
    /// far has been spoken.
    pub fn read_text(&mut self, pipeline: &Pipeline) -> Result<(), Error> {
        if let Some(tokens) = &self.job.tokens
            && self.utterance.wants_tokens()
        {
            let (tokens, last) = tokens.receiver.0.take()?;
            self.utterance.hear(&tokens, last);
        }
        // Text far ahead of the voice stays in its writer's bounded buffer.
        if !self.utterance.is_open() || self.utterance.coming() >= COMING_MAX {
            return Ok(());
        }
        let taken = self.job.text.take();
        pipeline.add_text(&mut self.utterance, &taken)?;
        let warnings = self.job.delivery.warn_once(self.utterance.take_warnings());
        self.warnings.extend(warnings);
        let spoken = self.waits_for_text() && self.utterance.due(self.chunk).is_none();
        if !spoken {
            self.rests = false;
        } else if !self.rests && self.metrics.chunk_count > 0 && self.job.delivery.has_room() {
            self.rests = true;
            self.job.delivery.send(Chunk {
                samples: Vec::new(),
                words: self.words.take(self.samples, false),
                metrics: ChunkMetrics {
                    actions: Vec::new(),
                    warnings: std::mem::take(&mut self.warnings),
                    ..self.metrics.clone()
                },
            });
        }
        Ok(())
    }

    /// The next pass, if it is due.
    pub fn due(&self) -> Option<Due> {
        let utterance = &self.utterance;
        let pass = utterance.due(self.chunk)?;
        let whole = pass.count == utterance.tokens_waiting()
            && (!utterance.goes_on() || utterance.before_silence());
        Some(Due {
            pass,
            whole,
            last: whole && !utterance.goes_on(),
        })
    }

    /// What the scheduler knows of it.
    pub fn status(&self) -> StreamStatus {
        StreamStatus {
            generating: self.utterance.speaking(),
            chunk_ready: self.utterance.due(self.chunk).is_some(),
            reader_ready: self.job.delivery.has_room(),
            heard: self.metrics.chunk_count > 0,
            ready_soon: (self.utterance).is_due_within(self.chunk, COMPANION_STEPS_MAX as usize),
            last_turn: self.last_turn,
        }
    }

    /// Updates the metrics; returns whether this was the first sound.
    pub fn count(&mut self, samples: &[f32], holdings: &Holdings) -> bool {
        let (statistics, memory) = holdings.look();
        let elapsed = self.job.asked().elapsed().as_secs_f64();
        let metrics = &mut self.metrics;
        metrics.actions = std::mem::take(&mut self.actions);
        metrics.warnings = std::mem::take(&mut self.warnings);
        metrics.chunk_count += 1;
        metrics.text_tokens = self.utterance.text_tokens();
        metrics.tokens = self.utterance.tokens_generated();
        metrics.run_ons = self.utterance.run_ons();
        let heard = self.samples as f64 / f64::from(SAMPLE_RATE);
        metrics.uninterrupted_after = metrics.uninterrupted_after.max(elapsed - heard);
        if metrics.chunk_count == 1 {
            metrics.latency_to_first_chunk = elapsed;
        }
        metrics.total_generation_time = elapsed;
        self.samples += samples.len() as u64;
        metrics.total_audio_duration = self.samples as f64 / f64::from(SAMPLE_RATE);
        let worked = self.job.started.elapsed().as_secs_f64();
        metrics.rtf = worked / metrics.total_audio_duration.max(f64::MIN_POSITIVE);
        metrics.memory_allocated = memory.allocated_bytes;
        metrics.memory_reserved = memory.reserved_bytes;
        metrics.memory_reserved_peak = statistics.held_peak_bytes();
        metrics.fragmentation = memory.fragmentation();
        metrics.chunk_count == 1
    }
}
