//! The worker: the one thread that owns the model and advances every live stream.

mod admit;
mod job;
mod live;
mod reclaimer;

pub(crate) use job::{ChangeTokens, Job};

use crate::admission::Ticket;
use crate::chunking::Pass;
use crate::engine::Shared;
use crate::error::Error;
use crate::manager::StreamingMemoryManager;
use crate::options::{SAMPLE_RATE, SAMPLES_PER_TOKEN};
use crate::pipeline::{Pipeline, StepError, Utterance};
use crate::scheduler::{self, StepsSinceChunk, StreamStatus, Work};
use crate::stream::Chunk;
use crate::voice::VoiceInner;
use crate::watermark::Watermark;
use live::{Due, Live};
use reclaimer::Reclaimer;
use sottovoce_memory::policy::PolicyEvent;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How a stream ended.
enum End {
    Finished,
    Cancelled,
    Failed(Error),
}

/// The model and every live stream.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    pipeline: Pipeline,
    watermark: Option<Watermark>,
    manager: StreamingMemoryManager,
    /// The voice of the last chunk; weak, so that it does not keep an unused voice alive.
    last_voice: Option<Weak<VoiceInner>>,
    live: Vec<Live>,
    turn: u64,
    steps_since_chunk: StepsSinceChunk,
    /// Whether memory of ended streams was kept for queued requests.
    left_for_others: bool,
}

impl Worker {
    pub fn new(
        shared: Arc<Shared>,
        pipeline: Pipeline,
        watermark: Option<Watermark>,
        manager: StreamingMemoryManager,
    ) -> Worker {
        Worker {
            shared,
            pipeline,
            watermark,
            manager,
            last_voice: None,
            live: Vec::new(),
            turn: 0,
            steps_since_chunk: StepsSinceChunk::default(),
            left_for_others: false,
        }
    }

    /// Runs until the engine closes.
    pub fn run(mut self) {
        let shared = self.shared.clone();
        let device = self.pipeline.device().clone();
        device.attend();
        let _closing = CloseOnExit(&shared);
        self.event(PolicyEvent::ComponentLoaded);
        while !shared.closing() {
            if self.notice_loss() {
                break;
            }
            self.remove_cancelled();
            self.admit();
            self.read_texts();
            self.give_back_caches();
            let views: Vec<StreamStatus> = self.live.iter().map(Live::status).collect();
            let started = Instant::now();
            let chunks_at_once = self.pipeline.flow_streams_max();
            match scheduler::choose(&views, self.steps_since_chunk, chunks_at_once) {
                Work::Wait => {
                    shared.sleep();
                    continue;
                }
                // Runs on the pool's threads: a stage is thousands of operations, and each would
                // otherwise wake a thread.
                Work::Step(batch) => self.survive(&batch, |worker| {
                    device.run(&mut || worker.step(&batch));
                }),
                Work::Synthesise(chunks) => self.survive(&chunks, |worker| {
                    device.run(&mut || worker.synthesise(&chunks));
                }),
            }
            shared.metrics().busy_seconds += started.elapsed().as_secs_f64();
        }
        for live in std::mem::take(&mut self.live) {
            let error = device
                .check()
                .map_or_else(Error::Device, |()| Error::Stopped);
            self.end(live, End::Failed(error));
        }
    }

    /// Whether the device is lost with everything on it: then the engine is dead, and every stream
    /// ends with the reason. A caller that is told of the error may load another engine at once, so
    /// the engine is marked dead first.
    fn notice_loss(&self) -> bool {
        let lost = self.pipeline.device().check();
        if let Err(reason) = &lost {
            self.shared.lose(reason);
        }
        lost.is_err()
    }

