//! The model's life cycle: loaded at the start or on demand, unloaded on request or when idle.

use crate::error::ServerError;
use crate::library::ChosenModel;
use crate::metrics::ServerMetrics;
use crate::options::{EngineLoader, Limits, ServerOptions};
use crate::voices::ReadyVoices;
use sottovoce::{Engine, EngineOptions};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A loaded model.
pub(crate) struct Loaded {
    pub(crate) engine: Engine,
    /// Number of the load.
    pub(crate) number: u64,
    pub(crate) voices: ReadyVoices,
    /// Keeps the engine's figures when it goes.
    pub(crate) metrics: Arc<ServerMetrics>,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.metrics.keep(self.number, &self.engine);
    }
}

/// The model, and everything needed to load it again.
pub(crate) struct Host {
    metrics: Arc<ServerMetrics>,
    model: Mutex<ChosenModel>,
    loader: EngineLoader,
    options: Mutex<EngineOptions>,
    limits: Limits,
    loaded: Mutex<Option<Arc<Loaded>>>,
    /// Held while loading, so that concurrent requests share one load.
    loading: tokio::sync::Mutex<()>,
    last_used: Mutex<Instant>,
    /// Time since which the model is dead.
    broken: Mutex<Option<Instant>>,
    loads: AtomicU64,
    unloads: AtomicU64,
    /// Whether the model is loaded for the first time, while the server already listens.
    starting: AtomicBool,
    stopping: AtomicBool,
}

