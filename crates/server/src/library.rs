//! Models that a call may choose: local ones, ones to download, and the memory that each needs.

use crate::error::ServerError;
use crate::options::ServerOptions;
use serde::Serialize;
use sottovoce::text::{LANGUAGES, PARALINGUISTIC_TAGS};
use sottovoce::{EngineOptions, Source, Variant, text};
use sottovoce_hub::{Error as HubError, HubSettings, OFFICIAL_MODELS, OfficialModel};
use sottovoce_lab::doctor;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use utoipa::ToSchema;

/// Name of the embedded model.
pub(crate) const EMBEDDED: &str = "pico";
/// Summary of each model, to help with the choice.
const SUMMARIES: [(&str, &str); 13] = [
    (
        EMBEDDED,
        "Inside this program: small, quick and plain. Right for a first try and for small machines.",
    ),
    (
        "nano",
        "110 million parameters. Far more natural, and quick on a few cores.",
    ),
    (
        "turbo",
        "350 million parameters. Natural, with sounds such as [laugh] and [sigh].",
    ),
    (
        "base",
        "500 million parameters. Its emotion can be set; it asks for the most work.",
    ),
    (
        "flash",
        "Base that decides 16 speech tokens together: made for GPUs. Needs a voice of your own.",
    ),
    (
        "multilingual",
        "Base in 23 languages; a voice keeps its sound in each of them.",
    ),
    (
        "multilingual-v3",
        "Multilingual, trained further: steadier, and nearer to the voice.",
    ),
    ("zh", "Multilingual v3, tuned to Mandarin."),
    ("hi", "Multilingual v3, tuned to Hindi."),
    ("es-es", "Multilingual v3, tuned to the Spanish of Spain."),
    (
        "es-mx",
        "Multilingual v3, tuned to the Spanish of Latin America.",
    ),
    (
        "pt-pt",
        "Multilingual v3, tuned to the Portuguese of Portugal.",
    ),
    (
        "pt-br",
        "Multilingual v3, tuned to the Portuguese of Brazil.",
    ),
];

/// Memory of a model at a precision. Sizes are bytes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ModelNeed {
    /// `f32`, `f16`, `int8` or `q4`.
    precision: String,
    /// Total for one stream.
    one_stream_bytes: u64,
    /// At most, for each further stream.
    further_stream_bytes: u64,
    /// Streams that fit the budget, up to the server's limit.
    streams_fit: usize,
}

impl ModelNeed {
    /// The need within a budget.
    fn within(&self, budget_bytes: Option<u64>, streams_max: usize) -> ModelNeed {
        let fit = match budget_bytes.map(|budget| budget.checked_sub(self.one_stream_bytes)) {
            None => streams_max,
            Some(None) => 0,
            Some(Some(left)) => {
                let further = left / self.further_stream_bytes.max(1);
                usize::try_from(further).map_or(streams_max, |further| further.saturating_add(1))
            }
        };
        ModelNeed {
            streams_fit: fit.min(streams_max),
            ..self.clone()
        }
    }
}

/// State of a download. Sizes are bytes.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct DownloadState {
    /// Whether it is running.
    running: bool,
    /// The current file.
    file: String,
    /// Bytes received so far.
    received_bytes: u64,
    /// Bytes of all files.
    total_bytes: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Whether it was cancelled.
    #[serde(skip)]
    cancelled: bool,
}

/// Size of a download.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DownloadOffer {
    /// The model.
    name: &'static str,
    /// Where its files come from.
    from: String,
    /// Bytes of all its files.
    total_bytes: u64,
    /// Of these, bytes that are not on the server yet.
    download_bytes: u64,
}

/// A model that calls can choose or download.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct LibraryModel {
    /// Its name in calls.
    name: String,
    /// A summary of its use.
    summary: &'static str,
    /// Languages that it speaks.
    languages: Vec<String>,
    /// Whether its files are on the server.
    here: bool,
    /// Whether it is the model in use.
    speaks: bool,
    /// Its memory at each precision.
    fits: Vec<ModelNeed>,
    /// Its download, if one was started.
    download: Option<DownloadState>,
}

/// A tag that a model supports.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ModelTag {
    /// As it is written in a text, such as `[laugh]`.
    pub(crate) tag: String,
    /// Whether it is audible; users report of some that they are not.
    heard: bool,
}

