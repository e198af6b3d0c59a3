//! The engine's public interface.

mod change;
mod decoding;
mod devices;
mod texts;
mod voices;

use crate::accounts::Accounts;
use crate::admission::{Admission, Limits, Promise, Refusal, Ticket, WorstCase};
use crate::cache_folder::{CacheFolder, CachedWeights};
use crate::device::{self, NO_BUDGET_BYTES};
use crate::error::Error;
use crate::holdings::Holdings;
use crate::listener::Grant;
use crate::loading::{Choice, choose, default_voice, model_for};
use crate::manager::StreamingMemoryManager;
use crate::metrics::{EngineMetrics, MemoryPlan};
use crate::options::{
    Capabilities, DeliveryMode, EngineOptions, OptionTable, Profile, Source, StreamOptions,
    WhenFull,
};
use crate::pipeline::Pipeline;
use crate::report::MemoryReport;
use crate::stream::{Delivery, Sender, Stream};
use crate::system_memory::SystemMemory;
use crate::text_filter::TextFilter;
use crate::text_input::TextInput;
use crate::voice::Voice;
use crate::worker::{ChangeTokens, Job, Worker};
use sottovoce_chatterbox::s3gen::Flow;
use sottovoce_chatterbox::voice::NetworkPlan;
use sottovoce_chatterbox::weights::Source as Weights;
use sottovoce_memory::budget::Reservation;
use sottovoce_memory::policy::{Action, Done, Reason};
use sottovoce_memory::stats::MetricsRecorder;
use sottovoce_memory::{Memory, OutOfMemory};
use sottovoce_tensor::{Device, DeviceError};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A loaded model. Clones share it. When the last clone and the last stream are dropped, all its
/// memory is returned.
#[derive(Clone)]
pub struct Engine {
    handle: Arc<Handle>,
}

/// State shared by callers and the worker.
pub(crate) struct Shared {
    holdings: Arc<Holdings>,
    recorder: Arc<Mutex<MetricsRecorder>>,
    /// Origin of its times.
    started: Instant,
    budget_bytes: Option<u64>,
    /// The host's budget, if the device has memory of its own.
    host_budget_bytes: Option<u64>,
    plan: MemoryPlan,
    device_name: String,
    /// Why the device is not the requested one.
    device_note: OnceLock<String>,
    default_voice: Option<Voice>,
    accounts: Accounts,
    model: Weights,
    /// Planned when it is first needed.
    tokenizer: OnceLock<Arc<NetworkPlan>>,
    /// Most bytes of the networks that prepare voices; found when it is first needed.
    preparing_bytes: OnceLock<u64>,
    /// Held by each grant of a listener.
    grants: Arc<()>,
    capabilities: Capabilities,
    /// Engine options that have no effect with this model or device.
    without_effect: Vec<&'static str>,
    text_filter: Option<Arc<TextFilter>>,
    requests: Mutex<Requests>,
    changed: Condvar,
    metrics: Mutex<EngineMetrics>,
}

/// Requests on their way to the worker.
struct Requests {
    admission: Admission,
    jobs: HashMap<Ticket, Job>,
    next_ticket: Ticket,
    options: EngineOptions,
    /// No further stream is accepted; running streams go on.
    draining: bool,
    closing: bool,
    awake: bool,
}

impl Shared {
    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// The model's files.
    pub fn model(&self) -> &Weights {
        &self.model
    }

