//! Where a model is computed: the one place that names devices.

mod self_test;
#[cfg(all(test, target_os = "linux"))]
mod tests;

pub use self_test::{OperationCheck, self_test};

use crate::error::Error;
use crate::options::DeviceChoice;
use sottovoce_memory::driver::Driver;
use sottovoce_memory::driver::cuda::CudaDriver;
use sottovoce_memory::{Memory, PoolConfiguration};
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::cuda::{Cuda, CudaOpenError};
use sottovoce_tensor::{Device, Threads};
use std::sync::Arc;

/// What the address space can hold: without a budget only the system says no.
pub(crate) const NO_BUDGET_BYTES: u64 = 1 << 46;

/// A device and the memory in which it computes.
pub struct Opened {
    /// The device.
    pub device: Arc<dyn Device>,
    /// Its memory.
    pub memory: Memory,
    /// Bytes of its memory that may be used; none where no budget was given and the system does not
    /// tell.
    pub budget_bytes: Option<u64>,
}

/// Opens a device, of whose memory `budget_bytes` may be used: all that is free without it.
/// `threads` of the host share its work, 0 takes as many as the machine can run at once. `Auto`
/// opens the first CUDA device where there is one that computes.
///
/// # Errors
/// If this machine does not have it, or it has too little memory for what computing itself needs.
pub fn open(
    choice: DeviceChoice,
    threads: usize,
    budget_bytes: Option<u64>,
) -> Result<Opened, Error> {
    match choice {
        DeviceChoice::Cpu => Ok(Opened {
            device: host(threads),
            memory: Memory::host(budget_bytes.unwrap_or(NO_BUDGET_BYTES)),
            budget_bytes,
        }),
        DeviceChoice::Cuda(ordinal) => cuda(ordinal, budget_bytes),
        DeviceChoice::Auto => {
            cuda(0, budget_bytes).or_else(|_| open(DeviceChoice::Cpu, threads, budget_bytes))
        }
    }
}

fn cuda(ordinal: u32, budget_bytes: Option<u64>) -> Result<Opened, Error> {
    let driver = CudaDriver::open(ordinal, budget_bytes)?;
    let context = Arc::clone(driver.context());
    context.can_compute()?;
    // What others hold on the card cannot be had; what the driver took for this program counts as
    // used.
    let within = driver.memory().free + driver.own_bytes();
    let budget_bytes = budget_bytes.map_or(within, |budget| budget.min(driver.memory().total));
    let memory = Memory::with_driver(Box::new(driver), PoolConfiguration::default());
    let device = Cuda::open(&context, &memory)?;
    Ok(Opened {
        device: Arc::new(device),
        memory,
        budget_bytes: Some(budget_bytes),
    })
}

/// What computes on the host: for what stays there whatever device speaks.
pub(crate) fn host(threads: usize) -> Arc<dyn Device> {
    Arc::new(Cpu::new(Threads::new(threads)))
}

impl From<CudaOpenError> for Error {
    fn from(error: CudaOpenError) -> Error {
        match error {
            CudaOpenError::Cuda(error) => Error::Cuda(error),
            CudaOpenError::OutOfMemory(error) => Error::OutOfMemory(error),
        }
    }
}