    /// Runs a stage for the streams of `batch`. If it panics, those streams end with an error, the
    /// workspaces are rebuilt, and the others go on.
    fn survive(&mut self, batch: &[usize], stage: impl FnOnce(&mut Worker)) {
        let streams = batch.iter().filter_map(|&index| self.live.get(index));
        let tickets: Vec<Ticket> = streams.map(|live| live.job.ticket).collect();
        // The state that a panic may leave inconsistent, the streams and the workspaces, is dropped
        // below.
        let outcome = catch_unwind(AssertUnwindSafe(|| stage(&mut *self)));
        let Err(panic) = outcome else { return };
        let error = || Error::Fault {
            reason: reason_of(&*panic),
        };
        for ticket in tickets {
            let index = (self.live.iter()).position(|live| live.job.ticket == ticket);
            match index {
                Some(index) => {
                    let live = self.live.remove(index);
                    self.end(live, End::Failed(error()));
                }
                // The panic came while the stream ended; its place must not be lost.
                None => self.shared.left(ticket, Duration::ZERO),
            }
        }
        self.pipeline.renew_workspaces(self.shared.holdings());
    }

    /// Commits each stream's present bytes to its reservation. A stream that exceeds its
    /// reservation ends, because others rely on the rest.
    fn settle(&mut self) {
        let mut index = 0;
        while index < self.live.len() {
            match self.live[index].settle() {
                Ok(()) => index += 1,
                Err(error) => {
                    let live = self.live.remove(index);
                    self.end(live, End::Failed(Error::OutOfMemory(error)));
                }
            }
        }
    }

    fn remove_cancelled(&mut self) {
        let mut index = 0;
        while index < self.live.len() {
            if self.live[index].job.delivery.cancelled() {
                let live = self.live.remove(index);
                self.end(live, End::Cancelled);
            } else {
                index += 1;
            }
        }
    }

    /// Takes new text of open streams and new tokens of recorded speech, and tells readers whose
    /// text has been spoken so far.
    fn read_texts(&mut self) {
        let mut index = 0;
        while index < self.live.len() {
            let live = &mut self.live[index];
            let read = catch_unwind(AssertUnwindSafe(|| live.read_text(&self.pipeline)));
            let read = read.unwrap_or_else(|panic| {
                Err(Error::Fault {
                    reason: reason_of(&*panic),
                })
            });
            match read {
                Ok(()) => index += 1,
                Err(error) => {
                    let live = self.live.remove(index);
                    self.end(live, End::Failed(error));
                }
            }
        }
    }

    /// Gives back the KV caches of streams whose speech is generated: the flow and the vocoder may
    /// work on it for seconds more. The next stream in the queue takes them over as they are.
    fn give_back_caches(&mut self) {
        if self.shared.has_waiting() {
            return;
        }
        let mut generated = None;
        for (index, live) in self.live.iter_mut().enumerate() {
            if live.gives_back_cache() {
                live.utterance.release_cache();
                generated = Some(index);
            }
        }
        if let Some(index) = generated {
            let done = self.event(PolicyEvent::SpeechGenerated);
            self.live[index].actions.extend(done);
            self.settle();
        }
    }

    /// One token for each stream of `batch`. If memory is short and nothing can be reclaimed, the
    /// youngest stream ends so that the others go on.
    fn step(&mut self, batch: &[usize]) {
        let ready = (self.live.iter()).any(|live| scheduler::is_ready(&live.status()));
        self.steps_since_chunk.all += 1;
        self.steps_since_chunk.while_ready += u32::from(ready);
        let mut batch = batch.to_vec();
        let mut attempt = 0;
        while !batch.is_empty() {
            let live = self
                .live
                .iter_mut()
                .enumerate()
                .filter(|(index, _)| batch.contains(index));
            let mut members: Vec<&mut Utterance> =
                live.map(|(_, live)| &mut live.utterance).collect();
            let stepped = (self.pipeline).step(&mut members, self.shared.holdings());
            let Err(StepError { index, error }) = stepped else {
                break;
            };
            if let Some(action) = self.climb(&error, attempt) {
                attempt += 1;
                for &index in &batch {
                    self.live[index].actions.push(action.clone());
                }
                continue;
            }
            // Streams are in order of arrival. If memory is short, or the error has no single
            // cause, the youngest ends.
            let ends = match index {
                Some(index) if !error.is_memory_short() => batch.remove(index),
                _ => match batch.pop() {
                    Some(youngest) => youngest,
                    None => break,
                },
            };
            let live = self.live.remove(ends);
            self.end(live, End::Failed(error));
            for index in &mut batch {
                *index -= usize::from(*index > ends);
            }
            attempt = 0;
        }
        self.settle();
        let sentence_started = self
            .live
            .iter_mut()
            .map(|live| usize::from(live.utterance.take_sentence_start()))
            .sum::<usize>();
        if sentence_started > 0 {
            self.event(PolicyEvent::ContextOverflowed);
        }
    }

