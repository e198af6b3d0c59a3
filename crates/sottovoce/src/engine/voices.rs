//! Voices of an engine: found, prepared from recordings, and placed in its memory.

use super::Engine;
use super::decoding::Decoding;
use crate::cache_folder::{CacheFolder, VoicePlaceholder};
use crate::device;
use crate::error::Error;
use crate::plan::network_bytes;
use crate::voice::{DEFAULT_VOICE, Voice, VoiceParts, VoiceSource};
use crate::voice_store::{VoiceStore, same_voice_name};
use sottovoce_chatterbox::config::Variant;
use sottovoce_chatterbox::voice::{
    Preparer, check_recording, decoded_bytes_max, recording_bytes_max, recording_options,
};
use sottovoce_chatterbox::weights::Component;
use sottovoce_formats::audio::{AudioError, DecodeOptions, Recording, decode, decode_file};
use sottovoce_formats::file;
use sottovoce_memory::stats::Bytes;
use sottovoce_tensor::Device;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Engine {
    /// Prepares a voice. One from a recording's file is kept in the cache folder, if the engine has
    /// one.
    ///
    /// # Errors
    /// If the voice is unknown, or its file or recording cannot be used with this model.
    pub fn voice(&self, source: VoiceSource) -> Result<Voice, Error> {
        let shared = &self.handle.shared;
        match source {
            VoiceSource::Default => shared.default_voice.clone().ok_or_else(|| Error::Voice {
                name: "default".into(),
                reason: "the model's folder has none (voice.safetensors or conds.pt): give a recording or a prepared voice".into(),
            }),
            VoiceSource::Name(name) => match self.voice_file(&name) {
                Err(_) if same_voice_name(&name, DEFAULT_VOICE) => self.voice(VoiceSource::Default),
                file => self.prepared_voice(&file?),
            },
            VoiceSource::Prepared(path) => self.prepared_voice(&path),
            VoiceSource::Clip(path) => {
                let folder = CacheFolder::of_option(self.options().cache_dir.as_deref());
                let place = folder.and_then(|folder| folder.voice(&shared.model, &path));
                let config = shared.model.config();
                if let Some(prepared) = place.as_ref().and_then(|place| place.read(config)) {
                    return self.keep_voice(VoiceParts {
                        name: path.display().to_string(),
                        prepared,
                        config: Some(Arc::new(config.clone())),
                        may_be_kept: true,
                    });
                }
                self.voice_of_file(&path, place)
            }
            VoiceSource::ClipBytes { name, bytes } => {
                let file_bytes = bytes.len() as u64;
                self.voice_of_clip(name, None, file_bytes, |options| decode(&bytes, options))
            }
        }
    }

    /// Prepares a voice from a recording's file, of which nothing is kept.
    ///
    /// # Errors
    /// As [`voice`](Self::voice).
    pub fn fresh_voice(&self, clip: &Path) -> Result<Voice, Error> {
        self.voice_of_file(clip, None)
    }

    fn voice_of_file(&self, clip: &Path, place: Option<VoicePlaceholder>) -> Result<Voice, Error> {
        let file = file::open(clip).map_err(|source| Error::file(clip, source))?;
        let metadata = file.metadata();
        let file_bytes = metadata.map_err(|source| Error::file(clip, source))?.len();
        let name = clip.display().to_string();
        self.voice_of_clip(name, place, file_bytes, |options| {
            decode_file(file, options)
        })
    }

    fn prepared_voice(&self, path: &Path) -> Result<Voice, Error> {
        self.keep_voice(VoiceParts::read(path, self.handle.shared.model.config())?)
    }

    /// Places a voice in the engine's memory if the budget has room for it beside the streams.
    fn keep_voice(&self, parts: VoiceParts) -> Result<Voice, Error> {
        let shared = &self.handle.shared;
        let bytes = parts.bytes();
        let place = shared.accounts.voice(bytes).map_err(|error| {
            let budget_bytes = match shared.accounts.host() {
                Some(_) => shared.host_budget_bytes,
                None => shared.budget_bytes,
            };
            let budget_bytes = budget_bytes.unwrap_or(u64::MAX);
            let missing = error.requested.saturating_sub(error.available);
            Error::Budget {
                budget_bytes,
                needed_bytes: budget_bytes.saturating_add(missing),
                plan: format!("voice {:?} takes {}", parts.name, Bytes(bytes)),
                hint: Some("let go of voices that nobody speaks with".into()),
            }
        })?;
        let _open = shared.holdings.open();
        let home = Arc::downgrade(&shared.holdings);
        Ok(parts.keep(shared.holdings.host(), Some(place), home)?)
    }

    /// A variation of `voice` with a slightly changed speaker, deterministic in `seed`: for trying
    /// many voices.
    ///
    /// # Errors
    /// If the budget has no room for another voice.
    pub fn varied_voice(&self, voice: &Voice, seed: u64) -> Result<Voice, Error> {
        self.keep_voice(VoiceParts::varied(voice, seed))
    }

    /// Decodes a recording of `file_bytes` bytes, loads the networks that prepare voices, and
    /// releases them at the end. The result is kept at `place`. Waits while another recording
    /// becomes a voice.
    fn voice_of_clip(
        &self,
        name: String,
        place: Option<VoicePlaceholder>,
        file_bytes: u64,
        decode: impl FnOnce(&DecodeOptions) -> Result<Recording, AudioError>,
    ) -> Result<Voice, Error> {
        let shared = &self.handle.shared;
        let config = shared.model.config();
        let failed = |reason: String| Error::Voice {
            name: name.clone(),
            reason,
        };
        if config.variant == Variant::Pico {
            return Err(failed("the embedded model speaks with its own voice only; base, turbo and nano take voices from recordings".into()));
        }
        let host = device::host(self.options().threads.unwrap_or(0));
        let preparer = self.preparer()?;
        let recording_bytes = recording_bytes_max(config, file_bytes);
        let mut decoding = Decoding::begin(
            shared,
            recording_bytes,
            self.preparing_bytes(&preparer, &*host)?,
        )?;
        let recording =
            decode(&recording_options(config)).map_err(|error| failed(error.to_string()))?;
        check_recording(&recording, config).map_err(|error| failed(error.to_string()))?;
        decoding.shrink_to(decoded_bytes_max(&recording));
        let opening = shared.holdings.open();
        let prepared = preparer.prepare(&*host, &recording);
        drop(opening);
        drop(recording);
        drop(decoding);
        let prepared = prepared.map_err(|error| {
            Error::hearing(shared.model.name(), error, |error| {
                failed(error.to_string())
            })
        })?;
        let is_whole = preparer.prepares_speech();
        let may_be_kept = place.is_some();
        if let Some(place) = place.filter(|_| is_whole) {
            place.keep(&prepared, config);
        }
        self.keep_voice(VoiceParts {
            name,
            prepared,
            config: is_whole.then(|| Arc::new(config.clone())),
            may_be_kept,
        })
    }

    /// Most bytes that the networks take at once while they prepare a voice from a recording,
    /// beside the recording: they are loaded one after the other.
    ///
    /// # Errors
    /// If the model lacks one of them.
    pub fn preparation_bytes(&self) -> Result<u64, Error> {
        let host = device::host(self.options().threads.unwrap_or(0));
        self.preparing_bytes(&self.preparer()?, &*host)
    }

    fn preparing_bytes(&self, preparer: &Preparer<'_>, host: &dyn Device) -> Result<u64, Error> {
        let shared = &self.handle.shared;
        if let Some(bytes) = shared.preparing_bytes.get() {
            return Ok(*bytes);
        }
        let plans = (preparer.plans(host)).map_err(|error| {
            let name = shared.model.name();
            Error::hearing(name, error, |error| Error::model(name, error))
        })?;
        let bytes = plans.iter().map(network_bytes).max().unwrap_or(0);
        Ok(*shared.preparing_bytes.get_or_init(|| bytes))
    }

    fn preparer(&self) -> Result<Preparer<'_>, Error> {
        let (model, memory) = (
            &self.handle.shared.model,
            self.handle.shared.holdings.host(),
        );
        let preparer = match self.options().speech || model.holds(Component::VoiceEncoder) {
            true => Preparer::new(model, memory),
            false => Preparer::of_sound(model, memory),
        };
        preparer.map_err(|error| Error::weights(model.name(), error))
    }

    fn voice_file(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.handle.shared.requests().options.voices.clone();
        let folder = folder.ok_or_else(|| Error::Voice {
            name: name.to_owned(),
            reason: "no folder of voices was set".into(),
        })?;
        Ok(VoiceStore::new(folder).find(name)?.path)
    }
}
