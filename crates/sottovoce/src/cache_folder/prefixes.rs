//! T3's keys and values of voices, kept where they cost more than reading them does.
//!
//! An entry is the page of a prefix, followed by its checksum.

use super::digest::{Digest, of_parts};
use super::{COMPUTATION_VERSION, CacheFolder, CacheKind, mark_used};
use sottovoce_chatterbox::t3::{KeyValueStore, Prefix, VoiceConditioning};
use sottovoce_chatterbox::weights::{Component, LAYOUT_VERSION, WeightSource};
use sottovoce_formats::output::OutputFile;
use sottovoce_formats::safetensors::checksum;
use sottovoce_memory::{OutOfMemory, Owner};
use sottovoce_tensor::{CachePrecision, Device, Precision};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Version of the pages' layout. Any change of the keys and values that T3 computes, by the order
/// of a sum too, must increase it or [`COMPUTATION_VERSION`].
const PREFIX_LAYOUT_VERSION: u32 = 2;
/// Shortest prefix that is kept, in positions: T3 computes a shorter one in no more than a few
/// steps' time.
const POSITIONS_MIN: usize = 64;

pub(super) const EXTENSION: &str = "pages";

/// The keys and values that one model's T3 computed for voices.
pub(crate) struct PrefixCache {
    folder: CacheFolder,
    /// Of all that a prefix depends on beside its voice.
    model: Digest,
}

impl CacheFolder {
    /// The prefixes of `source`'s T3 with weights at `precision` and a cache at `cache`, for voices
    /// of at most `positions` positions. `None` if such prefixes are not worth keeping, or cannot
    /// be kept.
    pub(crate) fn prefixes(
        &self,
        source: &WeightSource,
        precision: Precision,
        cache: CachePrecision,
        positions: usize,
        device: &dyn Device,
    ) -> Option<PrefixCache> {
        if positions < POSITIONS_MIN || !device.host_accessible() {
            return None;
        }
        self.make_room(CacheKind::Prefix, 0)?;
        let model = of_parts(&[
            b"prefix",
            env!("CARGO_PKG_VERSION").as_bytes(),
            &COMPUTATION_VERSION.to_le_bytes(),
            &LAYOUT_VERSION.to_le_bytes(),
            &PREFIX_LAYOUT_VERSION.to_le_bytes(),
            precision.to_string().as_bytes(),
            cache.to_string().as_bytes(),
            // Sums have other last bits on other instruction sets.
            device.name().as_bytes(),
            source.config().to_json().as_bytes(),
            &self.model_digest(source, &[Component::T3])?,
        ]);
        Some(PrefixCache {
            folder: self.clone(),
            model,
        })
    }
}

impl PrefixCache {
    /// The entry of a voice with so many `positions`; `None` if it is not worth keeping.
    pub fn entry(
        &self,
        voice: &VoiceConditioning<'_>,
        exaggeration: f32,
        positions: usize,
    ) -> Option<PrefixEntry<'_>> {
        if positions < POSITIONS_MIN {
            return None;
        }
        let key = of_parts(&[
            &self.model,
            &exaggeration.to_le_bytes(),
            bytemuck::cast_slice(voice.speaker_embedding),
            bytemuck::cast_slice(voice.prompt_tokens),
        ]);
        Some(PrefixEntry {
            folder: &self.folder,
            path: self.folder.entry(CacheKind::Prefix, &key, EXTENSION),
            positions,
        })
    }
}

/// Where a prefix is or will be kept.
pub(crate) struct PrefixEntry<'c> {
    folder: &'c CacheFolder,
    path: PathBuf,
    positions: usize,
}

/// The entry is missing or damaged, or memory is too short for it.
struct Unread;

impl From<OutOfMemory> for Unread {
    fn from(_: OutOfMemory) -> Unread {
        Unread
    }
}

impl From<io::Error> for Unread {
    fn from(_: io::Error) -> Unread {
        Unread
    }
}

impl PrefixEntry<'_> {
    /// The kept prefix, if it is there and whole and memory has room for it.
    pub fn read(&self, store: &KeyValueStore, owner: Owner) -> Option<Prefix> {
        let mut file = sottovoce_formats::file::open(&self.path).ok()?;
        let read = store.kept_prefix(owner, self.positions, |page| -> Result<(), Unread> {
            file.read_exact(page)?;
            let mut sum = [0; 4];
            file.read_exact(&mut sum)?;
            match u32::from_le_bytes(sum) == checksum(page) {
                true => Ok(()),
                false => Err(Unread),
            }
        });
        let prefix = read.ok()?;
        mark_used(&self.path);
        Some(prefix)
    }

    /// Keeps a prefix, if there is room.
    pub fn keep(&self, prefix: &Prefix) {
        let room = self
            .folder
            .make_room(CacheKind::Prefix, prefix.bytes() as u64);
        if room.is_some() && write(&self.path, prefix).is_ok() {
            self.folder.prune(CacheKind::Prefix);
        }
    }
}

fn write(path: &Path, prefix: &Prefix) -> io::Result<()> {
    let mut file = OutputFile::create(path)?;
    file.write_all(prefix.page())?;
    file.write_all(&checksum(prefix.page()).to_le_bytes())?;
    file.commit()
}
