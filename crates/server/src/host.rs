//! The model: loaded at the start or on demand, given back on request or when nobody has spoken for a while.

use crate::admission::{Admission, Place};
use crate::error::ServerError;
use crate::options::{Limits, ServerOptions};
use crate::voices::ReadyVoices;
use sottovoce::{Engine, EngineOptions, Source};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A loaded model and the places it has.
pub(crate) struct Loaded {
    pub(crate) engine: Engine,
    pub(crate) admission: Admission,
    pub(crate) voices: ReadyVoices,
}

/// The model and what it takes to load it again.
pub(crate) struct Host {
    source: Source,
    options: Mutex<EngineOptions>,
    limits: Limits,
    loaded: Mutex<Option<Arc<Loaded>>>,
    /// Held while loading, so that one load serves all who ask meanwhile.
    loading: tokio::sync::Mutex<()>,
    last_used: Mutex<Instant>,
    loads: AtomicU64,
    unloads: AtomicU64,
    stopping: AtomicBool,
}

impl Host {
    pub(crate) fn new(options: &ServerOptions) -> Host {
        Host {
            source: options.source.clone(),
            options: Mutex::new(options.engine.clone()),
            limits: options.limits.clone(),
            loaded: Mutex::new(None),
            loading: tokio::sync::Mutex::new(()),
            last_used: Mutex::new(Instant::now()),
            loads: AtomicU64::new(0),
            unloads: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    /// The model if it is loaded; does not load it.
    pub(crate) fn loaded(&self) -> Option<Arc<Loaded>> {
        self.slot().clone()
    }

    /// The model, loaded now if it is not.
    pub(crate) async fn load(&self) -> Result<Arc<Loaded>, ServerError> {
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
        let source = self.source.clone();
        let options = self.options().clone();
        let engine = tokio::task::spawn_blocking(move || Engine::load(source, options))
            .await
            .map_err(|_| ServerError::Task)??;
        let loaded = Arc::new(Loaded {
            admission: Admission::new(
                engine.streams_max(),
                self.limits.queue,
                self.limits.queue_wait,
            ),
            voices: ReadyVoices::default(),
            engine,
        });
        *self.slot() = Some(loaded.clone());
        // Whoever stopped the server meanwhile found nothing to close.
        if self.is_stopping() {
            loaded.admission.close();
        }
        self.loads.fetch_add(1, Ordering::AcqRel);
        Ok(loaded)
    }

    /// The model with a place for one stream; waits in line for it.
    pub(crate) async fn place(&self) -> Result<(Arc<Loaded>, Place), ServerError> {
        loop {
            let loaded = self.load().await?;
            let place = loaded.admission.place().await?;
            // Who holds a place keeps the model; one that was unloaded before must not live on beside the next.
            if (self.loaded()).is_some_and(|current| Arc::ptr_eq(&current, &loaded)) {
                self.touch();
                return Ok((loaded, place));
            }
        }
    }

    /// Gives the model's memory back. Refused while streams are under way, unless forced: then they end.
    pub(crate) async fn unload(&self, force: bool) -> Result<bool, ServerError> {
        let _not_while_loading = self.loading.lock().await;
        let loaded = {
            let mut slot = self.slot();
            let Some(loaded) = slot.as_ref() else {
                return Ok(false);
            };
            let live = loaded.admission.live() + loaded.admission.waiting();
            if live > 0 && !force {
                return Err(ServerError::InUse { live });
            }
            slot.take()
        };
        self.unloads.fetch_add(1, Ordering::AcqRel);
        // The last owner joins the engine's worker, which may take a chunk's time.
        tokio::task::spawn_blocking(move || {
            if let Some(loaded) = loaded {
                if force {
                    loaded.admission.close();
                    loaded.engine.stop();
                }
                drop(loaded);
            }
        })
        .await
        .map_err(|_| ServerError::Task)?;
        Ok(true)
    }

    /// Whether the model is loaded and nobody has used it for `idle`.
    pub(crate) fn rests(&self, idle: Duration) -> bool {
        let unused = self
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed();
        unused >= idle
            && self
                .loaded()
                .is_some_and(|loaded| loaded.admission.live() == 0)
    }

    /// Changes options for this model and for later loads.
    pub(crate) fn change_options(&self, change: impl FnOnce(&mut EngineOptions)) -> EngineOptions {
        let mut options = self.options();
        change(&mut options);
        options.clone()
    }

    /// Refuses new work from now on.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(loaded) = self.loaded() {
            loaded.admission.close();
        }
    }

    /// Whether work is refused because the server stops.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Ends the streams that are still under way.
    pub(crate) fn end_streams(&self) {
        if let Some(loaded) = self.loaded() {
            loaded.engine.stop();
        }
    }

    /// Times the model was loaded and unloaded.
    pub(crate) fn load_counts(&self) -> (u64, u64) {
        (
            self.loads.load(Ordering::Acquire),
            self.unloads.load(Ordering::Acquire),
        )
    }

    /// Notes that somebody used the model.
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
