//! Options, with the reference's names where it has them.
//!
//! Each option is one entry of [`EngineOptions`] or [`StreamOptions`]: help, name, type, default,
//! domain, scope, unit, and the capability without which it has no effect. Command line, HTTP,
//! OpenAPI, page, Python and the reference page `docs/configuration.md` are generated from these
//! tables ([`OptionTable::DESCRIPTIONS`]); no interface repeats a range, a default or a help text.
//!
//! ```
//! use sottovoce::options::{OptionTable, Scope, Value};
//! use sottovoce::StreamOptions;
//!
//! let mut options = StreamOptions::default();
//! options.set("speed", &Value::from("1.5"))?;
//! assert_eq!(options.speed, 1.5);
//! let options = StreamOptions::DESCRIPTIONS.iter();
//! for option in options.filter(|option| option.scope == Scope::Stream) {
//!     println!("{}: {} ({})", option.name, option.help(), option.domain.description());
//! }
//! # Ok::<(), sottovoce::Error>(())
//! ```

mod capability;
mod choices;
mod engine;
mod stream;
#[doc(hidden)]
pub mod table;
mod value;

pub use capability::{Capabilities, Capability};
pub use choices::{DeliveryMode, DeviceChoice, FirstSound, PrecisionChoice, WhenFull};
pub use engine::EngineOptions;
#[doc(hidden)]
pub use serde;
pub use serde_json::Value;
pub use sottovoce_chatterbox::config::LetterCase;
pub use sottovoce_chatterbox::text::{Normalise, Unreadable};
pub use sottovoce_memory::policy::MemoryProfile as Profile;
pub use sottovoce_tensor::CachePrecision;
pub use stream::StreamOptions;
pub use table::{Domain, OptionDescription, OptionTable, Scope};
pub use value::{Choice, OptionValue};

use crate::error::Error;
use sottovoce_chatterbox::config::{FlowSolver, ModelConfig, Variant};
use std::fmt;
use std::path::PathBuf;

/// Sample rate of all speech, in Hz.
pub const SAMPLE_RATE: u32 = 24_000;
/// Speech tokens a second.
pub const TOKENS_PER_SECOND: u32 = 25;
/// Samples of one speech token.
pub(crate) const SAMPLES_PER_TOKEN: usize = (SAMPLE_RATE / TOKENS_PER_SECOND) as usize;
/// The longest text of one stream, in characters: more than an hour of speech.
pub const TEXT_CHARACTERS_MAX: usize = 100_000;

/// Default chunk size of a model in speech tokens, after the first chunks.
///
/// Each chunk recomputes the voice's prompt and some context. A larger chunk therefore costs less
/// per second of sound, but needs a larger workspace. With two mean-flow steps, 3 s take little
/// longer than 1 s; with ten guided steps, 6 s pay off.
pub fn default_chunk_size(config: &ModelConfig) -> usize {
    match config.flow.solver {
        FlowSolver::MeanFlow { .. } => 75,
        FlowSolver::Euler { .. } => 150,
    }
}

const CHUNK_SIZES: Domain = Domain::count(1, 250);
const CONTEXT_WINDOWS: Domain = Domain::count(0, 500);
/// Most speech tokens that T3 generates for one sentence.
const WHOLE_TOKENS: Domain = Domain::count(0, 1000);

/// Parses the name of a full-size variant.
///
/// # Errors
/// [`Error::Option`] for any other word.
pub fn parse_variant(text: &str) -> Result<Variant, Error> {
    match text {
        "base" => Ok(Variant::Base),
        "flash" => Ok(Variant::Flash),
        "multilingual" => Ok(Variant::Multilingual),
        "turbo" => Ok(Variant::Turbo),
        "nano" => Ok(Variant::Nano),
        _ => Err(Error::option(
            "synthetic",
            text,
            "use base, flash, multilingual, turbo or nano",
        )),
    }
}

/// Source of a model's weights.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The embedded small voice.
    Embedded,
    /// A folder with the official layout, or written by `convert`; T3's file in a folder with
    /// several models.
    Directory(PathBuf),
    /// Full-size random weights, for measurements of memory and time.
    Synthetic(Variant),
    /// Random weights of the given sizes.
    Random(Box<ModelConfig>),
    /// A model with the S3Gen and the vocoder of another one.
    Paired {
        /// The model that makes speech tokens.
        model: Box<Source>,
        /// The model whose sound is taken.
        sound: Box<Source>,
    },
}

impl Source {
    /// Whether the weights that make speech tokens are random numbers.
    pub fn is_random(&self) -> bool {
        match self {
            Source::Synthetic(_) | Source::Random(_) => true,
            Source::Embedded | Source::Directory(_) => false,
            Source::Paired { model, .. } => model.is_random(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Embedded => formatter.write_str("pico"),
            Source::Directory(folder) => write!(formatter, "{}", folder.display()),
            Source::Synthetic(variant) => write!(formatter, "synthetic {variant}"),
            Source::Random(config) => write!(formatter, "random {}", config.variant),
            Source::Paired { model, sound } => {
                write!(formatter, "{model} with the sound of {sound}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_their_own_check() {
        StreamOptions::default().check().unwrap();
        EngineOptions::default().check().unwrap();
    }

    #[test]
    fn an_engine_refuses_absurd_sizes_by_name() {
        let default = EngineOptions::default;
        for (option, options) in [
            (
                "threads",
                EngineOptions {
                    threads: Some(100_000),
                    ..default()
                },
            ),
            (
                "streams_max",
                EngineOptions {
                    streams_max: usize::MAX,
                    ..default()
                },
            ),
            (
                "chunk_tokens_max",
                EngineOptions {
                    chunk_tokens_max: Some(usize::MAX),
                    ..default()
                },
            ),
            (
                "context_tokens_max",
                EngineOptions {
                    context_tokens_max: 501,
                    ..default()
                },
            ),
        ] {
            let refusal = crate::Engine::load(Source::Embedded, options).err();
            let message = refusal.map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains(option), "{message:?} must name {option}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let cases: [(&str, StreamOptions); 8] = [
            (
                "temperature",
                StreamOptions {
                    temperature: Some(-0.1),
                    ..Default::default()
                },
            ),
            (
                "exaggeration",
                StreamOptions {
                    exaggeration: Some(f32::NAN),
                    ..Default::default()
                },
            ),
            (
                "top_p",
                StreamOptions {
                    top_p: Some(1.5),
                    ..Default::default()
                },
            ),
            (
                "chunk_size",
                StreamOptions {
                    chunk_size: Some(0),
                    ..Default::default()
                },
            ),
            (
                "prompt_tokens",
                StreamOptions {
                    prompt_tokens: Some(1001),
                    ..Default::default()
                },
            ),
            (
                "flow_steps",
                StreamOptions {
                    flow_steps: Some(0),
                    ..Default::default()
                },
            ),
            (
                "flow_guided_steps",
                StreamOptions {
                    flow_guided_steps: Some(101),
                    ..Default::default()
                },
            ),
            (
                "buffered_chunks_max",
                StreamOptions {
                    buffered_chunks_max: 0,
                    ..Default::default()
                },
            ),
        ];
        for (option, options) in cases {
            let message = options.check().unwrap_err().to_string();
            assert!(message.contains(option), "{message} must name {option}");
        }
    }
}