    pub fn metrics(&self) -> MutexGuard<'_, EngineMetrics> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn closing(&self) -> bool {
        self.requests().closing
    }

    /// Refuses further requests and ends those in the queue.
    pub fn close(&self) {
        let mut requests = self.requests();
        requests.closing = true;
        requests.awake = true;
        // Dropping a job tells its reader.
        requests.jobs.clear();
        self.changed.notify_all();
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
    pub fn somebody_waits(&self) -> bool {
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

    fn set_monitoring(&self, monitoring: bool) {
        self.recorder().set_monitoring(monitoring);
    }

    fn recorder(&self) -> MutexGuard<'_, MetricsRecorder> {
        // Counters stay valid even if a thread panicked while it held the lock.
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Loads from the cache folder, where a damaged entry is converted again once, or else from the
/// model's own files.
fn load_cached(
    cached: impl Fn() -> Option<CachedWeights>,
    load: impl Fn(&Weights) -> Result<Pipeline, Error>,
    model: &Weights,
) -> Result<Pipeline, Error> {
    for _ in 0..2 {
        let Some(entry) = cached() else { break };
        match load(&entry.weights) {
            Err(Error::Model { .. }) => entry.discard(),
            loaded => return loaded,
        }
    }
    load(model)
}

/// Keeps the worker alive while an engine or a stream exists.
pub(crate) struct Handle {
    pub shared: Arc<Shared>,
    worker: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Listeners of voice changes that may still run.
    listeners: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl Handle {
    fn listeners(&self) -> MutexGuard<'_, Vec<std::thread::JoinHandle<()>>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
        let worker = self
            .worker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(worker) = worker {
            // A panicked worker has nothing left to release.
            let _ = worker.join();
        }
        // Their streams have ended with the worker, so they end within a block of the tokenizer.
        for listener in std::mem::take(&mut *self.listeners()) {
            let _ = listener.join();
        }
    }
}

impl Engine {
    /// As [`Engine::load`], on the CPU with the caller's host memory, such as one whose driver
    /// fails by script.
    pub fn load_in(
        memory: Memory,
        source: Source,
        options: EngineOptions,
    ) -> Result<Engine, Error> {
        options.check()?;
        let device = device::host(options.threads.unwrap_or(0));
        Engine::load_on(device, memory, source, options)
    }

    /// As [`Engine::load_in`], on the caller's device, which must be able to compute in `memory`.
    /// If that is not host memory, voices lie in host memory.
    ///
    /// # Errors
    /// As [`Engine::load`], and if `memory` is not the device's.
    pub fn load_on(
        device: Arc<dyn Device>,
        memory: Memory,
        source: Source,
        options: EngineOptions,
    ) -> Result<Engine, Error> {
        options.check()?;
        if device.host_accessible() != memory.host_accessible() {
            let name = memory.driver_name();
            let reason = format!("it cannot compute in memory of the driver {name:?}");
            return Err(Error::option("device", device.name(), reason));
        }
        let model = model_for(&source, &options)?;
        let capabilities = Capabilities::of(model.config(), device.host_accessible());
        let without_effect = options.without_effect(&capabilities);
        let budget_bytes = options.memory;
        let host_budget_bytes = (options.host_memory)
            .or_else(|| SystemMemory::now().budget_max_bytes())
            .filter(|_| !device.host_accessible());
        let options = EngineOptions {
            host_memory: host_budget_bytes,
            ..options
        };
        let host = (!device.host_accessible())
            .then(|| Memory::host(host_budget_bytes.unwrap_or(NO_BUDGET_BYTES)));
        let started = Instant::now();
        let Choice {
            mut plan,
            recordings,
            precision,
            extent,
            watermark,
            tokenizer,
        } = choose(&model, &options, &*device)?;
        let cache = options.key_value_precision;
        let (marking, marking_memory) = match &host {
            Some(host) => (device::host(options.threads.unwrap_or(0)), host),
            None => (device.clone(), &memory),
        };
        let watermark = watermark
            .map(|plan| plan.load(marking_memory, marking))
            .transpose()?;
        let device_name = device.name().to_owned();
        let load = |weights: &Weights| {
            let device = device.clone();
            Pipeline::load(
                weights,
                &memory,
                options.speech,
                precision,
                cache,
                extent,
                &recordings,
                device,
            )
        };
        // An entry holds all networks of an engine, T3 included.
        let cache_folder =
            CacheFolder::of_option(options.cache_dir.as_deref()).filter(|_| options.speech);
        let weights_bytes = plan.weights_bytes;
        let cached = || {
            let folder = cache_folder.as_ref()?;
            folder.weights(&model, precision, weights_bytes)
        };
        let mut pipeline = load_cached(cached, load, &model)?;
        pipeline.keep_prefixes(cache_folder.as_ref().and_then(|folder| {
            let config = model.config();
            let positions = config
                .t3
                .prefix_positions(config.t3_prompt_token_count_max());
            folder.prefixes(&model, precision, cache, positions, &*device)
        }));
        // Includes memory that the driver took for itself while the networks were loaded.
        let own_bytes = device.own_bytes();
        if own_bytes > plan.device_bytes {
            plan.grow_device(own_bytes, budget_bytes)?;
        }
        let holdings = Arc::new(Holdings::new(memory, host, pipeline.pages().clone()));
        let recorder = Arc::new(Mutex::new(MetricsRecorder::default()));
        let default_voice = {
            let _open = holdings.open();
            default_voice(&model)?
                .map(|parts| parts.keep(holdings.host(), None, Arc::downgrade(&holdings)))
                .transpose()?
        };
        let text_filter = (options.text_filter.as_deref())
            .map(TextFilter::start)
            .transpose()?
            .map(Arc::new);
        let accounts = Accounts::open(&plan, budget_bytes, host_budget_bytes)?;
        let limits = Limits {
            streams_max: plan.streams_fit,
            waiting_max: options.waiting_max,
        };
        let requests = Requests {
            admission: Admission::new(limits, accounts.budget().clone(), accounts.host().cloned()),
            jobs: HashMap::new(),
            next_ticket: 1,
            options,
            draining: false,
            closing: false,
            awake: false,
        };
        let shared = Arc::new(Shared {
            holdings,
            recorder,
            started,
            budget_bytes,
            host_budget_bytes,
            plan,
            device_name,
            device_note: OnceLock::new(),
            default_voice,
            accounts,
            model,
            tokenizer: tokenizer
                .map(Arc::new)
                .map_or_else(OnceLock::new, OnceLock::from),
            preparing_bytes: OnceLock::new(),
            grants: Arc::default(),
            capabilities,
            without_effect,
            text_filter,
            requests: Mutex::new(requests),
            changed: Condvar::new(),
            metrics: Mutex::default(),
        });
        shared.set_monitoring(shared.requests().options.enable_monitoring);
        let (profile, cache_interval) = shared.profile();
        let manager = StreamingMemoryManager::new(
            shared.holdings.clone(),
            shared.recorder.clone(),
            started,
            budget_bytes,
            profile,
            cache_interval,
        );
        let worker = Worker::new(shared.clone(), pipeline, watermark, manager);
        let worker = std::thread::Builder::new()
            .name("sottovoce-worker".into())
            .spawn(move || worker.run())
            .map_err(|error| Error::Synthesis {
                reason: format!("no thread for the worker: {error}"),
            })?;
        Ok(Engine {
            handle: Arc::new(Handle {
                shared,
                worker: Mutex::new(Some(worker)),
                listeners: Mutex::default(),
            }),
        })
    }

    /// Plans a model's memory without loading it: its parts, and how many streams fit the budget.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn plan_for(source: &Source, options: &EngineOptions) -> Result<MemoryPlan, Error> {
        options.check()?;
        // Scratch is per thread, so the plan uses the same number of threads.
        let threads = options.threads.unwrap_or(0);
        let opened = device::open(options.device, threads, options.memory)?;
        let model = model_for(source, options)?;
        Ok(choose(&model, options, &*opened.device)?.plan)
    }

    /// Queues a stream of a text, or of the `tokens` of recorded speech.
    fn start(
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
        let config = shared.model.config();
        for (option, value, most) in [
            (
                "chunk_size",
                options.chunk_size.unwrap_or(0),
                requests.options.chunk_tokens(config),
            ),
            (
                "context_window",
                options.context_window,
                requests.options.context_tokens_max,
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
        let ticket = requests.next_ticket;
        let waits = options.when_full == WhenFull::Wait;
        let chunk_tokens = options.chunk_tokens(config);
        let chunk_tokens = chunk_tokens.min(requests.options.chunk_tokens(config));
        // The last tokens of a sentence are part of the preceding chunk.
        let chunk_tokens = match options.delivery.unwrap_or_default() {
            DeliveryMode::Stream => chunk_tokens + Flow::look_ahead_of(&config.flow),
            DeliveryMode::Whole => shared.plan.whole_tokens,
        };
        let delivery_bytes = options.delivery_bytes(chunk_tokens);
        let worst_case = match (&tokens, shared.accounts.host()) {
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
        };
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
        let without_effect = match &tokens {
            None => options.without_effect(&shared.capabilities),
            Some(_) => change::without_effect(&options, &shared.capabilities),
        };
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

    /// Capabilities of this model on its device, which decide the options that have an effect
    /// ([`OptionTable::without_effect`]).
    pub fn capabilities(&self) -> &Capabilities {
        &self.handle.shared.capabilities
    }

    /// The default options of a stream, with the model's own values filled in.
    pub fn stream_defaults(&self) -> StreamOptions {
        let config = self.handle.shared.model.config();
        let chunk_tokens_max = self.handle.shared.requests().options.chunk_tokens(config);
        StreamOptions::of_model(config, chunk_tokens_max)
    }

    /// Options given at load that have no effect with this model or device.
    pub fn options_without_effect(&self) -> &[&'static str] {
        &self.handle.shared.without_effect
    }

    /// Most streams under way at once.
    pub fn streams_max(&self) -> usize {
        self.handle.shared.plan.streams_fit
    }

    /// The memory plan made at load.
    pub fn plan(&self) -> &MemoryPlan {
        &self.handle.shared.plan
    }

    /// Streams under way.
    pub fn streams_live(&self) -> usize {
        self.handle.shared.requests().admission.live()
    }

    /// Streams in the queue.
    pub fn streams_waiting(&self) -> usize {
        self.handle.shared.requests().admission.waiting()
    }

    /// Estimated time until a new request would find a free place, from the duration of earlier
    /// streams.
    pub fn retry_after(&self) -> Duration {
        self.handle.shared.requests().admission.retry_after()
    }

    /// Refuses further streams and ends those in the queue; running streams go on.
    pub fn drain(&self) {
        self.handle.shared.drain();
    }

    /// Refuses further streams if none is running or queued. Returns the number of running and
    /// queued streams.
    pub fn drain_if_idle(&self) -> usize {
        let mut requests = self.handle.shared.requests();
        let streams = requests.admission.live() + requests.admission.waiting();
        requests.draining |= streams == 0;
        streams
    }

    /// Whether the engine accepts work: not after [`stop`](Self::stop), nor after a fault from
    /// which its worker could not recover. Its memory is returned when it is dropped; load another
    /// engine instead.
    pub fn is_alive(&self) -> bool {
        !self.handle.shared.closing()
    }

    /// Name of the device.
    pub fn device_name(&self) -> &str {
        &self.handle.shared.device_name
    }

    /// Why the CPU computes although [`DeviceChoice::Auto`](crate::DeviceChoice::Auto) would have
    /// preferred a CUDA device.
    pub fn device_note(&self) -> Option<&str> {
        self.handle.shared.device_note.get().map(String::as_str)
    }

    /// Ends every stream, including those of other clones, and refuses new ones.
    pub fn stop(&self) {
        self.handle.shared.close();
    }

    /// The memory ledger at this moment.
    pub fn memory_report(&self) -> MemoryReport {
        let shared = &self.handle.shared;
        let (statistics, now) = shared.holdings.look();
        let mut report = MemoryReport::of(&statistics, now, shared.accounts.budget());
        report.budget_bytes = shared.budget_bytes;
        if let (Some(statistics), Some(budget)) =
            (shared.holdings.look_at_host(), shared.accounts.host())
        {
            let pinned_bytes = shared.plan.host.map_or(0, |host| host.staging_bytes);
            report.add_host(&statistics, pinned_bytes, shared.host_budget_bytes, budget);
        }
        report.out_of_memory_count = shared.metrics().out_of_memory;
        report.add_history(&shared.recorder());
        report
    }

    /// Counters and latencies.
    pub fn metrics(&self) -> EngineMetrics {
        let mut metrics = self.handle.shared.metrics().clone();
        let requests = self.handle.shared.requests();
        metrics.streams_live = requests.admission.live();
        metrics.streams_waiting = requests.admission.waiting();
        metrics
    }

    /// Returns cached memory to the system; returns the number of bytes.
    pub fn trim(&self) -> u64 {
        let shared = &self.handle.shared;
        let freed_bytes = shared.holdings.trim();
        let asked = Done {
            action: Action::TrimPool,
            reason: Reason::Forced,
            freed_bytes,
        };
        let microseconds = shared.started.elapsed().as_micros() as u64;
        shared.recorder().acted(microseconds, asked);
        freed_bytes
    }

    /// Changes the memory profile at run time.
    pub fn set_profile(&self, profile: Profile) {
        self.handle.shared.requests().options.profile = profile;
    }

    /// Changes profile, monitoring and cadence at run time.
    pub fn configure_memory_management(
        &self,
        profile: Profile,
        enable_monitoring: bool,
        cache_interval: Option<u32>,
    ) {
        let mut requests = self.handle.shared.requests();
        requests.options.profile = profile;
        requests.options.enable_monitoring = enable_monitoring;
        requests.options.cache_interval = cache_interval;
        drop(requests);
        self.handle.shared.set_monitoring(enable_monitoring);
    }

    /// The options given at load, with later changes.
    pub fn options(&self) -> EngineOptions {
        self.handle.shared.requests().options.clone()
    }
}
