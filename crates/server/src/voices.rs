//! Voices that callers can name: the model's own, those in the store, and aliases.

use crate::aliases::{Alias, Aliases};
use crate::error::ServerError;
use crate::host::Loaded;
use crate::options::{Compatibility, ServerOptions};
use serde::Serialize;
use sottovoce::{
    StoredVoice, Voice, VoiceSource, VoiceStore, check_voice_name, same_voice_name, voice_name,
};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use utoipa::ToSchema;

pub(crate) use sottovoce::DEFAULT_VOICE;

/// OpenAI's voice names. Clients must send one, and get the model's own voice for it.
const OPENAI_VOICES: [&str; 13] = [
    "alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse",
    "marin", "cedar",
];
/// Most voices kept prepared, each possibly with a cached prefix. Others are read again on demand.
const READY_MAX: usize = 16;

/// A voice as `/v1/audio/voices` lists it.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct VoiceEntry {
    /// Its name in requests.
    pub(crate) id: String,
    /// The same, as a display name.
    pub(crate) name: String,
    /// Always `audio.voice`.
    pub(crate) object: &'static str,
    /// Always `audio_sample`: every voice was made of a recording.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// Time of its preparation, in seconds since 1970; 0 for the model's own voice.
    pub(crate) created_at: u64,
    /// Whether it was uploaded (and can be deleted).
    pub(crate) uploaded: bool,
    /// The voice that it stands for, if it is an alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alias_of: Option<String>,
}

impl VoiceEntry {
    fn new(name: String, made: Option<SystemTime>) -> VoiceEntry {
        let since = made.and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        VoiceEntry {
            id: name.clone(),
            name,
            object: "audio.voice",
            kind: "audio_sample",
            created_at: since.map_or(0, |since| since.as_secs()),
            uploaded: made.is_some(),
            alias_of: None,
        }
    }
}

/// Stored voices and aliases.
pub(crate) struct Voices {
    store: Option<VoiceStore>,
    /// Whether calls may upload and delete voices.
    uploads: bool,
    voices_max: usize,
    /// Whether the name of a recording's file names its voice.
    file_names: bool,
    pub(crate) aliases: Aliases,
}

type ReadyTable = HashMap<String, (Option<SystemTime>, Voice)>;

/// A loaded model's prepared voices by name, with the modification time of their file, which
/// another replica may replace. They are dropped with the model that holds their memory.
#[derive(Default)]
pub(crate) struct ReadyVoices {
    table: Mutex<ReadyTable>,
}

impl ReadyVoices {
    fn keep(&self, name: &str, changed: Option<SystemTime>, voice: &Voice) {
        let mut table = self.table();
        let dropped = match table.len() {
            READY_MAX.. => std::mem::take(&mut *table),
            _ => ReadyTable::new(),
        };
        let replaced = table.insert(name.to_owned(), (changed, voice.clone()));
        // The last holder of a voice unmaps it, which nobody has to wait for.
        drop(table);
        drop((dropped, replaced));
    }

    fn forget(&self, name: &str) {
        let removed = self.table().remove(name);
        drop(removed);
    }

    fn table(&self) -> MutexGuard<'_, ReadyTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the name means the model's own voice.
fn is_own(name: &str) -> bool {
    let mut own = OPENAI_VOICES.into_iter().chain([DEFAULT_VOICE]);
    own.any(|own| same_voice_name(own, name))
}

/// The name of a recording's file without its extension; `None` for any other name.
pub(crate) fn recording_stem(name: &str) -> Option<&str> {
    const EXTENSIONS: [&str; 11] = [
        "wav", "mp3", "flac", "ogg", "opus", "m4a", "aac", "webm", "aiff", "caf", "mp4",
    ];
    let (stem, extension) = name.rsplit_once('.')?;
    let known = |known: &str| extension.eq_ignore_ascii_case(known);
    EXTENSIONS.into_iter().any(known).then_some(stem)
}

/// Prepares the voice of a recording's file; errors call it `name`. Blocks meanwhile, and while
/// another recording is prepared.
pub(crate) fn recorded_voice(
    loaded: &Loaded,
    clip: &Path,
    name: &str,
) -> Result<Voice, ServerError> {
    // Kept under its name alone, if at all, so that nothing of a removed voice stays.
    let voice = loaded.engine.fresh_voice(clip);
    Ok(voice.map_err(|error| match error {
        // The temporary path of the recording must not be revealed.
        sottovoce::Error::Voice { reason, .. } => sottovoce::Error::Voice {
            name: name.to_owned(),
            reason,
        },
        error => error,
    })?)
}

impl Voices {
    pub(crate) fn new(options: &ServerOptions) -> Voices {
        let folder = options.voices_directory.clone();
        let aliases = options.voice_aliases.clone();
        Voices {
            store: folder.clone().map(VoiceStore::new),
            uploads: options.uploads,
            voices_max: options.limits.voices_max,
            file_names: options.answers_like(Compatibility::Chatterbox),
            aliases: Aliases::new(aliases, folder, options.uploads),
        }
    }

