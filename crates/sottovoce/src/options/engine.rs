//! Options of an engine.

use super::{
    CHUNK_SIZES, CONTEXT_WINDOWS, CachePrecision, DeviceChoice, Domain, PrecisionChoice, Profile,
    WHOLE_TOKENS, default_chunk_size,
};
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_tensor::Threads;
use std::path::PathBuf;

/// Streams for whose steps one workspace can be planned.
const STREAMS_MAX: u64 = 4096;
/// Streams that may wait in a queue.
const WAITING_MAX: u64 = 1 << 20;
/// Most chunks between two looks at the cache.
const CACHE_INTERVAL_MAX: u64 = 100_000;

crate::options! {
    /// Choices for a whole engine.
    pub struct EngineOptions {
        /// Most memory to use; a device with memory of its own counts only that.
        memory: Option<u64> = None, unset "what the system has for the process",
            domain Domain::Bytes, scope Engine;
        /// Most memory of the host for voices, and for samples on their way to readers.
        host_memory: Option<u64> = None, unset "what the system has for the process",
            domain Domain::Bytes, scope Engine, needs DeviceMemory;
        /// Device that computes; `auto` is the first CUDA device if the model fits there, else the
        /// CPU. CUDA is experimental: it has run on an NVIDIA H200 only.
        device: DeviceChoice = DeviceChoice::Cpu,
            domain Domain::Text { form: "cpu, cuda, cuda:N (counted from 0) or auto" },
            scope Engine;
        /// Precision of the weights; `auto` is the finest that fits the memory.
        precision: PrecisionChoice = PrecisionChoice::Auto,
            domain Domain::choice::<PrecisionChoice>(), scope Engine;
        /// Precision of T3's key-value cache; int8 halves a stream's memory against f16.
        key_value_precision: CachePrecision = CachePrecision::F16,
            domain Domain::choice::<CachePrecision>(), scope Engine;
        /// Model whose S3Gen and vocoder make the sound; base with turbo's needs a tenth of the
        /// flow's work. Nobody has listened to it with the official weights yet.
        sound: Option<PathBuf> = None, unset "the model's own",
            domain Domain::Folder, scope Engine;
        /// How eagerly cached memory is released; `automatic` goes by the size of the memory.
        profile: Profile = Profile::Automatic,
            domain Domain::choice::<Profile>(), scope Engine;
        /// Chunks between two looks at the cache; 0 leaves it to the profile.
        cache_interval: Option<u32> = None, unset "the profile's",
            domain Domain::count(0, CACHE_INTERVAL_MAX), scope Engine, unit "chunks";
        /// Whether the memory's timeline is recorded.
        enable_monitoring: bool = true, domain Domain::Switch, scope Engine;
        /// Threads for arithmetic; 0 takes all.
        threads: Option<usize> = None, unset "one a core",
            domain Domain::count(0, Threads::COUNT_MAX as u64), scope Engine;
        /// Weights of Perth's watermark: with them all sound is marked, a quarter of a second
        /// later.
        watermark: Option<PathBuf> = None, unset "no watermark",
            domain Domain::File, scope Engine;
        /// Program that changes each text before it is read, such as one that adds vowel points: it
        /// takes a line of JSON with text and language, and answers with a line.
        text_filter: Option<PathBuf> = None, unset "texts stay as they are",
            domain Domain::File, scope Engine;
        /// Folder in which converted weights and voices prepared from recordings are kept, so that
        /// the next start need not compute them; empty for none.
        cache_dir: Option<PathBuf> = None, unset "the user's cache folder",
            domain Domain::Folder, scope Engine;
        /// Streams that may be under way together; fewer where the memory holds fewer.
        streams_max: usize = 8, domain Domain::count(0, STREAMS_MAX), scope Server, unit "streams";
        /// Most speech tokens in a chunk of any stream: the workspace is planned for it.
        chunk_tokens_max: Option<usize> = None, unset "the model's chunk size",
            domain CHUNK_SIZES, scope Server, unit "speech tokens";
        /// Most speech tokens before a chunk that any stream's synthesis sees again.
        context_tokens_max: usize = 50,
            domain CONTEXT_WINDOWS, scope Server, unit "speech tokens";
        /// Speech tokens that one pass of the flow takes of streams that are delivered whole: fewer
        /// where the memory holds fewer, and never fewer than chunks need in any case.
        whole_tokens_max: Option<usize> = None, unset "what chunks need in any case",
            domain WHOLE_TOKENS, scope Server, unit "speech tokens";
        /// Streams that may wait for a place.
        waiting_max: usize = 64, domain Domain::count(0, WAITING_MAX), scope Program, unit "streams";
        /// Whether texts can be spoken; without it T3 is not loaded, and the engine only changes
        /// the voices of recordings.
        speech: bool = true, domain Domain::Switch, scope Program;
        /// Folder of named voices.
        voices: Option<PathBuf> = None, unset "no named voices",
            domain Domain::Folder, scope Program;
    }
}

impl EngineOptions {
    /// Most speech tokens in a chunk with this model.
    pub(crate) fn chunk_tokens(&self, config: &ModelConfig) -> usize {
        self.chunk_tokens_max
            .unwrap_or_else(|| default_chunk_size(config))
    }
}
