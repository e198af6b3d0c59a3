//! A streaming Chatterbox text-to-speech engine that keeps a memory promise: say how much memory it
//! may use; it speaks within that.
//!
//! ```no_run
//! use sottovoce::{Engine, EngineOptions, Source, StreamOptions, VoiceSource};
//!
//! let options = EngineOptions { memory: Some(256 << 20), ..Default::default() };
//! let engine = Engine::load(Source::Embedded, options)?;
//! let voice = engine.voice(VoiceSource::Default)?;
//! for chunk in engine.stream("Every byte has an owner.", &voice, StreamOptions::default())? {
//!     let chunk = chunk?;
//!     println!("{} samples, RTF {:.2}", chunk.samples.len(), chunk.metrics.rtf);
//! }
//! # Ok::<(), sottovoce::Error>(())
//! ```
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | engine | a loaded model, its worker and its memory |
//! | worker | the thread that owns the model and advances every stream |
//! | stream, utterance | one text spoken in one voice, under way |
//! | voice change | a stream whose speech tokens come from a recording |
//! | listener | the thread that makes the speech tokens of a recording |
//! | chunk | a piece of a stream's samples, delivered at once |
//! | pass | one run of the flow: context, tokens to render, look-ahead |
//! | delivery | in chunks for somebody who listens, or whole for a file |
//! | plan | the memory of a model, computed before it is mapped |
//! | worst case | the most that a stream can hold; reserved at admission |
//! | place | the right to have one stream under way |
//! | queue | requests that wait for a place |
//! | steady state | between loading, admission and release: no driver calls |
//! | cache folder | converted weights and prepared voices on disk, found by content |
//! | ladder | the actions tried in order when memory is short |
//! | profile | how eagerly cached memory is released |
//! | RTF | real-time factor: seconds of work per second of speech |

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod accounts;
mod admission;
mod cache_folder;
mod chunking;
pub mod device;
mod engine;
mod error;
mod holdings;
mod listener;
mod loading;
mod manager;
mod metrics;
pub mod options;
mod pipeline;
mod plan;
mod post_process;
mod recorded_speech;
mod report;
mod scheduler;
mod stage;
mod stream;
pub mod subtitles;
mod system_memory;
pub mod text;
mod text_filter;
mod text_input;
mod text_stage;
mod voice;
mod voice_store;
pub mod watermark;
mod word_times;
mod worker;
mod workspaces;

pub use cache_folder::{CacheEntry, CacheFolder, CacheKind};
pub use engine::Engine;
pub use error::Error;
pub use loading::{default_flow_voice, inspect, open_model};
pub use metrics::{EngineMetrics, Histogram, HostPlan, MemoryPlan};
pub use options::{
    CachePrecision, DeliveryMode, DeviceChoice, EngineOptions, FirstSound, OptionTable,
    PrecisionChoice, Profile, SAMPLE_RATE, Source, StreamOptions, TEXT_CHARACTERS_MAX,
    TOKENS_PER_SECOND, WhenFull, default_chunk_size, parse_variant,
};
pub use pipeline::{Standalone, StandaloneUtterance};
pub use recorded_speech::RecordedSpeech;
pub use report::{
    ActionCount, HostReport, MemoryReport, OwnerBytes, ReasonCount, StreamReport, TimelineEntry,
};
pub use sottovoce_chatterbox::config::{ModelConfig, Variant};
pub use sottovoce_chatterbox::inspect::{Inspection, Part};
pub use sottovoce_memory::driver::Resident;
pub use sottovoce_memory::heap::{
    map_large_pieces as map_large_heap_pieces, release_unused as release_unused_heap,
};
pub use stream::{Canceller, Chunk, ChunkMetrics, Stream, read_in_turn};
pub use system_memory::{
    LimitedBy, MemoryLimit, ResidentMemory, SystemMemory, resident_bytes, resident_peak_bytes,
};
pub use text_input::TextWriter;
pub use voice::{DEFAULT_VOICE, Voice, VoiceSource};
pub use voice_store::{StoredVoice, VoiceStore, check_voice_name, same_voice_name, voice_name};
pub use word_times::WordTime;
