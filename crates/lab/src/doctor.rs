//! Diagnosis of this machine: its resources, the limits on the engine, and what fits; self-tests of
//! its devices.

mod figures;
mod self_test;
mod speech;
#[cfg(all(test, target_os = "linux"))]
mod tests;

pub use figures::{DeviceFigures, figures};
pub use self_test::{OperationCheck, self_test};
pub use speech::{SpeechCheck, speech_checks};

use serde::Serialize;
use sottovoce::{
    CachePrecision, Engine, EngineOptions, LimitedBy, MemoryLimit, PrecisionChoice, Source,
    SystemMemory, resident_bytes,
};
use sottovoce_memory::driver::cuda::{self, CudaDevice};
use sottovoce_tensor::cpu;

/// The machine from the engine's view. Sizes are bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Operating system and architecture.
    pub platform: String,
    /// Cores available to threads.
    pub cores: usize,
    /// Total memory; `None` if the system does not report it.
    pub memory_total_bytes: Option<u64>,
    /// Memory available without swapping and within every limit.
    pub memory_available_bytes: Option<u64>,
    /// Largest budget of an engine: available memory less the program's own.
    pub budget_max_bytes: Option<u64>,
    /// The strictest limit on this process, if it is below the machine's memory.
    pub memory_limit: Option<MemoryLimit>,
    /// Resident size of this process.
    pub resident_bytes: Option<u64>,
    /// Instruction sets that the kernels use on this machine.
    pub instruction_sets: Vec<&'static str>,
    /// CUDA devices, for the memory tools.
    pub cuda_devices: Vec<CudaDevice>,
    /// What is disabled or limited, and why.
    pub notes: Vec<String>,
}

/// Memory needs of a model at a precision, and the streams that fit a budget.
#[derive(Clone, Debug, Serialize)]
pub struct Fit {
    /// Precision of T3's weights.
    pub precision: PrecisionChoice,
    /// Bytes needed for one stream.
    pub one_stream_bytes: u64,
    /// Most bytes per further stream with a voice of its own and a 16-bit KV cache.
    pub further_stream_bytes: u64,
    /// The same with an 8-bit KV cache.
    pub further_stream_8_bit_bytes: u64,
    /// Streams that fit the budget, up to the default limit.
    pub streams_fit: usize,
}

/// For each precision, the streams of a model that fit a budget. Loads nothing.
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
        // Without a budget everything fits, so that the needs are known even where the budget is
        // too small.
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

/// Inspects the machine.
pub fn machine() -> Machine {
    let memory = SystemMemory::now();
    let instruction_sets = cpu::features();
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
    let found = cuda::devices().unwrap_or_else(|error| {
        notes.push(error.to_string());
        Vec::new()
    });
    let mut cuda_devices = Vec::with_capacity(found.len());
    for (ordinal, device) in found.into_iter().enumerate() {
        match device {
            Ok(device) => cuda_devices.push(device),
            Err(error) => notes.push(format!("CUDA device {ordinal}: {error}")),
        }
    }
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
