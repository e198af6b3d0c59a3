//! Opening of devices: the only module that names their kinds.

use crate::error::Error;
use crate::options::DeviceChoice;
use sottovoce_memory::driver::cuda::{self, CudaContext, CudaDriver};
use sottovoce_memory::driver::{ADDRESS_SPACE_BYTES, DeviceMemory, Driver, HostDriver};
use sottovoce_memory::stats::Bytes;
use sottovoce_memory::{Memory, PoolConfiguration};
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::cuda::{Cuda, CudaOpenError};
use sottovoce_tensor::{Device, Threads};
use std::sync::Arc;

/// An open device and the memory in which it computes.
pub struct Opened {
    /// The device's kind; never `Auto`.
    pub choice: DeviceChoice,
    /// The device.
    pub device: Arc<dyn Device>,
    /// The device's memory.
    pub memory: Memory,
    /// Budget in its memory, in bytes; `None` if none was set and the system reports no limit.
    pub budget_bytes: Option<u64>,
    /// The CUDA context of a CUDA device.
    pub context: Option<Arc<CudaContext>>,
}

/// Wraps a driver in another one.
pub type Cover<'a> = &'a mut dyn FnMut(Box<dyn Driver>) -> Box<dyn Driver>;

/// Opens a device with a budget of `budget_bytes`, or of all free memory. Work on the host runs on
/// `threads` threads; 0 takes one per core. `Auto` opens the first CUDA device that can compute, or
/// else the CPU.
///
/// # Errors
/// If the machine has no such device, the budget exceeds its memory, or its memory is too small for
/// the kernels.
pub fn open(
    choice: DeviceChoice,
    threads: usize,
    budget_bytes: Option<u64>,
) -> Result<Opened, Error> {
    open_covered(choice, threads, budget_bytes, &mut |driver| driver)
}

/// As [`open`], with a wrapper around the driver of the device's memory.
///
/// # Errors
/// As [`open`].
pub fn open_covered(
    choice: DeviceChoice,
    threads: usize,
    budget_bytes: Option<u64>,
    cover: Cover<'_>,
) -> Result<Opened, Error> {
    match choice {
        DeviceChoice::Cpu => {
            let driver = HostDriver::new(budget_bytes.unwrap_or(ADDRESS_SPACE_BYTES));
            let driver = cover(Box::new(driver));
            Ok(Opened {
                choice,
                device: host(threads),
                memory: Memory::with_driver(driver, PoolConfiguration::default()),
                budget_bytes,
                context: None,
            })
        }
        DeviceChoice::Cuda(ordinal) => open_cuda(ordinal, budget_bytes, cover),
        DeviceChoice::Auto => {
            let cards = 0..cuda::device_count().unwrap_or(0);
            let first = { cards }.find_map(|card| open_cuda(card, budget_bytes, cover).ok());
            match first {
                Some(opened) => Ok(opened),
                None => open_covered(DeviceChoice::Cpu, threads, budget_bytes, cover),
            }
        }
    }
}

fn open_cuda(ordinal: u32, budget_bytes: Option<u64>, cover: Cover<'_>) -> Result<Opened, Error> {
    let driver = CudaDriver::open(ordinal, budget_bytes)?;
    let context = Arc::clone(driver.context());
    context.can_compute()?;
    let DeviceMemory { free, total } = context.device_memory()?;
    if let Some(budget_bytes) = budget_bytes.filter(|&bytes| bytes > total) {
        let reason = format!(
            "cuda:{ordinal} has {} ({total} bytes), of which {} are free; give at most that",
            Bytes(total),
            Bytes(free)
        );
        let budget = format!("{} ({budget_bytes} bytes)", Bytes(budget_bytes));
        return Err(Error::option("memory", budget, reason));
    }
    // Memory that other processes hold is unavailable; memory that the driver took for this process
    // counts against the budget.
    let within = free + driver.own_bytes();
    let budget_bytes = budget_bytes.map_or(within, |budget| budget.min(within));
    let memory = Memory::with_driver(cover(Box::new(driver)), PoolConfiguration::default());
    let device = Cuda::open(&context, &memory).map_err(|error| match error {
        CudaOpenError::Cuda(error) => Error::Cuda(error),
        CudaOpenError::OutOfMemory(refusal) => {
            let more = refusal.requested.next_multiple_of(memory.unit_bytes());
            let needed_bytes = context.driver_bytes().total() + more;
            Error::Budget {
                budget_bytes,
                needed_bytes,
                plan: "the device itself, before any model".to_owned(),
                hint: Some(format!(
                    "give more; cuda:{ordinal} has {} free: end other programs that use it, or let the CPU speak (device cpu)",
                    Bytes(free)
                )),
            }
        }
    })?;
    Ok(Opened {
        choice: DeviceChoice::Cuda(ordinal),
        device: Arc::new(device),
        memory,
        budget_bytes: Some(budget_bytes),
        context: Some(context),
    })
}

/// The CPU device, for work that stays on the host whatever the main device is.
pub fn host(threads: usize) -> Arc<dyn Device> {
    Arc::new(Cpu::new(Threads::new(threads)))
}
