//! Wakes Python from the engine's threads without making them wait for Python's lock: they ring,
//! and a thread of the bell's own calls.

use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// What the thread and those who ring share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Who rang; at most once each.
    rung: Vec<Py<PyAny>>,
    closed: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls whoever rang until the bell is closed.
    fn serve(&self) {
        loop {
            let mut state = self.state();
            while state.rung.is_empty() && !state.closed {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return;
            }
            let rung = std::mem::take(&mut state.rung);
            drop(state);
            let called = Python::try_attach(|py| {
                for call in rung {
                    // A loop that was closed meanwhile has nobody who waits.
                    let _ = call.call0(py);
                }
            });
            if called.is_none() {
                return;
            }
        }
    }
}

/// A bell, silent once it is dropped.
#[derive(Default)]
pub struct Bell {
    shared: Arc<Shared>,
    started: Mutex<bool>,
}

impl Bell {
    /// What rings for `call`, a function without arguments, the first time that it is woken.
    pub fn waker(&self, call: Py<PyAny>) -> std::io::Result<Waker> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if !*started {
            let shared = self.shared.clone();
            std::thread::Builder::new()
                .name("bell".into())
                .spawn(move || shared.serve())?;
            *started = true;
        }
        Ok(Waker::from(Arc::new(Ringer {
            call: Mutex::new(Some(call)),
            rung: AtomicBool::new(false),
            shared: self.shared.clone(),
        })))
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
    }
}

struct Ringer {
    call: Mutex<Option<Py<PyAny>>>,
    rung: AtomicBool,
    shared: Arc<Shared>,
}

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut call = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = call.take() {
            self.shared.state().rung.push(call);
            self.shared.changed.notify_one();
        }
    }
}
