//! Loading: the plan, the networks, the accounts, and the worker that owns the model.

use super::shared::Requests;
use super::{Engine, Handle, Shared};
use crate::accounts::Accounts;
use crate::admission::{Admission, AdmissionLimits};
use crate::cache_folder::{CacheFolder, CachedWeights};
use crate::device;
use crate::error::Error;
use crate::holdings::Holdings;
use crate::loading::{Choice, choose, default_voice, model_for};
use crate::manager::StreamingMemoryManager;
use crate::metrics::MemoryPlan;
use crate::options::{Capabilities, EngineOptions, OptionTable, Source};
use crate::pipeline::Pipeline;
use crate::system_memory::SystemMemory;
use crate::text_filter::TextFilter;
use crate::worker::Worker;
use sottovoce_chatterbox::weights::WeightSource;
use sottovoce_memory::Memory;
use sottovoce_memory::driver::ADDRESS_SPACE_BYTES;
use sottovoce_memory::heap::release_unused;
use sottovoce_memory::stats::MetricsRecorder;
use sottovoce_tensor::Device;
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Instant;

impl Engine {
    /// As [`Engine::load`], on the CPU with the caller's host memory, such as one whose driver
    /// fails by script.
    ///
    /// # Errors
    /// As [`Engine::load`], and if `memory` is not host memory.
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
            .then(|| Memory::host(host_budget_bytes.unwrap_or(ADDRESS_SPACE_BYTES)));
        let started = Instant::now();
        let Choice {
            mut plan,
            traces,
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
        let load = |weights: &WeightSource| {
            let device = device.clone();
            Pipeline::load(
                weights,
                &memory,
                options.speech,
                precision,
                cache,
                extent,
                &traces,
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
        let limits = AdmissionLimits {
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
            recorder: Mutex::new(MetricsRecorder::default()),
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
            progress: Mutex::default(),
        });
        let monitoring = shared.requests().options.enable_monitoring;
        shared.set_monitoring(monitoring);
        let (profile, cache_interval) = shared.profile();
        let manager = StreamingMemoryManager::new(budget_bytes, profile, cache_interval);
        let worker = Worker::new(shared.clone(), pipeline, watermark, manager);
        // Loading leaves tables and dry runs behind, in heap that speaking does not need.
        drop(traces);
        release_unused();
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
}

/// Loads from the cache folder, where a damaged entry is converted again once, or else from the
/// model's own files.
fn load_cached(
    cached: impl Fn() -> Option<CachedWeights>,
    load: impl Fn(&WeightSource) -> Result<Pipeline, Error>,
    model: &WeightSource,
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
