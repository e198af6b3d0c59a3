//! One utterance under way.

use crate::bell::Bell;
use crate::errors::{Failed, other, unlocked};
use crate::process::OfProcess;
use numpy::PyArray1;
use pyo3::prelude::*;
use sottovoce::{Canceller, Chunk, Error, TextWriter};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// A signal such as Ctrl-C is looked for so often.
const SIGNALS_SEEN_EVERY: Duration = Duration::from_millis(50);

/// Samples, figures and words, as Python gets them.
type Spoken = (Py<PyArray1<f32>>, Py<PyAny>, Py<PyAny>);

struct Parts {
    stream: Mutex<Option<sottovoce::Stream>>,
    canceller: Canceller,
    text: TextWriter,
    bell: Arc<Bell>,
}

impl Parts {
    fn stream(&self) -> MutexGuard<'_, Option<sottovoce::Stream>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next chunk, if it comes within [`SIGNALS_SEEN_EVERY`].
    fn wait(&self) -> Poll<Option<Result<Chunk, Error>>> {
        let mut stream = self.stream();
        let Some(stream) = stream.as_mut() else {
            return Poll::Ready(None);
        };
        let until = Instant::now() + SIGNALS_SEEN_EVERY;
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        loop {
            let item = stream.poll_next(&mut Context::from_waker(&waker));
            let left = until.saturating_duration_since(Instant::now());
            if item.is_ready() || left.is_zero() {
                return item;
            }
            std::thread::park_timeout(left);
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An utterance under way.
#[pyclass(frozen, module = "sottovoce._native")]
pub struct Stream {
    parts: OfProcess<Parts>,
    id: u64,
    without_effect: Vec<&'static str>,
}

impl Stream {
    pub fn new(stream: sottovoce::Stream, bell: Arc<Bell>) -> Stream {
        Stream {
            id: stream.id(),
            without_effect: stream.options_without_effect().to_vec(),
            parts: OfProcess::new(Parts {
                canceller: stream.canceller(),
                text: stream.text(),
                stream: Mutex::new(Some(stream)),
                bell,
            }),
        }
    }
}

#[pymethods]
impl Stream {
    #[getter]
    fn id(&self) -> u64 {
        self.id
    }

    /// Names of options that were given and do nothing with this model.
    #[getter]
    fn options_without_effect(&self) -> Vec<&'static str> {
        self.without_effect.clone()
    }

    /// The next chunk; nothing after the last one.
    fn next(&self, py: Python<'_>) -> Result<Option<Spoken>, Failed> {
        let parts = self.parts.get()?;
        loop {
            let item = unlocked(py, || Ok::<_, Failed>(parts.wait()))?;
            if let Poll::Ready(item) = item {
                return spoken(py, item);
            }
            if let Err(signal) = py.check_signals() {
                parts.canceller.cancel();
                return Err(signal.into());
            }
        }
    }

    /// The next chunk if it is there: whether one is, and it. Where none is, `call` is called from
    /// another thread when there may be.
    fn poll(&self, py: Python<'_>, call: Py<PyAny>) -> Result<(bool, Option<Spoken>), Failed> {
        let parts = self.parts.get()?;
        let waker = parts.bell.waker(call).map_err(other)?;
        let item = unlocked(py, || {
            let mut stream = parts.stream();
            Ok::<_, Failed>(match stream.as_mut() {
                Some(stream) => stream.poll_next(&mut Context::from_waker(&waker)),
                None => Poll::Ready(None),
            })
        })?;
        match item {
            Poll::Ready(item) => Ok((true, spoken(py, item)?)),
            Poll::Pending => Ok((false, None)),
        }
    }

    fn push_text(&self, py: Python<'_>, piece: &str) -> Result<(), Failed> {
        let parts = self.parts.get()?;
        unlocked(py, || parts.text.push(piece))
    }

    fn flush(&self, py: Python<'_>) -> Result<(), Failed> {
        let parts = self.parts.get()?;
        unlocked(py, || {
            parts.text.flush();
            Ok::<_, Failed>(())
        })
    }

    fn finish(&self, py: Python<'_>) -> Result<(), Failed> {
        let parts = self.parts.get()?;
        unlocked(py, || {
            parts.text.finish();
            Ok::<_, Failed>(())
        })
    }

    #[getter]
    fn waiting_characters(&self) -> Result<usize, Failed> {
        Ok(self.parts.get()?.text.waiting())
    }

    /// Ends it, also from another thread while one waits for a chunk.
    fn close(&self, py: Python<'_>) -> Result<(), Failed> {
        let parts = self.parts.get()?;
        unlocked(py, || {
            parts.canceller.cancel();
            drop(parts.stream().take());
            Ok::<_, Failed>(())
        })
    }
}

/// A chunk for Python: its samples change hands without a copy.
fn spoken(py: Python<'_>, item: Option<Result<Chunk, Error>>) -> Result<Option<Spoken>, Failed> {
    let Some(chunk) = item.transpose()? else {
        return Ok(None);
    };
    let metrics = pythonize::pythonize(py, &chunk.metrics).map_err(other)?;
    let samples = PyArray1::from_vec(py, chunk.samples);
    let words = pythonize::pythonize(py, &chunk.words).map_err(other)?;
    Ok(Some((samples.unbind(), metrics.unbind(), words.unbind())))
}
