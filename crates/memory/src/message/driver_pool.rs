//! The message of PyTorch's other backend, `cudaMallocAsync`, where the driver's own pool refused.

use super::{Accelerator, OutOfMemoryMessage, number_after, size_after};

impl OutOfMemoryMessage {
    /// Parses the message that begins at `begin` of a text with single spaces.
    pub(super) fn parse_driver_pool(text: &str, begin: usize) -> Option<OutOfMemoryMessage> {
        let text = &text[begin..];
        let total = size_after(text, "Device limit : ");
        // Without a limit of the program's, it is that of 64 bits.
        let allowed = size_after(text, "memory fraction) : ");
        Some(OutOfMemoryMessage {
            accelerator: Accelerator::Cuda,
            driver_pool: true,
            device: number_after(text, DRIVER_POOL_MARK),
            tried: size_after(text, "Requested : ")?,
            total,
            free: size_after(text, "Free (according to CUDA): "),
            allowed: allowed.filter(|&allowed| total.is_none_or(|total| allowed < total)),
            allocated: size_after(text, "Currently allocated : "),
            ..OutOfMemoryMessage::default()
        })
    }
}

/// Begins the message.
pub(super) const DRIVER_POOL_MARK: &str = "Allocation on device ";