    /// One rung of the ladder, if the error is a shortage of memory; describes the action.
    fn climb(&mut self, error: &Error, attempt: usize) -> Option<String> {
        let Error::OutOfMemory(error) = error else {
            return None;
        };
        let mut reclaimer = Reclaimer::of(&mut self.pipeline, &self.shared, &self.live);
        self.manager
            .climb(error, attempt, &mut reclaimer, &self.shared)
    }

    /// A chunk of each of these streams.
    fn synthesise(&mut self, chunks: &[usize]) {
        self.turn += 1;
        self.steps_since_chunk = StepsSinceChunk::default();
        let started = Instant::now();
        let due: Vec<(Ticket, Option<Due>)> = (chunks.iter())
            .map(|&index| (self.live[index].job.ticket, self.live[index].due()))
            .collect();
        if chunks.len() > 1 {
            self.render_together(&due);
        }
        for (ticket, due) in due {
            // Streams that end make room in the list.
            let index = (self.live.iter()).position(|live| live.job.ticket == ticket);
            if let Some(index) = index {
                self.synthesise_one(index, due, started);
            }
        }
    }

    /// Renders what is due of several streams to mel frames, of all whose flow has the first one's
    /// options at once. If that fails, each is rendered on its own, and finds out why.
    fn render_together(&mut self, due: &[(Ticket, Option<Due>)]) {
        let mut passes: Vec<(&mut Utterance, Pass)> = Vec::with_capacity(due.len());
        for live in &mut self.live {
            let of_live = due.iter().find(|(ticket, _)| *ticket == live.job.ticket);
            let Some(Due { pass, .. }) = of_live.and_then(|(_, due)| *due) else {
                continue;
            };
            let utterance = &mut live.utterance;
            let agrees = (passes.first()).is_none_or(|(first, _)| first.flows_with(utterance));
            if agrees && pass.count > 0 {
                passes.push((utterance, pass));
            }
        }
        let holdings = self.shared.holdings();
        let rendered = self.pipeline.render_together(&mut passes, holdings);
        self.shared.metrics().chunks_together += rendered.unwrap_or(0) as u64;
    }

    /// A chunk of one stream.
    fn synthesise_one(&mut self, index: usize, due: Option<Due>, started: Instant) {
        let live = &mut self.live[index];
        live.last_turn = self.turn;
        let samples_max = live.utterance.chunk_tokens_max() * SAMPLES_PER_TOKEN;
        if let Some(count) = live.utterance.take_silence(samples_max) {
            live.words.silence(count);
            let last = !live.utterance.goes_on();
            let post_process = &mut live.post_process;
            let samples = post_process.silence(self.watermark.as_ref(), count, last);
            return self.deliver(index, samples, last, started);
        }
        self.notice_voice(index);
        let Some(Due { pass, whole, last }) = due else {
            return;
        };
        let shared = self.shared.clone();
        let mut attempt = 0;
        let spoken = loop {
            let utterance = &mut self.live[index].utterance;
            match (self.pipeline).synthesise(utterance, pass, whole, shared.holdings()) {
                Err(error) => match self.climb(&error, attempt) {
                    Some(action) => self.live[index].actions.push(action),
                    None => break Err(error),
                },
                spoken => break spoken,
            }
            attempt += 1;
        };
        let live = &mut self.live[index];
        live.chunk += 1;
        live.words.add(live.utterance.take_words());
        if whole && spoken.is_ok() {
            live.words.end_run(live.utterance.take_run_tokens());
        }
        let post_processed = spoken.and_then(|samples| {
            (live.post_process).sound(self.watermark.as_ref(), samples, whole, last)
        });
        self.deliver(index, post_processed, last, started);
    }

