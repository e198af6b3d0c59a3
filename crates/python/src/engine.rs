//! A loaded model, and the voices that it speaks with.

use crate::bell::Bell;
use crate::errors::{Failed, other, unlocked};
use crate::options::options;
use crate::process::OfProcess;
use crate::stream::Stream;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use sottovoce::{EngineOptions, RecordedSpeech, Source, StreamOptions, VoiceSource, parse_variant};
use sottovoce_cli::environment::{cache_folder, voices_folder};
use sottovoce_cli::source::{model_source, voice_source, with_sound_folder};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Random weights of a full-size model are named so: `synthetic:base`.
const SYNTHETIC: &str = "synthetic:";

struct Loaded {
    /// Nothing once it was closed.
    engine: Mutex<Option<sottovoce::Engine>>,
    bell: Arc<Bell>,
}

/// A loaded model.
#[pyclass(frozen, module = "sottovoce._native")]
pub struct Engine {
    loaded: OfProcess<Loaded>,
}

/// A voice of an engine.
#[pyclass(frozen, module = "sottovoce._native")]
pub struct Voice {
    voice: OfProcess<sottovoce::Voice>,
    name: String,
}

impl Engine {
    fn engine(&self) -> Result<sottovoce::Engine, Failed> {
        let engine = &self.loaded.get()?.engine;
        let engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
        engine.clone().ok_or(Failed::Closed("engine"))
    }

    /// Asks the engine something.
    fn ask<T: Send>(
        &self,
        py: Python<'_>,
        question: impl FnOnce(&sottovoce::Engine) -> Result<T, Failed> + Send,
    ) -> Result<T, Failed> {
        // What is cloned here may be the last holder by the time that it is dropped.
        unlocked(py, || question(&self.engine()?))
    }
}

#[pymethods]
impl Engine {
    #[new]
    fn load(py: Python<'_>, model: &str, given: &Bound<'_, PyDict>) -> Result<Engine, Failed> {
        let mut options: EngineOptions = options(given)?;
        options.voices.get_or_insert_with(voices_folder);
        options.cache_dir.get_or_insert_with(cache_folder);
        let options = with_sound_folder(options);
        let model = model.to_owned();
        let engine = unlocked(py, || -> Result<_, Failed> {
            let source = match model.strip_prefix(SYNTHETIC) {
                Some(variant) => Source::Synthetic(parse_variant(variant)?),
                None => model_source(&model).map_err(|reason| Failed::Model {
                    name: model.clone(),
                    reason,
                })?,
            };
            Ok(sottovoce::Engine::load(source, options)?)
        })?;
        Ok(Engine {
            loaded: OfProcess::new(Loaded {
                engine: Mutex::new(Some(engine)),
                bell: Arc::default(),
            }),
        })
    }

    /// The model's own voice without a name; else as the command line takes a voice.
    fn voice(&self, py: Python<'_>, name: Option<PathBuf>) -> Result<Voice, Failed> {
        let source = match &name {
            None => voice_source(None),
            Some(name) => voice_source(Some(name.to_str().ok_or_else(|| Failed::Argument {
                argument: "voice".into(),
                value: format!("{name:?}"),
                reason: "it is no text in Unicode".into(),
            })?)),
        };
        self.make_voice(py, source)
    }

    /// A voice from a recording's bytes.
    fn voice_of_bytes(
        &self,
        py: Python<'_>,
        name: String,
        bytes: Vec<u8>,
    ) -> Result<Voice, Failed> {
        self.make_voice(py, VoiceSource::ClipBytes { name, bytes })
    }

    /// Starts a stream; without a text one to which text is pushed.
    fn stream(
        &self,
        py: Python<'_>,
        text: Option<&str>,
        voice: Option<&Voice>,
        given: &Bound<'_, PyDict>,
    ) -> Result<Stream, Failed> {
        let options: StreamOptions = options(given)?;
        let voice = voice.map(|voice| voice.voice.get()).transpose()?;
        let bell = self.loaded.get()?.bell.clone();
        let stream = self.ask(py, |engine| {
            let voice = voice_or_own(engine, voice)?;
            Ok(match text {
                Some(text) => engine.stream(text, &voice, options)?,
                None => engine.open_stream(&voice, options)?,
            })
        })?;
        Ok(Stream::new(stream, bell))
    }

