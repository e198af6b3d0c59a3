//! The error of an allocation that could not be had, with who holds what.

use crate::owner::OwnerUsage;
use std::fmt;

/// Why there is no memory. Only [`OutOfMemoryKind::NotNow`] is worth a retry after something was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutOfMemoryKind {
    /// More than the device, or than the pool may ever hold.
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
    /// The message as PyTorch words it.
    pub message: String,
    /// The five largest owners, largest first.
    pub owners: Vec<OwnerUsage>,
}

impl OutOfMemory {
    /// The five largest owners, largest first.
    pub fn owners(&self) -> &[OwnerUsage] {
        &self.report.owners
    }
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.report.message)?;
        for (position, usage) in self.report.owners.iter().enumerate() {
            let lead = if position == 0 {
                "\nLargest owners: "
            } else {
                ", "
            };
            write!(
                formatter,
                "{lead}{} {}",
                usage.owner,
                crate::stats::Bytes(usage.live_bytes)
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for OutOfMemory {}
