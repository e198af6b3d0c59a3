//! Why there is no CUDA device, or why it refuses.

use super::image::{Generation, Target};
use super::symbols::{Failure, Library, OUT_OF_MEMORY, is_fault};
use crate::driver::{Address, DriverError};

/// Why a CUDA device cannot be used, or does not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver's library is not installed.
    #[error(
        "no CUDA: the NVIDIA driver's library (libcuda.so, or nvcuda.dll on Windows) is not installed"
    )]
    NoLibrary,
    /// The driver's library is too old.
    #[error("no CUDA: the NVIDIA driver's library lacks {symbol}; install a newer driver")]
    MissingSymbol {
        /// The function that was looked for.
        symbol: &'static str,
    },
    /// The driver is too old to compute with.
    #[error(
        "no CUDA: the NVIDIA driver is for CUDA {}.{} and lacks {symbol}; install one for CUDA 11.8 or newer (520 or newer)",
        version / 1000, version % 1000 / 10
    )]
    OldDriver {
        /// The newest CUDA version that it knows: 1000 × major + 10 × minor.
        version: u32,
        /// The function that was looked for.
        symbol: &'static str,
    },
    /// There is no such device.
    #[error("no CUDA device {ordinal}: the driver knows {count}, counted from 0")]
    NoDevice {
        /// The device that was asked for.
        ordinal: u32,
        /// Devices that are there.
        count: u32,
    },
    /// The library reported an error.
    #[error("no CUDA: {call} failed: {message}")]
    Failed {
        /// The call that failed.
        call: &'static str,
        /// What the library said.
        message: String,
    },
    /// The device has too little memory left for what the driver itself needs.
    #[error(
        "{call} found too little memory on the CUDA device: {free} of {total} bytes are free; end other programs that use it, or lower the budget"
    )]
    OutOfMemory {
        /// The call that failed.
        call: &'static str,
        /// Bytes free on the device.
        free: u64,
        /// Bytes of the device.
        total: u64,
    },
    /// The system has no memory to pin.
    #[error(
        "the system has no {bytes} bytes of memory to pin for copies to the CUDA device: free memory of the machine, or raise the limit of locked memory"
    )]
    NoPinnedMemory {
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// The device faulted, and does nothing any more for this context.
    #[error(
        "the CUDA device faulted: {call} reported {message}, and nothing runs on it any more; load the model again, and start the program again if that fails too"
    )]
    Faulted {
        /// The call that reported it first.
        call: &'static str,
        /// What the library said.
        message: String,
    },
    /// The device is of a generation that there is no code for.
    #[error("no CUDA: {module} has no code for devices of compute capability {generation}")]
    NoImage {
        /// The module.
        module: &'static str,
        /// The device's generation.
        generation: Generation,
    },
    /// The driver refuses a module's image.
    #[error(
        "no CUDA: the driver refused the {target} of {module}: {message}; install a newer NVIDIA driver"
    )]
    Image {
        /// The module.
        module: &'static str,
        /// What the image is.
        target: Target,
        /// What the library said.
        message: String,
    },
    /// A module lacks a kernel.
    #[error("{module} has no kernel {kernel}: it was built from other sources than this program")]
    NoKernel {
        /// The module.
        module: &'static str,
        /// The kernel.
        kernel: String,
    },
    /// A kernel's parameters are not those that it is launched with.
    #[error("{kernel} has parameters of {expected:?} bytes, not of {found:?}")]
    Parameters {
        /// The kernel.
        kernel: String,
        /// What it has, in bytes.
        expected: Vec<usize>,
        /// What was given, in bytes.
        found: Vec<usize>,
    },
    /// A kernel cannot be launched so.
    #[error("{kernel} cannot be launched with {shape}: {reason}")]
    Launch {
        /// The kernel.
        kernel: String,
        /// Blocks, threads and shared memory.
        shape: String,
        /// Why not.
        reason: String,
    },
    /// Something was asked for that cannot be part of a graph.
    #[error("{call} cannot be done while a graph is captured")]
    Capturing {
        /// What was asked for.
        call: &'static str,
    },
    /// A place that is not the driver's.
    #[error("{call} of {bytes} bytes at {address}: the device's memory is not held there")]
    NotHeld {
        /// What was asked for.
        call: &'static str,
        /// Where.
        address: Address,
        /// How many bytes.
        bytes: u64,
    },
    /// More bytes at once than staging holds.
    #[error("{bytes} bytes at once are more than staging holds: {most}")]
    TooMuchAtOnce {
        /// Bytes that were asked for.
        bytes: usize,
        /// Bytes that it holds.
        most: usize,
    },
}

impl CudaError {
    /// What a failed call means: the device's memory is asked for where it says that there is none.
    pub(super) fn of(library: &Library, failure: Failure) -> CudaError {
        let call = failure.call;
        if failure.status == OUT_OF_MEMORY
            && let Ok((free, total)) = library.memory()
        {
            return CudaError::OutOfMemory { call, free, total };
        }
        failure.into()
    }
}

impl From<Failure> for CudaError {
    fn from(failure: Failure) -> CudaError {
        let Failure {
            call,
            status,
            message,
        } = failure;
        match is_fault(status) {
            true => CudaError::Faulted { call, message },
            false => CudaError::Failed { call, message },
        }
    }
}

impl From<CudaError> for DriverError {
    fn from(error: CudaError) -> DriverError {
        match error {
            CudaError::NotHeld {
                call,
                address,
                bytes,
            } => DriverError::Misuse {
                call,
                address,
                bytes,
                reason: "the device's memory is not held there",
            },
            CudaError::Failed { call, message } => DriverError::Failed { call, message },
            CudaError::Faulted { call, .. } | CudaError::OutOfMemory { call, .. } => {
                DriverError::Failed {
                    call,
                    message: error.to_string(),
                }
            }
            error => DriverError::Failed {
                call: "cuda",
                message: error.to_string(),
            },
        }
    }
}

impl From<Failure> for DriverError {
    fn from(failure: Failure) -> DriverError {
        CudaError::from(failure).into()
    }
}
