//! State that callers and the worker share: the requests on their way, and what the engine knows of
//! its model.

use crate::accounts::Accounts;
use crate::admission::{Admission, Promise, Ticket};
use crate::error::Error;
use crate::holdings::Holdings;
use crate::listener::Grant;
use crate::metrics::{EngineMetrics, MemoryPlan};
use crate::options::{Capabilities, EngineOptions, Profile};
use crate::stream::ChunkMetrics;
use crate::text_filter::TextFilter;
use crate::voice::Voice;
use crate::worker::Job;
use sottovoce_chatterbox::voice::NetworkPlan;
use sottovoce_chatterbox::weights::WeightSource;
use sottovoce_memory::OutOfMemory;
use sottovoce_memory::budget::Reservation;
use sottovoce_memory::policy::{Decision, Done, Reclaim};
use sottovoce_memory::stats::MetricsRecorder;
use sottovoce_tensor::DeviceError;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// State shared by callers and the worker.
pub(crate) struct Shared {
    pub(super) holdings: Arc<Holdings>,
    pub(super) recorder: Mutex<MetricsRecorder>,
    /// Origin of its times.
    pub(super) started: Instant,
    pub(super) budget_bytes: Option<u64>,
    /// The host's budget, if the device has memory of its own.
    pub(super) host_budget_bytes: Option<u64>,
    pub(super) plan: MemoryPlan,
    pub(super) device_name: String,
    /// Why the device is not the requested one.
    pub(super) device_note: OnceLock<String>,
    pub(super) default_voice: Option<Voice>,
    pub(super) accounts: Accounts,
    pub(super) model: WeightSource,
    /// Planned when it is first needed.
    pub(super) tokenizer: OnceLock<Arc<NetworkPlan>>,
    /// Most bytes of the networks that prepare voices; found when it is first needed.
    pub(super) preparing_bytes: OnceLock<u64>,
    /// Held by each grant of a listener.
    pub(super) grants: Arc<()>,
    pub(super) capabilities: Capabilities,
    /// Engine options that have no effect with this model or device.
    pub(super) without_effect: Vec<&'static str>,
    pub(super) text_filter: Option<Arc<TextFilter>>,
    pub(super) requests: Mutex<Requests>,
    pub(super) changed: Condvar,
    pub(super) metrics: Mutex<EngineMetrics>,
    /// How far each admitted stream is.
    pub(super) progress: Mutex<BTreeMap<Ticket, StreamProgress>>,
}

/// How far a stream is.
#[derive(Clone, Copy)]
pub(crate) struct StreamProgress {
    pub admitted: Instant,
    pub chunks: u64,
    pub audio_seconds: f64,
    pub rtf: f64,
}

/// Requests on their way to the worker.
pub(super) struct Requests {
    pub(super) admission: Admission,
    pub(super) jobs: HashMap<Ticket, Job>,
    pub(super) next_ticket: Ticket,
    pub(super) options: EngineOptions,
    /// No further stream is accepted; running streams go on.
    pub(super) draining: bool,
    pub(super) closing: bool,
    pub(super) awake: bool,
}

impl Shared {
    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// The model's files.
    pub fn model(&self) -> &WeightSource {
        &self.model
    }

    pub fn metrics(&self) -> MutexGuard<'_, EngineMetrics> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, BTreeMap<Ticket, StreamProgress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream was admitted.
    pub fn begins(&self, ticket: Ticket) {
        let progress = StreamProgress {
            admitted: Instant::now(),
            chunks: 0,
            audio_seconds: 0.0,
            rtf: 0.0,
        };
        self.progress().insert(ticket, progress);
    }

    /// A stream has delivered a chunk.
    pub fn advance(&self, ticket: Ticket, metrics: &ChunkMetrics) {
        if let Some(progress) = self.progress().get_mut(&ticket) {
            progress.chunks = metrics.chunk_count;
            progress.audio_seconds = metrics.total_audio_duration;
            progress.rtf = metrics.rtf;
        }
    }

    pub fn closing(&self) -> bool {
        self.requests().closing
    }

    /// Refuses further requests and ends those in the queue.
    pub fn close(&self) {
        let mut requests = self.requests();
        requests.closing = true;
        requests.awake = true;
        let jobs = std::mem::take(&mut requests.jobs);
        drop(requests);
        self.changed.notify_all();
        // Dropping a job tells its reader, and may unmap its voice.
        drop(jobs);
    }

    /// The device is lost: refuses further requests, and ends those in the queue with the reason.
    pub fn lose(&self, reason: &DeviceError) {
        let mut requests = self.requests();
        requests.closing = true;
        let jobs = std::mem::take(&mut requests.jobs);
        for ticket in jobs.keys() {
            requests.admission.leave(*ticket, Duration::ZERO);
        }
        drop(requests);
        let _open = self.holdings.open();
        for job in jobs.into_values() {
            self.metrics().streams_failed += 1;
            job.delivery.fail(Error::Device(reason.clone()));
        }
    }

