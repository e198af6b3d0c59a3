//! From files to weights: found by their checkpoint names, checked, converted while they are copied, tensor by tensor.
//!
//! [`Source`] is where weights come from: an official folder, a converted one, a single file, bytes within the program, or nothing at all
//! (seeded random weights for measurements). [`load`] runs a network's loading function twice: first without bytes, to learn what it
//! takes and whether all is there; then into one arena of exactly that size. Between two tensors the pages of the first are given back,
//! so that loading never holds much more than what stays.
//!
//! ```no_run
//! use sottovoce_chatterbox::weights::{Component, Source, load};
//! use sottovoce_memory::Memory;
//! use sottovoce_tensor::Precision;
//!
//! let source = Source::open("chatterbox-nano".as_ref())?;
//! let memory = Memory::host(2 << 30);
//! let loaded = load(&source, Component::SpeakerVector, Precision::F32, &memory, |loader| loader.vector("speaker_encoder.head.bn1.bias", 32))?;
//! println!("{} bytes", loaded.bytes);
//! # Ok::<(), sottovoce_chatterbox::weights::WeightsError>(())
//! ```

mod component;
mod convert;
mod error;
mod file;
mod loader;
mod mapped;
mod packed;
mod place;
mod source;
mod summary;
mod synthetic;

pub use component::Component;
pub use convert::{ComponentLoader, Converted, LAYOUT_VERSION, PackedKind, PackedTensor, convert};
pub use error::WeightsError;
pub use loader::{Conv1dSizes, Loaded, Loader, load, measure};
pub use source::Source;
pub use summary::{StoredSummary, Summaries, summarise_file};
