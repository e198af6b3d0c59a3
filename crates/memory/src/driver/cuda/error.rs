//! Errors of the CUDA driver.

use super::image::{Generation, Target};
use super::symbols::{CallFailure, Library, OUT_OF_MEMORY, is_fault, remedy};
use crate::driver::{Address, DriverError};

/// Why a CUDA device cannot be used, or why a call to it failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver's library is not installed.
    #[error(
        "no CUDA: the NVIDIA driver's library (libcuda.so, or nvcuda.dll on Windows) is not installed"
    )]
    NoLibrary,
    /// The driver's library lacks a function.
    #[error("no CUDA: the NVIDIA driver's library lacks {symbol}; install a newer driver")]
    MissingSymbol {
        /// The missing function.
        symbol: &'static str,
    },
    /// The driver is too old for compute.
    #[error(
        "no CUDA: the NVIDIA driver is for CUDA {}.{} and lacks {symbol}; install one for CUDA 11.8 or newer (520 or newer)",
        version / 1000, version % 1000 / 10
    )]
    OldDriver {
        /// The newest CUDA version that the driver supports: 1000 × major + 10 × minor.
        version: u32,
        /// The missing function.
        symbol: &'static str,
    },
    /// The driver has no device for this program.
    #[error(
        "no CUDA: the NVIDIA driver shows this program no card; see CUDA_VISIBLE_DEVICES and what nvidia-smi lists"
    )]
    NoneVisible,
    /// The library and the kernel module are of different drivers.
    #[error(
        "no CUDA: the NVIDIA driver's library and its kernel module are of different versions, as after an update; restart the machine"
    )]
    Mismatch,
    /// There is no device of this ordinal.
    #[error("no CUDA device {ordinal}: the driver knows {count}, counted from 0")]
    NoDevice {
        /// The requested ordinal.
        ordinal: u32,
        /// Devices present.
        count: u32,
    },
    /// The library reported an error.
    #[error("no CUDA: {call} failed: {message}")]
    Failed {
        /// The call that failed.
        call: &'static str,
        /// The library's description of the error.
        message: String,
    },
    /// Something other than this program keeps it from the device.
    #[error("no CUDA: {call} failed: {message}; {remedy}")]
    Unavailable {
        /// The call that failed.
        call: &'static str,
        /// The library's description of the error.
        message: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Too little free device memory for the driver's own needs.
    #[error(
        "{call} found too little memory on the CUDA device: {free} of {total} bytes are free; end other programs that use it, or lower the budget"
    )]
    OutOfMemory {
        /// The call that failed.
        call: &'static str,
        /// Free bytes of the device.
        free: u64,
        /// Total bytes of the device.
        total: u64,
    },
    /// Too little free device memory for a context.
    #[error(
        "the CUDA device has no room for the driver itself, which takes some hundred megabytes: {} of {total} bytes are free; end other programs that use it",
        free.map_or_else(|| "too few".to_owned(), |free| free.to_string())
    )]
    NoRoom {
        /// Free bytes of the device, if known.
        free: Option<u64>,
        /// Total bytes of the device.
        total: u64,
    },
    /// The system refused to pin host memory.
    #[error(
        "the system has no {bytes} bytes of memory to pin for copies to the CUDA device: free memory of the machine, or raise the limit of locked memory"
    )]
    NoPinnedMemory {
        /// Bytes requested.
        bytes: usize,
    },
    /// A sticky error: the context accepts no further work.
    #[error(
        "the CUDA device faulted: {call} reported {message}, and nothing runs on it any more; load the model again, and start the program again if that fails too"
    )]
    Faulted {
        /// The call that first reported it.
        call: &'static str,
        /// The library's description of the error.
        message: String,
    },
    /// No embedded image suits the device's generation.
    #[error("no CUDA: {module} has no code for devices of compute capability {generation}")]
    NoImage {
        /// The module.
        module: &'static str,
        /// The device's generation.
        generation: Generation,
    },
    /// The driver rejected a module's image.
    #[error(
        "no CUDA: the driver refused the {target} of {module}: {message}; install a newer NVIDIA driver"
    )]
    Image {
        /// The module.
        module: &'static str,
        /// The image's target.
        target: Target,
        /// The library's description of the error.
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
    /// The parameters given do not match the kernel's.
    #[error("{kernel} has parameters of {expected:?} bytes, not of {found:?}")]
    Parameters {
        /// The kernel.
        kernel: String,
        /// Sizes of the kernel's parameters, in bytes.
        expected: Vec<usize>,
        /// Sizes given, in bytes.
        found: Vec<usize>,
    },
    /// The device cannot run a launch of this shape.
    #[error("{kernel} cannot be launched with {shape}: {reason}")]
    Launch {
        /// The kernel.
        kernel: String,
        /// Grid, block and shared memory.
        shape: String,
        /// The reason.
        reason: String,
    },
    /// An operation that cannot be captured in a graph.
    #[error("{call} cannot be done while a graph is captured")]
    Capturing {
        /// The operation.
        call: &'static str,
    },
    /// An address range that this driver does not hold.
    #[error("{call} of {bytes} bytes at {address}: the device's memory is not held there")]
    NotHeld {
        /// The operation.
        call: &'static str,
        /// First address.
        address: Address,
        /// Bytes of the range.
        bytes: u64,
    },
    /// A copy larger than the staging buffer.
    #[error("{bytes} bytes at once are more than staging holds: {most}")]
    TooMuchAtOnce {
        /// Bytes requested.
        bytes: usize,
        /// Bytes of the staging buffer.
        most: usize,
    },
}

impl CudaError {
    /// Converts a failed call; an out-of-memory status adds the device's free and total bytes.
    pub(super) fn of(library: &Library, failure: CallFailure) -> CudaError {
        let call = failure.call;
        if failure.status == OUT_OF_MEMORY
            && let Ok((free, total)) = library.memory()
        {
            return CudaError::OutOfMemory { call, free, total };
        }
        failure.into()
    }
}

impl From<CallFailure> for CudaError {
    fn from(failure: CallFailure) -> CudaError {
        let CallFailure {
            call,
            status,
            message,
        } = failure;
        match remedy(status) {
            _ if is_fault(status) => CudaError::Faulted { call, message },
            Some(remedy) => CudaError::Unavailable {
                call,
                message,
                remedy,
            },
            None => CudaError::Failed { call, message },
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
            // That nothing runs any more is said by the error of the device that failed.
            CudaError::Faulted { call, message } => DriverError::Failed {
                call,
                message: format!("{message}; start the program again if loading fails too"),
            },
            CudaError::OutOfMemory { call, .. } => DriverError::Failed {
                call,
                message: error.to_string(),
            },
            error => DriverError::Failed {
                call: "cuda",
                message: error.to_string(),
            },
        }
    }
}

impl From<CallFailure> for DriverError {
    fn from(failure: CallFailure) -> DriverError {
        CudaError::from(failure).into()
    }
}