/// Languages and tags that a model supports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spoken {
    /// Codes of its languages, the default first.
    pub(crate) languages: Vec<String>,
    /// Its tags.
    pub(crate) tags: Vec<ModelTag>,
}

/// A model's name, and where its weights come from.
#[derive(Clone, Debug)]
pub(crate) struct ChosenModel {
    pub(crate) name: String,
    pub(crate) source: Source,
}

/// The models, and downloads in progress.
pub(crate) struct Library {
    hub: Option<HubSettings>,
    /// The model that the server was started with.
    first: ChosenModel,
    needs: OnceLock<HashMap<String, Vec<ModelNeed>>>,
    spoken: Mutex<HashMap<String, Spoken>>,
    downloads: Mutex<HashMap<&'static str, DownloadState>>,
}

/// Random weights of an official model's sizes, from which its needs are computed before it is
/// downloaded.
fn of_same_size(name: &str) -> Option<Source> {
    match name {
        EMBEDDED => Some(Source::Embedded),
        "nano" => Some(Source::Synthetic(Variant::Nano)),
        "turbo" => Some(Source::Synthetic(Variant::Turbo)),
        "base" => Some(Source::Synthetic(Variant::Base)),
        "flash" => Some(Source::Synthetic(Variant::Flash)),
        _ if OfficialModel::named(name).is_some() => Some(Source::Synthetic(Variant::Multilingual)),
        _ => None,
    }
}

/// The languages of a model, which need not be on this machine. Names of models that are tuned to a
/// language begin with its code.
fn languages(name: &str, source: &Source) -> Vec<String> {
    let code = name.split('-').next().unwrap_or_default();
    match OfficialModel::named(name) {
        Some(_) if LANGUAGES.iter().any(|(known, _)| *known == code) => vec![code.to_owned()],
        // Speaking reports why a model cannot be opened.
        _ => text::languages(source).unwrap_or_default(),
    }
}

fn needs(source: &Source) -> Vec<ModelNeed> {
    let fits = doctor::fits(source, None).into_iter();
    fits.map(|fit| ModelNeed {
        precision: fit.precision.to_string(),
        one_stream_bytes: fit.one_stream_bytes,
        further_stream_bytes: fit.further_stream_bytes,
        streams_fit: 0,
    })
    .collect()
}

impl Library {
    pub(crate) fn new(options: &ServerOptions) -> Library {
        Library {
            hub: options.hub.clone(),
            first: ChosenModel {
                name: options.model_name.clone(),
                source: options.source.clone(),
            },
            needs: OnceLock::new(),
            spoken: Mutex::default(),
            downloads: Mutex::default(),
        }
    }

    fn downloads(&self) -> MutexGuard<'_, HashMap<&'static str, DownloadState>> {
        self.downloads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether models can be downloaded.
    pub(crate) fn fetches(&self) -> bool {
        self.hub.as_ref().is_some_and(|hub| !hub.offline)
    }

    /// The hub's settings.
    ///
    /// # Errors
    /// If the server has no hub.
    fn hub(&self) -> Result<&HubSettings, ServerError> {
        self.hub.as_ref().ok_or_else(|| ServerError::Parameter {
            parameter: "name",
            reason: "this server fetches no models".into(),
        })
    }

    /// The official model of this name.
    ///
    /// # Errors
    /// If there is none.
    fn official(name: &str) -> Result<&'static OfficialModel, ServerError> {
        OfficialModel::named(name).ok_or_else(|| ServerError::NotFound {
            what: format!("a model {name:?} to be fetched"),
        })
    }

    /// Locates a local model's weights. Blocks while its folder is read.
    ///
    /// # Errors
    /// If it is not on this machine.
    pub(crate) fn find(&self, name: &str) -> Result<ChosenModel, ServerError> {
        if name == self.first.name {
            return Ok(self.first.clone());
        }
        let official = OfficialModel::named(name);
        let cached = (official.zip(self.hub.as_ref()))
            .and_then(|(model, hub)| Some((model, model.cached(hub)?)));
        match (name, cached) {
            (EMBEDDED, _) => Ok(ChosenModel {
                name: EMBEDDED.into(),
                source: Source::Embedded,
            }),
            (_, Some((model, folder))) => Ok(ChosenModel {
                name: model.name.into(),
                source: Source::Directory(folder),
            }),
            (_, None) => Err(ServerError::Parameter {
                parameter: "model",
                reason: format!(
                    "there is no model {name:?} here; GET /models lists those there are"
                ),
            }),
        }
    }

