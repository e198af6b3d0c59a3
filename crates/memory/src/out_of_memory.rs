//! The error of an allocation that could not be had, with who holds what.

use crate::driver::{Driver, DriverError};
use crate::owner::OwnerUsage;
use crate::pool::{Pool, PoolRefusal, PoolStatistics, Refusal};
use crate::stats::Bytes;
use std::fmt;

/// How many owners an error names.
const OWNERS_SHOWN: usize = 5;

/// Why there is no memory. Only [`OutOfMemoryKind::NotNow`] is worth a retry after something was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutOfMemoryKind {
    /// More than the device has, or than the pool may ever hold.
    NeverFits,
    /// It would fit if others gave memory back.
    NotNow,
    /// The account that asked has used up what it was promised.
    OverAccount,
}

/// An allocation failed.
#[derive(Clone, Debug)]
pub struct OutOfMemory {
    /// Which of the three kinds.
    pub kind: OutOfMemoryKind,
    /// Bytes asked for.
    pub requested: u64,
    /// Bytes that were to be had.
    pub available: u64,
    /// The explanation in full.
    pub report: Box<OutOfMemoryReport>,
}

/// What is behind an [`OutOfMemory`].
#[derive(Clone, Debug, Default)]
pub struct OutOfMemoryReport {
    /// The message, worded as PyTorch words it where PyTorch has one.
    pub message: String,
    /// The five largest owners, largest first.
    pub owners: Vec<OwnerUsage>,
}

impl OutOfMemory {
    /// An error of any kind, such as an account's.
    pub fn new(
        kind: OutOfMemoryKind,
        requested: u64,
        available: u64,
        message: String,
    ) -> OutOfMemory {
        OutOfMemory {
            kind,
            requested,
            available,
            report: Box::new(OutOfMemoryReport {
                message,
                owners: Vec::new(),
            }),
        }
    }

    /// The same error with the largest of `owners`.
    pub fn with_owners(mut self, mut owners: Vec<OwnerUsage>) -> OutOfMemory {
        owners.retain(|known| known.live_bytes > 0);
        owners.truncate(OWNERS_SHOWN);
        self.report.owners = owners;
        self
    }

    /// The five largest owners, largest first.
    pub fn owners(&self) -> &[OwnerUsage] {
        &self.report.owners
    }

    /// A pool's refusal, explained in PyTorch's words.
    pub fn from_refusal(requested: u64, refusal: &PoolRefusal, pool: &Pool) -> OutOfMemory {
        let statistics = pool.statistics();
        let memory = pool.driver().memory();
        let allowed = pool.allowed_bytes();
        let held = statistics.reserved_bytes.all.current;
        let available = memory
            .free
            .min(allowed.map_or(u64::MAX, |allowed| allowed.saturating_sub(held)));
        let kind = match &refusal.refusal {
            Refusal::Driver(DriverError::Sealed { .. }) => OutOfMemoryKind::OverAccount,
            _ if refusal.segment_bytes > memory.total.min(allowed.unwrap_or(u64::MAX)) => {
                OutOfMemoryKind::NeverFits
            }
            Refusal::OverAllowed => OutOfMemoryKind::OverAccount,
            Refusal::Driver(_) => OutOfMemoryKind::NotNow,
        };
        let message = match &refusal.refusal {
            Refusal::OverAllowed | Refusal::Driver(DriverError::OutOfMemory { .. }) => {
                message(refusal.segment_bytes, pool.driver(), allowed, &statistics)
            }
            Refusal::Driver(error) => format!(
                "Tried to allocate {}: {error}",
                Bytes(refusal.segment_bytes)
            ),
        };
        OutOfMemory::new(kind, requested, available, message)
    }
}

/// PyTorch's message for a device.
fn message(
    tried: u64,
    driver: &dyn Driver,
    allowed: Option<u64>,
    statistics: &PoolStatistics,
) -> String {
    let memory = driver.memory();
    let (allocated, reserved) = (
        statistics.allocated_bytes.all.current,
        statistics.reserved_bytes.all.current,
    );
    let (subject, device) = match driver.name() {
        "host" => ("Host", "The host"),
        _ => ("CUDA", "GPU 0"),
    };
    let allowed = allowed
        .map(|allowed| format!("{} allowed; ", Bytes(allowed)))
        .unwrap_or_default();
    format!(
        "{subject} out of memory. Tried to allocate {}. {device} has a total capacity of {} of which {} is free. Including \
         non-PyTorch memory, this process has {} memory in use. {allowed}Of the allocated memory {} is allocated by PyTorch, and \
         {} is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try setting \
         PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for Memory Management  \
         (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)",
        Bytes(tried),
        Bytes(memory.total),
        Bytes(memory.free),
        Bytes(memory.total - memory.free),
        Bytes(allocated),
        Bytes(reserved - allocated),
    )
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.report.message)?;
        for (position, known) in self.report.owners.iter().enumerate() {
            let lead = if position == 0 {
                "\nLargest owners: "
            } else {
                ", "
            };
            write!(
                formatter,
                "{lead}{} {}",
                known.owner,
                Bytes(known.live_bytes)
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for OutOfMemory {}
