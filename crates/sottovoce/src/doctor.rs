//! What this machine has, what limits the engine here, and what fits.

use crate::engine::Engine;
use crate::options::{CachePrecision, EngineOptions, PrecisionChoice, Source};
use crate::system_memory::{LimitedBy, MemoryLimit, SystemMemory, resident_bytes};
use serde::Serialize;
use sottovoce_memory::driver::cuda::{self, CudaDevice};

/// The machine as the engine sees it. Sizes are bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Operating system and architecture.
    pub platform: String,
    /// Cores that threads can run on.
    pub cores: usize,
    /// All memory; absent where the system does not tell.
    pub memory_total_bytes: Option<u64>,
    /// Memory that can be had without swapping and within every limit.
    pub memory_available_bytes: Option<u64>,
    /// What an engine may use at most: that, less what the program itself takes.
    pub budget_max_bytes: Option<u64>,
    /// The limit on this process that leaves the least, if there is one below what the machine has.
    pub memory_limit: Option<MemoryLimit>,
    /// This process now.
    pub resident_bytes: Option<u64>,
    /// Instruction sets that kernels use here.
    pub instruction_sets: Vec<&'static str>,
    /// CUDA devices, for the memory tools.
    pub cuda_devices: Vec<CudaDevice>,
    /// What is switched off or limited, and why.
    pub notes: Vec<String>,
}

/// What a model needs at a precision, and how much of it a budget holds.
#[derive(Clone, Debug, Serialize)]
pub struct Fit {
    /// Precision of T3's weights.
    pub precision: PrecisionChoice,
    /// What must be there for one stream.
    pub one_stream_bytes: u64,
    /// What each further stream adds at most, a voice of its own included, with 16-bit keys and
    /// values.
    pub further_stream_bytes: u64,
    /// The same with 8-bit keys and values.
    pub further_stream_8_bit_bytes: u64,
    /// Streams that the budget holds, up to the default most.
    pub streams_fit: usize,
}

/// For each precision, the streams of a model that fit a budget; nothing is loaded for it.
pub fn fits(source: &Source, budget_bytes: Option<u64>) -> Vec<Fit> {
    let precisions = [
        PrecisionChoice::F32,
        PrecisionChoice::F16,
        PrecisionChoice::Int8,
        PrecisionChoice::Q4,
    ];
    let fit = |precision| {
        let options = EngineOptions {
            precision,
            ..EngineOptions::default()
        };
        let one = EngineOptions {
            streams_max: 1,
            ..options.clone()
        };
        let one_8_bit = EngineOptions {
            key_value_precision: CachePrecision::Int8,
            ..one.clone()
        };
        // Without a budget everything fits, and the needs are known even where the budget is too
        // small.
        let need = Engine::plan_for(source, &one).ok()?;
        let need_8_bit = Engine::plan_for(source, &one_8_bit).ok()?;
        let within = EngineOptions {
            memory: budget_bytes,
            ..options
        };
        Some(Fit {
            precision,
            one_stream_bytes: need.total_bytes(1),
            further_stream_bytes: need.stream_bytes,
            further_stream_8_bit_bytes: need_8_bit.stream_bytes,
            streams_fit: Engine::plan_for(source, &within).map_or(0, |plan| plan.streams_fit),
        })
    };
    precisions.into_iter().filter_map(fit).collect()
}

/// Looks at the machine.
pub fn machine() -> Machine {
    let memory = SystemMemory::now();
    let instruction_sets = instruction_sets();
    let mut notes = Vec::new();
    if memory.total_bytes.is_none() {
        notes.push("the system does not tell its memory: set the option memory".into());
    }
    if let Some(MemoryLimit {
        by,
        bytes,
        left_bytes,
    }) = memory.limit
    {
        let who = match by {
            LimitedBy::ControlGroup => "a control group",
            LimitedBy::AddressSpace => "the shell (ulimit -v)",
        };
        notes.push(format!("{who} limits this process to {bytes} bytes and leaves {left_bytes}: a budget above that cannot be kept"));
    }
    if instruction_sets.is_empty() {
        notes.push(
            "no vector instructions that kernels know: portable code, many times slower".into(),
        );
    }
    let cuda_devices = cuda::devices().unwrap_or_else(|error| {
        notes.push(error.to_string());
        Vec::new()
    });
    for device in &cuda_devices {
        if let Some(reason) = device.ranges_off {
            let ordinal = device.ordinal;
            notes.push(format!(
                "expandable segments are off on CUDA device {ordinal}: {reason}"
            ));
        }
    }
    Machine {
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_total_bytes: memory.total_bytes,
        memory_available_bytes: memory.available_bytes,
        budget_max_bytes: memory.budget_max_bytes(),
        memory_limit: memory.limit,
        resident_bytes: resident_bytes(),
        instruction_sets,
        cuda_devices,
        notes,
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn instruction_sets() -> Vec<&'static str> {
    let known = [
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("f16c", std::is_x86_feature_detected!("f16c")),
        ("avxvnni", std::is_x86_feature_detected!("avxvnni")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ("avx512vnni", std::is_x86_feature_detected!("avx512vnni")),
    ];
    known
        .into_iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| name)
        .collect()
}

#[cfg(target_arch = "aarch64")]
fn instruction_sets() -> Vec<&'static str> {
    let dot_product = std::arch::is_aarch64_feature_detected!("dotprod");
    ["neon"]
        .into_iter()
        .chain(dot_product.then_some("dotprod"))
        .collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn instruction_sets() -> Vec<&'static str> {
    Vec::new()
}
