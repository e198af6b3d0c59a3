//! The lifetime of an engine's threads.

use super::Shared;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Keeps the worker alive while an engine or a stream exists.
pub(crate) struct Handle {
    pub shared: Arc<Shared>,
    pub(super) worker: Mutex<Option<JoinHandle<()>>>,
    /// Listeners of voice changes that may still run.
    pub(super) listeners: Mutex<Vec<JoinHandle<()>>>,
}

impl Handle {
    pub(super) fn listeners(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
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
        // Their streams have ended with the worker, so they end after the tokenizer's current
        // block.
        for listener in std::mem::take(&mut *self.listeners()) {
            let _ = listener.join();
        }
    }
}
