//! What the figures of a message mean, and what may help.

use super::{Accelerator, OutOfMemoryMessage};
use crate::stats::Bytes;
use serde::Serialize;

/// Rough size of a CUDA context and its libraries, beside PyTorch's memory. Anything more belongs
/// to another process.
const CONTEXT_BYTES: u64 = 1 << 30;
/// The block size that some of Intel's GPUs stop short of.
const XPU_BLOCK_BYTES_MAX: u64 = 4 << 30;

/// Interpretation of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MessageExplanation {
    /// The figures.
    pub message: OutOfMemoryMessage,
    /// Findings, one sentence each, most important first.
    pub findings: Vec<String>,
    /// A line of shell to try, if an allocator option could have satisfied the request.
    pub line: Option<String>,
}

impl OutOfMemoryMessage {
    /// Interprets the figures.
    pub fn explain(&self) -> MessageExplanation {
        if self.accelerator == Accelerator::Mps {
            return self.explain_mps();
        }
        if self.driver_pool {
            return self.explain_driver_pool();
        }
        let monitor = self.accelerator.monitor();
        let mut findings = Vec::new();
        let mut is_in_pieces = false;
        let tried = Bytes(self.tried);
        let limit = match (self.total, self.allowed) {
            (Some(total), Some(allowed)) => Some(total.min(allowed)),
            (total, allowed) => total.or(allowed),
        };
        if limit.is_some_and(|limit| self.tried > limit) {
            findings.push(self.larger_than_the_device());
        }
        let expandable_segments = |verb: &str| match self.without_expandable_segments {
            true => String::from(
                "Expandable segments do nothing on this platform: max_split_size_mb:512 is the option to try.",
            ),
            false => format!(
                "Expandable segments {verb} ({}).",
                self.accelerator.where_expandable()
            ),
        };
        let unallocated = self.unallocated.unwrap_or(0);
        let is_limited = self
            .allowed
            .is_some_and(|allowed| self.total.is_none_or(|total| allowed < total));
        let free = self
            .free
            .filter(|&free| !is_limited && free >= segment(self.tried));
        if let (true, Some(free)) = (findings.is_empty(), free) {
            findings.push(format!(
                "{} were free on the device, more than the {tried} requested: no option of the allocator helps. The \
                 driver refused for another reason, such as a limit of a virtual GPU, of WSL or of a container, or \
                 another process gave memory back in between: {monitor} shows who comes and goes.",
                Bytes(free)
            ));
        }
        if findings.is_empty() && unallocated >= self.tried {
            findings.push(format!(
                "The allocator had {} reserved but unallocated, more than the {tried} requested, but in pieces: this is \
                 fragmentation. {}",
                Bytes(unallocated),
                expandable_segments("reduce it")
            ));
            is_in_pieces = true;
        } else if findings.is_empty()
            && unallocated.saturating_add(self.free.unwrap_or(0)) >= self.tried
        {
            findings.push(format!(
                "{} unallocated in the pool and {} free on the device would together have been enough for {tried}. {}",
                Bytes(unallocated),
                Bytes(self.free.unwrap_or(0)),
                expandable_segments("can join them")
            ));
            is_in_pieces = true;
        } else if let (true, Some(allocated)) = (findings.is_empty(), self.allocated) {
            findings.push(format!(
                "{} were in use by tensors and only {} were unallocated: no option of the allocator helps, the program \
                 must use less memory (smaller batches, lower precision, fewer copies).",
                Bytes(allocated),
                Bytes(unallocated)
            ));
        }
        if let Some(allowed) = self
            .allowed
            .filter(|&allowed| self.total.is_none_or(|total| allowed < total))
        {
            findings.push(format!(
                "The process was allowed {} of the device (set_per_process_memory_fraction or \
                 per_process_memory_fraction).",
                Bytes(allowed)
            ));
        }
        let own = self.allocated.unwrap_or(0).saturating_add(unallocated);
        if self.others_in_use > 0 {
            findings.push(format!(
                "Other processes had {} of the device in use: {monitor} shows them.",
                Bytes(self.others_in_use)
            ));
        } else if let (Some(total), Some(free)) = (self.total, self.free) {
            let elsewhere = total.saturating_sub(free).saturating_sub(own);
            if self.allocated.is_some() && elsewhere > CONTEXT_BYTES {
                findings.push(format!(
                    "{} of the device were in use outside of PyTorch's allocator: by other processes, which \
                     {monitor} shows, or by libraries.",
                    Bytes(elsewhere)
                ));
            }
        }
        if let Some(pools) = self.private_pools.filter(|&pools| pools > 0) {
            findings.push(format!(
                "{} belong to private pools, such as those of CUDA graphs, which serve no other requests.",
                Bytes(pools)
            ));
        }
        if self.accelerator == Accelerator::Xpu && self.tried >= XPU_BLOCK_BYTES_MAX {
            findings.push(
                "Some of Intel's GPUs give out no single block of 4 GiB or more, whatever is free: smaller tensors \
                 are needed then."
                    .to_owned(),
            );
        }
        findings.extend(self.accelerator.options().map(str::to_owned));
        let line = (self.accelerator.expandable_segments())
            .filter(|_| is_in_pieces && !self.without_expandable_segments);
        MessageExplanation {
            message: self.clone(),
            findings,
            line: line.map(str::to_owned),
        }
    }

