//! Weights: found by their checkpoint names, checked, and converted while they are copied, tensor
//! by tensor.
//!
//! [`WeightSource`] is the origin of weights: an official folder, a converted one, a single file,
//! bytes within the program, or seeded random numbers for measurements. [`load`] runs a network's
//! loading function twice: first without bytes, to measure it and to check that all tensors exist,
//! then into one arena of exactly that size. The file pages of each tensor are released after it
//! was copied, so loading never holds much more than the result.
//!
//! ```no_run
//! use sottovoce_chatterbox::weights::{Component, WeightSource, load};
//! use sottovoce_memory::Memory;
//! use sottovoce_tensor::Precision;
//!
//! let source = WeightSource::open("chatterbox-nano".as_ref())?;
//! let memory = Memory::host(2 << 30);
//! let loaded = load(&source, Component::SpeakerVector, Precision::F32, &memory, |loader| {
//!     loader.vector("speaker_encoder.head.bn1.bias", 32)
//! })?;
//! println!("{} bytes", loaded.bytes);
//! # Ok::<(), sottovoce_chatterbox::weights::WeightsError>(())
//! ```

mod component;
mod convert;
mod error;
mod file;
mod layers;
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
pub use layers::Conv1dSizes;
pub use loader::{Loaded, Loader, dry, load, measure};
pub use source::{CONVERTED_FILE, WeightSource};
pub use summary::{StoredSummary, Summaries, summarise_file};
