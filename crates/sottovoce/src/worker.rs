//! The one thread that owns the model and moves every live stream on.

use crate::engine::Shared;
use crate::error::Error;
use crate::settings::{SAMPLE_RATE, StreamOptions, TOKENS_PER_SECOND};
use crate::stream::{Chunk, ChunkMetrics};
use crate::voice::Voice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Instant;

/// A request to speak.
pub(crate) struct Job {
    pub(crate) text: String,
    pub(crate) voice: Voice,
    pub(crate) options: StreamOptions,
    pub(crate) sender: SyncSender<Result<Chunk, Error>>,
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) started: Instant,
}

struct Live {
    job: Job,
    characters: Vec<char>,
    position: usize,
    phase: f32,
    metrics: ChunkMetrics,
    ready: Option<Chunk>,
}

/// Runs until the engine closes.
pub(crate) fn run(shared: &Shared) {
    let mut live: Vec<Live> = Vec::new();
    loop {
        {
            let mut desk = shared.desk();
            if desk.closing {
                return;
            }
            live.retain(|stream| !stream.job.cancelled.load(Ordering::Acquire));
            while live.len() < desk.options.streams_max {
                let Some(job) = desk.waiting.pop_front() else {
                    break;
                };
                live.push(Live::new(job));
            }
            desk.live = live.len();
        }
        let mut moved = false;
        live.retain_mut(|stream| {
            let (progress, keep) = stream.advance();
            moved |= progress;
            keep
        });
        if !moved {
            shared.sleep();
        }
    }
}

impl Live {
    fn new(job: Job) -> Live {
        let characters = job.text.chars().collect();
        Live {
            job,
            characters,
            position: 0,
            phase: 0.0,
            metrics: ChunkMetrics::default(),
            ready: None,
        }
    }

    /// Makes or delivers one chunk: (something happened, the stream goes on).
    fn advance(&mut self) -> (bool, bool) {
        let chunk = match self.ready.take() {
            Some(chunk) => chunk,
            None if self.position == self.characters.len() => return (true, false),
            None => self.make_chunk(),
        };
        match self.job.sender.try_send(Ok(chunk)) {
            Ok(()) => (true, true),
            Err(TrySendError::Full(Ok(chunk))) => {
                self.ready = Some(chunk);
                (false, true)
            }
            Err(_) => (true, false),
        }
    }

    /// A tone whose pitch follows the letters: sound of the right length while no network is loaded.
    fn make_chunk(&mut self) -> Chunk {
        const TOKENS_PER_CHARACTER: usize = 2;
        let samples_per_character =
            TOKENS_PER_CHARACTER * (SAMPLE_RATE / TOKENS_PER_SECOND) as usize;
        let count = (self.job.options.chunk_size / TOKENS_PER_CHARACTER)
            .clamp(1, self.characters.len() - self.position);
        let pitch = 100.0 + (self.job.voice.name().len() % 8) as f32 * 10.0;
        let mut samples = Vec::with_capacity(count * samples_per_character);
        for &character in &self.characters[self.position..self.position + count] {
            let voiced = character.is_alphanumeric();
            let frequency = pitch + (character as u32 % 32) as f32 * 6.0;
            for _ in 0..samples_per_character {
                self.phase = (self.phase + frequency / SAMPLE_RATE as f32).fract();
                samples.push(if voiced {
                    0.2 * (self.phase * std::f32::consts::TAU).sin()
                } else {
                    0.0
                });
            }
        }
        self.position += count;
        self.count(&samples, count * TOKENS_PER_CHARACTER);
        Chunk {
            samples,
            metrics: self.metrics.clone(),
        }
    }

    fn count(&mut self, samples: &[f32], tokens: usize) {
        let elapsed = self.job.started.elapsed().as_secs_f64();
        let metrics = &mut self.metrics;
        metrics.chunk_count += 1;
        metrics.tokens += tokens as u64;
        if metrics.chunk_count == 1 {
            metrics.latency_to_first_chunk = elapsed;
        }
        metrics.total_generation_time = elapsed;
        metrics.total_audio_duration += samples.len() as f64 / f64::from(SAMPLE_RATE);
        metrics.rtf = elapsed / metrics.total_audio_duration.max(f64::MIN_POSITIVE);
    }
}
