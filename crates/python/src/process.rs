//! What belongs to one process. In a child that was forked off, an engine's threads do not exist
//! and its locks may be held for ever: nothing of it is touched there, not even to drop it.

use crate::errors::Failed;
use pyo3::Python;

/// A value of the process that made it.
pub struct OfProcess<T: Send> {
    value: Option<T>,
    process: u32,
}

impl<T: Send> OfProcess<T> {
    pub fn new(value: T) -> OfProcess<T> {
        OfProcess {
            value: Some(value),
            process: std::process::id(),
        }
    }

    /// The value.
    ///
    /// # Errors
    /// In another process.
    pub fn get(&self) -> Result<&T, Failed> {
        match &self.value {
            Some(value) if self.process == std::process::id() => Ok(value),
            _ => Err(Failed::Forked),
        }
    }
}

impl<T: Send> Drop for OfProcess<T> {
    fn drop(&mut self) {
        let value = self.value.take();
        if self.process != std::process::id() {
            std::mem::forget(value);
            return;
        }
        // The last holder of an engine waits for its worker: others may go on meanwhile.
        let mut value = Some(value);
        let unlocked = Python::try_attach(|py| py.detach(|| drop(value.take())));
        if unlocked.is_none() {
            drop(value);
        }
    }
}