    /// The store, for calls that change it.
    ///
    /// # Errors
    /// If uploads are disabled.
    pub(crate) fn store(&self) -> Result<&VoiceStore, ServerError> {
        let store = self.store.as_ref().filter(|_| self.uploads);
        store.ok_or_else(|| ServerError::Parameter {
            parameter: "voice",
            reason: "this server takes no voices: it was started without a folder for them".into(),
        })
    }

    /// Stored voices, by name.
    pub(crate) fn stored(&self) -> Result<Vec<StoredVoice>, ServerError> {
        Ok(self
            .store
            .as_ref()
            .map_or(Ok(Vec::new()), VoiceStore::voices)?)
    }

    /// The stored voice of this name.
    pub(crate) fn find(&self, name: &str) -> Result<Option<StoredVoice>, ServerError> {
        match &self.store {
            Some(store) => Ok(store.look_up(name)?),
            None => Ok(None),
        }
    }

    /// All voices: the model's own, then uploaded ones by name, then aliases.
    pub(crate) fn list(&self) -> Result<Vec<VoiceEntry>, ServerError> {
        let own = VoiceEntry::new(DEFAULT_VOICE.into(), None);
        let stored = self.stored()?;
        let uploaded = stored
            .into_iter()
            .map(|stored| VoiceEntry::new(stored.name, Some(stored.changed)));
        let aliases = self.aliases.list()?.into_iter().map(|alias| VoiceEntry {
            alias_of: Some(alias.voice),
            ..VoiceEntry::new(alias.alias, None)
        });
        Ok(std::iter::once(own)
            .chain(uploaded)
            .chain(aliases)
            .collect())
    }

    /// Prepares the voice of this name. Blocks while its file is read. Clients of servers that keep
    /// recordings name a voice by its file, such as `ann.wav`.
    pub(crate) fn voice(&self, loaded: &Loaded, name: &str) -> Result<Voice, ServerError> {
        match (self.named_voice(loaded, name), recording_stem(name)) {
            (Err(ServerError::Parameter { .. }), Some(stem)) if self.file_names => {
                self.named_voice(loaded, stem)
            }
            (voice, _) => voice,
        }
    }

    fn named_voice(&self, loaded: &Loaded, name: &str) -> Result<Voice, ServerError> {
        let name = voice_name(name);
        let unknown = || ServerError::Parameter {
            parameter: "voice",
            reason: format!(
                "there is no voice {name:?}; GET /v1/audio/voices lists those there are"
            ),
        };
        check_voice_name(&name).map_err(|_| unknown())?;
        let meant = self.aliases.voice(&name)?;
        let meant = meant.as_deref().unwrap_or(&name);
        let stored = self.find(meant)?;
        let (key, changed) = match &stored {
            Some(stored) => (stored.name.as_str(), Some(stored.changed)),
            None if is_own(meant) => (DEFAULT_VOICE, None),
            None => return Err(unknown()),
        };
        if let Some((known, voice)) = loaded.voices.table().get(key)
            && *known == changed
        {
            return Ok(voice.clone());
        }
        let source = match &stored {
            Some(stored) => VoiceSource::Prepared(stored.path.clone()),
            None => VoiceSource::Default,
        };
        let voice = loaded.engine.voice(source)?;
        loaded.voices.keep(key, changed, &voice);
        Ok(voice)
    }

    /// Prepares a voice from a recording's file and stores it under `name`, replacing a voice of
    /// that name. Blocks meanwhile.
    pub(crate) fn add(
        &self,
        loaded: &Loaded,
        name: &str,
        clip: &Path,
    ) -> Result<VoiceEntry, ServerError> {
        let name = self.free_name(name)?;
        let store = self.store()?;
        let uploaded = self.stored()?.len();
        if uploaded >= self.voices_max && self.find(&name)?.is_none() {
            return Err(ServerError::Parameter {
                parameter: "name",
                reason: format!("{uploaded} voices are kept, as many as may; delete one first"),
            });
        }
        let (name, path) = store.prepare(&name)?;
        recorded_voice(loaded, clip, &name)?.save(&path)?;
        loaded.voices.forget(&name);
        Ok(VoiceEntry::new(name, Some(SystemTime::now())))
    }

    /// Normalises a name for an uploaded voice.
    ///
    /// # Errors
    /// If the name is invalid, or belongs to the model's own voice or to an alias.
    pub(crate) fn free_name(&self, name: &str) -> Result<String, ServerError> {
        let name = voice_name(name);
        check_voice_name(&name).map_err(|error| ServerError::Parameter {
            parameter: "name",
            reason: error.to_string(),
        })?;
        let taken = |reason: String| {
            Err(ServerError::Parameter {
                parameter: "name",
                reason,
            })
        };
        if is_own(&name) {
            return taken(format!(
                "{name:?} is the model's own voice; choose another name, and an alias for it where a client insists"
            ));
        }
        if let Some(voice) = self.aliases.voice(&name)? {
            return taken(format!(
                "{name:?} stands for the voice {voice:?}; choose another name"
            ));
        }
        Ok(name)
    }