impl Host {
    pub(crate) fn new(options: &ServerOptions, metrics: Arc<ServerMetrics>) -> Host {
        Host {
            metrics,
            model: Mutex::new(ChosenModel {
                name: options.model_name.clone(),
                source: options.source.clone(),
            }),
            loader: options.loader.clone(),
            options: Mutex::new(options.engine.clone()),
            limits: options.limits.clone(),
            loaded: Mutex::new(None),
            loading: tokio::sync::Mutex::new(()),
            last_used: Mutex::new(Instant::now()),
            broken: Mutex::new(None),
            loads: AtomicU64::new(0),
            unloads: AtomicU64::new(0),
            starting: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    /// The model if it is loaded and alive; does not load it.
    pub(crate) fn loaded(&self) -> Option<Arc<Loaded>> {
        self.slot()
            .clone()
            .filter(|loaded| loaded.engine.is_alive())
    }

    /// The model; loads it if it is not loaded or has died. While the server starts this fails.
    pub(crate) async fn load(&self) -> Result<Arc<Loaded>, ServerError> {
        match self.is_starting() {
            true => Err(ServerError::Loading),
            false => self.load_now().await,
        }
    }

    /// Announces that the model will be loaded by [`Host::start`].
    pub(crate) fn starts(&self) {
        self.starting.store(true, Ordering::Release);
    }

    /// Loads the model for the start of the server.
    pub(crate) async fn start(&self) -> Result<(), ServerError> {
        let loaded = self.load_now().await;
        self.starting.store(false, Ordering::Release);
        loaded.map(drop)
    }

    /// Whether the model is loaded for the start of the server.
    pub(crate) fn is_starting(&self) -> bool {
        self.starting.load(Ordering::Acquire)
    }

    async fn load_now(&self) -> Result<Arc<Loaded>, ServerError> {
        self.touch();
        if let Some(loaded) = self.loaded() {
            return Ok(loaded);
        }
        let _one_at_a_time = self.loading.lock().await;
        if let Some(loaded) = self.loaded() {
            return Ok(loaded);
        }
        if self.is_stopping() {
            return Err(ServerError::Stopping);
        }
        let (source, loader) = (self.model().source, self.loader.clone());
        let options = EngineOptions {
            waiting_max: self.limits.queue,
            ..self.options().clone()
        };
        // A dead engine is dropped first: there is no room for two.
        let dead = self.slot().take();
        if dead.is_some() {
            self.broken().get_or_insert_with(Instant::now);
        }
        let engine = tokio::task::spawn_blocking(move || {
            drop(dead);
            loader.load(source, options)
        })
        .await
        .map_err(|_| ServerError::Task)??;
        for option in engine.options_without_effect() {
            tracing::warn!(
                option,
                "an option has no effect with this model on this device"
            );
        }
        let loaded = Arc::new(Loaded {
            number: self.loads.fetch_add(1, Ordering::AcqRel) + 1,
            voices: ReadyVoices::default(),
            engine,
            metrics: self.metrics.clone(),
        });
        *self.slot() = Some(loaded.clone());
        *self.broken() = None;
        // A stop request that came in the meantime found no engine to drain.
        if self.is_stopping() {
            loaded.engine.drain();
        }
        Ok(loaded)
    }

    /// Loads the model again if its engine died.
    pub(crate) async fn revive(&self) {
        let died = |loaded: &Arc<Loaded>| !loaded.engine.is_alive();
        if self.is_stopping() {
            return;
        }
        if self.slot().as_ref().is_some_and(died) {
            tracing::error!("the engine died; the model is loaded again");
            self.broken().get_or_insert_with(Instant::now);
        }
        if self.broken_for().is_some()
            && let Err(error) = self.load().await
        {
            tracing::error!(%error, "the model could not be loaded again");
        }
    }

    /// How long the model has been dead without a replacement.
    pub(crate) fn broken_for(&self) -> Option<Duration> {
        self.broken().map(|since| since.elapsed())
    }

    /// Whether the model is dead without a replacement.
    pub(crate) fn is_broken(&self) -> bool {
        let died = |loaded: &Arc<Loaded>| !loaded.engine.is_alive();
        self.broken().is_some() || self.slot().as_ref().is_some_and(died)
    }

    fn broken(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unloads the model. With running streams this fails, unless forced: then they end.
    pub(crate) async fn unload(&self, force: bool) -> Result<bool, ServerError> {
        let _not_while_loading = self.loading.lock().await;
        let loaded = {
            let mut slot = self.slot();
            let Some(loaded) = slot.as_ref() else {
                return Ok(false);
            };
            // Prevents new streams on a model that is being unloaded.
            let live = loaded.engine.drain_if_idle();
            if live > 0 && !force {
                return Err(ServerError::InUse { live });
            }
            slot.take()
        };
        self.unloads.fetch_add(1, Ordering::AcqRel);
        // Dropping the last reference joins the engine's worker, which may take as long as one
        // chunk.
        tokio::task::spawn_blocking(move || {
            if let Some(loaded) = loaded {
                if force {
                    loaded.engine.stop();
                }
                drop(loaded);
            }
        })
        .await
        .map_err(|_| ServerError::Task)?;
        Ok(true)
    }

    /// Whether the model is loaded and was idle for `idle`.
    pub(crate) fn rests(&self, idle: Duration) -> bool {
        let unused = self
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed();
        let speaks = |loaded: Arc<Loaded>| loaded.engine.streams_live() > 0;
        unused >= idle && self.loaded().is_some_and(|loaded| !speaks(loaded))
    }

    /// The chosen model, loaded or not.
    pub(crate) fn model(&self) -> ChosenModel {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.clone()
    }

    /// Chooses the model of later loads; returns the previous choice.
    pub(crate) fn choose(&self, model: ChosenModel) -> ChosenModel {
        let mut chosen = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut chosen, model)
    }

    /// Changes options of this model and of later loads.
    pub(crate) fn change_options(&self, change: impl FnOnce(&mut EngineOptions)) -> EngineOptions {
        let mut options = self.options();
        change(&mut options);
        options.clone()
    }

    /// Refuses new work.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(loaded) = self.loaded() {
            loaded.engine.drain();
        }
    }

    /// Whether the server is stopping.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Ends the running streams.
    pub(crate) fn end_streams(&self) {
        if let Some(loaded) = self.loaded() {
            loaded.engine.stop();
        }
    }

    /// Numbers of loads and unloads.
    pub(crate) fn load_counts(&self) -> (u64, u64) {
        (
            self.loads.load(Ordering::Acquire),
            self.unloads.load(Ordering::Acquire),
        )
    }

    /// Records a use of the model.
    pub(crate) fn touch(&self) {
        *self
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<Loaded>>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn options(&self) -> std::sync::MutexGuard<'_, EngineOptions> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