    fn larger_than_the_device(&self) -> String {
        format!(
            "The request for {} is larger than all memory of the device: the program must ask for less, for example \
             by smaller batches or shorter inputs.",
            Bytes(self.tried)
        )
    }

    /// Interprets the figures of the backend `cudaMallocAsync`.
    fn explain_driver_pool(&self) -> MessageExplanation {
        let allocated = self.allocated.unwrap_or(0);
        let mut findings = Vec::new();
        if self.total.is_some_and(|total| self.tried > total) {
            findings.push(self.larger_than_the_device());
        } else {
            findings.push(format!(
                "The driver's own pool (backend:cudaMallocAsync) refused {}, with {} in use by tensors. The options of \
                 PyTorch's caching allocator, such as expandable_segments, do nothing with this backend: the program \
                 must use less memory (smaller batches, lower precision, fewer copies).",
                Bytes(self.tried),
                Bytes(allocated)
            ));
        }
        if let Some(allowed) = self.allowed {
            findings.push(format!(
                "The process was allowed {} of the device (set_per_process_memory_fraction).",
                Bytes(allowed)
            ));
        } else if let (Some(total), Some(free)) = (self.total, self.free) {
            let elsewhere = total.saturating_sub(free).saturating_sub(allocated);
            if elsewhere > CONTEXT_BYTES {
                findings.push(format!(
                    "{} of the device were in use beside that: kept by the pool, by other processes, which {} \
                     shows, or by libraries.",
                    Bytes(elsewhere),
                    self.accelerator.monitor()
                ));
            }
        }
        MessageExplanation {
            message: self.clone(),
            findings,
            line: None,
        }
    }

    /// Interprets the figures of Apple's GPUs, whose memory is the system's.
    fn explain_mps(&self) -> MessageExplanation {
        let tried = Bytes(self.tried);
        let mut findings = Vec::new();
        match (self.allowed, self.in_use) {
            (Some(allowed), _) if self.tried > allowed => findings.push(format!(
                "The request for {tried} is larger than the {} that the process may use: the program must ask for \
                 less, for example by smaller batches or shorter inputs.",
                Bytes(allowed)
            )),
            (Some(allowed), Some(in_use)) => findings.push(format!(
                "The process may use {} and had {} in use, {} of them by tensors: {tried} more are beyond the limit. The \
                 program must use less memory (smaller batches, lower precision, fewer copies).",
                Bytes(allowed),
                Bytes(in_use),
                Bytes(self.allocated.unwrap_or(0))
            )),
            _ => findings.push(format!("The request for {tried} was beyond the limit.")),
        }
        findings.extend(self.accelerator.options().map(str::to_owned));
        MessageExplanation {
            message: self.clone(),
            findings,
            line: None,
        }
    }
}

/// Bytes that the allocator asks the driver for to serve a request that finds no free block.
fn segment(request: u64) -> u64 {
    const SMALL: u64 = 2 << 20;
    const MIDDLE: u64 = 20 << 20;
    match request {
        0..=0x10_0000 => SMALL,
        0x10_0001..0xa0_0000 => MIDDLE,
        _ => request.checked_next_multiple_of(SMALL).unwrap_or(u64::MAX),
    }
}