    /// Refuses further requests and ends those in the queue; running streams go on.
    pub fn drain(&self) {
        let mut requests = self.requests();
        requests.draining = true;
        let jobs = std::mem::take(&mut requests.jobs);
        for ticket in jobs.keys() {
            requests.admission.leave(*ticket, Duration::ZERO);
        }
        drop(requests);
        // Dropping jobs tells their readers and frees their voices, which needs the driver.
        let _open = self.holdings.open();
        drop(jobs);
    }

    /// The next admitted request and its reservations.
    pub fn next_admitted(&self) -> Option<(Job, Promise)> {
        let mut requests = self.requests();
        let (ticket, promise) = requests.admission.admit()?;
        Some((requests.jobs.remove(&ticket)?, promise))
    }

    /// A grant of a reservation that ends by itself: a listener's, or a recording's.
    pub fn grant(&self, reservation: Reservation) -> Grant {
        Grant {
            reservation,
            _counted: self.grants.clone(),
        }
    }

    /// The request at the head of the queue, if nothing that ends would make room for it: no stream
    /// is under way, and no listener or recording holds memory.
    pub fn next_stuck(&self) -> Option<(Job, OutOfMemory)> {
        let mut requests = self.requests();
        if Arc::strong_count(&self.grants) > 1 {
            return None;
        }
        let (ticket, error) = requests.admission.remove_stuck()?;
        Some((requests.jobs.remove(&ticket)?, error))
    }

    /// Whether any request is queued.
    pub fn has_waiting(&self) -> bool {
        self.requests().admission.waiting() > 0
    }

    /// Memory is short: returns a request to the head of the queue, and holds admission until a
    /// stream has ended.
    pub fn put_back(&self, job: Job, promise: Promise) {
        let (ticket, delivery) = (job.ticket, job.delivery.0.clone());
        let mut requests = self.requests();
        requests.admission.put_back(ticket, promise);
        requests.admission.hold(true);
        requests.jobs.insert(ticket, job);
        drop(requests);
        if delivery.cancelled() {
            self.withdraw(ticket);
        }
    }

    /// Memory is short for running streams: holds admission until one has ended.
    pub fn hold_admissions(&self) {
        self.requests().admission.hold(true);
    }

    /// The memory profile and cadence as last set.
    pub fn profile(&self) -> (Profile, Option<u32>) {
        let requests = self.requests();
        let interval = requests.options.cache_interval;
        (
            requests.options.profile,
            interval.filter(|chunks| *chunks > 0),
        )
    }

    /// Frees a request's place.
    pub fn left(&self, ticket: Ticket, stay: Duration) {
        self.progress().remove(&ticket);
        let mut requests = self.requests();
        requests.admission.leave(ticket, stay);
        requests.admission.hold(false);
    }

    /// Withdraws a request. If it is still queued, its place in the queue and its voice are
    /// released at once; the worker ends a stream that has begun.
    pub fn withdraw(&self, ticket: Ticket) {
        let mut requests = self.requests();
        let job = requests.jobs.remove(&ticket);
        if job.is_some() {
            requests.admission.leave(ticket, Duration::ZERO);
        }
        drop(requests);
        if let Some(job) = job {
            let _open = self.holdings.open();
            drop(job);
            self.metrics().streams_cancelled += 1;
        }
        self.wake();
    }

    pub(super) fn set_monitoring(&self, monitoring: bool) {
        self.recorder().set_monitoring(monitoring);
    }

    pub(super) fn recorder(&self) -> MutexGuard<'_, MetricsRecorder> {
        // Counters stay valid even if a thread panicked while it held the lock.
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records something of the memory at the present time, and publishes its metrics.
    pub fn record(&self, add: impl FnOnce(&mut MetricsRecorder, u64)) {
        let microseconds = self.started.elapsed().as_micros() as u64;
        let mut recorder = self.recorder();
        add(&mut recorder, microseconds);
        let memory = recorder.metrics();
        drop(recorder);
        self.metrics().memory = memory;
    }

    /// Carries out a decision about memory, and records what was done.
    pub fn carry_out(&self, decision: &Decision, reclaim: &mut dyn Reclaim) -> Vec<Done> {
        let done = decision.carry_out(reclaim);
        self.record(|recorder, microseconds| {
            for done in &done {
                recorder.acted(microseconds, *done);
            }
        });
        done
    }

    /// Wakes the worker.
    pub fn wake(&self) {
        self.requests().awake = true;
        self.changed.notify_all();
    }

    /// Sleeps until [`wake`](Self::wake) is called; returns at once if it was called since the last
    /// sleep.
    pub fn sleep(&self) {
        let mut requests = self.requests();
        while !requests.awake {
            requests = self
                .changed
                .wait(requests)
                .unwrap_or_else(PoisonError::into_inner);
        }
        requests.awake = false;
    }

    pub(super) fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
