//! What goes wrong here, as exceptions of the module `sottovoce.errors`.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use sottovoce::Error;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why something was not done.
#[derive(Debug)]
pub enum Failed {
    /// The engine's own refusal or failure.
    Engine(Error),
    /// An argument that cannot be used: its name, its value, what would be right.
    Argument {
        argument: String,
        value: String,
        reason: String,
    },
    /// An argument of a type that cannot be used.
    Type {
        argument: String,
        given: String,
        wanted: String,
    },
    /// A model that cannot be had.
    Model { name: String, reason: String },
    /// A memory tool refused or failed.
    Tool(String),
    /// It was closed.
    Closed(&'static str),
    /// It belongs to the process from which this one was forked.
    Forked,
    /// A fault of this program.
    Panic(String),
    /// An exception that Python code raised.
    Raised(PyErr),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Engine(error)
    }
}

impl From<PyErr> for Failed {
    fn from(error: PyErr) -> Failed {
        Failed::Raised(error)
    }
}

/// Does `work` while other threads of Python run. A panic in it becomes an error.
pub fn unlocked<T: Send, E>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, Failed>
where
    E: Into<Failed> + Send,
{
    py.detach(|| match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(panic) => Err(Failed::Panic(panic_text(&*panic))),
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it did not say what".to_owned())
}

impl From<Failed> for PyErr {
    fn from(failed: Failed) -> PyErr {
        if let Failed::Raised(error) = failed {
            return error;
        }
        Python::attach(|py| {
            let figures = PyDict::new(py);
            match exception(py, &failed, &figures) {
                Ok(error) => error,
                Err(error) => error,
            }
        })
    }
}

fn exception(py: Python<'_>, failed: &Failed, figures: &Bound<'_, PyDict>) -> PyResult<PyErr> {
    let (class, message) = match failed {
        Failed::Engine(error) => (of_engine(error, figures)?, error.to_string()),
        Failed::Argument {
            argument,
            value,
            reason,
        } => {
            figures.set_item("argument", argument)?;
            let message = format!("argument {argument}: {value} cannot be used: {reason}");
            ("ArgumentError", message)
        }
        Failed::Type {
            argument,
            given,
            wanted,
        } => {
            figures.set_item("argument", argument)?;
            let message = format!("argument {argument}: {wanted} is wanted, not {given}");
            ("ArgumentTypeError", message)
        }
        Failed::Model { name, reason } => {
            figures.set_item("argument", "model")?;
            ("ModelError", format!("model {name}: {reason}"))
        }
        Failed::Tool(reason) => ("ToolError", reason.clone()),
        Failed::Closed(what) => ("ClosedError", format!("the {what} was closed")),
        Failed::Forked => (
            "ForkedError",
            "an engine speaks only in the process that loaded it: load one after the fork, \
             or start processes with the spawn method"
                .to_owned(),
        ),
        Failed::Panic(reason) => (
            "FaultError",
            format!("a fault of this program, please report it: {reason}"),
        ),
        Failed::Raised(error) => return Ok(error.clone_ref(py)),
    };
    let class = py.import("sottovoce.errors")?.getattr(class)?;
    Ok(PyErr::from_value(class.call((message,), Some(figures))?))
}

/// The exception's class, and its attributes.
fn of_engine(error: &Error, figures: &Bound<'_, PyDict>) -> PyResult<&'static str> {
    Ok(match error {
        Error::Option { option, .. } => {
            figures.set_item("argument", option)?;
            "ArgumentError"
        }
        Error::UnknownOption { name } => {
            figures.set_item("argument", name)?;
            "ArgumentError"
        }
        Error::Text { .. } => {
            figures.set_item("argument", "text")?;
            "TextError"
        }
        Error::Voice { name, .. } => {
            figures.set_item("argument", "voice")?;
            figures.set_item("name", name)?;
            "VoiceError"
        }
        Error::Recording { path, .. } => {
            figures.set_item("argument", "source")?;
            figures.set_item("name", path.as_os_str())?;
            "RecordingError"
        }
        Error::Model { name, .. } => {
            figures.set_item("argument", "model")?;
            figures.set_item("name", name)?;
            "ModelError"
        }
        Error::File { path, source } => {
            figures.set_item("errno", source.raw_os_error())?;
            figures.set_item("filename", path.as_os_str())?;
            "FileError"
        }
        Error::Busy {
            waiting,
            waiting_max,
            retry_after,
        } => {
            figures.set_item("waiting", waiting)?;
            figures.set_item("waiting_max", waiting_max)?;
            figures.set_item("retry_after", retry_after.as_secs_f64())?;
            "BusyError"
        }
        Error::Budget {
            budget_bytes,
            needed_bytes,
            hint,
            ..
        } => {
            figures.set_item("budget_bytes", budget_bytes)?;
            figures.set_item("needed_bytes", needed_bytes)?;
            figures.set_item("hint", hint)?;
            "BudgetError"
        }
        Error::NoRoom {
            needed_bytes,
            left_bytes,
            ..
        } => {
            figures.set_item("requested_bytes", needed_bytes)?;
            figures.set_item("available_bytes", left_bytes)?;
            "OutOfMemoryError"
        }
        Error::OutOfMemory(error) => {
            figures.set_item("requested_bytes", error.requested)?;
            figures.set_item("available_bytes", error.available)?;
            "OutOfMemoryError"
        }
        Error::Cuda(_) | Error::Device(_) => "DeviceError",
        Error::Stopped => "StoppedError",
        Error::Fault { .. } => "FaultError",
        _ => "SynthesisError",
    })
}

/// An exception for what no class of ours is meant for.
pub fn other(error: impl std::fmt::Display) -> Failed {
    Failed::Raised(PyRuntimeError::new_err(error.to_string()))
}