    /// All models; `chosen` is the one in use. Blocks while folders are read.
    pub(crate) fn models(
        &self,
        chosen: &str,
        budget_bytes: Option<u64>,
        streams_max: usize,
    ) -> Vec<LibraryModel> {
        let downloads = self.downloads().clone();
        let official = OFFICIAL_MODELS.iter().map(|model| model.name);
        let mut names: Vec<&str> = [EMBEDDED].into_iter().chain(official).collect();
        // Small models first, in the order of their summaries.
        names.sort_by_key(|name| SUMMARIES.iter().position(|(known, _)| known == name));
        if !names.contains(&self.first.name.as_str()) {
            names.push(&self.first.name);
        }
        let source = |name: &str| of_same_size(name).unwrap_or_else(|| self.first.source.clone());
        let needs = self.needs.get_or_init(|| {
            // Many models have the same size.
            let mut known: Vec<(Source, Vec<ModelNeed>)> = Vec::new();
            let mut needs_of = |source: Source| {
                if let Some((_, needs)) = known.iter().find(|(other, _)| *other == source) {
                    return needs.clone();
                }
                let found = needs(&source);
                known.push((source, found.clone()));
                found
            };
            let all = names
                .iter()
                .map(|name| ((*name).to_owned(), needs_of(source(name))));
            all.collect()
        });
        let entry = |name: &str| LibraryModel {
            name: name.to_owned(),
            summary: (SUMMARIES.iter())
                .find_map(|(known, summary)| (*known == name).then_some(*summary))
                .unwrap_or_default(),
            languages: languages(name, &source(name)),
            here: self.find(name).is_ok(),
            speaks: name == chosen,
            fits: (needs.get(name).into_iter().flatten())
                .map(|need| need.within(budget_bytes, streams_max))
                .collect(),
            download: downloads.get(name).cloned(),
        };
        names.into_iter().map(entry).collect()
    }

    /// Languages and tags of a model. The first call blocks while its tokenizer is read.
    pub(crate) fn spoken(&self, model: &ChosenModel) -> Spoken {
        let mut spoken = self.spoken.lock().unwrap_or_else(PoisonError::into_inner);
        let known = spoken.entry(model.name.clone());
        let read = || {
            // A model without a tokenizer has no tags to list; a speech request reports the missing
            // file.
            let names = text::tags(&model.source).unwrap_or_default();
            let heard = |name: &str| {
                let known = PARALINGUISTIC_TAGS.iter().find(|tag| tag.name == name);
                known.is_none_or(|tag| tag.is_heard)
            };
            let tag = |name: String| ModelTag {
                heard: heard(&name),
                tag: format!("[{name}]"),
            };
            Spoken {
                languages: text::languages(&model.source).unwrap_or_default(),
                tags: names.into_iter().map(tag).collect(),
            }
        };
        known.or_insert_with(read).clone()
    }

    /// Size of a model's download. Blocks while the hub is queried.
    ///
    /// # Errors
    /// If there is no such model, or the hub does not answer.
    pub(crate) fn offer(&self, name: &str) -> Result<DownloadOffer, ServerError> {
        let (hub, model) = (self.hub()?, Library::official(name)?);
        let files = model.remote_files(hub)?;
        let total_bytes = files.iter().map(|file| file.bytes).sum();
        let here: u64 = files.iter().map(|file| file.here_bytes).sum();
        Ok(DownloadOffer {
            name: model.name,
            from: format!(
                "{}/{}",
                hub.endpoint.trim_end_matches('/'),
                model.repository
            ),
            total_bytes,
            download_bytes: total_bytes.saturating_sub(here),
        })
    }