    /// Starts to change the voice of a recording: the file of that name, or its bytes.
    fn change_voice(
        &self,
        py: Python<'_>,
        name: String,
        recording: Option<Vec<u8>>,
        voice: Option<&Voice>,
        given: &Bound<'_, PyDict>,
    ) -> Result<Stream, Failed> {
        let options: StreamOptions = options(given)?;
        let voice = voice.map(|voice| voice.voice.get()).transpose()?;
        let bell = self.loaded.get()?.bell.clone();
        let speech = match recording {
            Some(bytes) => RecordedSpeech::Bytes { name, bytes },
            None => RecordedSpeech::File(name.into()),
        };
        let stream = self.ask(py, |engine| {
            let voice = voice_or_own(engine, voice)?;
            Ok(engine.change_voice(speech, &voice, options)?)
        })?;
        Ok(Stream::new(stream, bell))
    }

    fn memory_report<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>, Failed> {
        let report = self.ask(py, |engine| Ok(engine.memory_report()))?;
        pythonize::pythonize(py, &report).map_err(other)
    }

    fn metrics<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>, Failed> {
        let metrics = self.ask(py, |engine| Ok(engine.metrics()))?;
        pythonize::pythonize(py, &metrics).map_err(other)
    }

    fn plan<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>, Failed> {
        let plan = self.ask(py, |engine| Ok(engine.plan().clone()))?;
        pythonize::pythonize(py, &plan).map_err(other)
    }

    fn trim(&self, py: Python<'_>) -> Result<u64, Failed> {
        self.ask(py, |engine| Ok(engine.trim()))
    }

    /// Options of `given` change; the others stay as they are.
    fn configure_memory_management(
        &self,
        py: Python<'_>,
        given: &Bound<'_, PyDict>,
    ) -> Result<(), Failed> {
        let wanted: EngineOptions = options(given)?;
        let has = |name| given.contains(name);
        let (profile, monitoring) = (has("profile")?, has("enable_monitoring")?);
        let interval = has("cache_interval")?;
        self.ask(py, |engine| {
            let now = engine.options();
            engine.configure_memory_management(
                if profile { wanted.profile } else { now.profile },
                if monitoring {
                    wanted.enable_monitoring
                } else {
                    now.enable_monitoring
                },
                if interval {
                    wanted.cache_interval
                } else {
                    now.cache_interval
                },
            );
            Ok(())
        })
    }

    fn device_name(&self, py: Python<'_>) -> Result<String, Failed> {
        self.ask(py, |engine| Ok(engine.device_name().to_owned()))
    }

    fn device_note(&self, py: Python<'_>) -> Result<Option<String>, Failed> {
        self.ask(py, |engine| Ok(engine.device_note().map(str::to_owned)))
    }

    fn options_without_effect(&self, py: Python<'_>) -> Result<Vec<&'static str>, Failed> {
        self.ask(py, |engine| Ok(engine.options_without_effect().to_vec()))
    }

    fn streams_max(&self, py: Python<'_>) -> Result<usize, Failed> {
        self.ask(py, |engine| Ok(engine.streams_max()))
    }

    fn is_alive(&self, py: Python<'_>) -> Result<bool, Failed> {
        match self.ask(py, |engine| Ok(engine.is_alive())) {
            Err(Failed::Closed(_)) => Ok(false),
            alive => alive,
        }
    }

    /// Ends every stream and gives everything back.
    fn close(&self, py: Python<'_>) -> Result<(), Failed> {
        let loaded = self.loaded.get()?;
        unlocked(py, || {
            let engine = &loaded.engine;
            let engine = engine.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(engine) = engine {
                engine.stop();
            }
            Ok::<_, Failed>(())
        })
    }
}

impl Engine {
    fn make_voice(&self, py: Python<'_>, source: VoiceSource) -> Result<Voice, Failed> {
        let voice = self.ask(py, |engine| Ok(engine.voice(source)?))?;
        Ok(Voice {
            name: voice.name().to_owned(),
            voice: OfProcess::new(voice),
        })
    }
}

#[pymethods]
impl Voice {
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> Result<(), Failed> {
        let voice = self.voice.get()?;
        unlocked(py, || voice.save(&path))
    }
}

/// The voice, or the model's own.
fn voice_or_own(
    engine: &sottovoce::Engine,
    voice: Option<&sottovoce::Voice>,
) -> Result<sottovoce::Voice, sottovoce::Error> {
    match voice {
        Some(voice) => Ok(voice.clone()),
        None => engine.voice(VoiceSource::Default),
    }
}
