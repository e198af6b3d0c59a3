//! How an engine is loaded, as options of a command.

use crate::output::size::parse_bytes;
use crate::source::model_source;
use sottovoce::{
    CachePrecision, DeviceChoice, EngineOptions, PrecisionChoice, Profile, Source,
    parse_cache_precision,
};
use std::path::PathBuf;

/// The model, and what may be used for it.
#[derive(clap::Args)]
pub struct EngineChoice {
    /// pico (in this program), base, turbo, nano (once fetched), or a model's folder.
    #[arg(long, default_value = "pico")]
    pub model: String,
    /// Most memory to use, such as 512MiB or 1GiB.
    #[arg(long, value_parser = parse_bytes, value_name = "SIZE")]
    pub memory: Option<u64>,
    /// How eagerly memory goes back: aggressive, balanced, performance, automatic, none.
    #[arg(long, default_value = "automatic")]
    profile: Profile,
    /// How weights are kept: auto, f32, f16, int8, q4.
    #[arg(long, default_value = "auto")]
    precision: PrecisionChoice,
    /// Precision of T3's key-value cache: f32, f16 or int8; int8 halves a stream's memory against
    /// f16.
    #[arg(long, default_value = "f16", value_parser = parse_cache_precision)]
    cache_precision: CachePrecision,
    /// Threads for arithmetic.
    #[arg(long)]
    threads: Option<usize>,
    /// What computes: cpu, cuda, cuda:N (counted from 0), or auto: the first CUDA device if the
    /// model fits there, else the CPU. CUDA is experimental: it has not run on hardware yet.
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Mark all sound with Perth's watermark, whose weights are here.
    #[arg(long, value_name = "FILE.safetensors")]
    watermark: Option<PathBuf>,
}

impl EngineChoice {
    /// Where the weights come from.
    pub fn source(&self) -> Result<Source, String> {
        model_source(&self.model)
    }

    /// The engine's defaults with what was given in their place.
    pub fn options(&self) -> EngineOptions {
        EngineOptions {
            memory: self.memory,
            device: self.device,
            precision: self.precision,
            key_value_precision: self.cache_precision,
            profile: self.profile,
            threads: self.threads,
            watermark: self.watermark.clone(),
            ..EngineOptions::default()
        }
    }
}
