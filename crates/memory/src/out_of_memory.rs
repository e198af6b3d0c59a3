//! The error of a failed allocation, with the largest owners of memory.

use crate::driver::{Driver, DriverError};
use crate::owner::OwnerUsage;
use crate::pool::{Pool, PoolRefusal, PoolStatistics, Refusal};
use crate::stats::Bytes;
use std::fmt;

/// Number of owners named in an error.
const OWNERS_SHOWN: usize = 5;

/// Why an allocation failed. Only [`OutOfMemoryKind::NotNow`] is worth a retry after something was
/// released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutOfMemoryKind {
    /// More than the device has, or than the pool may ever hold.
    NeverFits,
    /// The request would fit if others released memory.
    NotNow,
    /// The account has used up its reservation.
    OverAccount,
}

/// An allocation failed.
#[derive(Clone, Debug)]
pub struct OutOfMemory {
    /// Why it failed.
    pub kind: OutOfMemoryKind,
    /// Bytes requested.
    pub requested: u64,
    /// Bytes available.
    pub available: u64,
    /// The full explanation.
    pub report: Box<OutOfMemoryReport>,
}

/// Details of an [`OutOfMemory`].
#[derive(Clone, Debug, Default)]
pub struct OutOfMemoryReport {
    /// The message, in PyTorch's wording where PyTorch has one.
    pub message: String,
    /// The five largest owners, largest first.
    pub owners: Vec<OwnerUsage>,
}

impl OutOfMemory {
    /// An error of any kind, such as that of an account.
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

    /// The error for a pool's refusal, in PyTorch's wording.
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

/// PyTorch's message for a device. PyTorch has none for the host; that message has the same
/// figures.
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
    let kept = Bytes(reserved - allocated);
    let (tried_text, free, total) = (Bytes(tried), Bytes(memory.free), Bytes(memory.total));
    let allocated = Bytes(allocated);
    if driver.name() == "host" {
        let why = match allowed {
            _ if tried > memory.free => format!("{free} of {total} are free"),
            Some(allowed) if tried > allowed.saturating_sub(reserved) => {
                format!("{} are allowed, and {} held", Bytes(allowed), Bytes(reserved))
            }
            _ => "the system refused it: other programs use the rest, or a limit applies to this process".to_owned(),
        };
        return format!(
            "Host out of memory. Tried to allocate {tried_text}: {why}. {allocated} are in use here and {kept} kept for reuse."
        );
    }
    let allowed = allowed
        .map(|allowed| format!("{} allowed; ", Bytes(allowed)))
        .unwrap_or_default();
    let used = Bytes(memory.total - memory.free);
    format!(
        "CUDA out of memory. Tried to allocate {tried_text}. GPU 0 has a total capacity of {total} of which {free} is free. Including \
         non-PyTorch memory, this process has {used} memory in use. {allowed}Of the allocated memory {allocated} is allocated by PyTorch, and \
         {kept} is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try setting \
         PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for Memory Management  \
         (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)",
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

#[cfg(test)]
mod tests {
    use crate::{Memory, Owner, Region};

    #[test]
    fn the_hosts_message_says_what_is_free_and_names_no_pytorch_option() {
        let memory = Memory::host(8 << 20);
        let owner = Owner::new(Region::Staging, "test");
        let held = memory.allocate(1 << 20, owner).unwrap();
        let message = memory.allocate(7 << 20, owner).unwrap_err().to_string();
        assert!(
            message.starts_with("Host out of memory. Tried to allocate "),
            "{message}"
        );
        assert!(
            message.contains("6.00 MiB of 8.00 MiB are free"),
            "{message}"
        );
        assert!(!message.contains("PYTORCH"), "{message}");
        drop(held);
    }
}
