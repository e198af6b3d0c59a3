//! Options by name, from Python's values.

use crate::errors::Failed;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};
use sottovoce::options::{OptionTable, Value};
use sottovoce::{EngineOptions, Error, StreamOptions, WhenFull};
use sottovoce_cli::output::size::parse_bytes;
use std::fmt::Display;
use std::str::FromStr;

/// The engine's defaults, with what `given` has in their place. Values of `None` count as not given.
pub fn engine_options(given: &Bound<'_, PyDict>) -> Result<EngineOptions, Failed> {
    let mut options = EngineOptions::default();
    for (name, value) in given.iter() {
        let given = Given::new(&name, value)?;
        match given.name.as_str() {
            "memory" => options.memory = Some(given.bytes()?),
            "host_memory" => options.host_memory = Some(given.bytes()?),
            "device" => options.device = given.word()?,
            "precision" => options.precision = given.word()?,
            "profile" => {
                options.profile = (given.text()?.parse()).map_err(|error| given.refused(error))?;
            }
            "threads" => options.threads = Some(given.count()?),
            "streams_max" => options.streams_max = given.count()?,
            "waiting_max" => options.waiting_max = given.count()?,
            "chunk_tokens_max" => options.chunk_tokens_max = Some(given.count()?),
            "context_tokens_max" => options.context_tokens_max = given.count()?,
            "key_value_precision" => {
                options.set("key_value_precision", &Value::from(given.text()?))?;
            }
            "cache_interval" => options.cache_interval = Some(given.number_of()?),
            "voices" => options.voices = Some(given.path()?),
            "enable_monitoring" => options.enable_monitoring = given.switch()?,
            "watermark" => options.watermark = Some(given.path()?),
            _ => return Err(given.unknown()),
        }
    }
    Ok(options)
}

/// The same for a stream.
pub fn stream_options(given: &Bound<'_, PyDict>) -> Result<StreamOptions, Failed> {
    let mut options = StreamOptions::default();
    for (name, value) in given.iter() {
        let given = Given::new(&name, value)?;
        match given.name.as_str() {
            "speed" => options.speed = given.number()?,
            "exaggeration" => options.exaggeration = Some(given.number()?),
            "cfg_weight" => options.cfg_weight = Some(given.number()?),
            "temperature" => options.temperature = Some(given.number()?),
            "top_p" => options.top_p = Some(given.number()?),
            "top_k" => options.top_k = Some(given.count()?),
            "min_p" => options.min_p = Some(given.number()?),
            "repetition_penalty" => options.repetition_penalty = Some(given.number()?),
            "chunk_size" => options.chunk_size = Some(given.count()?),
            "context_window" => options.context_window = given.count()?,
            "prompt_tokens" => options.prompt_tokens = Some(given.count()?),
            "flow_steps" => options.flow_steps = Some(given.count()?),
            "flow_guided_steps" => options.flow_guided_steps = Some(given.count()?),
            "fade_duration" => options.fade_duration = given.number()?,
            "memory_management" => options.memory_management = given.switch()?,
            "seed" => options.seed = given.number_of()?,
            "sentence_tokens_max" => options.sentence_tokens_max = Some(given.count()?),
            "when_full" => {
                options.when_full = match given.text()?.as_str() {
                    "wait" => WhenFull::Wait,
                    "refuse" => WhenFull::Refuse,
                    _ => return Err(given.refused("use wait or refuse")),
                }
            }
            "buffered_chunks_max" => options.buffered_chunks_max = given.count()?,
            _ => return Err(given.unknown()),
        }
    }
    Ok(options)
}

/// A value for the option of that name.
struct Given<'py> {
    name: String,
    value: Bound<'py, PyAny>,
}

impl<'py> Given<'py> {
    fn new(name: &Bound<'py, PyAny>, value: Bound<'py, PyAny>) -> Result<Given<'py>, Failed> {
        Ok(Given {
            name: name.extract()?,
            value,
        })
    }

    fn refused(&self, reason: impl Display) -> Failed {
        Failed::Argument {
            argument: self.name.clone(),
            value: shown(&self.value),
            reason: reason.to_string(),
        }
    }

    fn unknown(&self) -> Failed {
        self.refused("there is no such option")
    }

    fn wrong_type(&self, wanted: &str) -> Failed {
        wrong_type(&self.name, &self.value, wanted)
    }

    fn number(&self) -> Result<f32, Failed> {
        if self.value.is_instance_of::<PyBool>() {
            return Err(self.wrong_type("a number"));
        }
        let number: f64 = self
            .value
            .extract()
            .map_err(|_| self.wrong_type("a number"))?;
        Ok(number as f32)
    }

    /// A whole number, in the range of its type.
    fn number_of<T: TryFrom<u64>>(&self) -> Result<T, Failed> {
        let wanted = "a whole number";
        if self.value.is_instance_of::<PyBool>() {
            return Err(self.wrong_type(wanted));
        }
        // As Python itself tells whole numbers, NumPy's among them, from others.
        let whole = (self.value.call_method0("__index__")).map_err(|_| self.wrong_type(wanted))?;
        let number: u64 = (whole.extract()).map_err(|_| self.refused("use 0 to 2^64 - 1"))?;
        T::try_from(number).map_err(|_| self.refused("the number is too large"))
    }

    fn count(&self) -> Result<usize, Failed> {
        self.number_of()
    }

    fn switch(&self) -> Result<bool, Failed> {
        self.value
            .extract()
            .map_err(|_| self.wrong_type("True or False"))
    }

    fn text(&self) -> Result<String, Failed> {
        self.value.extract().map_err(|_| self.wrong_type("a str"))
    }

    fn path(&self) -> Result<std::path::PathBuf, Failed> {
        let path = self.value.extract();
        path.map_err(|_| self.wrong_type("a str or a path"))
    }

    /// One of an option's words.
    fn word<T: FromStr<Err = Error>>(&self) -> Result<T, Failed> {
        Ok(self.text()?.parse()?)
    }

    /// A size as a number of bytes or as text such as `1GiB`.
    fn bytes(&self) -> Result<u64, Failed> {
        match self.value.extract::<String>() {
            Ok(text) => parse_bytes(&text).map_err(|reason| self.refused(reason)),
            Err(_) if self.value.hasattr("__index__")? => self.number_of(),
            Err(_) => Err(self.wrong_type("a number of bytes or a str such as \"1GiB\"")),
        }
    }
}

/// An argument of the wrong type.
pub fn wrong_type(argument: &str, value: &Bound<'_, PyAny>, wanted: &str) -> Failed {
    let given = value.get_type().name();
    Failed::Type {
        argument: argument.to_owned(),
        given: given.map_or_else(|_| "another".to_owned(), |name| name.to_string()),
        wanted: wanted.to_owned(),
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