    /// Sends a chunk to its reader.
    fn deliver(
        &mut self,
        index: usize,
        samples: Result<Vec<f32>, Error>,
        last: bool,
        started: Instant,
    ) {
        let live = &mut self.live[index];
        match samples {
            Ok(samples) => {
                if samples.is_empty() && !last {
                    // All samples are held back until the next chunk.
                    return;
                }
                let managed = live.job.options.memory_management;
                let done = if managed {
                    self.event(PolicyEvent::ChunkDone)
                } else {
                    Vec::new()
                };
                let live = &mut self.live[index];
                live.actions.extend(done);
                let first_audio = live.count(&samples, self.shared.holdings());
                let seconds = samples.len() as f64 / f64::from(SAMPLE_RATE);
                let words = live.words.take(live.samples, last);
                live.job.delivery.send(Chunk {
                    samples,
                    words,
                    metrics: live.metrics.clone(),
                });
                let live = &self.live[index];
                let waited = live.job.asked().elapsed();
                let mut metrics = self.shared.metrics();
                metrics.chunks += 1;
                metrics.audio_seconds += seconds;
                metrics.chunk_latency.record(started.elapsed());
                if first_audio {
                    metrics.first_audio.record(waited);
                }
                drop(metrics);
                self.shared.advance(live.job.ticket, &live.metrics);
                if last {
                    let live = self.live.remove(index);
                    self.end(live, End::Finished);
                }
            }
            Err(error) => {
                let live = self.live.remove(index);
                self.end(live, End::Failed(error));
            }
        }
    }

    /// Tells the manager when the speaking voice changes.
    fn notice_voice(&mut self, index: usize) {
        let voice = &self.live[index].job.voice.inner;
        let same = |last: &Weak<VoiceInner>| last.as_ptr() == Arc::as_ptr(voice);
        if self.last_voice.as_ref().is_some_and(same) {
            return;
        }
        let switched = self.last_voice.replace(Arc::downgrade(voice)).is_some();
        if switched {
            let done = self.event(PolicyEvent::VoiceSwitched);
            self.live[index].actions.extend(done);
        }
    }

    fn event(&mut self, event: PolicyEvent) -> Vec<String> {
        let (profile, cache_interval) = self.shared.profile();
        self.manager.configure(profile, cache_interval);
        let mut reclaimer = Reclaimer::of(&mut self.pipeline, &self.shared, &self.live);
        self.manager.event(event, &mut reclaimer, &self.shared)
    }

    /// Releases everything that a stream holds, then tells its reader.
    fn end(&mut self, live: Live, end: End) {
        let Live {
            job,
            promise,
            utterance,
            admitted,
            metrics: told,
            ..
        } = live;
        let run_ons = utterance.run_ons();
        let Job {
            ticket,
            voice,
            delivery,
            tokens,
            ..
        } = job;
        let opening = self.shared.holdings().open();
        drop((utterance, promise, voice, tokens));
        drop(opening);
        self.shared.left(ticket, admitted.elapsed());
        if matches!(&end, End::Failed(error) if error.is_memory_short()) {
            // The released memory is for the remaining streams.
            self.shared.hold_admissions();
        }
        // The next stream in the queue reuses the memory of this one.
        self.left_for_others = self.shared.has_waiting();
        if !self.left_for_others {
            self.event(PolicyEvent::StreamEnded);
        }
        if matches!(end, End::Failed(_)) {
            self.notice_loss();
        }
        let mut metrics = self.shared.metrics();
        metrics.run_ons += run_ons;
        match end {
            End::Finished => {
                metrics.streams_finished += 1;
                let uninterrupted = Duration::from_secs_f64(told.uninterrupted_after);
                metrics.uninterrupted.record(uninterrupted);
                delivery.finish();
            }
            End::Cancelled => {
                metrics.streams_cancelled += 1;
                delivery.finish();
            }
            End::Failed(error) => {
                metrics.streams_failed += 1;
                delivery.fail(error);
            }
        }
    }
}

/// A panic's message.
pub(crate) fn reason_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it gave no reason").to_owned()
}

/// Closes the engine when the worker ends, even by a panic, so that no caller waits for it.
struct CloseOnExit<'a>(&'a Shared);

impl Drop for CloseOnExit<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