    /// Sets an alias of an existing voice.
    pub(crate) fn set_alias(&self, alias: &str, voice: &str) -> Result<Alias, ServerError> {
        let voice = voice_name(voice);
        check_voice_name(&voice)?;
        let voice = match self.find(&voice)? {
            Some(stored) => stored.name,
            None if same_voice_name(&voice, DEFAULT_VOICE) => DEFAULT_VOICE.to_owned(),
            None => {
                return Err(ServerError::Parameter {
                    parameter: "voice",
                    reason: format!(
                        "there is no voice {voice:?}; GET /v1/audio/voices lists those there are"
                    ),
                });
            }
        };
        let alias = voice_name(alias);
        if self.find(&alias)?.is_some() {
            return Err(ServerError::Parameter {
                parameter: "alias",
                reason: format!("there is a voice {alias:?}; choose another name"),
            });
        }
        self.aliases.set(&alias, &voice)
    }

    /// Renames an uploaded voice and the aliases' references to it. Blocks while files are changed.
    pub(crate) fn rename(
        &self,
        loaded: Option<&Loaded>,
        from: &str,
        to: &str,
    ) -> Result<VoiceEntry, ServerError> {
        let from = voice_name(from);
        let missing = || ServerError::NotFound {
            what: format!("an uploaded voice {from:?}"),
        };
        check_voice_name(&from).map_err(|_| missing())?;
        let voice = self.find(&from)?.ok_or_else(missing)?;
        let to = self.free_name(to)?;
        let store = self.store()?;
        if let Some(other) = self.find(&to)?.filter(|other| other.name != voice.name) {
            return Err(ServerError::Parameter {
                parameter: "name",
                reason: format!("there is a voice {:?} already", other.name),
            });
        }
        let renamed = store.rename(&voice.name, &to)?;
        for alias in self.aliases.list()? {
            if !alias.fixed && same_voice_name(&alias.voice, &voice.name) {
                self.aliases.set(&alias.alias, &renamed.name)?;
            }
        }
        if let Some(loaded) = loaded {
            loaded.voices.forget(&voice.name);
            loaded.voices.forget(&renamed.name);
        }
        Ok(VoiceEntry::new(renamed.name, Some(renamed.changed)))
    }

    /// Deletes an uploaded voice, in prepared form too; returns its name.
    pub(crate) fn remove(
        &self,
        loaded: Option<&Loaded>,
        name: &str,
    ) -> Result<String, ServerError> {
        let name = voice_name(name);
        let missing = || ServerError::NotFound {
            what: format!("an uploaded voice {name:?}"),
        };
        check_voice_name(&name).map_err(|_| missing())?;
        let voice = self.find(&name)?.ok_or_else(missing)?;
        let name = self
            .store()?
            .remove(&[voice.name])?
            .pop()
            .ok_or_else(missing)?;
        if let Some(loaded) = loaded {
            loaded.voices.forget(&name);
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::ServerMetrics;
    use sottovoce::{Engine, EngineOptions, Source};
    use std::sync::Arc;

    #[test]
    fn an_alias_stands_for_a_voice_that_is_there_and_takes_no_name_away() {
        let folder = tempfile::tempdir().unwrap();
        let voices = Voices::new(&ServerOptions {
            voices_directory: Some(folder.path().to_owned()),
            ..ServerOptions::default()
        });
        std::fs::write(folder.path().join("Me.safetensors"), b"voice").unwrap();
        assert!(voices.set_alias("alloy", "you").is_err(), "there is none");
        assert_eq!(voices.set_alias("alloy", "me").unwrap().voice, "Me");
        assert!(
            voices.set_alias("ME", "default").is_err(),
            "it is a voice's name"
        );
        assert!(voices.free_name("Alloy").is_err());
        let list = voices.list().unwrap();
        let ids: Vec<&str> = list.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["default", "Me", "alloy"]);
        assert_eq!(list[2].alias_of.as_deref(), Some("Me"));
    }

    #[test]
    fn a_voice_that_was_ready_does_not_outlive_its_model() {
        let load = || {
            let engine = Engine::load(Source::Embedded, EngineOptions::default()).unwrap();
            Loaded {
                number: 1,
                voices: ReadyVoices::default(),
                engine,
                metrics: Arc::new(ServerMetrics::new()),
            }
        };
        let voices = Voices::new(&ServerOptions::default());
        for loaded in [load(), load()] {
            for _ in 0..2 {
                let voice = voices.voice(&loaded, DEFAULT_VOICE).unwrap();
                let stream = loaded.engine.stream("Hi.", &voice, Default::default());
                stream.expect("a voice speaks with the model that has it");
            }
        }
    }

    #[test]
    fn without_a_folder_only_the_own_voice_is_listed() {
        let list = Voices::new(&ServerOptions::default()).list().unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].id, DEFAULT_VOICE);
    }
}
