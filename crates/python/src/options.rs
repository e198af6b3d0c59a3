//! Options by name, from Python's values. What there is, and what it may be, is the engine's table.

use crate::errors::{Failed, other};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList};
use serde_json::Value;
use sottovoce::options::{Domain, OptionDescription, OptionTable};
use sottovoce::{EngineOptions, StreamOptions};
use std::fmt::Display;
use std::path::PathBuf;

/// The defaults, with what `given` has in their place.
pub fn options<T: OptionTable>(given: &Bound<'_, PyDict>) -> Result<T, Failed> {
    let mut options = T::default();
    for (name, value) in given.iter() {
        let given = Given {
            name: name.extract()?,
            value,
        };
        let description =
            T::description(&given.name).ok_or_else(|| given.refused("there is no such option"))?;
        options.set(&given.name, &given.json(&description.domain)?)?;
    }
    Ok(options)
}

/// The table of options: name, help, domain and default of each, for `engine`, `stream` and
/// `change`.
#[pyfunction]
pub fn option_tables(py: Python<'_>) -> Result<Bound<'_, PyDict>, Failed> {
    let tables = PyDict::new(py);
    tables.set_item("engine", table::<EngineOptions>(py, |_| true)?)?;
    tables.set_item("stream", table::<StreamOptions>(py, |_| true)?)?;
    let change = table::<StreamOptions>(py, StreamOptions::is_of_sound)?;
    tables.set_item("change", change)?;
    Ok(tables)
}

fn table<T: OptionTable>(
    py: Python<'_>,
    takes: fn(&OptionDescription) -> bool,
) -> Result<Bound<'_, PyList>, Failed> {
    let defaults = T::default();
    let entries = PyList::empty(py);
    for description in T::DESCRIPTIONS.iter().filter(|option| takes(option)) {
        let entry = pythonize::pythonize(py, description).map_err(other)?;
        let default = defaults.get(description.name);
        let default = pythonize::pythonize(py, &default).map_err(other)?;
        entry.set_item("default", default)?;
        entry.set_item("type", description.domain.json_type())?;
        entry.set_item("values", description.domain.description())?;
        entries.append(entry)?;
    }
    Ok(entries)
}

/// A value for the option of that name.
struct Given<'py> {
    name: String,
    value: Bound<'py, PyAny>,
}

impl<'py> Given<'py> {
    /// The value as the table takes it.
    fn json(&self, domain: &Domain) -> Result<Value, Failed> {
        Ok(match domain {
            Domain::Number { .. } => self.number(domain)?,
            Domain::Count { .. } => Value::from(self.whole(domain)?),
            Domain::Bytes => match self.value.extract::<String>() {
                Ok(text) => Value::from(text),
                Err(_) => Value::from(self.whole(domain)?),
            },
            Domain::Switch => Value::from(self.extract::<bool>("True or False")?),
            Domain::Choice { .. } | Domain::Text { .. } => {
                Value::from(self.extract::<String>("a str")?)
            }
            Domain::File | Domain::Folder => {
                let path: PathBuf = self.extract("a str or a path")?;
                let text = path.to_str().ok_or_else(|| self.refused("use Unicode"))?;
                Value::from(text)
            }
        })
    }

    /// A number that is one: JSON has no others.
    fn number(&self, domain: &Domain) -> Result<Value, Failed> {
        if self.value.is_instance_of::<PyBool>() {
            return Err(self.wrong_type("a number"));
        }
        let number: f64 = self.extract("a number")?;
        match number.is_finite() {
            true => Ok(Value::from(number)),
            false => Err(self.refused(format!("use {}", domain.description()))),
        }
    }

    /// A whole number, as Python itself tells them from others: NumPy's are among them.
    fn whole(&self, domain: &Domain) -> Result<u64, Failed> {
        let wanted = match domain {
            Domain::Bytes => "a number of bytes or a str such as \"1GiB\"",
            _ => "a whole number",
        };
        if self.value.is_instance_of::<PyBool>() {
            return Err(self.wrong_type(wanted));
        }
        let whole = (self.value.call_method0("__index__")).map_err(|_| self.wrong_type(wanted))?;
        let refused = |_| self.refused(format!("use {}", domain.description()));
        whole.extract().map_err(refused)
    }

    fn extract<'a, T: FromPyObject<'a, 'py>>(&'a self, wanted: &str) -> Result<T, Failed> {
        self.value.extract().map_err(|_| self.wrong_type(wanted))
    }

    fn refused(&self, reason: impl Display) -> Failed {
        Failed::Argument {
            argument: self.name.clone(),
            value: shown(&self.value),
            reason: reason.to_string(),
        }
    }

    fn wrong_type(&self, wanted: &str) -> Failed {
        let given = self.value.get_type().name();
        Failed::Type {
            argument: self.name.clone(),
            given: given.map_or_else(|_| "another".to_owned(), |name| name.to_string()),
            wanted: wanted.to_owned(),
        }
    }
}

/// A value in a message, shortened.
fn shown(value: &Bound<'_, PyAny>) -> String {
    const CHARACTERS_MAX: usize = 60;
    let text = value.repr().map(|text| text.to_string());
    let text = text.unwrap_or_else(|_| "the value".to_owned());
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
