//! Where a model is computed: the one place that names devices.

use crate::error::Error;
use crate::settings::DeviceChoice;
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{Device, Threads};
use std::sync::Arc;

/// Opens a device; `threads` of the host share its work, 0 takes as many as the machine can run at once.
///
/// # Errors
/// If this machine does not have it.
pub fn open(choice: DeviceChoice, threads: usize) -> Result<Arc<dyn Device>, Error> {
    match choice {
        DeviceChoice::Cpu => Ok(host(threads)),
    }
}

/// What computes on the host: for what stays there whatever device speaks.
pub(crate) fn host(threads: usize) -> Arc<dyn Device> {
    Arc::new(Cpu::new(Threads::new(threads)))
}