    /// Starts the download of a model on a thread, unless it is running already.
    ///
    /// # Errors
    /// If there is no such model, or another download is running.
    pub(crate) fn download(self: &Arc<Library>, name: &str) -> Result<DownloadState, ServerError> {
        let (hub, model) = (self.hub()?.clone(), Library::official(name)?);
        let mut downloads = self.downloads();
        if let Some((&name, state)) = downloads.iter().find(|(_, state)| state.running) {
            return match name == model.name {
                true => Ok(state.clone()),
                false => Err(ServerError::Fetching { name }),
            };
        }
        let state = DownloadState {
            running: true,
            ..DownloadState::default()
        };
        downloads.insert(model.name, state.clone());
        drop(downloads);
        let library = self.clone();
        tokio::task::spawn_blocking(move || {
            let fetched = library.fetch(model, &hub);
            let mut downloads = library.downloads();
            let state = downloads.entry(model.name).or_default();
            state.running = false;
            match fetched {
                Ok(()) => tracing::info!(model = model.name, "a model was fetched"),
                Err(HubError::Cancelled { .. }) => drop(downloads.remove(model.name)),
                Err(error) => {
                    tracing::warn!(model = model.name, %error, "a model could not be fetched");
                    state.error = Some(error.to_string());
                }
            }
        });
        Ok(state)
    }

    fn fetch(&self, model: &'static OfficialModel, hub: &HubSettings) -> Result<(), HubError> {
        let files = model.remote_files(hub)?;
        let total_bytes = files.iter().map(|file| file.bytes).sum();
        let mut there: HashMap<&str, u64> = (files.iter())
            .map(|file| (file.name, file.here_bytes))
            .collect();
        let mut note = |file: &str, bytes: Option<u64>| {
            if let (Some(known), Some(bytes)) = (there.get_mut(file), bytes) {
                *known = bytes;
            }
            let mut downloads = self.downloads();
            let Some(state) = downloads.get_mut(model.name) else {
                return ControlFlow::Break(());
            };
            state.total_bytes = total_bytes;
            state.received_bytes = there.values().sum();
            state.file = file.to_owned();
            match state.cancelled {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let _ = note("", None);
        model.download(hub, &mut |file, there, _| note(file, Some(there)))?;
        Ok(())
    }

    /// Cancels a download, which may take a moment. Received files are kept.
    ///
    /// # Errors
    /// If none is running.
    pub(crate) fn cancel(&self, name: &str) -> Result<DownloadState, ServerError> {
        let mut downloads = self.downloads();
        let running = downloads.get_mut(name).filter(|state| state.running);
        let state = running.ok_or_else(|| ServerError::NotFound {
            what: format!("a download of {name:?}"),
        })?;
        state.cancelled = true;
        Ok(state.clone())
    }
}

/// The server's budget: the configured one, or the system's available memory.
pub(crate) fn budget_bytes(options: &EngineOptions, reserved_bytes: u64) -> Option<u64> {
    options.memory.or_else(|| {
        let free = sottovoce::SystemMemory::now().budget_max_bytes()?;
        // The loaded model makes room for the next one.
        Some(free.saturating_add(reserved_bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_holds_as_many_streams_as_it_can_and_the_server_lets_speak() {
        let need = ModelNeed {
            precision: "f16".into(),
            one_stream_bytes: 100,
            further_stream_bytes: 30,
            streams_fit: 0,
        };
        for (budget, fit) in [
            (Some(99), 0),
            (Some(100), 1),
            (Some(159), 2),
            (Some(160), 3),
            (Some(u64::MAX), 8),
            (None, 8),
        ] {
            assert_eq!(need.within(budget, 8).streams_fit, fit, "{budget:?}");
        }
    }

    #[test]
    fn the_embedded_model_speaks_and_unknown_ones_are_refused_by_name() {
        let library = Library::new(&ServerOptions::default());
        assert!(matches!(
            library.find("pico").unwrap().source,
            Source::Embedded
        ));
        assert!(
            library
                .find("huge")
                .unwrap_err()
                .to_string()
                .contains("huge")
        );
        let models = library.models("pico", Some(64 << 20), 4);
        assert_eq!(models.iter().filter(|model| model.speaks).count(), 1);
        for model in &models {
            assert!(!model.fits.is_empty(), "{}", model.name);
            assert!(!model.summary.is_empty(), "{}", model.name);
        }
        assert!(library.offer("nano").is_err(), "it has no hub");
        assert!(!library.fetches());
    }
}
